"""State shards: blocks of a tensor against torch's own indexing, and what cannot be done with them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import checkpoints

from fairstep import optim
from fairstep.optim.rule import RowSharding
from fairstep.optim.sharding.partition import divide
from fairstep.optim.sharding.state_shards import ShardLayout, StateShard, boxes
from fairstep.optim.sharding.step_cost import Piece


@pytest.mark.parametrize("seed", range(30))
def test_blocks_are_the_elements_of_a_range_in_their_order(seed: int) -> None:
    draw = random.Random(seed)
    shape = [draw.randint(1, 5) for _ in range(draw.randint(1, 4))]
    tensor = torch.arange(torch.Size(shape).numel()).view(shape)
    start, stop = sorted((draw.randint(0, tensor.numel() - 1), draw.randint(1, tensor.numel())))
    stop = max(stop, start + 1)
    found = [
        tensor[tuple(slice(a, a + n) for a, n in zip(offset, sizes, strict=True))].reshape(-1)
        for offset, sizes in boxes(shape, start, stop)
    ]
    assert torch.cat(found).tolist() == list(range(start, stop))
    assert len(found) <= 2 * len(shape) - 1


@pytest.mark.parametrize(
    ("elementwise", "sharding", "shape", "piece"),
    [
        (True, RowSharding(), (5, 4), Piece(3, 14, 20)),
        (True, RowSharding(), (5, 4, 2), Piece(3, 14, 20)),  # two numbers for each element
        (False, RowSharding(), (6, 3), Piece(2, 4, 6)),
        (False, RowSharding(), (3,), Piece(2, 4, 6)),  # one number for each two rows
        (False, RowSharding(second=("key",)), (2, 6, 3), Piece(2, 5, 6)),
    ],
)
def test_a_portion_is_what_is_cut_out(elementwise: bool, sharding: RowSharding, shape: Any, piece: Piece) -> None:
    place = ShardLayout(piece, torch.Size((5, 4) if elementwise else (6, 3)), elementwise, sharding)
    whole = torch.arange(torch.Size(shape).numel()).view(shape)
    local = place.cut("key", whole)
    portion = place.shard("key", local.contiguous())
    assert isinstance(portion, StateShard)
    assert portion.size() == whole.size()
    for offset, part in portion.copied().chunks():
        where = tuple(slice(a, a + n) for a, n in zip(offset, part.shape, strict=True))
        assert torch.equal(whole[where], part)
    assert sum(part.numel() for _, part in portion.chunks()) == local.numel()
    room = place.allocate_like("key", whole.to("meta"))
    assert isinstance(room, StateShard)
    assert room.local.shape == local.shape
    assert room.boxes == portion.boxes
    assert place.fits("key", shape)
    assert not place.fits("key", (7, *shape[1:])) or (not elementwise and sharding.second)


def test_what_is_not_divided_stays_as_it_is() -> None:
    tensor = torch.zeros(4, 4)
    assert ShardLayout(Piece(0, 6, 6), torch.Size((6, 3)), False, RowSharding()).shard("m", tensor) is tensor
    assert (
        ShardLayout(Piece(2, 4, 6), torch.Size((6, 3)), False, RowSharding(repeated=("R",))).shard("R", tensor)
        is tensor
    )


def test_there_is_no_arithmetic_on_a_portion() -> None:
    portion = ShardLayout(Piece(1, 3, 4), torch.Size((4,)), True, RowSharding()).shard("m", torch.ones(2))
    assert "Piece(start=1" in repr(portion)
    with pytest.raises(TypeError, match="can only be saved, loaded and copied"):
        torch.add(portion, 1)


def build(ranks: int = 0, rank: int = 0, width: int = 6) -> Any:
    torch.manual_seed(0)
    optimizer = optim.build("adamw", torch.nn.Linear(6, width, bias=False))
    if ranks:
        n = 6 * width
        optimizer.share({"weight": Piece(rank * n // ranks, (rank + 1) * n // ranks, n)}, lambda x: x)
    for _, p in optimizer.named_parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


def test_state_of_other_pieces_or_of_another_model_is_told_apart(tmp_path: Path) -> None:
    one, other = build(2, 0), build(2, 1)
    with pytest.raises(ValueError, match="weight is incomplete: it has rows 0 to 18 of 36, and 18 to 36 are wanted"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="weight is incomplete: it has rows 0 to 18 of 36, and 0 to 36 are wanted"):
        build().load_state_dict(one.state_dict())
    checkpoints.write(tmp_path, [one.state_dict(), other.state_dict()])
    with pytest.raises(
        ValueError, match=r"of another model or optimizer: the .* of weight has the shape \(6, 6\), where"
    ):
        checkpoints.read(tmp_path, build(width=7))
    whole = build()
    whole.load_state_dict(build().state_dict())
    other.load_state_dict(whole.state_dict())  # takes its own of it
    entry = other.state_dict()["state"]["weight"]
    assert {v.local.shape for v in entry.values() if isinstance(v, StateShard)} == {torch.Size((18,))}


def test_a_division_that_leaves_something_out_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid fill"):
        checkpoints.write(tmp_path, [build(3, 0).state_dict(), build(3, 2).state_dict()])


@pytest.mark.parametrize("name", ["adamw", "muon", "soap", "kron", "adam-mini"])
def test_experts_move_between_numbers_of_ranks(name: str, tmp_path: Path) -> None:
    def built(rank: int = 0, ranks: int = 1) -> Any:
        torch.manual_seed(0)
        shapes = {"moe.experts": (4, 6, 5), "moe.router": (4, 5), "norm": (5,)}
        named = [(key, torch.nn.Parameter(torch.randn(shape))) for key, shape in shapes.items()]
        optimizer = optim.build(name, named, roles={"moe.experts": "expert"})
        if ranks > 1:
            optimizer.share(divide(optimizer.step_costs(), ranks)[rank], lambda x: x)
        return optimizer

    alone = built()
    for _ in range(3):
        for _, p in alone.named_parameters():
            p.grad = torch.randn_like(p)
        alone.step()
    place = tmp_path / "1"
    checkpoints.write(place, [alone.state_dict()])
    divided = False
    for ranks in (4, 3):
        members = [built(rank, ranks) for rank in range(ranks)]
        for member in members:
            checkpoints.read(place, member)
        parts = [member.state_dict() for member in members]
        divided |= any(isinstance(v, StateShard) for p in parts for v in p["state"].get("moe.experts", {}).values())
        place = tmp_path / str(ranks)
        checkpoints.write(place, parts)
    assert divided
    again = built()
    checkpoints.read(place, again)
    expected, found = (optimizer.state_dict()["state"] for optimizer in (alone, again))
    assert found.keys() == expected.keys()
    for key, entry in expected.items():
        for field, value in entry.items():
            other = found[key][field]
            assert torch.equal(value, other) if torch.is_tensor(value) else value == other, (key, field)
