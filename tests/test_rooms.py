"""The table of rooms in docs/explanation/design.md against the code: who may import whom, and where torch may be.

Every import counts: at the top of a file, inside a function, and for type checkers only.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import fairstep

SOURCE = Path(fairstep.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "optim": set(),
    "runs": set(),
    "data": set(),
    "published": set(),
    "model": {"runs", "optim"},
    "analysis": {"runs", "published"},
    "imported": {"runs", "analysis"},
    "train": {"optim", "model", "data", "runs"},
    "external": {"runs"},
    "cost": {"optim", "model", "data", "runs"},
    "study": {"runs", "analysis", "published", "cost", "optim", "model"},
    "recommend": {"runs", "analysis", "published", "cost", "optim", "model"},
    "report": {"runs", "analysis", "published"},
    "cli": {
        *("optim", "runs", "data", "published", "model", "analysis", "imported"),
        *("train", "external", "cost", "study", "recommend", "report"),
    },
}
"""Room -> the rooms that it may import."""

FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "optim": (
        ("_lazy", "roles"),
        ("rule", "splits"),
        ("sharding", "spec"),
        ("maths",),
        ("wrappers",),
        ("rules",),
        ("engine",),
        ("catalogue",),
        ("doctor",),
    ),
    "analysis": (("statistics",), ("laws",), ("trials",), ("verdict",), ("claims",)),
    "imported": (
        ("source", "text", "values"),
        ("unpacking",),
        ("columns", "formats", "names", "numbers", "where"),
        ("files", "rows"),
        ("phases", "remarks"),
        ("contest",),
        ("judged",),
    ),
    "train": (
        ("coordinates", "weights"),
        ("annealing", "forks", "measure", "meters", "objective", "ranks", "rate", "stopping", "tracking"),
        ("checkpoints", "compilation", "evaluate", "export", "setup"),
        ("downstream", "signals"),
        ("step",),
        ("loop",),
        ("run",),
        ("__main__",),
    ),
    "cost": (("devices", "pace", "precision", "rank_shares"), ("run_cost",)),
    "study": (
        ("transfer",),
        ("launchers", "protocols", "published_runs"),
        ("command_workload", "workload"),
        ("tournament",),
        ("file", "forecast"),
    ),
    "recommend": (("points",), ("kriging",), ("advice",), ("table",)),
    "cli": (
        ("shared",),
        ("claims", "compare", "contest", "data", "design", "doctor", "export", "judging", "optimizers", "plan"),
        ("eval", "judge", "model", "published", "recommend", "report", "store", "study", "train", "demo"),
    ),
}
"""Room -> its sub-rooms and files, lowest floor first. A floor imports lower floors only. Rooms that
are not listed are held by the ban of circles alone."""

WITH_TORCH = {"optim", "model", "train"}
MOST_LINES = 450


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports; a name imported from a module stands as a module of its own."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def checked_only(path: Path) -> frozenset[str]:
    """What a file imports for type checkers only."""
    blocks = [
        node
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return frozenset(
        f"{node.module}.{alias.name}"
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )


def file_of(name: str) -> Path | None:
    """The file of ours that ``fairstep.a.b.c`` is in: a module, or the module or package that defines the name."""
    parts = name.split(".")
    if parts[0] != "fairstep":
        return None
    for end in range(len(parts), 1, -1):
        place = SOURCE.joinpath(*parts[1:end])
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
        if (place / "__init__.py").is_file():
            return place / "__init__.py"
    return None


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)
ROOMS = {room: [path for path in FILES if path.relative_to(SOURCE).parts[0] == room] for room in MAY_IMPORT}


@functools.cache
def needs() -> dict[Path, set[Path]]:
    """File -> the files of ours that it imports."""
    return {path: {target for name in imports(path) if (target := file_of(name))} - {path} for path in FILES}


def circles(graph: Mapping[Path, set[Path]]) -> Iterator[list[str]]:
    """Sets of files each of which needs, perhaps by way of others, all the others."""
    reached = {path: _reached(path, graph) for path in graph}
    left = set(graph)
    while left:
        path = left.pop()
        circle = {other for other in reached[path] if path in reached.get(other, ())}
        left -= circle
        if circle:
            yield sorted(str(file.relative_to(SOURCE)) for file in circle | {path})


def _reached(start: Path, graph: Mapping[Path, set[Path]]) -> set[Path]:
    seen: set[Path] = set()
    ahead = [start]
    while ahead:
        for path in graph.get(ahead.pop(), ()):
            if path not in seen:
                seen.add(path)
                ahead.append(path)
    return seen


def unit(path: Path) -> tuple[str, str]:
    """(room, the sub-room or file in it)."""
    room, *inside = path.relative_to(SOURCE).parts
    return room, inside[0].removesuffix(".py")


def test_every_room_is_in_the_table() -> None:
    assert {unit(path)[0] for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_table(room: str) -> None:
    for path in ROOMS[room]:
        name = path.relative_to(SOURCE)
        others = {unit(target)[0] for target in needs()[path] if target.parent != SOURCE} - {room}
        assert others <= MAY_IMPORT[room], f"{name} may not import {others - MAY_IMPORT[room]}"
        if room not in WITH_TORCH and any(module.split(".")[0] == "torch" for module in imports(path)):
            torch = {module for module in imports(path) - checked_only(path) if module.split(".")[0] == "torch"}
            assert not torch, f"{name} may not import torch"


def test_there_are_no_circles() -> None:
    assert list(circles(needs())) == []


def test_a_circle_is_found() -> None:
    a, b, c = (SOURCE / f"{name}.py" for name in "abc")
    assert list(circles({a: {b}, b: {c}, c: {b}})) == [["b.py", "c.py"]]


@pytest.mark.parametrize("room", FLOORS)
def test_nothing_is_imported_from_a_higher_floor(room: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS[room]) for name in names}
    mine = [path for path in FILES if path.parent != SOURCE / room or path.name != "__init__.py"]
    mine = [path for path in mine if unit(path)[0] == room]
    assert {unit(path)[1] for path in mine} == set(floor), f"FLOORS does not list what is in {room}"
    for path in mine:
        here = unit(path)[1]
        for target in needs()[path]:
            if target in mine and unit(target)[1] != here:
                there = unit(target)[1]
                assert floor[there] < floor[here], f"{path.relative_to(SOURCE)} imports {there}, which is not below it"


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_says_what_it_is_for_and_is_one_idea(room: str) -> None:
    for path in ROOMS[room]:
        name = path.relative_to(SOURCE)
        assert ast.get_docstring(parsed(path)), f"{name} has no docstring"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, f"{name} is too long to be one idea"


def test_describing_a_contest_loads_no_torch() -> None:
    rooms = [room for room in MAY_IMPORT if room not in ("train", "external", "published", "cli")]
    code = f"""
import importlib, sys
for room in {[*rooms, "published", "external", "cli.judging"]}:
    importlib.import_module(f"fairstep.{{room}}")
    if "torch" in sys.modules:
        sys.exit(f"fairstep.{{room}} loads torch")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
