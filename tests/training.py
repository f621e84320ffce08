"""A corpus of a few hundred kilobytes and a model of a few thousand parameters: runs of about a second."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fairstep.data import Corpus, prepare
from fairstep.runs import (
    DataSpec,
    EvaluationSpec,
    Execution,
    ModelSpec,
    OptimizerChoice,
    RunSpec,
    ScheduleSpec,
    machine,
)
from fairstep.runs.rates import gain_name


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sentences of a small random grammar, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    subjects, verbs = ["the cat", "a dog", "our model", "the optimizer"], ["sees", "likes", "follows", "forgets"]
    for number in range(40):
        lines = [f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(subjects)}." for _ in range(150)]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRSTEP_CACHE", str(folder / "cache"))
        prepared = prepare(str(folder / "*.txt"), vocabulary=300)
        # For commands with this cache; this process has the fixture ``gain`` of tests/conftest.py.
        (folder / "cache" / "rates.json").write_text(json.dumps({gain_name(machine().processor): 2.0}))
        return prepared


@pytest.fixture(autouse=True)
def cache(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSTEP_CACHE", str(corpus.directory.parent.parent))


@pytest.fixture
def tiny(corpus: Corpus) -> Any:
    """A function that gives a RunSpec: keyword arguments replace its fields; ``lr`` and ``optimizer`` are shortcuts."""

    def spec(optimizer: str = "adamw", lr: float = 0.01, **changes: Any) -> RunSpec:
        from fairstep import optim

        fields: dict[str, Any] = {
            "model": ModelSpec(layers=1, width=16, heads=2, mlp_width=32, vocabulary=300, context=16),
            "data": DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=300),
            "optimizer": OptimizerChoice(name=optimizer, hyperparameters=optim.get(optimizer).validate({"lr": lr})),
            "schedule": ScheduleSpec(warmup_steps=3),
            "evaluation": EvaluationSpec(every_steps=20, tokens=256, final_tokens=1000),
            "batch_sequences": 8,
            "tokens": 8 * 16 * 60,
            "execution": Execution(threads=1, compile=False),
        }
        return RunSpec(**(fields | changes))

    return spec
