"""Optimizers that do something beside optimizing, each in one way: SGD otherwise."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

print("an import that prints")


class Plain(torch.optim.Optimizer):
    """``act`` is called in each step."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])
        self.act()

    def act(self) -> None:
        pass


class Prints(Plain):
    """With Python, with the system, with C."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, lr)
        print("[Prints] using a fused kernel")

    def act(self) -> None:
        print("a step\n", end="")
        print('{"event": "end", "run": "made up", "status": "done"}')
        os.write(1, b"\xff\xfe not text\n")
        ctypes.CDLL(None).puts(b"from C")


class PrintsMuch(Prints):
    def act(self) -> None:
        super().act()
        if self.steps == 3:
            os.write(1, b"0123456789abcde\n" * 655_360)


class Reads(Plain):
    def act(self) -> None:
        if self.steps == 5:
            input()


class Raises(Plain):
    def act(self) -> None:
        if self.steps == 5:
            raise RuntimeError("kernel assert")


class Exits(Plain):
    def act(self) -> None:
        if self.steps == 5:
            sys.exit("bye")


class ExitsAtOnce(Plain):
    def act(self) -> None:
        if self.steps == 5:
            os._exit(0)


class Crashes(Plain):
    def act(self) -> None:
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGSEGV)


class Sleeps(Plain):
    def act(self) -> None:
        if self.steps == 15:
            time.sleep(3600)


class Leaks(Plain):
    kept: ClassVar[list[torch.Tensor]] = []

    def act(self) -> None:
        self.kept.append(torch.ones(2**20))  # 4 MiB


class Forks(Plain):
    def act(self) -> None:
        if self.steps == 5:
            os.fork()


class ForksAndStays(Plain):
    def act(self) -> None:
        if self.steps == 5 and os.fork() == 0:
            time.sleep(3600)


class DefaultDtype(Plain):
    def act(self) -> None:
        torch.set_default_dtype(torch.float64)


class PatchedLoss(Plain):
    def act(self) -> None:
        if self.steps == 1:
            whole = F.cross_entropy
            F.cross_entropy = lambda *a, **k: 0.999 * whole(*a, **k)


class NoMkldnn(Plain):
    def act(self) -> None:
        torch.backends.mkldnn.enabled = False


class NoGradients(Plain):
    def act(self) -> None:
        if self.steps == 25:
            torch.set_grad_enabled(False)


class OtherDevice(Plain):
    def act(self) -> None:
        if self.steps == 25:
            torch.set_default_device("meta")


class Moves(Plain):
    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, lr)
        os.chdir("/")
        os.environ["FAIRSTEP_CACHE"] = "/nowhere"
        os.environ["WORLD_SIZE"] = "7"


class ChangesMuch(Moves):
    """What is global in every way that lets a run go on."""

    kept: ClassVar[list[torch.Tensor]] = []

    def act(self) -> None:
        for kind in (DefaultDtype, PatchedLoss, NoMkldnn, NoGradients, OtherDevice, Leaks):
            kind.act(self)  # type: ignore[arg-type]
