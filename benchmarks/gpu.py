"""Everything that can only be known on a GPU, in one command of under ten minutes.

    python benchmarks/gpu.py                                   # on a machine with CUDA
    python benchmarks/gpu.py --only steps,losses --json
    python benchmarks/gpu.py --device cpu --quick              # tries the command itself where there is no GPU

First the checks (``gpu_checks.py``): every optimizer's losses and steps beside the processor's, compiled and eager,
bf16, resumption, memory beside ``fairstep plan``, a small contest. Then the measurements: model FLOPs utilisation (MFU)
of a training step at 124M, our steps beside torch, pytorch-optimizer and heavyball where these are installed, and the
step of every optimizer over AdamW's at the shapes of 124M and 720M, the fast ones first. What was not run is said at
the end, with the reason.

The exit code is 0 if every check that ran has passed, 1 if one has not, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairstep import optim
from fairstep.cost.devices import DEVICES
from fairstep.model import build, preset
from fairstep.model.shapes import flops_per_token
from fairstep.optim.engine.signals import in_form
from fairstep.runs import machine
from fairstep.train.compilation import can_compile
from fairstep.train.rate import measured_rate
from gpu_checks import CHECKS, NotRun, Place
from optimizer_peers import CONTESTS
from optimizer_sets import SETS, parameters
from optimizer_step import heavyball_as_it_is_written, measure, ours, synchronize

PEERS = "torch,pytorch-optimizer,heavyball"
MEASURED = ("mfu", "peers", "overhead")
GROWTH = 20.0
"""Most that the time of an optimizer's steps may grow by from 124M to 720M: sides grow 2.7 times, and their cube is
what decompositions take."""
Report = dict[str, Any]


class Session:
    """What is run, what has been found, and what was not run. ``seconds``: after them nothing new begins."""

    def __init__(self, place: Place, seconds: float) -> None:
        self.place, self.until = place, time.monotonic() + seconds
        self.found: Report = {}
        self.not_run: dict[str, str] = {}

    def left(self) -> float:
        return self.until - time.monotonic()

    def attempt(self, name: str, act: Callable[[], Any]) -> Any:
        """Run it unless time is up. An error is an outcome of this part and not of the rest."""
        if self.left() < 0:
            self.not_run[name] = "no time was left"
            return None
        try:
            return act()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            self.not_run[name] = "the device's memory is too small"
        except ImportError as error:
            self.not_run[name] = f"{error.name or error} is not installed"
        return None


def check(session: Session, name: str) -> None:
    rows = []
    began = time.monotonic()
    try:
        for row in CHECKS[name](session.place):
            rows.append({"what": row.what, "found": row.found, "limit": row.limit, "passed": row.passed})
            said = "told" if row.limit is None else "passed" if row.passed else "FAILED"
            limit = "" if row.limit is None else f" (at most {row.limit:g})"
            print(f"{said:7} {row.what}: {row.found:.3g}{limit}", file=sys.stderr, flush=True)
    except NotRun as why:
        session.not_run[f"{name}, the rest"] = str(why)
    except torch.OutOfMemoryError:
        raise  # says something of the device's size, and nothing of what was to be checked
    except Exception:  # a check that breaks has failed, and the others are still worth running
        traceback.print_exc()
        rows.append({"what": f"{name} to its end", "found": 1.0, "limit": 0.0, "passed": False})
    finally:
        session.found[name] = {"rows": rows, "seconds": time.monotonic() - began}


def mfu(session: Session) -> None:
    """Forward, backward, clipping and AdamW on random tokens, on a GPU in bf16, and compiled if it can be."""
    place = session.place
    quick, cuda = place.quick, place.device == "cuda"
    config = preset("106k" if quick else "semenov/124m").model
    sequences, compiled = 4 if quick else 32, cuda and can_compile(place.device)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model: nn.Module = build(config).to(place.device)
    forward: Any = torch.compile(model, dynamic=False) if compiled else model
    optimizer = optim.build("adamw", model)
    tokens = torch.randint(config.vocabulary, (sequences, config.context + 1)).to(place.device)
    seconds = []
    for _ in range(3 if quick else 23):
        synchronize(tokens)
        began = time.perf_counter()
        with torch.autocast(place.device, dtype=torch.bfloat16, enabled=cuda):
            loss = forward(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        synchronize(tokens)
        seconds.append(time.perf_counter() - began)
    step = sorted(seconds[-20:])[len(seconds[-20:]) // 2]
    rate = sequences * config.context / step
    products = measured_rate(torch.device(place.device), "bf16" if cuda else "float32")
    peak = peak_of(torch.cuda.get_device_name()) if cuda else None
    session.found["mfu"] = {
        "model": config.preset,
        "compiled": compiled,
        "batch_tokens": sequences * config.context,
        "step_seconds": step,
        "tokens_per_second": rate,
        "share_of_measured_products": rate * flops_per_token(config) / products,
        "share_of_data_sheet": rate * flops_per_token(config) / peak if peak else None,
    }


def peak_of(name: str) -> float | None:
    """The data sheet's FLOPs per second of a device by the name that CUDA gives it; None for one not listed."""
    words = name.lower().replace("-", " ").split()
    return next((device.flops for device in DEVICES.values() if device.name.partition("-")[0] in words), None)


def overhead(session: Session) -> None:
    """Milliseconds of a step: the fastest of several, signals given beforehand."""
    place = session.place
    table: Report = {}
    order, spent = ["adamw", *(name for name in place.optimizers if name != "adamw")], dict[str, float]()
    for size in ("tiny",) if place.quick else ("124m", "720m"):
        rows: dict[str, float] = {}
        for name in order:
            part, began = f"step of {name} at {size}", time.monotonic()
            if (expected := GROWTH * spent.get(name, 0.0)) > session.left():
                session.not_run[part] = f"it may take {expected:.0f} s, and {max(session.left(), 0.0):.0f} s were left"
                continue
            taken = session.attempt(part, partial(step_seconds, session, name, size))
            spent[name] = time.monotonic() - began
            if taken is not None:
                rows[name] = 1000 * taken
                print(f"{name} at {size}: {rows[name]:.2f} ms", file=sys.stderr, flush=True)
            if place.device == "cuda":
                torch.cuda.empty_cache()
        order = ["adamw", *sorted((name for name in order if name != "adamw"), key=lambda name: spent.get(name, 0.0))]
        table[size] = {
            name: {"ms": ms, "over_adamw": ms / rows["adamw"] if "adamw" in rows else None} for name, ms in rows.items()
        }
    session.found["overhead"] = table


def step_seconds(session: Session, name: str, size: str) -> float:
    """The mean of ten steps, which is what rules that do not do the same in each come to, after two."""
    place = session.place
    p = parameters(SETS[size], place.device)
    (optimizer,) = ours(name, p, {})
    mine: Any = optimizer
    named = dict(mine.named_parameters())
    generator = torch.Generator(place.device).manual_seed(1)

    def noise(like: Tensor) -> Tensor:
        return 1e-2 * torch.randn(like.shape, generator=generator, device=like.device)

    seconds = []
    for _ in range(4 if place.quick else 12):
        for w in p.all:
            w.grad = noise(w)
        for signal, names in mine.due().items():
            mine.supply(signal, in_form(signal, {n: noise(named[n]) for n in names}))
        synchronize(p.all[0])
        began = time.perf_counter()
        mine.step()
        synchronize(p.all[0])
        seconds.append(time.perf_counter() - began)
    return sum(seconds[2:]) / len(seconds[2:])


def peers(session: Session) -> None:
    """As ``optimizer_step.py`` measures, shortly."""
    place = session.place
    heavyball_as_it_is_written()
    chosen = argparse.Namespace(device=place.device, peers=PEERS, seconds=0.2 if place.quick else 1.0, rounds=10)
    names = ("adamw", "muon") if place.quick else tuple(CONTESTS)
    rows = []
    for name in names:
        size = "tiny" if place.quick else "124m"
        row = session.attempt(f"peers of {name}", partial(measure, name, CONTESTS[name], SETS[size], chosen))
        if row is None:
            continue
        rows.append(row)
        for label, result in row["peers"].items():
            if "failed" in result:
                session.not_run[f"{label} beside {name}"] = result["failed"]
    session.found["peers"] = rows


def show(report: Report) -> None:
    print(f"{report['device']}, torch {torch.__version__}, load average {report['load']:.1f}\n")
    print("| check | rows | failed | told without a limit | seconds |\n|---|---|---|---|---|")
    for name in CHECKS:
        if name in report["found"]:
            rows = report["found"][name]["rows"]
            failed = ", ".join(row["what"] for row in rows if not row["passed"]) or "none"
            told = ", ".join(f"{row['what']} {row['found']:.2g}" for row in rows if row["limit"] is None)
            print(f"| {name} | {len(rows)} | {failed} | {told} | {report['found'][name]['seconds']:.0f} |")
    if found := report["found"].get("mfu"):
        sheet = found["share_of_data_sheet"]
        how = "compiled" if found["compiled"] else "eager"
        print(
            f"\nMFU, {found['model']}, {found['batch_tokens']:,} tokens a step, {how}: "
            f"{found['tokens_per_second']:,.0f} tokens/s, "
            f"{found['share_of_measured_products']:.1%} of the measured rate of products"
            + (f", {sheet:.1%} of the data sheet's" if sheet else "")
        )
    for size, rows in report["found"].get("overhead", {}).items():
        print(f"\n| step at {size} | ms | over AdamW |\n|---|---|---|")
        for name, row in rows.items():
            print(f"| {name} | {row['ms']:.2f} | {row['over_adamw'] or float('nan'):.2f} |")
    if rows := report["found"].get("peers"):
        print("\n| optimizer | ours, ms | fastest peer | ours over it |\n|---|---|---|---|")
        for row in rows:
            ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
            print(f"| {row['optimizer']} | {row['ms']:.2f} | {row['best_peer'] or 'none'} | {ratio} |")
    print("\nNot run:" if report["not_run"] else "\nNot run: nothing.")
    for name, why in report["not_run"].items():
        print(f"* {name}: {why}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="four optimizers, tiny shapes, one process's minute")
    parser.add_argument("--only", default="", help=f"of {', '.join((*CHECKS, *MEASURED))}, comma-separated")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which nothing new begins")
    parser.add_argument("--json", action="store_true", help="print everything found as JSON")
    chosen = parser.parse_args()
    parts = chosen.only.split(",") if chosen.only else [*CHECKS, *MEASURED]
    for part in parts:
        if part not in (*CHECKS, *MEASURED):
            parser.error(f"{part!r} is none of {', '.join((*CHECKS, *MEASURED))}")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print(
            "benchmarks/gpu.py: torch finds no CUDA device here; --device cpu --quick tries the command without one",
            file=sys.stderr,
        )
        return 2
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FAIRSTEP_CACHE"] = str(Path(folder) / "cache")
        session = Session(Place(chosen.device, chosen.quick, Path(folder)), 60 * chosen.minutes)
        for part in parts:
            torch.use_deterministic_algorithms(False)  # a run of ours asks for them, and peers do not
            act = {"mfu": mfu, "overhead": overhead, "peers": peers}.get(part)
            session.attempt(part, partial(act, session) if act else partial(check, session, part))
    for part in (*CHECKS, *MEASURED):
        if part not in parts:
            session.not_run[part] = "not asked for"
    if chosen.device == "cpu":
        session.not_run["all on a GPU"] = "--device cpu: nothing here says how a GPU does"
    elif torch.cuda.device_count() > 1:
        session.not_run["several GPUs"] = "one is used here"
    report = {
        "device": torch.cuda.get_device_name() if chosen.device == "cuda" else machine().processor,
        "load": os.getloadavg()[0],
        "found": session.found,
        "not_run": session.not_run,
    }
    print(json.dumps(report, indent=1)) if chosen.json else show(report)
    return int(any(not row["passed"] for name in CHECKS for row in report["found"].get(name, {}).get("rows", ())))


if __name__ == "__main__":
    sys.exit(main())
