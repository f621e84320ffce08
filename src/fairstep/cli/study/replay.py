"""``fairstep study replay``: the tuner on published losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.study.protocols import Descent, Star
from fairstep.study.protocols.wen_replay import TOLERANCE, Replay, Row, replay

RULES = {"star": Star(), "descent": Descent()}


@dataclass(frozen=True)
class ReplayOptions:
    """Run phase I of Wen et al. on their published sweeps, without training, and compare where it ends.

    trials: losses used, against those published for the cell. holes: configurations that the search asked for and that
    nobody has published; it cannot choose them. A cell whose best configuration is itself not on record is marked.

    Example: fairstep study replay --optimizer adamw --optimizer muon
    """

    rule: Literal["star", "descent"] = "star"
    """Star search as W's code does it, or sequential coordinate descent as the paper says."""
    optimizer: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Only this optimizer, by W's name; may be given several times."""
    json: bool = False
    """Print the rows as a JSON list."""


def main(arguments: list[str]) -> int:
    options = parse(ReplayOptions, "study replay", arguments)
    result = replay(RULES[options.rule], options.optimizer)
    if options.json:
        print(json.dumps([asdict(row) for row in result.rows], indent=1))
        return 0
    header = ["cell", "published best", "ours", "gap", "trials", "published", "holes", ""]
    screen.print_table("Phase I on published losses", header, [_cells(row) for row in result.rows])
    screen.out(f"\n{summary(result)}\n")
    rows = [[name, *(_names(lists[kind]) for kind in KINDS)] for name, lists in result.sensitive.items()]
    screen.print_table("Scaling-sensitive hyperparameters", ["optimizer", *KINDS.values()], rows, left=4)
    return 0


KINDS = {
    "published": "published (May 2025)",
    "from_published_lists": "W's rule on the published near-optimal lists",
    "from_replay": "W's rule on the replayed searches",
}


def summary(result: Replay) -> str:
    """What the table comes to, in sentences."""
    rows = result.rows
    covered = [row for row in rows if row.covered]
    within = sum(row.within for row in covered)
    more = sum(row.trials > row.published_trials for row in rows)
    lines = [
        f"{within} of {len(covered)} covered cells end within {TOLERANCE:g} of the published best loss; "
        f"{len(rows) - len(covered)} of {len(rows)} cells are not covered.",
        f"{sum(row.trials for row in rows):,} losses used of {sum(row.published_trials for row in rows):,} published, "
        f"more than published in {more} cells; {sum(row.holes for row in rows):,} holes were asked for besides.",
    ]
    listed = [lists for lists in result.sensitive.values() if lists["published"] is not None]
    same = sum(lists["published"] == lists["from_published_lists"] for lists in listed)
    lines.append(
        f"Sensitive hyperparameters as published for {same} of {len(listed)} optimizers with a published list."
    )
    return "\n".join(lines)


def _names(names: list[str] | None) -> str:
    return "not published" if names is None else ", ".join(names) or "none"


def _cells(row: Row) -> list[str]:
    ours = "none" if row.ours is None else f"{row.ours:.4f}"
    gap = "" if row.gap is None else f"{row.gap:+.4f}"
    cell = f"{row.optimizer} {row.model_size} {row.chinchilla_ratio}x"
    counts = [str(row.trials), str(row.published_trials), str(row.holes)]
    return [cell, f"{row.published:.4f}", ours, gap, *counts, row.note]
