"""``fairstep claims``: what two papers and a public track claim, and what the numbers say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Store


@dataclass(frozen=True)
class ClaimsOptions:
    """Check every claim of the papers, and of modded-nanogpt's track 3, on published numbers and on your own runs.

    holds: every part of the claim is supported. fails: a part is contradicted. inconclusive: intervals contain both, or
    something is missing, and the evidence says what.

    Example: fairstep claims --store runs/demo
    """

    ids: tyro.conf.Positional[tuple[str, ...]] = ()
    """Only these claims, for example W3a F17 T4; prints their evidence in full. Default: all."""
    store: Path | None = None
    """Folder of your own contests, which are checked too."""
    paper: Literal["wen", "semenov", "track3", "qiu", "both", "all"] = "all"
    """Only the claims of this paper, of W and S (both), or of the track."""
    json: bool = False
    """Print a JSON list of rows."""


def main(arguments: list[str]) -> int:
    options = parse(ClaimsOptions, "claims", arguments)

    from fairstep.analysis import claims_text
    from fairstep.analysis.claims import claim_rows, claims

    ids = {claim.id.lower(): claim.id for claim in claims()}
    if unknown := [name for name in options.ids if name.lower() not in ids]:
        raise ValueError(f"no claim {unknown[0]!r}; there are {', '.join(ids.values())}")
    wanted = {ids[name.lower()] for name in options.ids}
    rows = claim_rows(None if options.store is None else Store(options.store), options.paper, wanted or None)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows if wanted else ():
        screen.out(f"{row['id']} ({row['data']}): {row['verdict']}\n  {row['statement']}\n  {row['conditions']}")
        screen.out(f"  {row['source']}\n  {row['evidence']}\n")
    if not wanted:
        own = None if options.store is None else str(options.store)
        shown = [row for row in rows if row["data"] != own or row["answered"]]
        keys = ["id", "verdict", *(["data"] if own else []), "statement", "evidence"]
        header = ["claim", *keys[1:]]
        screen.print_table("", header, [[_short(row[key]) for key in keys] for row in shown], left=len(header))
        for data in dict.fromkeys(row["data"] for row in rows):
            screen.out(f"{data}: {claims_text([row['verdict'] for row in shown if row['data'] == data])}.")
        if silent := len(rows) - len(shown):
            lacks = f"`fairstep claims ID --store {own}` says what each would need"
            screen.out(f"{own} has no number on {silent} further claims; {lacks}.")
        screen.out("`fairstep claims ID` shows the evidence in full.")
    return 0


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."
