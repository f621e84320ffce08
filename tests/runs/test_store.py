"""Runs and stores as files: what a killed process, a merge or a broken file may leave behind."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from tests.runs.test_spec import spec

from fairstep.runs import Cell, Choice, Ledger, Store, StoreError, Summary, Trial, write_atomic
from fairstep.runs.files import json_rows
from fairstep.runs.table import RUN_COLUMNS, TRIAL_COLUMNS, trial_table

CELL = Cell(
    model="53k",
    parameters_matrix=1,
    parameters=2,
    tokens=992,
    batch_tokens=32,
    steps=31,
    data="text",
    fingerprint="ab" * 32,
    vocabulary=300,
    precision="float32",
)


def filled(path: Path) -> Store:
    store = Store(path).writable()
    for seed, loss in ((0, 3.0), (1, 3.1)):
        run = store.run(spec(init_seed=seed))
        write_atomic(run.directory / "spec.json", spec(init_seed=seed).to_json())
        run.write_summary(Summary(status="done", final_loss=loss, steps=31, tokens=992))
    return store


def test_a_table_has_one_row_per_run(tmp_path: Path) -> None:
    table = filled(tmp_path).table()
    assert table.columns == list(RUN_COLUMNS)
    assert sorted(table["final_loss"]) == [3.0, 3.1]
    assert set(table["lr"]) == {1e-3}


def test_merging_two_stores_is_copying(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one"), Store(tmp_path / "two").writable()
    shutil.copytree(one.path, two.path, dirs_exist_ok=True)
    assert two.table().equals(one.table())


def test_a_cut_off_summary_is_unfinished(tmp_path: Path) -> None:
    store = filled(tmp_path)
    run = store.run(spec())
    (run.directory / "summary.json").write_text('{"status": "do')
    assert run.status == "unfinished"
    assert not run.finished


def test_a_cut_off_last_row_of_metrics_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert json_rows(path.read_bytes()) == [{"step": 1}, {"step": 2}]


def test_a_ledger_joins_trials_with_results(tmp_path: Path) -> None:
    store = filled(tmp_path)
    trials = tuple(
        Trial(contestant="adamw", phase="tune", run=spec(init_seed=seed).identity, hyperparameters={"lr": 1e-3})
        for seed in (0, 1, 2)
    )
    ledger = Ledger(
        name="a",
        command="fairstep compare",
        baseline="adamw",
        contestants=("adamw",),
        cell=CELL,
        choices={"adamw": Choice(hyperparameters={"lr": 1e-3})},
        trials=trials,
    )
    store.write_ledger(ledger)
    assert store.ledger("a") == ledger
    assert store.ledgers() == [ledger]
    table = trial_table(ledger, store.runs())
    assert table.columns == list(TRIAL_COLUMNS)
    assert table["status"].to_list() == ["done", "done", "unfinished"]


def test_a_newer_ledger_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    (store.ledgers_folder / "new.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match=r"new\.json"):
        store.ledgers()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    write_atomic(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_the_hidden_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "value.json").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_atomic(tmp_path / "value.json", "new")
    assert error.value.filename == str(tmp_path / "value.json")


def test_a_read_only_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a disk refuses to remove the hidden file as it refuses to make it."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        write_atomic(tmp_path / "value.json", "new")
    assert error.value.filename == str(tmp_path / "value.json")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "store").writable()
