"""The table of rooms in docs/design.md against the code: who may import whom, and where torch may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fairstep

SOURCE = Path(fairstep.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "optim": set(),
    "model": {"runs"},
    "data": set(),
    "runs": set(),
    "published": set(),
    "train": {"optim", "model", "data", "runs"},
    "analysis": {"runs", "published"},
    "study": {"runs", "analysis", "optim", "model", "published"},
    "report": {"runs", "analysis", "published"},
    "cli": {"optim", "model", "data", "runs", "published", "train", "analysis", "study", "report"},
}
WITH_TORCH = {"optim", "model", "train"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, except for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module == "fairstep":
                found |= {f"fairstep.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def test_every_room_is_in_the_table() -> None:
    assert {path.relative_to(SOURCE).parts[0] for path in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_table(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0]
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("fairstep.")}
    others = rooms - {room, "__version__"}
    assert others <= MAY_IMPORT[room], f"{path} may not import {others - MAY_IMPORT[room]}"
    if room not in WITH_TORCH:
        assert not {name for name in imports(path) if name.split(".")[0] == "torch"}, f"{path} may not import torch"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_file_says_what_it_is_for_and_is_one_idea(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert len(text.splitlines()) <= 320, f"{path} is too long to be one idea"


@pytest.mark.parametrize("room", ["runs", "data", "optim", "model", "analysis", "study", "report", "cli.compare"])
def test_describing_a_contest_loads_no_torch(room: str) -> None:
    code = f"import sys, fairstep.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
