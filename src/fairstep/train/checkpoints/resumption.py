"""A resumption in small: from one model and optimizer to another through a checkpoint's files, as a run goes on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from fairstep.train.checkpoints import content
from fairstep.train.checkpoints.checkpoint import Checkpoints
from fairstep.train.ranks.world import ALONE

Pair = tuple[nn.Module, torch.optim.Optimizer]


def resume(name: str, saved: Pair, fresh: Pair) -> None:
    """Take ``fresh`` to where ``saved`` is. ``name``: the optimizer's. Raises ValueError if that cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        checkpoints.save(1, content.dump(*saved, name, ALONE), {})
        (path,) = checkpoints.paths()
        content.load(*fresh, name, checkpoints.load(path, lambda described: content.allocate_like(*fresh, described)))
