"""One optimizer step, ours beside other packages': same tensors, same settings, one run, taken in turns.

python benchmarks/optimizer_step.py --quick                                 (a minute)
python benchmarks/optimizer_step.py --optimizers adamw,muon --sets 20m
python benchmarks/optimizer_step.py --write docs/results/steps.md --threads 1          (its tables)

Every peer (``optimizer_peers``) is paired with ours: blocks A B A B ..., so that both see the same load. ms is the
fastest of many, the ratio is of the fastest (below 1: ours is faster; --json has the median of pairs too).
On one thread the clock is the processor's time for this process, which others on the machine disturb less. "of copy"
is the bytes that the rule must move (weights and state read and written, gradients read) over the step's time, as a
share of what ``copy_`` of large tensors moves; "of matmul" the same for the operations of Newton-Schulz and a product
of 2048 x 2048 matrices. Extra MiB is the most memory that torch's allocator holds during a step beyond what it held
before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairstep import optim
from fairstep.optim.engine.signals import in_form
from fairstep.optim.maths.newton_schulz import newton_schulz, newton_schulz_flops
from fairstep.runs import machine
from optimizer_peers import CONTESTS, Contest, Optimizers, Parameters, Peer
from optimizer_sets import SETS, Shapes, parameters

MIB = 2**20
ELEMENTWISE = ("adamw", "nadamw", "adopt", "ademamix", "lion", "signum", "sophia-g", "prodigy", "schedule-free-adamw")
CLOCK = time.perf_counter
READ_ONLY = {"sophia-g": 1, "prodigy": 1}
"""Floats of state per parameter that a step only reads."""


def ours(name: str, p: Parameters, hyper: dict[str, Any]) -> Optimizers:
    roles = {n: n.removesuffix(".weight") for n in p.rest if n.startswith(("embedding", "head"))}
    return [optim.build(name, p.named.items(), roles=roles, undecayed=(), **hyper)]  # type: ignore[arg-type]


class Runner:
    """One contestant on its own copy of the parameters; gradients are the same for all, and given anew."""

    def __init__(self, optimizers: Optimizers, p: Parameters, grads: Sequence[Tensor], steps: int) -> None:
        self.optimizers, self.parameters, self.grads, self.steps = optimizers, p.all, grads, steps

    def give_gradients(self) -> None:
        for p, g in zip(self.parameters, self.grads, strict=True):
            if p.grad is None:
                p.grad = g.clone()
            else:
                p.grad.copy_(g)

    def give_signals(self) -> None:
        """Ones for what ours asks for: no curvature is due in so few steps, and QK-clip then clips nothing."""
        for optimizer in self.optimizers:
            named = dict(optimizer.named_parameters()) if hasattr(optimizer, "due") else {}
            for signal, names in optimizer.due().items() if named else ():
                optimizer.supply(signal, in_form(signal, {n: torch.ones_like(named[n]) for n in names}))

    def block(self) -> float:
        """Seconds of a step, over one block. Some packages write into gradients or drop them: they are given anew."""
        seconds = 0.0
        for _ in range(self.steps):
            self.give_gradients()
            self.give_signals()
            synchronize(self.grads[0])
            began = CLOCK()
            for optimizer in self.optimizers:
                optimizer.step()
            synchronize(self.grads[0])
            seconds += CLOCK() - began
        return seconds / self.steps

    def extra_memory(self) -> int:
        """Bytes at the peak of a block beyond those before it, exactly as torch's allocator counts them."""
        self.give_gradients()
        if self.grads[0].is_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.block()
            return torch.cuda.max_memory_allocated() - before
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            self.block()
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
        held = peak = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        return peak


def synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def pair(first: Runner, second: Runner, seconds: float, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per step of both, in turns, after a warm-up that compiles, allocates and does what is done once."""
    for runner in (first, second):
        runner.block()
        runner.block()
    times: tuple[list[float], list[float]] = ([], [])
    until = time.monotonic() + seconds
    while len(times[0]) < 3 or (len(times[0]) < rounds and time.monotonic() < until):
        for runner, own in zip((first, second), times, strict=True):
            own.append(runner.block())
    return times


def measure(name: str, contest: Contest, shapes: Shapes, chosen: argparse.Namespace) -> dict[str, Any]:
    """Ours against every peer on one set."""
    generator = torch.Generator().manual_seed(1)
    p = parameters(shapes, chosen.device)
    grads = [(1e-2 * torch.randn(w.shape, generator=generator)).to(chosen.device) for w in p.all]
    first = Runner(ours(name, p, contest.hyper), p, grads, contest.steps)
    mine: list[float] = []
    peers: dict[str, Any] = {}
    for peer in contest.peers:
        if chosen.peers and not any(word in peer.label for word in chosen.peers.split(",")):
            continue
        try:
            peers[peer.label], times = against(first, peer, grads, shapes, contest, chosen)
            mine += times
        except Exception as error:  # a package that fails on this set is shown as such
            peers[peer.label] = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
        print(f"{name}, {peer.label}: {peers[peer.label]}", file=sys.stderr, flush=True)

    if not mine:
        first.block()
        mine = [first.block() for _ in range(3)]
    worked = {label: result for label, result in peers.items() if "failed" not in result}
    best = max(worked, key=lambda label: worked[label]["ratio"]) if worked else None
    count = sum(w.numel() for w in p.all)
    state = sum(x.numel() for o in first.optimizers for s in o.state.values() for x in s.values() if torch.is_tensor(x))
    moved = 4 * (3 * count + 2 * state - READ_ONLY.get(name, 0) * count)
    seconds = min(mine)
    return {
        "optimizer": name,
        "ms": 1000 * seconds,
        "best_peer": best,
        "ratio": worked[best]["ratio"] if best else None,
        "gigabytes_per_second": moved / seconds / 1e9 if name in ELEMENTWISE else None,
        "extra_mib": first.extra_memory() / MIB,
        "peers": peers,
    }


def against(
    first: Runner, peer: Peer, grads: list[Tensor], shapes: Shapes, contest: Contest, chosen: argparse.Namespace
) -> tuple[dict[str, float], list[float]]:
    p = parameters(shapes, chosen.device)
    second = Runner(peer.make(p), p, grads, contest.steps)
    began = time.monotonic()
    second.block()
    second.block()
    warm_up = time.monotonic() - began
    mine, theirs = pair(first, second, chosen.seconds, chosen.rounds)
    ratios = {"ratio": min(mine) / min(theirs)}
    ratios["median_ratio"] = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return {"ms": 1000 * min(theirs), **ratios, "warm_up_s": warm_up, "extra_mib": second.extra_memory() / MIB}, mine


def fastest(function: Callable[[], Any], like: Tensor, repeats: int) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats + 1):
        synchronize(like)
        began = CLOCK()
        function()
        synchronize(like)
        times.append(CLOCK() - began)
    return min(times[1:])


def newton_schulz_rates(device: str, shapes: Sequence[tuple[int, int]], repeats: int) -> list[dict[str, Any]]:
    """Operations per second of Newton-Schulz, beside a matrix product's, timed in turns with it."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a = torch.randn(2048, 2048, device=device, dtype=dtype)
    rows = []
    for o, i in shapes:
        x = torch.randn(1, o, i, device=device)
        iterate = partial(newton_schulz, x)
        times = [(fastest(lambda: a @ a, a, 1), fastest(iterate, x, 1)) for _ in range(repeats)]
        product, iteration = (min(column) for column in zip(*times, strict=True))
        rate = newton_schulz_flops(o, i, 5, "quintic") / iteration
        rows.append({"matrix": f"{o} x {i}", "gigaflops": rate / 1e9, "share": rate / (2 * 2048**3 / product)})
    return rows


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The results as texts that are also Markdown: one for each set, and one for Newton-Schulz."""
    texts = {}
    for name, rows in results["sets"].items():
        count = sum(torch.Size(s).numel() for s in SETS[name].values())
        lines = [f"**{name}**: {len(SETS[name])} tensors, {count / 1e6:.1f}M parameters. {results['conditions']}", ""]
        lines += ["| optimizer | ours, ms | fastest peer | its ms | ratio | of copy | extra MiB, ours | the peer's |"]
        lines += ["|---|---|---|---|---|---|---|---|"]

        for row in rows:
            best = row["best_peer"]
            theirs = row["peers"].get(best, {})
            rate = row["gigabytes_per_second"]
            share = f"{100 * rate / results['copy_gigabytes_per_second']:.0f} %" if rate else ""
            peer = (f"{theirs['ms']:.1f}", f"{row['ratio']:.2f}") if best else ("", "")
            memory = f"{row['extra_mib']:.1f}", f"{theirs['extra_mib']:.1f}" if best else ""
            cells = [row["optimizer"], f"{row['ms']:.1f}", best or "none", *peer, share, *memory]

            lines.append("| " + " | ".join(cells) + " |")
        texts[name] = "\n".join(lines) + "\n"
    lines = [results["conditions"], "", "| Newton-Schulz of | Gflop/s | of matmul |", "|---|---|---|"]
    lines += [f"| {r['matrix']} | {r['gigaflops']:.0f} | {100 * r['share']:.0f} % |" for r in results["newton_schulz"]]
    return {**texts, "newton-schulz": "\n".join(lines) + "\n"}


def write(path: Path, name: str, text: str) -> None:
    """Replace the table of that name in a document, or add it at the end."""
    begin, end = f"<!-- table {name} -->\n", "<!-- end -->\n"
    document = path.read_text()
    if begin not in document:
        document += "\n" + begin + end
    head, _, rest = document.partition(begin)
    path.write_text(head + begin + text + end + rest.partition(end)[2])


def heavyball_as_it_is_written() -> None:
    """Its steps compile with autotuning unless told otherwise."""
    with contextlib.suppress(ImportError):
        import heavyball

        heavyball.utils.compile_mode = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", default=",".join(optim.names()), help="names, comma-separated; default: all")
    parser.add_argument("--sets", default="small,20m", help=f"of {', '.join(SETS)}, or none; default: small,20m")
    parser.add_argument("--peers", default="", help="only peers whose label has one of these words")
    parser.add_argument("--threads", type=int, default=machine().cores)
    parser.add_argument("--seconds", type=float, default=3.0, help="per pair, unless three rounds take longer")
    parser.add_argument("--rounds", type=int, default=40, help="at most, per pair")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="set tiny, half a second per pair")

    parser.add_argument("--compile-heavyball", action="store_true", help="as it comes; minutes per optimizer on a CPU")
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument("--write", type=Path, help="a document whose tables of these sets are to be replaced")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.sets, chosen.seconds = "tiny", min(chosen.seconds, 0.5)
    names, sets = chosen.optimizers.split(","), [] if chosen.sets == "none" else chosen.sets.split(",")
    for word, known in [*((n, optim.names()) for n in names), *((s, SETS) for s in sets)]:
        if word not in known:
            parser.error(f"{word!r} is none of {', '.join(known)}")
    torch.set_num_threads(chosen.threads)
    if chosen.threads == 1 and chosen.device == "cpu":
        global CLOCK
        CLOCK = time.process_time
    warnings.simplefilter("ignore")
    if not chosen.compile_heavyball:
        heavyball_as_it_is_written()
    load = os.getloadavg()[0]
    source = torch.randn(2**18 if chosen.quick else 2**25, device=chosen.device)
    into = torch.empty_like(source)
    bandwidth = 8 * source.numel() / fastest(lambda: into.copy_(source), source, 10) / 1e9
    large = [(256, 256)] if chosen.quick else [(768, 768), (768, 2048), (2048, 2048)]
    results: dict[str, Any] = {
        "copy_gigabytes_per_second": bandwidth,
        "newton_schulz": newton_schulz_rates(chosen.device, large, 3 if chosen.quick else 8),
        "sets": {},
    }
    for name in sets:
        results["sets"][name] = [measure(n, CONTESTS.get(n, Contest([])), SETS[name], chosen) for n in names]
    where = torch.cuda.get_device_name() if chosen.device == "cuda" else machine().processor
    results["conditions"] = (
        f"{where}, {chosen.threads} threads, torch {torch.__version__}; copy {bandwidth:.1f} GB/s; load average "
        f"{load:.1f} before and {os.getloadavg()[0]:.1f} after."
    )
    texts = tables(results)
    print(json.dumps(results, indent=1) if chosen.json else "\n".join(texts.values()))
    for name, text in texts.items() if chosen.write else ():
        write(chosen.write, name if chosen.threads == 1 else f"{name}, {chosen.threads} threads", text)


if __name__ == "__main__":
    main()
