"""A check of the conformance list: a function of a ``Subject`` that raises ``Wrong``. The functions: ``checks``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fairstep.optim.subject import Subject


class Wrong(Exception):
    """What an optimizer does that it should not, and the remedy, in words. ``harmless``: a contest here is not hurt."""

    def __init__(self, message: str, harmless: bool = False) -> None:
        super().__init__(message)
        self.harmless = harmless


@dataclass(frozen=True)
class Check:
    """``needed``: without it a contest here would be wrong or end in an error; the others matter in other loops."""

    name: str
    title: str
    function: Callable[[Subject], None]
    needed: bool


CHECKS: list[Check] = []


def check(title: str, needed: bool = True) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Add a function to the list."""

    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        CHECKS.append(Check(function.__name__, title, function, needed))
        return function

    return add
