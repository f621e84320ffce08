"""Does a lower loss transfer? A contest's final runs on their further validation sets, as a table."""

from __future__ import annotations

import math
from typing import Any

from fairstep.analysis import Trials, verdicts
from fairstep.analysis.verdict.held_out import OWN, HeldOut, held_out
from fairstep.analysis.verdict.wording import DASH
from fairstep.report.loaded import LoadedContest
from fairstep.report.section import Section, paragraph
from fairstep.report.table import Column, Table

TITLE = "Does a lower loss transfer?"
MEANING = (
    "Bits per byte over the baseline's, in percent: below 0 is better. Intervals are 95 % t-intervals of pairs of "
    "final runs on one seed, not corrected for the number of texts. A difference on the own text that a verdict has "
    "decided transfers if the other text has it too, is reversed there, or cannot be separated at this size. Signal "
    "over noise: the deviation of the contestants' means over the deviation of one run over seeds."
)


def other_texts(name: str, trials: Trials, heading: str = "contestant") -> Table | None:
    """None where no final run has a further validation set. ``heading``: of the first column."""
    judged = verdicts(trials)
    found, signals = held_out(trials, [row.name for row in judged if row.verdict in ("faster", "slower")])
    if not found:
        return None
    rows: list[dict[str, Any]] = [
        {"name": verdict.name} | {row.text: _words(row) for row in found if row.name == verdict.name}
        for verdict in judged
        if verdict.name != trials.baseline
    ]
    ratios = {text: f"{ratio:.2g}" if math.isfinite(ratio) else DASH for text, ratio in signals.items()}
    columns = (Column("name", heading), *(Column(text, text) for text in signals))
    return Table(name, TITLE, columns, [*rows, {"name": "signal over noise"} | ratios])


def other_texts_section(loaded: LoadedContest) -> Section:
    """Empty where there are no other texts."""
    key = loaded.key("other-texts")
    table = other_texts(f"{key}-table", loaded.trials)
    if table is None:
        return Section(key, "")
    return Section(key, TITLE, [paragraph(MEANING), table])


def _words(row: HeldOut) -> str:
    """``-2.1 [-3.0, -1.2] transfers``."""
    ends = "" if math.isnan(row.low) else f" [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
    kind = "" if row.text == OWN or row.transfer == "nothing to transfer" else f" {row.transfer}"
    return f"{100 * row.change:+.1f}{ends}{kind}"
