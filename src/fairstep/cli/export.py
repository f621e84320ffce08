"""``fairstep export``: a run's model for other tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.memory import check_memory
from fairstep.cli.shared.options import check_written, parse
from fairstep.optim.catalogue.contained import printing_to_stderr
from fairstep.runs import Run, Store


@dataclass(frozen=True)
class ExportOptions:
    """Write the model of a finished run as a folder that Hugging Face Transformers reads.

    Example: fairstep export 3f2a --store runs/train --out models/mine
    Example: fairstep export 0090 --store results/pocket-semenov --again
    """

    run: tyro.conf.Positional[str]
    """A run's directory, or its identity in the store, or the beginning of it."""
    format: Literal["hf"] = "hf"
    """hf: config.json, model.safetensors and, where the corpus is in the cache and has one, its tokenizer."""
    out: Path | None = None
    """Folder to write. Default: hf in the run's directory."""
    store: Path = Path("runs/train")
    """Folder of the runs."""
    again: bool = False
    """Train a run whose weights were not kept again, as its spec says, in the store runs/again."""
    json: bool = False
    """Print the result as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(ExportOptions, "export", arguments)
    check_written("--out", options.out, folder=True)
    run = Store(options.store).find(options.run)

    from fairstep.train.export import WEIGHTS, export_hf, why_no_tokenizer  # loads torch

    if options.again and not run.has(WEIGHTS):
        run = trained_again(run)
    folder = export_hf(run, options.out or run.directory / "hf")
    tokenizer = (folder / "tokenizer.json").exists()
    if options.json:
        print(json.dumps({"run": run.id, "directory": str(folder), "format": options.format, "tokenizer": tokenizer}))
    else:
        screen.out(f"{run.id}: {folder}{'' if tokenizer else f' (without a tokenizer: {why_no_tokenizer(run)})'}")
    return 0


def trained_again(run: Run) -> Run:
    """The run in a store of its own, with its weights. Deterministic: on the same machine they are the run's, and where
    the final loss is another one that is said."""
    from fairstep.train import train

    spec = run.own_spec
    execution = spec.execution.model_copy(update={"save_weights": True})
    store = Store(Path("runs/again")).writable()
    check_memory(spec)
    with screen.training(spec.optimizer.name, spec.steps) as show, printing_to_stderr():
        again = train(spec.model_copy(update={"execution": execution}), store, show)
    then, now = (one.summary.final_loss if one.summary else None for one in (run, again))
    if then is not None and now is not None and then != now:
        screen.say(f"{run.id}: trained again it ends at {now:.6g} nats per token, and in its store at {then:.6g}")
    return again
