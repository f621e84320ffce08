"""Study files: what they become, and every mistake with its line, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairstep.cli import main
from fairstep.model.facts import parameter_table
from fairstep.study.file.described import ledger_names
from fairstep.study.file.line_numbers import LineNumbers, StudyError
from fairstep.study.file.study import read
from fairstep.study.protocols import Descent, Semenov, Star, Wen

GOOD = """\
title = "good"
seeds = 2
budgets = [0.5]

[protocol]
name = "star"
tolerance = 0.0

[data.text]
vocabulary = 300

[[cells]]
model = "27k"
chinchilla = [1, 2]
batch_sequences = 8
warmup_steps = 10

[[contestants]]
optimizer = ["adamw", "lion"]
grid.weight_decay = [0.0, 0.1]

[[contestants]]
optimizer = "signum"
name = "signum-plain"
set = { nesterov = false }

[contestants.grid]
lr = [0.001, 0.002]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_a_contest(tmp_path: Path) -> None:
    study = read(write(tmp_path, GOOD))
    contest = study.contest()
    assert (study.name, contest.baseline, contest.seeds, contest.budgets) == ("mine", "adamw", 2, (0.5,))
    assert contest.protocol == Star(tolerance=0.0)
    assert list(contest.cells) == ["27k-1x", "27k-2x"]
    one, two = contest.cells.values()
    assert two.tokens // one.tokens == 2
    assert one.tokens % one.batch_tokens == 0
    assert (one.batch_sequences, one.warmup(100), one.model.vocabulary) == (8, 10, 300)
    adamw, lion, plain = contest.contestants
    assert set(adamw.space.axes) == {"lr", "weight_decay"}
    assert lion.space.axes["weight_decay"].values == (0.0, 0.1)
    assert (plain.name, plain.optimizer, plain.hyperparameters["nesterov"]) == ("signum-plain", "signum", False)
    assert plain.space.axes["lr"].values == (0.001, 0.002)


@pytest.mark.parametrize(
    "cells",
    [
        ("27k, 1x", "27k; 1x", "27k__1x"),
        ("a/b", "a b", "a_b", "A b"),
        ("short", "Short"),
        ("", ".", ".."),
        tuple("long" * 100 + ending for ending in ("", "a", "b")),
        tuple("\N{LATIN SMALL LETTER E WITH ACUTE}" * 200 + ending for ending in ("", "a")),
    ],
)
def test_cells_whose_names_are_alike_or_long_have_ledgers_of_their_own(cells: tuple[str, ...], tmp_path: Path) -> None:
    names = ledger_names("-".join(f"package{n}.module:Class" for n in range(10)), cells, "01234567")
    for name in names.values():
        (tmp_path / f".{name}.html.{'0' * 12}").write_text("")  # the longest that is made of it
        assert not set(name) & set("/\\\0")
        assert not name.startswith(".")
    assert len(list(tmp_path.iterdir())) == len({name.casefold() for name in names.values()}) == len(cells)


def test_a_ledger_counts_the_parameters_that_are_trained(tmp_path: Path) -> None:
    study = read(write(tmp_path, GOOD.replace("[[cells]]", "[[cells]]\nqk_norm = true", 1)))
    contest = study.contest()
    cells = {name: ledger.cell for name, ledger in study.ledgers(contest, "").items()}
    for name, workload in contest.own_cells.items():
        assert cells[name].parameters == sum(one.elements for one in parameter_table(workload.model))


def test_a_study_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD, encoding="utf-8-sig")
    marked = read(tmp_path / "mine.toml")
    assert marked.digest == read(write(tmp_path, GOOD)).digest


def test_who_runs_it_is_not_part_of_what_it_is(tmp_path: Path) -> None:
    digest = read(write(tmp_path, GOOD)).digest
    assert read(write(tmp_path, GOOD + '[launcher]\nname = "ray"\n')).digest == digest
    assert read(write(tmp_path, GOOD.replace('"good"', '"other"'))).digest == digest
    assert read(write(tmp_path, GOOD.replace("seeds = 2", 'seeds = "3..8"'))).digest == digest, "more seeds go on"
    assert read(write(tmp_path, GOOD.replace("budgets = [0.5]", "budgets = [2.0]"))).digest != digest


def test_a_published_run_is_where_a_contestant_starts(tmp_path: Path) -> None:
    """Of S's scripts for 124M: Muon decays its AdamW part only; SF-AdamW has no schedule; 2000 steps of warm-up."""
    text = """
[[cells]]
model = "semenov/124m"
steps = 16000
[[contestants]]
optimizer = ["muon", "schedule-free-adamw", "adamw"]
start = "semenov"
grid.weight_decay = [0.0, 0.5]
[launcher]
device = "h100"
"""
    contest = read(write(tmp_path, text)).contest()
    workload = contest.cells["semenov/124m-16000-steps"]
    specs = {}
    for contestant in contest.contestants:
        problem = contestant.problem("semenov/124m-16000-steps", workload, 0, 0)
        assert list(problem.space.axes) == ["weight_decay"]
        specs[contestant.name] = contestant.spec(workload, problem.start, 0)
    assert specs["muon"].optimizer.undecayed == ("matrix", "expert", "router")
    assert specs["schedule-free-adamw"].schedule.kind == "constant"
    adamw = specs["adamw"]
    assert (adamw.schedule.warmup_steps, adamw.schedule.warmup_shape, adamw.clip_norm) == (2000, "half-cosine", 0.5)
    assert adamw.optimizer.hyperparameters["beta1"] == 0.8
    assert (adamw.precision, adamw.execution.device, adamw.batch_tokens) == ("bf16", "cuda", 131_072)


def test_protocols_name_cells_by_pattern(tmp_path: Path) -> None:
    wen = GOOD.replace(
        'name = "star"\ntolerance = 0.0',
        'name = "wen"\nphase2 = ["*-2x"]\nfirst = { name = "descent", threshold = 0.01 }',
    )
    protocol = read(write(tmp_path, wen)).contest().protocol
    assert isinstance(protocol, Wen)
    assert (protocol.phase2, protocol.first) == (("27k-2x",), Descent(0.01))
    semenov = GOOD.replace('name = "star"\ntolerance = 0.0', 'name = "semenov"\nretuned = { "27k-2*" = ["lr"] }')
    protocol = read(write(tmp_path, semenov)).contest().protocol
    assert isinstance(protocol, Semenov)
    assert protocol.retuned == {"27k-2x": ("lr",)}


MISTAKES = [
    ("seeds = 2", "seed = 2", 2, "unknown key 'seed'; did you mean seeds?"),
    ("seeds = 2", "seeds = -1", 2, "seeds must be greater than or equal to 0 or a word in quotes, not -1"),
    ("title =", "title = = 1", 1, "this is no TOML"),
    ("[[cells]]", "[cells]", 12, "write [[cells]], with two brackets: there may be several"),
    ("[[cells]]", "[[cell]]", 12, "unknown key 'cell'; did you mean cells?"),
    ("batch_sequences = 8", "batch_sequnces = 8", 15, "unknown key 'batch_sequnces'; did you mean batch_sequences?"),
    ("[[cells]]", '[cells]\nmodel = "27k"\n[cells]', 14, "write [[cells]], with two brackets: there may be several"),
    ("batch_sequences = 8", "compile = false", 15, "unknown key 'compile'; it belongs in [launcher]"),
    ("batch_sequences = 8", "finalists = 2", 15, "unknown key 'finalists'; it belongs above all tables"),
    ("seeds = 2", 'precision = "bf16"', 2, "unknown key 'precision'; it belongs in [[cells]]"),
    ('name = "signum-plain"', "lr = 1", 24, "factor; a hyperparameter goes in set or grid"),
    ("batch_sequences = 8", 'batch_sequences = "x"', 15, "batch_sequences must be a whole number or a list, not 'x'"),
    ("batch_sequences = 8", "batch_sequences = true", 15, "must be a whole number or a list, not True"),
    ("batch_sequences = 8", "batch_sequences = []", 15, "the list of batch_sequences is empty"),
    ('model = "27k"', "model = []", 13, "the list of model is empty"),
    ("budgets = [0.5]", "budgets = [0.5, -1]", 3, "budgets[1] must be greater than 0, not -1"),
    ("lr = [0.001, 0.002]", "batch_sequences = [0, 8]", 28, "batch_sequences must be an integer in [1, inf), not 0"),
    ("lr = [0.001, 0.002]", 'schedule = ["cosine", "wsdd"]', 28, "not 'wsdd' (did you mean wsd?)"),
    (
        'name = "star"\ntolerance = 0.0',
        'name = "descent"\norder = ["lrr"]',
        7,
        "order names 'lrr', which no contestant",
    ),
    ('name = "star"\ntolerance = 0.0', 'name = "wen"\nlaw = "cubic"', 7, "law must be power or offset, not 'cubic'"),
    ('name = "star"\ntolerance = 0.0', 'name = "wen"\nfirst = "stra"', 7, "first: unknown protocol 'stra'"),
    ("budgets = [0.5]", "budgets = [1.0]", 3, "leave out 1"),
    ("seeds = 2", 'seeds = 2\nlauncher.device = "h101"', 3, "unknown device 'h101' (did you mean h100"),
    ('name = "signum-plain"', 'only = ["lrr"]', 24, "only names 'lrr', which nothing searches"),
    ("batch_sequences = 8", "batch_sequences = 8\nbatch_tokens = 1024", 16, "contradictory ties: its batch size"),
    ("chinchilla = [1, 2]", 'chinchilla = 1\ntokens = "2M"', 14, "contradictory ties: the length of its runs"),
    ("chinchilla = [1, 2]", "", 13, "the length of its runs is missing"),
    ("chinchilla = [1, 2]", 'tokens = "2X"', 14, "tokens must be a positive number such as 2M"),
    ("chinchilla = [1, 2]", "chinchilla = [1, 1]", 12, "two cells are called '27k-1x'"),
    ("warmup_steps = 10", "warmup_steps = 10\nwarmup_fraction = 0.1", 17, "contradictory ties: its warm-up"),
    ("warmup_steps = 10", "warmup_steps = 100000", 12, "warmup_steps must be less than the run's"),
    ('"27k"', '"28k"', 13, "unknown preset '28k' (did you mean 27k"),
    ('["adamw", "lion"]', '["adamw", "loin"]', 19, "did you mean lion"),
    ('["adamw", "lion"]', '["adamw", "no.such.module:Class"]', 19, "no.such.module"),
    ('["adamw", "lion"]', '["adamw", "os:NoClass"]', 19, "NoClass"),
    ('["adamw", "lion"]', '["adamw", "adamw"]', 19, "two contestants are called 'adamw'"),
    ("weight_decay = [0.0, 0.1]", "weight_decay = []", 20, "the grid of weight_decay is empty"),
    ("weight_decay = [0.0, 0.1]", "weigth_decay = [0.0]", 20, "has no hyperparameter 'weigth_decay'"),
    ("weight_decay = [0.0, 0.1]", "weight_decay = [-1.0]", 20, "weight_decay must be a number in [0, inf)"),
    ("nesterov = false", "nesterof = false", 25, "has no hyperparameter 'nesterof' (did you mean nesterov"),
    ("lr = [0.001, 0.002]", "lr = []", 28, "the grid of lr is empty"),
    (
        'name = "star"\ntolerance = 0.0',
        'name = "random"\ntrials = 0',
        7,
        "trials must be a whole number of at least 1, not 0",
    ),
    ('name = "star"\ntolerance = 0.0', 'name = "tpe"\nat_once = 0', 7, "at_once must be a whole number of at least 1"),
    ('name = "star"', 'name = "stra"', 6, "unknown protocol 'stra' (did you mean star?)"),
    ("tolerance = 0.0", "tolerence = 0.0", 7, "unknown key 'tolerence' of the protocol star (did you mean tolerance?)"),
    ("tolerance = 0.0", "saving = 0.5", 7, "saving must be a whole number"),
    ("seeds = 2", 'seeds = 2\nbaseline = "soap"', 3, "the baseline 'soap' is no contestant"),
    ('name = "signum-plain"', 'space = "wen/999m"', 24, "there is no search space '999m'"),
    ('name = "signum-plain"', 'space = "went"', 24, "space must be own, none, semenov or wen"),
    ("grid.weight_decay = [0.0, 0.1]", "grid.warmup_steps = [1]\ngrid.warmup_fraction = [0.1]", 21, "tied to"),
    ('name = "star"\ntolerance = 0.0', 'name = "semenov"\ntuned = "28k"', 7, "tuned names the cell '28k'"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "expected"), MISTAKES, ids=[m[1][:30] for m in MISTAKES])
def test_a_mistake_is_found_at_its_line(tmp_path: Path, right: str, wrong: str, line: int, expected: str) -> None:
    assert right in GOOD
    with pytest.raises(StudyError) as refused:
        read(write(tmp_path, GOOD.replace(right, wrong, 1)))
    said = str(refused.value)
    assert said.startswith(f"{tmp_path / 'mine.toml'}, line {line}: "), said
    assert expected in said


@pytest.mark.parametrize(
    ("cells", "contestants", "line", "expected"),
    [
        ("steps = 100", "grid.batch_sequences = [8, 16]", 3, "the length of 27k-100-steps is given in steps"),
        ('chinchilla = 1\nschedule = "own"', "grid.warmup_fraction = [0.1]", 7, 'schedule = "own"'),
    ],
)
def test_what_is_tied_cannot_be_searched(
    tmp_path: Path, cells: str, contestants: str, line: int, expected: str
) -> None:
    text = f'[[cells]]\nmodel = "27k"\n{cells}\n[[contestants]]\noptimizer = "adamw"\n{contestants}\n'
    with pytest.raises(StudyError, match=f"line {line}: contradictory ties") as refused:
        read(write(tmp_path, text))
    assert expected in str(refused.value)


def test_a_cell_that_does_not_fit_is_refused_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[[cells]]\nmodel = "wen/1.2b"\nchinchilla = 1\n[[contestants]]\noptimizer = "adamw"\n'
    text += '[launcher]\ndevice = "a100-40gb"\n'
    path = write(tmp_path, text)
    for action in ("plan", "run"):
        assert main(["study", action, str(path)]) == 2
        said = capsys.readouterr().err
        assert f"{path}, line 2: adamw in wen/1.2b-1x needs" in said
        assert "and a100-40gb has 40.0 GB; set micro_batch_sequences below 256" in said


def test_lines_of_tables_in_tables() -> None:
    lines = LineNumbers(
        Path("x"), '[a]\nb = 1\n[[c]]\nd = 1\n[c.e]\nf = 1\n[[c]]\ng.h = 2\n[c.e]\nf = 3\n["x y".z]\nq = 1\n'
    )
    assert [lines.of(path) for path in (("a", "b"), ("c", 0, "e", "f"), ("c", 1, "e", "f"), ("c", 1, "g", "h"))] == [
        2,
        6,
        10,
        8,
    ]
    assert lines.of(("c", 1, "missing")) == 7
    assert lines.of(("nothing",)) == 1
    assert lines.of(("x y", "z", "q")) == 12


def test_a_store_written_by_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, store = write(tmp_path, GOOD), tmp_path / "store"
    for name in ("ledgers/some.json", "runs/abc/spec.json"):
        study, workload = read(path), read(path).contest().cells["27k-1x"]
        spec = study.contest().contestants[0].spec(workload, {"lr": 0.001}, 0)
        if name.startswith("ledgers"):
            contest = study.contest()
            text = next(iter(study.ledgers(contest, "").values())).model_dump_json()
        else:
            text = spec.to_json()
        (store / name).parent.mkdir(parents=True)
        (store / name).write_text(text.replace('"format":1', '"format":2').replace('"format": 1', '"format": 2'))
        assert main(["study", "run", str(path), "--store", str(store)]) == 2
        said = capsys.readouterr().err
        assert str(store / name) in said
        assert "written by a newer fairstep (format 2; this one reads up to 1); upgrade fairstep" in said
        (store / name).unlink()


def test_a_damaged_ledger_is_named_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "ledgers" / "some.json"
    ledger.parent.mkdir()
    ledger.write_text('{"a":')
    assert main(["study", "status", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"the ledger {ledger} cannot be read: this is no JSON (EOF while parsing" in said
    assert "remove it, and the same command writes it again" in said
