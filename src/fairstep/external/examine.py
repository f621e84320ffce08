"""Is somebody else's trainer fit to be refereed? Checks on short runs, before any budget is spent.

Every check runs the trainer as a contest does. The runs of one call share a folder, in which the same run is carried
out again and again under other names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from fairstep.runs import CommandSpec, Run, Summary, Value, write_atomic

OTHER_SEED = 1
MOST_FILES = 20_000
"""Files of the trainer's folder that are watched for writes."""


@dataclass(frozen=True)
class Finding:
    """``check``: a short name. ``message``: what was found, or why it was skipped."""

    check: str
    title: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""


@dataclass
class Outcome:
    """One run of the trainer, and the seconds that it took."""

    run: Run
    summary: Summary | None
    hung: bool = False
    message: str = ""
    seconds: float = 0.0

    @property
    def loss(self) -> float | None:
        return None if self.summary is None else self.summary.final_loss

    @property
    def words(self) -> str:
        """What it came to, for people."""
        if self.loss is not None:
            return f"{self.loss!r}"
        return self.message or (self.summary.message if self.summary else "nothing")


class Trials:
    """Runs of specs in ``folder``; one that says nothing for ``patience`` seconds is stopped. A context manager, which
    ends its workers."""

    def __init__(self, folder: Path, patience: float) -> None:
        self.folder, self.patience, self.count = folder, patience, 0
        self._idle: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._idle:
            _end(worker)

    def of(self, *specs: CommandSpec) -> list[Outcome]:
        """Outcomes of runs beside one another."""
        while len(self._idle) < len(specs):
            self._idle.append(_worker())
        started = [self.start(spec) for spec in specs]
        return [self.outcome(run, worker) for run, worker in started]

    def start(self, spec: CommandSpec, run: Run | None = None) -> tuple[Run, subprocess.Popen[bytes]]:
        """A worker on a new run of the spec, or on an earlier one."""
        if run is None:
            self.count += 1
            run = Run(self.folder / f"{self.count:03}" / "runs" / spec.identity)
        write_atomic(run.directory / "spec.json", spec.to_json(), durable=False)
        worker = self._idle.pop() if self._idle else _worker()
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(str(run.directory.absolute())).encode() + b"\n")
        return run, worker

    def outcome(self, run: Run, worker: subprocess.Popen[bytes]) -> Outcome:
        """Wait for a worker, as long as it says anything. ``seconds`` count from its start on the run."""
        began = time.monotonic()
        message, text = "its worker died", b""
        assert worker.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            while selector.select(self.patience):
                if not (chunk := os.read(worker.stdout.fileno(), 65536)):
                    _end(worker)
                    return Outcome(run, run.summary, False, message)
                *lines, text = (text + chunk).split(b"\n")
                for event in map(json.loads, lines):
                    if event["event"] == "begin":
                        began = time.monotonic()
                    if event["event"] == "end":
                        self._idle.append(worker)
                        seconds = time.monotonic() - began
                        return Outcome(run, run.unchecked_summary, False, event["message"], seconds)
        _end(worker)
        message = f"it said nothing for {self.patience:g} s and was stopped"
        return Outcome(run, None, True, message, time.monotonic() - began)


def _worker() -> subprocess.Popen[bytes]:
    """One that is ready."""
    command = [sys.executable, "-m", "fairstep.external", "-"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert worker.stdout is not None
    worker.stdout.readline()
    return worker


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker; its guardian ends what it had started."""
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def examine(
    specs: Mapping[str, CommandSpec],
    searched: Mapping[str, Mapping[str, Sequence[Value]]],
    folder: Path,
    patience: float = 60.0,
) -> Iterator[Finding]:
    """``specs``: contestant -> a short run of it. ``searched``: contestant -> placeholder -> its values."""
    name, spec = next(iter(specs.items()))
    otherwise, twice = (spec.model_copy(update=one) for one in ({"seed": OTHER_SEED}, {"steps": 2 * spec.steps}))
    with Trials(folder, patience) as trials:
        before = _files(Path(spec.trainer.directory)) if spec.trainer.directory else None
        (first,) = trials.of(spec)
        yield _ends(first, patience)
        if first.loss is None:
            return
        after = _files(Path(spec.trainer.directory)) if before is not None else None
        yield _writes(before, after, folder)
        yield _left(first)
        yield _of_the_end(first, spec)
        (again,) = trials.of(spec)
        yield _repeats(first, again)
        (other,) = trials.of(otherwise)
        yield _different("seed", "another seed gives another loss", [(f"seed {OTHER_SEED}", other)], first)
        (longer,) = trials.of(twice)
        yield _different("budget", "a longer run gives another loss", [(f"{twice.steps} steps", longer)], first)
        yield from _values(trials, specs, searched, first, name)
        yield _beside(first, other, trials.of(spec, otherwise))
        yield _killed(trials, spec, first)


def fit(findings: Sequence[Finding]) -> bool:
    return all(finding.status != "failed" for finding in findings)


def _ends(first: Outcome, patience: float) -> Finding:
    title = "a trial ends with a loss"
    if first.loss is not None:
        return Finding("loss", title, "passed", f"{first.loss:g} after {first.seconds:.1f} s")
    if first.hung:
        wait = f"it hangs, or is silent for long: --patience {10 * patience:g} waits longer"
        return Finding("hang", title, "failed", f"{first.message}; {wait}")
    diverged = first.summary is not None and first.summary.status == "diverged"
    kind = "diverged" if diverged else "crash" if "exit code" in first.words or "raised" in first.words else "unread"
    return Finding(kind, title, "failed", first.words)


def _writes(before: dict[Path, Any] | None, after: dict[Path, Any] | None, folder: Path) -> Finding:
    title = "a trial writes into {out} alone"
    if before is None or after is None:
        return Finding("writes", title, "skipped", f"its folder has more than {MOST_FILES:,} files")
    inside = folder.absolute()
    changed = [path for path, facts in after.items() if before.get(path) != facts and inside not in path.parents]
    if not changed:
        return Finding("writes", title, "passed")
    listed = ", ".join(str(path) for path in sorted(changed)[:3])
    told = "two trials at once would write the same files; write to {out}"
    return Finding("writes", title, "failed", f"it wrote {listed}; {told}")


def _files(folder: Path) -> dict[Path, Any] | None:
    """Size and time of every file, caches of Python left out; None where there are too many."""
    found: dict[Path, Any] = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in ("__pycache__", ".git")]
        for name in names:
            place = Path(path, name).absolute()
            try:
                facts = place.stat()
            except OSError:
                continue
            found[place] = facts.st_size, facts.st_mtime_ns
        if len(found) > MOST_FILES:
            return None
    return found


def _left(first: Outcome) -> Finding:
    title = "no process outlives its trial"
    left = first.run.environment.get("processes_left_behind", 0)
    if not left:
        return Finding("processes", title, "passed")
    return Finding("processes", title, "failed", f"{left} process(es) were left behind and ended; wait for children")


def _of_the_end(first: Outcome, spec: CommandSpec) -> Finding:
    title = "the loss is of the end of training"
    at = first.run.environment.get("loss_step")
    if at is not None:
        told = f"it is of step {at} of {spec.steps}"
        return Finding("end", title, "passed" if at >= spec.steps - 1 else "failed", told)
    steps = [row["step"] for row in first.run.metrics() if row["kind"] == "train"]
    if len(steps) < 2:
        told = "neither the loss nor two lines of its output say a step; see progress in the study file"
        return Finding("end", title, "skipped", told)
    last, gap = max(steps), max(later - earlier for earlier, later in itertools.pairwise(steps))
    told = f"the last step that it printed is {last} of {spec.steps}"
    return Finding("end", title, "passed" if last + 2 * gap >= spec.steps else "failed", told)


def _repeats(first: Outcome, again: Outcome) -> Finding:
    check, title = "repeats", "the same seed gives the same loss"
    if first.loss == again.loss:
        return Finding(check, title, "passed", "to the bit")
    if first.loss is None or again.loss is None:
        return Finding(check, title, "failed", f"{first.words}, and again {again.words}")
    sigma = abs(first.loss - again.loss) / math.sqrt(2)
    told = f"{first.loss!r} and {again.loss!r}: sigma of a repetition is about {sigma:.2g} nats"
    small = sigma < 1e-3
    remedy = "" if small else "; make it deterministic, or seeds are not paired"
    return Finding(check, title, "passed" if small else "failed", told + remedy)


def _different(check: str, title: str, others: Sequence[tuple[str, Outcome]], first: Outcome) -> Finding:
    failed = [f"{name}: {one.words}" for name, one in others if one.summary is None or one.summary.status == "failed"]
    equal = [name for name, one in others if one.loss is not None and one.loss == first.loss]
    if failed:
        return Finding(check, title, "failed", "; ".join(failed))
    if equal:
        told = f"the loss is {first.loss!r} with {', '.join(equal)} as well: the trainer does not use it"
        return Finding(check, title, "failed", told)
    return Finding(check, title, "passed", "; ".join(f"{name}: {one.words}" for name, one in others))


def _values(
    trials: Trials,
    specs: Mapping[str, CommandSpec],
    searched: Mapping[str, Mapping[str, Sequence[Value]]],
    first: Outcome,
    done: str,
) -> Iterator[Finding]:
    """Every contestant can begin, and each value that it searches changes its loss."""
    bases = {done: first}
    for name, spec in specs.items():
        if name not in bases:
            (bases[name],) = trials.of(spec)
        title = f"every placeholder that {name} searches changes its loss"
        if (base := bases[name]).loss is None:
            yield Finding("values", title, "failed", base.words)
            continue
        others = []
        for key, values in searched.get(name, {}).items():
            value = next((one for one in reversed(values) if one != spec.settings.get(key)), None)
            if value is not None:
                (outcome,) = trials.of(spec.model_copy(update={"settings": {**spec.settings, key: value}}))
                others.append((f"{key}={value}", outcome))
        if others:
            yield _different("values", title, others, base)
    losses = {name: one.loss for name, one in bases.items() if one.loss is not None}
    if len(losses) > 1:
        title = "contestants have different losses"
        same = [name for name in losses if name != done and losses[name] == losses.get(done)]
        told = f"{', '.join(same)} has the loss of {done}: do its values reach the trainer?"
        yield Finding("contestants", title, "failed" if same else "passed", told if same else "")


def _beside(first: Outcome, other: Outcome, beside: Sequence[Outcome]) -> Finding:
    title = "two trials side by side do not disturb one another"
    changed = [
        f"{alone.words} alone, {one.words} beside another"
        for alone, one in zip((first, other), beside, strict=True)
        if not _close(alone.loss, one.loss)
    ]
    told = "; ".join(changed) + "; do they share a file or a port?" if changed else ""
    return Finding("beside", title, "failed" if changed else "passed", told)


def _close(a: float | None, b: float | None) -> bool:
    """Equal, or within what threads may change."""
    return a == b or (a is not None and b is not None and abs(a - b) < 1e-3)


def _killed(trials: Trials, spec: CommandSpec, first: Outcome) -> Finding:
    title = "a killed trial starts again or resumes"
    run, worker = trials.start(spec)
    time.sleep(first.seconds / 2)
    _end(worker)
    if run.summary is not None:
        return Finding("killed", title, "skipped", "it ended before it could be killed; try longer runs with --part 1")
    outcome = trials.outcome(*trials.start(spec, run))
    if _close(outcome.loss, first.loss):
        return Finding("killed", title, "passed", f"killed after {first.seconds / 2:.1f} s; then the same loss")
    return Finding("killed", title, "failed", f"killed after {first.seconds / 2:.1f} s; then {outcome.words}")
