"""A Llama of Hugging Face Transformers beside our own of the same shape, both in our trainer.

    pip install 'fairstep[eval]'
    python benchmarks/foreign_model.py --preset 106k

Same weights, text, batch, optimizer (AdamW) and thread, compiled. The two take turns in rounds of one process, so that
a drift of the machine's speed hits both. Prints the median step of each over the rounds in processor time, which other
work on the machine changes less than a clock's, and the ratio of tokens per second (above 1: theirs is faster).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal, get_args

from fairstep import optim
from fairstep.cli.shared.options import WorkloadOptions, prepared
from fairstep.model import preset
from fairstep.model.hf import hf_config, hf_weights
from fairstep.train.step import Trainer

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def trainer(model: str, precision: Precision) -> Trainer:
    options = WorkloadOptions(model=model, tokens="500k", threads=1, precision=precision)
    workload, _, _ = prepared(options)
    return Trainer(workload.spec("adamw", dict(optim.get("adamw").validate({"lr": 1e-3})), seed=0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="106k")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(hf_config(preset(arguments.preset).model)))
        for precision in PRECISIONS:
            sides = {"ours": trainer(arguments.preset, precision), "theirs": trainer(f"hf:{folder}", precision)}
            ours = sides["ours"]
            config = preset(arguments.preset).config(ours.spec.model.vocabulary)
            weights = hf_weights(config, {n: p.detach() for n, p in ours.model.named_parameters()})
            sides["theirs"].model.load_state_dict(weights)
            first = {name: side.step(0)[0] for name, side in sides.items()}
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(arguments.rounds + 1):
                for name, side in sides.items():
                    began = time.process_time()
                    for step in range(arguments.steps):
                        side.step(1 + number * arguments.steps + step)
                    seconds[name].append((time.process_time() - began) / arguments.steps)
            medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
            ratios = [a / b for a, b in zip(seconds["ours"][1:], seconds["theirs"][1:], strict=True)]
            middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
            print(
                f"{arguments.preset} {precision}: ours {medians['ours'] * 1e3:.1f} ms, theirs "
                f"{medians['theirs'] * 1e3:.1f} ms a step; theirs has {middle:.2f} [{low:.2f}, {high:.2f}] of our "
                f"tokens per second; first losses {first['ours']:.5f} and {first['theirs']:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
