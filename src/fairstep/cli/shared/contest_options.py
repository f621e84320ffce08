"""The options of a contest of one cell: ``compare``'s, and with other defaults ``demo``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from fairstep.cli.shared.options import Assignments, WorkloadOptions


@dataclass(frozen=True)
class CompareOptions:
    """Tune every contestant's learning rate on an equal grid, repeat the winners on fresh paired seeds, and say which
    are faster, slower or not separable from the baseline.

    Example: fairstep compare adamw lion muon soap --store runs/first

    Example: fairstep compare adamw muon --trainer examples/plain/study.toml

    Example: fairstep compare adamw muon --baseline-from results/pocket-wen

    Stop it at any moment: the same command goes on without repeating a finished run.
    """

    groups: ClassVar[Mapping[str, str]] = {"baseline": "contest", "points": "tuning", "workers": "runs and files"}
    contestants: tyro.conf.Positional[tuple[str, ...]]
    """Two or more optimizers; `fairstep optimizers` lists them. Any torch optimizer may compete, as
    package.module:Class, or under an alias as mine=package.module:Class."""
    baseline: str = ""
    """The contestant that the others are measured against. Default: adamw if it competes, else the first."""
    seeds: str = "3..8"
    """Fresh paired seeds of the final runs. 3..8: look after each from 3 to 8, and stop when every contestant is
    decided. 5: one look at 5. 3..: go on until all are decided. Fixed before the first look."""
    refine: bool = True
    """Also try the learning rate a factor of sqrt 2 below and above the best one, and the baseline's at its longest
    budget."""
    companions: int = 0
    """Rounds of tuning the learning rates of embedding, head and vectors at the end, two trials a role and round, the
    same for every contestant."""
    budgets: tuple[float, ...] = (0.5, 2.0)
    """Token budgets of the baseline, as multiples of the cell's, that turn a loss into tokens."""
    budget_seeds: int = 2
    """Seeds for each of these."""
    points: int = 3
    """Learning rates of every contestant's first grid, a factor of 2 apart."""
    extensions: int = 4
    """How many points a learning-rate grid may grow by while its best point is at an edge."""
    space: Assignments = ()
    """Values that are tried: lr=log:1e-4:1e-2 (a range), lion.lr=1e-3,2e-3 (a list, for one contestant) or a TOML file;
    may be given several times. Without a contestant's name it is for optimizers of other packages, pkg.mod:Class."""
    set: Assignments = ()
    """A hyperparameter of one contestant, or of some of its parameters: --set adamw.beta2=0.98 --set
    muon.embedding.lr_ratio=28; may be given several times (docs/howto/roles.md)."""
    trainer: Path | None = None
    """Compare in a trainer of your own: a TOML file with [trainer] and [[cells]], perhaps a study file, whose
    contestants may be named (docs/howto/my-trainer.md). Any other name is a value of {optimizer}."""
    baseline_from: Path | None = None
    """A store, packed or not, in which the baseline was tuned on this workload. Its runs are taken from there, and only
    the others are trained, after an equivalence check: some of its final runs are trained again here."""
    baseline_seeds: int = 2
    """Final runs of such a baseline that are trained again."""
    baseline_margin: float = 0.02
    """Nats within which their losses must lie of the store's, unless they are equal to the last bit: two one-sided
    tests at 5 %, with the spread of the store's final runs or of the differences, whichever is narrower."""
    unchecked: bool = False
    """Let optimizers of other packages compete that `fairstep doctor` would not: without its checks."""
    workers: int = 0
    """Runs at the same time. Default: as many as cores and memory allow."""
    title: str = ""
    """What this contest is called on its page and beside others of its store."""
    store: Path = Path("runs/compare")
    """Folder of the runs, the ledger and the report."""
    report: Path | None = None
    """Where to write the page. Default: report.html in the store."""
    save: Path | None = None
    """Also write the study file of this contest. `fairstep study run` on that file finds every run done here."""
    json: bool = False
    """Print the verdicts as JSON."""
    workload: Annotated[WorkloadOptions, tyro.conf.arg(name="")] = field(default_factory=WorkloadOptions)


def check_names(names: Sequence[str], what: str) -> None:
    """Raises ValueError for names that make no contest. ``what``: they are of."""
    if len(names) < 2:
        raise ValueError(f"compare needs two or more {what}, not {', '.join(names) or 'none'}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is named twice; every contestant competes once")
