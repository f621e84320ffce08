"""``fairstep optimizers``: what can compete, and what is known of each."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

import tyro

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse

SHAPE = (1024, 1024)
"""The matrix for which costs are given as numbers."""


@dataclass(frozen=True)
class OptimizersOptions:
    """List the optimizers that can compete, or show one with its equations.

    Example: fairstep optimizers show soap

    Wrappers go around any of them with a plus, as in adamw+ema; any torch optimizer competes as package.module:Class.
    """

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """Nothing for the list, or NAME for one of them, with or without `show` before it."""
    json: bool = False
    """Print what is known as JSON: a row per optimizer, or the one shown."""


def main(arguments: list[str]) -> int:
    options = parse(OptimizersOptions, "optimizers", arguments)
    if options.words:
        names = options.words[1:] if options.words[0] == "show" else options.words
        if len(names) != 1:
            raise ValueError(
                "write `fairstep optimizers` or `fairstep optimizers show NAME`, not "
                f"`fairstep optimizers {' '.join(options.words)}`"
            )
        spec = optim.get(names[0])
        if options.json:
            print(json.dumps(row_of(spec) | details_of(spec), indent=1))
        else:
            screen.out(page_of(spec))
        return 0
    specs = list(optim.specs().values())
    if options.json:
        print(json.dumps([row_of(spec) for spec in specs], indent=1))
        return 0
    from fairstep.optim.wrappers import plugins, wrappers

    described = [
        [spec.name, description(spec), spec.reference.replace("https://arxiv.org/abs/", "arXiv ")] for spec in specs
    ]
    screen.print_table("", ["optimizer", "what it does", "paper"], described, left=3, drop=("paper",))
    screen.out()
    rows = [
        [
            spec.name,
            ", ".join(spec.aliases),
            spec.lr_unit,
            f"{state_per_parameter(spec):.3g}",
            f"{spec.flops(*SHAPE) / SHAPE[0] / SHAPE[1]:,.0f}",
            f"{spec.hyperparameters['lr'].default:g}",
            " ".join(f"{value:g}" for value in spec.search_space["lr"].values),
        ]
        for spec in specs
    ]
    header = [
        "optimizer",
        "aliases",
        "unit of the learning rate",
        "state",
        "FLOPs",
        "default lr",
        "lr grid (CPU-sized)",
    ]
    screen.print_table("", header, rows, left=3)
    screen.out(f"\nstate: floats a parameter; FLOPs: a parameter and step; both of a {SHAPE[0]} x {SHAPE[1]} matrix.")
    screen.out(f"Wrappers, added with a plus (adamw+ema): {', '.join(wrappers())}.")
    for name, path in (optim.plugins() | {f"+{name}": path for name, path in plugins().items()}).items():
        screen.out(f"From installed packages: {name} ({path}).")
    return 0


def description(spec: optim.OptimizerSpec) -> str:
    """The first sentence of the optimizer's own text, without its name."""
    first = " ".join(spec.text.partition("\n\n")[0].split())
    name, colon, rest = first.partition(": ")
    return re.sub(r" \(see [^)]*\)", "", rest if colon and len(name) < 40 else first)


def state_per_parameter(spec: optim.OptimizerSpec) -> float:
    return spec.state_floats(*SHAPE) / SHAPE[0] / SHAPE[1]


def row_of(spec: optim.OptimizerSpec) -> dict[str, object]:
    """One flat row. Costs: of a matrix of SHAPE, under the rule for matrices."""
    row: dict[str, object] = {
        "name": spec.name,
        "class": spec.class_name,
        "title": spec.title,
        "description": description(spec),
        "aliases": list(spec.aliases),
        "reference": spec.reference,
        "version": spec.version,
        "lr_unit": spec.lr_unit,
        "decay": spec.decay,
        "signals": list(spec.signals),
        "schedule": spec.schedule.kind,
        "defaults": {name: known.default for name, known in spec.hyperparameters.items()},
        "search_space": {name: list(grid.values) for name, grid in spec.search_space.items()},
        "roles": dict(spec.roles),
    }
    if spec.parts:
        rule = spec.part("matrix").rule
        row |= {
            "cost_shape": list(SHAPE),
            "state_floats_per_parameter": state_per_parameter(spec),
            "state_formula": rule.state_formula,
            "flops_per_step": spec.flops(*SHAPE),
            "flops_formula": rule.flops_formula,
        }
    return row


def details_of(spec: optim.OptimizerSpec) -> dict[str, object]:
    """What the list leaves out: sources, costs by role, what the papers tried and chose."""
    return {
        "text": spec.text,
        "hyperparameters": {name: asdict(known) for name, known in spec.hyperparameters.items()},
        "grids": {name: asdict(grid) for name, grid in spec.search_space.items()},
        "default_schedule": asdict(spec.schedule),
        "costs": {
            part.rule.name: {"state": part.rule.state_formula, "flops": part.rule.flops_formula} for part in spec.parts
        },
        "tunings": [asdict(tuning) for tuning in spec.tunings],
    }


def page_of(spec: optim.OptimizerSpec) -> str:
    """One optimizer to read."""
    lines = [f"{spec.title} ({spec.name})", f"{spec.reference}"]
    if spec.aliases:
        lines.append(f"also called {', '.join(spec.aliases)}")
    lines += ["", spec.text, "", "HYPERPARAMETERS", ""]
    for name, known in spec.hyperparameters.items():
        domain = " | ".join(known.domain) if isinstance(known.domain, tuple) else known.domain or "true | false"
        lines += [f"  {name} = {_plain(known.default)}   {domain}", f"      {known.description} [{known.source}]"]
    lines += ["", "LEARNING RATE", "", f"  unit: {spec.lr_unit}"]
    for name, grid in spec.search_space.items():
        lines.append(f"  {name} tried at CPU size: {_list(grid.values)}  [{grid.source}]")
    lines.append(
        f"  schedule: {spec.schedule.kind}, warm-up {spec.schedule.warmup_fraction:.0%}  [{spec.schedule.source}]"
    )
    lines.append(f"  weight decay: {spec.decay}")
    if spec.signals:
        lines.append(f"  needs beside gradients: {', '.join(spec.signals)}")
    if spec.parts:
        lines += ["", "ROLES  (an override is ROLE.NAME, such as embedding.lr_ratio; docs/howto/roles.md)", ""]
        for role, rule, ratio, names in roles_of(spec):
            lines.append(f"  {role}: {rule}, learning rate {ratio} x lr; also {names}")
        if aux := spec.aux():
            lines.append(f"  aux: {', '.join(aux)}")
        lines += ["", "COST OF AN o x i MATRIX  (N = o i, k the shorter side, K the longer)", ""]
        for part in spec.parts:
            lines.append(f"  {', '.join(part.roles)}: {part.rule.name}")
            lines += [f"      state {part.rule.state_formula} floats", f"      step  {part.rule.flops_formula} FLOPs"]
        o, i = SHAPE
        lines.append(f"  {o} x {i}: {spec.state_floats(o, i):,} floats, {spec.flops(o, i):,.0f} FLOPs")
    chosen = [tuning for tuning in spec.tunings if tuning.chosen]
    if chosen:
        lines += ["", "CHOSEN BY THE PAPERS  (S: arXiv 2509.01440, W: arXiv 2509.02046)", ""]
    for tuning in chosen:
        named = [name for name in spec.hyperparameters if name in tuning.chosen]
        values = ", ".join(f"{name} {_plain(tuning.chosen[name])}" for name in named)
        lines += [f"  {tuning.source}: {values}"]
    return "\n".join(lines)


def roles_of(spec: optim.OptimizerSpec) -> list[list[str]]:
    """A row for each role: role, rule, learning rate over lr, what an override may name."""
    hyper = spec.validate({}) if spec.parts else {}
    return [
        [
            role,
            part.rule.name,
            f"{part.ratio(hyper):g}" + (f" ({part.lr_ratio})" if part.lr_ratio else ""),
            ", ".join(spec.own_names(role, hyper)),
        ]
        for role in optim.ROLES
        if spec.parts and (part := spec.part(role, hyper))
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _list(values: tuple[float, ...]) -> str:
    return " ".join(map(_plain, values))
