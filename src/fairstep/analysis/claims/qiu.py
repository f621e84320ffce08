"""The claim of Qiu et al. (arXiv 2512.05620) that disputes W's: with the right transfer over width, speedups last."""

from __future__ import annotations

from fairstep.analysis.claims.claim import Finding, Part, State, claim, every, missing, number
from fairstep.analysis.claims.evidence import MATRIX, Cell, Evidence
from fairstep.analysis.laws.doubling import MARGIN, doubling
from fairstep.analysis.statistics import AnalysisError
from fairstep.runs.ledger import chinchilla_ratio


@claim(
    "Q1",
    "The speedup of matrix optimizers over AdamW, about 1.4, does not fall with size where learning rates, weight "
    "decay and scales follow the width.",
    "190M to 1.4B, muP with weight decay in proportion to 1 / width",
    "arXiv 2512.05620",
)
def lasting(evidence: Evidence) -> Finding:
    """Under muP a doubling of size does not multiply the speedup by less than 1 / 1.05."""
    if not evidence.from_store:
        return missing('its numbers, which are not kept here; a store with transfer = "mup" has its own')
    cells = [cell for cell in evidence.cells if cell.transfer == "mup"]
    parts = []
    for name in sorted(MATRIX):
        by_ratio: dict[float, list[Cell]] = {}
        for cell in (cell for cell in cells if name in cell.speedups):
            by_ratio.setdefault(chinchilla_ratio(cell.tokens, cell.parameters), []).append(cell)
        for ratio, mine in sorted(by_ratio.items()):
            points = [(cell.parameters, *cell.speedups[name]) for cell in mine]
            try:
                found = doubling(points, min(cell.pairs for cell in mine))
            except AnalysisError as error:
                parts.append(Part("missing", f"{name} at {ratio:g}x: {error}"))
                continue
            state: State = "yes" if found.low > 1 / MARGIN else "no" if found.high < 1 else "open"
            factor = number(found.factor, found.low, found.high, 3)
            more = f" ({found.more} would decide)" if state == "open" and found.more else ""
            parts.append(Part(state, f"{name} at {ratio:g}x: a doubling multiplies the speedup by {factor}{more}"))
    return every(parts, lacking='speedups of a matrix optimizer at three sizes with transfer = "mup"')
