"""A verb's help: its options in groups, each with what it takes and what holds without it; examples one a line.

All of it is read off the dataclass of the options: its docstring, its fields with the strings below them, and
``groups``, which names the first field of every group. tyro parses what is typed, and has no groups without prefixes.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import shutil
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

KINDS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}
MOST_WIDTH = 110
COLUMN = 26
"""Where the words of an option begin."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One field. ``kind``: what its value is, or what each is; ``many``: it takes several; ``repeated``: by its flag
    before each. ``aliases``: other flags of it."""

    name: str
    words: str
    kind: Any
    many: bool
    repeated: bool
    positional: bool
    default: Any
    group: str
    aliases: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def once(self) -> bool:
        """Whether it is a list or a path, whose flag may be given once only."""
        return not self.positional and not self.repeated and (self.many or self.kind is Path)

    @property
    def takes(self) -> str:
        """The placeholder of its value."""
        if self.positional:
            return self.name.upper() + (" ..." if self.many else "")
        if get_origin(self.kind) is Literal:
            return "|".join(map(str, get_args(self.kind))) + (" ..." if self.many else "")
        return KINDS.get(self.kind, "TEXT") + (" ..." if self.many and not self.repeated else "")

    @property
    def head(self) -> str:
        """What is typed."""
        if self.positional:
            return self.takes
        if self.kind is bool:
            return f"{self.flag}, --no-{self.flag[2:]}" if self.default else self.flag
        return f"{self.flag} {self.takes}"

    @property
    def told(self) -> str:
        """What it means, with the default unless the words have it or there is none to tell."""
        empty = self.default in ("", (), None, False) or self.default is dataclasses.MISSING
        if empty or "Default:" in self.words:
            return self.words
        if self.kind is bool:
            return f"{self.words} [yes]"
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        return f"{self.words} [{' '.join(f'{one:g}' if isinstance(one, float) else str(one) for one in values)}]"


def options_of(kind: type, group: str = "options") -> Iterator[Option]:
    """The fields of a dataclass and of the dataclasses in it, in order. ``group``: until the dataclass names one."""
    words, hints = described(kind), get_type_hints(kind, include_extras=True)
    for one in dataclasses.fields(kind):
        group = getattr(kind, "groups", {}).get(one.name, group)
        hint: Any = hints[one.name]
        markers: tuple[Any, ...] = ()
        while get_origin(hint) is Annotated:
            hint, markers = get_args(hint)[0], (*markers, *hint.__metadata__)
        default = one.default_factory() if callable(one.default_factory) else one.default
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            for inner in options_of(hint, group):
                yield dataclasses.replace(inner, default=getattr(default, inner.name))
            continue
        many = get_origin(hint) is tuple
        hint = get_args(hint)[0] if many else hint
        yield Option(
            name=one.name,
            words=words.get(one.name, ""),
            kind=value_of(hint),
            many=many,
            repeated=tyro.conf.UseAppendAction in markers,
            positional=any("POSITIONAL" in repr(marker).upper() for marker in markers),
            default=default,
            group=group,
            aliases=tuple(alias for marker in markers for alias in getattr(marker, "aliases", None) or ()),
        )


def value_of(hint: Any) -> Any:
    """The type of a value that may also be missing; words beside another choice of words are one choice."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if all(get_origin(kind) is Literal for kind in kinds):
        return Literal[tuple(word for kind in kinds for word in get_args(kind))]
    return kinds[0]


def described(kind: type) -> dict[str, str]:
    """The string below each field, of the class and of those that it inherits from."""
    found: dict[str, str] = {}
    for one in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        body = _classes(one.__module__)[one.__name__]
        for place, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(place, ast.AnnAssign) and isinstance(place.target, ast.Name) and isinstance(text, ast.Expr):
                assert isinstance(text.value, ast.Constant)
                found[place.target.id] = " ".join(str(text.value.value).split())
    return found


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name: ``inspect`` would parse the module again for each of them."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def help_text(kind: type, verb: str) -> str:
    """What ``fairstep VERB --help`` prints."""
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH)
    options = list(options_of(kind))
    positional = [one for one in options if one.positional]
    named = [one.takes if one.default is dataclasses.MISSING else f"[{one.takes}]" for one in positional]
    lines = _wrapped(f"usage: fairstep {' '.join([verb, *named])} [OPTIONS]", width, hang=7)
    examples = []
    for part in (inspect.getdoc(kind) or "").split("\n\n"):
        found = re.findall(r"^Example: (.*)$", part, re.MULTILINE)
        examples += found
        lines += [] if found else ["", *_wrapped(" ".join(part.split()), width)]
    for group in dict.fromkeys(["", *(one.group for one in options)]):
        members = positional if not group else [one for one in options if one.group == group and not one.positional]
        lines += ["", *([f"{group}:"] if group else [])] if members else []
        for one in members:
            lines += _entry(one.head, one.told, width)
    lines += (
        ["", f"example{'s' if len(examples) > 1 else ''}:", *(f"  {line}" for line in examples)] if examples else []
    )
    return "\n".join(lines) + "\n"


def _entry(head: str, words: str, width: int) -> list[str]:
    """An option and its words beside it, or below it where it is long."""
    beside = len(head) <= COLUMN - 4
    first = f"  {head:{COLUMN - 4}}  " if beside else " " * COLUMN
    filled = _wrapped(words, width, len(first), COLUMN) if words else []
    lines = [first + filled[0][len(first) :], *filled[1:]] if filled else [first.rstrip()]
    above = [] if beside else _wrapped(head.replace("|", "| "), width, indent=2, hang=6)
    return [*(line.replace("| ", "|") for line in above), *lines]


def _wrapped(words: str, width: int, indent: int = 0, hang: int = 0) -> list[str]:
    return textwrap.wrap(
        words,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * hang,
        break_on_hyphens=False,
        break_long_words=False,
    )
