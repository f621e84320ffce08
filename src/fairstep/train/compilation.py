"""torch.compile on this machine: whether it works, kernels that were cut, a C++ compiler that gets kernels wrong."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch


@functools.cache
def can_compile(device_type: str) -> bool:
    """Whether torch.compile works here: on a CPU it needs a C++ compiler and Python's headers, on CUDA triton."""
    if device_type == "cuda":
        return find_spec("triton") is not None
    if device_type != "cpu":
        return True
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return shutil.which(_cxx()) is not None and headers.exists()


def remove_damaged_kernel(error: Exception) -> bool:
    """Delete the compiled kernel that an error is about, if it is about one; it is then compiled again.

    A process that is killed while the C++ compiler writes leaves a cut file in torch's cache, which every later run
    that needs this kernel would stumble over. Says whether a file was deleted.
    """
    damage = r"(/\S+\.so): (?:file too short|invalid ELF header|ELF file's phentsize|cannot read file data)"
    found = re.search(damage, str(error))
    if found is None or not Path(found[1]).is_file():
        return False
    Path(found[1]).unlink()
    torch._dynamo.reset()
    return True


def compile_soundly() -> None:
    """Keep gcc from the pass that gets kernels of processors wrong that it does not know. Call before torch.compile.

    gcc 12.2 tunes for a Xeon of family 6, model 207, as "generic". Its vectoriser of straight-line code (SLP) then
    breaks the transposition of bfloat16 blocks in AVX-512, and the gradients of keys become NaN (docs/log.md,
    2026-11-30). Without that pass they are right, and kernels of torch are vectorised without it. An architecture that
    the user chose (``TORCHINDUCTOR_CPP_MARCH``) stays.
    """
    from torch._inductor import config  # loads what an uncompiled run does not need

    if config.cpp.march is None and _tunes_for_no_processor(_cxx()):
        config.cpp.march = "native -fno-tree-slp-vectorize"  # the only place where torch takes options


def _cxx() -> str:
    return os.environ.get("CXX") or "g++"


@functools.cache
def _tunes_for_no_processor(compiler: str) -> bool:
    """Whether it is a gcc that writes AVX-512 for this processor and does not know it."""
    try:
        command = [compiler, "-march=native", "-Q", "--help=target"]
        options = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):  # none, or another one, which does not know the question
        return False
    set_to = dict(re.findall(r"^\s+(-m[\w.-]+=?)\s+(\S+)$", options, re.MULTILINE))
    return set_to.get("-mavx512f") == "[enabled]" and set_to.get("-mtune=") == "generic"
