"""``fairstep export``: a run's model for other tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import parse
from fairstep.runs import Store


@dataclass(frozen=True)
class ExportOptions:
    """Write the model of a finished run as a folder that Hugging Face Transformers reads.

    Example: fairstep export 3f2a --store runs/train --out models/mine
    """

    run: tyro.conf.Positional[str]
    """A run's directory, or its identity in the store, or the beginning of it."""
    format: Literal["hf"] = "hf"
    """hf: config.json, model.safetensors and, where the corpus is in the cache and has one, its tokenizer."""
    out: Path | None = None
    """Folder to write. Default: hf in the run's directory."""
    store: Path = Path("runs/train")
    """Folder of the runs."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(ExportOptions, "export", arguments)
    run = Store(options.store).find(options.run)

    from fairstep.train.export import export_hf, why_no_tokenizer  # loads torch

    folder = export_hf(run, options.out or run.directory / "hf")
    tokenizer = (folder / "tokenizer.json").exists()
    if options.json:
        print(json.dumps({"run": run.id, "directory": str(folder), "format": options.format, "tokenizer": tokenizer}))
    else:
        screen.out(f"{run.id}: {folder}{'' if tokenizer else f' (without a tokenizer: {why_no_tokenizer(run)})'}")
    return 0
