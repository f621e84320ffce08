"""The state of some parts of a fused matrix inside the state of their parameter.

``optimizer.state`` has one flat dict for a parameter, as torch's tools expect. Where its parts are of several sizes
("4:1:1"), the state m of the second size is "m/1" there. A member of a stack sees it as m.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

KEPT = "training_weights"
"""Name of a parameter's training weights in its state while it holds those to evaluate."""
OF_ALL_PARTS = ("step", KEPT)
"""What a parameter has once, whatever its parts."""


class PartEntry(MutableMapping[str, Any]):
    """The entry of the parts with this ``number``: what ``whole`` has of theirs, and what all parts share."""

    def __init__(self, whole: dict[str, Any], number: int) -> None:
        self.whole, self.number, self.suffix = whole, number, f"/{number}"

    def __getitem__(self, name: str) -> Any:
        return self.whole[self._key(name)]

    def __setitem__(self, name: str, value: Any) -> None:
        self.whole[self._key(name)] = value

    def __delitem__(self, name: str) -> None:
        del self.whole[self._key(name)]

    def __iter__(self) -> Iterator[str]:
        for key in list(self.whole):
            if key in OF_ALL_PARTS:
                yield key
            elif isinstance(key, str) and key.endswith(self.suffix):
                yield key.removesuffix(self.suffix)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _key(self, name: str) -> str:
        return name if name in OF_ALL_PARTS else name + self.suffix
