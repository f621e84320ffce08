"""Newton-Schulz in bfloat16 beside float32 on one thread, in processor time: what ``ns_dtype`` costs at each size.

python benchmarks/newton_schulz_dtypes.py
"""

from __future__ import annotations

import time
from functools import partial

import torch

from fairstep.optim.maths.newton_schulz import newton_schulz

STACKS = [(4, 48, 48), (8, 64, 64), (8, 128, 128), (8, 128, 352), (6, 256, 256), (4, 512, 512), (1, 1024, 1024)]


def fastest(dtype: str, x: torch.Tensor, repeats: int = 7) -> float:
    """Milliseconds of the fastest of several calls."""
    call, times = partial(newton_schulz, x, dtype=dtype), []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def main() -> None:
    torch.set_num_threads(1)
    for shape in STACKS:
        single, half = (fastest(dtype, torch.randn(shape)) for dtype in ("float32", "bfloat16"))
        print(
            f"{' x '.join(map(str, shape)):>16}  float32 {single:8.2f} ms  bfloat16 {half:8.2f} ms  {half / single:.2f}"
        )


if __name__ == "__main__":
    main()
