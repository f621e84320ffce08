"""Repeated runs of one configuration: the logs of modded-nanogpt's optimization track.

KellerJordan/modded-nanogpt, records/track_3_optimization (MIT), state of 2026-08-01: a GPT of 124M parameters, batches
of 524,288 tokens of FineWeb, 3,000 to 5,600 steps. One row is one logged run: ``group`` (its result), ``last_step`` and
``final_loss`` in nats per token.
"""

from __future__ import annotations

import csv

from fairstep.published.files import read_text

LEAST = 4
"""Runs of one result at one step that make a group."""


def repeats() -> dict[tuple[str, int], list[float]]:
    """(result, last step) -> final losses of its runs, of at least ``LEAST``."""
    groups: dict[tuple[str, int], list[float]] = {}
    for row in csv.DictReader(read_text("track3_repeats.csv").splitlines()):
        groups.setdefault((row["group"], int(row["last_step"])), []).append(float(row["final_loss"]))
    return {key: losses for key, losses in groups.items() if len(losses) >= LEAST}
