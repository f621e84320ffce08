"""The three ways in which a value enters the page: as text, as data, and as a label inside a figure.

Names, messages and commands come from files that anyone may have written, so none of them is ever markup or code.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any


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
