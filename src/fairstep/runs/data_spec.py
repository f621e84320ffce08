"""DataSpec: the text of a run, by its content."""

from __future__ import annotations

from fairstep.runs.frozen import Frozen, Positive


class DataSpec(Frozen):
    """The text by content: the fingerprint is the identity, ``source`` only says where it was found."""

    name: str
    fingerprint: str
    vocabulary: Positive
    source: tuple[str, ...] = ()
