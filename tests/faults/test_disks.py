"""A disk on which only so much fits (a limit of the file size, which needs no rights): a sentence, then the rest."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.train.test_resume import TOKENS, execution

from fairstep.runs import Run, Store, write_atomic
from fairstep.train import train

LIMITS = (100, 5_000, 20_000)


def trained(run: Run, limit: int) -> dict[str, Any]:
    """The last event of a worker whose files may have so many bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "fairstep.train", str(run.directory)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_run_is_finished_when_there_is_room(tally: Any, tiny: Any, tmp_path: Path) -> None:
    spec = tiny(tokens=TOKENS, execution=execution())
    whole, right = train(spec, Store(tmp_path / "whole")), 0
    for limit in LIMITS:
        store = Store(tmp_path / str(limit)).writable()
        run = store.run(spec)
        write_atomic(run.directory / "spec.json", spec.to_json())
        end = trained(run, limit)
        train(spec, store)
        same = (run.directory / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()
        right += end["status"] == "failed" and "File too large" in end["message"] and same
    tally("full disks", len(LIMITS), right, 0)
