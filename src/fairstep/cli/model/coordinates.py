"""``fairstep model coordinates``: do activations keep their size over widths, with and without a rule of transfer?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import at_least, parse
from fairstep.model.config import ModelConfig, config_of
from fairstep.runs import OptimizerChoice
from fairstep.study.transfer import MuP

LEVEL = 1.5
"""Largest over smallest activation at which it counts as level."""
VOCABULARY, MLP_RATIO = 256, 3


@dataclass(frozen=True)
class CoordinatesOptions:
    """Train models of several widths for a few steps and compare the root mean square of what each block puts out, and
    of how far the logits moved. A rule of transfer over widths is right only if they stay level. Exit code 1 if they do
    not, with --transfer mup.

    Example: fairstep model coordinates --optimizers adamw muon soap --widths 64 128 256 512 --transfer mup
    """

    optimizers: tuple[str, ...] = ("adamw", "muon", "soap")
    """Optimizers, at the middle of their learning rates' grid, which is for the narrowest width."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Widths of the Llamas, multiples of the narrowest."""
    transfer: Literal["none", "mup"] = "none"
    """How hyperparameters go from the narrowest width to the others (docs/explanation/transfer.md)."""
    layers: int = 2
    """Blocks of each model."""
    steps: int = 10
    """Optimizer steps."""
    seeds: int = 3
    """Seeds of first weights and of text, over which is averaged."""
    sequences: int = 16
    """Sequences of a step."""
    context: int = 64
    """Tokens of a sequence."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(CoordinatesOptions, "model coordinates", arguments)
    at_least(options, 1, "layers", "steps", "seeds", "sequences", "context")
    widths = sorted(set(options.widths))
    if len(widths) < 2 or widths[0] < 2 or widths[0] % 2 or any(width % widths[0] for width in widths):
        given = " ".join(map(str, options.widths))
        raise ValueError(f"--widths must be two or more, even, and multiples of the narrowest, not {given or 'none'}")
    work = {name: [_prepared(options, name, widths[0], width) for width in widths] for name in options.optimizers}

    from fairstep.train.coordinates import coordinates  # loads torch

    rows: list[dict[str, Any]] = []
    with screen.stages("coordinates") as show:
        done, total = 0, len(work) * len(widths)
        for name, models in work.items():
            by_width = []
            for width, (model, choice) in zip(widths, models, strict=True):
                show(f"{name}, width {width}", done / total)
                seeds = [
                    coordinates(model, choice, options.steps, options.sequences, seed) for seed in range(options.seeds)
                ]
                by_width.append({key: mean(one[key] for one in seeds) for key in seeds[0]})
                done += 1
            for key in by_width[0]:
                sizes = [one[key] for one in by_width]
                ratio = max(sizes) / min(sizes) if min(sizes) > 0 else float("inf")
                rows.append({"optimizer": name, "activation": key, "rms": sizes, "ratio": ratio})
    level = all(row["ratio"] <= LEVEL for row in rows)
    if options.json:
        print(json.dumps({"transfer": options.transfer, "widths": widths, "level": level, "rows": rows}, indent=1))
    else:
        _show(options, widths, rows)
    return 0 if level or options.transfer == "none" else 1


def _prepared(options: CoordinatesOptions, name: str, base: int, width: int) -> tuple[ModelConfig, OptimizerChoice]:
    """The model of a width, and the optimizer for it."""
    spec = optim.get(name)
    if spec.signals:
        raise ValueError(f"{name} asks for {' and '.join(spec.signals)}, which the check does not supply; leave it out")
    grid = spec.search_space["lr"].values if "lr" in spec.search_space else ()
    hyper = spec.validate({"lr": grid[len(grid) // 2]} if grid else {})
    small, model = (_model(options, base, base), _model(options, base, width))
    if options.transfer == "mup":
        rule = MuP(small)
        model, hyper = rule.model(model), rule.hyperparameters(name, hyper, model)
    hyper = spec.of_run(hyper, steps=options.steps, precision="float32")
    return model, OptimizerChoice(name=spec.name, hyperparameters=hyper)


def _model(options: CoordinatesOptions, base: int, width: int) -> ModelConfig:
    """A Llama with heads of one size: the narrowest width, at most 64."""
    head = next(size for size in range(min(base, 64), 0, -2) if base % size == 0)
    sizes = {"layers": options.layers, "context": options.context, "vocabulary": VOCABULARY}
    return config_of({"width": width, "heads": width // head, "mlp_width": MLP_RATIO * width, **sizes})


def _show(options: CoordinatesOptions, widths: list[int], rows: list[dict[str, Any]]) -> None:
    screen.print_table(
        f"root mean square after {options.steps} steps, by width; transfer {options.transfer}",
        ["optimizer", "activation", *map(str, widths), "largest/smallest"],
        [
            [row["optimizer"], row["activation"], *(f"{x:.3g}" for x in row["rms"]), f"{row['ratio']:.2f}"]
            for row in rows
        ],
        left=2,
    )
    worst = {name: max(row["ratio"] for row in rows if row["optimizer"] == name) for name in options.optimizers}
    for name, ratio in worst.items():
        word = "level" if ratio <= LEVEL else "not level"
        screen.out(f"\n{name}: {word}, within {ratio:.2f} from width {widths[0]} to {widths[-1]} (bound {LEVEL}).")
