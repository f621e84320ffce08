"""Claims of W (arXiv 2509.02046) about who is ahead: matrix against scalar, data ratios, crossings, other studies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product

from fairstep.analysis.claims import settings_on_stores
from fairstep.analysis.claims.claim import (
    ACCEPT,
    SEED,
    Finding,
    Part,
    State,
    below,
    claim,
    every,
    level,
    missing,
    printed,
    shrinks,
)
from fairstep.analysis.claims.evidence import MATRIX, SCALAR, SOPHIA, Cell, Evidence
from fairstep.analysis.claims.published_evidence import semenov_evidence
from fairstep.analysis.claims.semenov_rankings import series_of_batches
from fairstep.analysis.verdict.crossings import crossings, mean_curve
from fairstep.published import wen


@claim(
    "W4a",
    "The fastest optimizer of every cell preconditions with matrices.",
    "all cells",
    "abstract; finding 4",
)
def matrix_first(evidence: Evidence) -> Finding:
    """The best matrix optimizer is below the best scalar one in every cell."""
    parts = []
    for cell in evidence.cells:
        if cell.losses.keys() & MATRIX and cell.losses.keys() & SCALAR:
            matrix, scalar = cell.ranked(MATRIX), cell.ranked(SCALAR)
            if matrix and scalar:
                parts.append(below(cell, matrix[0], scalar[0]))
    return every(parts, lacking="a contest with a matrix and a scalar optimizer")


@claim(
    "W4b",
    "Muon, SOAP, Kron and Scion are all ahead of every scalar method.",
    "130M to 520M parameters, 1x to 8x Chinchilla",
    "finding 4",
)
def matrix_top_four(evidence: Evidence) -> Finding:
    """Every matrix optimizer is below every scalar one: the worst matrix against the best scalar."""
    parts = [
        below(cell, cell.ranked(MATRIX)[-1], cell.ranked(SCALAR)[0])
        for cell in evidence.cells
        if len(cell.losses.keys() & MATRIX) >= 3 and len(cell.losses.keys() & SCALAR) >= 3
    ]
    note = "The worst matrix optimizer against the best scalar one of each cell."
    return every(parts, note, "a contest of three matrix and three scalar optimizers")


@claim(
    "W4c",
    "At 1.2B and 8x Muon, NAdamW and SOAP tie.",
    "1.2B, 8x",
    "finding 4",
    needs="Muon, NAdamW and SOAP at 1.2B parameters and 8x Chinchilla",
)
def tie_at_1b(evidence: Evidence) -> Finding:
    cell = evidence.cell("1.2b@8x")
    parts = [level(cell, "muon", "nadamw", ACCEPT), level(cell, "muon", "soap", ACCEPT)]
    return every(parts, f"{ACCEPT} nats is W's own threshold; the noise of two runs alone is wider than that.")


def _winners(cells: Iterable[Cell]) -> Iterator[Part]:
    """Muon below SOAP and Kron at 1x to 4x; from 8x on the better of the two below Muon, at 8x level with it."""
    late = None
    for cell in cells:
        others = cell.ranked(["soap", "kron"])
        if "muon" not in cell.losses or not others or cell.ratio < 0.9:
            continue
        late = late or cell.ratio > 6
        first, second = ("muon", others[0]) if cell.ratio < 6 else (others[0], "muon")
        part = below(cell, first, second)
        yield level(cell, first, second, ACCEPT) if 6 < cell.ratio < 12 and part.state != "yes" else part
    if late is False:
        yield Part("missing", "Muon and SOAP or Kron at 8x Chinchilla or more")


@claim(
    "W5",
    "Muon wins at 1x to 4x Chinchilla; SOAP or Kron is level or ahead at 8x and ahead at 16x.",
    "130M to 520M",
    "finding 5",
    lambda evidence: _winners(evidence.cells),
    "Muon and SOAP or Kron from 1x Chinchilla on",
)
def winner_by_ratio(evidence: Evidence) -> Finding:
    """Muon first at low data ratios, SOAP or Kron at high ones."""
    cells = evidence.select(size=("130m", "300m", "520m"))
    late = [cell for cell in cells if cell.ratio > 6]
    margin = max(abs(cell.losses[cell.ranked(["soap", "kron"])[0]].value - cell.losses["muon"].value) for cell in late)
    return every(
        _winners(cells), f"The margins at 8x and 16x are at most {margin:.4f} nats; W's own threshold is {ACCEPT}."
    )


def _crossings(evidence: Evidence) -> Iterator[Part]:
    """Order on the way differs from order at the end."""
    for cell in evidence.cells:
        curves = {name: mean_curve(runs) for name, runs in cell.curves().items()}
        for crossing in crossings({name: curve for name, curve in curves.items() if len(curve) > 2}):
            then, ahead = crossing.then_ahead, crossing.ahead
            end = cell.gap(then, ahead)
            if end is not None and end.low > 0:
                text = f"{ahead} led {then} until {crossing.tokens:.3g} tokens and ended {end} behind at {cell.label}"
                yield Part("yes", text)


@claim(
    "W7",
    "Checkpoints before the end mislead: the order can change while the learning rate decays.",
    "520M",
    "abstract; finding 7",
    _crossings,
    "two contestants whose curves cross and whose ends are separable",
)
def crossing_curves(evidence: Evidence) -> Finding:
    error = evidence.cell("520m@1x").losses["muon"].error * math.sqrt(2)
    final = wen.facts()["muon_weight_decay_520m_1x_near_step_20000"]
    leads = wen.facts()["muon_weight_decay_520m_1x_lead_of_0"]
    says = {f"weight decay 0 leads 0.1 at {at} of the run": lead for at, lead in leads.items()}
    says["and ends behind"] = final["0"] - final["0.1"]
    return every(
        [printed(text, value, error) for text, value in says.items()],
        "Muon, 520M, 1x. The curves are W's, as a figure of NCPL (arXiv 2602.10300) draws them.",
    )


@claim(
    "W9",
    "Sophia does not beat a tuned AdamW below 0.5B parameters.",
    "130M to 520M",
    "finding 9",
)
def sophia(evidence: Evidence) -> Finding:
    """Not clearly below AdamW anywhere, and never by more than W's threshold."""
    parts = []
    for cell, name in product(evidence.cells, SOPHIA):
        distance = cell.gap(name, "adamw")
        if distance is not None:
            state: State = "no" if distance.low > 0 else "yes" if distance.high <= ACCEPT else "open"
            parts.append(Part(state, f"{distance.said(f'{name} below adamw')} at {cell.label}"))
    return every(parts, lacking="a contest with Sophia and AdamW")


@claim(
    "W8",
    "All optimizers share how parameter and gradient norms move and one line of train against validation loss.",
    "all",
    "finding 8",
    settings_on_stores.shared_behaviour,
    "gradient norms and losses along runs",
)
def shared_behaviour(evidence: Evidence) -> Finding:
    return missing("parameter norms, gradient norms and train losses along the runs; only evaluation losses are public")


@claim(
    "W12",
    "S prefers MARS and AdEMAMix to matrix optimizers because its batches are small.",
    "batches of 0.4M tokens or more",
    "finding 12",
)
def batch_explains(evidence: Evidence) -> Finding:
    """With larger batches the matrix optimizers would be ahead. S's own 720m runs have batches of 1M tokens. In a store
    of smaller batches: what a matrix optimizer is behind shrinks, from its smallest batch to one 8 times as large."""
    where = evidence if evidence.from_store else semenov_evidence()
    cells = [c for c in where.cells if c.batch_tokens >= 0.4e6 and (c.metric == "main" or where.from_store)]
    pairs = [(matrix, scalar) for matrix in ("soap", "d-muon", "muon") for scalar in ("ademamix", "mars")]
    parts = [below(cell, *pair) for cell in cells for pair in pairs if cell.gap(*pair) is not None]
    if where.from_store and not parts:
        parts = [
            shrinks(f"{matrix} behind {scalar} from {cells[0].label} to {cells[-1].label}", gaps)
            for cells in series_of_batches(where)
            for matrix, scalar in pairs
            if cells[-1].batch_tokens >= 8 * cells[0].batch_tokens
            and None not in (gaps := [cell.gap(scalar, matrix) for cell in (cells[0], cells[-1])])
        ]
    if where.from_store:
        return every(parts, lacking="MARS or AdEMAMix and a matrix optimizer at 0.4M tokens a batch")
    small, large = where.cell("124m_b32_1024k"), where.cell("124m_b512_64k")
    parts += [
        shrinks(f"{name} behind mars, 16k to 262k at 124m", [cell.gap("mars", name) for cell in (small, large)])
        for name in ("soap", "d-muon")
    ]
    return every(parts, f"Checked on S's own runs; W has no AdEMAMix. {SEED}")
