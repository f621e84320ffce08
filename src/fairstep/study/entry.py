"""From an optimizer's spec to a contestant: the papers' grids and starting points at the size of each cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fairstep import optim
from fairstep.runs import Value
from fairstep.study.contest import Contestant
from fairstep.study.space import Axis, Configuration, Space
from fairstep.study.workload import TUNABLE, Workload

RUN_DOMAINS = {
    "batch_sequences": "[1, inf)",
    "warmup_steps": "[0, inf)",
    "warmup_fraction": "[0, 1)",
    "warmup_tokens": "[0, inf)",
    "clip_norm": "[0, inf)",
    "final_fraction": "[0, 1]",
    "decay_fraction": "(0, 1]",
}


def entry(
    name: str,
    cells: Mapping[str, Workload],
    paper: Literal["S", "W"] | None = None,
    given: Configuration | None = None,
    grids: Mapping[str, Iterable[Value] | Axis] | None = None,
    only: Iterable[str] | None = None,
    label: str = "",
) -> Contestant:
    """An optimizer by name as a contestant called ``label`` (default: its name).

    Its grids in each cell are ``paper``'s at the nearest size (None: the nearest of all, which are CPU-sized grids for
    small models), of the hyperparameters in ``only`` (default: all; sequential protocols go through them in this
    order), but for those in ``grids``, which are taken as they are, and those in ``given``, which are fixed. A paper's
    grids of the run itself (batch, warm-up, clipping) come with it. Raises ValueError for unknown names and for values
    outside their domains.
    """
    spec, given, grids = optim.get(name), dict(given or {}), dict(grids or {})
    if of_the_run := [key for key in given if key in TUNABLE and key not in spec.hyperparameters]:
        raise ValueError(f"{of_the_run[0]} is of the run, not of {spec.name}; set it for the cells")
    hyperparameters = spec.validate(given)
    own = {key: axis_of(spec, key, values) for key, values in grids.items()}
    wanted = None if only is None else list(only)
    spaces, starts = {}, {}
    for cell, workload in cells.items():
        size = workload.parameters_matrix
        tried, source = spec.search_space_at(size, paper)
        tuning = next((t for t in spec.tunings if t.source == source), None) if paper else None
        run = _run_space(tuning.run_space, workload) if tuning else {}
        listed = {key: axis_of(spec, key, values) for key, values in {**tried, **run}.items()}
        order = [key for key in wanted if key in listed] if wanted is not None else list(listed)
        free = {key: listed[key] for key in order if key not in given}
        spaces[cell] = Space(free | own)
        known = {key: sourced.value for key, sourced in spec.defaults_at(size, workload.tokens, paper).items()}
        starts[cell] = {key: given.get(key, known[key]) for key in spaces[cell].axes if key in known}
    return Contestant(
        name=label or spec.name,
        hyperparameters=hyperparameters,
        space=next(iter(spaces.values())),
        optimizer=spec.name,
        starts=starts,
        spaces=spaces,
    )


def axis_of(spec: optim.OptimizerSpec, name: str, values: Iterable[Value] | Axis) -> Axis:
    """The values of one hyperparameter with its domain; every value is checked. Raises ValueError."""
    if isinstance(values, Axis):
        return values
    if name in RUN_DOMAINS or name == "schedule":
        return Axis(tuple(values), domain=RUN_DOMAINS.get(name, "(-inf, inf)"))
    checked = tuple(spec.validate({name: value})[name] for value in values)
    known = spec.hyperparameters[name]
    grid = spec.search_space.get(name)
    domain = known.domain if isinstance(known.domain, str) and known.domain else "(-inf, inf)"
    return Axis(checked, grid.factor if grid else 0.0, domain)


def _run_space(tried: Mapping[str, tuple[Any, ...]], workload: Workload) -> dict[str, tuple[Value, ...]]:
    """A paper's grids of the run; batches in whole sequences of the cell."""
    found: dict[str, tuple[Value, ...]] = {}
    for name, values in tried.items():
        if name == "batch_tokens":
            found["batch_sequences"] = tuple(max(1, round(value / workload.model.context)) for value in values)
        elif name in TUNABLE:
            found[name] = tuple(values)
    return found
