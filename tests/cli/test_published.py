"""``fairstep published``: flat rows, filters, and a sentence for what was not published."""

from __future__ import annotations

import json

import pytest

from fairstep.cli import main


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main(["published", *arguments, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(("what", "least"), [("results", 400), ("speedups", 114), ("sweeps", 1841), ("models", 8)])
def test_every_table_is_a_list_of_flat_rows(capsys: pytest.CaptureFixture[str], what: str, least: int) -> None:
    found = rows(capsys, what)
    assert len(found) >= least
    assert all(not isinstance(value, dict | list) for row in found for value in row.values())


def test_speedups_have_the_agreed_columns(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "speedups", "--optimizer", "Muon", "--size", "130M")
    columns = {"optimizer", "model_size", "chinchilla_ratio", "variant", "speedup", "low", "high"}
    assert all(columns <= row.keys() for row in found)
    figure = {row["chinchilla_ratio"]: row["speedup"] for row in found if row["variant"] == "figure_2025_05"}
    assert figure[1] == 1.4194


def test_configurations_and_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rows(capsys, "configurations", "--paper", "semenov")) == 48
    assert len(rows(capsys, "configurations", "--paper", "wen")) == 150
    found = rows(capsys, "records", "--size", "720m", "--optimizer", "mars")
    assert {row["source"] for row in found} == {"Fig. 1", "Fig. 17 = images in the repo assets folder"}


def test_the_terminal_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "results", "--optimizer", "sophia"]) == 0
    assert "semenov" in capsys.readouterr().out


def test_the_track_is_judged_anew(capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["number"]: row for row in rows(capsys, "track3")}
    assert len(found) == 46
    assert sum(row["runs"] >= 4 for row in found.values()) == 41
    assert (found[46]["against"], found[46]["verdict"]) == (45, "faster")
    assert (found[11]["against"], found[11]["verdict"]) == (9, "not separable")
    assert found[1]["loss_low"] is None and found[11]["loss_low"] < found[11]["loss"] < found[11]["loss_high"]


def test_the_track_in_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["published", "track3"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("46  "))
    assert line.split()[-5:] == ["45", "35", "13", "57", "faster"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["track3", "--paper", "wen"], "wen published no track3; track3 did"),
        (["sweeps", "--paper", "semenov"], "published no sweeps"),
        (["results", "--optimizer", "sgd"], "'sgd'"),
    ],
)
def test_what_was_not_published(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["published", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_one_variant_and_length_and_results_from_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    narrow = ("--optimizer", "muon", "--size", "130m", "--variant", "figure_2025_05", "--ratio", "8")
    (row,) = rows(capsys, "speedups", *narrow)
    assert (row["variant"], row["chinchilla_ratio"], row["speedup"]) == ("figure_2025_05", 8, 1.3824)
    assert main(["published", "speedups", "--ratio", "3"]) == 2
    assert "there are 1, 2, 4, 8, 16" in capsys.readouterr().err
    assert main(["published", "sweeps", "--variant", "latest_interpolation"]) == 2
    assert "there are none" in capsys.readouterr().err
    found = rows(capsys, "results", "--paper", "semenov", "--size", "720m")
    assert all(float(str(row["uncertainty"])) > 0 for row in found)
    losses = [float(str(row["loss"])) for row in found if row["id"] == "720m_b1984_48k"]
    assert losses == sorted(losses) and len(losses) == 11


@pytest.mark.parametrize("name", ["adam-mini", "mars-adamw", "cautious-adamw", "schedule-free-adamw", "d_muon", "MARS"])
def test_everyones_spelling(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, "results", "--optimizer", name)


def test_what_all_rows_share_is_said_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["published", "--size", "720m", "--optimizer", "soap"]) == 0
    title, header, first, *_ = capsys.readouterr().out.splitlines()
    assert title == "3 results, all of paper semenov, optimizer soap, model_size 720m"
    assert header.split() == ["id", "tokens", "loss", "uncertainty"] and first.split()[-2:] == ["2.9940", "0.0020"]
