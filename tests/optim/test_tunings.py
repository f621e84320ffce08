"""Search spaces and defaults at the papers' scales: in our names, with a source, and as published."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep import optim
from fairstep.optim.spec.tunings import all_tunings
from fairstep.published import wen

TOOL = Path(__file__).parents[2] / "tools" / "optimizer_tunings.py"


def test_the_file_is_what_the_tool_writes() -> None:
    spec = importlib.util.spec_from_file_location("optimizer_tunings", TOOL)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.FILE.read_text(encoding="utf-8") == tool.text(), "run python tools/optimizer_tunings.py"


def test_every_value_is_one_that_our_optimizer_takes() -> None:
    for tuning in all_tunings():
        spec = optim.get(tuning.optimizer)
        assert spec.name == tuning.optimizer
        spec.validate(tuning.chosen)
        for name, values in tuning.space.items():
            assert len(values) > 1 and list(values) == sorted(values)
            for value in values:
                spec.validate({name: value})
        assert tuning.source and tuning.parameters_matrix > 1e7


def test_both_papers_optimizers_have_theirs() -> None:
    by_paper = {paper: {t.optimizer for t in all_tunings() if t.paper == paper and t.chosen} for paper in ("S", "W")}
    assert len(by_paper["W"]) == 11 and len(by_paper["S"]) == 12
    assert {"adamw", "soap", "muon", "lion", "mars-adamw"} <= by_paper["S"] & by_paper["W"]
    assert {"sophia-h", "kron", "scion", "adam-mini", "nadamw", "cautious-adamw"} <= by_paper["W"]
    assert {"sophia-g", "prodigy", "schedule-free-adamw", "ademamix", "adopt", "d-muon", "signum"} <= by_paper["S"]


def test_the_chosen_learning_rates_are_the_published_ones() -> None:
    published = {
        (r["optimizer"], r["model_size"], r["tokens"]): json.loads(r["hyperparameters"])
        for r in wen.results().to_dicts()
    }
    for name in ("adamw", "muon", "soap", "lion", "kron"):
        for tuning in optim.get(name).tunings:
            if tuning.paper == "W":
                assert tuning.chosen["lr"] == published[name, tuning.scale, tuning.tokens]["learning_rate"]
                assert (
                    tuning.run["batch_tokens"]
                    == 4096 * published[name, tuning.scale, tuning.tokens]["train_batch_size"]
                )
    at = {
        name: optim.get(name).defaults_at(616_000_000, paper="S")["lr"] for name in ("lion", "sophia-g", "mars-adamw")
    }
    assert [at[name].value for name in at] == [2e-4, 5e-4, 3e-3]
    assert at["lion"].source == "S, scripts/720m/lion.sh, table 38"


def test_scales() -> None:
    adamw = optim.get("adamw")
    space, source = adamw.search_space_at(134_000_000)
    assert space["lr"] == (0.004, 0.008, 0.016, 0.032) and "W, adamw 130m" in source
    assert adamw.search_space_at(106_000)[0] == {"lr": adamw.search_space["lr"].values}
    assert adamw.search_space_at(106_000, paper="S")[0]["lr"] == (0.0001, 0.0003, 0.0005, 0.001, 0.002)
    found = adamw.defaults_at(134_217_728)
    assert found["lr"] == (0.008, "W, adamw 130m, 1x Chinchilla (phase I)") and found["beta2"].value == 0.98
    assert list(found) == list(adamw.hyperparameters)
    assert adamw.defaults_at(134_217_728, tokens=16 * 2_684_354_560)["lr"].source.startswith("W, adamw 130m, 16x")
    assert adamw.defaults_at(106_000)["lr"].value == adamw.search_space["lr"].values[1]
    assert adamw.defaults_at(106_000)["beta2"] == (0.95, adamw.hyperparameters["beta2"].source)


def test_what_neither_paper_tuned_keeps_its_own_grid_and_defaults() -> None:
    normuon = optim.get("normuon")
    assert normuon.tunings == () and normuon.tuning_at(10**9) is None
    assert normuon.search_space_at(10**9)[0] == {"lr": normuon.search_space["lr"].values}
    assert normuon.search_space_at(10**9, paper="W") == ({}, "")
    assert normuon.defaults_at(10**9, paper="W")["momentum"].value == 0.95


@pytest.mark.parametrize("module", ["fairstep.optim.spec.tunings"])
def test_tunings_are_read_without_torch(module: str) -> None:
    code = f"import sys, {module} as m; m.all_tunings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
