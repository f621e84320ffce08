"""FSDP2's DTensors in anybody's loop: on 1, 2 and 4 gloo ranks the weights of one process, and its checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.forked_ranks import run_ranks
from tests.optim import dtensor_program as program
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from fairstep import optim

pytestmark = pytest.mark.dist
Results = dict[str, dict[str, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and checkpoints of two ranks, and of four that go on from the two's checkpoints."""
    place = tmp_path_factory.mktemp("dtensors")
    for size in (2, 4):
        code, output = run_ranks(Path(program.__file__), [str(place)], size, place / f"{size}.output", seconds=400)
        assert code == 0, output[-3000:]
    return place


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """One rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], what: object) -> None:
    """Up to the order of sums in float64."""
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        largest = (found[name] - weights).abs().max() / weights.abs().max()
        assert largest <= 1e-12, (what, name, largest.item())


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_give_the_weights_of_one_process(ranks: int, folder: Path) -> None:
    """All optimizers and forms with signals; rows, experts and elements that the ranks cannot share equally; a layer
    stored as input x output; parameters with a gradient now and then; weights that the loop changes and moves."""
    results: Results = torch.load(folder / f"{ranks}.pt")
    assert set(results) >= set(program.NAMES if ranks == 2 else program.VARIANTS)
    for name, found in results.items():
        if name == "rounding" or name.startswith("anywhere"):
            continue
        expected = program.trained(name)
        for kind in ("trained", "evaluated"):
            assert_equal(found[kind], expected[kind], (name, kind))
        if "replicas" in found:
            assert_equal(found["replicas"], expected["trained"], (name, "replicas"))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_checkpoints_go_on_at_another_number_of_ranks(folder: Path) -> None:
    results: Results = torch.load(folder / "4.pt")
    for name in program.STORED:
        expected = program.unbroken(name)
        for kind in ("loaded", "handed over", "taken over"):
            assert_equal(results[name][kind], expected, (name, kind))
        alone = program.loaded_and_ended(name, folder / "4", None, program.PLAIN)
        assert_equal(alone["loaded"], expected, (name, "in one process"))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ones_own_loop_with_clipping_and_evaluation(ranks: int, folder: Path) -> None:
    results: Results = torch.load(folder / f"{ranks}.pt")
    for name in program.LOOPED:
        expected = program.looped(name, None)["looped"]
        for kind in results[name].keys() & {"looped", "looped replicas"}:
            assert_equal(results[name][kind], expected, (name, kind))


@pytest.mark.parametrize("ranks", [2, 4])
def test_shards_are_rounded_with_random_numbers_of_their_own(ranks: int, folder: Path) -> None:
    results: Results = torch.load(folder / f"{ranks}.pt")
    rows = results["rounding"]["rounded"]["weight"]
    assert len(rows.unique()) == 2
    for one in range(4):
        for other in range(one):
            assert 0.45 < (rows[one] == rows[other]).double().mean() < 0.55


@pytest.mark.parametrize("name", ["adamw", "muon", "prodigy", "muon+ema"])
def test_one_rank(name: str, mesh: Any, folder: Path) -> None:
    expected = program.trained(name)
    assert_equal(program.trained(name, mesh)["trained"], expected["trained"], name)
    loaded = program.loaded_and_ended(name, folder / "4", mesh, program.PLAIN)["loaded"]
    assert_equal(loaded, program.unbroken(name), name)


def test_groups_that_come_later_and_weights_in_other_memory(mesh: Any) -> None:
    models = program.Odd(), program.divided(program.Odd(), mesh)
    for model in models:
        named = list(model.named_parameters())
        optimizer = optim.Muon(named[:5])
        program.train(model, optimizer, 1, 2)
        optimizer.add_param_group({"params": named[5:7]})
        before = _locals(model)
        program.train(model, optimizer, 3, 5)
        assert all(a.data_ptr() != b.data_ptr() for a, b in zip(before, _locals(model), strict=True))
    assert_equal(program.copies(models[1]), program.copies(models[0]), "added")


@torch.no_grad()
def _locals(model: nn.Module) -> list[Tensor]:
    return [p.to_local() if isinstance(p, DTensor) else p.detach() for p in model.parameters()]


def test_what_cannot_be_stepped_is_said_by_name(mesh: Any) -> None:
    def placed(placement: Any) -> nn.Parameter:
        return nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh, [placement]))

    rows, columns, plain = placed(Shard(0)), placed(Shard(1)), nn.Parameter(torch.ones(4, 4))
    for other, problem in (
        (columns, r"parameter b is placed as .*Shard\(dim=1\).*tensor parallel ones are for rules that look at every"),
        (placed(Replicate()), r"parameter b is placed as .*Replicate"),
        (plain, r"parameter b is a plain tensor, and a is a DTensor"),
    ):
        for name in ("muon", "prodigy", "cautious-adamw"):  # whole matrices, sums of all, means of each
            optimizer = optim.build(name, [("a", rows), ("b", other)], roles="matrix")
            with pytest.raises(ValueError, match=problem):
                optimizer.step()
    optimizer = optim.AdamW([("a", rows)])
    rows.grad = DTensor.from_local(torch.ones(4, 4), mesh, [Partial()])
    with pytest.raises(ValueError, match=r"the gradient of a is placed as .*Partial.*reduce the gradient"):
        optimizer.step()
    rows.grad = None
    with pytest.raises(TypeError, match="cannot be copied; save its state_dict"):
        copy.deepcopy(optimizer)


@pytest.mark.parametrize("name", program.ANYWHERE)
def test_elementwise_rules_step_tensor_parallel_parameters(name: str, folder: Path) -> None:
    """Columns, rows, replicas and plain tensors in one optimizer on two ranks; state that goes to other placements."""
    results: Results = torch.load(folder / "2.pt")
    expected = program.anywhere(name, None)
    for kind, weights in results[f"anywhere {name}"].items():
        assert_equal(weights, expected["trained"], (name, kind))


def test_roles_of_a_sharded_module_are_the_modules(mesh: Any) -> None:
    model = program.Net()
    expected = optim.infer_roles(model)
    for block in model.blocks:
        program.divided(block, mesh)
    assert optim.infer_roles(program.divided(model, mesh)) == expected
