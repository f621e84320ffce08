"""Search spaces from the command line and from files."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.study.test_contest import WORKLOAD

from fairstep import optim
from fairstep.cli.compare import CompareOptions, baseline_of, contestant_tables
from fairstep.cli.shared import space
from fairstep.cli.shared.fitness import check_fitness
from fairstep.cli.shared.owners import owner_of
from fairstep.study import Axis
from fairstep.study.file.contestants import contestants_of
from fairstep.study.file.line_numbers import NoLines

WORKLOADS = {"cell": WORKLOAD}

SGD, RMSPROP = "torch.optim:SGD", "torch.optim:RMSprop"


def axis(text: str, *names: str) -> Axis:
    specs = [optim.get(name) for name in names or ("adamw", SGD)]
    found = [axes["lr"] for axes in space.read([text], specs).values() if axes]
    assert len(found) == 1
    return found[0]


def test_a_range_has_steps_of_about_two_or_as_many_points_as_it_says() -> None:
    values = [float(value) for value in axis("lr=log:1e-4:1e-2").values]
    assert len(values) == 8 and values[0] == 1e-4 and values[-1] == 1e-2
    assert all(1.9 < b / a < 2.0 for a, b in itertools.pairwise(values))
    assert axis("lr=log:1e-4:1e-2:3").values == (1e-4, 1e-3, 1e-2)


def test_lists_and_files_say_the_same(tmp_path: Path) -> None:
    assert axis("lr=2e-3,1e-3").values == (1e-3, 2e-3)
    file = tmp_path / "spaces.toml"
    file.write_text(f'["{SGD}"]\nlr = [1e-3, 2e-3]\nmomentum = [0.0, 0.9]\n[adamw]\nlr = "log:1e-3:2e-3"\n')
    found = space.read([str(file)], [optim.get("adamw"), optim.get(SGD)])
    assert found[SGD]["lr"].values == found["adamw"]["lr"].values == (1e-3, 2e-3)
    assert found[SGD]["momentum"].values == (0.0, 0.9)
    file.write_text("lr = [1e-3, 2e-3]\n")
    assert axis(str(file)).values == (1e-3, 2e-3)
    file.write_text("[adamw]\n")
    with pytest.raises(ValueError, match=r"spaces.toml has no hyperparameter with values"):
        axis(str(file))
    file.write_text("lr = ")
    with pytest.raises(ValueError, match=r"spaces.toml is no TOML file"):
        axis(str(file))


def test_a_space_without_a_name_is_for_those_of_other_packages() -> None:
    specs = [optim.get(name) for name in ("adamw", SGD, RMSPROP)]
    found = space.read(["lr=1e-3,2e-3", f"{RMSPROP}.lr=1e-4,2e-4", "AdamW.lr=5e-3"], specs)
    assert not found["adamw"].keys() - {"lr"} and found["adamw"]["lr"].values == (5e-3,)
    assert found[SGD]["lr"].values == (1e-3, 2e-3)
    assert found[RMSPROP]["lr"].values == (1e-4, 2e-4)


def test_a_class_alone_names_its_contestant() -> None:
    assert owner_of("RMSprop.centered", ["adamw", SGD, RMSPROP]) == (RMSPROP, "centered")
    assert owner_of("SGD.embedding.lr_ratio", ["adamw", SGD]) == (SGD, "embedding.lr_ratio")
    with pytest.raises(optim.UnknownOptimizerError):
        owner_of("Mine.lr", ["a.b:Mine", "c.d:Mine"])


def test_a_longer_grid_keeps_the_factor_and_the_centre() -> None:
    grid = Axis((0.002, 0.004, 0.008), 2.0)
    assert space.longer(grid, 3).values == (0.002, 0.004, 0.008)
    assert space.longer(grid, 4).values == (0.002, 0.004, 0.008, 0.016)
    assert space.longer(grid, 7).values == (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
    assert space.longer(Axis((1e-3, 1e-2)), 3).values == (1e-3, 1e-2, 1e-1)


def test_every_contestant_gets_as_many_trials_as_the_longest_space(capsys: pytest.CaptureFixture[str]) -> None:
    options = CompareOptions(("adamw", SGD, "lion"), space=("lr=log:1e-3:1:11",))
    contestants = contestant_tables(options)
    assert [len(contestant.grid["lr"]) for contestant in contestants] == [11, 11, 11]
    assert "every contestant gets 11 learning rates" in capsys.readouterr().err
    assert contestants[1].optimizer == SGD


def test_without_a_space_a_foreign_optimizer_is_tuned_around_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    contestants = contestant_tables(CompareOptions(("adamw", SGD)))
    assert contestants[1].grid["lr"] == [0.0005, 0.001, 0.002]
    assert f"{SGD}: without --space its learning rates are 0.0005 0.001 0.002, around its default" in " ".join(
        capsys.readouterr().err.split()
    )


class Relative(torch.optim.SGD):
    """A learning rate of its own making, unless that is switched off, and a rank that must be given."""

    def __init__(self, params: Any, lr: float | None = None, *, rank: int, relative_step: bool = True) -> None:
        if (lr is None) != relative_step:
            raise ValueError("lr goes with relative_step=False alone")
        super().__init__(params, lr or 0.01)


class Careless(torch.optim.SGD):
    """Its learning rate is the one that it began with."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.rate = lr

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(p.grad, alpha=self.rate)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])


def test_values_are_checked_with_the_others_of_the_contestant() -> None:
    together = CompareOptions(("adamw", SGD), set=(f"{SGD}.nesterov=true", f"{SGD}.momentum=0.9"))
    assert contestant_tables(together)[1].set == {"momentum": 0.9, "nesterov": True}
    space = (f"{SGD}.momentum=0.8,0.9", f"{SGD}.lr=1e-3,2e-3,4e-3", "adamw.beta1=0.8,0.9")
    tried = CompareOptions(("adamw", SGD), set=(f"{SGD}.nesterov=true",), space=space)
    sgd = contestant_tables(tried)[1]
    assert sgd.set == {"nesterov": True} and sgd.grid["momentum"] == [0.8, 0.9]
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        contestant_tables(CompareOptions(("adamw", SGD), set=(f"{SGD}.nesterov=true",)))
    wrong = (f"{SGD}.momentum=0.8,-0.9", f"{SGD}.lr=1e-3,2e-3,4e-3", "adamw.beta1=0.8,0.9")
    with pytest.raises(ValueError, match="Invalid momentum value"):
        contestant_tables(CompareOptions(("adamw", SGD), space=wrong))


@pytest.mark.usefixtures("mine")
def test_a_class_without_a_learning_rate_competes_with_those_of_its_space() -> None:
    with pytest.raises(ValueError, match=r"mine:Relative has no learning rate to begin with; give one with --space"):
        contestant_tables(CompareOptions(("adamw", "mine:Relative")))
    settings = ("mine:Relative.relative_step=false", "mine:Relative.rank=4")
    options = CompareOptions(("adamw", "mine:Relative"), space=("lr=1e-3,2e-3,4e-3",), set=settings)
    tables = contestant_tables(options)
    assert tables[1].set == {"relative_step": False, "rank": 4}
    with pytest.raises(ValueError, match="cannot be built without a value for rank; give one with --set"):
        contestant_tables(CompareOptions(("adamw", "mine:Relative"), space=("lr=1e-3,2e-3,4e-3",)))
    check_fitness(tables, unchecked=False)
    (contestant,) = contestants_of(NoLines(), 0, tables[1], WORKLOADS)
    assert contestant.hyperparameters["lr"] == 1e-3 and contestant.hyperparameters["rank"] == 4


def test_an_alias_is_the_name_of_a_contestant() -> None:
    options = CompareOptions(
        ("adamw", f"mine={SGD}", f"other={SGD}"),
        baseline="mine",
        space=("mine.lr=1e-3,2e-3,4e-3",),
        set=("mine.momentum=0.9", "adamw.beta2=0.98"),
    )
    tables = contestant_tables(options)
    assert [(table.name, table.optimizer) for table in tables] == [("", "adamw"), ("mine", SGD), ("other", SGD)]
    assert [table.set for table in tables] == [{"beta2": 0.98}, {"momentum": 0.9}, {}]
    assert tables[1].grid["lr"] == [1e-3, 2e-3, 4e-3] and tables[2].grid["lr"] == [0.0005, 0.001, 0.002]
    assert baseline_of(options, ["adamw", "mine", "other"]) == "mine"
    (contestant,) = contestants_of(NoLines(), 0, tables[1], WORKLOADS)
    assert (contestant.name, contestant.optimizer) == ("mine", SGD)
    with pytest.raises(ValueError, match="adamw is the name of an optimizer of fairstep's; choose another alias"):
        contestant_tables(CompareOptions(("lion", f"adamw={SGD}")))


@pytest.mark.usefixtures("mine")
def test_who_may_not_compete_is_refused_unless_one_insists(capsys: pytest.CaptureFixture[str]) -> None:
    tables = contestant_tables(CompareOptions(("adamw", "mine:Careless", SGD)))
    with pytest.raises(ValueError, match=r"mine:Careless may not compete: with half the lr .*--unchecked lets it"):
        check_fitness(tables, unchecked=False)
    capsys.readouterr()
    check_fitness(tables, unchecked=True)
    assert "mine:Careless competes unchecked; `fairstep doctor mine:Careless`" in " ".join(
        capsys.readouterr().err.split()
    )
    check_fitness([tables[0], tables[2]], unchecked=False)
