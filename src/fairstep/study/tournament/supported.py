"""Whether the trials of a ledger support its certificates: each is made again from the runs.

A ledger keeps no grids. Which values were never tried or cannot be run is therefore taken from the certificate itself,
and where its grid ends is not checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fairstep import optim
from fairstep.runs import Certificate, Ledger, RunSpec, Trial, Value
from fairstep.runs.run import Checked
from fairstep.study.protocols.search import TUNING_SEED
from fairstep.study.protocols.space import Key, key
from fairstep.study.tournament.certify import Fresh, certify
from fairstep.study.tournament.ledgers import effort_of
from fairstep.study.tournament.recorded import late_ratios, tuning_of
from fairstep.study.tournament.trials import loss_of

OTHERWISE = ("cell", "notes", "seconds", "edge", "missing")
"""Fields that runs do not decide."""


def unsupported(ledger: Ledger, runs: Mapping[str, Checked]) -> Iterator[str]:
    """What certificates claim and their trials do not support, one sentence each with the field."""
    for name, proof in ledger.certificates.items():
        where = f"The ledger {ledger.name}, certificates.{name}"
        choice = ledger.choices.get(name)
        if choice is not None and choice.hyperparameters != proof.configuration:
            yield f"{where}.configuration: {proof.configuration} is not the choice, {choice.hyperparameters}."
        again = _again(proof, [trial for trial in ledger.trials if trial.contestant == name], runs)
        for field, claimed, found in _differences("", proof.model_dump(), again.model_dump()):
            if proof.configuration or field in ("trials", "fresh", "failures", "tokens"):
                yield f"{where}.{field}: it claims {_said(claimed)}, and its trials say {_said(found)}."
        if lacks := set(again.missing) - set(proof.missing):
            yield f"{where}.missing: it does not say what its trials say: {min(lacks)}"


def _again(proof: Certificate, trials: list[Trial], runs: Mapping[str, Checked]) -> Certificate:
    """The certificate that the trials with results support."""
    tuning, chosen = tuning_of(proof), dict(proof.configuration)
    finals: dict[int, float] = {}
    finalists: dict[Key, dict[int, float]] = {}
    for trial in trials:
        spec, summary, _ = runs.get(trial.run, Checked(None, None))
        if spec is None or summary is None or trial.status == "unfinished":
            continue
        loss = loss_of(summary)
        tried = {**_unsaid(proof, trial, spec), **trial.hyperparameters}
        place = key(tried)
        if trial.phase == "final":
            finals[spec.init_seed] = loss
        elif trial.phase == "tune" and spec.init_seed == TUNING_SEED:
            tuning.losses[place], tuning.configurations[place] = loss, tried
        elif trial.phase == "tune":
            finalists.setdefault(place, {})[spec.init_seed] = loss
    fresh = Fresh(finalists, finals)
    name, effort = proof.contestant, effort_of(trials)
    return certify(name, proof.cell, tuning, chosen or None, fresh, proof.tolerance, effort)


def _unsaid(proof: Certificate, trial: Trial, spec: object) -> dict[str, Value]:
    """The ratios by role that a trial had before they were tuned. Nothing that a store names is imported: another
    package's optimizer has the ratio 1."""
    late = late_ratios(proof, trial.hyperparameters)
    if not late or not isinstance(spec, RunSpec):
        return {}
    chosen = spec.optimizer
    if ":" in chosen.name:
        return {name: chosen.hyperparameters.get(name, 1.0) for name in late}
    known, values = optim.get(chosen.name), chosen.hyperparameters
    return {name: values.get(name, known.hyperparameter(name, values).default) for name in late}


def _differences(field: str, claimed: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """The innermost fields that differ, with both values."""
    if isinstance(claimed, dict) and isinstance(found, dict) and claimed.keys() == found.keys():
        for name, value in claimed.items():
            if name not in OTHERWISE:
                yield from _differences(f"{field}.{name}".lstrip("."), value, found[name])
    elif isinstance(claimed, list | tuple) and isinstance(found, list | tuple) and len(claimed) == len(found):
        for place, value in enumerate(claimed):
            yield from _differences(f"{field}[{place}]", value, found[place])
    elif isinstance(claimed, float) and isinstance(found, float):
        if claimed != found and not math.isclose(claimed, found, rel_tol=1e-9, abs_tol=1e-12):
            yield field, claimed, found
    elif claimed != found:
        yield field, claimed, found


def _said(value: Any) -> str:
    return "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
