"""Masked-token batches for an encoder: which tokens of a window are hidden, a pure function of (seed, slot).

A window's slot is its place in the run (step x batch + row). Micro-batches and the number of processes do not enter.
As in BERT (arXiv 1810.04805, section 3.1), 15 % of the tokens are predicted. Of these, 80 % are replaced by the mask,
10 % by a random token, and 10 % stay. The counts are the same in every window, so the mean over micro-batches is the
mean over the batch.
"""

import numpy as np
from numpy.typing import NDArray

PREDICTED, REPLACED_BY_MASK, REPLACED_BY_RANDOM = 0.15, 0.8, 0.1

IGNORED = -100
"""Target of a token that is not predicted."""


def mask_windows(
    windows: NDArray[np.int64], *, seed: int, first: int, vocabulary: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and targets of an encoder, each (N, T), from windows (N, T + 1), whose last token is left out.

    The first window has slot ``first``. The mask is the last of ``vocabulary`` tokens, which no text has.
    """
    tokens = windows[:, :-1]
    count, length = tokens.shape
    raw = np.stack([np.random.Philox(key=[seed, first + row]).random_raw(2 * length) for row in range(count)])
    chosen = np.argsort(raw[:, :length], axis=1, kind="stable")[:, : max(1, round(PREDICTED * length))]
    originals = np.take_along_axis(tokens, chosen, 1)
    masked = round(REPLACED_BY_MASK * chosen.shape[1])
    random = round(REPLACED_BY_RANDOM * chosen.shape[1])
    replacement = originals.copy()
    replacement[:, :masked] = vocabulary - 1
    words = np.take_along_axis(raw[:, length:], chosen, 1) % np.uint64(vocabulary - 1)
    replacement[:, masked : masked + random] = words[:, masked : masked + random]
    inputs, targets = tokens.copy(), np.full_like(tokens, IGNORED)
    np.put_along_axis(inputs, chosen, replacement, 1)
    np.put_along_axis(targets, chosen, originals, 1)
    return inputs, targets
