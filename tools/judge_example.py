"""Write what ``fairstep judge`` says of the example into docs/howto/my-runs.md. A test compares the two."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from unittest.mock import patch

from fairstep.cli import main

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "howto" / "my-runs.md"
BLOCK = re.compile(r"<!-- judge -->\n.*?<!-- /judge -->", re.DOTALL)
LINE = "judge examples/muon-variants.csv --baseline muon"


def block() -> str:
    """The command with its output, as the page has it."""
    said = io.StringIO()
    with patch.dict(os.environ, COLUMNS="118"), contextlib.chdir(ROOT), contextlib.redirect_stdout(said):
        assert main(LINE.split()) == 0
    lines = "\n".join(line.rstrip() for line in said.getvalue().strip().split("\n"))
    return f"<!-- judge -->\n```console\n$ fairstep {LINE}\n{lines}\n```\n<!-- /judge -->"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda _: block(), text), encoding="utf-8")
