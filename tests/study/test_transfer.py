"""Rules of transfer: what they make of a base's hyperparameters and model; the key of study files; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairstep import optim
from fairstep.model import preset
from fairstep.model.exported import exported_config
from fairstep.runs import Value
from fairstep.runs.checks import BY_LENGTH
from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import Study, read
from fairstep.study.transfer import HyperP, Law, MuP

BASE, WIDE = preset("106k").model, preset("852k").model  # widths 64 and 128, 2 and 4 layers: m = 2, n = 2
UP = MuP(BASE)


def test_ledgers_know_the_rules_that_change_the_learning_rate_itself() -> None:
    """Runs stand below rules of transfer, and check trials under them by name."""
    assert set(BY_LENGTH) == {HyperP.name, Law.name}


def scaled(name: str, **given: Value) -> dict[str, Value]:
    return UP.hyperparameters(name, optim.get(name).validate(given), WIDE)


def settings(name: str, **given: Value) -> dict[str, dict[str, Any]]:
    """What rule and engine read, by role, for the wide model over what they read for the base."""
    spec, hyper = optim.get(name), scaled(name, **given)
    plain = spec.validate(given)
    roles: Any = ("matrix", "embedding", "head", "vector")
    return {
        role: {
            key: spec.settings(role, hyper)[key] / spec.settings(role, plain)[key]
            for key in ("lr", "eps")
            if key in spec.settings(role, plain)
        }
        for role in roles
    }


@pytest.mark.parametrize("name", ["adamw", "soap"])
def test_adamw_and_soap(name: str) -> None:
    """arXiv 2512.05620: 1 / fan-in ratio for hidden and head, eps over fan-out and depth ratio."""
    found = settings(name, lr=0.004)
    assert found["matrix"] == pytest.approx({"lr": 1 / 2, "eps": 1 / 4})
    assert found["embedding"] == found["vector"] == pytest.approx({"lr": 1, "eps": 1 / 2})
    assert found["head"] == pytest.approx({"lr": 1 / 2, "eps": 1})


@pytest.mark.parametrize(("scale", "ratio"), [("shape", 1.0), ("aspect", 1.0), ("rms", 2**-0.5)])
def test_muon(scale: str, ratio: float) -> None:
    found = settings("muon", scale=scale)
    assert found["matrix"]["lr"] == pytest.approx(ratio)
    assert found["embedding"] == pytest.approx({"lr": 1, "eps": 1 / 2})
    assert found["head"] == pytest.approx({"lr": 1 / 2, "eps": 1})


@pytest.mark.parametrize("name", ["adamw", "muon", "soap", "d-muon", "adamc", "adamw+independent-decay"])
def test_weight_decay_of_a_step_is_proportional_to_one_over_the_width(name: str) -> None:
    spec, hyper, plain = optim.get(name), scaled(name), optim.get(name).validate({})
    for role in ("matrix", "head"):
        wide, base = spec.settings(role, hyper), spec.settings(role, plain)
        product = 1.0 if spec.decay == "independent" else wide["lr"] / base["lr"]
        assert product * wide["weight_decay"] / base["weight_decay"] == pytest.approx(1 / 2)
    assert not {"embedding.weight_decay", "vector.weight_decay"} & set(hyper), "they have none"


def test_the_base_itself_stays_as_it_is() -> None:
    hyper = optim.get("soap").validate({})
    assert UP.hyperparameters("soap", hyper, BASE) == hyper
    assert UP.model(BASE) == BASE.model_copy(update={"initialisation": "mup"})


def test_own_ratios_are_multiplied() -> None:
    assert scaled("adamw", **{"head.lr_ratio": 0.5})["head.lr_ratio"] == 0.25
    assert scaled("muon", adam_lr_ratio=0.1)["head.lr_ratio"] == pytest.approx(0.05)


def test_the_model_has_scales() -> None:
    model = UP.model(WIDE)
    assert (model.initialisation, model.residual_scale, model.attention_scale) == ("mup", 0.5, 0.0)
    assert MuP(preset("27k").model).model(BASE).attention_scale == pytest.approx(32**0.5 / 64)
    assert UP.model(WIDE.model_copy(update={"tied_head": True})).output_scale == 0.5


def test_scales_have_no_equal_in_transformers() -> None:
    with pytest.raises(ValueError, match="Transformers' Llama has no residual_scale; only models without one can be"):
        exported_config(UP.model(WIDE))


@pytest.mark.parametrize("name", ["muonh", "adamh", "soap+hyperball"])
def test_hyperp(name: str) -> None:
    """arXiv 2603.28743: sqrt(batch), 1 / sqrt(depth), T^-0.32, whatever the width; branches by 1 / sqrt(2 L)."""
    rule = HyperP(BASE, tokens=1000, batch_tokens=10)
    hyper = optim.get(name).validate({"lr": 0.01})
    assert rule.hyperparameters(name, hyper, BASE, tokens=1000, batch_tokens=10) == hyper
    longer = rule.hyperparameters(name, hyper, WIDE, tokens=4000, batch_tokens=20)
    assert longer == {**hyper, "lr": pytest.approx(0.01 * 2**0.5 * 0.5**0.5 * 4**-0.32)}
    assert (rule.model(WIDE).residual_scale, rule.model(BASE).residual_scale) == (8**-0.5, 4**-0.5)


def test_a_law_of_the_learning_rate() -> None:
    hyper = optim.get("adamw").validate({"lr": 0.01, "head.lr_ratio": 0.5})
    law = Law(BASE, 1000)
    assert law.hyperparameters("adamw", hyper, WIDE, tokens=1000) == hyper
    assert law.hyperparameters("adamw", hyper, WIDE, tokens=8000)["lr"] == pytest.approx(0.01 * 8**-0.32)
    own = Law(BASE, 1000, by_tokens=0.0, by_width=-1.0, by_depth=-0.5)
    assert own.hyperparameters("lion", {"lr": 0.01}, WIDE, tokens=8000) == {"lr": pytest.approx(0.01 / 2 / 2**0.5)}
    assert law.model(WIDE) == WIDE


FILE = """
baseline = "adamw"
[[cells]]
model = ["27k", "106k"]
steps = 20
{keys}
[[contestants]]
optimizer = "adamw"
space = "own"
"""


def study(folder: Path, keys: str, more: str = "") -> Study:
    file = folder / "mine.toml"
    file.write_text(FILE.format(keys=keys) + more)
    found = read(file)
    assert isinstance(found, Study)
    return found


def test_a_study_has_both_ways_as_cells(tmp_path: Path) -> None:
    plain = study(tmp_path, "")
    both = study(tmp_path, 'transfer = ["none", "mup"]')
    cells = both.contest().own_cells
    assert list(cells) == [f"{size}-20-steps-transfer={way}" for size in ("27k", "106k") for way in ("none", "mup")]
    runs = {name: spec for cell, _, spec in both.starts(both.contest()) for name in [cell.name]}
    before = {cell.name: spec for cell, _, spec in plain.starts(plain.contest())}
    assert runs["106k-20-steps-transfer=none"].identity == before["106k-20-steps"].identity
    wide = runs["106k-20-steps-transfer=mup"].optimizer.hyperparameters
    assert (wide["lr"], wide["matrix.lr_ratio"], wide["head.lr_ratio"]) == (0.004, 0.5, 0.5)
    assert cells["106k-20-steps-transfer=mup"].model.initialisation == "mup"


def test_ladders_of_width_depth_and_length(tmp_path: Path) -> None:
    """A longer run of the base, and a deeper and wider model, by the law and as they are."""
    keys = 'transfer = ["none", "law"]\nlaw = { depth = -0.5 }'
    made = study(tmp_path, keys)
    both = {cell.name: spec for cell, _, spec in made.starts(made.contest())}
    text = FILE.format(keys=keys).replace("steps = 20", "steps = [20, 80]")
    (tmp_path / "long.toml").write_text(text)
    long = read(tmp_path / "long.toml")
    assert isinstance(long, Study)
    rates = {c.name: s.optimizer.hyperparameters["lr"] for c, _, s in long.starts(long.contest())}
    assert rates["27k-20-steps-transfer=law"] == rates["27k-80-steps-transfer=none"] == 0.004
    assert rates["27k-80-steps-transfer=law"] == pytest.approx(0.004 * 4**-0.32)
    ratio = both["106k-20-steps-transfer=law"].tokens / both["27k-20-steps-transfer=law"].tokens
    layers = [preset(name).model.layers for name in ("27k", "106k")]
    assert rates["106k-20-steps-transfer=law"] == pytest.approx(0.004 * ratio**-0.32 * (layers[0] / layers[1]) ** 0.5)
    kept = {name: one.cell().transfer for name, one in long.contest().own_cells.items()}
    assert {name.partition("transfer=")[2]: rule for name, rule in kept.items()} == {"none": "", "law": "law"}


def test_budgets_of_a_run_follow_its_length(tmp_path: Path) -> None:
    made = study(tmp_path, 'transfer = "law"')
    workload = made.contest().own_cells["27k-20-steps"]
    half = workload.spec("adamw", {"lr": 0.004}, 1, tokens=workload.tokens // 2)
    assert half.optimizer.hyperparameters["lr"] == pytest.approx(0.004 * 0.5**-0.32)


@pytest.mark.parametrize(
    ("keys", "more", "words"),
    [
        ('transfer = "hyperp"', "", 'adamw cannot begin in 27k-20-steps: transfer = "hyperp" has no rule for adamw'),
        (
            'transfer = "law"',
            '[[contestants]]\noptimizer = "prodigy"',
            'transfer = "law" is of learning rates, and prodigy estimates its own; leave prodigy out',
        ),
        ('transfer = "mup"\nlaw = { width = -1 }', "", 'line 7: law has the exponents of transfer = "law"; add that'),
        ('transfer = "law"\nlaw = { tokens = 1e9 }', "", r"cells\[0\].law.tokens must be .* 4, not 1000000000.0"),
        ('transfer = "law"\nbase_width = 48', "", "line 7: no model of these cells has base_width 48.*are 32, 64"),
        ('transfer = "mup"\nbase_width = 48', "", "line 7: no model of these cells has base_width 48.*are 32, 64"),
        ("base_width = 32", "", 'line 6: base_width is of transfer = "mup"; add that, or leave base_width out'),
        ('transfer = "mu"', "", "transfer must be .*not 'mu'"),
        (
            'transfer = "mup"',
            '[[contestants]]\noptimizer = "lion"',
            'lion cannot begin in 27k-20-steps: transfer = "mup" has no rule for lion; it has rules for adamw, muon',
        ),
        (
            'transfer = "mup"',
            '[[contestants]]\noptimizer = "muon+ema"',
            'transfer = "mup" has no rule for muon\\+ema; it has rules for',
        ),
        (
            'transfer = "mup"',
            '[[contestants]]\noptimizer = "muon"\nset = { "blocks.*.lr_ratio" = 0.5 }',
            r'transfer = "mup" goes by roles, and blocks\.\*\.lr_ratio is of parameters by name; name their role',
        ),
    ],
)
def test_what_cannot_be_transferred_is_refused(tmp_path: Path, keys: str, more: str, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        study(tmp_path, keys, more)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(FILE.format(keys='transfer = "mup"').replace('"27k", "106k"', '"gpt2/98k"'))
    with pytest.raises(StudyError, match='line 6: transfer = "mup" is of the llama architecture, not of gpt2'):
        read(file)
