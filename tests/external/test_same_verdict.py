"""The referee adds nothing: our own trainer, and the same trainer as a foreign command, end in one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training import cache, corpus

from fairstep.analysis import contest_result
from fairstep.external import carry_out as carry_out_trial
from fairstep.external.guardian import Guardian
from fairstep.runs import DataSpec, Execution, Ledger, LossSource, ModelSpec, Run, Store, Summary, Trainer
from fairstep.runs import write_atomic as write
from fairstep.study import Contest, Contestant, Plan, Space, Workload
from fairstep.study.command_workload import CommandWorkload
from fairstep.study.protocols.space import Axis
from fairstep.study.tournament.ledgers import ledgers
from fairstep.train import train

__all__ = ["cache", "corpus"]

RATES = (0.004, 0.008, 0.016)
STEPS, BATCH = 12, 64
TRAIN = """
import json, sys
losses = json.load(open("losses.json"))
json.dump({"val_loss": losses[" ".join(sys.argv[1:5])]}, open(sys.argv[5] + "/loss.json", "w"))
"""


def carried_out(contest: Contest, base: Ledger, store: Store, one: Any) -> dict[str, Any]:
    """The verdict of a contest whose runs are carried out here, one after the other."""
    plan = Plan(contest)
    while (identity := plan.take()) is not None:
        run = store.run(identity)
        write(run.directory / "spec.json", plan.specs[identity].to_json())
        summary: Summary = one(run)
        plan.tell(identity, summary)
    (ledger,) = ledgers(plan, {"cell": base}).values()
    return contest_result(ledger, store.runs())


@pytest.mark.slow
def test_a_verdict_around_a_command_is_the_verdict_of_our_own_trainer(
    corpus: Any, tmp_path: Path, guardian: Guardian
) -> None:
    workload = Workload(
        model=ModelSpec(layers=1, width=16, heads=2, mlp_width=32, vocabulary=corpus.vocabulary, context=8),
        data=DataSpec(name=corpus.name, fingerprint=corpus.fingerprint, vocabulary=corpus.vocabulary),
        batch_sequences=BATCH // 8,
        tokens=STEPS * BATCH,
        evaluation_tokens=512,
        execution=Execution(threads=1, compile=False),
    )
    from fairstep import optim

    names = ("adamw", "lion")
    full = {name: optim.get(name).complete({}, {"lr": RATES}) for name in names}
    space = Space({"lr": Axis(RATES, fixed=True)})
    shared: dict[str, Any] = {"baseline": "adamw", "seeds": 3, "budgets": (0.5, 2.0)}

    losses: dict[str, float] = {}

    def ours(run: Run) -> Summary:
        summary = train(run.own_spec, Store(tmp_path / "ours")).summary
        assert summary is not None
        assert summary.final_loss is not None
        facts = run.own_spec.columns()
        losses[" ".join(str(facts[name]) for name in ("optimizer", "lr", "data_seed", "steps"))] = summary.final_loss
        return summary

    def foreign(run: Run) -> Summary:
        """By the losses of our own trainer, which is thereby somebody else's."""
        return carry_out_trial(run, guardian=guardian)

    contestants = tuple(Contestant(name, full[name], space) for name in names)
    contest = Contest({"cell": workload}, contestants, **shared)
    base = Ledger(name="ours", command="", baseline="adamw", contestants=names, cell=workload.cell())
    mine = carried_out(contest, base, Store(tmp_path / "ours").writable(), ours)

    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "losses.json").write_text(json.dumps(losses))
    command = ("python", "-S", "train.py", "{optimizer}", "{lr}", "{seed}", "{steps}", "{out}")
    source = LossSource(file="{out}/loss.json", key="val_loss")
    around = CommandWorkload(Trainer(command=command, loss=source, directory=str(tmp_path)), STEPS, BATCH)
    contestants = tuple(Contestant(name, {"optimizer": name, "lr": RATES[1]}, space) for name in names)
    contest = Contest({"cell": around}, contestants, **shared)
    base = Ledger(name="theirs", command="", baseline="adamw", contestants=names, cell=around.cell())
    other = carried_out(contest, base, Store(tmp_path / "theirs").writable(), foreign)

    assert len(Store(tmp_path / "theirs").runs()) == len(losses)
    assert not [note for note in other["notes"] if "Not counted" in note]
    for one, two in zip(mine["contestants"], other["contestants"], strict=True):
        assert (one["name"], one["verdict"]) == (two["name"], two["verdict"])
        for key in ("loss", "loss_low", "loss_high", "difference_low", "difference_high", "speedup", "speedup_low"):
            assert one[key] == two[key] or one[key] == pytest.approx(two[key], rel=1e-4)
