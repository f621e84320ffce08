"""From windows of tokens to what a model is asked: the next token, or for an encoder the masked ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairstep.data.masking import mask_windows
from fairstep.runs import AnyModelSpec

EVALUATION_SEED = 0
"""Seed of the masks of evaluation windows. It is the same in every run, so that all runs predict the same tokens."""


class Objective:
    """Inputs and targets, each (N, T), of windows (N, T + 1). ``first``: the place of the first window in the run, or
    in the evaluation set, on which masks depend."""

    def __init__(self, model: AnyModelSpec, device: torch.device, seed: int = EVALUATION_SEED) -> None:
        self.masked, self.vocabulary = model.masked, model.vocabulary
        self.device, self.seed = device, seed

    def __call__(self, windows: np.ndarray, first: int) -> tuple[Tensor, Tensor]:
        if not self.masked:
            tokens = torch.from_numpy(np.ascontiguousarray(windows)).to(self.device)
            return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        pair = mask_windows(windows, seed=self.seed, first=first, vocabulary=self.vocabulary)
        inputs, targets = (torch.from_numpy(array).to(self.device) for array in pair)
        return inputs, targets
