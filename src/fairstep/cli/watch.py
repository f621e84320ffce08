"""The progress of a contest on the terminal: one bar for all of it, a line for each running trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import TaskID, TaskProgressColumn, TextColumn

from fairstep.cli import screen
from fairstep.study import State


@contextmanager
def watching() -> Iterator[Callable[[State], None]]:
    """Yield the function that a contest's runner calls. Where there is no terminal it says a line a minute instead."""
    began, last_said = time.monotonic(), 0.0
    with screen.progress(TaskProgressColumn(), TextColumn("{task.fields[note]}")) as bar:
        total = bar.add_task("contest", total=1, note="starting")
        rows: dict[str, TaskID] = {}

        def show(state: State) -> None:
            nonlocal last_said
            elapsed = time.monotonic() - began
            note = f"{state.trials_done} of {state.trials_total} trials known so far{time_left(state, elapsed)}"
            bar.update(total, completed=state.steps_done, total=state.steps_total or 1, note=note)
            for identity in list(rows):
                if identity not in state.running:
                    bar.remove_task(rows.pop(identity))
            for identity, event in state.running.items():
                if identity not in rows:
                    _, trial = state.plan.roles(identity)[0]
                    title = f"  {trial.contestant} {trial.phase}"
                    rows[identity] = bar.add_task(title, total=event["steps"], note="")
                if "loss" in event:
                    rate = f"{event['tokens_per_second'] / 1e3:.1f}k tokens/s"
                    bar.update(rows[identity], completed=event["step"], note=f"loss {event['loss']:.3f}, {rate}")
            if not screen.errors.is_terminal and elapsed - last_said >= 60:
                last_said = elapsed
                screen.say(f"{elapsed:.0f} s: {note}")

        yield show


def time_left(state: State, elapsed: float) -> str:
    """From the steps that this call has trained; later phases that are not known yet are not counted."""
    if state.steps_spent < 20 or not state.running:
        return ""
    seconds = elapsed / state.steps_spent * (state.steps_total - state.steps_done)
    return f", about {seconds / 60:.1f} min left of them" if seconds >= 60 else f", about {seconds:.0f} s left of them"
