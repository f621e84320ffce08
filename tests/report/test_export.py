"""Tables and pictures as files."""

from __future__ import annotations

import csv
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fairstep.cli import main
from fairstep.report import export
from fairstep.report.stores import page
from fairstep.runs.merge import gather

if TYPE_CHECKING:
    from tests.conftest import FakeContest

HOSTILE = "<script>alert(1)</script> $x$ ../../up"


@pytest.mark.slow
def test_every_table_in_three_forms(demo_contest: FakeContest, tmp_path: Path) -> None:
    demo_contest.store.write_ledger(demo_contest.ledger)
    made = page(gather([demo_contest.store]), [demo_contest.store])
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'fairstep[figures]')")
    written = export(made, tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {f"tables/{name}.{end}" for name in ("verdicts", "trials") for end in ("csv", "md", "tex")} <= names
    assert {f"figures/{name}.{end}" for name in made.figures for end in ("svg", "png")} <= names
    assert json.loads((tmp_path / "result.json").read_text()) == made.result
    rows = list(csv.DictReader((tmp_path / "tables" / "verdicts.csv").read_text().splitlines()))
    for row, contestant in zip(rows, made.result["contestants"], strict=True):
        assert row["name"] == contestant["name"]
        assert row["speedup"] == ("" if contestant["speedup"] is None else repr(contestant["speedup"]))
    trials = csv.reader((tmp_path / "tables" / "trials.csv").read_text().splitlines())
    assert len(list(trials)) == 1 + len(demo_contest.trials)
    forest = ElementTree.parse(tmp_path / "figures" / "forest.svg").getroot()
    assert forest.tag.endswith("svg")


@pytest.mark.slow
def test_hostile_names_stay_in_the_folder_and_text(fake_contest: FakeContest, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    fake_contest.contestant("adamw", [2.80, 2.81], grid=3)
    fake_contest.contestant(HOSTILE, [2.70, 2.71], grid=3)
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    fake_contest.store.write_ledger(fake_contest.ledger)
    written = export(page(gather([fake_contest.store]), [fake_contest.store]), tmp_path / "out")
    assert all((tmp_path / "out") in path.resolve().parents for path in written)
    assert "<script>" not in (tmp_path / "out" / "figures" / "curves.svg").read_text()


def test_without_matplotlib_tables_are_written_and_the_extra_is_named(
    demo_contest: FakeContest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    demo_contest.store.write_ledger(demo_contest.ledger)
    out = tmp_path / "page.html"
    store = str(demo_contest.store.path)
    assert main(["report", store, "--out", str(out), "--export", str(tmp_path / "e")]) == 2
    assert "fairstep[figures]" in capsys.readouterr().err
    assert (tmp_path / "e" / "tables" / "verdicts.csv").is_file()
    assert out.is_file()
