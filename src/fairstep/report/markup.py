"""The three ways in which a value enters the page: as text, as data, and as a label inside a figure.

Names, messages and commands come from files that anyone may have written, so none of them is ever markup or code.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

PALETTE = ("#1f78c8", "#d9791a", "#1a9c78", "#c25f9f", "#4aa8dc", "#cf4a22", "#9a8f12", "#8167cf")
"""Hues of Okabe and Ito (Color Universal Design, 2008), set to a lightness that reads on white and on near-black."""

BASELINE_COLOUR = "#878d96"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "hexagon")


def text(value: object) -> str:
    """Safe between tags and inside quoted attributes."""
    return html.escape(str(value), quote=True)


def label(value: object) -> str:
    """Safe inside a figure: Plotly draws a few tags in labels, and reads these three entities."""
    return html.escape(str(value), quote=False)


def script_json(value: Any) -> str:
    """JSON that no parser of HTML can read as the end of its script element."""
    data = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def static(name: str) -> str:
    return (files("fairstep.report") / "static" / name).read_text(encoding="utf-8")


def colours(contestants: tuple[str, ...], baseline: str) -> dict[str, str]:
    """One colour for each contestant in every figure; the baseline is grey."""
    others = [name for name in contestants if name != baseline]
    return {baseline: BASELINE_COLOUR} | {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(others)}


def symbols(contestants: tuple[str, ...]) -> dict[str, str]:
    """A marker for each contestant, so that colour is never the only difference."""
    return {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(contestants)}
