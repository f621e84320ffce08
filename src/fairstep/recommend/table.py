"""The whole recommendation for one workload: rows of advice, and the sentences that belong beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fairstep import optim
from fairstep.analysis.claims.store_evidence import store_evidence
from fairstep.analysis.laws.law import Law
from fairstep.optim.catalogue.registry import is_foreign
from fairstep.recommend.advice import advise, shape, shape_text
from fairstep.recommend.kriging import COVERAGE, forecast
from fairstep.recommend.points import (
    Point,
    Target,
    log_distance,
    loss_drop_law,
    loss_drop_per_doubling,
    published_points,
    store_points,
)
from fairstep.runs import AnyModelSpec, Store


def recommendation(
    target: Target, memory_bytes: int = 0, stores: Iterable[Store] = (), model: AnyModelSpec | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of ``advice.advise``, and notes on what they rest on, one sentence each.

    ``memory_bytes``: of one device, 0: not asked. ``stores``: the user's contests. ``model``: whose memory and
    overhead are meant; default: a dense Llama of the target's size. Raises AnalysisError when a store's contest cannot
    be judged.
    """
    stores = list(stores)
    published = list(published_points())
    measured = store_points(store_evidence(*stores))
    ledgers = [ledger for store in stores for ledger in store.ledgers()]
    points = [*published, *measured]
    law = loss_drop_law(published)
    notes = []
    if stores and not measured:
        notes.append("no contest of the store has AdamW, another optimizer and a speedup with an interval: not used")
    study = min(measured, key=lambda point: log_distance(point, target)).study if measured else ""
    drop = _measured_drop(points, measured, target, study)
    if drop is None:
        notes.append(_law_note(law, target))
    else:
        notes.append(f"Gaps: AdamW gains {drop:.3f} nats from twice the tokens in the nearest cell of {study}.")
    predictions = list(forecast(points, target, law, study, drop=drop))
    foreign = sorted({row.optimizer for row in predictions if is_foreign(row.optimizer)})
    if foreign:
        notes.append(f"Of other packages, and so not imported and not ranked: {', '.join(foreign)}.")
    rows = [row for row in predictions if row.optimizer not in foreign and _is_known(row.optimizer)]
    covered = ", ".join(f"{share:.1%} (a {name} left out)" for name, share in COVERAGE.items())
    notes.append(f"Of published cells that the fit had not seen 95 % intervals contain {covered}.")
    notes.append(
        f"Memory and overhead: {shape_text(model or shape(target))}, float32 state, the whole model on one device."
    )
    silent = [name for name in optim.names() if name not in {row.optimizer for row in rows}]
    notes.append(f"No measured speedups over AdamW: {', '.join(silent)}.")
    return advise(rows, target, memory_bytes, ledgers, model), notes


def _measured_drop(points: Sequence[Point], measured: Sequence[Point], target: Target, study: str) -> float | None:
    """Nats per doubling in the nearest cell of the user's study, if that study has the nearest point of all."""
    drops = loss_drop_per_doubling(measured)
    if not drops or min(points, key=lambda point: log_distance(point, target)).study != study:
        return None
    return min(drops, key=lambda item: log_distance(item[0], target))[1]


def _law_note(law: Law, target: Target) -> str:
    here = law.clamped(target.parameters, target.tokens)
    value, (low, high) = law.at(*here), law.interval_at(*here)
    where = "" if law.covers(target.parameters, target.tokens) else "; the run is beyond them, this is at their edge"
    gain = f"{value:.3f} [{low:.3f}, {high:.3f}] nats from twice the tokens"
    return f"Gaps: AdamW gains {gain}, by a power law over {len(law.y)} published cells{where}."


def _is_known(name: str) -> bool:
    """Whether fairstep has an optimizer of this name."""
    try:
        optim.get(name)
    except ValueError:
        return False
    return True
