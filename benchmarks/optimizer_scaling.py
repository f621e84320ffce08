"""Optimizer seconds and memory per rank against the number of ranks, measured here, and a model of it to 1,024 ranks.

    python benchmarks/optimizer_scaling.py                      1, 2 and 4 gloo processes of one thread, and the model
    python benchmarks/optimizer_scaling.py --model-only --modelled wen/1.2b
    python benchmarks/optimizer_scaling.py --table                         the table of docs/results/ranks.md
    python benchmarks/optimizer_scaling.py --shares --vocabulary 16384    planned and measured shares of ranks

Measured: one optimizer step of ddp-sharded on random gradients (no model is run), the median of ``--steps`` steps of
the slowest rank; seconds waited for the exchange; state bytes of the fullest rank; bytes that a rank sends. More
processes than free cores measure how the machine shares cores and not the division: such rows are marked.

Shares: of the optimizer's time, each rank's part as planned from shapes and as measured in processor time of the thread
that steps, which other processes and waiting for other ranks do not count in. The settings make every step alike, so
that few are enough: SOAP refreshes in each, Kron updates its factors in each; the plan has the same settings.

The model: seconds of the step = FLOPs of the busiest rank / (rate x utilisation) + bytes that it must move (gradients,
weights and state once each way) / memory bandwidth; of the exchange = bytes sent / bandwidth + 2 log2(W) latencies for
each bucket of 25 MB, of which there is at least one a rank. It assumes H100s with 989 TFLOP/s in bf16, 40 % of that,
3.35 TB/s of memory, 50 GB/s from each rank, 10 us a hop. It leaves out that the reduce hides behind the backward pass
(so it overstates), and that QR is far slower than products and small matrices fill no kernel (so it understates: SOAP's
steps are not as short as it says).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fairstep import optim
from fairstep.cost.rank_shares import rank_shares, step_costs
from fairstep.model import preset
from fairstep.model.config import config_of
from fairstep.model.shapes import parameter_table
from fairstep.optim.sharding.partition import divide
from fairstep.optim.sharding.step_cost import totals
from fairstep.runs import DataSpec, ModelSpec, OptimizerChoice, RunSpec, machine

RATE, UTILISATION, MEMORY, BANDWIDTH, LATENCY, BUCKET = 989e12, 0.4, 3.35e12, 50e9, 1e-5, 25 * 2**20
EVERY_STEP: dict[str, dict[str, bool | int | float | str]] = {
    "soap": {"precondition_frequency": 1},
    "kron": {"update_probability": 1.0},
}
CELLS = (
    ("semenov/124m", 8),
    *((f"{model}", ranks) for model in ("semenov/720m", "wen/1.2b") for ranks in (8, 16, 32, 64)),
)
AIM = 0.1
"""Of the busiest rank over the mean; what is more is printed in bold, with the least that is possible."""
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def specification(name: str, optimizer: str, every_step: bool = False, vocabulary: int = 0, layers: int = 0) -> RunSpec:
    size = preset(name)
    vocabulary = vocabulary or size.model.vocabulary - size.extra_tokens
    fields = size.fields(vocabulary)
    return RunSpec(
        model=ModelSpec(**fields | {"layers": layers or fields["layers"]}),
        data=DataSpec(name="any", fingerprint="", vocabulary=vocabulary),
        optimizer=OptimizerChoice(name=optimizer, hyperparameters=EVERY_STEP.get(optimizer, {}) if every_step else {}),
        batch_sequences=size.batch_sequences,
        tokens=10**9,
    )


def worker(name: str, optimizer: str, steps: int, place: Path, every_step: bool, vocabulary: int, layers: int) -> None:
    """One rank: its times to a file; with ``every_step`` all ranks' processor times of a step, and the slowest's."""
    import torch

    from fairstep.model import build
    from fairstep.optim.engine.state import state_bytes
    from fairstep.train.measure import peak_memory, reset_peak_memory
    from fairstep.train.ranks.choose import exchange
    from fairstep.train.ranks.world import joined

    torch.set_num_threads(1)
    with joined() as world:
        torch.manual_seed(0)
        spec = specification(name, optimizer, every_step, vocabulary, layers)
        model = build(spec.model.model_dump())
        stepper = optim.build(optimizer, model, **spec.optimizer.hyperparameters)
        run = exchange("ddp-sharded", world, model, model, stepper)
        reset_peak_memory(torch.device("cpu"))
        taken, worked = [], []
        for step in range(steps + 2):
            with run.backward_pass(last=True):
                sum((p * torch.randn_like(p)).sum() for p in model.parameters()).backward()
            run.clip(1.0)
            began, thread = time.perf_counter(), time.thread_time()
            stepper.step()
            taken.append(time.perf_counter() - began)
            worked.append(time.thread_time() - thread)
            run.collect()
            stepper.zero_grad(set_to_none=True)
            if step == 1:
                run.take_seconds()
        exchanged = run.take_seconds().get("communication", 0.0) / steps
        mine = (statistics.median(taken[2:]), exchanged, state_bytes(stepper), peak_memory(torch.device("cpu")))
        everyone = world.gather((statistics.median(worked[2:]), mine[0]) if every_step else mine)
    if world.first and every_step:
        place.write_text(json.dumps([*(own for own, _ in everyone), max(step for _, step in everyone)]))
    elif world.first:
        place.write_text(json.dumps([max(column) for column in zip(*everyone, strict=True)]))


def measured(
    name: str,
    optimizer: str,
    ranks: int,
    steps: int,
    every_step: bool = False,
    vocabulary: int = 0,
    layers: int = 0,
) -> list[float]:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place, port = Path(folder) / "times.json", free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        command += ["--master-port", str(port), __file__, "--worker", str(place)]
        command += ["--preset", name, "--optimizers", optimizer, "--steps", str(steps)]
        command += ["--vocabulary", str(vocabulary), "--layers", str(layers)]
        command += ["--shares"] if every_step else []
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        found: list[float] = json.loads(place.read_text())
        return found


def show_table() -> None:
    """Imbalance of every optimizer of the library in every cell; optimizers with equal rows have one."""
    print(f"| optimizer | {' | '.join(f'{model}, {ranks}' for model, ranks in CELLS)} | largest state |")
    print("|---" * (len(CELLS) + 2) + "|")
    rows: dict[tuple[str, ...], list[str]] = {}
    for optimizer in (name for name in optim.names() if optim.get(name).parts):
        cells, states = [], []
        for model, ranks in CELLS:
            spec = specification(model, optimizer)
            table = parameter_table(config_of(spec.model.model_dump()))
            tasks = step_costs(spec, table)
            assert tasks
            alone, shares = (rank_shares(tasks, table, count, "ddp-sharded") for count in (1, ranks))
            text = f"{shares.imbalance:+.1%}"
            if shares.imbalance > AIM:
                text = f"**{text}** (least {shares.imbalance_least:+.1%})"
            repeated = shares.flops_mean * ranks / alone.flops_mean - 1
            cells.append(text + (f", repeats {repeated:.1%}" if repeated > 0.01 else ""))
            states.append(shares.state_floats_largest / shares.state_floats_whole - 1 / ranks)
        rows.setdefault((*cells, f"1/W {max(states):+.1%}"), []).append(optimizer)
    for row, names in rows.items():
        print(f"| {', '.join(names)} | {' | '.join(row)} |")


def show_shares(name: str, optimizer: str, ranks: int, steps: int, vocabulary: int, layers: int) -> None:
    """Of every rank, planned and measured, and the busiest over the mean."""
    spec = specification(name, optimizer, True, vocabulary, layers)
    tasks = step_costs(spec, parameter_table(spec.model))
    assert tasks
    planned = [cost for cost, _ in totals(tasks, divide(tasks, ranks))]
    *seconds, slowest = measured(name, optimizer, ranks, steps, True, vocabulary, layers)
    load = os.getloadavg()[0]

    def text(values: list[float]) -> str:
        shares = " ".join(f"{value / sum(values):6.1%}" for value in values)
        return f"{shares} ({max(values) * len(values) / sum(values) - 1:+.1%})"

    print(
        f"{name} {optimizer:6} W={ranks}: planned {text(planned)}, measured {text(seconds)}; "
        f"{sum(seconds):.2f} s in all, {slowest:.2f} s a step; load {load:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="6.8M")
    parser.add_argument("--modelled", default="semenov/720m", help="preset of the model to 1,024 ranks")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "muon", "soap"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model-only", action="store_true")
    parser.add_argument("--table", action="store_true", help="print the planned balance of every optimizer alone")
    parser.add_argument("--shares", action="store_true", help="compare planned with measured shares, and nothing else")
    parser.add_argument("--vocabulary", type=int, default=0, help="of measured models; 0: the preset's")
    parser.add_argument("--layers", type=int, default=0, help="of measured models; 0: the preset's")
    parser.add_argument("--worker", type=Path)
    options = parser.parse_args()
    if options.worker:
        asked = (options.shares, options.vocabulary, options.layers)
        worker(options.preset, options.optimizers[0], options.steps, options.worker, *asked)
        return
    if options.table:
        show_table()
        return
    if options.shares:
        for optimizer in options.optimizers:
            for ranks in (2, 4):
                asked = (options.vocabulary, options.layers)
                show_shares(options.preset, optimizer, ranks, options.steps, *asked)
        return
    for optimizer in options.optimizers if not options.model_only else ():
        spec = specification(options.preset, optimizer, False, options.vocabulary, options.layers)
        table = parameter_table(config_of(spec.model.model_dump()))
        tasks = step_costs(spec, table)
        assert tasks
        for ranks in (1, 2, 4):
            seconds, exchanged, state, peak = measured(
                options.preset,
                optimizer,
                ranks,
                options.steps,
                False,
                options.vocabulary,
                options.layers,
            )
            shares = rank_shares(tasks, table, ranks, "ddp-sharded")
            crowded = "" if ranks <= machine().cores else "  (more ranks than cores)"
            print(
                f"{options.preset} {optimizer:6} W={ranks}: "
                f"step {1e3 * seconds:8.1f} ms, exchange {1e3 * exchanged:8.1f} ms, "
                f"state {state / 1e6:7.1f} MB, peak {peak / 1e6:7.0f} MB, sends {shares.sent_bytes / 1e6:7.1f} MB, "
                f"FLOPs {shares.flops_largest:.3g} ({shares.imbalance:+.1%}){crowded}",
                flush=True,
            )
    for optimizer in options.optimizers:
        spec = specification(options.modelled, optimizer)
        table = parameter_table(config_of(spec.model.model_dump()))
        tasks = step_costs(spec, table)
        assert tasks
        for ranks in RANKS:
            shares = rank_shares(tasks, table, ranks, "ddp-sharded")
            elements = sum(p.elements for p in table)
            moved = 4 * (3 * elements / ranks + 2 * shares.state_floats_largest)
            work = shares.flops_largest / (RATE * UTILISATION) + moved / MEMORY
            buckets = max(ranks, math.ceil(4 * elements / BUCKET))
            exchange_seconds = shares.sent_bytes / BANDWIDTH + (
                2 * LATENCY * math.log2(ranks) * buckets if ranks > 1 else 0
            )
            print(
                f"{options.modelled} {optimizer:6} W={ranks:4}: step {1e3 * work:8.2f} ms, exchange "
                f"{1e3 * exchange_seconds:8.1f} ms, state {4 * shares.state_floats_largest / 1e6:9.1f} MB, "
                f"imbalance {shares.imbalance:+.1%}, idle {shares.idle}"
            )


if __name__ == "__main__":
    main()
