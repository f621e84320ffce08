"""``trainer_state.json`` of the Hugging Face Trainer: the evaluations of its ``log_history``.

A Trainer leaves one in every checkpoint. Of one run the last counts, and the others are parts of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairstep.imported.source import InputError, Source, frame_of, table

KIND = "Trainer state"
NAME = "trainer_state.json"


def claims(path: Path) -> bool:
    return path.name == NAME and path.is_file()


def read(path: Path) -> list[Source]:
    if later := _later(path):
        return [Source(path, KIND, notes=(f"{path} is an earlier state of the run that {later} ends.",))]
    state = _state(path)
    history = state.get("log_history")
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(history if isinstance(history, list) else [], 1):
        if not isinstance(entry, dict):
            raise InputError(f"{path}, entry {number} of log_history: an object is needed, not {entry!r}")
        # Learning rates are of the schedule's moment there, so only what is said of an evaluation is kept.
        kept = {key: value for key, value in entry.items() if key == "step" or "loss" in key or "tokens" in key}
        if any(key.startswith("eval_") and key.endswith("loss") for key in kept):
            rows.append(kept | {"planned_steps": state.get("max_steps"), "run": str(_run(path))})
    if not rows:
        raise InputError(f"{path} has no evaluation in its log_history; train with eval_strategy set to steps or epoch")
    return [table(path, KIND, frame_of(rows), log=True)]


def _run(path: Path) -> Path:
    """The folder of the run: the one that holds its checkpoints."""
    folder = path.parent
    return folder.parent if folder.name.startswith("checkpoint-") else folder


def _later(path: Path) -> Path | None:
    """A state of the same run with more steps; the run's own folder wins among equals."""
    others = [one for one in (_run(path) / NAME, *sorted(_run(path).glob(f"checkpoint-*/{NAME}"))) if one.is_file()]
    if len(others) < 2:
        return None
    last = max(others, key=lambda one: (_state(one).get("global_step") or 0, one.parent == _run(path)))
    return None if last == path else last


def _state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise InputError(f"{path} is no JSON object; the Trainer writes one")
    return state
