"""Help in groups, without noise, examples one a line; what the parser refuses, in one sentence."""

from __future__ import annotations

import importlib
import re

import pytest
from tests.cli.test_input import refused

from fairstep.cli import MENU, data, main, model, store, study
from fairstep.cli.shared.contest_options import CompareOptions
from fairstep.cli.shared.help import options_of
from fairstep.cli.shared.options import parse

MENUS = {(): MENU, ("study",): study.MENU, ("data",): data.MENU, ("store",): store.MENU, ("model",): model.MENU}
VERBS = [(*before, name) for before, menu in MENUS.items() for name, verb in menu.verbs.items() if not verb.menu]


def helped(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([*verb, "--help"])
    assert exit_.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 110])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_of_every_verb(
    verb: tuple[str, ...], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = helped(verb, capsys)
    assert said.startswith(f"usage: fairstep {' '.join(verb)}")
    assert not re.search(r"None|default: |\(default|STR\b|Example:|--no-json|─", said), "noise"
    body, _, examples = re.split("\n(examples?:)\n", said)
    assert all(line.startswith(("  fairstep ", "  torchrun ")) for line in examples.splitlines())
    assert f"fairstep {' '.join(verb)}" in examples
    assert max(map(len, body.splitlines())) <= columns
    *before, name = verb
    menu = MENUS[tuple(before)]
    module, _ = menu.target(name)
    kinds = [value for key, value in vars(importlib.import_module(module)).items() if key.lower() == f"{name}options"]
    options = list(options_of(kinds[0]))
    assert all(one.words for one in options), [one.name for one in options if not one.words]
    for one in options:
        assert one.head.split()[0].rstrip(",") in body, one.name
    if len(options) > 20:
        assert len({one.group for one in options}) > 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "adamw", "--lr", "abc"], "--lr takes a number, not 'abc'"),
        (["train", "adamw", "--seed=1.5"], "--seed takes a whole number, not '1.5'"),
        (["train", "adamw", "--seed"], "--seed takes a whole number, not nothing"),
        (["compare", "a", "b", "--budgets", "0.5,2"], "with blanks between them, such as --budgets 0.5 2, not '0.5,2'"),
        (["train", "adamw", "--schedule", "cosin"], "not 'cosin'; did you mean cosine?"),
        (["compare", "a", "b", "--workrs", "2"], "there is no option --workrs; did you mean --workers?"),
        (["train", "adamw", "again"], "'again' is one word too many"),
        (["published", "speedup"], "records or track3, not 'speedup'; did you mean speedups?"),
        (["model", "coordinates", "--widths", "a"], "such as --widths 2 4, not 'a'"),
        (["train", "adamw", "--preset", "27k", "--model=106k"], "--preset and --model are names of the same option"),
        (["recommend", "--model", "27k", "--preset", "27k"], "--model and --preset are names of the same option"),
        (["plan", "--devices", "2", "--world", "4"], "--devices and --world are names of the same option; give one"),
        (["claims", "--store", "a", "W1", "--store=b"], "--store is given twice; it takes one"),
        (["compare", "a", "b", "--data", "a", "b", "--data", "c"], "given twice; name all values after one --data"),
        (["compare", "a", "b", "--baseline_from", "a", "--baseline-from=b"], "--baseline-from is given twice"),
        (["export"], "name the run: A run's directory, or its identity in the store"),
    ],
)
def test_refusals_are_one_sentence(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *arguments)
    assert said.startswith("fairstep: ")
    assert expected in said
    assert "─" not in said


def test_the_last_of_words_and_numbers_counts() -> None:
    words = ["adamw", "muon", "--tokens", "1M", "--threads", "2", "--set", "adamw.beta1=0.8", "--tokens", "2M"]
    read = parse(CompareOptions, "compare", [*words, "--threads=1", "--set", "adamw.beta2=0.9"])
    assert (read.workload.tokens, read.workload.threads, len(read.set)) == ("2M", 1, 2)
