"""Training throughput beside loops that one would write, from the first draft to the strongest, in one run.

    python benchmarks/train_throughput.py                          # 106k and 852k against plain loops
    python benchmarks/train_throughput.py --write docs/results/throughput.md    # and its table there (make bench)
    python benchmarks/train_throughput.py --presets 852k --peers plain+compiled transformers+compiled

The same model, batch and corpus on every side, AdamW everywhere. Each side runs in processes of its own, which take
turns in rounds, so that a drift of the machine's speed hits all of them. Two comparisons:

* one thread: one of our trials against one loop of a peer (``peers.py``), one thread each, by processor time, so that
  other programs on the machine disturb less;
* machine: as many of our trials at once as a contest runs, against one loop of a peer with torch's default threads,
  which is how each of them uses all cores. By the wall clock: for a quiet machine.

Prints medians over rounds: tokens per second, the ratio (above 1 says that ours is faster; the one over the fastest
peer, marked *, is the one to quote) and the share of the
matrix-product rate that the model's FLOPs reach, that rate being measured at the start with the same threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from fairstep import optim
from fairstep.cli.shared.options import WorkloadOptions, prepared
from fairstep.data import Batches, open_corpus
from fairstep.model.shapes import flops_per_token
from fairstep.runs import RunSpec, machine
from fairstep.study import Layout, layout
from fairstep.train.rate import measured_rate
from fairstep.train.step import Trainer
from peers import PEERS, Loop

HERE = Path(__file__)


def our_spec(preset: str, arguments: argparse.Namespace, threads: int) -> RunSpec:
    options = WorkloadOptions(
        model=preset,
        precision=arguments.precision,
        threads=threads,
        tokens="500k",
        batch_sequences=arguments.batch_sequences,
        vocabulary=arguments.vocabulary,
    )
    workload, _, _ = prepared(options)
    return workload.spec("adamw", dict(optim.get("adamw").validate({"lr": 1e-3})), seed=0)


def check_agreement(spec: RunSpec, peers: list[str]) -> None:
    """All sides must train the same model: their first losses are equal up to rounding."""
    trainer = Trainer(spec)
    batch = torch.from_numpy(trainer.batches.batch(0))
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    ours = trainer.step(0)[0]
    for name in peers:
        theirs = Loop(name, spec.model, weights).step(batch)
        if abs(theirs - ours) > (2e-2 if spec.precision == "bf16" or "bf16" in name else 1e-4):
            raise SystemExit(f"{name} trains another model: its first loss is {theirs:.6f}, ours {ours:.6f}")


def child(kind: str, threads: int, spec: RunSpec, seconds: float, alone: bool) -> None:
    """One process of one side: for every line that it is sent it trains for a while and prints tokens per second, of
    processor time if it is ``alone`` in its turn, with one thread."""
    clock = time.process_time if alone and threads == 1 else time.perf_counter
    step: Callable[[int], object]
    if kind == "ours":
        step = Trainer(spec).step
    else:
        torch.set_num_threads(threads)
        loop = Loop(kind, spec.model)
        batches = Batches(
            open_corpus(spec.data.fingerprint, spec.data.vocabulary).train(),
            batch_sequences=spec.batch_sequences,
            context=spec.model.context,
            seed=spec.data_seed,
        )
        step = lambda i: loop.step(torch.from_numpy(batches.batch(i)))  # noqa: E731
    for index in range(3):
        step(index)
    print("ready", flush=True)
    for _ in sys.stdin:
        began, count = clock(), 0
        while clock() - began < seconds:
            step(count)
            count += 1
        print(count * spec.batch_tokens / (clock() - began), flush=True)


def side_by_side(spec: RunSpec, peers: list[str], threads: int, ours: Layout, rounds: int, seconds: float) -> Any:
    """Side -> tokens per second in every round, the sides taking turns; "ours" are ``ours.workers`` trials together."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.json"
        execution = spec.execution.model_copy(update={"threads": ours.threads})
        path.write_text(spec.model_copy(update={"execution": execution}).to_json())

        def start(kind: str) -> subprocess.Popen[str]:
            command = [sys.executable, str(HERE), "--child", kind, "--threads", str(threads), "--spec", str(path)]
            command += ["--alone"] if ours.workers == 1 else []
            pipe = subprocess.PIPE
            return subprocess.Popen([*command, "--seconds", str(seconds)], stdin=pipe, stdout=pipe, text=True)

        sides = {name: [start(name)] for name in peers} | {"ours": [start("ours") for _ in range(ours.workers)]}
        for process in chain(*sides.values()):
            process.stdout.readline()
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, processes in sides.items():
                for process in processes:
                    print("go", file=process.stdin, flush=True)
                rates[name].append(sum(float(process.stdout.readline()) for process in processes))
        for process in chain(*sides.values()):
            process.communicate()
        return rates


def measure(preset: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per comparison and peer of one preset."""
    spec, here = our_spec(preset, arguments, threads=1), machine()
    peers = arguments.peers or default_peers(spec.precision)
    check_agreement(spec, peers)
    parameters = sum(p.numel() for p in Trainer(spec).model.parameters())
    whole = layout(here, parameters)
    comparisons = {"one thread": (1, Layout(1, 1)), "machine": (here.cores, whole)}
    rows = []
    for comparison in arguments.comparisons:
        threads, ours = comparisons[comparison]
        torch.set_num_threads(threads)
        peak = measured_rate(torch.device("cpu"), spec.precision)
        rates = side_by_side(spec, peers, threads, ours, arguments.rounds, arguments.seconds)
        share = flops_per_token(spec.model) / peak
        strongest = max(peers, key=lambda peer: statistics.median(rates[peer]))
        for peer in peers:
            ratios = [b / a for a, b in zip(rates[peer], rates["ours"], strict=True)]
            theirs, own = statistics.median(rates[peer]), statistics.median(rates["ours"])
            rows.append(
                {
                    "preset": preset,
                    "comparison": comparison,
                    "trials": ours.workers,
                    "threads_of_a_trial": ours.threads,
                    "peer": peer,
                    "strongest": peer == strongest,
                    "batch_tokens": spec.batch_tokens,
                    "precision": spec.precision,
                    "peer_tokens_per_second": theirs,
                    "ours_tokens_per_second": own,
                    "ratio": statistics.median(ratios),
                    "ratio_low": min(ratios),
                    "ratio_high": max(ratios),
                    "matmul_flops_per_second": peak,
                    "peer_share": theirs * share,
                    "ours_share": own * share,
                }
            )
    return rows


def default_peers(precision: str) -> list[str]:
    """The plain loops that one would write for this precision, and compiled float32 in any case."""
    modes = ["+bf16", "+bf16+compiled", "+compiled"] if precision == "bf16" else ["", "+compiled"]
    return [f"plain{mode}" for mode in modes]


BEGIN, END = "<!-- train_throughput begins -->", "<!-- train_throughput ends -->"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results/throughput.md."""
    here, load = machine(), os.getloadavg()[0]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {here.processor}, {here.cores} cores, load average {load:.1f} at the end, "
        f"torch {torch.__version__}.",
        "",
        "| model | comparison | precision | peer | tokens/s: peer | ours | ratio (rounds) | share: peer | ours |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = f"**{row['peer']}**" if row["strongest"] else row["peer"]
        lines.append(
            f"| {row['preset']} | {row['comparison']} | {row['precision']} | {peer} "
            f"| {row['peer_tokens_per_second']:,.0f} | {row['ours_tokens_per_second']:,.0f} "
            f"| {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) "
            f"| {row['peer_share']:.0%} | {row['ours_share']:.0%} |"
        )
    return "\n".join(lines)


def write(page: Path, table: str) -> None:
    """Put the table between the page's marks. Raises SystemExit for a page without them."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} has no lines {BEGIN} and {END} between which the table could be written")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["106k", "852k"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="default: plain loops of the precision")
    parser.add_argument("--comparisons", nargs="+", default=["one thread"], choices=["one thread", "machine"])
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "float32"])
    parser.add_argument("--batch-sequences", type=int, default=0, help="default: the preset's")
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="seconds of a side's turn in a round, at least a step"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="a page whose table is to be replaced")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=[*PEERS, "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        spec = RunSpec.from_json(arguments.spec.read_text())
        child(arguments.child, arguments.threads, spec, arguments.seconds, arguments.alone)
        return
    if not arguments.json:
        print(f"{machine().processor}, {machine().cores} cores, torch {torch.__version__}")
        print(f"{'':18}{'peer':>30}{'tokens/s':>12}{'ours':>12}{'ratio (rounds)':>22}{'share: peer':>13}{'ours':>8}")
    rows = []
    for preset in arguments.presets:
        rows += measure(preset, arguments)
        for row in rows if not arguments.json else ():
            if row["preset"] != preset:
                continue
            spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
            print(
                f"{preset:6}{row['comparison']:12}{row['peer'] + ' *' * row['strongest']:>30}"
                f"{row['peer_tokens_per_second']:>12,.0f}"
                f"{row['ours_tokens_per_second']:>12,.0f}{spread:>22}{row['peer_share']:>13.1%}{row['ours_share']:>8.1%}"
            )
    if arguments.write:
        write(arguments.write, markdown(rows))
    if arguments.json:
        facts = {"processor": machine().processor, "cores": machine().cores, "torch": torch.__version__}
        print(json.dumps(facts | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
