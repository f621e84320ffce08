"""What torchrun tells a process in its environment, read without torch."""

from __future__ import annotations

import os


def rank_and_size() -> tuple[int, int]:
    """This process's number in its run, and how many processes the run has. Alone unless both are told.

    Raises ValueError for what is no number.
    """
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if not all(told):
        return 0, 1
    if not all(text.isdecimal() for text in told):
        raise ValueError(f"RANK and WORLD_SIZE in the environment must be numbers, not {told[0]!r} and {told[1]!r}")
    rank, size = map(int, told)
    return (rank, size) if size > 1 else (0, 1)


def speaks() -> bool:
    """Whether this process speaks for all of its run."""
    return rank_and_size()[0] == 0
