"""A run that was interrupted ends in the same files, to the byte, as one that was not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.interruption import TOKENS, at_step, execution, interrupted, same_files

from fairstep import optim
from fairstep.runs import Run, RunSpec, Store
from fairstep.train import Progress, tracking, train
from fairstep.train.stopping import Stopped

pytestmark = pytest.mark.slow

WRAPPED = ("adamw+ema", "lion+tail", "muon+schedule-free", "soap+ema-nesterov", "muon+hyperball+cautious-decay")
NAMES = [*optim.names(), *WRAPPED, "torch.optim:Adam"]


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_resumes_to_the_byte(name: str, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(name, tokens=TOKENS, execution=execution())
    whole = train(spec, Store(tmp_path / "a"))
    store = Store(tmp_path / "b")
    run = interrupted(spec, store)
    assert [path.name for path in sorted(run.directory.glob("checkpoints/*"))] == [
        "step-00000007",
        "step-00000014",
    ]
    same_files(whole, train(spec, store))
    assert [start["step"] for start in run.environment["starts"]] == [0, 14]
    assert not (run.directory / "checkpoints").exists()


def test_asynchronous_checkpoints_resume_to_the_byte(tiny: Any, tmp_path: Path) -> None:
    spec = tiny("soap", tokens=TOKENS, execution=execution(asynchronous=True, keep_checkpoints=1))
    whole = train(spec, Store(tmp_path / "a"))
    store = Store(tmp_path / "b")
    run = interrupted(spec, store)
    assert len(list(run.directory.glob("checkpoints/*"))) == 1
    same_files(whole, train(spec, store))
    assert run.environment["starts"][-1]["step"] == 14


def test_how_a_run_is_saved_does_not_change_it(tiny: Any, tmp_path: Path) -> None:
    plain = train(tiny(tokens=TOKENS, execution=execution(checkpoint_every_steps=0)), Store(tmp_path / "a"))
    saved = train(tiny(tokens=TOKENS, execution=execution(checkpoint_every_steps=1)), Store(tmp_path / "b"))
    same_files(plain, saved)


@pytest.mark.parametrize(
    "damage",
    [
        *("cut", "flipped", "empty", "missing", "flipped metadata", "no metadata"),
        *("other run", "newer", "no facts", "cut facts", "other facts"),
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str, half: tuple[RunSpec, Store], undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec, store = half
    run = store.run(spec)
    spoil(run.directory / "checkpoints" / "step-00000014", damage)
    notes: list[str] = []
    same_files(undisturbed(spec), train(spec, store, lambda event: notes.append(event.note)))
    said = [note for note in notes if note]
    assert len(said) == 1
    assert "step-00000014 " in said[0]
    assert "step 7" in said[0]
    assert run.environment["starts"][-1]["notes"]


def spoil(folder: Path, damage: str) -> None:
    data, metadata, facts = (folder / name for name in ("__0_0.distcp", ".metadata", "checkpoint.json"))
    match damage:
        case "cut":
            os.truncate(data, data.stat().st_size // 2)
        case "flipped" | "flipped metadata":  # one bit
            path = data if damage == "flipped" else metadata
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "empty":
            data.write_bytes(b"")
        case "missing":
            data.unlink()
        case "no metadata":
            metadata.unlink()
        case "other run":
            facts.write_text(json.dumps(json.loads(facts.read_text()) | {"run": "0" * 16}))
        case "newer":
            facts.write_text(json.dumps(json.loads(facts.read_text()) | {"format": 1000}))
        case "no facts":
            facts.unlink()
        case "cut facts":
            os.truncate(facts, facts.stat().st_size // 2)
        case "other facts":
            facts.write_text("[]")


def test_without_a_usable_checkpoint_the_run_begins_again(
    tiny: Any, tmp_path: Path, undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec = tiny(tokens=TOKENS, execution=execution(keep_checkpoints=1))
    whole = undisturbed(spec)
    store = Store(tmp_path / "b")
    run = interrupted(spec, store)
    (run.directory / "metrics.jsonl").write_text("")  # the checkpoint is of a file that is gone
    same_files(whole, train(spec, store))
    assert run.environment["starts"][-1]["step"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(
    number: signal.Signals, tiny: Any, tmp_path: Path, undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec = tiny(tokens=TOKENS, execution=execution(checkpoint_every_steps=0))
    whole = undisturbed(spec)
    store = Store(tmp_path / "b")
    inherited = signal.signal(number, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    try:
        with pytest.raises(Stopped) as stopped:
            train(spec, store, at_step(20, lambda: os.kill(os.getpid(), number)))
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, inherited)
    assert stopped.value.code == 128 + number
    same_files(whole, train(spec, store))
    assert store.run(spec).environment["starts"][-1]["step"] == 20


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_keeps_the_checkpoint_before(
    asynchronous: bool, tiny: Any, tmp_path: Path, undisturbed: Callable[[RunSpec], Run]
) -> None:
    spec = tiny(tokens=TOKENS, execution=execution(asynchronous=asynchronous))
    whole = undisturbed(spec)
    store, save = Store(tmp_path / "b"), torch.save

    def full(value: Any, file: Any) -> None:
        if "step-00000014" in str(getattr(getattr(file, "raw", None), "name", "")):
            file.write(b"the first half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(value, file)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(torch, "save", full)
        train(spec, store)
    run = store.run(spec)
    assert [path.name for path in run.directory.glob("checkpoints/*")] == ["step-00000007"]
    same_files(whole, train(spec, store))


def test_a_full_disk_under_the_metrics_is_said(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, spec = Store(tmp_path), tiny(tokens=TOKENS)
    run = store.run(spec)
    monkeypatch.setattr(tracking, "open_own", lambda path: open("/dev/full", "w"))  # noqa: PTH123, SIM115
    with pytest.raises(OSError, match="No space left"):
        train(spec, store)
    assert run.status == "unfinished"


def test_memory_that_runs_out_is_a_failed_run_with_advice(tiny: Any, tmp_path: Path) -> None:
    store, spec = Store(tmp_path), tiny(tokens=TOKENS)

    def out_of_memory() -> None:
        torch.empty(2**60)  # the allocator's own words

    run = train(spec, store, at_step(20, out_of_memory))
    summary = run.summary
    assert summary is not None
    assert summary.status == "failed"
    assert "out of memory on cpu; try micro_batch_sequences below 8" in summary.message
    assert not run.finished
    assert train(spec, store).status == "done"


def test_final_weights_are_the_evaluated_ones(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=TOKENS, execution=execution(save_weights=True))
    run = train(spec, Store(tmp_path))
    weights = load_file(run.directory / "weights.safetensors")
    from fairstep.train.step import Trainer

    trainer = Trainer(spec)
    assert set(weights) == {name for name, _ in trainer.model.named_parameters()}
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    trainer.model.load_state_dict(weights, strict=False)
    assert run.summary is not None
    assert trainer.evaluate(trainer.final_windows) == run.summary.final_loss


def test_a_process_that_waits_for_another_says_so(tiny: Any, tmp_path: Path) -> None:
    spec, store = tiny(tokens=TOKENS), Store(tmp_path)
    run = store.run(spec)
    run.directory.mkdir(parents=True)
    notes: list[str] = []
    with (run.directory / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def watch(event: Progress) -> None:
            notes.append(event.note)
            fcntl.flock(held, fcntl.LOCK_UN)  # and now the other one is done

        train(spec, store, watch)
    assert "another process trains this run" in notes[0]
    assert run.status == "done"


def test_a_file_system_without_locks_is_named(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ValueError, match=r"the file system of .* has no file locks \(No locks available\)") as refused:
        train(tiny(tokens=TOKENS), Store(tmp_path / "mine"))
    assert str(tmp_path / "mine") in str(refused.value)
    assert "--store" in str(refused.value)
