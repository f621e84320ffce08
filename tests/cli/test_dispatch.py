"""One dispatcher for verbs and their actions: groups, nearest names, completion in a shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep.cli import MENU, data, main, study
from fairstep.cli.shared.dispatch import Menu

MENUS = {"fairstep": MENU, "study": study.MENU, "data": data.MENU}


def test_verbs_are_listed_by_what_one_wants_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"\n{heading}:\n") for heading in MENU.groups]
    assert places == sorted(places)
    assert len(MENU.verbs) == sum(map(len, MENU.groups.values())), "a verb is in two groups"


@pytest.mark.parametrize("name", MENUS)
def test_every_verb_has_a_function_and_options(name: str) -> None:
    for word, verb in MENUS[name].verbs.items():
        module, function = MENUS[name].target(word)
        loaded = __import__(module, fromlist=[function])
        assert isinstance(loaded.MENU, Menu) if verb.menu else callable(getattr(loaded, function))
    assert MENUS[name].options()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["study", "stats"], "unknown action 'stats' of study; did you mean status?"),
        (["study", "zzz"], "the actions are plan, run, status, replay"),
        (["data", "prepair"], "unknown action 'prepair' of data; did you mean prepare?"),
        (["--print-completion", "csh"], "--print-completion takes bash, zsh or fish, not 'csh'"),
        (["--print-completion"], "not ''"),
    ],
)
def test_what_is_not_known(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="completes in bash")
def test_bash_completes_verbs_actions_options_and_values(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fairstep", "--print-completion", "bash"]
    script = tmp_path / "fairstep"
    script.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    typed = {
        "co": "compare",
        "study st": "status",
        "data li": "list",
        "compare --bud": "--budgets --budget-seeds",
        "study run --launcher sl": "slurm",
    }
    lines = [f"source {script}", "complete_() { COMP_WORDS=(fairstep $1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))"]
    lines += ["COMPREPLY=(); _tyro_fairstep; echo ${COMPREPLY[*]}; }", *(f'complete_ "{words}"' for words in typed)]
    said = subprocess.run(["bash", "-c", "\n".join(lines)], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == list(typed.values())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    said = capsys.readouterr().out
    assert "budget-seeds" in said and "replay" in said
