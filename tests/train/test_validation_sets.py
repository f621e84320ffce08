"""A run on a mixture reports every validation set, and its own is the final loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairstep.data import Corpus, prepare
from fairstep.runs import DataSpec, Store
from fairstep.train import train


def test_every_validation_set_has_its_final_loss(tiny: Any, tmp_path: Path, corpus: Corpus) -> None:
    for name, words in (("plain", "the cat sees a dog."), ("odd", "zq vx jw kk.")):
        (tmp_path / f"{name}.txt").write_text("\n<|endoftext|>\n".join(f"{n} {words} " * 40 for n in range(40)))
    mixed = prepare(
        [f"{corpus.directory}=3", f"{tmp_path / 'plain.txt'}=1"], validation={"odd": str(tmp_path / "odd.txt")}
    )
    data = DataSpec(name=mixed.name, fingerprint=mixed.fingerprint, vocabulary=300)
    run = train(tiny(data=data), Store(tmp_path / "store"))
    summary = run.summary
    assert summary
    assert summary.final_loss
    assert list(summary.validation_losses) == [corpus.name, "plain.txt", "odd"]
    own, plain, odd = summary.validation_losses.values()
    assert own and plain and odd
    assert odd > max(own, plain), "words that were not in training cost more"
    assert min(own, plain) <= summary.final_loss <= max(own, plain), "the mixture's own set is of both parts"
    assert summary.final_loss == pytest.approx(0.75 * own + 0.25 * plain, abs=0.3)
