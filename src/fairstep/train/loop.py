"""One run while it is carried out: when to train, evaluate, record, save and stop."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fairstep.model.shapes import flops_per_token
from fairstep.runs import Run, RunSpec, Summary, write_atomic
from fairstep.train.checkpoint import Checkpoints, save_weights
from fairstep.train.measure import median, peak_memory, reset_peak_memory
from fairstep.train.parallel import ALONE, World
from fairstep.train.rate import matmul_rate
from fairstep.train.setup import environment
from fairstep.train.step import Trainer
from fairstep.train.stopping import Stopped, StopRequest
from fairstep.train.tracking import Recorder

LOG_EVERY = 10
"""Steps between rows of metrics.jsonl; each row holds means since the last."""

DIVERGED_ABOVE = 2.0
"""Nats above ln(vocabulary), the loss of a uniform guess, at which a run counts as diverged."""


@dataclass(frozen=True)
class Progress:
    """What a running training says of itself after every logged step. ``loss`` is nats per token.

    ``note`` is a sentence for the user (a checkpoint that could not be read), empty as a rule.
    """

    run: str
    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    note: str = ""


class Training:
    """One run while it is carried out: when to train, evaluate, record and save. What it trains is a ``Trainer``."""

    def __init__(
        self,
        spec: RunSpec,
        run: Run,
        progress: Callable[[Progress], None] | None = None,
        world: World = ALONE,
        stop: StopRequest | None = None,
    ) -> None:
        self.spec, self.run, self.progress, self.world = spec, run, progress, world
        self.stop = stop or StopRequest()
        self.recorder = Recorder(run, spec, active=world.first)
        self.trainer = Trainer(spec, world)
        self.device = self.trainer.device
        execution = spec.execution
        self.checkpoints = Checkpoints(
            run.directory / "checkpoints", execution.keep_checkpoints, execution.asynchronous, world
        )
        self.sizes: dict[str, Any] = {}
        self.validation_losses: dict[str, float | None] = {}
        rate = matmul_rate(self.device, spec.precision) if world.first else math.inf
        self.utilisation = flops_per_token(self.trainer.model.config) / rate / world.size  # at one token a second
        self.memory_before = reset_peak_memory(self.device)
        # What a checkpoint holds beside the trainer:
        self.done = 0  # steps taken
        self.window: list[tuple[float, float]] = []  # (loss, gradient norm) of the steps since the last row
        self.clipped = 0
        self.seconds_before = self.evaluation_seconds = 0.0
        self.began = self.saved = time.perf_counter()

    def carry_out(self) -> Summary:
        """From the step that ``resume`` came to, to the end."""
        spec = self.spec
        limit = math.log(spec.model.vocabulary) + DIVERGED_ABOVE
        while self.done < spec.steps:
            logged = (self.done + 1) % LOG_EVERY == 0 or self.done + 1 == spec.steps
            loss, norm, self.sizes = self.trainer.step(self.done, measure=logged)
            self.window.append((loss, norm))
            self.done += 1
            if not math.isfinite(loss):
                return self._summary("diverged", f"the training loss became {loss} at step {self.done}")
            if logged:
                mean = self._log_window()
                if mean > limit:
                    return self._summary("diverged", f"the loss rose to {mean:.2f} by step {self.done}")
            if self.done % spec.evaluation.every_steps == 0 and self.done < spec.steps:
                self._evaluate(self.trainer.windows)
            self._keep()
        final_loss = self._evaluate(self.trainer.final_windows)
        if not math.isfinite(final_loss):
            return self._summary("diverged", f"the final loss is {final_loss}")
        for name, windows in self.trainer.further_windows.items():
            self.validation_losses[name] = self._evaluate(windows, f"evaluation of {name}")
        if spec.execution.save_weights:
            with self.trainer.evaluation_weights():
                weights = self.trainer.exchange.weights()
                if self.world.first:
                    save_weights(self.run.directory / "weights.safetensors", weights)
        return self._summary("done", final_loss=final_loss)

    def _evaluate(self, windows: Any, kind: str = "evaluation") -> float:
        began = time.perf_counter()
        loss = self.trainer.evaluate(windows)
        self.evaluation_seconds += time.perf_counter() - began
        self._log(kind, loss=loss, windows=len(windows))
        return loss

    def _log_window(self) -> float:
        """A row for the steps since the last one; returns their mean loss."""
        losses, norms = zip(*self.window, strict=True)
        self.window = []
        mean, clip = statistics.fmean(losses), self.spec.clip_norm
        clipped = sum(norm > clip for norm in norms) if clip else 0
        self.clipped += clipped
        row = {"gradient_norm": statistics.fmean(norms), "gradient_norm_max": max(norms)}
        row |= {"clipped": clipped / len(norms), "lr": self.trainer.optimizer.param_groups[0]["lr"], **self.sizes}
        self._log("train", loss=mean, **row)
        times = self.trainer.watch.take()
        if times:
            rate = times["tokens_per_second"] = self.spec.batch_tokens / times["step_seconds"]
            times["utilisation"] = rate * self.utilisation
        self.recorder.write("timings", {"step": self.done, **times, "peak_memory_bytes": peak_memory(self.device)})
        self.say(loss=mean)
        return mean

    def _log(self, kind: str, **values: Any) -> None:
        self.recorder.write(
            "metrics", {"kind": kind, "step": self.done, "tokens": self.done * self.spec.batch_tokens, **values}
        )

    def say(self, note: str = "", loss: float = math.nan) -> None:
        """Tell whoever watches."""
        if self.progress and self.world.first:
            elapsed = self._elapsed()
            rate = self.done * self.spec.batch_tokens / elapsed
            left = elapsed / max(self.done, 1) * (self.spec.steps - self.done)
            self.progress(Progress(self.run.id, self.done, self.spec.steps, loss, rate, left, note))

    def _elapsed(self) -> float:
        """Seconds of all the work that the present state rests on."""
        return self.seconds_before + time.perf_counter() - self.began

    def _keep(self) -> None:
        """Write a checkpoint when one is due, and stop when that was asked for."""
        execution, every = self.spec.execution, self.spec.execution.checkpoint_every_steps
        number = self.stop.number
        late = bool(execution.checkpoint_every_seconds) and (
            time.perf_counter() - self.saved >= execution.checkpoint_every_seconds
        )
        if self.world.size > 1:  # all must decide alike, and may ask each other on logged steps only
            asked = self.done % LOG_EVERY == 0
            number = self.world.highest(number, self.device) if asked else 0
            late = bool(self.world.highest(late, self.device)) if asked else False
        if number or late or (every and self.done % every == 0):
            self.save()
        if number:
            self.checkpoints.wait()
            self.say(f"stopped at step {self.done}; the same command continues from there")
            raise Stopped(number)

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        facts = {
            "run": self.run.id,
            "window": list(self.window),  # a thread may write it while it grows
            "clipped": self.clipped,
            "seconds": self._elapsed(),
            "evaluation_seconds": self.evaluation_seconds,
        }
        if self.world.first:
            facts["files"] = self.recorder.sync()
        self.checkpoints.save(self.done, self.trainer.state_dict(), facts)
        self.saved = time.perf_counter()

    def resume(self) -> None:
        """Take up the newest checkpoint that can be used, or begin; in either case the files are ready afterwards."""
        notes: list[str] = []
        chosen = self.checkpoints.newest(self._accept, notes)
        if chosen:
            path, facts = chosen
            self.trainer.load_state_dict(self.checkpoints.load(path, self.trainer.room))
            self.done, self.clipped = facts["step"], facts["clipped"]
            self.window = [(loss, norm) for loss, norm in facts["window"]]
            self.seconds_before, self.evaluation_seconds = facts["seconds"], facts["evaluation_seconds"]
        elif self.world.first:
            self.recorder.rewind({})
        if self.world.first:
            self._record_start(notes)

    def _accept(self, facts: dict[str, Any]) -> None:
        """Cut the files back to where a checkpoint was made. Raises ValueError if it is not of this run or of them."""
        if facts["run"] != self.run.id:
            raise ValueError(f"it is of another run, {facts['run']}")
        self.recorder.rewind(facts["files"])

    def _record_start(self, notes: list[str]) -> None:
        """env.json: this machine, and every start of the run with what was wrong with its checkpoints."""
        start = {"step": self.done, "at": datetime.now(UTC).isoformat(timespec="seconds"), "notes": notes}
        starts = [*self.run.environment.get("starts", []), start]
        facts = environment(self.spec, self.device, self.trainer.compiled) | {
            "processes": self.world.size,
            "parallel": self.trainer.exchange.mode if self.world.size > 1 else "",
            "memory_before_bytes": self.memory_before,
            "starts": starts,
        }
        write_atomic(self.run.directory / "env.json", json.dumps(facts, indent=1))
        for note in notes:
            self.say(f"{note}; going on from step {self.done}")

    def _summary(self, status: Any, message: str = "", final_loss: float | None = None) -> Summary:
        self.recorder.sync()
        timings = self.run.timings()
        seconds = median(timings, "step_seconds")
        matrices = sum(
            p.numel() for name, p in self.trainer.model.named_parameters() if name.startswith("blocks") and p.ndim >= 2
        )
        return Summary(
            status=status,
            final_loss=final_loss,
            validation_losses=self.validation_losses,
            bits_per_byte=None if final_loss is None else final_loss / math.log(2) / self.trainer.bytes_per_token,
            steps=self.done,
            tokens=self.done * self.spec.batch_tokens,
            train_seconds=self._elapsed(),
            step_seconds=seconds,
            optimizer_seconds=median(timings, "optimizer_seconds"),
            data_seconds=median(timings, "data_seconds"),
            evaluation_seconds=self.evaluation_seconds,
            tokens_per_second=self.spec.batch_tokens / seconds if seconds else 0.0,
            utilisation=self.spec.batch_tokens / seconds * self.utilisation if seconds else None,
            clip_fraction=self.clipped / max(self.done, 1),
            peak_memory_bytes=max((row["peak_memory_bytes"] for row in timings), default=peak_memory(self.device)),
            state_bytes=self.trainer.exchange.state_bytes(),
            parameters=sum(p.numel() for p in self.trainer.model.parameters()),
            parameters_matrix=matrices,
            message=message,
        )
