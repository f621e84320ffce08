"""No input ends in a traceback: typed words of every verb, and stores whose files anyone has changed.

Inputs are generated from a seed. A verb answers with a result, or with one sentence and the exit code 1 or 2.
tests/faults/test_inputs.py tries them by the hundred.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from tests.conftest import FakeContest
from tests.runs.mutations import files, mutate

from fairstep import cli
from fairstep.cli import main

WORDS = (
    "", "-1", "0", "nan", "1e400", "9" * 400, "abc", "a=b", "=", "lr=", "..", "/dev/null", "\x1b[31m", "é\u202e", "[",
)  # fmt: skip
READERS = (
    ("report", "{store}", "--out", "{page}"),
    ("report", "{store}", "--json", "--out", "{page}"),
    ("study", "status", "{store}"),
    ("store", "check", "{store}"),
    ("store", "list", "{store}"),
    ("claims", "W3a", "--store", "{store}"),
    ("recommend", "--params", "350M", "--store", "{store}"),
)
VERBS = (
    ("report",), ("claims",), ("published",), ("published", "speedups"), ("recommend",), ("plan",), ("plan", "muon"),
    ("optimizers",), ("optimizers", "show"), ("study", "plan"), ("study", "status"), ("study", "run"),
    ("study", "replay"), ("store", "check"), ("store", "list"), ("train",), ("compare", "adamw", "muon"), ("export",),
    ("data", "inspect"), ("doctor",), ("nothing",), ("demo",), ("design",), ("judge",), ("data", "list"),
    ("data", "remove"), ("data", "prepare"), ("model", "check"), ("model", "list"),
)  # fmt: skip
RIGHT = (
    "demo --preset 27k --tokens 100k --seeds 3 --store store",
    "compare adamw muon --preset 27k --tokens 100k --seeds 3..8 --points 3 --budgets 0.5 2 --set adamw.beta2=0.98",
    "compare adamw mine=torch.optim:SGD --space lr=1e-3,2e-3,4e-3 --unchecked --tokens 100k --preset 27k",
    "judge x.csv --baseline adamw --loss loss --contestant optimizer --seed seed",
    "train adamw --preset 27k --tokens 100k --lr 1e-3", "train --preset semenov/124m/soap", "study plan s.toml",
    "study run s.toml --store store", "study status s.toml", "report store --out p.html --export tables",
    "design --effect 0.003 --sigma 0.0011 --contestants 3 --seeds 3..8 --alpha 0.025",
    "recommend --params 350M --tokens 7B --batch-tokens 500k --memory 80GB --store store",
    "plan adamw --preset 27k --tokens 100k --device h100", "claims W13 --store store", "optimizers show soap",
    "published speedups --optimizer muon --size 130m", "published results --paper semenov --size 720m",
    "export 3f2a out --store store", "data inspect stdlib", "data prepare t.txt --tokenizer bytes --name n",
    "data remove n", "store check store --again 1", "store list store",
)  # fmt: skip
"""Commands that are right but for a word that is changed, added or left out."""
MORE = (
    *WORDS, "1", "2", "3..8", "inf", "-0", "½", "1_000", "0x10", ".", "27k", "adamw", "lion+ema", "+", "1e-3", "350M",
    "7B", "store", "x.csv", "s.toml", "t.txt", "lr=log:1e-4:1e-2", "lr=log:0:1", "adamw.lr=1", "hf:", "semenov/124m",
    "wen/130m/muon", "os:system", "nowhere:X", "torch.optim:SGD", "loss", "--", "-x",
)  # fmt: skip
OPTIONS = (
    "--json", "--store", "--params", "--tokens", "--batch-tokens", "--memory", "--optimizer", "--size", "--model",
    "--layers", "--width", "--context",
    "--set", "--contest", "--run", "--device", "--seeds", "--points", "--budgets", "--top", "--again", "--of", "--lr",
    "--chinchilla", "--warmup-fraction", "--epochs", "--threads", "--space", "--baseline", "--paper", "--rule",
)  # fmt: skip


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and everything that was said."""
    try:
        code = main(arguments)
    except SystemExit as end:  # the parser's
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


def typed(draw: random.Random) -> list[str]:
    """A verb with options and values that were never meant for it, or a right command with a word changed."""
    if draw.random() < 0.5:
        words = draw.choice(RIGHT).split()
        for _ in range(draw.randint(1, 2)):
            place, kind = draw.randrange(1, len(words) + 1), draw.random()
            added = (
                [draw.choice(MORE)] if kind < 0.5 else [draw.choice(OPTIONS), draw.choice(MORE)] if kind < 0.8 else []
            )
            words[place : place + (kind < 0.5 or kind >= 0.8)] = added
        return words
    words = list(draw.choice(VERBS))
    for _ in range(draw.randint(1, 3)):
        words += [draw.choice(OPTIONS), draw.choice(WORDS)] if draw.random() < 0.7 else [draw.choice(WORDS)]
    return words


def check(code: int, said: str, what: str) -> None:
    assert code in (0, 1, 2), what
    assert "Traceback" not in said, what
    assert "this is a bug" not in said, f"{what}: {said[-300:]}"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRSTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_some_changed_stores(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contest = FakeContest(elsewhere / "whole")
    contest.contestant("adamw", [2.8, 2.81], grid=3)
    contest.contestant("evil:boom", [2.9, 2.95], grid=3)
    contest.store.write_ledger(contest.ledger)
    changed(contest, elsewhere, capsys, range(1000, 1014))


def changed(contest: FakeContest, folder: Path, capsys: pytest.CaptureFixture[str], seeds: range) -> None:
    for seed in seeds:
        path, before, what = mutate(contest.store.path, seed)
        verb = READERS[seed % len(READERS)]
        arguments = [word.format(store=contest.store.path, page=folder / "page.html") for word in verb]
        code, said = answer(arguments, capsys)
        check(code, said, f"{what}: {arguments}")
        path.write_bytes(before)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b"7", b"null", b'{"a": 1}', b"\xff\xfe", b"", b"9" * 5000])
@pytest.mark.parametrize("name", ["summary.json", "spec.json", "env.json", "metrics.jsonl", "ledger"])
def test_odd_forms(
    name: str, content: bytes, demo_contest: FakeContest, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = demo_contest.store
    store.write_ledger(demo_contest.ledger)
    (path, *_) = [path for path in files(store.path) if path.name == name or path.parent.name == f"{name}s"]
    path.write_bytes(content)
    for verb in (("study", "status", str(store.path)), ("store", "check", str(store.path))):
        check(*answer(list(verb), capsys), f"{verb} with {name} {content[:10]!r}")
    shutil.rmtree(store.path)


@pytest.mark.parametrize(
    "words",
    [
        "design --effect 0.003 --sigma 0.0011 --contestants {big}",
        "design --effect 0.003 --sigma 0.0011 --seeds {big}",
        "design --effect 0.003 --sigma 0.0011 --seconds 1e308",
        "recommend --params 350M --tokens 7B --memory {big}",
        "train adamw --preset 27k --chinchilla 1e308",
        "train --preset semenov/124m/soap --chinchilla 1e400",
        "plan adamw --preset 27k --tokens 100k --set lr={big}",
        "compare adamw muon --preset 27k --tokens 100k --space lr=1,{big}",
    ],
)
def test_numbers_larger_than_a_float(words: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = answer(words.format(big="9" * 420).split(), capsys)
    assert code == 2 and said.startswith("fairstep: ") and said.count("\n") == 1, said
    check(code, said, words)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("", "companions = 999999999999999999"),
        ("", f"seeds = {'9' * 420}"),
        ("[[cells]]", "chinchilla = 1e308"),
        ("[[contestants]]", f"set = {{ lr = {'9' * 420} }}"),
        ("[[contestants]]", f"grid = {{ lr = [1e-3, {'9' * 420}] }}"),
    ],
)
def test_studies_with_numbers_larger_than_a_float(
    table: str, line: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    length = "" if "chinchilla" in line else 'tokens = "30k"\n'
    study = f'name = "s"\n[[cells]]\nmodel = "27k"\n{length}[[contestants]]\noptimizer = ["adamw", "muon"]\n'
    (elsewhere / "s.toml").write_text(study.replace(table, f"{table}\n{line}", 1) if table else f"{line}\n{study}")
    code, said = answer(["study", "plan", "s.toml"], capsys)
    assert code == 2 and "s.toml" in said, said
    check(code, said, line)


def test_the_last_net(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise KeyError("muon")

    monkeypatch.setattr(cli.MENU, "run", broken)
    assert main(["report"]) == 2
    assert "this is a bug (KeyError: 'muon'); FAIRSTEP_DEBUG=1 shows where" in capsys.readouterr().err
    monkeypatch.setenv("FAIRSTEP_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["report"])


def test_controls_are_shown(demo_contest: FakeContest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b]0;owned\x07\x9b31m\u202e"
    demo_contest.store.write_ledger(
        demo_contest.ledger.model_copy(update={"name": "c", "study": evil, "command": evil})
    )
    ledger = demo_contest.ledger.model_copy(update={"name": "d"})
    cell = ledger.cell.model_copy(update={"model": evil, "data": evil})
    demo_contest.store.write_ledger(ledger.model_copy(update={"cell": cell}))
    for verb in (
        ("report", str(demo_contest.store.path), "--out", str(tmp_path / "p.html")),
        ("report", str(demo_contest.store.path), "--json", "--out", str(tmp_path / "p.html")),
        ("study", "status", str(demo_contest.store.path)),
        ("store", "check", str(demo_contest.store.path)),
        ("store", "list", str(demo_contest.store.path)),
    ):
        main(list(verb))
        said = capsys.readouterr()
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said.out + said.err), verb


def test_reading_imports_nothing(
    fake_contest: FakeContest, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "evil.py").write_text("open('ran', 'w').close()\nimport torch\nclass boom(torch.optim.SGD): ...\n")
    fake_contest.contestant("adamw", [2.8, 2.81, 2.79], grid=3)
    fake_contest.contestant("muon", [2.7, 2.71, 2.69], grid=3)
    run = fake_contest.add("evil:boom", "final", 2.6, seed=1)
    fake_contest.contestant("evil:boom", [2.7, 2.71, 2.69], grid=3, lr=2e-3)
    fake_contest.trials = [trial for trial in fake_contest.trials if trial.run != run.id]
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    fake_contest.store.write_ledger(fake_contest.ledger)
    (elsewhere / "s.toml").write_text(
        'name = "s"\n[[cells]]\nmodel = "27k"\ntokens = "10k"\n[[contestants]]\noptimizer = ["adamw", "evil:boom"]\n'
    )
    store = str(fake_contest.store.path)
    for arguments in (
        ["recommend", "--params", "212k", "--batch-tokens", "1k", "--store", store],
        ["plan", "--run", str(run.directory)],
        ["study", "status", "s.toml", "--store", store],
        ["store", "check", store],
        ["report", store, "--out", "p.html"],
        ["claims", "--store", store],
    ):
        main(arguments)
        assert not (elsewhere / "ran").exists(), arguments
    said = capsys.readouterr()
    assert "evil:boom" in said.out
    assert "add --import if you trust it" in said.err


@pytest.mark.parametrize(
    "row", ['{"kind": "train", "loss": 3.0, "tokXns": 9}', '{"kind": "train", "loss": "x", "tokens": 9}']
)
def test_a_point_of_a_curve_that_is_no_number(
    row: str, demo_contest: FakeContest, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = demo_contest.store
    store.write_ledger(demo_contest.ledger)
    for path in store.path.glob("runs/*/metrics.jsonl"):
        path.write_text(f"{row}\n{path.read_text()}{row}\n")
    for verb in (("claims", "--store", str(store.path)), ("report", str(store.path), "--out", "page.html")):
        check(*answer(list(verb), capsys), f"{verb} with {row}")
