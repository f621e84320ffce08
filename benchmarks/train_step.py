"""Training throughput beside a plain loop, measured side by side in one run.

    python benchmarks/train_step.py                     # the demo's model and batch
    python benchmarks/train_step.py --preset 213k

Two comparisons of the same model, batch and corpus. Every side runs in processes of its own, which take turns in
rounds, so that a drift of the machine's speed hits both sides:

* one thread each: one of our trials against one plain loop (``plain.py``);
* the whole machine: as many of our trials at once as a contest runs, against one plain loop with torch's default
  threads, which is how each of the two uses all cores.

Prints medians over rounds, tokens per second and the ratio. A ratio above 1 says that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fairstep import optim
from fairstep.cli.options import WorkloadOptions, prepared
from fairstep.data import Batches, open_corpus
from fairstep.runs import RunSpec, machine
from fairstep.train.step import Trainer
from plain import PlainLlama, PlainLoop

HERE = Path(__file__)


def our_spec(arguments: argparse.Namespace) -> RunSpec:
    options = WorkloadOptions(preset=arguments.preset, precision=arguments.precision, threads=1)
    workload, _, _ = prepared(options)
    return workload.spec("adamw", dict(optim.get("adamw").validate({"lr": 1e-3})), seed=0)


def sizes(spec: RunSpec) -> tuple[int, ...]:
    m = spec.model
    return m.layers, m.width, m.heads, m.mlp_width, m.vocabulary, m.context


def plain(spec: RunSpec, training: Trainer) -> PlainLoop:
    model = PlainLlama(*sizes(spec))
    model.load(list(training.model.parameters()))
    return PlainLoop(model)


def check_agreement(spec: RunSpec) -> None:
    """Both sides must train the same model: their first losses are equal up to rounding."""
    training = Trainer(spec)
    first = plain(spec, training).step(torch.from_numpy(training.batches.batch(0)))
    difference = abs(first - training.step(0)[0])
    if difference > (2e-2 if spec.precision == "bf16" else 1e-4):
        raise SystemExit(f"the two models disagree: their first losses differ by {difference:.2g}")


def child(kind: str, threads: int, spec: RunSpec, seconds: float) -> None:
    """One process of one side: for every line that it is sent it trains for a while and prints tokens per second."""
    batches = Batches(
        open_corpus(spec.data.fingerprint, spec.data.vocabulary).train(),
        batch_sequences=spec.batch_sequences,
        context=spec.model.context,
        seed=spec.data_seed,
    )
    if kind == "plain":
        torch.set_num_threads(threads)
        loop = PlainLoop(PlainLlama(*sizes(spec)))
        step: Callable[[int], object] = lambda i: loop.step(torch.from_numpy(batches.batch(i)))  # noqa: E731
    else:
        step = Trainer(spec).step
    for index in range(10):
        step(index)
    print("ready", flush=True)
    for _ in sys.stdin:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            step(count)
            count += 1
        print(count * spec.batch_tokens / (time.perf_counter() - began), flush=True)


def side_by_side(
    spec: RunSpec, rounds: int, seconds: float, plain_threads: int, trials: int
) -> tuple[list[float], list[float]]:
    """Tokens per second of (one plain loop, our trials together), one value a round, the sides taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        path.write_text(spec.to_json())

        def start(kind: str, threads: int) -> subprocess.Popen[str]:
            command = [sys.executable, str(HERE), "--child", kind, "--threads", str(threads), "--spec", str(path)]
            pipe = subprocess.PIPE
            return subprocess.Popen([*command, "--seconds", str(seconds)], stdin=pipe, stdout=pipe, text=True)

        sides = ([start("plain", plain_threads)], [start("ours", 1) for _ in range(trials)])
        for process in (*sides[0], *sides[1]):
            process.stdout.readline()  # type: ignore[union-attr]
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for processes, found in zip(sides, rates, strict=True):
                for process in processes:
                    print("go", file=process.stdin, flush=True)
                found.append(sum(float(process.stdout.readline()) for process in processes))  # type: ignore[union-attr]
        for process in (*sides[0], *sides[1]):
            process.communicate()
        return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="106k")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "float32"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of a side's turn in a round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=["plain", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.threads, RunSpec.from_json(arguments.spec.read_text()), arguments.seconds)
        return
    spec = our_spec(arguments)
    check_agreement(spec)
    cores = machine().cores
    comparisons = {"one thread each": (1, 1), f"whole machine ({cores} cores)": (cores, cores)}
    rows = [
        (name, *side_by_side(spec, arguments.rounds, arguments.seconds, plain_threads, trials))
        for name, (plain_threads, trials) in comparisons.items()
    ]
    result = {
        "processor": machine().processor,
        "torch": torch.__version__,
        "preset": arguments.preset,
        "batch_tokens": spec.batch_tokens,
        "precision": spec.precision,
        "rows": [
            {
                "comparison": name,
                "plain_tokens_per_second": statistics.median(a),
                "ours_tokens_per_second": statistics.median(b),
                "ratio": statistics.median(y / x for x, y in zip(a, b, strict=True)),
                "ratio_low": min(y / x for x, y in zip(a, b, strict=True)),
                "ratio_high": max(y / x for x, y in zip(a, b, strict=True)),
            }
            for name, a, b in rows
        ],
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['processor']}, torch {torch.__version__}, {arguments.preset}, {spec.batch_tokens} tokens a step")
    print(f"{'':26}{'plain float32':>16}{'ours ' + spec.precision:>16}{'ratio (min to max of rounds)':>34}")
    for row in result["rows"]:  # type: ignore[union-attr]
        a, b = row["plain_tokens_per_second"], row["ours_tokens_per_second"]
        spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        print(f"{row['comparison']:26}{a:>14,.0f}/s{b:>14,.0f}/s{spread:>34}")


if __name__ == "__main__":
    main()
