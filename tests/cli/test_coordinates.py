"""``fairstep model coordinates``: level under muP, growing without, refusals. docs/log.md has widths of 64 to 512."""

from __future__ import annotations

import json

import pytest
from tests.cli.test_input import refused

from fairstep.cli import main

SMALL = ["--widths", "32", "64", "128", "--seeds", "1", "--context", "16", "--sequences", "4", "--json"]


def ratios(transfer: str, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], float]:
    assert main(["model", "coordinates", "--transfer", transfer, *SMALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["widths"] == [32, 64, 128]
    for row in found["rows"]:
        assert len(row["rms"]) == 3 and row["ratio"] == max(row["rms"]) / min(row["rms"])
    return {(row["optimizer"], row["activation"]): row["ratio"] for row in found["rows"]}


@pytest.mark.slow
def test_activations_are_level_under_mup_and_grow_without(capsys: pytest.CaptureFixture[str]) -> None:
    under, without = ratios("mup", capsys), ratios("none", capsys)
    assert {name for name, _ in under} == {"adamw", "muon", "soap"}
    assert max(under.values()) <= 1.5
    for name in ("adamw", "muon", "soap"):
        assert without[name, "block 2"] > 1.5 and without[name, "logits"] > 1.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--optimizers lion --transfer mup", 'transfer = "mup" has no rule for lion; it has rules for adamw, muon'),
        ("--widths 64 96", "--widths must be two or more, even, and multiples of the narrowest, not 64 96"),
        ("--widths 64", "--widths must be two or more"),
        ("--optimizers sophia-g", "sophia-g asks for gauss_newton_diagonal, which the check does not supply"),
        ("--steps 0", "--steps must be at least 1, not 0"),
    ],
)
def test_refusals(options: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(capsys, "model", "coordinates", *options.split())
