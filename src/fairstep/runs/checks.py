"""What a ledger says against what its runs are: the runs that a contest may count, and what fails, in sentences.

A trial whose run is of another optimizer, other hyperparameters, seeds or another workload is no evidence about its
contestant. It is named, and it is not counted. So is a run whose own files contradict one another (``Run.checked``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from fairstep.runs.command_spec import CommandSpec
from fairstep.runs.ledger import SEARCHES, Ledger, Trial
from fairstep.runs.run import Checked, Run, Spec

BY_LENGTH = ("hyperp", "law")
"""Rules of transfer that change lr itself, by the length of a run and the model."""


def checked_runs(ledger: Ledger, runs: Iterable[Run]) -> dict[str, Checked]:
    """The ledger's runs by identity, each read once."""
    named = {trial.run for trial in ledger.trials}
    return {run.id: run.checked for run in runs if run.id in named}


def trial_problems(ledger: Ledger, runs: Mapping[str, Checked]) -> list[str]:
    """For each trial what keeps it from counting, empty if nothing."""
    specs = {run: checked.spec for run, checked in runs.items() if checked.spec}
    optimizers, factors = _optimizers(ledger, specs), _lr_factors(ledger, specs)
    searched: dict[str, set[tuple[int, int]]] = {}
    for trial in ledger.trials:
        if trial.phase in SEARCHES and (spec := specs.get(trial.run)):
            searched.setdefault(trial.contestant, set()).add((spec.init_seed, spec.data_seed))
    problems = []
    for trial in ledger.trials:
        spec, _, text = runs.get(trial.run, Checked(None, None))
        if not text and spec is not None:
            factor = factors.get(_length(spec), 1.0)
            text = _contradiction(trial, spec, optimizers[trial.contestant], factor)
            seeds = (spec.init_seed, spec.data_seed)
            if not text and trial.phase == "final" and seeds in searched.get(trial.contestant, set()):
                text = f"its seed {seeds[0]} was used by the search"
            text = text and f"run {trial.run} is not what the ledger {ledger.name} says: {text}"
        problems.append(text)
    return problems


def ledger_problems(ledger: Ledger, runs: Mapping[str, Checked]) -> list[str]:
    """What is wrong with a ledger and its trials, one sentence each."""
    sentences = []
    if ledger.altered:
        sentences.append(f"The ledger {ledger.name} was changed after it was written; only its runs are evidence.")
    for text, count in Counter(filter(None, trial_problems(ledger, runs))).items():
        many = f" ({count} trials)" if count > 1 else ""
        sentences.append(f"Not counted: {text}{many}.")
    for name, choice in ledger.choices.items():
        finals = [trial for trial in ledger.trials if trial.contestant == name and trial.phase == "final"]
        if any(trial.hyperparameters != choice.hyperparameters for trial in finals):
            sentences.append(
                f"The ledger {ledger.name} chose other hyperparameters for {name} than its final runs have."
            )
    return sentences + _cell_problems(ledger, runs)


def losses_not_of_the_end(ledger: Ledger, runs: Mapping[str, Run], checked: Mapping[str, Checked]) -> list[str]:
    """Contestants whose trainer gave a loss of another step than the last one, one sentence each."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for trial in ledger.trials:
        spec, summary, _ = checked.get(trial.run, Checked(None, None))
        if isinstance(spec, CommandSpec) and summary is not None and summary.status == "done":
            at = runs[trial.run].environment.get("loss_step")
            if isinstance(at, int) and abs(at - spec.steps) > 1:  # of some the first step is 0
                found.setdefault(trial.contestant, {})[trial.run] = at, spec.steps
    return [
        f"{name}: by what the trainer wrote, the loss of {len(steps)} runs is not of their last step (such as {at} "
        f"of {most}); it counts as the loss of the whole run."
        for name, steps in found.items()
        for at, most in [next(iter(steps.values()))]
    ]


def _optimizers(ledger: Ledger, specs: Mapping[str, Spec]) -> dict[str, str]:
    """The optimizer of every contestant: its own name where a run has it, else its first trial's."""
    names: dict[str, list[str]] = {}
    for trial in ledger.trials:
        spec = specs.get(trial.run)
        names.setdefault(trial.contestant, []).extend([spec.optimizer_name] if spec else [])
    return {name: name if name in used else next(iter(used), name) for name, used in names.items()}


def _length(spec: Spec) -> tuple[int, int]:
    return spec.tokens, spec.batch_tokens


def _lr_factors(ledger: Ledger, specs: Mapping[str, Spec]) -> dict[tuple[int, int], float]:
    """By tokens of a run and of a step, the factor of a rule of transfer by which most runs have the learning rates of
    their trials, which are the base's. Rules of width change learning rates by role, and have no such factor."""
    if ledger.transfer not in BY_LENGTH:
        return {}
    found: dict[tuple[int, int], Counter[float]] = {}
    for trial in ledger.trials:
        spec = specs.get(trial.run)
        if spec and (factor := _factor(spec.known_settings().get("lr"), trial.hyperparameters.get("lr"))):
            found.setdefault(_length(spec), Counter())[factor] += 1
    return {length: factors.most_common(1)[0][0] for length, factors in found.items()}


def _factor(has: object, said: object) -> float:
    """To ten digits, because a product over a factor is the other one only to rounding; 0 where there is none."""
    if not isinstance(has, float) or not isinstance(said, float) or said <= 0:
        return 0.0
    return float(f"{has / said:.10g}")


def _contradiction(trial: Trial, spec: Spec, optimizer: str, lr_factor: float = 1.0) -> str:
    """What the run has against what its trial says; empty if they agree."""
    if spec.optimizer_name != optimizer:
        return f"it is of {spec.optimizer_name}, not of {optimizer}"
    settings = spec.known_settings()
    for name, value in trial.hyperparameters.items():
        filled = value == 0 and settings.get(name) == spec.steps  # a length that 0 stands for
        if name not in settings or settings[name] == value or filled:
            continue
        if name != "lr" or lr_factor == 1:
            return f"its {name} is {settings[name]}, not {value}"
        if _factor(settings[name], value) != lr_factor:
            return f"its lr is {settings[name]}, not {value} times {lr_factor:.4g}, as others of its length have it"
    return ""


def _cell_problems(ledger: Ledger, runs: Mapping[str, Checked]) -> list[str]:
    """Where the ledger's cell is not what its runs were trained on, one sentence for each fact."""
    cell, wrong = ledger.cell, Counter[tuple[str, object, object]]()
    said: dict[str, object] = {"model": cell.model, "text": cell.fingerprint}
    said |= {"vocabulary": cell.vocabulary, "precision": cell.precision}
    for trial in ledger.trials:
        spec, summary, _ = runs.get(trial.run, Checked(None, None))
        if spec is None:
            continue
        facts: dict[str, tuple[object, object]] = {n: (value, said[n]) for n, value in spec.cell_facts().items()}
        if "batch_sequences" not in trial.hyperparameters:
            facts["batch_tokens"] = (spec.batch_tokens, cell.batch_tokens)
            if trial.phase not in ("short", "budget"):
                facts["tokens"], facts["steps"] = (spec.tokens, cell.tokens), (spec.steps, cell.steps)
        if summary is not None and summary.parameters:
            facts["parameters"] = (summary.parameters, cell.parameters)
            facts["parameters_matrix"] = (summary.parameters_matrix, cell.parameters_matrix)
        wrong.update((name, value, told) for name, (value, told) in facts.items() if value != told)
    return [
        f"The ledger {ledger.name} is of a cell with {name} {told}, and {plural} of its trials with {value}."
        for (name, value, told), plural in wrong.items()
    ]
