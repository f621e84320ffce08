"""Checkpoints of several ranks: each writes what it has, and what happens when one of them cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.train.test_parallel import SHORT, curve, processes

from fairstep.runs import Execution, Store
from fairstep.train import train

pytestmark = pytest.mark.dist

FULL = """
import errno, os, signal, sys
import torch

save = torch.save
def full(value, file):
    rank, step, *kill = os.environ.get("FULL", ":").split(":")
    if os.environ["RANK"] == rank and step in str(getattr(getattr(file, "raw", None), "name", "")):
        file.write(b"the first half")
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save(value, file)
torch.save = full
"""
"""With FULL=1:step-00000020 in the environment, rank 1's disk is full when it writes that checkpoint, and with another
:kill it is killed then."""

RANKS = (
    FULL
    + """
import json
from pathlib import Path
from fairstep.optim.sharding.step_cost import Piece
from fairstep.optim.sharding.state_shards import ShardLayout
from fairstep.optim.rule import RowSharding
from fairstep.train.checkpoints.checkpoint import Checkpoints
from fairstep.train.ranks.world import joined

def part(world, step):
    place = ShardLayout(Piece(2 * world.rank, 2 * world.rank + 2, 6), torch.Size((2, 3)), True, RowSharding())
    own = place.shard("m", torch.arange(2.0) + 2 * world.rank + step)
    weights = {"w": torch.full((100,), float(step)), "v": torch.full((100,), float(step))}
    return {"model": weights, "optimizer": {"w": {"m": own, "step": step}}}

def outcome(world, folder, unlucky, asynchronous):
    os.environ["FULL"] = f"{unlucky}:step-00000020"
    checkpoints, reached = Checkpoints(folder, 2, asynchronous, world), 0
    try:
        for step in (10, 20, 30, 40):
            checkpoints.save(step, part(world, step), {"run": "a", "rank": world.rank})
            reached = step
        checkpoints.wait()
        error = None
    except OSError as caught:
        error = caught.errno, str(caught)
    found = checkpoints.newest(lambda facts: None, [])
    whole = checkpoints.load(found[0], lambda saved: {
        "model": {"w": torch.empty(100), "v": torch.empty(100)},
        "optimizer": {"w": {"m": torch.empty(2, 3), "step": None}},
    })
    kept = sorted(path.name for path in folder.iterdir()) if world.first else []
    return error, reached, found[1], kept, whole["optimizer"]["w"]["m"].tolist(), whole["model"]["w"][0].item()

with joined() as world:
    said = []
    for case in json.loads(os.environ["CASES"]):
        folder = Path(sys.argv[2]) / "-".join(map(str, case))
        said.append(world.gather(outcome(world, folder, *case)))
    if world.first:
        (Path(sys.argv[2]) / "said.json").write_text(json.dumps(said))
"""
)


def test_a_full_disk_of_one_rank_is_said_on_all_and_else_all_is_there(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [(unlucky, asynchronous) for unlucky in (0, 1, 2, None) for asynchronous in (False, True)]
    monkeypatch.setenv("CASES", json.dumps(cases))
    code, output, _ = processes(tiny(), tmp_path, 3, program=RANKS)
    assert code == 0, output
    for (unlucky, asynchronous), ranks in zip(cases, json.loads((tmp_path / "said.json").read_text()), strict=True):
        step = 40 if unlucky is None else 10
        for error, reached, facts, _, m, w in ranks:
            if unlucky is None:
                assert error is None
            else:
                words = f"process {unlucky} could not write its part of the checkpoint: No space left on device"
                assert error == [28, f"[Errno 28] {words}"]
            assert reached == (40 if unlucky is None else 20 if asynchronous else 10)
            assert (facts["step"], facts["processes"], facts["rank"]) == (step, 3, 0)
            assert m == [[step + 0.0, step + 1.0, step + 2.0], [step + 3.0, step + 4.0, step + 5.0]]
            assert w == step
        assert ranks[0][3] == ([f"step-{step:08d}"] if unlucky is not None else ["step-00000030", "step-00000040"])
    folder = tmp_path / "None-False" / "step-00000040"
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert files.keys() == {"__0_0.distcp", "__1_0.distcp", "__2_0.distcp", ".metadata", "checkpoint.json"}
    assert min(files.values()) > 400  # whole weights are written once, and not by one rank alone


def test_asynchronous_parts_continue_to_the_bit_and_a_full_disk_is_survived(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=10, asynchronous=True)
    spec = tiny("mars-shampoo", tokens=SHORT, execution=execution)
    monkeypatch.setenv("FULL", "1:step-00000030")
    code, output, _ = processes(spec, tmp_path / "two", 2, program=TRAIN)
    assert code == 1, output
    assert output.count("said: ") == 2  # every process has a word, of which the command line shows the first one's
    assert output.count("process 1 could not write its part of the checkpoint: No space left on device") == 2
    run = Store(tmp_path / "two").run(spec)
    assert run.status == "unfinished"
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    assert [start["step"] for start in run.environment["starts"]] == [0, 20]
    processes(spec, tmp_path / "whole", 2)
    assert curve(tmp_path / "two", spec) == curve(tmp_path / "whole", spec)


def test_damage_of_one_ranks_file_falls_back_to_the_checkpoint_before(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=SHORT, execution=Execution(threads=1, compile=False, checkpoint_every_steps=10))
    processes(spec, tmp_path / "two", 2, kill_rank=1, kill_step=35)
    run = Store(tmp_path / "two").run(spec)
    part = run.directory / "checkpoints" / "step-00000030" / "__1_0.distcp"
    content = bytearray(part.read_bytes())
    content[-1000] ^= 1
    part.write_bytes(content)
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    last = run.environment["starts"][-1]
    assert last["step"] == 20
    assert last["notes"] == ["step-00000030 is damaged (checksum of __1_0.distcp)"]
    processes(spec, tmp_path / "whole", 2)
    assert curve(tmp_path / "two", spec) == curve(tmp_path / "whole", spec)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_kill_in_the_middle_of_writing_leaves_the_checkpoint_before(
    asynchronous: bool, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=10, asynchronous=asynchronous)
    spec = tiny(tokens=SHORT, execution=execution)
    monkeypatch.setenv("FULL", "1:step-00000030:kill")
    code, output, seconds = processes(spec, tmp_path / "two", 2, program=TRAIN)
    assert code == 1
    assert seconds < 60
    assert output.count("said: another of the 2 processes of this run died") == 1
    run = Store(tmp_path / "two").run(spec)
    assert (run.directory / "checkpoints" / "step-00000020").exists()
    assert not (run.directory / "checkpoints" / "step-00000030").exists()
    monkeypatch.delenv("FULL")
    train(spec, Store(tmp_path / "two"))
    assert [start["step"] for start in run.environment["starts"]] == [0, 20]


TRAIN = (
    FULL
    + """
from fairstep.runs import RunSpec, Store
from fairstep.train import train
from fairstep.train.ranks.world import RankError

try:
    train(RunSpec.from_json(open(sys.argv[1]).read()), Store(sys.argv[2]))
except (OSError, RankError) as error:
    if getattr(error, "spokesman", True):
        os.write(1, f"said: {error}\\n".encode())
    sys.exit(1)
"""
)
