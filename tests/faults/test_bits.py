"""One bit of one file, flipped: in an unfinished run, in its checkpoints, in the corpus."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.train.interruption import TOKENS, execution, interrupted

from fairstep.data import Corpus, DataError
from fairstep.runs import Run, Store
from fairstep.train import train

FLIPS = 4
KINDS = ("__0_0.distcp", ".metadata", "checkpoint.json", "metrics.jsonl", "timings.jsonl", "env.json")


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("name", KINDS)
def test_in_an_unfinished_run(name: str, draw: random.Random, tally: Any, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=TOKENS, execution=execution())
    whole = train(spec, Store(tmp_path / "whole"))
    interrupted(spec, Store(tmp_path / "start"))
    right = silent = 0
    for trial in range(FLIPS):
        store = Store(shutil.copytree(tmp_path / "start", tmp_path / str(trial)))
        run = store.run(spec)
        own = run.directory if name.endswith("l") or name == "env.json" else run.directory / "checkpoints/step-00000014"
        flip(own / name, draw)
        try:
            train(spec, store)
        except (ValueError, OSError):
            right += 1
            continue
        same = _curve(run) == _curve(whole)
        right, silent = right + same, silent + (not same)
    tally(f"bits of {name}", FLIPS, right, silent)


def _curve(run: Run) -> tuple[bytes, float | None]:
    summary = run.summary
    return (run.directory / "metrics.jsonl").read_bytes(), summary.final_loss if summary else None


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "meta.json", "tokenizer.json"])
def test_in_a_corpus(
    name: str,
    draw: random.Random,
    tally: Any,
    tiny: Any,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = tiny(tokens=TOKENS)
    right = 0
    for trial in range(FLIPS):
        cache = Path(shutil.copytree(corpus.directory.parent.parent, tmp_path / f"cache{trial}"))
        monkeypatch.setenv("FAIRSTEP_CACHE", str(cache))
        flip(cache / "corpora" / corpus.directory.name / name, draw)
        try:
            train(spec, Store(tmp_path / str(trial)))
        except DataError:
            right += 1
    tally(f"bits of a corpus's {name}", FLIPS, right, FLIPS - right)
