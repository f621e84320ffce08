"""A table once, in every form: HTML that sorts and filters, CSV, Markdown, LaTeX.

``Table.rows`` are flat values; what a reader sees of a value is ``shown``. Nothing in a cell is ever markup.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis.verdict.wording import DASH
from fairstep.report.markup import text

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """``key`` of the rows. ``number``: right-aligned, sorted by value. ``long``: words that wrap. ``show``: how a
    reader sees the value, by a format or a function; by default numbers have four digits."""

    key: str
    heading: str
    number: bool = False
    long: bool = False
    show: str | Callable[[Any], str] = ""

    def shown(self, row: Row) -> str:
        value = row.get(self.key)
        if value is None:
            return DASH if self.number else ""
        if callable(self.show):
            return self.show(value)
        return format(value, self.show or (".4g" if isinstance(value, float) else ""))


def numbers(show: str | Callable[[Any], str] = "", /, **headings: str) -> tuple[Column, ...]:
    """Columns of numbers that are shown alike. ``headings``: by key."""
    return tuple(Column(key, heading, number=True, show=show) for key, heading in headings.items())


@dataclass(frozen=True)
class Table:
    """``name`` is its id on the page and its file's name; ``filters``: columns with a choice of values above it."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    filters: tuple[str, ...] = ()

    def html(self) -> str:
        """The table in a region that scrolls by itself, with its filters."""
        heads = "".join(
            f'<th scope="col"{_kind(column)}><button type="button">{text(column.heading)}</button></th>'
            for column in self.columns
        )
        body = "".join(f"<tr{self._data(row)}>{self._cells(row)}</tr>" for row in self.rows)
        controls = filters(self.name, self.rows, self.filters) if self.filters else ""
        return controls + scroll(self.name, self.caption, heads, body)

    def csv(self) -> str:
        """Values, not rounded; an empty field is a value that is not known."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.key for column in self.columns])
        writer.writerows([[_safe(row.get(column.key)) for column in self.columns] for row in self.rows])
        return out.getvalue()

    def markdown(self) -> str:
        lines = [[column.heading for column in self.columns], ["---"] * len(self.columns)]
        lines += [[_pipe(column.shown(row)) for column in self.columns] for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def latex(self) -> str:
        """A booktabs tabular."""
        shape = "".join("r" if column.number else "p{7cm}" if column.long else "l" for column in self.columns)
        head = " & ".join(_tex(column.heading) for column in self.columns)
        body = "".join(" & ".join(_tex(column.shown(row)) for column in self.columns) + " \\\\\n" for row in self.rows)
        comment = _tex(self.caption)
        return (
            f"% {comment}\n\\begin{{tabular}}{{{shape}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n"
            "\\end{tabular}\n"
        )

    def _cells(self, row: Row) -> str:
        first, *others = self.columns
        cells = [f'<th scope="row">{text(first.shown(row))}</th>']
        for column in others:
            value = row.get(column.key)
            data = f' data-value="{text("" if value is None else value)}"' if column.number else ""
            cells.append(f"<td{_kind(column)}{data}>{text(column.shown(row))}</td>")
        return "".join(cells)

    def _data(self, row: Row) -> str:
        return "".join(f' data-{_attribute(key)}="{text(row.get(key, ""))}"' for key in self.filters)


def filters(table: str, rows: Sequence[Row], keys: Sequence[str], noun: str = "rows") -> str:
    """Controls that narrow a table: a choice for each key with several values, and a search."""
    choices = ""
    for key in keys:
        values = list(dict.fromkeys(str(row.get(key, "")) for row in rows))
        options = "".join(f'<option value="{text(value)}">{text(value)}</option>' for value in values)
        choices += (
            f'<label>{text(key.replace("_", " "))}<select data-filter="{_attribute(key)}">'
            f'<option value="">all</option>{options}</select></label>'
        )
    search = '<label>search<input type="search" data-filter="text" placeholder="any text"></label>'
    return (
        f'<form class="filters" data-for="{text(table)}" data-noun="{text(noun)}">{choices}{search}'
        '<output aria-live="polite"></output></form>'
    )


def scroll(name: str, caption: str, heads: str, body: str, kind: str = "") -> str:
    """A table in a region that a keyboard can reach and that scrolls sideways by itself."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">'
        f'<table id="{text(name)}" class="{text(kind or "plain")}"><caption class="unseen">{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _kind(column: Column) -> str:
    return ' class="number"' if column.number else ' class="long"' if column.long else ""


def _attribute(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.lower())


def _safe(value: Any) -> Any:
    """A field that a spreadsheet takes neither for a formula nor, by a control character in it, for several fields."""
    if not isinstance(value, str):
        return value
    plain = printable(value)
    return (
        f"'{plain}" if plain.lstrip()[:1] in ("=", "+", "-", "@") or (value != plain and not plain.strip()) else plain
    )


def printable(words: str) -> str:
    """With a blank for every control, line end and half of a character: for files that terminals and others read."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", " ", words)


def _pipe(words: str) -> str:
    return printable(words).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _tex(words: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
    special |= {
        "≥": r"$\ge$",
        "≤": r"$\le$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
    return "".join(special.get(letter, letter) for letter in printable(words))
