"""``fairstep doctor``: is this optimizer fit to compete?"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import tyro

from fairstep import optim
from fairstep.cli.shared import screen
from fairstep.cli.shared.options import Assignments, assignment, parse

MARKS = {"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}


@dataclass(frozen=True)
class DoctorOptions:
    """Check an optimizer before any compute is spent on it: a built-in, or anyone's as package.module:Class.

    Example: fairstep doctor torch.optim:RMSprop

    A few dozen steps on a model of a thousand weights, uncompiled. Exit code 1 if a check fails.
    """

    optimizer: tyro.conf.Positional[str]
    """Name of a built-in optimizer, package.module:Class, or the name of an entry point."""
    set: Assignments = ()
    """A hyperparameter, for example --set beta2=0.98 or --set betas=[0.9,0.98]; may be given several times."""
    json: bool = False
    """Print the findings as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(DoctorOptions, "doctor", arguments)
    spec = optim.get(options.optimizer)
    hyper = dict(assignment(text) for text in options.set)

    from fairstep.optim.doctor import examine, fit  # loads torch
    from fairstep.train.checkpoints.resumption import resume

    findings = []
    if not options.json:
        screen.out(f"{spec.name}" + (f" ({spec.version})" if spec.version else ""))
    for finding in examine(spec.name, hyper, resume):
        findings.append(finding)
        if not options.json:
            print(f"  {MARKS[finding.status]}  {finding.title}", flush=True)
            if finding.message:
                screen.out(f"           {finding.message}")
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
        return f"{failed} check(s) failed, none that a contest here depends on: {name} may compete."
    return f"{failed} check(s) failed: do not let {name} compete before they are mended."
