"""``fairstep plan`` and published runs by name: what is printed, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairstep.cli import main
from fairstep.model import PRESETS
from fairstep.model.shapes import counts, flops_per_token


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_published_run(capsys: pytest.CaptureFixture[str]) -> None:
    row = planned(capsys, "--preset", "wen/1.2b/muon", "--chinchilla", "8", "--device", "h100", "--devices", "64")
    # W's table: 1208.0M matrix parameters, 1602.1M in all; 8 x 24.159B tokens in batches of 256 x 4096.
    assert row["parameters_total"] == 1_602_061_824
    assert row["parameters_matrix"] == 1_207_959_552
    assert row["tokens"] == 8 * 24_159_191_040
    assert row["steps"] == row["tokens"] // (256 * 4096)
    assert row["flops"] == row["tokens"] * flops_per_token(PRESETS["wen/1.2b"].model)
    assert row["memory_weights"] == 4 * row["parameters_total"]
    # Muon: one number for a hidden matrix's weight, two for everything else.
    whole = 4 * (2 * row["parameters_total"] - row["parameters_matrix"])
    assert row["memory_state"] == pytest.approx(whole / 64, rel=0.01)  # the devices share it
    assert row["seconds_expected"] == pytest.approx(
        (row["flops"] / 64 + row["steps"] * row["rank_flops_largest"])
        / (row["device_flops"] * row["assumed_utilisation"])
    )


def test_gradient_accumulation_saves_activations(capsys: pytest.CaptureFixture[str]) -> None:
    whole = planned(capsys, "--preset", "semenov/124m/soap", "--device", "h100")
    parts = planned(capsys, "--preset", "semenov/124m/soap", "--device", "h100", "--micro-batch-sequences", "8")
    assert parts["memory_activations"] * 32 == pytest.approx(whole["memory_activations"])
    assert (whole["fits"], parts["fits"]) == (False, True) or whole["memory_bytes"] > parts["memory_bytes"]
    assert parts["flops"] == whole["flops"]


def test_experts_count_as_parameters_and_not_as_work(capsys: pytest.CaptureFixture[str]) -> None:
    row = planned(capsys, "--preset", "semenov/moe/adamw", "--device", "h100")
    assert (row["parameters_total"], row["parameters_active"]) == (520_022_784, 180_284_160)  # S, Table 1 and text
    assert row["flops"] / row["tokens"] < 6 * 520_022_784
    assert counts(PRESETS["semenov/moe"].model).active == row["parameters_active"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "--preset", "wen/1.2b/lion"], "wen published no run of lion with 1.2b"),
        (["plan", "adamw", "--preset", "wen/1.2b/muon"], "has its own optimizer"),
        (["plan", "--preset", "semenov/124m/soap", "--device", "h10"], "did you mean h100"),
        (
            ["plan", "--preset", "semenov/124m/soap", "--device", "h100", "--devices", "7"],
            "must divide the batch of 256",
        ),
        (["plan", "--preset", "wen/130m", "--chinchilla", "-1", "--device", "h100"], "--chinchilla must be a positive"),
        (["plan", "--run", "nowhere", "--device", "h100"], "nowhere"),
        (["train"], "name an optimizer"),
        (["train", "adamw", "--preset", "wen/130m/muon"], "has its own optimizer"),
        (["train", "--preset", "wen/130m/muon", "--clip-norm", "2"], "--clip-norm is part of wen/130m/muon"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said


def test_a_plan_of_several_ranks_says_what_each_has(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--preset", "semenov/720m/soap", "--world", "8", "--device", "h100", "--json"]
    assert main(command) == 0
    shared = json.loads(capsys.readouterr().out)
    assert main([*command, "--parallel", "ddp"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    assert shared["rank_imbalance"] < 0.1
    assert shared["memory_state"] < (1 / 8 + 0.05) * repeated["memory_state"]
    # with what every rank repeats of an embedding that they share by rows
    assert 1 <= shared["rank_flops_mean"] * 8 / repeated["rank_flops_mean"] < 1.01
    assert shared["rank_flops_least"] <= shared["rank_flops_largest"]
    gram = 4 * 2048**2  # of the embedding, which is the head too, and whose rows all ranks share
    assert shared["rank_sent_bytes"] == round(2 * 7 / 8 * (shared["memory_weights"] + gram))
    assert main([*command[:-1]]) == 0
    assert "one step of each of 8 ranks, ddp-sharded" in capsys.readouterr().out


@pytest.mark.parametrize(("batch", "said"), [((), True), (("--batch-tokens", "500k"), False)])
def test_more_steps_than_any_published_run_has(
    batch: tuple[str, ...], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "muon", "--model", "semenov/360m", "--device", "h100", *batch]) == 0
    assert ("752,640 steps are many: both papers" in capsys.readouterr().out) is said
