"""One run: RunSpec in, run directory out. A function of its spec, to the bit on one machine and software."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

import fairstep
from fairstep.data import open_corpus
from fairstep.runs import Run, RunSpec, Store, Summary, write_atomic
from fairstep.train.checkpoints.checkpoint import UnreadableCheckpoint
from fairstep.train.compilation import remove_damaged_kernel
from fairstep.train.forks import not_in_children
from fairstep.train.loop import Progress, Training
from fairstep.train.ranks.world import World, joined
from fairstep.train.setup import out_of_memory
from fairstep.train.stopping import stop_requests


def train(spec: RunSpec, store: Store, progress: Callable[[Progress], None] | None = None) -> Run:
    """Train to the end of the schedule and return the run. A finished run is returned as it is.

    A diverged run stops early and is a result. One that runs out of memory is failed. Two processes that start the same
    run train it once: the second waits for the first. An unfinished run (killed) goes on from its newest checkpoint
    and gives the same curve. Under torchrun all processes train the one run together.

    Raises DataError when the corpus is missing, ValueError for hyperparameters outside their domain and for processes
    that do not fit together, OSError when the store cannot be written, Stopped (an exit) after a signal, RankError when
    another process of the run died.
    """
    with joined() as world:
        _check_ranks(spec, world)
        run = store.writable().run(spec) if world.first else store.run(spec)
        run.directory.mkdir(parents=True, exist_ok=True)
        note = "another process trains this run; waiting for it"
        waits = Progress(run.id, 0, spec.steps, math.nan, 0.0, 0.0, note, waiting=True)
        with _locked(run, world, lambda: progress(waits) if progress else None):
            if not world.agree_later(run.finished):
                _train_and_summarise(spec, run, progress, world)
        world.agree(None)  # no process leaves before the summary is written
    return run


def _check_ranks(spec: RunSpec, world: World) -> None:
    """Raise ValueError, on every rank alike, if they would not train the same run."""
    if world.size == 1:
        return
    problem = ""
    try:
        open_corpus(spec.data.fingerprint, spec.data.vocabulary)
    except (ValueError, OSError) as error:
        problem = str(error)
    facts = {
        "data": f"{spec.data.name} ({spec.data.fingerprint})",
        "run": spec.identity,
        "version of fairstep": fairstep.__version__,
        "version of torch": torch.__version__,
    }
    options = spec.execution.model_dump(exclude={"device", "threads"})
    world.check_same(facts | {f"option {name}": str(value) for name, value in options.items()}, problem)


def _train_and_summarise(
    spec: RunSpec,
    run: Run,
    progress: Callable[[Progress], None] | None,
    world: World,
    refused: Mapping[str, str] = {},
) -> None:
    """``refused``: checkpoints that are not to be taken up, and why."""
    if world.first:
        write_atomic(run.directory / "spec.json", spec.to_json())
        for name in ("summary.json", "error.txt"):
            (run.directory / name).unlink(missing_ok=True)
    try:
        with stop_requests() as stop:
            training = Training(spec, run, progress, world, stop, refused)
            try:
                training.resume()
                summary = training.train_to_end()
            finally:
                training.checkpoints.join()
                training.recorder.close()
    except UnreadableCheckpoint as error:
        return _train_and_summarise(spec, run, progress, world, {**refused, error.name: str(error)})
    except Exception as error:
        if remove_damaged_kernel(error):
            return _train_and_summarise(spec, run, progress, world, refused)
        message = out_of_memory(error, spec)
        if message is None:
            raise
        if world.first:
            run.write_error(traceback.format_exc())
        summary = Summary(status="failed", message=message)
    if world.first:
        run.write_summary(run.sealed(summary))
        if summary.status != "failed":
            training.checkpoints.clear()


@contextmanager
def _locked(run: Run, world: World, wait: Callable[[], object]) -> Iterator[None]:
    """The first rank holds the run's lock for all."""
    if not world.first:
        yield
        return
    with run.hold(wait) as file, not_in_children(file.fileno()):
        yield
