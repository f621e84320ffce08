"""kill -9 of the runner, a worker, its guardian, a command or its children in a study around a command."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.external.conftest import TRAIN, processes_with
from tests.external.test_study import STUDY, losses, run_study, written

SLOW = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-Sc', 'import time; time.sleep(60)', WORD])\n"
SLOW += "time.sleep(0.2)\n"


def test_kills_of_runner_worker_and_command_lose_nothing_and_leave_no_orphan(
    tally: Any, draw: random.Random, tmp_path: Path
) -> None:
    """20 kills of anything that a study around a command has started, at random moments."""
    word = f"kills-{os.getpid()}-{tmp_path.name}"
    code = f"WORD = {word!r}\n{SLOW}{TRAIN}".replace(
        "import json, sys", "import json, sys\nopen('starts', 'a').write(sys.argv[5] + '\\n')"
    )
    text = STUDY.replace("seeds = 3", "seeds = 48").replace('"train.py"', f'"{tmp_path}/study/train.py"')
    folder = written(tmp_path / "study", text + "\n[launcher]\nattempts = 50\n", code).parent
    calm = run_study(folder, str(tmp_path / "calm"))
    started = [sys.executable, "-m", "fairstep", "study", "run", str(folder / "study.toml")]
    started += ["--store", str(tmp_path / "wild"), "--json", "--workers", "2"]
    kills, seen, mark = 0, {}, str(tmp_path / "wild")

    def starts(identity: str) -> int:
        """How often the wild store's run was started."""
        lines = (folder / "starts").read_text().splitlines()
        return sum("/wild/" in line and identity in line for line in lines)

    while kills < 20:
        marked = os.environ | {"KILLED_BY_TEST": mark}
        runner = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=marked)
        while runner.poll() is None and kills < 20:
            end = time.monotonic() + 20  # a busy machine takes its time until there is something to kill
            while not processes_with(word) and runner.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.8))
            for identity, loss in losses(tmp_path / "wild").items():
                if loss is None:  # its command was killed, and is tried again
                    continue
                assert seen.setdefault(identity, (loss, starts(identity))) == (loss, starts(identity))
            names = ("fairstep.external", str(folder / "train.py"), word)  # workers and guardians, commands, children
            others = [pid for name in names for pid in processes_with(name) if _below(pid, mark)]
            mine = [runner.pid, *others]
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(draw.choice(mine), signal.SIGKILL)
                kills += 1
        runner.kill()
        runner.wait()
        if runner.returncode == 0:
            break
    time.sleep(0.5)
    wild = run_study(folder, str(tmp_path / "wild"))
    strip = ("failures", "seconds")
    assert [{k: v for k, v in row.items() if k not in strip} for row in wild] == [
        {k: v for k, v in row.items() if k not in strip} for row in calm
    ]
    assert losses(tmp_path / "wild") == losses(tmp_path / "calm")
    assert {identity: starts(identity) for identity in seen} == {identity: n for identity, (_, n) in seen.items()}
    assert kills == 20
    assert len(seen) > 3
    assert processes_with(word) == processes_with(str(folder / "train.py")) == []
    tally("kills of a study around a command", kills, kills, 0)


def _below(pid: int, mark: str) -> bool:
    """Whether the runner, or what it started, has started a process."""
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
