"""Independent weight decay: it follows the schedule of the learning rate and not the learning rate.

With eta the learning rate now and eta_0 its peak:

    W <- (1 - (eta / eta_0) lambda) W - eta u

I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, algorithm 2, where eta / eta_0 is
the schedule multiplier. A good lambda is the decoupled one times the learning rate: 1e-4 to 1e-3 in practice. No state
of its own. It is the engine's decay="independent" under a name of its own.
"""

from __future__ import annotations

from dataclasses import replace

from fairstep.optim.spec import Hyperparameter, OptimizerSpec
from fairstep.optim.wrappers.base import Wrapper


def independent_decay(spec: OptimizerSpec) -> OptimizerSpec:
    """The default weight decay is the decoupled one at the optimizer's default learning rate."""
    lr, known = spec.hyperparameters["lr"], spec.hyperparameters["weight_decay"]
    assert isinstance(lr.default, float) and isinstance(known.default, float)
    source = f"the decoupled {known.default:g} at lr {lr.default:g}"
    default = float(f"{lr.default * known.default:.6g}")
    decay = Hyperparameter(default, "independent weight decay", source, known.domain)
    return replace(spec, decay="independent", hyperparameters={**spec.hyperparameters, "weight_decay": decay})


INDEPENDENT_DECAY = Wrapper(
    name="independent-decay",
    aliases=("independent-weight-decay",),
    title="independent weight decay",
    reference="Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101",
    order=22,
    hyperparameters={},
    wrap=independent_decay,
    decides="how weights decay",
)
