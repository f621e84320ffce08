"""What a checkpoint says of itself, and the files of a run, when somebody changed them, or never could write them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.interruption import TOKENS, execution, same_files

from fairstep.runs import Run, RunSpec, Store
from fairstep.train import train
from fairstep.train.checkpoints.files import _digest_of

pytestmark = pytest.mark.slow

NEWEST, BEFORE = "step-00000014", "step-00000007"


def rewritten(change: Callable[[dict[str, Any]], Any], digest: bool) -> Callable[[Run], None]:
    """``checkpoint.json`` of the newest checkpoint with other facts; ``digest``: and a digest that is right."""

    def act(run: Run) -> None:
        path = run.directory / "checkpoints" / NEWEST / "checkpoint.json"
        facts = json.loads(path.read_text())
        old = facts.pop("digest")
        change(facts)
        path.write_text(json.dumps(facts | {"digest": _digest_of(facts) if digest else old}))

    return act


def undigested(run: Run) -> None:
    path = run.directory / "checkpoints" / NEWEST / "checkpoint.json"
    facts = json.loads(path.read_text())
    del facts["digest"]
    path.write_text(json.dumps(facts))


def flipped(run: Run) -> None:
    """One bit of an old row of metrics.jsonl."""
    path = run.directory / "metrics.jsonl"
    content = bytearray(path.read_bytes())
    content[content.index(b'"loss": ') + 11] ^= 1
    path.write_bytes(content)


def unreadable(run: Run) -> None:
    """DCP's description names a class that this torch does not have, and all checksums are right."""
    folder = run.directory / "checkpoints" / NEWEST
    content = (folder / ".metadata").read_bytes().replace(b"TensorStorageMetadata", b"TensorStorageMetadatb")
    (folder / ".metadata").write_bytes(content)
    resummed(run)


def hollow(run: Run) -> None:
    folder = run.directory / "checkpoints" / NEWEST
    (folder / ".metadata").write_bytes(pickle.dumps(7))
    resummed(run)


def resummed(run: Run) -> None:
    path = run.directory / "checkpoints" / NEWEST / "checkpoint.json"
    facts = json.loads(path.read_text())
    facts.pop("digest")
    for name in facts["checksums"]:
        facts["checksums"][name] = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(facts | {"digest": _digest_of(facts)}))


DAMAGE: dict[str, Callable[[Run], None]] = {
    "another step": rewritten(lambda facts: facts.update(step=12), digest=False),
    "another loss": rewritten(lambda facts: facts["window"][0].__setitem__(0, 1.0), digest=False),
    "no digest": lambda run: undigested(run),
    "step, signed": rewritten(lambda facts: facts.update(step=12), digest=True),
    "a huge step": rewritten(lambda facts: facts.update(step=10**400), digest=True),
    "a switch as step": rewritten(lambda facts: facts.update(step=True), digest=True),
    "no run": rewritten(lambda facts: facts.pop("run"), digest=True),
    "no checksums": rewritten(lambda facts: facts.update(checksums={}), digest=True),
    "a list of checksums": rewritten(lambda facts: facts.update(checksums=[]), digest=True),
    "a foreign file": rewritten(lambda facts: facts["checksums"].update({"../../x": "0"}), digest=True),
    "window of nothing": rewritten(lambda facts: facts.update(window=None), digest=True),
    "window too short": rewritten(lambda facts: facts["window"].pop(), digest=True),
    "text for a number": rewritten(lambda facts: facts.update(seconds="long"), digest=True),
    "shorter files": rewritten(lambda facts: facts["files"].update(metrics=facts["files"]["metrics"] - 7), digest=True),
    "no files": rewritten(lambda facts: facts.update(files={}), digest=True),
    "cannot be read": unreadable,
    "holds something else": hollow,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_is_used(
    damage: str, half: tuple[RunSpec, Store], undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec, store = half
    run = store.run(spec)
    DAMAGE[damage](run)
    notes: list[str] = []
    train(spec, store, lambda event: notes.append(event.note))
    same_files(undisturbed(spec), run)
    said = [note for note in notes if note]
    assert len(said) == 1
    assert said[0].startswith(NEWEST)
    assert said[0].endswith("going on from step 7")


def test_a_changed_row_of_metrics_is_noticed(
    half: tuple[RunSpec, Store], undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec, store = half
    run = store.run(spec)
    flipped(run)
    train(spec, store)
    same_files(undisturbed(spec), run)
    assert "metrics.jsonl has another content" in run.environment["starts"][-1]["notes"][0]


@pytest.mark.parametrize("name", ["metrics.jsonl", "timings.jsonl", "lock", "checkpoints"])
def test_a_run_does_not_write_through_a_link(name: str, tiny: Any, tmp_path: Path) -> None:
    spec, mine = tiny(tokens=TOKENS), tmp_path / "mine"
    run = Store(tmp_path / "s").run(spec)
    run.directory.mkdir(parents=True)
    if name == "checkpoints":
        (mine / "x.unfinished").mkdir(parents=True)
    else:
        mine.write_text("precious")
    (run.directory / name).symlink_to(mine)
    with pytest.raises(ValueError, match=f"{name} is a link"):
        train(spec, Store(tmp_path / "s"))
    assert (mine / "x.unfinished").is_dir() if name == "checkpoints" else mine.read_text() == "precious"


@pytest.mark.parametrize("name", ["metrics.jsonl", "lock"])
def test_a_run_waits_for_no_pipe(name: str, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=TOKENS)
    run = Store(tmp_path).run(spec)
    run.directory.mkdir(parents=True)
    os.mkfifo(run.directory / name)
    with pytest.raises(ValueError, match="is a link or no file"):
        train(spec, Store(tmp_path))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cannot_sync_is_trained_on(
    number: int, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    spec, notes = tiny(tokens=TOKENS, execution=execution()), list[str]()
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            train(spec, Store(tmp_path))
        return
    run = train(spec, Store(tmp_path), lambda event: notes.append(event.note))
    assert run.status == "done"
    assert any("cannot be asked to keep" in note for note in notes)
