"""QK-clip: after a step, queries and keys of heads whose attention logits are too large are scaled down.

With S the largest attention logit of a head in the forward pass of the step's batch, scale * q k^T with its sign and
over all pairs that attend to each other, after the step of the rule inside:

    gamma = min(1, tau / S) where S > 0, else 1
    W_q  <- gamma^alpha W_q,   W_k <- gamma^(1 - alpha) W_k          the rows of the head, and of its biases

Heads of queries that share keys have one gamma, by the largest S among them. The momentum stays as it is. S is the
signal attention_logits (see ``signals``): in a loop of one's own, the largest logits by parameter name before a step.
The trainer has them of our models with attention that does not normalise queries and keys. No state of its own.

Kimi Team, "Kimi K2: Open Agentic Intelligence", arXiv 2507.20534. The form for shared keys is Megatron-LM's.

Query and key are known by the name of their layer (q, q_proj, wq, query, k, ...). A model without such a layer, whose
layers have other names or one fused matrix, is refused. An attention module with a q_norm or k_norm is refused, because
a norm takes any scale of its input out again. The parts without and with rotation of multi-head latent attention, which
K2 clips by different powers, are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.roles import KEY, QUERY, Named
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Hyperparameter, OptimizerSpec
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor

SIGNAL = "attention_logits"


class QKClipRule(WrappedRule):
    suffix = "qk-clip"
    flops_formula = "N of queries and keys"
    elementwise = False  # a head has rows
    written = ("clipped",)

    def settings(self, item: Named, *, context: Context) -> dict[str, Any]:
        own = call(self.inner.settings, context, item)
        for side, names in (("query", QUERY), ("key", KEY)):
            if item.layer_name in names:
                _refuse_norms(item)
                return {**own, "clipped": side}
        return own

    def due(self, step: int, *, context: Context) -> tuple[str, ...]:
        own = (SIGNAL,) if "clipped" in context.group else ()
        return (*call(self.inner.due, context, step), *own)

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        qk_threshold: float,
        qk_query_share: float,
        context: Context,
    ) -> None:
        call(self.inner.move, context, weights, descend, state, step)
        if "clipped" in context.group:
            largest = state[SIGNAL][..., :1]  # (s, o, 1)
            gamma = torch.where(largest > qk_threshold, qk_threshold / largest, 1.0)
            query = context.group["clipped"] == "query"
            weights.mul_(gamma ** (qk_query_share if query else 1 - qk_query_share))


def _refuse_norms(item: Named) -> None:
    for norm in ("q_norm", "k_norm"):
        if getattr(item.owner, norm, None) is not None:
            raise ValueError(
                f"qk-clip cannot bound the attention logits of {item.name}, because a {norm} behind it takes its scale "
                "out again; leave qk-clip out, or the normalisation of queries and keys"
            )


def qk_clip(spec: OptimizerSpec) -> OptimizerSpec:
    parts = wrap_parts(spec, QKClipRule, ("matrix", "vector"))
    return replace(spec, parts=parts, signals=(*spec.signals, SIGNAL))


_PAPER = "arXiv 2507.20534"

QK_CLIP = Wrapper(
    name="qk-clip",
    title="QK-clip",
    reference=f"Kimi Team 2025, https://arxiv.org/abs/{_PAPER.removeprefix('arXiv ')}",
    order=35,
    hyperparameters={
        "qk_threshold": Hyperparameter(100.0, "largest attention logit tau that is left alone", _PAPER, "(0, inf)"),
        "qk_query_share": Hyperparameter(0.5, "power alpha of gamma that queries take", _PAPER, "[0, 1]"),
    },
    wrap=qk_clip,
    decides="the norms of queries and keys",
)
