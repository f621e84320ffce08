"""What ``test_dtensors`` compares: training with parameters that FSDP2 divided, and with plain ones in one process.

    torchrun --nproc-per-node 2 tests/optim/dtensor_program.py FOLDER

writes the results of all cases to FOLDER. Gradients are given, so that only the optimizer's work can differ; ``looped``
has gradients of FSDP2's own.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn import functional as F

from fairstep import optim
from fairstep.optim.engine.signals import BY_HEAD, NUMBERS, in_form

STEPS, SAVED = 5, 3
VARIANTS = {
    "mars-shampoo form=exact": {"form": "exact"},
    "sophia-g interval=2": {"interval": 2},
    "soap block_size=4": {"block_size": 4, "precondition_frequency": 2},
    "muonclip qk_threshold=0.01": {"qk_threshold": 0.01},
    "adamw-8bit state_block=8": {"state_block": 8, "state_min_elements": 20},
    "muon-8bit state_block=8": {"state_block": 8, "state_min_elements": 20},
    "muon+ema": {},
    "muon splits": {"overrides": {"wide.weight": {"splits": "4:2:1"}, "experts.up": {"splits": "3:2"}}},
    "soap splits": {"overrides": {"small.weight": {"splits": 3}, "stored.weight": {"splits": 3}}},
    "muon+hyperball": {},
    "adamw+schedule-free+ema-nesterov": {},
}
NAMES = [*(name for name in optim.names() if optim.get(name).parts), *VARIANTS]
FLAT, PLAIN = StateDictOptions(flatten_optimizer_state_dict=True), StateDictOptions()
STORED = [
    "adamw",
    "muon",
    "soap",
    "kron",
    "adam-mini",
    "prodigy",
    "scion",
    "muon+ema",
    "muon splits",
    "schedule-free-plus",
    "adamw-8bit state_block=8",
    "muon-8bit state_block=8",
    *list(VARIANTS)[-1:],
]
LOOPED = ["adamw", "muon", "prodigy", "muon+ema"]


class Conv1D(nn.Module):
    """As Transformers': y = x W + b, with W (nx, nf)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf, dtype=torch.float64) / 3)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 5, 6, dtype=torch.float64) / 3)


class DbrxExpertGLU(nn.Module):
    """As Transformers': three experts one under another."""

    moe_num_experts = 3

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = (nn.Parameter(torch.randn(15, 4, dtype=torch.float64) / 3) for _ in range(2))


class Odd(nn.Module):
    """No number of rows that two or four ranks share equally; some have fewer rows than ranks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        double = {"dtype": torch.float64}
        self.embedding = nn.Embedding(13, 6, **double)
        self.wide = nn.Linear(6, 7, **double)
        self.q = nn.Linear(6, 7, bias=False, **double)
        self.small = nn.Linear(6, 3, **double)
        self.stored = Conv1D(9, 6)
        self.experts = Experts()
        self.flat = DbrxExpertGLU()
        self.upward = nn.ConvTranspose1d(6, 5, 3, bias=False, **double)
        self.gain = nn.Parameter(torch.ones(1, **double))
        self.head = nn.Linear(6, 13, bias=False, **double)
        self.head.weight = self.embedding.weight


def divided(model: nn.Module, mesh: DeviceMesh | None) -> nn.Module:
    return fully_shard(model, mesh=mesh) if mesh else model


def given(model: nn.Module, step: int) -> None:
    """Gradients of one step, which some parameters have now and then or late."""
    draw = torch.Generator().manual_seed(step)
    for name, p in model.named_parameters():
        value = torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p.dtype)
        missing = step in {"q.weight": (1, 4), "small.bias": (1, 2)}.get(name, ())
        p.grad = None if missing else like(p, value)


def like(p: Tensor, whole: Tensor) -> Tensor:
    if isinstance(p, DTensor):
        return distribute_tensor(whole, p.device_mesh, p.placements, src_data_rank=None)
    return whole


def copies(model: nn.Module) -> dict[str, Tensor]:
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    return {name: p.full_tensor().clone() if isinstance(p, DTensor) else p.clone() for name, p in tensors.items()}


def built(name: str, model: nn.Module) -> Any:
    roles = {"experts.up": "expert"}
    return optim.build(name.split()[0], model, roles=roles, **VARIANTS.get(name, {}))


def train(model: nn.Module, optimizer: Any, first: int, last: int) -> None:
    for step in range(first, last + 1):
        if step == 4:  # the weights lie in other memory from now on
            model.float().double()
        given(model, step)
        if step == 3:  # what a loop does to its weights counts
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.25)
        parameters = dict(model.named_parameters())
        for signal, names in optimizer.due().items():
            context = optimizer.previous_weights() if signal == "previous_gradient" else contextlib.nullcontext()
            with context:  # the "gradient" is a function of the weights
                seen = copies(model)
            values = {n: 0.1 * seen[n].square() for n in names}
            if signal in (*NUMBERS, *BY_HEAD):
                optimizer.supply(signal, in_form(signal, values))
            else:
                optimizer.supply(signal, {n: like(parameters[n], v) if "." in n else v for n, v in values.items()})
        optimizer.step()


def trained(name: str, mesh: DeviceMesh | None = None) -> dict[str, dict[str, Tensor]]:
    """Weights after the steps, with a scheduler of torch's, and weights to evaluate."""
    model = divided(Odd(), mesh)
    optimizer = built(name, model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * STEPS)
    for step in range(1, STEPS + 1):
        train(model, optimizer, step, step)
        scheduler.step()
        if step == 2:  # of this rank alone, without communication
            optimizer.load_state_dict(optimizer.state_dict())
    result = {"trained": copies(model)}
    optimizer.eval()
    result["evaluated"] = copies(model)
    optimizer.train()
    assert all(torch.equal(p, result["trained"][name]) for name, p in copies(model).items())
    return result


def unbroken(name: str) -> dict[str, Tensor]:
    model = Odd()
    train(model, built(name, model), 1, STEPS)
    return copies(model)


def begun_and_saved(name: str, folder: Path, mesh: DeviceMesh | None, options: StateDictOptions) -> None:
    model = divided(Odd(), mesh)
    optimizer = built(name, model)
    train(model, optimizer, 1, SAVED)
    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }
    dcp.save(state, checkpoint_id=folder / name, no_dist=mesh is None)


def loaded_and_ended(
    name: str, folder: Path, mesh: DeviceMesh | None, options: StateDictOptions
) -> dict[str, dict[str, Tensor]]:
    model = divided(Odd(), mesh)
    optimizer = built(name, model)
    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }
    dcp.load(state, checkpoint_id=folder / name, no_dist=mesh is None)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)
    train(model, optimizer, SAVED + 1, STEPS)
    return {"loaded": copies(model)}


def handed_over(name: str, mesh: DeviceMesh | None) -> dict[str, dict[str, Tensor]]:
    """The whole state, as Transformers saves it, and while the parameters hold weights to evaluate."""
    model, other = divided(Odd(), mesh), divided(Odd(), mesh)
    optimizer, resumed = built(name, model), built(name, other)
    train(model, optimizer, 1, SAVED)
    optimizer.eval()
    whole = StateDictOptions(full_state_dict=True)
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=whole))
    with torch.no_grad():
        for p, q in zip(other.parameters(), model.parameters(), strict=True):
            p.copy_(q)
    set_optimizer_state_dict(other, resumed, state, options=whole)
    resumed.train()
    train(other, resumed, SAVED + 1, STEPS)
    return {"handed over": copies(other)}


def taken_over(name: str, mesh: DeviceMesh) -> dict[str, dict[str, Tensor]]:
    """The state dict of an optimizer of one process, which each rank has whole."""
    alone, model = Odd(), divided(Odd(), mesh)
    optimizer, resumed = built(name, alone), built(name, model)
    train(alone, optimizer, 1, SAVED)
    with torch.no_grad():
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            p.copy_(like(p, q.detach()))
    resumed.load_state_dict(optimizer.state_dict())
    train(model, resumed, SAVED + 1, STEPS)
    return {"taken over": copies(model)}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        double = {"dtype": torch.float64}
        self.embedding = nn.Embedding(21, 10, **double)
        layers = ((nn.Linear(10, 14, **double), nn.Tanh(), nn.Linear(14, 10, **double)) for _ in range(2))
        self.blocks = nn.ModuleList(nn.Sequential(*block) for block in layers)
        self.norm = nn.LayerNorm(10, **double)
        self.head = nn.Linear(10, 21, bias=False, **double)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


def looped(name: str, mesh: DeviceMesh | None) -> dict[str, dict[str, Tensor]]:
    """One's own loop: backward passes of FSDP2, torch's clipping, evaluation in between."""
    model = Net()
    for block in model.blocks if mesh else ():
        fully_shard(block, mesh=mesh)
    divided(model, mesh)
    optimizer: Any = optim.build(name, model)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if mesh else (0, 1)
    draw = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(4):
        tokens = torch.randint(21, (8, 6), generator=draw).chunk(ranks)[rank]
        F.cross_entropy(model(tokens[:, :-1].flatten()), tokens[:, 1:].flatten()).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        assert (norm.full_tensor() if isinstance(norm, DTensor) else norm) > 0.5
        optimizer.step()
        optimizer.zero_grad()
        optimizer.eval()
        with torch.no_grad():
            losses.append(model(torch.arange(21)).square().mean())
        optimizer.train()
        for module in model.modules() if mesh else ():
            if hasattr(module, "reshard"):
                module.reshard()
    return {"looped": copies(model) | {"losses": torch.stack(losses)}}


ANYWHERE = ["adamw", "lion", "signum", "adamw+ema"]


class Parallel(nn.Module):
    """Of every placement one; ``few`` has fewer rows than there are ranks."""

    def __init__(self, mesh: DeviceMesh | None, turned: bool = False) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        shapes = {"columns": (3, 5), "rows": (5, 3), "few": (1, 4), "replicas": (4,), "plain": (3, 3)}
        placements: dict[str, Any] = {"columns": Shard(1), "rows": Shard(0), "few": Shard(0), "replicas": Replicate()}
        if turned:
            placements |= {"columns": Shard(0), "rows": Shard(1), "replicas": Shard(0)}
        for name, shape in shapes.items():
            whole = torch.randn(shape, generator=draw, dtype=torch.float64)
            if mesh and name in placements:
                whole = distribute_tensor(whole, mesh, [placements[name]], src_data_rank=None)
            self.register_parameter(name, nn.Parameter(whole))


def anywhere(name: str, mesh: DeviceMesh | None) -> dict[str, dict[str, Tensor]]:
    def made(turned: bool) -> tuple[nn.Module, Any]:
        model = Parallel(mesh, turned)
        return model, optim.build(name, model, roles={"*": "matrix", "replicas": "vector"}, lr=0.01)

    def step(model: nn.Module, optimizer: Any, number: int) -> None:
        given(model, number)
        optimizer.step()

    model, optimizer = made(turned=False)
    for number in range(1, SAVED + 1):
        step(model, optimizer, number)
    if mesh:
        other, resumed = made(turned=True)
        saved = get_optimizer_state_dict(model, optimizer)
        with torch.no_grad():
            for p, q in zip(other.parameters(), model.parameters(), strict=True):
                p.copy_(like(p, q.full_tensor() if isinstance(q, DTensor) else q))
        set_optimizer_state_dict(other, resumed, saved)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.eval()
    optimizer.train()
    found = {"trained": (model, optimizer)} | ({"resumed": (other, resumed)} if mesh else {})
    for number in range(SAVED + 1, STEPS + 1):
        for one in found.values():
            step(*one, number)
    return {kind: copies(one) for kind, (one, _) in found.items()}


def rounded(mesh: DeviceMesh) -> dict[str, dict[str, Tensor]]:
    """Rows that differ in nothing but their random numbers."""
    model = nn.Linear(4096, 4, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(model.weight)
    divided(model, mesh)
    optimizer = optim.build("lion", model, lr=2**-9, weight_decay=0.0, rounding="stochastic")
    for p in model.parameters():
        p.grad = like(p, torch.ones(4, 4096, dtype=torch.bfloat16))
    optimizer.step()
    return {"rounded": copies(model)}


def all_cases(folder: Path, ranks: int, mesh: DeviceMesh) -> dict[str, dict[str, dict[str, Tensor]]]:
    results = {name: trained(name, mesh) for name in (NAMES if ranks == 2 else [*STORED, *VARIANTS])}
    for name in STORED:
        if ranks == 4:  # goes on from what two ranks have saved
            results[name] |= loaded_and_ended(name, folder / "2", mesh, FLAT)
            results[name] |= handed_over(name, mesh) | taken_over(name, mesh)
        begun_and_saved(name, folder / str(ranks), mesh, FLAT if ranks == 2 else PLAIN)
    for name in LOOPED:
        results[name] |= looped(name, mesh)
    results["rounding"] = rounded(mesh)
    for name in ANYWHERE if ranks == 2 else ():
        results[f"anywhere {name}"] = anywhere(name, mesh)
    if ranks == 4:
        replicas = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
        for name in ("adamw", "muon", "prodigy"):
            results[name]["replicas"] = trained(name, replicas)["trained"]
            results[name] |= handed_over(name, replicas)
            results[name]["looped replicas"] = looped(name, replicas)["looped"]
    return results


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    results = all_cases(folder, ranks, init_device_mesh("cpu", (ranks,)))
    everyones: list[Any] = [None] * ranks
    sums = [w.double().sum().item() for kinds in results.values() for ws in kinds.values() for w in ws.values()]
    dist.all_gather_object(everyones, sums)
    assert all(one == everyones[0] for one in everyones), "the ranks do not have the same weights"
    if dist.get_rank() == 0:
        torch.save(results, folder / f"{ranks}.pt")
    dist.destroy_process_group()
    gc.collect()  # what still holds a group in a circle: its threads must end before the interpreter does


if __name__ == "__main__":
    main(Path(sys.argv[1]))
