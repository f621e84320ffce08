"""What a page is made of: sections of text, figures and tables, in order."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairstep.report.markup import static, text
from fairstep.report.table import Table


@dataclass(frozen=True)
class Section:
    """``body`` is HTML in which everything from files is escaped; ``figures``: key -> Plotly JSON, drawn where the body
    has ``figure(key, ...)``; ``tables`` are what ``--export`` writes, shown or not."""

    key: str
    title: str
    body: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()

    def html(self) -> str:
        key = text(self.key)
        return (
            f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{text(self.title)}'
            f'<a class="anchor" href="#{key}" aria-label="Link to {text(self.title)}"></a></h2>\n'
            f"{self.body}\n</section>\n"
        )


@dataclass(frozen=True)
class Page:
    """``first`` is the headline; ``rest``, ``lede`` follow it, ``bar`` stands above; ``result`` is the JSON inside."""

    bar: str
    first: str
    rest: str
    lede: str
    sections: Sequence[Section]
    result: Any
    title: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        return {key: value for section in self.sections for key, value in section.figures.items()}

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections for table in section.tables]


def figure(key: str, label: str, caption: str) -> str:
    """The place of a figure. All three are text."""
    return (
        f'<figure id="figure-{text(key)}"><div class="plot" role="img" aria-label="{text(label)}"></div>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def command(line: str) -> str:
    """A command with a button that copies it."""
    return (
        f'<div class="command"><pre tabindex="0"><code>{text(line)}</code></pre>'
        '<button type="button" data-copy>copy</button></div>'
    )


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>"


def how(*commands: str) -> str:
    """Below a section: the commands that print its numbers."""
    items = " · ".join(f"<code>{text(line)}</code>" for line in commands)
    return f'<p class="how">The same numbers: {items}</p>'


def items(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def template(name: str, **values: str) -> str:
    """A file of ``static/`` with its placeholders filled; values are HTML."""
    return string.Template(static(name)).substitute(values)
