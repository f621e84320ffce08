"""Random damage and valid edits of a store's files, from a seed: what a store must notice by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("spec.json", "summary.json", "metrics.jsonl", "timings.jsonl", "env.json")


def files(store: Path) -> list[Path]:
    """Every file of runs and ledgers, in order."""
    return sorted(path for path in store.rglob("*") if path.name in NAMES or path.parent.name == "ledgers")


def mutate(store: Path, seed: int) -> tuple[Path, bytes, str]:
    """Change one file; the file, what it was, and what was done to it, with the seed."""
    draw = random.Random(f"mutation {seed}")
    path = draw.choice([path for path in files(store) if path.is_file()])
    before = path.read_bytes()
    edits: tuple[Callable[..., bytes], ...] = (flipped, cut, inserted, edited, edited, edited)
    edit = draw.choice(edits)
    try:
        after = edit(before, draw)
    except ValueError:  # lines of JSON have no one value to edit
        edit, after = flipped, flipped(before, draw)
    path.write_bytes(after)
    return path, before, f"seed {seed}: {path.relative_to(store)} {edit.__name__}"


def flipped(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def inserted(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([draw.choice(b'0123456789"{}[],.-e ')]) + data[place:]


def edited(data: bytes, draw: random.Random) -> bytes:
    """Valid JSON with one value changed."""
    value = json.loads(data)
    leaves = list(_leaves(value))
    owner, key = draw.choice(leaves)
    old = owner[key]
    choices: list[Any] = [0, -1, 1, 1e308, 10**30, "adamw", "done", None, True, [], {}]
    if isinstance(old, bool):
        choices.append(not old)
    elif isinstance(old, int | float):
        choices += [old + 1, old - 1, old * 10, old / 3, -old]
    elif isinstance(old, str):
        choices += [old + "x", old[1:], "muon", "final", "diverged"]
    owner[key] = draw.choice([choice for choice in choices if choice != old])
    return json.dumps(value).encode()


def _leaves(value: Any) -> Any:
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], dict | list) and value[key]:
            yield from _leaves(value[key])
        else:
            yield value, key
