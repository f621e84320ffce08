"""``fairstep doctor``: is this optimizer, or this trainer, fit to compete?"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from fairstep import optim
from fairstep.analysis.verdict.wording import plural
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import Assignments, assignment, parse
from fairstep.model import named


@dataclass(frozen=True)
class DoctorOptions:
    """Check an optimizer before any compute is spent on it: a built-in, or anyone's as package.module:Class.

    Example: fairstep doctor torch.optim:RMSprop

    Example: fairstep doctor muon --model 106k --set embedding.lr_ratio=28

    Example: fairstep doctor --trainer examples/plain/study.toml

    A few dozen steps on a model of a thousand weights, uncompiled. With --trainer: short trials of a study's own
    trainer, by which it is checked that the seed, every searched placeholder and the length reach it, that it repeats,
    that two trials do not disturb one another, and that a killed one comes back. Exit code 1 if a check fails.
    """

    optimizer: tyro.conf.Positional[str] = ""
    """Name of a built-in optimizer, package.module:Class, or the name of an entry point."""
    set: Assignments = ()
    """A hyperparameter, for example --set beta2=0.98, --set betas=[0.9,0.98] or --set embedding.lr_ratio=28; may be
    given several times."""
    model: str = ""
    """Print instead which parameter of this model has which role, rule and learning rate: a preset, hf:config.json,
    model.py:build (docs/howto/my-model.md)."""
    trainer: Path | None = None
    """Check the trainer of this study file instead."""
    part: float = 0.1
    """Length of the trainer's runs, as a part of the shortest cell's."""
    patience: float = 60.0
    """Seconds of silence after which a run of the trainer hangs."""
    reference: Path | None = None
    """A CSV of losses of reference runs, with the column loss, placeholders, and perhaps contestant, cell, steps or
    tokens, of any cell: the trainer must give the same, by two one-sided tests, on whole runs."""
    margin: float = 0.01
    """Nats that the mean losses of the trainer and of the reference may differ by."""
    json: bool = False
    """Print the findings as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(DoctorOptions, "doctor", arguments)
    if (options.trainer is None) == (not options.optimizer):
        raise ValueError("doctor takes an optimizer, or --trainer and a study file, and one of the two")
    if options.trainer is not None:
        from fairstep.cli.shared.trainer_doctor import check_trainer

        return check_trainer(
            options.trainer, options.part, options.patience, options.reference, options.margin, options.json
        )
    spec = optim.get(options.optimizer)
    hyper = dict(assignment(text) for text in options.set)
    if options.model:
        from fairstep.model.factory import outline  # loads torch
        from fairstep.optim.doctor import routing_table

        model = outline(named(options.model).config())
        print(routing_table(spec.name, hyper, model.network, model.roles))
        return 0

    from fairstep.optim.doctor import examine, fit  # loads torch
    from fairstep.train.checkpoints.resumption import resume

    findings = []
    if not options.json:
        screen.out(f"{spec.name}" + (f" ({spec.version})" if spec.version else ""))
    for finding in examine(spec.name, hyper, resume):
        findings.append(finding)
        if not options.json:
            screen.finding(finding)
    failed = [finding for finding in findings if finding.status == "failed"]
    if options.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"optimizer": spec.name, "version": spec.version, "fit": fit(findings), "findings": rows}))
    else:
        screen.out(_conclusion(spec.name, len(failed), fit(findings)))
    return 1 if failed else 0


def _conclusion(name: str, failed: int, fit: bool) -> str:
    if not failed:
        return f"Nothing is wrong with {name}."
    if fit:
        return f"{plural(failed, 'check')} failed, none that a contest here depends on: {name} may compete."
    return f"{plural(failed, 'check')} failed: do not let {name} compete before that is mended."
