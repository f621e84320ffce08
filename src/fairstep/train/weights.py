"""What a model is made of, beside its parameters; and weights as safetensors files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from torch import Tensor, nn


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all, that whoever may read new files here may read. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_suffix(".unfinished")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files of its own that only their owner may read
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, SafetensorError) and (number := re.search(r"os error (\d+)", str(error))):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise


def kept_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The live buffers that a model says are part of its state. No buffer of ours lasts longer than a step."""
    state = model.state_dict()
    return {name: buffer.detach() for name, buffer in model.named_buffers() if name in state}
