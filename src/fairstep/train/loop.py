"""One run from its first step to its summary: when to train, evaluate, record, save and stop."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fairstep.model.facts import flops_per_token
from fairstep.runs import Run, RunSpec, Summary, write_atomic
from fairstep.train.checkpoints.checkpoint import Checkpoints, save_weights
from fairstep.train.forks import end_if_forked
from fairstep.train.measure import Predecessors, machine_load, median, peak_memory, reset_peak_memory
from fairstep.train.meters import Meters, checked
from fairstep.train.ranks.world import World
from fairstep.train.rate import matmul_rate
from fairstep.train.setup import environment
from fairstep.train.step import Trainer
from fairstep.train.stopping import Stopped, StopRequest
from fairstep.train.tracking import Recorder

LOG_EVERY = 10
"""Steps between rows of metrics.jsonl; each row holds means since the last."""


@dataclass(frozen=True)
class Progress:
    """What a running training says of itself after every logged step. ``loss`` is nats per token.

    ``note`` is a sentence for the user (a checkpoint that could not be read), empty as a rule. ``waiting``: nothing is
    trained for a while, and that is no fault of the run.
    """

    run: str
    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float
    note: str = ""
    waiting: bool = False


class Training:
    """When a run trains, evaluates, records and saves. ``trainer`` is what it trains, ``meters`` what it counts."""

    def __init__(
        self,
        spec: RunSpec,
        run: Run,
        progress: Callable[[Progress], None] | None,
        world: World,
        stop: StopRequest,
        refused: Mapping[str, str],
    ) -> None:
        self.spec, self.run, self.progress, self.world, self.stop = spec, run, progress, world, stop
        self.refused = refused
        self.process = os.getpid()
        self.predecessors = Predecessors(run.id)
        self.recorder = Recorder(run, spec, active=world.first)
        self.trainer = Trainer(spec, world)
        execution = spec.execution
        self.checkpoints = Checkpoints(
            run.directory / "checkpoints", execution.keep_checkpoints, execution.asynchronous, world
        )
        rate = matmul_rate(self.trainer.device, spec.precision) if world.first else math.inf
        self.utilisation = flops_per_token(spec.model) / rate / world.size  # at one token a second
        self.memory_before = reset_peak_memory(self.trainer.device)
        self.steps_done = 0
        self.meters = Meters()
        self.saved = time.perf_counter()

    def train_to_end(self) -> Summary:
        """From the step that ``resume`` came to, to the end."""
        spec = self.spec
        limit = spec.highest_loss
        while self.steps_done < spec.steps:
            logged = (self.steps_done + 1) % LOG_EVERY == 0 or self.steps_done + 1 == spec.steps
            loss, norm, sizes = self.trainer.step(self.steps_done, measure=logged)
            end_if_forked(self.process)
            self.meters.window.append((loss, norm))
            self.steps_done += 1
            if not math.isfinite(loss):
                return self._summary("diverged", f"the training loss became {loss} at step {self.steps_done}")
            if not math.isfinite(norm):
                return self._summary("diverged", f"the gradient's norm became {norm} at step {self.steps_done}")
            if logged:
                mean = self._log_window(sizes)
                if mean > limit:
                    return self._summary("diverged", f"the loss rose to {mean:.2f} by step {self.steps_done}")
            if self.steps_done % spec.evaluation.every_steps == 0 and self.steps_done < spec.steps:
                self._evaluate(self.trainer.windows)
            self.save_or_stop()
        final_loss = self._evaluate(self.trainer.final_windows)
        if not final_loss <= limit:  # nan too
            return self._summary("diverged", f"the final loss is {final_loss}")
        validation_losses: dict[str, float | None] = {
            name: self._evaluate(windows, f"evaluation of {name}")
            for name, windows in self.trainer.further_windows.items()
        }
        if spec.execution.save_weights:
            with self.trainer.evaluation_weights():
                weights = self.trainer.exchange.weights()
                if self.world.first:
                    save_weights(self.run.directory / "weights.safetensors", weights)
        return self._summary("done", final_loss=final_loss, validation_losses=validation_losses)

    def _evaluate(self, windows: Any, kind: str = "evaluation") -> float:
        began = time.perf_counter()
        loss = self.trainer.evaluate(windows)
        self.meters.evaluation_seconds += time.perf_counter() - began
        self._log(kind, loss=loss, windows=len(windows))
        return loss

    def _log_window(self, sizes: dict[str, Any]) -> float:
        """A row for the steps since the last one; returns their mean loss, in nats per token."""
        means = self.meters.take_window(self.spec.clip_norm)
        self._log("train", **means, **self.trainer.rates(), **sizes)
        times = self.trainer.watch.take()
        if times:
            rate = times["tokens_per_second"] = self.spec.batch_tokens / times["step_seconds"]
            times["utilisation"] = rate * self.utilisation
        memory = {"peak_memory_bytes": peak_memory(self.trainer.device), **machine_load()}
        self.recorder.write("timings", {"step": self.steps_done, **times, **memory})
        self.say(loss=means["loss"])
        return means["loss"]

    def _log(self, kind: str, **values: Any) -> None:
        self.recorder.write(
            "metrics",
            {"kind": kind, "step": self.steps_done, "tokens": self.steps_done * self.spec.batch_tokens, **values},
        )

    def say(self, note: str = "", loss: float = math.nan) -> None:
        """Tell whoever watches."""
        if self.progress and self.world.first:
            elapsed = self.meters.elapsed()
            rate = self.steps_done * self.spec.batch_tokens / elapsed
            left = elapsed / max(self.steps_done, 1) * (self.spec.steps - self.steps_done)
            self.progress(Progress(self.run.id, self.steps_done, self.spec.steps, loss, rate, left, note))

    def save_or_stop(self) -> None:
        """Write a checkpoint when one is due, and stop when that was asked for."""
        execution, every = self.spec.execution, self.spec.execution.checkpoint_every_steps
        number = self.stop.number
        late = bool(execution.checkpoint_every_seconds) and (
            time.perf_counter() - self.saved >= execution.checkpoint_every_seconds
        )
        if self.world.size > 1:  # all must decide alike, and may ask each other on logged steps only
            asked = self.steps_done % LOG_EVERY == 0
            number = self.world.highest(number, self.trainer.device) if asked else 0
            late = bool(self.world.highest(late, self.trainer.device)) if asked else False
        if number or late or (every and self.steps_done % every == 0):
            self.save()
        if number:
            self.checkpoints.wait()
            self.say(f"stopped at step {self.steps_done}; the same command continues from there")
            raise Stopped(number)

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        facts = {"run": self.run.id, **self.meters.facts()}
        if self.world.first:
            facts |= {"files": self.recorder.sync(), "digests": self.recorder.digests()}
        self.checkpoints.save(self.steps_done, self.trainer.state_dict(), facts)
        self.saved = time.perf_counter()

    def resume(self) -> None:
        """Take up the newest checkpoint that can be used, or begin; in either case the files are ready afterwards.

        Raises UnreadableCheckpoint for one that turned out to be of no use when weights were read already.
        """
        notes: list[str] = []
        chosen = self.checkpoints.newest(self._accept, notes, self.refused)
        if chosen:
            path, facts = chosen
            self.checkpoints.take_up(path, self.trainer.allocate_like, self.trainer.load_state_dict)
            self.steps_done = facts["step"]
            self.meters.restore(facts)
        elif self.world.first:
            self.recorder.rewind({})
        if self.world.first:
            self.recorder.sync()
            if not self.recorder.durable:
                notes.append("the file system cannot be asked to keep what is written, so a power cut may cost a run")
            self._record_start(notes)

    def _accept(self, facts: dict[str, Any]) -> None:
        """Cut the files back to where a checkpoint was made. Raises ValueError if it is not of this run or of them."""
        if facts.get("run") != self.run.id:
            raise ValueError(f"it is of another run, {facts.get('run')!r:.20}")
        known = checked(facts)
        step, losses = facts["step"], len(known.window)
        if step > self.spec.steps or losses != (0 if step == self.spec.steps else step % LOG_EVERY):
            raise ValueError(f"its {losses} losses are not the last ones of step {step}")
        self.recorder.rewind(known.files, known.digests)

    def _record_start(self, notes: list[str]) -> None:
        """env.json: this machine, and every start of the run with what was wrong with its checkpoints."""
        start = {"step": self.steps_done, "at": datetime.now(UTC).isoformat(timespec="seconds"), "notes": notes}
        starts = [*self.run.environment.get("starts", []), start]
        facts = environment(self.spec, self.trainer.device, self.trainer.compiled) | {
            "processes": self.world.size,
            "parallel": self.trainer.exchange.mode if self.world.size > 1 else "",
            "memory_before_bytes": self.memory_before,
            "runs_before": self.predecessors.count,
            "durable": self.recorder.durable,
            "starts": starts,
        }
        write_atomic(self.run.directory / "env.json", json.dumps(facts, indent=1))
        for note in notes:
            self.say(f"{note}; going on from step {self.steps_done}")

    def _summary(
        self,
        status: Literal["done", "diverged"],
        message: str = "",
        final_loss: float | None = None,
        validation_losses: dict[str, float | None] | None = None,
    ) -> Summary:
        self.recorder.sync()
        timings = self.run.timings()
        seconds = median(timings, "step_seconds")
        roles = self.trainer.sizes.roles
        total = sum(p.numel() for p in self.trainer.model.parameters())
        matrices = sum(p.numel() for role in ("matrix", "expert", "router") for p in roles.get(role, ())) or total
        return Summary(
            status=status,
            final_loss=final_loss,
            validation_losses=validation_losses or {},
            bits_per_byte=None if final_loss is None else final_loss / math.log(2) / self.trainer.bytes_per_token,
            steps=self.steps_done,
            tokens=self.steps_done * self.spec.batch_tokens,
            train_seconds=self.meters.elapsed(),
            step_seconds=seconds,
            optimizer_seconds=median(timings, "optimizer_seconds"),
            data_seconds=median(timings, "data_seconds"),
            evaluation_seconds=self.meters.evaluation_seconds,
            tokens_per_second=self.spec.batch_tokens / seconds if seconds else 0.0,
            utilisation=self.spec.batch_tokens / seconds * self.utilisation if seconds else None,
            clip_fraction=self.meters.clipped / max(self.steps_done, 1),
            peak_memory_bytes=self.predecessors.own_peak(
                max((row["peak_memory_bytes"] for row in timings), default=peak_memory(self.trainer.device))
            ),
            state_bytes=self.trainer.exchange.state_bytes(),
            parameters=total,
            parameters_matrix=matrices,
            message=message,
        )
