"""Our docstrings, which are plain text with ``code``, lists and indented equations, as Markdown and for autodoc."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """("words", paragraph) and ("lines", an indented block as it is), in order."""
    lines: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if not line.strip():
            if lines and lines[-1][0] == "lines":
                lines[-1][1].append("")
            else:
                lines.append(("gap", []))
            continue
        kind = (
            "lines" if line.startswith(("    ", "\t", ">>>", "... ")) or re.match(r"^\w+/\S*\s{3,}", line) else "words"
        )
        if lines and lines[-1][0] == kind and not (kind == "words" and line.startswith(("* ", "- "))):
            lines[-1][1].append(line)
        else:
            lines.append((kind, [line]))
    for kind, body in lines:
        if kind == "lines":
            yield kind, textwrap.dedent("\n".join(body)).strip("\n")
        elif kind == "words":
            yield kind, " ".join(line.strip() for line in body)


def markdown(text: str) -> str:
    """A docstring as Markdown."""
    parts = []
    for kind, body in blocks(text):
        if kind == "lines":
            parts.append(code_block(body))
        else:
            parts.append(escaped(body))
    return "\n\n".join(parts)


def restructure(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """For autodoc: the same docstring as reStructuredText that cannot be misread."""
    text: list[str] = []
    for kind, body in blocks("\n".join(lines)):
        if kind == "lines":
            text += ["::", "", *textwrap.indent(body, "    ").splitlines(), ""]
        else:
            bullet = "* " if body.startswith(("* ", "- ")) else ""
            pieces = re.split(r"(``.+?``)", body.removeprefix("* ").removeprefix("- "))
            safe = "".join(p if n % 2 else re.sub(r"([\\*_|`])", r"\\\1", p) for n, p in enumerate(pieces))
            text += [bullet + safe, ""]
    lines[:] = text


def escaped(text: str) -> str:
    """Words for a Markdown page or cell: code stays code, an address becomes a link, nothing else is markup."""
    bullet = "* " if text.startswith("* ") else ""
    safe = ""
    for piece in re.split(r"(``.+?``|`[^`]+`|https?://[^\s,)]*[^\s,).;])", " ".join(text.removeprefix("* ").split())):
        if piece.startswith("`"):
            safe += "`" + piece.strip("`").replace("|", "or") + "`"
        elif piece.startswith("http"):
            safe += f"<{piece}>"
        else:
            safe += re.sub(r"([\\*_$|~\[\]#`<{}])", r"\\\1", piece)
    return bullet + safe


def code_cell(text: str) -> str:
    """Code in a cell."""
    return f"`{text.replace('|', 'or')}`" if text else ""


def code_block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"
