"""Checkpoints in parts: what several ranks write, and what happens when one of them has no room on its disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.test_parallel import curve, processes

from fairstep.runs import Execution, Store
from fairstep.train.checkpoint import Checkpoints, read
from fairstep.train.parallel import World


class Thread(World):
    """A rank that is a thread; ``others`` is what all of them have in common."""

    def __init__(self, rank: int, others: tuple[list[Any], threading.Barrier]) -> None:
        super().__init__(rank, len(others[0]))
        object.__setattr__(self, "others", others)

    def gather(self, value: Any) -> list[Any]:
        said, barrier = self.others  # type: ignore[attr-defined]
        said[self.rank] = value
        barrier.wait()
        values = list(said)
        barrier.wait()
        return values


def on_ranks(count: int, work: Callable[[World], None], alone: bool = False) -> list[BaseException | None]:
    """What went wrong on each rank. ``alone``: the first one may end while others wait for it."""
    common, errors = ([None] * count, threading.Barrier(count, timeout=20)), [None] * count

    def begin(rank: int) -> None:
        try:
            work(Thread(rank, common))
        except BaseException as error:
            errors[rank] = error  # type: ignore[call-overload]
            if alone and rank == 0:
                common[1].abort()

    threads = [threading.Thread(target=begin, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors  # type: ignore[return-value]


def part(rank: int, step: int) -> dict[str, Any]:
    pieces, state = {"w": (rank, rank + 1, 3)}, {"w": {"m": torch.full((1,), float(step))}}
    return {"parts": 3, "optimizer": {"format": 1, "state": state, "pieces": pieces}}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("unlucky", [0, 1, 2])
def test_a_full_disk_of_one_rank_is_said_on_all_of_them(
    unlucky: int, asynchronous: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full(state: dict[str, Any], file: Any) -> None:
        if state["step"] == 20 and next(iter(state["optimizer"]["pieces"].values()))[0] == unlucky:
            file.write(b"the first half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, file)

    def work(world: World) -> None:
        checkpoints = Checkpoints(tmp_path, 2, asynchronous, world)
        for step in (10, 20, 30):
            checkpoints.save(step, part(world.rank, step))
            assert step < 30, "a checkpoint was written after one that failed"
        checkpoints.wait()

    monkeypatch.setattr(torch, "save", full)
    errors = on_ranks(3, work, alone=unlucky == 0 and not asynchronous)
    assert isinstance(errors[unlucky], OSError)
    assert errors[unlucky].errno == errno.ENOSPC  # type: ignore[union-attr]
    if unlucky or asynchronous:  # else the others have gone on to train, and hear of it when the first rank ends
        words = f"process {unlucky} could not write its part of the checkpoint: No space left on device"
        assert all(words in str(error) for rank, error in enumerate(errors) if rank != unlucky)
    assert not list(tmp_path.glob("*.unfinished"))
    whole = read(tmp_path / "step-00000010.pt")  # the one before is as it was
    assert [p["state"]["w"]["m"].item() for p in whole["optimizer"]["parts"]] == [10.0] * 3
    if asynchronous and unlucky:
        with pytest.raises(ValueError, match=f"step-00000020.{unlucky}of3.pt is missing"):
            read(tmp_path / "step-00000020.pt")
    else:
        assert not (tmp_path / "step-00000020.pt").exists()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_only_the_newest_parts_are_kept(asynchronous: bool, tmp_path: Path) -> None:
    def work(world: World) -> None:
        checkpoints = Checkpoints(tmp_path, 1, asynchronous, world)
        for step in (10, 20, 30, 40):
            checkpoints.save(step, part(world.rank, step))
        checkpoints.wait()

    assert on_ranks(3, work) == [None] * 3
    steps = [40] if not asynchronous else [40, 30]  # written later: the newest may not be whole yet
    names = [f"step-{step:08d}{suffix}" for step in steps for suffix in (".pt", ".1of3.pt", ".2of3.pt")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    whole = read(tmp_path / "step-00000040.pt")
    assert [p["pieces"]["w"][0] for p in whole["optimizer"]["parts"]] == [0, 1, 2]


@pytest.mark.dist
def test_asynchronous_parts_continue_to_the_bit_and_a_full_disk_is_survived(tiny: Any, tmp_path: Path) -> None:
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=10, asynchronous=True)
    spec = tiny("mars-shampoo", execution=execution)
    code, output, _ = processes(spec, tmp_path / "two", 2, program=FULL)
    assert code == 1, output
    assert output.count("said: ") == 2  # every process has a word, of which the command line shows the first one's
    assert "process 1 could not write its part of the checkpoint: No space left on device" in output
    run = Store(tmp_path / "two").run(spec)
    assert run.status == "unfinished"
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    assert [start["step"] for start in run.environment["starts"]] == [0, 20]  # the one at 30 lacks a part
    processes(spec, tmp_path / "whole", 2)
    assert curve(tmp_path / "two", spec) == curve(tmp_path / "whole", spec)


FULL = """
import errno, os, sys
import torch
from fairstep.runs import RunSpec, Store
from fairstep.train import train

save = torch.save
def full(state, file):
    if os.environ["RANK"] == "1" and state["step"] == 30:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save(state, file)
torch.save = full
try:
    train(RunSpec.from_json(open(sys.argv[1]).read()), Store(sys.argv[2]))
except OSError as error:
    print("said:", error, flush=True)
    sys.exit(1)
"""
