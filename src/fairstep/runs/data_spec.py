"""DataSpec: the text of a run, by its content."""

from __future__ import annotations

from fairstep.runs.frozen import Frozen, Positive


class DataSpec(Frozen):
    """A prepared corpus, by the hash of its content."""

    name: str
    """Name of the text, for tables and pages."""
    fingerprint: str
    """Hash of the text, and of its tokenizer and validation share where these are not the default. With ``vocabulary``
    it names the prepared corpus."""
    vocabulary: Positive
    """Number of different tokens in the text."""
    source: tuple[str, ...] = ()
    """Files, globs or names that the text was prepared from on this machine. Not part of the identity."""
