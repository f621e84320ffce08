"""Packed stores: they say what the store said, in equal bytes, and an edited one is refused by file and field."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.test_screens import check
from tests.study.played import play, random_objective, stored
from tests.study.test_contest import SPACE, WORKLOAD

from fairstep.analysis import contest_result
from fairstep.cli import main
from fairstep.runs import Ledger, Store
from fairstep.runs.pack import LATER, POINTS
from fairstep.study import Contest, Contestant

EVALUATIONS = 80


def made_store(path: Path, objective: int) -> Store:
    contestants = tuple(Contestant(name, {"lr": 0.001}, SPACE) for name in ("adamw", "muon"))
    held = Contest({"": WORKLOAD}, contestants, "adamw", seeds=3)
    made = {name: random_objective(SPACE, seed, sigma=1e-3) for seed, name in enumerate(("adamw", "muon"), objective)}
    plan = play(held, lambda cell, trial, spec: made[trial.contestant].run(trial.hyperparameters, spec.init_seed))
    return stored(plan, path, EVALUATIONS)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("packing") / "full", 0)


@pytest.fixture(scope="module")
def packed_once(original: Store) -> Path:
    out = original.path.parent / "packed"
    assert main(["store", "pack", str(original.path), "--out", str(out)]) == 0
    return out


def test_several_stores_are_packed_as_one(original: Store, packed_once: Path, tmp_path: Path) -> None:
    assert main(["store", "pack", str(packed_once), str(original.path), "--out", str(tmp_path / "both")]) == 0
    for file in packed_once.iterdir():
        assert (tmp_path / "both" / file.name).read_bytes() == file.read_bytes(), file.name


def test_stores_that_contradict_one_another_are_not_packed(
    original: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = made_store(tmp_path / "other", 2)
    assert main(["store", "pack", str(original.path), str(other.path), "--out", str(tmp_path / "both")]) == 2
    assert f"{other.path} has the " in (said := capsys.readouterr().err) and "than a store before it" in said
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("columns", [60, 80])
def test_its_screen(
    columns: int, original: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["store", "pack", str(original.path), "--out", str(tmp_path / "packed")]) == 0
    said = capsys.readouterr().out
    assert "bytes" in said
    check(said, columns, str(tmp_path)[:10])


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may edit."""
    return Path(shutil.copytree(packed_once, tmp_path / "packed"))


def verified(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    code = main(["store", "verify", str(path), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert code == (1 if row["problems"] else 0)
    return list(row["problems"])


def edit(packed: Path, name: str, column: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON in a column's first row, and the sum of the file with it."""
    table = pl.read_parquet(packed / name)
    value = json.loads(table[column][0])
    change(value)
    cells = [json.dumps(value), *table[column].to_list()[1:]]
    table.with_columns(pl.Series(column, cells)).write_parquet(packed / name)
    seal(packed)


def seal(packed: Path, **changes: Any) -> None:
    facts = json.loads((packed / "pack.json").read_text())
    facts["sha256"] = {name: hashlib.sha256((packed / name).read_bytes()).hexdigest() for name in facts["sha256"]}
    (packed / "pack.json").write_text(json.dumps(facts | changes))


def test_a_packed_store_says_what_the_store_said(original: Store, packed_once: Path) -> None:
    packed = Store(packed_once)
    (ledger,), (same,) = original.ledgers(), packed.ledgers()
    assert same == ledger
    said = [contest_result(one, store.runs()) for one, store in ((ledger, original), (same, packed))]
    assert [{**result, "crossings": None} for result in said] == [{**said[0], "crossings": None}] * 2
    assert packed.table().equals(original.table())


def test_curves_keep_their_ends(original: Store, packed_once: Path) -> None:
    run = original.runs()[0]
    whole, kept = run.metrics(), Store(packed_once).run(run.id).metrics()
    assert len(whole) == EVALUATIONS and len(kept) == POINTS
    assert kept[0] == whole[0] and kept[-1] == whole[-1]
    assert all(row in whole for row in kept)


def test_packing_twice_gives_equal_bytes(original: Store, packed_once: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(original.path, tmp_path / "copy"))
    for store, out in ((copy, tmp_path / "again"), (packed_once, tmp_path / "of packed")):
        assert main(["store", "pack", str(store), "--out", str(out)]) == 0
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in packed_once.iterdir()
        }


def test_norms_of_gradients_and_matrices_are_kept(original: Store, tmp_path: Path) -> None:
    copy = Store(shutil.copytree(original.path, tmp_path / "copy"))
    run = copy.runs()[0]
    summary = run.summary
    assert summary is not None
    rows: list[dict[str, Any]] = [
        {"kind": "train", "step": n, "tokens": n, "loss": 3.0, "gradient_norm": 0.5 / n} for n in range(1, 9)
    ]
    sizes: list[Any] = [{"matrix": 0.02}, {"matrix": 0.03, "head": 0.01}, {"head": 0.01}, "edited"]
    rows[:4] = [row | {"weight_rms": size} for row, size in zip(rows, sizes, strict=False)]
    (run.directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run.directory / "summary.json").write_text(run.sealed(summary).model_dump_json())
    assert main(["store", "pack", str(copy.path), "--out", str(tmp_path / "out")]) == 0
    kept = [{"matrix": 0.02}, {"matrix": 0.03}]
    for row, size in itertools.zip_longest(rows, kept):
        row.pop("weight_rms", None)
        row.update({"weight_rms": size} if size else {})
    assert Store(tmp_path / "out").run(run.id).metrics() == rows


@pytest.mark.parametrize(("version", "without"), [(1, list(LATER)), (2, list(LATER[1:]))])
def test_earlier_formats_are_read(
    version: int, without: list[str], packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curves = pl.read_parquet(packed / "curves.parquet").drop(without)
    curves.write_parquet(packed / "curves.parquet")
    seal(packed, format=version)
    assert verified(packed, capsys) == []


def test_every_verb_reads_it(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (
        ["report", str(packed)],
        ["study", "status", str(packed)],
        ["store", "list", str(packed)],
        ["store", "check", str(packed)],
        ["judge", str(packed)],
        ["claims", "--store", str(packed)],
        ["design", "--effect", "0.5", "--store", str(packed)],
        ["recommend", "--params", "27k", "--tokens", "1M", "--batch-tokens", "2k", "--store", str(packed)],
    ):
        assert main(verb) == 0, capsys.readouterr().err
    assert verified(packed, capsys) == []


def test_nothing_is_written_to_it(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["compare", "adamw", "muon", "--preset", "27k", "--tokens", "50k"], ["train", "adamw"]):
        assert main([*verb, "--store", str(packed)]) == 2
        assert "is packed, and no runs are added to it" in capsys.readouterr().err
    assert main(["store", "pack", str(packed), "--out", str(packed)]) == 2


def test_what_is_not_packed_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Store(packed).runs()[0].id
    assert main(["export", run, "--store", str(packed), "--out", str(packed.parent / "model")]) == 2
    assert "weights.safetensors" in capsys.readouterr().err


def test_a_changed_file_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = bytearray((packed / "curves.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (packed / "curves.parquet").write_bytes(raw)
    (said,) = verified(packed, capsys)
    assert "curves.parquet: its SHA-256 is" in said
    assert main(["report", str(packed)]) == 2
    assert "curves.parquet: its SHA-256 is" in capsys.readouterr().err


def test_an_edited_loss_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(packed, "runs.parquet", "summary", lambda summary: summary.update(final_loss=1.0))
    said = verified(packed, capsys)
    assert any("are not as they were when it ended" in line for line in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final_loss": -1.0}, "final_loss is -1, below 0"),
        ({"final_loss": 99.0}, "final_loss is 99.0, not in (0,"),
        ({"tokens": 7}, "7 tokens are not"),
    ],
)
def test_a_loss_outside_its_domain_is_named(
    packed: Path, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(packed, "runs.parquet", "summary", lambda summary: summary.update(change, digest=""))
    assert any(said in line for line in verified(packed, capsys))


def test_runs_of_another_corpus_are_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(ledger: dict[str, Any]) -> None:
        ledger["cell"]["fingerprint"] = "cd"
        ledger.pop("digest")

    edit(packed, "ledgers.parquet", "content", change)
    assert any("of a cell with text cd, and " in line for line in verified(packed, capsys))


def test_an_edited_spec_is_another_run(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(packed, "runs.parquet", "spec", lambda spec: spec["data"].update(fingerprint="cd"))
    assert any("is of another run" in line for line in verified(packed, capsys))


def test_a_certificate_beyond_its_trials_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(ledger: dict[str, Any]) -> None:
        ledger["certificates"]["muon"]["loss"] -= 0.1
        ledger.pop("digest")

    edit(packed, "ledgers.parquet", "content", change)
    lacking, said = verified(packed, capsys)
    assert lacking.endswith("lacks its digest.")
    assert "certificates.muon.loss: it claims" in said


def test_a_ledger_whose_digest_was_taken_out_is_no_evidence(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its design of seeds a contest is judged by a rule of before, with a narrower interval."""
    edit(packed, "ledgers.parquet", "content", lambda ledger: ledger.update(design=None, digest=""))
    assert any(line.endswith("lacks its digest.") for line in verified(packed, capsys))
    assert main(["store", "pack", str(packed), "--out", str(packed.parent / "new")]) == 2
    assert "lacks its digest" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["report"], ["claims", "--store"], ["judge"], ["store", "list"]])
def test_a_baseline_that_does_not_compete_is_named(
    packed: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(packed, "ledgers.parquet", "content", lambda ledger: ledger.update(baseline="nosuch"))
    assert main([*verb, str(packed)]) == 2
    assert "its baseline 'nosuch' is not among its contestants" in capsys.readouterr().err


def test_a_ledger_that_was_edited_says_so(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(packed, "ledgers.parquet", "content", lambda ledger: ledger["trials"].pop())
    assert any("was changed after it was written" in line for line in verified(packed, capsys))


def test_a_store_without_ledgers_is_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.read_parquet(packed / "ledgers.parquet").clear().write_parquet(packed / "ledgers.parquet")
    seal(packed)
    assert any("lacks ledgers" in line for line in verified(packed, capsys))


def test_a_newer_format_is_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal(packed, format=99)
    (said,) = verified(packed, capsys)
    assert "pack.json: format 99 is of a newer fairstep" in said
    assert main(["store", "pack", str(packed), "--out", str(packed.parent / "new")]) == 2


@pytest.mark.parametrize(
    ("name", "column", "value", "said"),
    [
        ("ledgers.parquet", "ledger", "../other", "the column ledger must hold names of letters"),
        ("ledgers.parquet", "content", None, "the column content must have a value for each ledger"),
        ("runs.parquet", "run", "", "the column run must hold names of letters"),
        ("runs.parquet", "spec", None, "the column spec must have a value for each run"),
        ("runs.parquet", "summary", "{", "summary.json of run"),
        ("curves.parquet", "run", "another", "the run another is not in runs.parquet"),
    ],
)
def test_a_table_that_is_none_is_named(
    packed: Path, name: str, column: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.read_parquet(packed / name)
    cells = pl.Series(column, [value, *table[column].to_list()[1:]], dtype=pl.String)
    table.with_columns(cells).write_parquet(packed / name)
    seal(packed)
    assert any(said in line for line in verified(packed, capsys))


def test_a_packed_store_beside_the_store(original: Store, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(packed), str(original.path), "--out", str(packed.parent / "both.html")]) == 0
    assert "ended in two stores, with the same losses to the last bit" in (packed.parent / "both.html").read_text()


def test_no_pack_of_another_store_is_written_over(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    other = Path(shutil.copytree(packed, packed.parent / "other"))
    name = pl.read_parquet(packed / "ledgers.parquet")["ledger"][0]
    raw = pl.read_parquet(packed / "ledgers.parquet")["content"][0].encode()
    renamed = Ledger.parse(raw).model_copy(update={"name": "another"})
    renamed.write(packed.parent / "another.json")
    content = (packed.parent / "another.json").read_text()
    pl.DataFrame({"ledger": ["another"], "content": [content]}).write_parquet(other / "ledgers.parquet")
    seal(other)
    assert verified(other, capsys) == []
    assert main(["store", "pack", str(other), "--out", str(packed)]) == 2
    assert f"is a packed store with the contest {name}, which" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before
    (packed / "runs.parquet").write_bytes(b"")  # which cannot be read, and is packed again
    assert main(["store", "pack", str(other), "--out", str(packed)]) == 0


def test_a_file_is_no_folder_of_a_pack(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "pack", str(packed), "--out", str(packed / "pack.json")]) == 2
    assert "pack.json is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["runs.parquet", "ledgers.parquet"])
def test_a_missing_file_is_named(packed: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    (packed / missing).unlink()
    (said,) = verified(packed, capsys)
    assert missing in said


def test_an_unfinished_contest_is_not_packed(
    original: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Store(shutil.copytree(original.path, tmp_path / "copy"))
    (copy.runs()[0].directory / "summary.json").unlink()
    assert main(["store", "pack", str(copy.path), "--out", str(tmp_path / "out")]) == 2
    assert "has no result" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
