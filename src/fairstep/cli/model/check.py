"""``fairstep model check``: is this model fit to be trained here, and what does it cost?"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.options import at_least, parse
from fairstep.model import named
from fairstep.model.facts import counts, flops_per_token
from fairstep.optim.catalogue.contained import printing_to_stderr
from fairstep.runs import ForeignModelSpec


@dataclass(frozen=True)
class CheckOptions:
    """Check a model before any compute is spent on it: the role of every parameter, counts, the first loss, gradients,
    and whether it repeats. Exit code 1 if a check fails.

    Example: fairstep model check examples/own_model/model.py:build
    """

    model: tyro.conf.Positional[str]
    """A preset (106k), a config of Transformers (hf:config.json, hf:OWNER/NAME) or a function that returns a module for
    build(vocabulary, context) (model.py:build, package.module:build)."""
    vocabulary: int = 0
    """Tokens of the text. Default: the preset's or the config's own, 512 for a function."""
    context: int = 0
    """Tokens of a sequence. Default: the model's own; of a config at most 1024, of a function 128."""
    json: bool = False
    """Print as JSON."""


def main(arguments: list[str]) -> int:
    options = parse(CheckOptions, "model check", arguments)
    at_least(options, 0, "vocabulary", "context")
    size = named(options.model, options.context)
    spec = size.config(options.vocabulary)

    from fairstep.model.foreign.checking import Subject, examine, routes  # loads torch
    from fairstep.model.foreign.counting import counted

    estimated = counted(spec).estimated if isinstance(spec, ForeignModelSpec) else ""
    count, flops = counts(spec), flops_per_token(spec)
    with printing_to_stderr():
        rows = routes(Subject(spec).model)
        findings = list(examine(spec))
    fit = all(finding.status != "failed" for finding in findings)
    if options.json:
        facts = {
            "model": size.name,
            "code": spec.code if isinstance(spec, ForeignModelSpec) else "",
            "vocabulary": spec.vocabulary,
            "context": spec.context,
            "parameters": count.total,
            "parameters_matrix": count.matrix,
            "flops_per_token": flops,
            "flops_estimated": estimated,
            "fit": fit,
            "routes": [dataclasses.asdict(row) for row in rows],
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        print(json.dumps(facts, indent=1))
        return 0 if fit else 1
    table = [
        [
            row.name + (f" (x {row.count})" if row.count > 1 else ""),
            " x ".join(map(str, row.shape)),
            row.role,
            row.doubt,
        ]
        for row in rows
    ]
    screen.print_table(
        f"{size.name}, a vocabulary of {spec.vocabulary:,}, sequences of {spec.context:,}",
        ["parameter", "shape", "role", "uncertain"],
        table,
        left=4,
    )
    how = f"estimated as 6 a weight: {estimated}" if estimated else "forward and backward"
    inside = f"{count.matrix:,}" if count.matrix < count.total else "none"  # then all stand in for them
    screen.out(f"\n{count.total:,} parameters, {inside} of them in matrices; {flops:,} FLOPs a token ({how})\n")
    for finding in findings:
        screen.finding(finding)
    failed = sum(finding.status == "failed" for finding in findings)
    screen.out(f"\n{size.name} may be trained." if fit else f"\n{failed} check(s) failed: mend {size.name} first.")
    return 0 if fit else 1
