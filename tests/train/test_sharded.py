"""Ranks that share the optimizer's work: the weights of one process, at any number of ranks, and balanced shares."""

from __future__ import annotations

import json
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.ranks_equal_one import built_in
from tests import checkpoints
from tests.forked_ranks import run_ranks

from fairstep import optim
from fairstep.model import preset
from fairstep.model.config import config_of
from fairstep.model.shapes import parameter_table
from fairstep.optim.sharding.packing import Item, least, pack
from fairstep.optim.sharding.partition import divide, least_cost
from fairstep.optim.sharding.step_cost import Piece, StepCost, totals
from fairstep.train.ranks.world import World

CASES = """
import json, sys, torch
from benchmarks import ranks_equal_one
from benchmarks.ranks_equal_one import differences
from fairstep.train.ranks.world import joined

torch.set_num_threads(1)
rows = []
with joined() as world:
    for case in json.load(open(sys.argv[1])):
        names = case["names"]
        ranks_equal_one.STEPS, ranks_equal_one.SEQUENCES = case["steps"], case["sequences"]
        rows += differences(world, names, case["models"], case["modes"], getattr(torch, case["dtype"]))
if world.first:
    json.dump([{**vars(row), "largest": row.largest} for row in rows], open(sys.argv[2], "w"))
"""

ROUNDING_DECIDES = {"soap", "soap precondition_frequency=3", "soap block_size=12", "sophia-h"}
"""Optimizers to which one rounding error makes a large difference, in one process too: the eigenvectors of equal
eigenvalues (a rectangular matrix has zeros among its own) are any, and Sophia-H divides by estimates near zero. They
are held to the same result from the same gradient."""


def compared(folder: Path, processes: int, *cases: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of ``benchmarks/ranks_equal_one.py`` for all cases, of one start of the processes."""
    (folder / "cases.json").write_text(json.dumps(cases))
    (folder / "program.py").write_text(CASES)
    files = [str(folder / name) for name in ("cases.json", "rows.json")]
    code, output = run_ranks(folder / "program.py", files, processes, seconds=400)
    assert code == 0, output[-3000:]
    rows: list[dict[str, Any]] = json.loads((folder / "rows.json").read_text())
    return rows


def case(
    names: list[str], models: list[str], modes: list[str], dtype: str = "float64", steps: int = 4, sequences: int = 8
) -> dict[str, Any]:
    """Eight sequences are two micro-batches on each of two ranks, and four are one. Four steps are one that begins the
    state and three that go on with it, with everything that is done every three."""
    return {**locals()}


def now_and_then(name: str) -> bool:
    """Whether the rule does in some steps what it does not in others: every ten by default, so twelve have it twice."""
    known = optim.get(name.split()[0]).hyperparameters.keys()
    return bool({"precondition_frequency", "interval", "update_probability"} & known)


@pytest.mark.dist
def test_every_optimizer_gives_the_weights_of_one_process_in_every_mode(tmp_path: Path) -> None:
    """One start for all, because each optimizer's steps in one process are the same for all modes."""
    exact = ["soap", "soap precondition_frequency=3", "soap block_size=12"]
    slow = [name for name in built_in() if now_and_then(name)]
    steady = [name for name in built_in() if not now_and_then(name)]
    rows = compared(
        tmp_path,
        2,
        case(slow, ["moe"], ["ddp-sharded", "fsdp"], steps=12, sequences=4),
        case(steady, ["moe"], ["ddp-sharded", "fsdp"], sequences=4),
        case(["adamw", "muon", "kron"], ["moe"], ["ddp"]),  # repeats one process's work: nothing is divided
        case(exact, ["moe"], ["same-gradient", "fsdp, same gradient"], steps=12, sequences=4),
        case(["sophia-h"], ["dense"], ["same-gradient", "fsdp, same gradient"], steps=12, sequences=4),
        case(["adamw", "muon ns_dtype=float32", "prodigy"], ["dense"], ["ddp-sharded", "fsdp"], "float32"),
    )
    divided = [row for row in rows if row["mode"] == "fsdp" and row["dtype"] == "float64"]
    assert len(divided) == len(built_in()) - 1  # Sophia-H has no mixture
    for row in rows:
        if not row["mode"].endswith("gradient") and row["optimizer"] in ROUNDING_DECIDES:
            continue
        # float32: sums in another order, each 2^-24 off, which a division by a small root amplifies
        assert row["largest"] <= (1e-10 if row["dtype"] == "float64" else 1e-4), row


@pytest.mark.dist
def test_four_processes_divide_rows_and_add_up_what_looks_across_them(tmp_path: Path) -> None:
    names = ["adam-mini", "cautious-adamw", "mars-adamw", "mars-lion", "mars-shampoo", "kron", "scion", "prodigy"]
    names += ["muonh", "mars-adamw form=exact", "adamw+schedule-free+ema-nesterov", "sophia-g"]
    rows = compared(
        tmp_path,
        4,
        case([name for name in names if now_and_then(name)], ["dense"], ["ddp-sharded"], steps=12),
        case([name for name in names if not now_and_then(name)], ["dense"], ["ddp-sharded"]),
        case(["soap", "kron"], ["dense"], ["same-gradient"], steps=12),
        case(["soap precondition_frequency=3", "mars-shampoo"], ["dense"], ["same-gradient"]),
    )
    for row in rows:
        assert row["largest"] <= 1e-10, row
    found = {row["optimizer"]: row["largest"] for row in rows if row["mode"] == "same-gradient"}
    assert found["soap"] and found["kron"] and found["mars-shampoo"]  # rows were divided: sums are in another order


def works(name: str, model: str, **given: Any) -> list[StepCost]:
    spec, size = optim.get(name), preset(model)
    hyper = spec.validate(given)
    table = parameter_table(config_of(size.fields(size.model.vocabulary - size.extra_tokens)))
    parts = [(p, spec.part(p.role, hyper)) for p in table]  # type: ignore[arg-type]
    return [StepCost.of(p.name, part.rule, p.role, p.shape, part.hyper(hyper)) for p, part in parts]


BALANCED = [
    "adamw",
    "muon",
    "muonh",
    "normuon",
    "scion",
    "soap",
    "kron",
    "adam-mini",
    "cautious-adamw",
    "mars-adamw",
    "mars-shampoo",
    "adamh",
]


@pytest.mark.parametrize("name", BALANCED)
@pytest.mark.parametrize(
    ("model", "ranks"),
    [
        ("semenov/124m", 8),
        *((model, ranks) for model in ("semenov/720m", "wen/1.2b") for ranks in (8, 16, 32, 64)),
        ("moe", 16),
    ],
)
def test_shares_are_a_partition_and_balanced(name: str, model: str, ranks: int) -> None:
    model = "semenov/moe" if model == "moe" else model
    tasks = works(name, model)
    ownership = divide(tasks, ranks)
    for task in tasks:
        shares = sorted((owned[task.name] for owned in ownership if task.name in owned), key=lambda piece: piece.start)
        assert shares[0].start == 0 and shares[-1].stop == task.rows
        assert all(a.stop == b.start for a, b in pairwise(shares))
        assert all(piece.start < piece.stop and piece.start % task.unit == 0 for piece in shares)
    loads = totals(tasks, ownership)
    costs, states = [cost for cost, _ in loads], [state for _, state in loads]
    # 10 % above the mean, or what must be where matrices are few: the dearest of them, or two on one of the ranks.
    assert max(costs) <= max(1.1 * sum(costs) / ranks, 1.01 * least_cost(tasks, ranks))
    assert max(costs) >= least_cost(tasks, ranks) * (1 - 1e-12)
    assert max(states) <= (1 / ranks + 0.05) * sum(task.state for task in tasks)
    repeated = sum(costs) / sum(task.cost for task in tasks) - 1
    assert repeated <= (0.15 if name == "mars-shampoo" else 0.05)


@pytest.mark.parametrize("name", ["soap", "kron"])
def test_blocks_of_an_embeddings_columns_are_divided_by_rows(name: str) -> None:
    tasks = works(name, "semenov/720m", block_size=256)
    costs = [cost for cost, _ in totals(tasks, divide(tasks, 64))]
    assert max(costs) <= max(1.1 * sum(costs) / 64, 1.001 * least_cost(tasks, 64))
    assert max(task.cost for task in tasks) > 3 * sum(costs) / 64  # the embedding, which one rank would have


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 1024])
def test_any_number_of_ranks_divides_anything(ranks: int) -> None:
    tasks = [
        StepCost("norm", "elements", 5, 5.0, 10.0),
        StepCost("scalar", "elements", 1, 1.0, 0.0),
        StepCost("matrix", "whole", 4, 64.0, 16.0, unit=4),
        StepCost("table", "rows", 12, 12.0, 500.0, unit=2),
        StepCost("experts", "experts", 4, 400.0, 40.0),
    ]
    ownership = divide(tasks, ranks)
    for task in tasks:
        shares = [owned[task.name] for owned in ownership if task.name in owned]
        assert sum(piece.stop - piece.start for piece in shares) == task.rows
    assert divide(tasks, 1)[0]["table"] == Piece(0, 12, 12)


@pytest.mark.parametrize("seed", range(20))
def test_packing_is_as_good_as_can_be_said(seed: int) -> None:
    draw = random.Random(seed)
    ranks = draw.randint(2, 3)
    costs = [draw.choice((1.0, 3.0, 3.0, 4.5, 7.0)) for _ in range(draw.randint(1, 7))]
    best = min(
        max(sum(cost for cost, rank in zip(costs, ranks_of, strict=True) if rank == r) for r in range(ranks))
        for ranks_of in product(range(ranks), repeat=len(costs))
    )
    assert least(costs, ranks) <= best
    chosen = pack([Item(str(n), cost, cost) for n, cost in enumerate(costs)], ranks)
    found = max(sum(cost for cost, rank in zip(costs, chosen, strict=True) if rank == r) for r in range(ranks))
    assert best <= found <= 4 / 3 * best  # Graham's bound for the dearest first
    twins = pack([Item("one" if n < ranks else str(n), cost, cost) for n, cost in enumerate(costs)], ranks)
    assert len(set(twins[:ranks])) == min(ranks, len(costs))


def test_the_bound_counts_what_cannot_be_apart() -> None:
    assert least([5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0], 2) == 15.0  # the mean
    assert least([6.0, 6.0, 6.0, 1.0], 2) == 12.0  # two of the three are on one rank
    assert least([9.0, 1.0], 2) == 9.0
    assert least([], 2) == 0.0


@pytest.mark.parametrize("name", ["adamw", "muon", "soap", "kron", "mars-shampoo", "adam-mini", "prodigy", "soap+ema"])
def test_saved_parts_load_at_any_number_of_ranks(name: str, tmp_path: Path) -> None:
    def build(rank: int = 0, ranks: int = 1) -> Any:
        torch.manual_seed(0)
        layers = [torch.nn.Embedding(40, 6), *(torch.nn.Linear(6, 6, bias=bias) for bias in (True, False, False))]
        model = torch.nn.Sequential(*layers)
        optimizer = optim.build(name, model)
        if ranks > 1:
            optimizer.share(divide(optimizer.step_costs(), ranks)[rank], lambda x: x)
        return optimizer

    whole = build()
    for _ in range(3):
        for group in whole.param_groups:
            for p in group["params"]:
                p.grad = torch.randn_like(p)
        whole.step()
    expected = whole.state_dict()
    place = tmp_path / "1"
    checkpoints.write(place, [expected])
    for ranks in (2, 4, 3):  # each reads what the one before wrote
        parts = []
        for rank in range(ranks):
            part = build(rank, ranks)
            checkpoints.read(place, part)
            parts.append(part.state_dict())
        place = tmp_path / str(ranks)
        checkpoints.write(place, parts)
    again = build()
    checkpoints.read(place, again)
    found = again.state_dict()
    assert found["state"].keys() == expected["state"].keys()
    for key, entry in expected["state"].items():
        for field, value in entry.items():
            other = found["state"][key][field]
            same = torch.equal(value, other) if torch.is_tensor(value) else value == other
            assert same, (key, field)
    with pytest.raises(ValueError, match="invalid fill"):  # nor is anything written that lacks a rank
        checkpoints.write(tmp_path / "incomplete", parts[:-1])


class _Together(World):
    """A world whose other ranks have said something already."""

    def gather(self, value: Any) -> list[Any]:
        return [value, OTHER]


OTHER: Any = ({"version of torch": "2.0"}, "")


def test_ranks_that_do_not_fit_together_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _Together(0, 2)
    with pytest.raises(ValueError, match=r"same version of torch, but process 1 has 2.0 and process 0 has 2.13"):
        world.check_same({"version of torch": "2.13"})
    world.check_same({"version of torch": "2.0"})
    monkeypatch.setitem(globals(), "OTHER", ({}, "no corpus here"))
    with pytest.raises(ValueError, match="process 1 of 2 cannot begin: no corpus here"):
        world.check_same({"version of torch": "2.0"})
