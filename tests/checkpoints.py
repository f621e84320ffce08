"""Optimizer state through torch.distributed.checkpoint, for any number of ranks, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp

from fairstep.optim.engine import state
from fairstep.train.checkpoints import files


def write(folder: Path, states: Sequence[dict[str, Any]]) -> None:
    """Files of several ranks with these state dicts of an optimizer: what ``dcp.save`` does on them."""
    saved = [{"optimizer": own | {"param_groups": tuple(own["param_groups"])}} for own in states]
    planners = [dcp.DefaultSavePlanner() for _ in saved]
    writers = [dcp.FileSystemWriter(folder) for _ in saved]
    plans = []
    for rank, (own, planner, writer) in enumerate(zip(saved, planners, writers, strict=True)):
        planner.set_up_planner(own, is_coordinator=rank == 0)
        writer.set_up_storage_writer(rank == 0)
        plans.append(writer.prepare_local_plan(planner.create_local_plan()))
    plans, metadata = planners[0].create_global_plan(plans)
    plans = writers[0].prepare_global_plan(plans)
    results = [
        w.write_data(p.finish_plan(plan), p).value() for w, p, plan in zip(writers, planners, plans, strict=True)
    ]
    writers[0].storage_meta = lambda: None  # type: ignore[method-assign]
    writers[0].finish(metadata, results)


def read(folder: Path, optimizer: Any) -> None:
    """Have an optimizer take up its part, as a rank does."""
    room = state.allocate_like(optimizer, files.described(folder)["optimizer"])
    files.fill(folder, {"optimizer": room}, None)
    optimizer.load_state_dict(room)
