"""``examine``: the conformance list on any optimizer, ours or anyone's, with findings in words.

Nothing is trained: the checks take a few dozen steps of a model of a thousand weights.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fairstep.optim.catalogue.contained import contained
from fairstep.optim.catalogue.paths import said
from fairstep.optim.catalogue.registry import get
from fairstep.optim.doctor.checks import CHECKS, Check, Wrong, takes_a_step
from fairstep.optim.doctor.subject import Pair, Subject
from fairstep.optim.spec.overrides import is_override


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. ``skipped``: it makes no sense because an earlier one failed."""

    check: str
    title: str
    status: Literal["passed", "failed", "skipped"]
    needed: bool
    message: str = ""


def examine(
    name: str,
    hyper: Mapping[str, Any] | None = None,
    resume: Callable[[str, Pair, Pair], None] | None = None,
    only_needed: bool = False,
) -> Iterator[Finding]:
    """Findings in the order of the list, as they come; ``only_needed``: of what a contest here depends on.

    Compiled optimizers are run uncompiled: what they compute is the same, and compiling takes minutes. ``resume``: how
    the training loop that asks resumes a run (``Subject``). What the optimizer prints goes to stderr. Overrides, which
    are of a model's roles, are checked by name and left out. Raises ValueError if there is no such optimizer or it
    cannot be built with these hyperparameters.
    """
    checked = get(name).validate(dict(hyper or {}))
    subject = Subject(name, {key: value for key, value in checked.items() if not is_override(key)}, resume)
    broken = False
    for check in CHECKS:
        if only_needed and not check.needed:
            continue
        finding = Finding(check.name, check.title, "skipped", check.needed) if broken else run_check(check, subject)
        broken = broken or (finding.status == "failed" and check.function is takes_a_step)
        yield finding


def run_check(check: Check, subject: Subject) -> Finding:
    """One check, whatever the optimizer raises in it."""
    needed, message = check.needed, ""
    with contained(), _quiet(compiled=bool(get(subject.name).version)):
        try:
            check.function(subject)
        except Wrong as wrong:
            needed, message = needed and not wrong.harmless, str(wrong)
        except (Exception, SystemExit) as error:
            message = f"raises {said(error)}"
    return Finding(check.name, check.title, "failed" if message else "passed", needed, message)


def fit(findings: Iterable[Finding]) -> bool:
    """Whether it may compete: nothing that is needed failed."""
    return all(finding.status == "passed" for finding in findings if finding.needed)


@contextmanager
def _quiet(compiled: bool) -> Iterator[None]:
    """One thread, no warnings, no compilation (whose machinery is only loaded where something may be compiled); the
    number of threads and the random state are as before at the end."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    with warnings.catch_warnings(), redirect_stdout(sys.stderr), eager:
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_rng_state(state)
