"""Bad input: one clear sentence that names the value and the remedy, exit code 2, never a stack trace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairstep.cli import VERBS, main
from fairstep.cli.shared.options import WorkloadOptions, prepared

RESULTS = Path(__file__).parents[2] / "results"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which arguments are refused."""
    try:
        code = main(list(arguments))
    except SystemExit as exit_:  # tyro's own refusals
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    assert code == 2, said
    assert "Traceback" not in said.err
    return " ".join((said.err + said.out).split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["comapre"], "unknown verb 'comapre'; did you mean compare?"),
        (["compare", "adamw", "moun"], "did you mean muon"),
        (["compare", "adamw"], "compare needs two or more optimizers, not adamw"),
        (["compare", "adamw", "adamw"], "adamw is named twice"),
        (["compare", "adamw", "muon", "--baseline", "soap"], "the baseline soap does not compete"),
        (["compare", "adamw", "muon", "--seeds", "1"], "--seeds must be at least 2 for an interval, not 1"),
        (["compare", "adamw", "muon", "--budgets", "-1"], "--budgets takes multiples"),
        (["compare", "adamw", "muon", "--points", "0"], "fairstep: --points must be at least 3, not 0"),
        (["compare", "adamw", "muon", "--points", "9999"], "--points must be at most 100, not 9999"),
        (["compare", "adamw", "muon", "--space", "muon.lr=log:1e-4:1e-2:9999"], ":COUNT of 2 to 100, not"),
        (["compare", "adamw", "muon", "--clip-norm", "-2"], "--clip-norm must be at least 0, not -2.0"),
        (["compare", "adamw", "muon", "--evaluation-tokens", "0"], "--evaluation-tokens must be at least 1, not 0"),
        pytest.param(
            ["compare", "adamw", "muon", "--final-fraction", "-1"],
            "final_fraction: input should be greater than or equal",
            marks=pytest.mark.slow,  # prepares the data first
        ),
        (["compare", "adamw", "muon", "--set", "beta2=0.9"], "--set takes CONTESTANT.NAME=VALUE"),
        (["compare", "adamw", "muon", "--set", "adamw.beta3=0.9"], "did you mean beta"),
        (["compare", "adamw", "muon", "--set", "adamw.beta2=1.5"], "beta2 must be a number in [0, 1), not 1.5"),
        (["compare", "adamw", "muon", "--preset", "107k"], "unknown preset '107k'"),
        (["compare", "adamw", "muon", "--data", "/no/such/*.txt"], "/no/such/*.txt"),
        (["compare", "adamw", "muon", "--workrs", "2"], "--workers"),
        (["compare", "adamw", "muon", "--space", "lr=1e-3"], "say whose to change: adamw.lr=1e-3"),
        (
            ["compare", "adamw", "muon", "--space", "adamw.lr=log:1e-2:1e-4"],
            "a range is log:LOW:HIGH with 0 < LOW < HIGH",
        ),
        (["compare", "adamw", "muon", "--space", "adamw.lr=0,1"], "lr must be a number in (0, inf), not 0"),
        (["compare", "adamw", "muon", "--space", "lion.lr=1e-3"], "is for lion, which does not compete"),
        (["compare", "adamw", "muon", "--space", "adamw.beta2=0.9,0.95"], "adamw 6, muon 3"),
        (["compare", "adamw", "muon", "--space", "spaces.yaml"], "or a TOML file, not 'spaces.yaml'"),
        (["compare", "adamw", "nosuch.module:Mine"], "there is no module 'nosuch'"),
        (["compare", "adamw", "torch.optim:Adan"], "torch.optim has no 'Adan'"),
        (["compare", "adamw", "torch.nn:Linear"], "no subclass of torch.optim.Optimizer"),
        (["compare", "adamw", "torch.optim:LBFGS"], "needs a closure"),
        (["compare", "adamw", "torch.optim:Muon"], "only supports 2D parameters"),
        (
            ["compare", "adamw", "torch.optim:Adam", "--set", "torch.optim:Adam.beta=1"],
            "has no argument 'beta' (did you mean beta",
        ),
        (
            ["optimizers", "soap", "muon"],
            "write `fairstep optimizers` or `fairstep optimizers show NAME`, not `fairstep optimizers soap muon`",
        ),
        (["optimizers", "show", "loin"], "did you mean lion or c-lion"),
        (["doctor", "./x.py:Mine"], "is package.module:Class, not './x.py:Mine'"),
        (["doctor", "torch.optim:Adam", "--set", "betas=[0.9]"], "betas takes 2 numbers in a list"),
        (["doctor", "torch.optim:Adam", "--set", "eps=-1"], "Invalid epsilon value: -1"),
        (["train", "adamw", "--lr", "-1"], "lr must be a number in (0, inf), not -1"),
        (["train", "adamw", "--lr", "nan"], "not nan"),
        (["train", "adamw", "--set", "eps"], "--set takes name=value, not 'eps'"),
        (["train", "adamw", "--tokens", "-3"], "--tokens must be a positive number such as 2M"),
        (["train", "adamw", "--tokens", "many"], "not 'many'"),
        (["train", "adamw", "--chinchilla", "nan"], "--chinchilla must be a positive number, not nan"),
        (["train", "adamw", "--warmup-fraction", "1"], "--warmup-fraction must be in [0, 1), not 1"),
        (["train", "adamw", "--vocabulary", "5"], "vocabulary"),
        (["train", "adamw", "--schedule", "cosin"], "cosine"),
        (["report", "/no/such/store"], "holds no contest"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], expected: str) -> None:
    store = ["--store", str(tmp_path / "store")] if arguments[0] in ("compare", "train") else []
    assert expected in refused(capsys, *arguments, *store)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.txt", b"", "empty"),
        ("picture.txt", bytes(range(256)) * 40, "picture.txt"),
        ("small.txt", b"A few words. " * 900, "a single document of 11,700 bytes"),
        ("short.jsonl", b"".join(b'{"text": "%x short texts"}\n' % 7**i for i in range(300)), "a budget of"),
        ("broken.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "broken.jsonl:2"),
    ],
)
def test_data_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    arguments = ("train", "adamw", "--data", str(tmp_path / name), "--store", str(tmp_path / "store"))
    assert expected in refused(capsys, *arguments)


def test_a_store_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused(capsys, "train", "adamw", "--store", str(tmp_path / "file" / "store"))
    assert "cannot be written" in said
    assert "--store" in said


@pytest.mark.parametrize("verb", ["train", "compare", "report"])
def test_help_has_a_runnable_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert re.search(rf"\nexamples?:\n  fairstep {verb} ", capsys.readouterr().out)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)


def test_help_answers_at_once() -> None:
    """What takes long to import is not imported."""
    slow = {"torch", "numpy", "scipy", "polars", "pydantic", "tyro"}
    code = f"import sys; from fairstep.cli import main; main(['--help']); sys.exit(len({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m fairstep optimizers --json | head -c 10"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, env=os.environ)
    assert done.stderr == b""


@pytest.mark.parametrize("tokens", ["10", "2047"])
@pytest.mark.parametrize("verb", [("train", "adamw"), ("compare", "adamw", "muon")])
def test_less_than_a_batch(
    verb: tuple[str, ...], tokens: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *verb, "--tokens", tokens, "--preset", "27k", "--store", str(tmp_path / "store"))
    assert f"--tokens {tokens} is less than one batch of 2,048 tokens" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("report {store} --out FILE/x.html", "--out FILE/x.html lies below FILE, which is a file; name a path in a"),
        ("report {store} --out FILE/x/y", "--out FILE/x/y/index.html lies below FILE, which is a file"),
        ("report {store} --out FOLDER.html", "--out FOLDER.html is a folder; name a file in it"),
        ("report {store} --export FILE", "--export FILE is a file; name a folder"),
        ("report {store} --export FILE/x", "--export FILE/x lies below FILE"),
        ("judge {store} --report FILE/x.html", "--report FILE/x.html lies below FILE"),
        ("judge {store} --report FOLDER.html", "--report FOLDER.html is a folder"),
        ("compare adamw muon --report FILE/x.html --tokens 1", "--report FILE/x.html lies below FILE"),
        ("compare adamw muon --report FOLDER.html --tokens 1", "--report FOLDER.html is a folder"),
        ("demo --save FILE/x.toml --tokens 1", "--save FILE/x.toml lies below FILE"),
        ("compare adamw muon --trainer x.toml --save FILE/x.toml", "--save FILE/x.toml lies below FILE"),
        ("export 0 --store {store} --out FILE", "--out FILE is a file; name a folder"),
        ("export 0 --store {store} --out FILE/x", "--out FILE/x lies below FILE"),
        ("store pack {store} --out FILE/x", "--out FILE/x lies below FILE"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_anything_is_done(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("mine")
    Path("FOLDER.html").mkdir()
    said = refused(capsys, *words.format(store=RESULTS / "pocket-roles").split())
    assert expected in said and "errno" not in said.lower()
    assert Path("FILE").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


SHORT = """
seeds = 3
[[cells]]
model = "27k"
{length}
[[contestants]]
optimizer = ["adamw", "muon"]
"""
SHORT_TRAINER = """
seeds = 3
[trainer]
command = ["true", "{{optimizer}}", "{{lr}}", "{{seed}}", "{{steps}}", "{{out}}"]
loss = {{ file = "{{out}}/loss.jsonl", key = "loss" }}
batch_tokens = 2048
[[cells]]
{length}
[[contestants]]
name = "adamw"
set = {{ optimizer = "adamw" }}
grid = {{ lr = [1e-3, 2e-3] }}
[[contestants]]
name = "muon"
set = {{ optimizer = "muon" }}
grid = {{ lr = [1e-3, 2e-3] }}
"""


@pytest.mark.parametrize("length", ["steps = 1", 'tokens = "2048"', "steps = [100, 9]"])
@pytest.mark.parametrize("text", [SHORT, SHORT_TRAINER], ids=["own", "command"])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_study_of_runs_that_show_nothing_is_refused(
    verb: str, text: str, length: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "short.toml"
    file.write_text(text.format(length=length).lstrip())
    said = refused(capsys, "study", verb, str(file))
    line = file.read_text().splitlines().index(length) + 1
    few = "9 steps" if "9" in length else "1 step"
    assert (
        f"short.toml, line {line}: a run would be {few} long, in which no optimizer shows what it can; give 10" in said
    )


def test_compare_refuses_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "compare", "adamw", "muon", "--preset", "27k", "--tokens", "2048", "--store", str(tmp_path))
    assert "a run would be 1 step long, in which no optimizer shows what it can" in said
    trainer = tmp_path / "trainer.toml"
    trainer.write_text(SHORT_TRAINER.format(length="steps = 1").lstrip())
    said = refused(capsys, "compare", "adamw", "muon", "--trainer", str(trainer))
    assert "a run would be 1 step long, in which no optimizer shows what it can" in said


def test_a_single_run_may_be_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no contest, and a few steps show whether it runs at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("".join(f"line {number} of a text\n" for number in range(20_000)))
    options = WorkloadOptions(model="27k", data=("t.txt",), tokens="8k", tokenizer="bytes")
    assert prepared(options)[0].tokens == 8192


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["foo"], "unknown verb 'foo'; the verbs are demo, compare"),
        (["report", str(Path(__file__))], "is a file; report takes the folder"),
        (["study", "plan", "nothere.toml"], "there is no study file nothere.toml"),
        (["train", "--preset", "semenov/124m/soap2"], "unknown optimizer 'soap2' (did you mean soap"),
        (["train", "adamw", "--preset", "semenov/124m/soap2"], "unknown optimizer 'soap2'"),
        (["train", "adamw", "--preset", "semenov/124m/soap"], "has its own optimizer; leave 'adamw' out"),
    ],
)
def test_what_is_not_there_is_named(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store")] if arguments[0] == "train" else []
    assert expected in refused(capsys, *arguments, *store)


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert re.fullmatch(r"fairstep \d+\.\d+\S*\n", capsys.readouterr().out)
