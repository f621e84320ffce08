"""RunSpec: what its identity covers, and what it refuses."""

from __future__ import annotations

import ast
import inspect
import math
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from fairstep.runs import (
    CommandSpec,
    DataSpec,
    Execution,
    Ledger,
    ModelSpec,
    OptimizerChoice,
    RunSpec,
    ScheduleSpec,
    SpecError,
    Summary,
)
from fairstep.runs.frozen import explain


def spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": ModelSpec(layers=2, width=16, heads=2, mlp_width=48, vocabulary=300, context=8),
        "data": DataSpec(name="text", fingerprint="ab" * 32, vocabulary=300),
        "optimizer": OptimizerChoice(name="adamw", hyperparameters={"lr": 1e-3, "beta2": 0.95}),
        "batch_sequences": 4,
        "tokens": 1000,
    }
    return RunSpec(**(fields | changes))


def test_steps_are_whole_batches() -> None:
    assert spec().batch_tokens == 32
    assert spec().steps == 31


def test_identity_is_stable_across_versions_of_the_code() -> None:
    """A changed hash would orphan every stored run; change FORMAT and say so in the CHANGELOG when it must."""
    assert spec().identity == "8dfb943a4e465975"


def test_identity_survives_a_round_trip_and_the_order_of_hyperparameters() -> None:
    assert RunSpec.from_json(spec().to_json()) == spec()
    swapped = OptimizerChoice(name="adamw", hyperparameters={"beta2": 0.95, "lr": 1e-3})
    assert spec(optimizer=swapped).identity == spec().identity


@pytest.mark.parametrize(
    "change",
    [
        {"execution": Execution(threads=7, device="cuda", micro_batch_sequences=2, compile=False)},
        {"execution": Execution(compile_optimizer="yes")},  # of earlier versions; it has no effect any more
        {"data": DataSpec(name="text", fingerprint="ab" * 32, vocabulary=300, source=("/elsewhere/*.txt",))},
        {"model": ModelSpec(preset="x", layers=2, width=16, heads=2, mlp_width=48, vocabulary=300, context=8)},
    ],
)
def test_paths_and_machinery_are_not_the_identity(change: dict[str, Any]) -> None:
    assert spec(**change).identity == spec().identity


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": 2000},
        {"init_seed": 1},
        {"data_seed": 1},
        {"precision": "bf16"},
        {"clip_norm": 0.5},
        {"batch_sequences": 2},
        {"schedule": ScheduleSpec(kind="linear")},
        {"optimizer": OptimizerChoice(name="lion", hyperparameters={"lr": 1e-3, "beta2": 0.95})},
        {"data": DataSpec(name="text", fingerprint="cd" * 32, vocabulary=300)},
    ],
)
def test_everything_else_is(change: dict[str, Any]) -> None:
    assert spec(**change).identity != spec().identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": -5}, "tokens: input should be greater than 0, not -5"),
        ({"tokens": 31}, "tokens must be at least one batch of 32, not 31"),
        ({"clip_norm": math.nan}, "clip_norm"),
        ({"format": 99}, "written by a newer fairstep"),
        ({"surprise": 1}, "surprise: extra inputs are not permitted"),
        ({"schedule": {"kind": "cosine", "warmup_steps": 31}}, "warmup_steps must be less than the run's 31 steps"),
        ({"execution": {"micro_batch_sequences": 3}}, "micro_batch_sequences must divide batch_sequences 4, not 3"),
        ({"data": {"name": "t", "fingerprint": "x", "vocabulary": 301}}, "vocabulary .300. must be the data's .301."),
        ({"optimizer": {"name": "adamw", "hyperparameters": {"lr": math.inf}}}, "optimizer.hyperparameters.lr"),
    ],
)
def test_bad_values_are_explained_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**change)
    sentence = explain(caught.value)
    assert "\n" not in sentence
    import re

    assert re.search(message, sentence), sentence


def test_heads_must_split_the_width_into_pairs() -> None:
    with pytest.raises(ValidationError, match="not 18 / 2"):
        ModelSpec(layers=1, width=18, heads=2, mlp_width=8, vocabulary=300, context=8)


def test_a_file_that_is_not_a_spec_is_refused() -> None:
    with pytest.raises(SpecError):
        RunSpec.from_json("{}")


def parts_of(kind: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all models that its fields hold."""
    parts = {kind}
    annotations = [field.annotation for field in kind.model_fields.values()]
    while annotations:
        annotation = annotations.pop()
        annotations += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            parts |= parts_of(annotation)
    return parts


@pytest.mark.parametrize("kind", [RunSpec, CommandSpec, Summary, Ledger])
def test_every_field_says_what_it_is(kind: type[BaseModel]) -> None:
    """The reference pages are made of the texts under the fields."""
    for part in parts_of(kind):
        [body] = ast.parse(inspect.getsource(part)).body
        assert isinstance(body, ast.ClassDef)
        with_text = {
            line.target.id
            for line, below in zip(body.body, body.body[1:], strict=False)
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr)
        }
        assert set(part.model_fields) == with_text, part
