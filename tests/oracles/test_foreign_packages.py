"""Optimizers of other packages as they come: described, built, examined, and fit to compete."""

from __future__ import annotations

import pytest

from fairstep import optim
from fairstep.optim.doctor import examine, fit

pytestmark = pytest.mark.oracle

KNOWN = {  # what else the doctor finds, none of which a contest here depends on
    "pytorch_optimizer:AdaBelief": {"is_copied"},
    "pytorch_optimizer:Lion": {"is_copied"},
    "heavyball:PSGDKron": {"resumes", "leaves_gradients", "is_copied"},
    "heavyball:AdamW": {"leaves_gradients", "is_copied"},
    "schedulefree:AdamWScheduleFree": {"leaves_gradients"},
    "prodigyopt:Prodigy": {"takes_parameter_groups"},
    "lion_pytorch:Lion": {"is_copied"},
    "adopt:ADOPT": {"is_copied"},
}


@pytest.mark.parametrize("name", KNOWN)
def test_fit_to_compete(name: str) -> None:
    pytest.importorskip(name.partition(":")[0])
    spec = optim.get(name)
    assert spec.version.partition(" ")[2][0].isdigit()
    assert spec.search_space["lr"].values
    findings = list(examine(name))
    assert fit(findings), [finding.message for finding in findings if finding.needed and finding.message]
    assert {finding.check for finding in findings if finding.status == "failed"} == KNOWN[name]
