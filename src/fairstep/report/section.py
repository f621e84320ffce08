"""What a page is made of: sections of text, figures and tables, in order."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.report.markup import static, text
from fairstep.report.table import Table


@dataclass(frozen=True)
class Figure:
    """Plotly's JSON, drawn at its place in a section. Key, label and caption are text."""

    key: str
    label: str
    caption: str
    drawing: Any

    def html(self) -> str:
        return (
            f'<figure id="figure-{text(self.key)}"><div class="plot" role="img" aria-label="{text(self.label)}"></div>'
            f"<figcaption>{text(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Section:
    """``parts`` in order; a string is HTML in which everything from files is escaped. ``exported``: tables that
    ``--export`` writes and that a part shows in another form. A page leaves out a section without parts."""

    key: str
    title: str
    parts: Sequence[Part] = ()
    exported: tuple[Table, ...] = ()

    @property
    def body(self) -> str:
        return "".join(part if isinstance(part, str) else part.html() for part in self.parts)

    @property
    def figures(self) -> dict[str, Any]:
        return {part.key: part.drawing for part in self._inside() if isinstance(part, Figure)}

    @property
    def tables(self) -> list[Table]:
        return [part for part in self._inside() if isinstance(part, Table)]

    def _inside(self) -> Iterator[Table | Figure]:
        """All figures and tables, of sections in it too."""
        yield from self.exported
        for part in self.parts:
            if isinstance(part, Section):
                yield from part._inside()
            elif not isinstance(part, str):
                yield part

    def html(self) -> str:
        key = text(self.key)
        return (
            f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{text(self.title)}'
            f'<a class="anchor" href="#{key}" aria-label="Link to {text(self.title)}"></a></h2>\n'
            f"{self.body}\n</section>\n"
        )


Part = str | Table | Figure | Section


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
        return {key: drawing for section in self.sections for key, drawing in section.figures.items()}

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections for table in section.tables]


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
