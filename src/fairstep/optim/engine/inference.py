"""State that is made under ``torch.inference_mode`` could never be changed again outside of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def outside_inference(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The method with inference mode switched off for as long as it runs."""

    @functools.wraps(method)
    def outside(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if not torch.is_inference_mode_enabled():
            return method(*arguments, **named)
        with torch.inference_mode(False):
            return method(*arguments, **named)

    return outside
