"""Search spaces from the command line and from files."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from fairstep import optim
from fairstep.cli.compare import CompareOptions, contestant_tables
from fairstep.cli.shared import space
from fairstep.study import Axis

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
