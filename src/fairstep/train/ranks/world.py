"""Several processes that train one run: who they are, each one's part of a batch, and what they say to each other.

``torchrun`` starts the processes and tells each its rank in the environment. Every rank computes the gradient of its
share of the global batch. ``exchange`` brings the ranks to one gradient and the same weights. The first rank alone
speaks. With one process all of this does nothing.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fairstep.train.ranks.started import rank_and_size

TIMEOUT = timedelta(seconds=float(os.environ.get("FAIRSTEP_RANK_SECONDS") or 120))
"""How long a rank waits for another, which is dead or stands still then, before it gives the run up."""

PATIENCE = timedelta(days=30)
"""How long the others wait while the first rank prepares a text, or waits itself."""


class RankError(RuntimeError):
    """Another rank died or could not be reached; the run can be continued. ``spokesman``: whether this process is the
    one of those left that should say so."""

    def __init__(self, message: str, spokesman: bool = True) -> None:
        super().__init__(message)
        self.spokesman = spokesman


@dataclass(frozen=True)
class World:
    """The processes of a run. ``rank`` is this one's number of ``size``, ``local`` its number on this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this rank writes and speaks for all."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """This rank's own accelerator where several share a machine."""
        return torch.device(f"{name}:{self.local}" if name == "cuda" and self.size > 1 else name)

    def check(self, batch_sequences: int, micro: int) -> int:
        """Sequences of this rank's micro-batches. Raises ValueError if the ranks cannot share the batch equally."""
        if batch_sequences % self.size:
            raise ValueError(
                f"the batch of {batch_sequences} sequences cannot be shared by {self.size} processes; "
                f"start a number of them that divides it"
            )
        share = batch_sequences // self.size
        if micro and share % micro:
            raise ValueError(
                f"micro_batch_sequences must divide the {share} sequences of each of {self.size} processes, not {micro}"
            )
        return micro or share

    def share(self, batch: Any) -> Any:
        """This rank's rows of the global batch, which does not depend on the number of ranks."""
        rows = len(batch) // self.size
        return batch[self.rank * rows : (self.rank + 1) * rows] if self.size > 1 else batch

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the ranks."""
        return self.total(value) / self.size if self.size > 1 else value

    def total(self, value: Tensor, largest: bool = False, /) -> Tensor:
        """The sum of a tensor over the ranks, or the largest of each element."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
        return value

    def agree(self, value: Any) -> Any:
        """The first rank's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def agree_later(self, value: Any) -> Any:
        """``agree``, where the first rank may come long after the others: they wait for its word in the store. A first
        rank that dies takes the store along."""
        if self.size == 1:
            return value
        store, key = dist.distributed_c10d._get_default_store(), f"fairstep/later/{next(_LATER)}"
        if self.first:
            store.set(key, json.dumps(value))
        else:
            store.wait([key], PATIENCE)
            value = json.loads(store.get(key))
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value on every rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def check_same(self, facts: dict[str, str], problem: str = "") -> None:
        """Raise one ValueError on every rank if the ranks' facts differ, or one of them has a problem."""
        values = self.gather((facts, problem))
        for rank, (_, said) in enumerate(values):
            if said:
                raise ValueError(f"process {rank} of {self.size} cannot begin: {said}")
        for rank, (others, _) in enumerate(values):
            for name, value in others.items():
                if value != values[0][0][name]:
                    raise ValueError(
                        f"the processes of a run must have the same {name}, but process {rank} has {value} and "
                        f"process 0 has {values[0][0][name]}"
                    )

    def highest(self, value: int, device: torch.device) -> int:
        """The largest of the ranks' values."""
        return int(self.total(torch.tensor(value, device=device), True).item())


_LATER = itertools.count()
ALONE = World()
"""One process."""


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """This process among those that torchrun started, or alone.

    Raises RankError with one sentence when another rank dies while this one waits for it.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield ALONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_initialized():  # by a caller, who also takes leave
        yield World(rank, size, local)
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield World(rank, size, local)
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        reason = re.sub(r"^\[[^]]*\] ", "", str(error).strip().splitlines()[0]).partition(". ")[0]
        raise RankError(
            f"another of the {size} processes of this run died, or was not heard of for {TIMEOUT.seconds} s "
            "(FAIRSTEP_RANK_SECONDS); the same command continues from the last checkpoint "
            f"({reason[:200]})",
            spokesman=_is_first_to_speak(),
        ) from None
    else:
        _leave()
        gc.collect()  # what still holds the group in a circle: its threads must end before the interpreter does
    finally:
        _leave()


def _leave() -> None:
    with contextlib.suppress(Exception):
        dist.destroy_process_group()


def _is_first_to_speak() -> bool:
    """The store belongs to torchrun's agent, which outlives its processes."""
    try:
        return bool(dist.distributed_c10d._get_default_store().add("fairstep/said", 1) == 1)
    except Exception:
        return True


def _is_lost_peer(error: RuntimeError) -> bool:
    text = str(error).lower()
    words = ("connection closed by peer", "connection reset", "gloo", "nccl", "timed out", "broken pipe", "socket")
    return isinstance(error, dist.DistBackendError | dist.DistNetworkError) or any(word in text for word in words)
