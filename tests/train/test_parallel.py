"""Several processes train one run: the same losses as one, one writer, and one clear word when a process dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.forked_ranks import run_ranks

from fairstep.cost.rank_shares import step_costs
from fairstep.model.shapes import parameter_table
from fairstep.optim.sharding.partition import divide
from fairstep.runs import Execution, ModelSpec, RunSpec, Store
from fairstep.train import train
from fairstep.train.ranks.world import World

pytestmark = pytest.mark.dist

SHORT = 8 * 16 * 40
"""Tokens of 40 steps, for runs that die by the 35th."""

PROGRAM = """
import os, signal, sys
from fairstep.runs import RunSpec, Store
from fairstep.train import train
from fairstep.train.ranks.world import RankError

def watch(event):
    print("step", event.step, flush=True)

kill_rank, kill_step = int(sys.argv[3]), int(sys.argv[4])
if int(os.environ["RANK"]) == kill_rank:
    from fairstep.train import step
    whole = step.Trainer.step
    def dies(self, number, measure=False):
        if number == kill_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, number, measure)
    step.Trainer.step = dies
try:
    train(RunSpec.from_json(open(sys.argv[1]).read()), Store(sys.argv[2]), watch)
except RankError as error:
    if error.spokesman:
        os.write(1, f"said: {error}\\n".encode())
    sys.exit(1)
"""


def processes(
    spec: RunSpec,
    store: Path,
    size: int,
    kill_rank: int = -1,
    kill_step: int = 0,
    program: str = PROGRAM,
    torchrun: bool = False,
) -> tuple[int, str, float]:
    """Start the ranks, under torchrun or as forks, and wait; (exit code, output, seconds)."""
    store.mkdir(parents=True, exist_ok=True)
    (store / "spec.json").write_text(spec.to_json())
    (store / "program.py").write_text(program)
    arguments = [str(store / "spec.json"), str(store), str(kill_rank), str(kill_step)]
    if not torchrun:
        began = time.monotonic()
        code, output = run_ranks(store / "program.py", arguments, size)
        return code, output, time.monotonic() - began
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "--master-port", str(port)]
    command += [str(store / "program.py"), *arguments]
    began = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def curve(store: Path, spec: RunSpec) -> list[float]:
    return [row["loss"] for row in Store(store).run(spec).metrics()]


def test_shares_are_the_batch_and_impossible_ones_are_said() -> None:
    batch = list(range(8))
    assert [World(rank, 4).share(batch) for rank in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert World(0, 4).check(8, 0) == 2
    with pytest.raises(ValueError, match="8 sequences cannot be shared by 3 processes"):
        World(0, 3).check(8, 0)
    with pytest.raises(ValueError, match="divide the 4 sequences of each of 2 processes, not 3"):
        World(0, 2).check(8, 3)


def test_two_processes_give_the_losses_of_one(tiny: Any, tmp_path: Path) -> None:
    spec = tiny("muon", execution=Execution(threads=1, compile=False, micro_batch_sequences=2))
    train(spec, Store(tmp_path / "one"))
    code, output, _ = processes(spec, tmp_path / "two", 2, torchrun=True)
    assert code == 0, output
    assert output.count("step 60") == 1  # one process speaks
    one, two = curve(tmp_path / "one", spec), curve(tmp_path / "two", spec)
    assert two == pytest.approx(one, rel=2e-5)  # float32 sums in another order, 60 steps long
    environment = Store(tmp_path / "two").run(spec).environment
    assert environment["processes"] == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_dead_process_ends_the_run_with_one_word_and_it_goes_on(rank: int, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=SHORT, execution=Execution(threads=1, compile=False, checkpoint_every_steps=10))
    code, output, seconds = processes(spec, tmp_path / "two", 2, kill_rank=rank, kill_step=35, torchrun=rank == 1)
    assert code == 1
    assert seconds < 60
    assert output.count("said: another of the 2 processes of this run died") == 1
    assert ".cc:" not in output.split("said: ")[1].splitlines()[0], "a line of another project's source"
    run = Store(tmp_path / "two").run(spec)
    assert run.status == "unfinished"
    if rank == 0:
        return
    code, output, _ = processes(spec, tmp_path / "two", 2)
    assert code == 0, output
    assert [start["step"] for start in run.environment["starts"]] == [0, 30]
    whole, output, _ = processes(spec, tmp_path / "whole", 2)
    assert whole == 0
    assert curve(tmp_path / "two", spec) == curve(tmp_path / "whole", spec)  # the same world: to the bit


def test_a_run_of_two_processes_writes_checkpoints_by_the_clock_and_goes_on_with_one(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=SHORT, execution=Execution(threads=1, compile=False, checkpoint_every_seconds=1e-3))
    train(spec, Store(tmp_path / "one"))
    processes(spec, tmp_path / "two", 2, kill_rank=1, kill_step=35)
    train(spec, Store(tmp_path / "two"))
    starts = Store(tmp_path / "two").run(spec).environment["starts"]
    assert [start["step"] for start in starts] == [0, 30]  # processes agree on every tenth step
    assert curve(tmp_path / "two", spec) == pytest.approx(curve(tmp_path / "one", spec), rel=2e-5)


@pytest.mark.slow
def test_a_run_moves_from_one_to_two_to_four_processes_and_back(tiny: Any, tmp_path: Path) -> None:
    execution = Execution(threads=1, compile=False, checkpoint_every_steps=10)
    # Four processes share the rows of embedding and head.
    model = ModelSpec(layers=2, width=16, heads=2, mlp_width=48, vocabulary=300, context=16)
    spec = tiny("kron", model=model, tokens=SHORT, execution=execution)
    train(spec, Store(tmp_path / "one"))
    ownership = divide(step_costs(spec, parameter_table(model)) or [], 4)
    assert not any(owned[name].whole for owned in ownership for name in ("embedding.weight", "head.weight"))
    for size, step in ((1, 15), (2, 25), (4, 35)):
        processes(spec, tmp_path / "many", size, kill_rank=size - 1, kill_step=step)
    train(spec, Store(tmp_path / "many"))
    run = Store(tmp_path / "many").run(spec)
    assert [start["step"] for start in run.environment["starts"]] == [0, 10, 20, 30]
    assert curve(tmp_path / "many", spec) == pytest.approx(curve(tmp_path / "one", spec), rel=2e-5)


@pytest.mark.slow
def test_sigterm_to_torchrun_leaves_a_checkpoint(tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=8 * 16 * 3000, execution=Execution(threads=1, compile=False, checkpoint_every_seconds=0))
    store = tmp_path
    (store / "spec.json").write_text(spec.to_json())
    (store / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(store / "program.py"), str(store / "spec.json"), str(store), "-1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step 100\n" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    run = Store(store).run(spec)
    assert run.status == "unfinished"
    files = sorted(
        str(path.relative_to(run.directory / "checkpoints")) for path in run.directory.glob("checkpoints/*/*")
    )
    steps = [json.loads(line)["step"] for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    step = f"step-{max(steps):08d}"
    names = (".metadata", "__0_0.distcp", "__1_0.distcp", "checkpoint.json")  # both processes wrote theirs
    assert files == [f"{step}/{name}" for name in names]
