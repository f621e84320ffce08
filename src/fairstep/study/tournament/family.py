"""The error probability of a contest whose store has asked about the same baseline in the same cell before.

Contestants that are added to a declared design, other settings and further attempts are all another contest, with a
ledger of its own. Each is declared with what the contests before it left:

    alpha_1 = 5 %,    alpha_{k+1} = min over j <= k of  (alpha_j if all contestants of j are decided, else alpha_j / 2).

A contest whose contestants are all decided hands its alpha on in whole, as Holm's procedure does within a contest (the
fallback procedure of Wiens 2003 with recycling). Up to the first wrong verdict, every contest with an equal contestant
leaves one undecided, so the i-th of them has at most 5 % / 2^(i-1), and the probability of any wrong verdict over all
contests is at most 5 % (1 + 1/2 + 1/4 + ...) = 10 %, however many there are.
"""

from __future__ import annotations

from collections.abc import Collection

from fairstep.runs import Design, Ledger


def within_family(design: Design, base: Ledger, ledgers: Collection[Ledger]) -> Design:
    """The design with the alpha that contests over the same baseline and cell left, and with their number.

    ``ledgers``: all others of the store. Those without a final run count for nothing: nobody looked at them.
    """
    before = [one for one in ledgers if _same_question(one, base) and _asked(one)]
    alpha = min((_left(one) for one in before), default=design.alpha)
    return design.model_copy(update={"alpha": min(alpha, design.alpha), "before": len(before)})


def _same_question(one: Ledger, other: Ledger) -> bool:
    """Whether the baseline and the cell are the same; a text may have several names."""
    cells = [ledger.cell.model_copy(update={"data": ""}) for ledger in (one, other)]
    return one.name != other.name and one.baseline == other.baseline and cells[0] == cells[1]


def _asked(ledger: Ledger) -> bool:
    return bool(ledger.looks) or any(t.phase == "final" and t.status != "unfinished" for t in ledger.trials)


def _left(ledger: Ledger) -> float:
    """What a contest leaves to the next. A ledger from before designs had 5 % and says nothing of decisions."""
    design = ledger.design or Design(first=0, most=0)
    last = {look.contestant: look.verdict for look in ledger.looks if look.design == str(design)}
    decided = all(
        last.get(name, "not separable") != "not separable" for name in ledger.contestants if name != ledger.baseline
    )
    return design.alpha if decided else design.alpha / 2
