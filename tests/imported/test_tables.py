"""Tables in every form give one verdict, columns are found by their names, and bad input is one sentence."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.imported.losses import FINAL, csv, evaluations, finals

import fairstep
from fairstep.analysis import paired_difference
from fairstep.analysis.statistics import mean_interval


def numbers(judged: Any) -> list[Any]:
    return [(row.name, row.verdict, row.loss, row.difference, row.difference_low, row.probability) for row in judged]


EXPECTED = numbers(fairstep.judge(finals(), "adamw"))


def test_the_verdict_is_the_paired_test() -> None:
    sides = [{seed: FINAL[name, seed] for seed in range(3)} for name in ("adamw", "muon")]
    difference = paired_difference(*sides)
    muon = fairstep.judge(finals(), "adamw")["muon"]
    assert (muon.difference, muon.difference_low) == (difference.value, pytest.approx(difference.low))
    assert muon.verdict == "faster" and muon.pairs == 3


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "b.csv"])
@pytest.mark.parametrize("frame", [finals(), evaluations()], ids=["runs", "evaluations"])
def test_every_form_of_a_table_is_one_table(name: str, frame: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.write_parquet(path)
    elif name.endswith("jsonl"):
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator={"a.tsv": "\t", "b.csv": ";"}.get(name, ","))
    assert numbers(fairstep.judge(path, "adamw")) == EXPECTED


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_tables_are_tables(ending: str, tmp_path: Path) -> None:
    pack: Any = importlib.import_module({".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}.get(ending, "zstandard")).compress
    for name in ("a.csv", "a.jsonl"):
        plain = tmp_path / name
        getattr(finals(), {"a.csv": "write_csv", "a.jsonl": "write_ndjson"}[name])(plain)
        packed = tmp_path / f"{name}{ending}"
        packed.write_bytes(pack(plain.read_bytes()))
        assert numbers(fairstep.judge(packed, "adamw")) == EXPECTED
        packed.write_bytes(packed.read_bytes()[:-20])
        if ending != ".zst":  # whose frames end without a mark
            with pytest.raises(ValueError, match=r"cannot be unpacked: .*; it is cut short, or not what"):
                fairstep.judge(packed, "adamw")


def test_frames_of_pandas_and_files_of_one_contestant_each(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    assert numbers(fairstep.judge(pandas.DataFrame(finals().to_dict(as_series=False)), "adamw")) == EXPECTED
    for name in ("adamw", "muon"):
        finals().filter(pl.col("optimizer") == name).drop("optimizer").write_csv(tmp_path / f"{name}.csv")
    assert numbers(fairstep.judge(tmp_path, "adamw")) == EXPECTED
    assert numbers(fairstep.judge([tmp_path / "adamw.csv", tmp_path / "muon.csv"])) == EXPECTED


def test_charts_exported_by_wandb(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"Step": [50, 100, 150]}
    for name, seed in FINAL:
        losses = evaluations().filter((pl.col("optimizer") == name) & (pl.col("seed") == seed))["val_loss"].to_list()
        columns |= {f"{name}-seed{seed} - val/loss{end}": losses for end in ("", "__MIN", "__MAX")}
    path = tmp_path / "chart.csv"
    pl.DataFrame(columns).write_csv(path)
    assert numbers(fairstep.judge(path, "adamw")) == EXPECTED


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ({"optimizer": "method", "val_loss": "eval/loss", "seed": "random_seed"}, {}),
        ({"optimizer": "Optimizer Name", "val_loss": "final_loss", "step": "last_step"}, {}),
        ({"optimizer": "config.optimizer", "val_loss": "validation loss", "seed": "config.seed"}, {}),
        ({"optimizer": "who", "val_loss": "L", "seed": "s"}, {"contestant": "who", "loss": "L", "seed": "s"}),
    ],
)
def test_columns_are_found_by_name_or_named(names: dict[str, str], given: dict[str, str]) -> None:
    frame = finals().with_columns(pl.lit(1.5).alias("train_loss")).rename(names)
    assert numbers(fairstep.judge(frame, "adamw", **given)) == EXPECTED


def test_seeds_that_nobody_shares_are_compared_without_pairs() -> None:
    from scipy.stats import ttest_ind

    frame = finals().with_columns(
        pl.when(pl.col("optimizer") == "muon").then(pl.col("seed") + 9).otherwise(pl.col("seed"))
    )
    for given in (frame, finals().drop("seed")):
        muon = fairstep.judge(given, "adamw")["muon"]
        sides = [[loss for (name, _), loss in FINAL.items() if name == one] for one in ("adamw", "muon")]
        welch = ttest_ind(*sides, equal_var=False)
        assert muon.probability == pytest.approx(welch.pvalue, rel=1e-4)
        assert (muon.difference_low, muon.difference_high) == pytest.approx(tuple(welch.confidence_interval(0.95)))
        assert muon.pairs == 0 and "3 against 3 runs, unpaired" in muon.reason


def test_pairs_say_what_they_were_worth() -> None:
    (note,) = [note for note in fairstep.judge(finals(), "adamw").notes if "correlation" in note]
    assert "paired by 3 seeds" in note and "correlation of 0.96" in note and "worth 25 runs" in note


def test_a_run_in_no_pair_is_counted() -> None:
    more = pl.concat([finals(), finals().head(1).with_columns(pl.lit(9, pl.Int64).alias("seed"))])
    judged = fairstep.judge(more, "adamw")
    assert judged["muon"].pairs == 3
    assert any("are in no pair (1 of adamw)" in note for note in judged.notes)


def test_runs_exported_by_wandb(tmp_path: Path) -> None:
    head = "Name,State,Notes,User,Tags,Created,Runtime,Sweep,config.lr,config.optimizer,config.seed,train/global_step,"
    head += "_step,eval/loss"
    rows = [f"{n}-{s},finished,,me,,2026,9{s},,0.1,{n},{s},150,7{s},{loss}" for (n, s), loss in FINAL.items()]
    judged = fairstep.judge(csv(tmp_path, "\n".join([head, *rows]) + "\n"), "adamw")
    assert numbers(judged) == EXPECTED and judged["muon"].lr == 0.1
    crashed = csv(tmp_path, "\n".join([head, *rows]).replace("muon-1,finished", "muon-1,crashed") + "\n")
    assert fairstep.judge(crashed, "adamw")["muon"].reason == "1 of 3 final runs failed: its status is crashed"


def test_one_run_each_is_no_verdict_but_says_how_many_would() -> None:
    one = finals().filter(pl.col("seed") == 0)
    muon = fairstep.judge(one, "adamw")["muon"]
    assert muon.verdict == "not separable" and "3 runs of each would decide" in muon.reason
    half = pl.concat([finals().filter(pl.col("optimizer") == "adamw"), one.filter(pl.col("optimizer") == "muon")])
    muon = fairstep.judge(half.drop("seed"), "adamw")["muon"]
    assert muon.verdict == "not separable" and "needs about 3 runs of each" in muon.reason


def test_a_search_is_found_and_judged_on_fresh_seeds() -> None:
    rows = [("adamw", lr, 0, loss) for lr, loss in ((0.001, 3.4), (0.002, 3.2), (0.004, 3.5))]
    rows += [("adamw", 0.002, seed, 3.3 + seed / 100) for seed in (1, 2, 3)]
    rows += [("muon", 0.02, seed, 3.1 + seed / 90) for seed in (1, 2, 3)]
    frame = pl.DataFrame(rows, schema=["optimizer", "lr", "seed", "val_loss"], orient="row")
    judged = fairstep.judge(frame, "adamw")
    adamw, muon = judged["adamw"], judged["muon"]
    assert adamw.loss == pytest.approx(3.32) and (adamw.seeds, adamw.tuning_trials, adamw.lr) == (3, 3, 0.002)
    assert muon.seeds == muon.pairs == 3
    assert [row["grade"] for row in judged.result["contestants"]] == ["C", "B"] and judged.grade == "C"
    alone = judged.source.grades
    assert alone == {"adamw": "B", "muon": "C"}


def test_a_whole_grid_is_chosen_by_its_first_seed_and_judged_by_the_others() -> None:
    rows = [
        (name, lr, seed, base + abs(lr - 2) / 10 + (0.5 if (lr, seed) == (1, 0) else 0) + seed / 100)
        for name, base in (("adamw", 3.3), ("muon", 3.2))
        for lr in (1, 2)
        for seed in (0, 1, 2)
    ]
    frame = pl.DataFrame(rows, schema=["optimizer", "lr", "seed", "loss"], orient="row")
    judged = fairstep.judge(frame, "adamw")
    assert judged.grade == "B" and judged["muon"].pairs == 2 and judged["muon"].trials == 6
    assert judged["muon"].loss == pytest.approx(3.215)
    assert judged.result["contestants"][0]["edges"] == ["lr"]
    assert any("outermost tried" in note for note in judged.notes)


def test_a_choice_without_a_fresh_run_is_no_verdict() -> None:
    rows = [(name, lr, 0, 3.0 + lr) for name in ("adamw", "muon") for lr in (0.1, 0.2)]
    judged = fairstep.judge(pl.DataFrame(rows, schema=["optimizer", "lr", "seed", "loss"], orient="row"), "adamw")
    assert judged["muon"].verdict == "incomplete"
    assert any("run it on fresh seeds" in note for note in judged.notes)


def test_divergence_is_a_result_and_a_missing_loss_is_unfinished() -> None:
    diverged = finals().with_columns(
        pl.when((pl.col("optimizer") == "muon") & (pl.col("seed") == 1))
        .then(math.nan)
        .otherwise(pl.col("val_loss"))
        .alias("val_loss")
    )
    assert fairstep.judge(diverged, "adamw")["muon"].verdict == "diverged"
    missing = diverged.with_columns(pl.col("val_loss").fill_nan(None))
    assert fairstep.judge(missing, "adamw")["muon"].verdict == "incomplete"


def test_the_baseline_at_several_lengths_turns_a_loss_into_tokens() -> None:
    rows = [("adamw", 100 * length, seed, 3.5 - length / 10 + seed / 100) for length in (1, 2, 4) for seed in (0, 1, 2)]
    rows += [("muon", 200, seed, 3.2 + seed / 99) for seed in (0, 1, 2)]
    frame = pl.DataFrame(rows, schema=["optimizer", "tokens", "seed", "final_loss"], orient="row")
    muon = fairstep.judge(frame, "adamw")["muon"]
    assert muon.verdict == "faster" and 1.3 < muon.speedup_low < muon.speedup < 2
    by_slope = fairstep.judge(frame.filter(pl.col("tokens") == 200), "adamw", slope="0.01/20tokens: a guess")["muon"]
    assert by_slope.speedup == pytest.approx(1 + by_slope.difference / (0.0005 * 200))
    assert "a guess" in by_slope.reason


def test_a_slope_compares_different_lengths() -> None:
    frame = finals().with_columns(pl.when(pl.col("optimizer") == "muon").then(100).otherwise(150).alias("step"))
    muon = fairstep.judge(frame, "adamw", slope="0.02/100steps")["muon"]
    plain = fairstep.judge(finals(), "adamw")["muon"]
    assert muon.difference == pytest.approx(plain.difference + 0.01)
    assert muon.loss == plain.loss


def test_a_declared_design_is_looked_at_in_its_order() -> None:
    muon = fairstep.judge(finals(), "adamw", seeds="2..8")["muon"]
    assert "of at most 8 seeds" in muon.reason
    with pytest.raises(ValueError, match="needs a column for the seed"):
        fairstep.judge(finals().drop("seed"), "adamw", seeds="3..8")


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("seed < 2", 2),
        ("seed in (0, 2) and optimizer != 'lion'", 2),
        ("not seed == 1", 2),
        ("0 < seed <= 2", 2),
        ("`seed` >= 1", 2),
        ("val_loss < 9", 3),
        ("step == 150", 3),
        ("tag is None", 3),
    ],
)
def test_conditions(where: str, kept: int) -> None:
    frame = evaluations().with_columns(pl.lit(None, pl.String).alias("tag"))
    assert fairstep.judge(frame, "adamw", where=where)["muon"].seeds == kept


ROWS = "optimizer,seed,val_loss,step\nadamw,0,3.3,9\nadamw,1,3.2,9\nmuon,0,3.1,9\nmuon,1,3.0,9\n"


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("", {}, "results.csv is empty"),
        ("optimizer,val_loss\n", {}, "has a header and no rows"),
        (ROWS.replace("val_loss", "x"), {}, "has no column for the loss"),
        (ROWS.replace("3.1", "high"), {}, "results.csv, row 4, column val_loss must be a number, not 'high'"),
        (ROWS.replace("3.1,", '"3,1",'), {}, "decimal comma, write 3.1"),
        (ROWS.replace("muon,0,3.1,9", "muon,0,3.1,nine"), {}, "row 4, column step must be a number, not 'nine'"),
        (
            ROWS.replace("muon,1", "muon,0"),
            {},
            "row 5: muon has another run on seed 0 (.*row 4); each seed counts once",
        ),
        (
            ROWS.replace("muon,1,3.0,9", "muon,1,3.0,8"),
            {},
            "runs of muon end at different steps: 8 .*row 5.* 9 .*--where",
        ),
        (
            ROWS.replace(",9", ",8").replace("3.0,8", "3.0,9").replace("3.1,8", "3.1,9"),
            {},
            "muon ends at 9, adamw at 8",
        ),
        (ROWS.replace("muon", "adamw"), {}, "there is one contestant only, adamw"),
        (ROWS, {"baseline": "adam"}, "no contestant is named 'adam'; did you mean adamw?"),
        (ROWS, {"baseline": "sgd"}, "the contestants are adamw, muon"),
        (ROWS.replace("adamw", "sgd"), {}, "name the baseline with --baseline; the contestants are sgd, muon"),
        (ROWS, {"loss": "vall_loss"}, "no column 'vall_loss' for --loss; did you mean val_loss?"),
        (ROWS.replace("step", "eval_loss"), {}, "val_loss and eval_loss could each be the loss; name one with --loss"),
        (ROWS, {"where": "lr == 1"}, "names the column 'lr', which is not there"),
        (ROWS, {"where": "__import__('os')"}, "--where takes a condition"),
        (ROWS, {"where": "seed > 7"}, "keeps none of 4 rows"),
        (ROWS, {"where": "seed in []"}, "--where takes a condition"),
        (ROWS, {"slope": "0.1"}, "a slope is nats over a length"),
        (ROWS, {"slope": "0.1/5tokens"}, "the slope is in tokens, and of the runs their lengths are in steps"),
        (ROWS, {"rule": "track9"}, "no rule is named 'track9'; the rules are track3 and effective-speedup"),
        (ROWS, {"at": ["7"]}, "no evaluation at step 7"),
        (ROWS.replace("3.2,9", "3.2"), {}, "row 3: adamw has no step there"),
        (
            ROWS.replace("step", "step,tokens").replace("3.1,9", "3.1,,9").replace("3.0,9", "3.0,,9"),
            {},
            "row 4: muon has no step there, and adamw no tokens .*row 2.; all need one of the two",
        ),
        (ROWS.replace("muon,1", "muon,00"), {}, "row 5: muon has another run on seed 0"),
        (ROWS.replace("step", "val_loss"), {}, "has two columns named val_loss; rename one"),
        (ROWS.replace(",9", ",inf"), {}, "row 2, column step must be a finite number, not inf"),
        (ROWS.replace("step", "batch_size").replace("3.0,9", "3.0,8"), {}, r"differ in batch_size \(9 in .* 8 in"),
        (ROWS.replace("3.1", "-3.1"), {}, "row 4, column val_loss must be a loss in nats per token, .* and is -3.1"),
        (
            ROWS.replace(",9", ",1.5B"),
            {},
            "row 2, column step must be a number, not '1.5B' .and 3 more rows.; write 1.5e9",
        ),
        (ROWS + "muon,2,3.1,9,7,7\n", {}, "cannot be read as CSV: row 6 has 6 fields, and the header 4"),
        (ROWS.replace("muon", "mu\0on"), {}, "holds NUL bytes, as UTF-16 without a mark does; save it as UTF-8"),
        (ROWS.replace("step", "#val_loss"), {}, "has two columns named val_loss, one of them #val_loss; rename one"),
    ],
)
def test_bad_input_is_one_sentence(text: str, given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=said.replace("(.*row", r"\(.*row").replace("4)", r"4\)").replace("?", r"\?")
    ) as told:
        fairstep.judge(csv(tmp_path, text), **given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("data", "ending", "said"),
    [
        (ROWS.encode("utf-16"), "csv", "is UTF-16; save it as UTF-8"),
        (ROWS.encode("utf-32"), "csv", "is UTF-32; save it as UTF-8"),
        (ROWS.replace("muon", "m\u00fcon").encode("latin-1"), "csv", "row 4 is not in UTF-8; save it as UTF-8"),
        (ROWS.replace("\n", "\r").encode(), "csv", "has line ends of one carriage return"),
        (b"PAR1", "parquet", "cannot be read as parquet"),
        (b"PK\3\4", "xlsx", "is of no format that is known; save its sheet as CSV"),
        (b"[]", "json", "is of no format that is known; write one JSON object a line"),
        (b"no", "csv.gz", "cannot be unpacked: Not a gzipped file"),
    ],
)
def test_what_is_no_table_is_said(data: bytes, ending: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / f"results.{ending}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"results.{ending} .*{said}"):
        fairstep.judge(path, "adamw")


def test_odd_tables_that_can_be_read(tmp_path: Path) -> None:
    expected = numbers(fairstep.judge(csv(tmp_path, ROWS), "adamw"))
    for text in (
        "\ufeff" + ROWS,
        "\n\n" + ROWS + "\n",
        ROWS.replace(",", "|"),
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("seed", "# seed"),
        ROWS.replace("muon,1", " muon ,1.0"),
        ROWS.replace("step", "step_duplicated_0"),
    ):
        assert numbers(fairstep.judge(csv(tmp_path, text), "adamw")) == expected, text
    judged = fairstep.judge(csv(tmp_path, ROWS + "muon,2,N/A,9\nMuon,2,3.1,9\n"), "adamw")
    assert "muon: 1 of 3 runs has no loss and counts as unfinished" in " ".join(judged.notes)
    assert "muon and Muon count as 2 contestants: their names differ in case." in judged.notes
    named = fairstep.judge(csv(tmp_path, ROWS.replace("muon", '"mu\non"')), "adamw")
    assert [row.name for row in named] == ["mu on", "adamw"]


def test_json_lines_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"optimizer": "adamw", "loss": NaN}\n[1]\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, row 2: one JSON object a line"):
        fairstep.judge(path)


def test_what_is_left_out_is_counted() -> None:
    frame = pl.concat([finals(), finals().head(2).with_columns(pl.lit(None, pl.String).alias("optimizer"))])
    frame = frame.with_columns(pl.lit("x").alias("host"))
    judged = fairstep.judge(frame.with_row_index("id"), "adamw")
    assert any("2 of 8 rows with no optimizer are left out" in note for note in judged.notes)
    assert "not used: host" in judged.result["understood"][0]
    assert any(note.startswith("Not checked") and "the same model" in note for note in judged.notes)


def test_another_column_that_differs_is_asked_about() -> None:
    frame = pl.concat([finals(), finals()]).with_columns(pl.Series("rho", [1] * 6 + [2] * 6))
    frame = frame.rename({"rho": "zeta"})
    with pytest.raises(ValueError, match="they differ in zeta: if a search varied one of these, name it with"):
        fairstep.judge(frame, "adamw", rows="run")
    assert fairstep.judge(frame, "adamw", rows="run", hyperparameters=["zeta"]).grade == "B"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "<script>\x1b[31m"
    judged = fairstep.judge(finals().with_columns(pl.col("optimizer").replace("muon", name)), "adamw")
    page = judged.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert name in [row.name for row in judged]
    assert "<script>\x1b" not in page and "&lt;script&gt;" in judged._repr_html_()


def test_a_page_and_a_table(tmp_path: Path) -> None:
    judged = fairstep.judge(evaluations(), "adamw", rule=["track3", "effective-speedup"])
    page = judged.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Evidence" in page and "track3 says" in page and "figure-curves" in page
    embedded = page.partition('id="fairstep-result"')[2].partition(">")[2].partition("</script>")[0]
    assert json.loads(embedded)["grade"] == "C"
    assert repr(judged).startswith("muon is faster than adamw.") and len(judged) == 2
    with pytest.raises(KeyError, match="they are muon, adamw"):
        judged["lion"]


def test_effective_speedup_is_the_ratio_of_compute() -> None:
    row = fairstep.judge(finals(), "adamw", rule="effective-speedup").result["contestants"][0]
    means = [mean_interval(loss for (one, _), loss in FINAL.items() if one == name).value for name in ("adamw", "muon")]
    assert row["rules"]["effective-speedup"]["speedup"] == pytest.approx(
        ((means[0] - 1.6) / (means[1] - 1.6)) ** (1 / 0.0941)
    )


def test_a_page_has_no_seeds_that_nobody_gave_and_its_lengths_in_their_unit(tmp_path: Path) -> None:
    frame = finals().drop("seed").with_columns(pl.lit(150).alias("step"))
    page = fairstep.judge(frame, "adamw").report(tmp_path / "page.html").read_text(encoding="utf-8")
    body = page.partition("<body")[2].partition('id="fairstep-result"')[0]
    assert "speedup in steps" in body and "in tokens" not in body.partition("Before you believe it")[0]
    assert str(2**62)[:8] not in body and "step time" not in body
