"""Run presets against the published configurations, name by name, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairstep import optim
from fairstep.model import PRESETS
from fairstep.published import semenov, wen
from fairstep.runs import DataSpec, ModelSpec, RunSpec
from fairstep.study import Workload, published_runs
from fairstep.study.published_runs import Variant

SEMENOV = semenov.configuration_list()
WEN = wen.results().to_dicts()
NAMES = {"cautious": "cautious-adamw", "adam_mini": "adam-mini", "mars": "mars-adamw", "sophia": "sophia-h"}

# The papers' names of hyperparameters -> where they are in our optimizers, written down here by hand.
BETAS = {
    "muon": ("adam_beta1", "adam_beta2"),
    "d-muon": ("adam_beta1", "adam_beta2"),
    "ademamix": ("beta1", "beta2", "beta3"),
}
WEN_NAMES = {"learning_rate": "lr", "weight_decay": "weight_decay"}
WEN_OWN: dict[str, dict[str, str]] = {
    "muon": {"beta1": "adam_beta1", "beta2": "adam_beta2", "momentum": "momentum", "epsilon": "adam_eps",
             "muon_to_adam_lr": "adam_lr_ratio"},
    "scion": {"beta1": "outer_momentum", "momentum": "momentum", "scion_to_signum_lr": "outer_lr_ratio"},
    "kron": {"beta1": "beta1", "preconditioner_lr": "precond_lr",
             "preconditioner_update_probability": "update_probability", "normalize_grads": "normalize_gradients"},
    "soap": {"beta1": "beta1", "beta2": "beta2", "shampoo_beta": "shampoo_beta", "epsilon": "eps",
             "precondition_frequency": "precondition_frequency"},
    "lion": {"beta1": "beta1", "beta2": "beta2"},
}  # fmt: skip
ADAM = {"beta1": "beta1", "beta2": "beta2", "epsilon": "eps", "gamma": "gamma"}


def spec(name: str, vocabulary: int, chinchilla: int = 1, variant: Variant = "code", **more: Any) -> RunSpec:
    data = DataSpec(name="text", fingerprint="0" * 64, vocabulary=vocabulary)
    return published_runs.run_preset(name, chinchilla, variant).spec(data, **more)


def scale_of(name: str) -> str:
    return {"moe-520m": "moe"}.get(name, name)


@pytest.mark.parametrize("given", SEMENOV, ids=lambda given: given["id"])
def test_every_script_of_semenov_is_a_preset(given: dict[str, Any]) -> None:
    name = f"semenov/{scale_of(given['scale'])}/{given['optimizer']}"
    run = spec(name, 50_257)
    hyper, other = run.optimizer.hyperparameters, given["other"]
    assert (run.batch_sequences, run.model.context, run.steps) == (given["batch_sequences"], 512, given["steps"])
    assert (run.model.layers, run.model.heads, run.model.width) == (given["layers"], given["heads"], given["hidden"])
    assert run.clip_norm == given["clip_norm"]
    assert hyper["lr"] == given["lr"]
    assert hyper["weight_decay"] == given["weight_decay"]
    assert run.schedule.warmup_steps == given["warmup_steps"]
    assert run.evaluation.every_steps == given["evaluate_every_steps"]
    if given["schedule"] == "none":
        assert run.schedule.kind == "constant"
    else:
        assert run.schedule.kind == given["schedule"]
        assert run.schedule.final_fraction == given["schedule_parameters"]["final_lr_ratio"]
        assert run.schedule.warmup_start == given["schedule_parameters"]["init_lr_ratio"]
        assert run.schedule.warmup_shape == "half-cosine"
    for ours, value in zip(BETAS.get(given["optimizer"], ("beta1", "beta2")), given["betas"] or (), strict=False):
        assert hyper[ours] == value
    same = {"precondition_frequency", "max_precond_dim", "momentum", "nesterov", "dampening", "alpha", "gamma", "eps"}
    same |= {"ns_steps", "d0", "d_coef"}
    for key in same & other.keys():
        assert hyper[key] == other[key], key
    if "lr_1d" in other:
        assert hyper["vector_lr_ratio"] * hyper["lr"] == pytest.approx(other["lr_1d"], rel=1e-5)
    if "adamw_fallback_lr" in other:
        assert hyper["adam_lr_ratio"] * hyper["lr"] == pytest.approx(other["adamw_fallback_lr"])
    if given["optimizer"] == "ademamix":
        assert hyper["schedule_steps"] == other["alpha_warmup"] == other["beta3_warmup"]


@pytest.mark.parametrize("given", WEN, ids=lambda g: f"{g['optimizer']}-{g['model_size']}-{g['chinchilla_ratio']}")
def test_every_best_configuration_of_wen_is_a_preset(given: dict[str, Any]) -> None:
    own = NAMES.get(given["optimizer"], given["optimizer"])
    published = json.loads(given["hyperparameters"])
    run = spec(f"wen/{given['model_size']}/{own}", 128_256, given["chinchilla_ratio"])
    hyper = run.optimizer.hyperparameters
    assert run.tokens == given["tokens"]
    assert abs(run.steps - given["steps"]) <= 1
    assert (run.batch_sequences, run.model.context) == (published["train_batch_size"], 4096)
    for key, ours in (WEN_NAMES | WEN_OWN.get(own, ADAM)).items():
        if key in published:
            assert hyper[ours] == published[key], key
    if own in ("soap", "kron"):
        assert hyper["block_size"] == (published["block_size"] if published["partition_grads_into_blocks"] else 0)
    assert run.clip_norm == (0 if own in ("adam-mini", "sophia-h", "mars-adamw") else published["max_grad_norm"])
    if own == "mars-adamw":  # the corrected gradient is clipped by its rule, to the norm of 1
        assert (hyper["clip"], published["max_grad_norm"]) == ("global", 1)
    if own == "muon":  # beside the norm of an average, and not of a sum
        assert hyper["ns_eps"] == pytest.approx(published["muon_epsilon"] * (1 - published["momentum"]))
    assert run.schedule.warmup_steps == published["warmup"]
    assert run.schedule.final_fraction == published["min_lr_ratio"]
    if published["lr_schedule"] == "linear":
        assert (run.schedule.kind, run.schedule.decay_shape) == ("wsd", "linear")
        assert run.schedule.decay_fraction == published["decay"]
    else:
        assert run.schedule.kind == published["lr_schedule"] == "cosine"


def test_all_presets_are_listed_and_build() -> None:
    assert len([name for name in published_runs.names() if name.startswith("semenov/")]) == 48
    for name in published_runs.names():
        assert spec(name, 50_257 if name.startswith("semenov") else 128_256).steps > 1000


def test_paper_and_code_differ_where_the_papers_text_does() -> None:
    code, paper = (spec("semenov/124m/signum", 50_257, variant=variant) for variant in ("code", "paper"))
    assert (code.schedule.warmup_shape, paper.schedule.warmup_shape) == ("half-cosine", "linear")
    assert (code.optimizer.hyperparameters["nesterov"], paper.optimizer.hyperparameters["nesterov"]) == (False, True)
    assert code.evaluation.tokens == 2 * paper.evaluation.tokens
    longer = spec("semenov/124m/ademamix", 50_257, variant="paper")
    assert longer.optimizer.hyperparameters["beta3"] == 0.9999


@pytest.mark.parametrize("name", ["semenov/124m", "semenov/moe", "gpt2/124m"])
def test_a_workload_counts_matrices_as_its_model_does(name: str) -> None:
    size = PRESETS[name]
    data = DataSpec(name="text", fingerprint="0" * 64, vocabulary=size.model.vocabulary)
    workload = Workload(model=ModelSpec(**size.fields()), data=data, batch_sequences=1, tokens=size.context)
    assert workload.parameters_matrix == size.parameters_matrix


def test_another_length_keeps_what_is_tied_to_it() -> None:
    run = spec("semenov/124m/ademamix", 50_257, tokens=1000 * 256 * 512 * 4)
    assert run.optimizer.hyperparameters["schedule_steps"] == run.steps == 4000


@pytest.mark.parametrize(
    ("name", "chinchilla", "sentence"),
    [
        ("semenov/124m/muonn", 1, "did you mean"),
        ("semenov/124m/kron", 1, "semenov published no run of kron with 124m"),
        ("wen/1.2b/lion", 1, "wen published no run of lion with 1.2b at 1x Chinchilla; there are adamw"),
        ("wen/130m/adamw", 3, "at 3x Chinchilla"),
        ("semenov/1m/adamw", 1, "unknown preset 'semenov/1m'"),
        ("124m", 1, "a run preset is paper/model/optimizer"),
    ],
)
def test_what_was_not_published_is_refused(name: str, chinchilla: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        published_runs.run_preset(name, chinchilla)


@pytest.mark.parametrize(
    ("scale", "rho"), [("124m", 9.375e-3), ("210m", 9.375e-3), ("moe", 9.375e-3), ("720m", 3.024e-4)]
)
def test_sophias_rho_repeats_the_code_in_expectation(scale: str, rho: float) -> None:
    """The code takes 245,760 times the square of a gradient that it divided by the accumulated micro-batches."""
    code, paper = (spec(f"semenov/{scale}/sophia-g", 50_257, variant=variant) for variant in ("code", "paper"))
    assert code.optimizer.hyperparameters["rho"] == pytest.approx(rho, rel=1e-3)
    assert paper.optimizer.hyperparameters["rho"] == 0.04


def test_what_a_preset_decides_beside_its_record() -> None:
    assert spec("semenov/124m/muon", 50_257).optimizer.hyperparameters["ns_dtype"] == "float32"
    assert spec("semenov/124m/d-muon", 50_257).optimizer.hyperparameters["ns_dtype"] == "bfloat16"
    for name, word in (
        ("wen/130m/soap", "turns its bases"),
        ("semenov/124m/muon", "eps before"),
        ("semenov/124m/d-muon", "eps before"),
    ):
        assert any(word in remark for remark in published_runs.run_preset(name).remarks)


def test_the_companions_rates_are_in_the_grids() -> None:
    """Scion's in W, Muon's and MARS' in S: equal effort counts them too."""
    scion, muon, mars = (optim.get(name).tunings for name in ("scion", "muon", "mars-adamw"))
    assert next(t for t in scion if t.space).space["outer_lr_ratio"] == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    assert next(t for t in muon if t.paper == "S" and t.space).space["adam_lr_ratio"] == (0.01, 0.03, 0.05, 0.1, 0.2)
    ratios = next(t for t in mars if t.paper == "S" and t.space).space["vector_lr_ratio"]
    assert ratios == pytest.approx((1 / 30, 1 / 6, 1 / 3, 1), rel=1e-5)
    assert not any("lr" in key for t in (*scion, *muon, *mars) for key in t.other_space)
