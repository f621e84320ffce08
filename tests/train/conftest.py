"""The small corpus, the tiny runs and the runs that die, for this room's tests."""

from tests.train.interruption import half, shared, undisturbed
from tests.training import cache, corpus, tiny

__all__ = ["cache", "corpus", "half", "shared", "tiny", "undisturbed"]
