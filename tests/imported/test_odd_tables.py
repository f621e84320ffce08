"""What tables of other people have in them: odd seeds, statuses, names and numbers, each read right or refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from tests.imported.losses import csv, evaluations, finals
from tests.imported.test_tables import EXPECTED, ROWS, numbers

import fairstep


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_name_with_brackets_is_of_one_file(ending: str, tmp_path: Path) -> None:
    """``run[12]`` is no pattern: what a pattern would find is of somebody else."""
    others = finals().with_columns(pl.lit(9.0).alias("val_loss"))
    for name, frame in {"run[12]": finals(), "run1": others, "run2": others}.items():
        getattr(frame, {"csv": "write_csv", "parquet": "write_parquet"}[ending])(tmp_path / f"{name}.{ending}")
    assert numbers(fairstep.judge(tmp_path / f"run[12].{ending}", "adamw")) == EXPECTED


@pytest.mark.parametrize("words", ["²", "--3", "1e3"])
def test_a_seed_may_be_any_text(words: str, tmp_path: Path) -> None:
    assert fairstep.judge(csv(tmp_path, ROWS.replace(",0,", f",{words},")), "adamw")["muon"].pairs == 2


def test_what_people_write_for_no_seed_pairs_nothing(tmp_path: Path) -> None:
    for word in ("None", "nan", "N/A"):
        muon = fairstep.judge(csv(tmp_path, ROWS.replace(",0,", f",{word},") + "adamw,2,3.2,9\nmuon,2,3,9\n"), "adamw")
        assert muon["muon"].pairs == 2


def test_whole_numbers_beyond_float64(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"optimizer": name, "seed": 10**400, "val_loss": loss} for name, loss in (("adamw", 3.1), ("muon", 10**400))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert fairstep.judge(path)["muon"].verdict == "diverged"


def test_a_table_without_rows_is_said(tmp_path: Path) -> None:
    finals().clear().write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has a header and no rows"):
        fairstep.judge(tmp_path / "a.parquet")


def test_an_index_of_pandas_is_columns_and_two_columns_of_one_name_are_said() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(finals().to_dicts())
    assert numbers(fairstep.judge(frame.set_index(["optimizer", "seed"]), "adamw")) == EXPECTED
    with pytest.raises(ValueError, match="the data frame has two columns named seed; rename one"):
        fairstep.judge(pandas.concat([frame, frame[["seed"]]], axis=1), "adamw")


@pytest.mark.parametrize(
    ("status", "verdict"), [(" Failed ", "incomplete"), ("FAIL", "incomplete"), ("CANCELLED", "incomplete")]
)
def test_a_status_is_read_as_every_tracker_writes_it(status: str, verdict: str) -> None:
    last = finals().with_row_index()["index"] == finals().height - 1
    frame = finals().with_columns(pl.when(last).then(pl.lit(status)).otherwise(pl.lit("finished")).alias("state"))
    assert fairstep.judge(frame, "adamw")["muon"].verdict == verdict
    asked = fairstep.judge(frame.with_columns(pl.lit("Paused").alias("state")), "adamw")
    assert asked["muon"].verdict == "faster"
    assert f"{finals().height} runs with the status paused count as finished (the data frame, row 1)." in asked.notes


def test_a_run_that_crashed_is_not_chosen(tmp_path: Path) -> None:
    rows = [
        row
        for name in ("adamw", "muon")
        for row in (
            *(f"{name},9,{lr},{state},{loss}" for lr, state, loss in ((1, "finished", 3.2), (2, "crashed", 2.0))),
            *(f"{name},{seed},1,finished,{loss}" for seed, loss in enumerate((3.3, 3.4, 3.31))),
        )
    ]
    judged = fairstep.judge(csv(tmp_path, "\n".join(["optimizer,seed,lr,state,loss", *rows])), "adamw")
    assert judged["adamw"].loss == pytest.approx((3.3 + 3.4 + 3.31) / 3)


def test_an_evaluation_that_is_there_twice_counts_once() -> None:
    twice = fairstep.judge(pl.concat([evaluations(), evaluations().tail(1)]), "adamw")
    assert numbers(twice) == numbers(fairstep.judge(evaluations(), "adamw"))
    assert f"the data frame: a repeated row counts once (1 of {evaluations().height + 1} are)." in twice.notes


def test_a_baseline_at_several_lengths_may_be_rows_of_runs(tmp_path: Path) -> None:
    """One row a run, which reads as a curve; the sentence says how to say so."""
    text = "optimizer,seed,tokens,val_loss\n" + "".join(
        f"adamw,{seed},{tokens},{3.2 - tokens / 1e4 + seed / 100}\n"
        for seed in (0, 1, 2)
        for tokens in (500, 1000, 2000)
    )
    text += "".join(f"muon,{seed},1000,{3.03 + seed / 90}\n" for seed in (0, 1, 2))
    with pytest.raises(ValueError, match=r"muon ends at 1000, adamw at 2000; .*; or say --rows run, if each row"):
        fairstep.judge(csv(tmp_path, text))
    assert fairstep.judge(csv(tmp_path, text), rows="run")["muon"].speedup is not None


def test_a_chart_over_time_is_refused(tmp_path: Path) -> None:
    head = ",".join(f'"{name} - val_loss{end}"' for name in ("adamw", "muon") for end in ("", "__MIN", "__MAX"))
    path = csv(tmp_path, f'"Relative Time (Process)",{head}\n60,3,3,3,3.1,3.1,3.1\n')
    with pytest.raises(ValueError, match=r"is a chart over 'Relative Time \(Process\)', .*; export it over Step"):
        fairstep.judge(path)
    rows = "".join(f"{100 * row},3,3,3,3.1,3.1,3.1\n" for row in range(1, 4))
    assert fairstep.judge(csv(tmp_path, f'"train/timesteps",{head}\n{rows}'), "adamw").result["contestants"]


def test_names_that_look_alike_are_said() -> None:
    frame = pl.concat([finals(), finals().with_columns(("\u200b" + pl.col("optimizer")).alias("optimizer"))])
    assert "look alike and have other characters" in " ".join(fairstep.judge(frame, "adamw").notes)


def table_with(losses: dict[tuple[str, int], list[float | None]], tmp_path: Path) -> Path:
    """Runs that log every 50 steps and are evaluated every 100, but for the losses given."""
    rows = []
    for name, loss in (("adamw", 3.2), ("muon", 3.1)):
        for seed in range(3):
            curve = losses.get((name, seed), [loss + 0.4, loss + 0.01 * seed])
            for place, value in enumerate(curve, 1):
                rows.append({"optimizer": name, "seed": seed, "step": 100 * place - 50, "val_loss": None})
                rows.append({"optimizer": name, "seed": seed, "step": 100 * place, "val_loss": value})
    path = tmp_path / "curves.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_evaluation_that_is_missing_is_not_the_one_before(name: str, tmp_path: Path) -> None:
    """Of the baseline it had been a budget of its own, and the verdict one on the other seeds."""
    judged = fairstep.judge(table_with({(name, 2): [3.5, None]}, tmp_path), "adamw")
    assert judged["muon"].verdict == "incomplete"
    assert any("1 run has no val_loss where others are evaluated" in note for note in judged.notes)
    assert any(f"{name}: 1 of 3 runs has no loss and counts as unfinished" in note for note in judged.notes)


def test_runs_that_go_on_after_their_last_evaluation_are_said(tmp_path: Path) -> None:
    nothing: list[float | None] = [3.8, 3.5, None]
    curves = {("adamw", seed): nothing for seed in range(3)}
    curves |= {("muon", seed): [3.6, 3.3, None] for seed in range(3)}
    judged = fairstep.judge(table_with(curves, tmp_path), "adamw")
    assert any("6 runs go on after their last evaluation, by which they are judged" in note for note in judged.notes)
    assert not any("go on" in note for note in fairstep.judge(table_with({}, tmp_path), "adamw").notes)


def test_shorter_runs_of_the_baseline_are_said_to_be_budgets(tmp_path: Path) -> None:
    judged = fairstep.judge(table_with({("adamw", 2): [3.5]}, tmp_path), "adamw")
    assert "adamw: runs of other steps (1 of 100) are budgets that turn losses into steps." in judged.notes


@pytest.mark.parametrize("noise", ["0.0010000000000000002", "0.0010000000474974513", "1e-3"])
def test_the_noise_of_arithmetic_is_no_search(noise: str, tmp_path: Path) -> None:
    """0.001 in float64, by another way of computing it, and in float32."""
    rows = [
        f"{name},{seed},{lr},{loss + 0.01 * seed + 0.001 * (seed % 2) * (name == 'muon')}"
        for name, loss in (("adamw", 3.2), ("muon", 3.1))
        for seed, lr in enumerate(["0.001", noise, "0.001", noise])
    ]
    judged = fairstep.judge(csv(tmp_path, "optimizer,seed,lr,val_loss\n" + "\n".join(rows) + "\n"), "adamw")
    assert (judged.grade, judged["muon"].pairs, judged["muon"].lr) == ("C", 4, 0.001)


def test_whole_hyperparameters_keep_every_digit(tmp_path: Path) -> None:
    """Float32 prints 123456792, which it has, as 123456790."""
    rows = [
        f"{name},{seed},{budget},{loss + 0.01 * seed * seed}"
        for name, budget, loss in (("adamw", 123456792.0, 3.2), ("muon", 123456792, 3.1))
        for seed in range(3)
    ]
    judged = fairstep.judge(csv(tmp_path, "optimizer,seed,lr,val_loss\n" + "\n".join(rows) + "\n"), "adamw")
    assert judged["muon"].lr == judged["adamw"].lr == 123456792


@pytest.mark.parametrize("scale", [1e-20, 1e-155, 1e-300, 5e-324])
@pytest.mark.parametrize("seeds", [True, False])
def test_losses_near_nothing_end_in_words(scale: float, seeds: bool) -> None:
    """Their squares are 0 and their logarithms are not; a warning of NumPy is an error in these tests."""
    rows = [
        {"optimizer": name, "val_loss": scale * (loss + 0.01 * seed * factor) * (1 + 50 / step), "step": step}
        | ({"seed": seed} if seeds else {})
        for name, loss, factor in (("adamw", 3.2, 1), ("muon", 3.1, 2))
        for seed in range(3)
        for step in ((100,) if name == "muon" else (25, 50, 100, 200, 400))
    ]
    judged = fairstep.judge(pl.DataFrame(rows), "adamw", rows="run")
    assert judged["muon"].verdict == "not separable"
    assert "so nothing says how far" in judged["muon"].reason
    if seeds and scale == 1e-20:
        assert "the same on all 3 seeds, but for rounding" in judged["muon"].reason


def test_what_is_no_loss_in_nats_is_refused_or_said(tmp_path: Path) -> None:
    """A higher accuracy was a slower optimizer."""
    table = csv(tmp_path, ROWS.replace("val_loss", "val_acc"))
    with pytest.raises(ValueError, match="val_acc is no loss, because a higher acc is better"):
        fairstep.judge(table, "adamw", loss="val_acc")
    named = csv(tmp_path, ROWS.replace("val_loss", "score_loss"))
    assert fairstep.judge(named, "adamw", loss="score_loss")["muon"].pairs == 2
    notes = fairstep.judge(csv(tmp_path, ROWS.replace("val_loss", "eval/ppl")), "adamw", loss="eval/ppl").notes
    assert "eval/ppl is a perplexity by its name" in " ".join(notes)


def test_what_is_the_same_without_a_divergence_has_no_interval(tmp_path: Path) -> None:
    rows = "optimizer,seed,val_loss\nadamw,0,3.5\nadamw,1,3.25\nadamw,2,3\nmuon,0,3.25\nmuon,1,3\nmuon,2,nan\n"
    assert "95 % interval" not in fairstep.judge(csv(tmp_path, rows), "adamw")["muon"].reason


def test_the_noise_of_arithmetic_is_no_other_length(tmp_path: Path) -> None:
    """It was refused as "muon ends at 1000000000, adamw at 1000000000"."""
    frame = finals().with_columns(
        tokens=pl.when(pl.col("optimizer") == "muon").then(pl.lit(1000000000.0000002)).otherwise(pl.lit(1e9))
    )
    assert numbers(fairstep.judge(frame, "adamw")) == EXPECTED
