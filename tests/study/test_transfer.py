"""muP: what a rule makes of a base's hyperparameters and model; the key of study files; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairstep import optim
from fairstep.model import preset
from fairstep.model.exported import exported_config
from fairstep.runs import Value
from fairstep.study.file.line_numbers import StudyError
from fairstep.study.file.study import Study, read
from fairstep.study.transfer import MuP

BASE, WIDE = preset("106k").model, preset("852k").model  # widths 64 and 128, 2 and 4 layers: m = 2, n = 2
UP = MuP(BASE)


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


@pytest.mark.parametrize(
    ("keys", "more", "words"),
    [
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
