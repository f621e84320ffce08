"""--parallel fsdp: the weights of one process, the curve of other modes, and checkpoints that any of them takes up."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
from tests.train.test_parallel import SHORT, curve, processes
from tests.train.test_sharded import case, compared

from fairstep import optim
from fairstep.model.config import config_of
from fairstep.model.presets import preset
from fairstep.model.shapes import parameter_table
from fairstep.optim.sharding.partition import divide_shards, shard
from fairstep.optim.sharding.step_cost import Piece, StepCost
from fairstep.runs import Execution, RunSpec, Store
from fairstep.train import train


def execution(mode: str) -> Execution:
    return Execution(
        threads=1, compile=False, micro_batch_sequences=2, checkpoint_every_steps=10, parallel=mode, save_weights=True
    )


def with_mode(spec: RunSpec, mode: str) -> RunSpec:
    return spec.model_copy(update={"execution": execution(mode)})


@pytest.mark.dist
def test_four_processes_have_shards_of_unequal_size(tmp_path: Path) -> None:
    """What differs with the number of ranks, in each step alike; all optimizers on two are in test_sharded."""
    names = ["adamw", "muon", "adam-mini", "mars-adamw form=exact", "prodigy", "kron", "muonh"]
    for row in compared(tmp_path, 4, case(names, ["dense"], ["fsdp"])):
        assert row["largest"] <= 1e-10, row


@pytest.mark.dist
def test_a_run_changes_its_mode_and_its_number_of_processes(tiny: Any, tmp_path: Path) -> None:
    """fsdp on 2, ddp-sharded on 2, fsdp on 4, then one process: the curve and the weights of one."""
    spec = with_mode(tiny("muon", tokens=SHORT), "fsdp")
    train(spec, Store(tmp_path / "one"))
    for size, mode, step in ((2, "fsdp", 15), (2, "ddp-sharded", 25), (4, "fsdp", 35)):
        _, output, _ = processes(with_mode(spec, mode), tmp_path / "many", size, kill_rank=size - 1, kill_step=step)
        assert "another of the" in output, output
    train(spec, Store(tmp_path / "many"))
    run = Store(tmp_path / "many").run(spec)
    assert [start["step"] for start in run.environment["starts"]] == [0, 10, 20, 30]
    assert curve(tmp_path / "many", spec) == pytest.approx(curve(tmp_path / "one", spec), rel=2e-5)


@pytest.mark.dist
def test_a_killed_run_goes_on_to_the_bit_and_leaves_whole_weights(tiny: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from torch.distributed.checkpoint import FileSystemReader

    spec = with_mode(tiny("soap", tokens=SHORT), "fsdp")
    processes(spec, tmp_path / "killed", 2, kill_rank=1, kill_step=35)
    place = Store(tmp_path / "killed").run(spec).directory / "checkpoints" / "step-00000030"
    saved = FileSystemReader(place).read_metadata()
    for key, entry in saved.state_dict_metadata.items():
        if key.startswith("model."):  # each rank wrote its shard, and nobody gathered any
            files = [info.relative_path for index, info in saved.storage_data.items() if index.fqn == key]
            assert sorted(files) == ["__0_0.distcp", "__1_0.distcp"], key
            assert len(entry.chunks) == 2
    code, output, _ = processes(spec, tmp_path / "killed", 2)
    assert code == 0, output
    code, output, _ = processes(spec, tmp_path / "whole", 2)
    assert code == 0, output
    assert curve(tmp_path / "killed", spec) == curve(tmp_path / "whole", spec)
    killed, whole = (Store(tmp_path / name).run(spec) for name in ("killed", "whole"))
    assert [start["step"] for start in killed.environment["starts"]] == [0, 30]
    assert whole.environment["parallel"] == "fsdp"
    a, b = (load_file(run.directory / "weights.safetensors") for run in (killed, whole))
    assert sum(p.numel() for p in a.values()) == whole.summary.parameters  # type: ignore[union-attr]
    assert all(bool((a[name] == b[name]).all()) for name in a)


@pytest.mark.dist
def test_what_fsdp_cannot_do_is_said(tiny: Any, tmp_path: Path) -> None:
    code, output, _ = processes(with_mode(tiny("torch.optim:Adagrad"), "fsdp"), tmp_path, 2)
    assert code != 0
    assert "--parallel fsdp needs an optimizer of fairstep's, not Adagrad" in output


@pytest.mark.parametrize("rows", [1, 5, 8, 96])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_shards_are_those_of_torch_chunk(rows: int, ranks: int) -> None:
    import torch

    chunks = [len(chunk) for chunk in torch.arange(rows).chunk(ranks)]
    shards = [shard(rows, rank, ranks) for rank in range(ranks)]
    assert [stop - start for start, stop in shards] == chunks + [0] * (ranks - len(chunks))


@pytest.mark.parametrize("name", ["adamw", "muon", "soap", "adam-mini", "mars-adamw"])
@pytest.mark.parametrize(("model", "ranks"), [("semenov/124m", 8), ("semenov/720m", 32), ("semenov/moe", 8)])
def test_shards_and_owners_are_a_partition(name: str, model: str, ranks: int) -> None:
    spec, size = optim.get(name), preset(model)
    hyper = spec.validate({})
    table = parameter_table(config_of(size.fields(size.model.vocabulary - size.extra_tokens)))
    tasks = []
    for p in table:
        part = spec.part(p.role, hyper)  # type: ignore[arg-type]
        tasks.append(StepCost.of(p.name, part.rule, p.role, p.shape, part.hyper(hyper)))
    ownership, gathered = divide_shards(tasks, {p.name: p.shape for p in table}, ranks)
    for task, p in zip(tasks, table, strict=True):
        pieces: list[Piece] = sorted((o[task.name] for o in ownership if task.name in o), key=lambda piece: piece.start)
        assert pieces[0].start == 0 and pieces[-1].stop == task.rows
        assert all(a.stop == b.start for a, b in pairwise(pieces))
        if task.name not in gathered:
            inner = task.rows // p.shape[0]
            assert all(
                piece == Piece(*(n * inner for n in shard(p.shape[0], rank, ranks)), task.rows)
                for rank, piece in enumerate(o[task.name] for o in ownership if task.name in o)
            )
    if name == "adamw":
        assert not gathered
    state = sum(task.state for task in tasks)
    for own in ownership:
        shares = [
            task.state * (own[task.name].stop - own[task.name].start) / task.rows for task in tasks if task.name in own
        ]
        assert sum(shares) <= (1 / ranks + 0.05) * state
    assert prod(p.shape) == p.elements
