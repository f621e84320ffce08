"""Write src/fairstep/optim/spec/tunings.json: what both papers tried and chose for each optimizer, in our names.

    python tools/optimizer_tunings.py            # from src/fairstep/published; --check only compares

The specs of optimizers read that file (``fairstep.optim.spec.tunings``), because the room of optimizers may not import
the published numbers. A hyperparameter that our optimizer has not is kept under ``other`` in the paper's own name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fairstep.optim as optim
from fairstep.published import semenov, wen
from fairstep.published.files import read_json

FILE = Path(optim.__file__).with_name("spec") / "tunings.json"

OURS = {
    "W": {"sophia": "sophia-h", "adam_mini": "adam-mini", "mars": "mars-adamw", "cautious": "cautious-adamw"},
    "S": {"sophia": "sophia-g", "sf-adamw": "schedule-free-adamw", "mars": "mars-adamw"},
}
FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("W", "mars-adamw"): {"clip": "global", "optimize_1d": True},
    ("W", "adam-mini"): {"vector_blocks": "element"},
    ("W", "soap"): {"precondition_1d": True},
    ("W", "scion"): {
        "scale": "shape", "embedding_norm": "sign", "head_norm": "sign", "vector_norm": "sign",
        "embedding_radius": 1.0, "head_radius": 1.0, "vector_radius": 1.0,
    },
    ("S", "muon"): {"ns_dtype": "float32"},
}  # fmt: skip
"""Options that make our rule the paper's, as the docstrings of the rules say."""

_ADAM = {"beta1": "adam_beta1", "beta2": "adam_beta2"}
NAMES: dict[str, dict[str, str]] = {
    "": {"learning_rate": "lr", "epsilon": "eps", "wd": "weight_decay", "eta": "gamma"},
    "muon": {**_ADAM, "epsilon": "adam_eps", "adamw_fallback_eps": "adam_eps", "muon_epsilon": "ns_eps",
             "muon_to_adam_lr": "adam_lr_ratio", "lr_matrix": "lr"},
    "d-muon": {**_ADAM, "adamw_fallback_eps": "adam_eps"},
    "scion": {"beta1": "outer_momentum", "scion_epsilon": "ns_eps", "scion_to_signum_lr": "outer_lr_ratio"},
    "kron": {"preconditioner_lr": "precond_lr", "preconditioner_update_probability": "update_probability",
             "update_prob_flat_start": "flat_start", "normalize_grads": "normalize_gradients"},
    "soap": {"precond_freq": "precondition_frequency"},
    "ademamix": {"beta3_warmup": "schedule_steps"},
    "sophia-g": {"hessian_interval": "interval"},
    "schedule-free-adamw": {"r": "sf_step_power", "weight_lr_power": "sf_lr_power"},
    "prodigy": {"use_bias_correction": "bias_correction"},
    "mars-adamw": {"lr_mars": "lr", "beta1_mars": "beta1", "beta2_mars": "beta2", "wd_mars": "weight_decay",
                   "beta1_1d": "vector_beta1", "beta2_1d": "vector_beta2"},
}  # fmt: skip
"""The papers' names -> ours, for all optimizers and for one."""
NAMES["mars-lion"] = NAMES["mars-shampoo"] = NAMES["mars-adamw"]

RUN = {"train_batch_size": "batch_tokens", "warmup": "warmup_steps", "max_grad_norm": "clip_norm", "clip": "clip_norm",
       "min_lr_ratio": "final_fraction", "decay": "decay_fraction", "lr_schedule": "schedule", "sched": "schedule",
       "final_lr_ratio": "final_fraction"}  # fmt: skip
"""Hyperparameters of the run rather than of the optimizer; W counts batches in sequences of 4096 tokens."""


def sort_out(paper: str, optimizer: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """(ours, of the run, other) of hyperparameters with values or lists of values."""
    known = optim.get(optimizer).hyperparameters
    own: dict[str, Any] = {}
    run: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, value in given.items():
        new = NAMES.get(optimizer, {}).get(name) or NAMES[""].get(name, name)
        if name == "nesterov" and optimizer in ("adamw", "nadamw"):
            continue  # which of the two it is
        if name == "lr_schedule" and value == "linear":  # W: constant, then down on a line over the part ``decay``
            run |= {"schedule": "wsd", "decay_shape": "linear"}
        elif name in RUN and not isinstance(value, dict):
            run[RUN[name]] = each(value, lambda one, name=name: of_the_run(RUN[name], one))
        elif new in known and fits(known[new], value):
            own[new] = each(value, lambda one, new=new: known[new].check(new, number(one)))
        else:
            other[name] = value
    return own, run, other


def of_the_run(name: str, value: Any) -> Any:
    if name == "schedule":
        return "constant" if value == "none" else value
    value = number(value)
    return value * 4096 if name == "batch_tokens" else value if name == "warmup_steps" else float(value)


def number(value: Any) -> Any:
    """ "none" is a value switched off."""
    return 0.0 if value == "none" else value


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Of one value, or of all values of a grid in ascending order."""
    return sorted({change(one) for one in value}) if isinstance(value, list) else change(value)


def fits(known: optim.Hyperparameter, value: Any) -> bool:
    """Whether our hyperparameter can have the value; a name may mean something else in a paper."""
    try:
        each(value, lambda one: known.check("", number(one)))
    except ValueError:
        return False
    return True


def of_wen() -> list[dict[str, Any]]:
    matrices = {row["model_size"]: row["parameters_matrix"] for row in wen.models().to_dicts()}
    best = {(r["optimizer"], r["model_size"], r["chinchilla_ratio"]): r for r in wen.results().to_dicts()}
    found = []
    for cell in wen.cell_records():
        size, ratio = cell["model_size"], cell["chinchilla_ratio"]
        name = OURS["W"].get(cell["optimizer"], cell["optimizer"])
        row = best.get((cell["optimizer"], size, ratio))
        chosen = json.loads(row["hyperparameters"]) if row else {}
        space, run_space, other_space = sort_out("W", name, {k: v for k, v in cell["grid"].items() if len(v) > 1})
        own, run, other = sort_out("W", name, chosen)
        if other.pop("partition_grads_into_blocks", True) is False:
            own["block_size"] = 0
        if name == "muon":
            space, own = (
                beside_an_average(space, own.get("momentum", 0.95)),
                beside_an_average(own, own.get("momentum")),
            )
        if name == "mars-adamw":  # its clip of the corrected gradient, at 1, is the only one
            run["clip_norm"] = 0.0
        found.append(
            entry(
                name,
                "W",
                f"W, {cell['optimizer']} {size}, {ratio}x Chinchilla (phase {cell['phase'].replace('_', ', ')})",
                size,
                matrices[size],
                round(ratio * 20 * matrices[size]),
                (space, run_space, other_space),
                (own | FORMS.get(("W", name), {}) if own else {}, run, other),
            )
        )
    return found


def beside_an_average(given: dict[str, Any], momentum: float) -> dict[str, Any]:
    """W adds its epsilon to the norm of a sum of gradients, and we to the norm of their average, which is smaller."""
    if "ns_eps" not in given:
        return given
    return {**given, "ns_eps": each(given["ns_eps"], lambda eps: float(f"{eps * (1 - momentum):.6g}"))}


def matrices_of(layers: int, width: int, experts: int = 1) -> int:
    """Attention and SwiGLU of S's Llama; the MLP's width is 8/3 of the model's, rounded up to 256."""
    mlp = -(-8 * width // 3 // 256) * 256
    return layers * (4 * width**2 + experts * 3 * width * mlp + (experts * width if experts > 1 else 0))


SHAPES = {"124m": (12, 768, 1), "210m": (24, 768, 1), "583m": (11, 1920, 1), "720m": (12, 2048, 1)}
BATCHES = {"small": 32 * 512, "large": 256 * 512, "1M": 1984 * 512, "2M": 3936 * 512}


def of_semenov() -> list[dict[str, Any]]:
    grids = {(g["scale"], g["optimizer"], g["batch"]): g for g in read_json("semenov_grids.json")}
    found = []
    for given in semenov.configuration_list():
        name = OURS["S"].get(given["optimizer"], given["optimizer"])
        moe = given["scale"].startswith("moe")
        matrices = matrices_of(given["layers"], given["hidden"], 8 if moe else 1)
        batch = "1M" if given["scale"] == "720m" else "large"
        grid = grids.pop((given["scale"], given["optimizer"], batch), None)
        space = sort_out("S", name, lists(name, grid["grid"])) if grid else ({}, {}, {})
        table = f", table {grid['table']}" if grid else ""
        found.append(
            entry(
                name,
                "S",
                f"S, {given['script']}{table}",
                given["scale"],
                matrices,
                given["tokens"],
                space,
                chosen_by_semenov(name, given),
            )
        )
    for (scale, optimizer, batch), grid in grids.items():
        name = OURS["S"].get(optimizer, optimizer)
        space = sort_out("S", name, lists(name, grid["grid"]))
        run = {"batch_tokens": BATCHES[batch]}
        source = f"S, table {grid['table']}: batches of {BATCHES[batch]:,} tokens"
        found.append(entry(name, "S", source, scale, matrices_of(*SHAPES[scale]), 0, space, ({}, run, {})))
    return found


def lists(name: str, grid: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters with more than one value. A second part's learning rates are ratios to the first part's.

    Where that has several, to the one in the middle (the upper of two), which is the chosen one if one was chosen.
    """
    found = {k: v for k, v in grid.items() if isinstance(v, list) and len(v) > 1}
    first, second, ratio = (
        ("lr_matrix", "lr_adamw", "adam_lr_ratio") if name == "muon" else ("lr_mars", "lr_1d", "vector_lr_ratio")
    )
    if second in found:
        middle = sorted(grid[first])[len(grid[first]) // 2]
        found[ratio] = [float(f"{value / middle:.6g}") for value in found.pop(second)]
    return found


def chosen_by_semenov(name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    other = {k: v for k, v in given["other"].items() if k not in ("ns_coefficients", "adamw_fallback_lr", "matrix_lr")}
    betas = dict(zip(("beta1", "beta2", "beta3"), given["betas"] or (), strict=False))
    whole = {"lr": given["lr"], "weight_decay": given["weight_decay"], **betas, **other}
    if name == "muon":  # matrices are not decayed; ours decays both parts or none
        whole["weight_decay"] = 0.0
        whole["weight_decay_of_adamw_part"] = given["weight_decay"]
        whole["adam_lr_ratio"] = given["other"]["adamw_fallback_lr"] / given["lr"]
    if name == "soap":
        whole["shampoo_beta"] = betas["beta2"]
    if name == "mars-adamw":
        one = whole.pop("betas_1d")
        whole |= {"vector_beta1": one[0], "vector_beta2": one[1]}
        whole["vector_lr_ratio"] = float(f"{whole.pop('lr_1d') / given['lr']:.6g}")
    own, _, rest = sort_out("S", name, whole)
    run = {
        "batch_tokens": given["batch_sequences"] * 512,
        "warmup_steps": given["warmup_steps"],
        "clip_norm": float(given["clip_norm"]),
        "schedule": "constant" if given["schedule"] == "none" else given["schedule"],
        "final_fraction": given["schedule_parameters"].get("final_lr_ratio", 1.0)
        if given["schedule_parameters"]
        else 1.0,
    }
    return own | FORMS.get(("S", name), {}), run, rest


def entry(
    name: str,
    paper: str,
    source: str,
    scale: str,
    matrices: int,
    tokens: int,
    space: tuple[dict[str, Any], ...],
    chosen: tuple[dict[str, Any], ...],
) -> dict[str, Any]:
    optim.get(name).validate(chosen[0])
    whole = {
        "optimizer": name,
        "paper": paper,
        "scale": scale,
        "parameters_matrix": matrices,
        "tokens": tokens,
        "source": source,
        **dict(zip(("space", "run_space", "other_space"), space, strict=True)),
        **dict(zip(("chosen", "run", "other"), chosen, strict=True)),
    }
    return {key: value for key, value in whole.items() if value not in ({}, 0)}


def text() -> str:
    """One tuning a line."""
    found = sorted(of_wen() + of_semenov(), key=lambda e: (e["optimizer"], e["paper"], e["parameters_matrix"]))
    lines = ",\n".join(json.dumps(tuning, separators=(",", ":")) for tuning in found)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(FILE.read_text(encoding="utf-8") != text())
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE}: {len(json.loads(FILE.read_text(encoding='utf-8')))} tunings")
