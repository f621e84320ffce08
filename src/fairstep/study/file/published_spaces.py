"""From an optimizer's spec to a contestant: the papers' grids and starting points at the size of each cell.

This is the one place that makes contestants: a study file's tables and ``compare``'s options end here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container, Iterable, Mapping
from typing import Any, get_args

from fairstep import optim
from fairstep.model.shapes import chinchilla_tokens
from fairstep.optim.spec import Hyperparameter, Paper, Tuning
from fairstep.optim.spec.overrides import LR_RATIO, is_override
from fairstep.runs import DecayShape, ScheduleKind, ScheduleSpec, Value
from fairstep.study.protocols.space import Axis, Configuration, Space
from fairstep.study.published_runs import PAPERS, RunPreset, run_preset
from fairstep.study.tournament.contest import Contestant
from fairstep.study.workload import SHAPE, TUNABLE, Workload

RUN_DOMAINS: dict[str, str] = {
    "batch_sequences": "[1, inf)",
    "warmup_steps": "[0, inf)",
    "warmup_fraction": "[0, 1)",
    "warmup_tokens": "[0, inf)",
    "clip_norm": "[0, inf)",
    "final_fraction": "[0, 1]",
    "decay_fraction": "(0, 1]",
    "warmup_start": "[0, 1]",
}
RUN_WORDS: dict[str, tuple[str, ...]] = {
    "schedule": (*get_args(ScheduleKind), "own"),
    "decay_shape": get_args(DecayShape),
    "warmup_shape": get_args(ScheduleSpec.model_fields["warmup_shape"].annotation),
    "positions": get_args(ScheduleSpec.model_fields["positions"].annotation),
}


def contestant_from_spec(
    name: str,
    cells: Mapping[str, Workload],
    paper: Paper | None = None,
    given: Configuration | None = None,
    grids: Mapping[str, Iterable[Value] | Axis] | None = None,
    only: Iterable[str] | None = None,
    label: str = "",
    scale: str = "",
    published: str = "",
    run: Configuration | None = None,
) -> Contestant:
    """An optimizer by name as a contestant called ``label`` (default: its name).

    Its grids in each cell are ``paper``'s at the nearest size, or at its ``scale`` (None: the nearest of all, which are
    CPU-sized grids for small models), of the hyperparameters in ``only`` (default: all; sequential protocols go through
    them in this order), but for those in ``grids``, which are taken as they are, and those in ``given``, which are
    fixed. A paper's grids of the run itself (batch, warm-up, clipping) come with it.

    ``published`` ("wen", "semenov", or with a scale as "wen/130m") starts from the run that a paper published of this
    optimizer nearest to the cell: hyperparameters, schedule, warm-up and clipping, and the batch where it is searched.
    ``run`` are settings of the run that are this contestant's own. Raises ValueError for unknown names and for values
    outside their domains.
    """
    spec, run = optim.get(name), dict(run or {})
    given = {spec.canonical(key): value for key, value in (given or {}).items()}
    given |= spec.typed({key: value for key, value in given.items() if is_override(key)})
    grids = {spec.canonical(key): values for key, values in (grids or {}).items()}
    if of_the_run := [key for key in given if key in TUNABLE and key not in spec.hyperparameters]:
        raise ValueError(f"{of_the_run[0]} is of the run, not of {spec.name}; set it for the cells")
    grids_given = {key: axis_of(spec, key, values) for key, values in grids.items()}
    hyperparameters = spec.complete(given, {key: axis.values for key, axis in grids_given.items()})
    for key in grids_given.keys() - hyperparameters.keys():  # a paper's own may hold "none", such as no decay
        for value in grids_given[key].values:
            _of_the_run(key).check(key, value)
    wanted = None if only is None else [spec.canonical(key) for key in only]
    spaces, starts = {}, {}
    undecayed: tuple[str, ...] | None = None
    for cell, workload in cells.items():
        found = _found_space(spec, scale, paper, workload, later=bool(published))
        order = [key for key in wanted if key in found] if wanted is not None else list(found)
        free = {key: found[key] for key in order if key not in given and key not in run}
        spaces[cell] = Space(free | grids_given)
        if published:
            preset = nearest_run(spec, published, workload)
            undecayed = preset.undecayed
            known = {**preset.hyperparameters, **run_settings(preset, workload, spaces[cell].axes)}
        else:
            defaults = spec.defaults_at(workload.parameters_matrix, workload.tokens, paper)
            known = {key: sourced.value for key, sourced in defaults.items() if key in spaces[cell].axes}
        for key in (spaces[cell].axes.keys() | known.keys()) & spec.hyperparameters.keys():
            hyperparameters.setdefault(key, spec.hyperparameters[key].default)  # a later one, now that it is used
        starts[cell] = {
            key: value
            for key, value in {**known, **given, **run}.items()
            if key in spaces[cell].axes or hyperparameters.get(key) != value
        }
        of_the_optimizer = [key for key in starts[cell] if key in hyperparameters or is_override(key)]
        workload.changed({key: value for key, value in starts[cell].items() if key not in of_the_optimizer})
    return Contestant(
        name=label or spec.name,
        hyperparameters=hyperparameters,
        space=next(iter(spaces.values())),
        optimizer=spec.name,
        starts=starts,
        spaces=spaces,
        undecayed=undecayed,
    )


def nearest_run(spec: optim.OptimizerSpec, published: str, workload: Workload) -> RunPreset:
    """The run of this optimizer that a paper, or a paper at one scale, published nearest to a workload in size, then
    in tokens. Raises ValueError if there is none."""
    paper, _, scale = published.partition("/")
    if paper not in PAPERS:
        raise ValueError(
            f"a published start is {' or '.join(PAPERS)}, perhaps with a scale (wen/130m), not {published!r}"
        )
    if not scale and getattr(workload.model, "moe", None) is not None:
        scale = "moe"
    if not scale:
        tuning = spec.tuning_at(workload.parameters_matrix, workload.tokens, PAPERS[paper])
        if tuning is None:
            raise ValueError(f"{paper} published no run of {spec.name}; give it another start, or a grid")
        scale = tuning.scale
        chinchilla = round(tuning.tokens / chinchilla_tokens(tuning.parameters_matrix))
        return run_preset(f"{paper}/{scale}/{spec.name}", chinchilla)
    ratio = max(1.0, workload.tokens / chinchilla_tokens(workload.parameters_matrix))
    lengths = [1, 2, 4, 8, 16] if paper == "wen" else [1]
    for length in sorted(lengths, key=lambda known: abs(math.log(known / ratio))):
        with contextlib.suppress(ValueError):
            return run_preset(f"{paper}/{scale}/{spec.name}", length)
    return run_preset(f"{paper}/{scale}/{spec.name}")


def run_settings(preset: RunPreset, workload: Workload, searched: Container[str]) -> dict[str, Value]:
    """What a published run sets of the run itself, where the workload has something else."""
    schedule = preset.schedule
    settings: dict[str, Value] = {"schedule": schedule.kind, "warmup_steps": schedule.warmup_steps}
    settings |= {name: getattr(schedule, name) for name in SHAPE} | {"clip_norm": preset.clip_norm}
    if "batch_sequences" in searched:
        settings["batch_sequences"] = max(
            1, round(preset.batch_sequences * preset.model.context / workload.model.context)
        )
    if "warmup_fraction" in searched or "warmup_tokens" in searched:
        del settings["warmup_steps"]
    return {key: value for key, value in settings.items() if key in searched or getattr(workload, key) != value}


def _batch_log_distance(tuning: Tuning, workload: Workload) -> float:
    """S tuned two batch sizes at one scale; W's batch sizes are part of its grids."""
    batch = float(tuning.run.get("batch_tokens", workload.batch_tokens))
    return abs(math.log(batch / workload.batch_tokens)) if tuning.paper == "S" else 0.0


def _found_space(
    spec: optim.OptimizerSpec, scale: str, paper: Paper | None, workload: Workload, later: bool
) -> dict[str, Axis]:
    """Grids of the optimizer and of the run that a paper (None: any) has at a workload. ``later``: with the
    hyperparameters of the paper's form of the rule, which come with its run."""
    if scale:
        mine = [t for t in spec.tunings if t.paper == paper and t.scale in (scale, f"{scale}-520m") and t.space]
        if not mine:
            scales = dict.fromkeys(t.scale for t in spec.tunings if t.paper == paper and t.space)
            raise ValueError(
                f"there is no search space {scale!r} of {spec.name} in paper {paper}; there are "
                f"{', '.join(scales) or 'none'}"
            )
        largest = min(mine, key=lambda t: (_batch_log_distance(t, workload), -len(t.space), not t.chosen))
        tried, run_space = dict(largest.space), largest.run_space
    else:
        tried, source = spec.search_space_at(workload.parameters_matrix, paper)
        tuning = next((t for t in spec.tunings if t.source == source), None) if paper else None
        run_space = tuning.run_space if tuning else {}
    if not later:
        tried = {key: values for key, values in tried.items() if not spec.hyperparameters[key].later}
    grids = {**tried, **_run_space(run_space, workload)}
    return {key: axis_of(spec, key, values) for key, values in grids.items()}


def axis_of(spec: optim.OptimizerSpec, name: str, values: Iterable[Value] | Axis, factor: float | None = None) -> Axis:
    """The values of one hyperparameter with its domain; every value is checked. ``factor``: see ``Axis``; None: as the
    optimizer's own grid has it. Raises ValueError."""
    if isinstance(values, Axis):
        return values
    if name in TUNABLE and name not in spec.hyperparameters:
        return Axis(tuple(values), factor or 0.0, RUN_DOMAINS.get(name, "(-inf, inf)"))
    checked = tuple(spec.typed({name: value})[name] for value in values)
    known = name in spec.hyperparameters or is_override(name)  # another package's may be neither
    hyperparameter, grid = spec.hyperparameter(name) if known else None, spec.search_space.get(name)
    domain = hyperparameter.domain if hyperparameter else ""
    usual = grid.factor if grid else 2.0 if name.endswith(f".{LR_RATIO}") else 0.0
    return Axis(
        checked, usual if factor is None else factor, domain if isinstance(domain, str) and domain else "(-inf, inf)"
    )


def _of_the_run(name: str) -> Hyperparameter:
    """What a TUNABLE setting may be: a number in its domain, or one of its words."""
    if name in RUN_DOMAINS:
        whole = name in ("batch_sequences", "warmup_steps", "warmup_tokens")
        return Hyperparameter(1 if whole else 1.0, "", "", RUN_DOMAINS[name])
    return Hyperparameter("", "", "", RUN_WORDS[name])


def _run_space(tried: Mapping[str, tuple[Any, ...]], workload: Workload) -> dict[str, tuple[Value, ...]]:
    """A paper's grids of the run; batches in whole sequences of the cell."""
    grids: dict[str, tuple[Value, ...]] = {}
    for name, values in tried.items():
        if name == "batch_tokens":
            grids["batch_sequences"] = tuple(max(1, round(value / workload.model.context)) for value in values)
        elif name in TUNABLE:
            grids[name] = tuple(values)
    return grids
