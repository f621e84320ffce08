"""``fairstep doctor --trainer`` on good and bad scripts, each of which fails the check that is about its fault."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from tests.external.conftest import TRAIN
from tests.external.test_study import STUDY, written

from fairstep.analysis.statistics import AnalysisError, equivalence
from fairstep.cli import main
from fairstep.cli.shared.trainer_doctor import reference_of, referenced
from fairstep.runs import CommandSpec
from fairstep.study.file.command_study import CommandStudy
from fairstep.study.file.study import read

pytestmark = pytest.mark.slow

Findings = dict[str, dict[str, Any]]


def examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str = TRAIN, text: str = STUDY, *more: str
) -> tuple[int, Findings]:
    """The exit code and the last finding of every check."""
    file = written(tmp_path / "study", text, code)
    status = main(["doctor", "--trainer", str(file), "--part", "1", "--json", *more])
    found = json.loads(capsys.readouterr().out)
    assert found["fit"] is (status == 0)
    return status, {finding["check"]: finding for finding in found["findings"]}


def failed(findings: Findings) -> set[str]:
    return {name for name, finding in findings.items() if finding["status"] == "failed"}


def test_a_good_trainer_passes_every_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = TRAIN.replace("loss = 2.5", "import time; time.sleep(0.3)\nloss = 2.5")
    status, findings = examined(tmp_path, capsys, code)
    assert status == 0
    assert set(findings) == {
        *("loss", "writes", "processes", "end", "repeats", "seed", "budget", "values", "contestants", "beside"),
        "killed",
    }
    assert {finding["status"] for finding in findings.values()} == {"passed"}


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("import json, sys", "import json, sys; raise SystemExit(3)", "crash"),
        ("import json, sys", "import json, sys; sys.exit(0)", "unread"),
        ("import json, sys", "import json, sys, time; time.sleep(50)", "hang"),
        ("loss = 2.5", "loss = float('nan')", "diverged"),
    ],
)
def test_a_crash_a_hang_and_a_loss_that_is_none_are_told_apart(
    old: str, new: str, check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, findings = examined(tmp_path, capsys, TRAIN.replace(old, new), STUDY, "--patience", "1.5")
    assert status == 1
    assert set(findings) == {check}


@pytest.mark.parametrize(
    ("old", "new", "checks"),
    [
        ("int(sys.argv[3])", "0", {"seed"}),
        ("3 * steps**-0.3", "1", {"budget"}),
        ("40 * (lr - 0.02) ** 2", "0", {"values"}),
        ("loss = 2.5", "import random; loss = random.random()", {"repeats", "beside"}),
        ('"step": steps', '"step": steps // 2', {"end"}),
        ("import json, sys", "import json, sys; open('here.txt', 'w').write('x')", {"writes"}),
        ('- 0.1 * (optimizer == "muon")', "", {"contestants"}),
    ],
)
def test_a_fault_fails_its_check(
    old: str, new: str, checks: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert old in TRAIN
    code = (
        TRAIN.replace(old, new, 1)
        .replace('(1 + 0.1 * (optimizer == "muon"))', "1")
        .replace('* (\n    1 + 0.1 * (optimizer == "muon"))', "")
    )
    status, findings = examined(tmp_path, capsys, code)
    assert status == 1
    assert checks <= failed(findings) <= {*checks, "killed"}


SHARED = """
import time
with open("shared.txt", "w") as file: file.write(str(seed))
time.sleep(0.3)
with open("shared.txt") as file: seed = int(file.read())
"""


def test_trials_that_share_a_file_disturb_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, findings = examined(tmp_path, capsys, TRAIN.replace("\nloss = 2.5", f"{SHARED}\nloss = 2.5"))
    assert status == 1
    assert failed(findings) == {"writes", "beside"}, findings
    assert "share a file" in findings["beside"]["message"]


REFERENCE = "optimizer,lr,steps,seed,loss\n" + "".join(
    f"adamw,0.02,40,{seed},{2.5 + 3 * 40**-0.3 + 0.001 * (seed - 2.5)}\n" for seed in range(1, 5)
)


@pytest.mark.parametrize(("shift", "status"), [(0.0, 0), (0.05, 1)])
def test_a_harness_is_a_no_op_or_not(
    shift: float, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "runs.csv"
    table.write_text(REFERENCE)
    code = TRAIN.replace("loss = 2.5", f"loss = {2.5 + shift}")
    given = ("--reference", str(table), "--margin", "0.02")
    found, findings = examined(tmp_path, capsys, code, STUDY, *given)
    assert found == status
    assert findings["reference"]["status"] == ("failed" if status else "passed")
    assert ("the harness changes the loss" in findings["reference"]["message"]) is bool(status)


CELLS = STUDY.replace("steps = 40", "steps = [20, 40]\nwidth = [8, 16]").replace('"{out}"]', '"{out}", "{width}"]')


def settings(tmp_path: Path, header: str, row: str, text: str = CELLS) -> list[CommandSpec]:
    """The runs beside two reference runs of this row."""
    study = read(written(tmp_path / "study", text))
    assert isinstance(study, CommandStudy)
    (tmp_path / "runs.csv").write_text(f"{header},loss\n{row},3.1\n{row},3.2\n")
    (one,) = referenced(tmp_path / "runs.csv", study.contest().contestants, study)
    assert one.losses == [3.1, 3.2]
    return one.specs


@pytest.mark.parametrize(
    ("header", "row", "steps", "width", "lr"),
    [
        ("optimizer,lr,cell", "adamw,0.04,40-steps-width=16", 40, 16, 0.04),
        ("optimizer,steps,width", "adamw,20,16", 20, 16, 0.02),
        ("contestant,tokens,width", "adamw,40k,8", 40, 8, 0.02),
        ("contestant,steps,width,lr", "adamw,30,8.0,0.013", 30, 8, 0.013),  # a length and a rate of no cell, no grid
    ],
)
def test_a_reference_is_of_any_cell_length_and_value(
    header: str, row: str, steps: int, width: int, lr: float, tmp_path: Path
) -> None:
    text = CELLS if steps in (20, 40) else CELLS.replace("[20, 40]", "40")
    specs = settings(tmp_path, header, row, text)
    assert [spec.seed for spec in specs] == [1, 2]
    assert {(spec.steps, spec.cell["width"], spec.settings["lr"]) for spec in specs} == {(steps, width, lr)}
    assert specs[0].command(Path("o"))[-1] == str(width)


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        (
            "optimizer,steps",
            "adamw,40",
            "is one of the cells 40-steps-width=8 and 40-steps-width=16; add a column cell",
        ),
        ("optimizer,width", "adamw,9", "no cell of the study has the setting"),
        ("optimizer,cell", "adamw,big", "no cell of the study has the setting"),
        ("lr,steps,width", "0.02,40,8", "is one of adamw and muon; add a column contestant"),
        ("optimizer,steps,width", "sgd,40,8", "no contestant of the study can have the setting"),
        ("optimizer,beta,steps,width", "adamw,3,40,8", "adamw has lr, optimizer"),
        ("optimizer,tokens,width", "adamw,1500,8", "tokens 1500 is no whole number of batches of 1,000"),
        ("optimizer,steps,width", "adamw,-3,8", "steps must be a positive number"),
    ],
)
def test_a_reference_of_no_setting_is_refused(header: str, row: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        settings(tmp_path, header, row)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lr\n1\n", "has no column loss; it has lr"),
        ("lr,loss\n1,3\n1,nan\n", "line 3: loss must be a number, not 'nan'"),
        ("lr,loss\n1,3\n2,3\n", "has 1 run(s) of a setting"),
        ("lr,loss\n", "has no rows"),
    ],
)
def test_a_table_that_is_no_reference(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        reference_of(tmp_path / "runs.csv")


def test_equivalence_is_two_one_sided_tests() -> None:
    """Its interval is SciPy's Welch interval at 90 %."""
    a, b = [3.01, 3.02, 3.00, 3.03], [3.00, 3.01, 2.99, 3.00]
    found = equivalence(a, b, 0.05)
    assert found.difference == pytest.approx(0.015)
    interval = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert found.equivalent
    assert not equivalence(a, b, 0.02).equivalent
    with pytest.raises(AnalysisError, match="at least two runs"):
        equivalence([3.0], b, 0.1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "doctor takes an optimizer, or --trainer and a study file"),
        (["adamw", "--trainer", "x.toml"], "doctor takes an optimizer, or --trainer and a study file"),
        (["--trainer", "studies/demo.toml"], "has no [trainer]"),
    ],
)
def test_bad_input(arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    given = [str(Path(__file__).parents[2] / one) if one.startswith("studies") else one for one in arguments]
    assert main(["doctor", *given]) == 2
    assert sentence in capfd.readouterr().err
