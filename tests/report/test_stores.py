"""Several contests on one page: merged as copied folders would be, and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FakeContest
from tests.report.test_page import Page

from fairstep.analysis import Trials
from fairstep.cli import main
from fairstep.report import write_page
from fairstep.report.borrowed import borrowed_section
from fairstep.report.compared import Judged, contestant_rows, shared_runs
from fairstep.report.loaded import LoadedContest
from fairstep.report.stores import page
from fairstep.runs import Ledger, Store
from fairstep.runs.merge import gather, merged


def contest(folder: Path, name: str, offset: float = 0.0, tokens: int = 1_024_000, noise: float = 0.0) -> FakeContest:
    made = FakeContest(folder, tokens=tokens)
    made.contestant("adamw", [2.80, 2.81 + noise, 2.79], grid=3)
    made.contestant("muon", [2.70 - offset, 2.712 - offset, 2.69 - offset], lr=2e-3, grid=3)
    made.budgets({0.5: [3.0], 2.0: [2.6], 4.0: [2.45]})
    made.store.write_ledger(renamed(made, name))
    return made


def renamed(made: FakeContest, name: str, **changes: Any) -> Ledger:
    return made.ledger.model_copy(update={"name": name, **changes})


def test_a_contest_done_in_two_halves_is_whole_when_merged(tmp_path: Path) -> None:
    whole = contest(tmp_path / "whole", "one")
    stores = []
    for half, keep in enumerate((("tune", "budget"), ("final",))):
        copy = Store(tmp_path / f"half{half}")
        shutil.copytree(whole.store.path, copy.path)
        for trial in whole.trials:
            if trial.phase not in keep:
                (copy.run(trial.run).directory / "summary.json").unlink()
        stores.append(copy)
    (entry,) = gather(stores)
    (alone,) = gather([whole.store])
    made, expected = page([entry], [whole.store]), page([alone], [whole.store])
    assert made.result["contestants"] == expected.result["contestants"]
    (half,) = gather(stores[:1])
    verdicts = [row["verdict"] for row in page([half], stores[:1]).result["contestants"]]
    assert set(verdicts) == {"incomplete"}


def test_trials_that_one_copy_does_not_have_are_added(tmp_path: Path) -> None:
    made = contest(tmp_path / "a", "one")
    few = made.ledger.model_copy(update={"trials": made.ledger.trials[:4], "choices": {}})
    entry = merged([(made.store, few), (made.store, made.ledger)])
    assert [trial.run for trial in entry.ledger.trials] == [trial.run for trial in made.ledger.trials]
    assert entry.ledger.choices == made.ledger.choices


def test_the_same_cell_in_two_stores_is_compared(tmp_path: Path) -> None:
    first = contest(tmp_path / "a", "here")
    second = contest(tmp_path / "b", "there", offset=0.05)
    judged = [Judged.of(made.store, renamed(made, name)) for made, name in ((first, "here"), (second, "there"))]
    rows = {row["contestant"]: row for row in contestant_rows(judged)}
    assert rows["muon"]["difference"] == pytest.approx(0.05)
    assert rows["muon"]["seeds"] == 3
    assert rows["adamw"]["difference"] == 0
    assert (rows["muon"]["verdict"], rows["muon"]["agree"]) == ("faster", "yes")
    other = contest(tmp_path / "c", "longer", tokens=2_048_000)
    assert contestant_rows([*judged[:1], Judged.of(other.store, other.ledger)]) == [], "another budget"


def test_runs_that_two_stores_both_trained(tmp_path: Path) -> None:
    first = contest(tmp_path / "a", "one")
    second = contest(tmp_path / "b", "one", noise=1e-4)
    rows = shared_runs([Judged.of(made.store, made.ledger) for made in (first, second)])
    done = {trial.run for trial in first.trials if first.store.run(trial.run).status == "done"}
    assert {row["run"] for row in rows} == done, "diverged runs have no loss to compare"
    differ = [row for row in rows if row["difference"] != 0]
    assert [row["difference"] for row in differ] == [pytest.approx(-1e-4)]


def test_the_page_of_two_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contest(tmp_path / "a", "short")
    contest(tmp_path / "b", "<b>long", tokens=2_048_000)
    out = tmp_path / "both.html"
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["contest"], row["name"], row["verdict"]) for row in rows] == [
        ("short", "muon", "faster"),
        ("short", "adamw", "baseline"),
        ("<b>long", "muon", "faster"),
        ("<b>long", "adamw", "baseline"),
    ]
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())
    html = out.read_text(encoding="utf-8")
    assert "<b>long" not in html
    assert html.count("plotly.js v") == 1
    parsed = Page(html)
    assert json.loads(parsed.by_id("fairstep-result")) == rows
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids)), "no id twice"
    drawn = json.loads(parsed.by_id("fairstep-figures"))
    assert {f"figure-{key}" for key in drawn} <= set(ids)
    assert {"ratio", "c1-forest", "c2-forest", "c1-law"} <= set(drawn)


def test_stores_that_disagree_say_so_beside_the_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    contest(tmp_path / "a", "one")
    contest(tmp_path / "b", "one", noise=1e-4)
    contest(tmp_path / "same", "one")
    contest(tmp_path / "turned", "one", offset=-0.3)

    def said(other: str) -> str:
        out = tmp_path / f"{other}.html"
        assert main(["report", str(tmp_path / "a"), str(tmp_path / other), "--out", str(out)]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("1 contest in 2 stores.")]
        assert line.partition(". ")[2] in out.read_text(encoding="utf-8")
        return line

    assert said("b").endswith("The stores disagree: 1 run with another loss, by at most 0.0001 nats.")
    assert "disagree" not in said("same")
    assert said("turned").endswith("by at most 0.3 nats and 1 contestant with another verdict.")


def test_a_store_that_has_not_begun_does_not_hide_the_other(tmp_path: Path) -> None:
    whole, begun = contest(tmp_path / "a", "one"), contest(tmp_path / "b", "one")
    begun.store.write_ledger(renamed(begun, "one", trials=(), certificates={}))
    stores = [whole.store, begun.store]
    made = page(gather(stores), stores)
    assert [row["verdict"] for row in made.result] == ["faster", "baseline"]
    (compared,) = [section for section in made.sections if section.key == "compared"]
    assert any(f"Not compared: {begun.store.path}, one: the baseline" in str(part) for part in compared.parts)


def test_one_contest_or_study_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = contest(tmp_path / "a", "first")
    for name in ("s-small", "s-large"):
        made.store.write_ledger(renamed(made, name, study="s"))
    arguments = ["report", str(tmp_path / "a"), "--out", str(tmp_path / "o.html"), "--json", "--contest"]
    assert main([*arguments, "first"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "first"
    assert main([*arguments, "s"]) == 0
    assert {row["contest"] for row in json.loads(capsys.readouterr().out)} == {"s-small", "s-large"}
    assert main([*arguments, "third"]) == 2
    assert "holds no contest 'third'; it holds" in capsys.readouterr().err


def test_a_contest_that_has_not_begun_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = contest(tmp_path / "a", "begun")
    made.store.write_ledger(renamed(made, "later", trials=(), choices={}))
    out = tmp_path / "o.html"
    assert main(["report", str(tmp_path / "a"), "--out", str(out)]) == 0
    assert "1 contest left out" in capsys.readouterr().out
    assert "later: the baseline &#x27;adamw&#x27; has no trials" in out.read_text(encoding="utf-8")
    assert main(["report", str(tmp_path / "a"), "--out", str(out), "--contest", "later"]) == 2
    assert "the baseline 'adamw' has no trials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "/nowhere holds no contest"),
        (["/nowhere", "--published"], "--published takes no stores"),
        (["/nowhere", "/nowhere"], "named twice"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_gets_an_index(tmp_path: Path) -> None:
    contest(tmp_path / "a", "one")
    assert main(["report", str(tmp_path / "a"), "--out", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_law_of_the_baseline_has_its_residuals(tmp_path: Path) -> None:
    made = contest(tmp_path / "a", "one")
    drawn = page(gather([made.store]), [made.store]).figures
    residuals = [trace for trace in drawn["law"]["data"] if trace.get("yaxis") == "y2"]
    assert len(residuals) == 1
    assert len(residuals[0]["y"]) == 4
    write_page(page(gather([made.store]), [made.store]), tmp_path / "x.html")


def test_a_contestant_with_eight_cells_has_intervals_of_borrowed_variance(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for count in range(1, 9):
        contest(store.path, f"contest {count}", noise=0.004 * count, tokens=1_024_000 * count)
    runs = store.runs()
    cells = [LoadedContest.of(ledger, Trials.read(ledger, runs), "runs") for ledger in store.ledgers()]
    assert not borrowed_section(cells[:7]).body
    section = borrowed_section(cells)
    assert "Verdicts rest on the first interval" in section.body
    (table,) = section.tables
    assert [(row["name"], row["contest"]) for row in table.rows] == [("muon", f"contest {n}") for n in range(1, 9)]
    for row in table.rows:
        assert row["paired"] != row["borrowed"]
    assert borrowed_section([*cells, cells[0]]).tables[0].rows == table.rows, "the same runs are one cell"
    assert not borrowed_section([*cells[:7], cells[0]]).body


@pytest.mark.parametrize("said", [True, False], ids=["by the cell", "by the name, as before"])
def test_three_sizes_say_what_becomes_of_the_speedup_by_rule(said: bool, tmp_path: Path) -> None:
    stores = []
    for rule, fall in (("none", 0.02), ("mup", 0.0)):
        for place, parameters in enumerate((51_200, 102_400, 204_800)):
            made = contest(tmp_path / f"{rule}{place}", "one", offset=-fall * place, noise=-0.001 * place)
            cell = made.ledger.cell.model_copy(
                update={
                    "model": str(parameters),
                    "parameters_matrix": parameters,
                    "tokens": 20 * parameters,
                    "transfer": rule if said and rule != "none" else "",
                }
            )
            own = made.ledger.model_copy(update={"cell": cell, "name": f"{place}-transfer={rule}"})
            for path in made.store.path.glob("ledgers/*"):
                path.unlink()
            made.store.write_ledger(own)
            stores.append(made.store)
    made_page = page(gather(stores), stores)
    section = next(one for one in made_page.sections if one.key == "doublings")
    rows = {row["transfer"]: row for row in section.tables[0].rows}
    assert list(rows) == ["none", "mup", "mup over none"]
    assert rows["none"]["factor"] < rows["mup"]["factor"] == pytest.approx(1.0, abs=0.02)
    assert rows["mup over none"]["factor"] == pytest.approx(rows["mup"]["factor"] / rows["none"]["factor"])
    trends = next(table for one in made_page.sections for table in one.tables if table.name == "trends")
    assert [row["optimizer"] for row in trends.rows if row["against"] == "size"] == ["muon", "muon, mup"]
