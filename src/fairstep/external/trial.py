"""A trial of somebody else's trainer from its spec to its summary.

``carry_out`` is idempotent: a run with a result is left as it is, and two workers of one run carry it out once. An
attempt that was killed begins again, in an empty {out}, or in the one that it left where the trainer resumes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shlex
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import fairstep
from fairstep.external import call, command, losses
from fairstep.external.guardian import VARIABLE, Guardian, attempt_at, end_all
from fairstep.external.output import Output, TrialError
from fairstep.runs import CommandSpec, Run, Summary, machine, open_own, write_atomic
from fairstep.runs.command_spec import code_hash

Event = dict[str, Any]
ROWS = 1000
"""Training losses that are kept of a run, about."""
EVERY = 0.1
"""Seconds between two words of progress."""
WORD_EVERY = 5.0
"""Seconds between two words that something was printed."""
LARGEST_LOSS = 2.0**63
"""In nats per token; from here on a run has diverged, as with infinity, and no summary can have its loss."""


def carry_out(
    run: Run,
    say: Callable[[Event], object] = lambda event: None,
    guardian: Guardian | None = None,
    function: Callable[..., Any] | None = None,
) -> Summary:
    """The outcome of a run, whose directory holds its spec. ``function``: the trainer, if it is in this process.

    A command needs a guardian. Raises SpecError and OSError for a directory that cannot be read or written; whatever
    the trainer does wrong is a failed outcome with a sentence.
    """
    spec = run.spec
    if not isinstance(spec, CommandSpec):
        raise ValueError(f"run {run.id} is one of fairstep's own trainer; python -m fairstep.train carries it out")
    with run.hold(lambda: say({"event": "waiting", "run": run.id, "note": "another worker"})):
        summary = run.summary
        if summary is not None and summary.status != "failed":
            return summary
        for name in ("summary.json", "error.txt", "metrics.jsonl"):
            (run.directory / name).unlink(missing_ok=True)
        attempt = _Attempt(run, spec, say, guardian, function)
        summary = attempt.summary()
        attempt.close()
        if summary.status == "failed":
            run.write_error(attempt.said())
        run.write_summary(run.sealed(summary))
    return summary


class _Attempt:
    def __init__(
        self,
        run: Run,
        spec: CommandSpec,
        say: Callable[[Event], object],
        guardian: Guardian | None,
        function: Callable[..., Any] | None,
    ) -> None:
        self.run, self.spec, self.say, self.guardian, self.function = run, spec, say, guardian, function
        self.mark = attempt_at(str(run.directory.absolute()))
        self.out = run.directory.absolute() / "out"
        if guardian is not None:
            end_all(f"{run.directory.absolute()}#")  # what a killed worker left, if nothing ended it yet
        if self.out.exists() and not spec.trainer.resume:
            shutil.rmtree(self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.metrics: IO[str] = open_own(run.directory / "metrics.jsonl")
        self.output = Output(run.directory / "output.log", spec.trainer.progress, spec.trainer.loss.pattern, self.hear)
        self.began = self.spoke = time.perf_counter()
        self.next_row, self.rows = 0, 0
        self.lock = threading.Lock()  # a callable prints and yields
        self.trace = ""
        self.facts: dict[str, Any] = {}
        """What was found out on the way, for env.json."""

    def close(self) -> None:
        self.output.close()
        self.metrics.close()

    def said(self) -> str:
        """The trainer's last lines, and the traceback of a callable."""
        return "\n".join([*self.output.last, self.trace]).strip() + "\n"

    def summary(self) -> Summary:
        seconds = 0.0
        try:
            self._check_code()
            if self.spec.trainer.call:
                loss, evaluations = self._called()
            else:
                loss, evaluations = self._commanded()
            seconds = time.perf_counter() - self.began
        except TrialError as error:
            return Summary(status="failed", message=self._with_words(str(error)))
        if not -math.inf < loss < LARGEST_LOSS:
            step = min(self.output.latest[0], self.spec.steps) if self.output.latest else self.spec.steps
            tokens = step * self.spec.batch_tokens
            told = f"its loss became {loss}"
            return Summary(status="diverged", steps=step, tokens=tokens, train_seconds=seconds, message=told)
        if loss <= 0:
            return Summary(
                status="failed", message=f"its final loss is {loss:g}; a verdict needs one above 0, in nats per token"
            )
        if evaluations:
            self.facts["loss_step"] = evaluations[-1][0]
        self._environment()
        for step, value in evaluations:
            if step < self.spec.steps and math.isfinite(value):
                self._row("evaluation", step, value)
        self._row("evaluation", self.spec.steps, loss)
        return Summary(
            status="done", final_loss=loss, steps=self.spec.steps, tokens=self.spec.tokens, train_seconds=seconds
        )

    def _check_code(self) -> None:
        trainer = self.spec.trainer
        try:
            now = code_hash(Path(trainer.directory), trainer.files) if trainer.files else trainer.code
        except OSError as error:
            raise TrialError(f"its code cannot be read: {error.filename} ({error.strerror})") from None
        if now != trainer.code:
            raise TrialError(
                f"its code ({', '.join(trainer.files)}) has changed since the study was read; "
                "start the study again, whose runs are then of another workload"
            )

    # A command.

    def _commanded(self) -> losses.Found:
        if self.guardian is None:
            raise TrialError("a command needs a worker of its own")
        argv = command.argv_of(self.spec, self.out)
        write_atomic(self.run.directory / "command.txt", shlex.join(argv) + "\n", durable=False)
        self._environment()
        before = losses.stamp(self.spec, self.out)
        code, left = command.run(argv, self.spec.trainer.directory, self.mark, self.output, self.guardian)
        self.output.close()
        self.facts |= {"processes_left_behind": left} if left else {}
        if code:
            if code > 0 and (found := self._diverged(before)):
                return found
            raise TrialError(f"its command {_end_of(code)}")
        return losses.read(self.spec, self.out, self.output, before)

    def _diverged(self, before: losses.Stamp) -> losses.Found | None:
        """A loss that is no number any more, which a trainer may end for."""
        with contextlib.suppress(TrialError):
            loss, evaluations = losses.read(self.spec, self.out, self.output, before)
            if not math.isfinite(loss):
                return loss, evaluations
        if self.output.latest is not None and not math.isfinite(self.output.latest[1]):
            return self.output.latest[1], []
        return None

    # A callable.

    def _called(self) -> losses.Found:
        self._environment()
        os.environ[VARIABLE] = self.mark  # of what it starts
        alone = self.function is None
        if self.guardian is not None:
            self.guardian.watch(self.mark)
        try:
            with call.printed_to(self.output) if alone else contextlib.redirect_stdout(call.Printed(self.output)):
                return self._loss_of_call()
        except TrialError:
            raise
        except (Exception, SystemExit) as error:  # a trainer of its own would end with it, and this process goes on
            self.trace = traceback.format_exc()
            text = str(error).strip().splitlines()
            raise TrialError(f"it raised {type(error).__name__}" + (f": {text[0]}" if text else "")) from None
        finally:
            del os.environ[VARIABLE]
            if self.guardian is not None:
                end_all(self.mark)
                self.guardian.watch("")

    def _loss_of_call(self) -> losses.Found:
        trainer = self.spec.trainer
        function = self.function or call.load(trainer.call, trainer.directory)
        value = function(**call.arguments_of(function, self.spec, self.out))
        return losses.returned(value, trainer.loss.key or "loss", self.hear)

    # What is heard on the way.

    def hear(self, seen: tuple[int, float] | None) -> None:
        """Words of the trainer: a step and its loss, or something else."""
        with self.lock:
            self._hear(seen)

    def _hear(self, seen: tuple[int, float] | None) -> None:
        now = time.perf_counter()
        if seen is None:
            if now - self.spoke >= WORD_EVERY:
                self.spoke = now
                self.say({"event": "note", "run": self.run.id, "note": ""})
            return
        step, loss = seen
        self.output.latest = seen
        if self.next_row <= step <= self.spec.steps and self.rows < 2 * ROWS and math.isfinite(loss):
            self._row("train", step, loss)
            self.next_row, self.rows = step + max(1, self.spec.steps // ROWS), self.rows + 1
        if now - self.spoke >= EVERY and math.isfinite(loss):
            self.spoke = now
            rate = step * self.spec.batch_tokens / (now - self.began)
            progress = {"step": min(step, self.spec.steps), "steps": self.spec.steps, "loss": loss}
            self.say({"event": "progress", "run": self.run.id, **progress, "tokens_per_second": rate})

    def _row(self, kind: str, step: int, loss: float) -> None:
        row = {"kind": kind, "step": step, "tokens": step * self.spec.batch_tokens, "loss": loss}
        self.metrics.write(json.dumps(row) + "\n")
        self.metrics.flush()

    def _environment(self) -> None:
        here = machine()
        facts: dict[str, Any] = {
            "fairstep": fairstep.__version__,
            "trainer": self.spec.trainer.name,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": here.processor,
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        }
        write_atomic(self.run.directory / "env.json", json.dumps(facts | self.facts, indent=1), durable=False)

    def _with_words(self, sentence: str) -> str:
        words = self.output.words()
        return f"{sentence} (output: {self.run.directory / 'output.log'})" + (f": {words}" if words else "")


def _end_of(code: int) -> str:
    """How a process ended, by its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by signal {-code} ({signal.strsignal(-code) or 'unknown'}{hint})"
