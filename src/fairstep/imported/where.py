"""Conditions on rows, such as ``lr == 0.003 and name != 'old'``: read as Python's grammar, never run as Python.

A number is compared with a column as numbers, a text as text; ``'old' in name`` looks for a part of a text. A name that
is no identifier goes in backticks.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from fairstep.imported.source import InputError, near_or_all

COMPARE: dict[type, Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Where:
    """A condition. ``names``: the columns that it reads."""

    def __init__(self, text: str) -> None:
        self.text, self.quoted = text, dict[str, str]()

        def keep(match: re.Match[str]) -> str:
            self.quoted[f"quoted_{len(self.quoted)}"] = match[1]
            return f"quoted_{len(self.quoted) - 1}"

        try:
            self.tree = ast.parse(re.sub(r"`([^`]+)`", keep, text), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self.wrong() from None
        found = (self.name(node) for node in ast.walk(self.tree) if isinstance(node, ast.Name))
        self.names = tuple(dict.fromkeys(name for name in found if name not in ("None", "null")))

    def wrong(self) -> InputError:
        return InputError(
            f"--where takes a condition such as \"lr == 0.003 and name != 'old'\" (==, !=, <, <=, >, >=, in, and, or, "
            f"not; other names in backticks), not {self.text[:80]!r}"
        )

    def name(self, node: ast.Name) -> str:
        return self.quoted.get(node.id, node.id)

    def expression(self, columns: Iterable[str]) -> pl.Expr:
        """Of a frame with these columns. Raises InputError for another one."""
        known, made = list(columns), self._of(self.tree)
        for name in self.names:
            if name not in known:
                hint = near_or_all(name, known, "columns")
                raise InputError(f"--where names the column {name!r}, which is not there; {hint}")
        return made

    def _of(self, node: ast.expr) -> pl.Expr:
        if isinstance(node, ast.BoolOp):
            parts = [self._of(value) for value in node.values]
            return pl.all_horizontal(parts) if isinstance(node.op, ast.And) else pl.any_horizontal(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self._of(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [self._compared(*pair) for pair in zip(sides, node.ops, sides[1:], strict=False)]
            return pl.all_horizontal(parts)
        raise self.wrong()

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pl.Expr:
        if isinstance(op, ast.In | ast.NotIn) and isinstance(left, ast.Constant) and isinstance(right, ast.Name):
            text = pl.col(self.name(right)).cast(pl.String)
            inside = text.str.contains(str(left.value), literal=True).fill_null(False)
            return ~inside if isinstance(op, ast.NotIn) else inside
        if isinstance(right, ast.Name) and not isinstance(left, ast.Name) and type(op) in COMPARE:
            flipped = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}.get(type(op), type(op))
            return self._compared(right, flipped(), left)
        if not isinstance(left, ast.Name):
            raise self.wrong()
        name = self.name(left)
        if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set) and right.elts:
            found = pl.any_horizontal([self._one(name, ast.Eq(), self._value(item)) for item in right.elts])
            return ~found if isinstance(op, ast.NotIn) else found
        if isinstance(op, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
            return pl.col(name).is_not_null() if isinstance(op, ast.IsNot) else pl.col(name).is_null()
        if type(op) not in COMPARE:
            raise self.wrong()
        return self._one(name, op, self._value(right))

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._value(node.operand)
            return -value if isinstance(value, int | float) else value
        if not isinstance(node, ast.Constant) or not isinstance(node.value, int | float | str):
            raise self.wrong()
        return node.value

    def _one(self, name: str, op: ast.cmpop, value: Any) -> pl.Expr:
        compare = COMPARE[type(op)]
        if isinstance(value, str):
            return compare(pl.col(name).cast(pl.String).str.strip_chars(), value).fill_null(isinstance(op, ast.NotEq))
        number = pl.col(name).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
        return compare(number, float(value)).fill_null(isinstance(op, ast.NotEq))
