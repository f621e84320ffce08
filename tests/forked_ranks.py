"""Ranks that run a program together, as under torchrun, without an import of torch for each of them.

torchrun is an interpreter that imports torch, and so is each of its ranks: two seconds of a processor each, and three
for FSDP. Here ranks are forks of one process that has imported all that. They get the environment that torchrun gives,
and a store that outlives them, as its agent's does. ``test_parallel`` has runs under torchrun itself: one that ends,
one whose process dies, one that is told to stop.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
import traceback
from multiprocessing import connection
from pathlib import Path

import torch.distributed as dist

IMPORTED = [
    "fairstep.train.run",
    "fairstep.train.checkpoints.files",
    "fairstep.train.ranks.fsdp",
    "fairstep.optim.engine.engine",
    "torch.distributed.checkpoint.state_dict",
]
TOGETHER = multiprocessing.get_context("forkserver")
"""Its server belongs to this process: one for all tests of a worker."""
TOGETHER.set_forkserver_preload(IMPORTED)

GRACE = 20.0
"""Seconds that ranks have to end after one of them ended badly. torchrun's agent kills them after 30. Without it two
ranks that are left may wait for each other, because destroying a group of gloo waits for what it was asked before."""


def run_ranks(
    program: Path, arguments: list[str], size: int, output: Path | None = None, seconds: float = 120
) -> tuple[int, str]:
    """(0 if every rank ended well, else 1; what they all wrote). Raises TimeoutError if ranks run after the
    seconds and none of them ended badly.

    ``output``: the file that takes what they write, by default beside the program.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}
    output = output or program.with_suffix(".output")
    output.write_bytes(b"")
    ranks = []
    for rank in range(size):
        told = shared | {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in told.items()}
        ranks.append(TOGETHER.Process(target=_rank, args=(str(program), arguments, environment, str(output))))
        ranks[-1].start()
    until = time.monotonic() + seconds
    late, dying = ranks, False
    while late and time.monotonic() < until:
        connection.wait([process.sentinel for process in late], until - time.monotonic())
        late = [process for process in ranks if process.exitcode is None]
        if not dying and any(process.exitcode for process in ranks):
            until, dying = min(until, time.monotonic() + GRACE), True
    for process in late:
        process.kill()
        process.join()
    if late and not dying:
        raise TimeoutError(f"{len(late)} of {size} ranks still ran after {seconds:g} s: {output.read_text()[-3000:]}")
    return int(any(process.exitcode for process in ranks)), output.read_text()


def _rank(program: str, arguments: list[str], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.argv = [program, *arguments]
    try:
        runpy.run_path(program, run_name="__main__")
    except Exception:
        traceback.print_exc()
        sys.exit(1)
