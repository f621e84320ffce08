"""Run the commands of the tutorials and put what they print into the pages.

    python tools/tutorial_outputs.py                     # all of docs/tutorials
    python tools/tutorial_outputs.py my-optimizer.md     # one page

A ``console`` block of a page has commands behind ``$`` and their output. A block with a ``caption`` is a file.
Files are written and commands run in order, in one temporary folder for each page. The second page's runs also answer
``--json`` for the reference (``docs/reference/json``). Nobody types a number.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGES = DOCS / "tutorials"
RECORDS = DOCS / "reference" / "json"
BLOCK = re.compile(r"^```(console|\{code-block\} \w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAMP = re.compile(r"<!-- made -->.*?<!-- /made -->", re.DOTALL)

RECORDED = {
    "compare": "fairstep compare adamw mine:NormalisedMomentum --model 27k --tokens 150k --space lr=log:4e-3:6e-2 "
    "--store runs/mine --json",
    "report": "fairstep report runs/mine --json",
    "train": "fairstep train adamw --model 27k --tokens 50k --store runs/one --json",
    "doctor": "fairstep doctor adamw --json",
    "study-status": "fairstep study status little.toml --store runs/little --json",
}
"""Asked behind the last tutorial, whose runs they use."""
LITTLE = """baseline = "adamw"
seeds = 2
budgets = [0.5, 2.0]

[[cells]]
model = "27k"
tokens = "30k"

[[contestants]]
optimizer = ["adamw", "lion"]
space = "own"
only = ["lr"]
"""


def shell(command: str, folder: Path) -> str:
    """What a command prints, on both streams."""
    environment = os.environ | {"COLUMNS": "110", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout.replace(str(folder.resolve()), "~/first").rstrip()


def carried_out(text: str, folder: Path) -> str:
    """The page with files written, commands run, and their output in place."""

    def block(found: re.Match[str]) -> str:
        kind, body = found[1], found[2]
        if kind != "console":
            if caption := re.match(r":caption: (\S+)\n\n?", body):
                (folder / caption[1]).write_text(body[caption.end() :], encoding="utf-8")
            return found[0]
        lines = []
        for command in re.findall(r"^\$ (.*)$", body, re.MULTILINE):
            print(command, flush=True)
            lines += [f"$ {command}", *shell(command, folder).splitlines()]
        return "```console\n" + "\n".join(line.rstrip() for line in lines) + "\n```"

    began = time.perf_counter()
    text = BLOCK.sub(block, text)
    return STAMP.sub(lambda _: f"<!-- made -->\n\n{made(time.perf_counter() - began)}\n\n<!-- /made -->", text)


def made(seconds: float) -> str:
    """Where and when a page's outputs were made, and how long its commands took."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "a CPU")
    return (
        f"The outputs on this page are from {time.strftime('%Y-%m-%d')}: {processor}, {os.cpu_count()} cores, torch "
        f"{version('torch')}, Python {sys.version.split()[0]}. The commands took {seconds:.0f} s. "
        "`python tools/tutorial_outputs.py` runs them again."
    )


def record(folder: Path) -> None:
    """The answers of verbs that need runs."""
    (folder / "little.toml").write_text(LITTLE, encoding="utf-8")
    shell("fairstep study run little.toml --store runs/little", folder)
    RECORDS.mkdir(exist_ok=True)
    for name, command in RECORDED.items():
        print(command, flush=True)
        printed = json.loads(shell(f"{command} 2>/dev/null", folder))
        answer = {"command": command.split(" --")[0] + " --json", "printed": printed}
        text = json.dumps(answer, indent=1, ensure_ascii=False)
        (RECORDS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    for name in sys.argv[1:] or ["first-verdict.md", "my-optimizer.md"]:
        with tempfile.TemporaryDirectory() as folder:
            page = PAGES / name
            page.write_text(carried_out(page.read_text(encoding="utf-8"), Path(folder)), encoding="utf-8")
            if name == "my-optimizer.md":
                record(Path(folder))


if __name__ == "__main__":
    main()
