"""What every model is to a training loop: tokens and targets in, a loss out; and how weights are first drawn.

In training mode the loss includes the auxiliary terms (z-loss, balance of experts). In evaluation mode it is the
cross-entropy alone. ``measurements`` gives what a step may want to log.

Shapes in comments: B sequences, T positions, D width, H heads, K = D / H head size, V vocabulary, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairstep.model.attention import WatchedAttention
from fairstep.model.config import EXPLICIT_ATTENTION_CONTEXT, ModelConfig
from fairstep.model.loss import capped, head_loss
from fairstep.model.precision import wide

TRUNCATION = 3.0
"""Standard deviations at which W cuts its normal initialisation."""


class Routing(NamedTuple):
    """What one mixture of experts says of one forward pass: two scalars with gradients, and two measurements.

    ``load``: (E,) share of all assignments that each expert took. ``unrouted``: share of tokens that none took.
    """

    balance: Tensor
    z: Tensor
    load: Tensor
    unrouted: Tensor


class LanguageModel(nn.Module):
    """``forward(tokens, targets)`` is the loss in nats per token. A subclass builds its layers and says ``hidden``.

    The head's weight is (V, D), and the embedding's own where ``tied_head`` is set. ``head_bias``: whether it has a
    bias. ``logit_cap``: bound of the logits (``loss.capped``); 0: none.
    """

    mask: Tensor | None
    measured: Tensor
    measured_load: Tensor
    causal = True
    head_bias = False
    logit_cap = 0.0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)

    def finish(self) -> None:
        """To be called by a subclass behind its own layers: the head, the mask, the first weights."""
        config = self.config
        self.head = nn.Linear(config.width, config.vocabulary, bias=self.head_bias)
        if config.tied_head:
            self.head.weight = self.embedding.weight
        explicit = config.context <= EXPLICIT_ATTENTION_CONTEXT
        mask = torch.full((config.context, config.context), float("-inf")).triu(1) if explicit else None
        self.register_buffer("mask", mask if self.causal or mask is None else torch.zeros_like(mask), persistent=False)
        if config.moe is not None:
            load = torch.zeros(config.layers, config.moe.experts)
            self.register_buffer("measured_load", load, persistent=False)
        if config.moe is not None or config.z_loss:
            self.register_buffer("measured", torch.zeros(len(MEASURED) + 1), persistent=False)
        self.initialise()

    def explicit_mask(self, tokens: Tensor) -> Tensor | None:
        """(T, T), 0 or -inf, for attention that is written out; None where a kernel is the faster one."""
        length = tokens.shape[1]
        return self.mask[:length, :length] if self.mask is not None and tokens.device.type == "cpu" else None

    def hidden(self, tokens: Tensor) -> tuple[Tensor, Sequence[Routing]]:
        """(B, T) integers to (B, T, D), what the head reads, and what the mixtures of experts say."""
        raise NotImplementedError

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) integers to (B, T, V) scores of the next token (of the masked token for an encoder)."""
        logits = self.head(self.hidden(tokens)[0])
        return capped(wide(logits), self.logit_cap) if self.logit_cap else logits

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """tokens, targets: (B, T) integers; targets of -100 do not count. Returns the scalar loss, in float32."""
        x, routings = self.hidden(tokens)
        if not (routings or self.config.z_loss) or not self.training:
            return head_loss(x, self.head, targets, cap=self.logit_cap)[0]
        loss, z = head_loss(x, self.head, targets, self.config.z_loss, self.logit_cap)
        balance = router_z = unrouted = torch.zeros_like(z)
        moe = self.config.moe
        if moe is not None:
            balance, router_z, unrouted = (
                torch.stack([getattr(routing, name) for routing in routings]).mean()
                for name in ("balance", "z", "unrouted")
            )
            loss = loss + moe.balance_loss * balance + moe.router_z_loss * router_z
            with torch.no_grad():
                self.measured_load += torch.stack([routing.load for routing in routings])
        with torch.no_grad():
            values = (z, balance, router_z, unrouted, torch.ones_like(z))
            self.measured += torch.stack([value.detach().float() for value in values])
        return loss

    @property
    def network(self) -> nn.Module:
        """The module whose parameters are trained: this one."""
        return self

    @property
    def roles(self) -> None:
        """All roles are inferred."""
        return None

    def measurements(self) -> dict[str, Any]:
        """Means over the forward passes in training mode since ``reset_measurements``, as plain numbers.

        ``z_loss``, ``balance_loss``, ``router_z_loss``: the terms before their coefficients; ``unrouted_tokens``: share
        of tokens that no expert took; ``expert_load``: layers x experts, the share of assignments, 1 / E when balanced.
        Empty for a model without such terms, and before the first pass.
        """
        if self.config.moe is None and not self.config.z_loss:
            return {}
        *values, passes = self.measured.tolist()
        if not passes:
            return {}
        found: dict[str, Any] = {name: value / passes for name, value in zip(MEASURED, values, strict=True)}
        if self.config.moe is None:
            return {"z_loss": found["z_loss"]}
        found["expert_load"] = (self.measured_load / passes).tolist()
        return found if self.config.z_loss else {name: value for name, value in found.items() if name != "z_loss"}

    def watch_attention(self) -> None:
        """Keep the largest attention logits of each head in training from now on. Raises ValueError without any."""
        watched = [module for module in self.modules() if isinstance(module, WatchedAttention)]
        if not watched:
            raise ValueError(
                f"the model {self.config.architecture} normalises its queries and keys, whose scale then changes no "
                "attention logit; take an optimizer without qk-clip, or another model"
            )
        for module in watched:
            module.watch()

    def take_attention_logits(self) -> dict[str, Tensor]:
        """Names of the parameters of queries and keys, with the largest logits (key heads,) since this was last asked.

        -inf before the first forward pass in training.
        """
        found: dict[str, Tensor] = {}
        for name, module in self.named_modules():
            if isinstance(module, WatchedAttention):
                largest = module.take()
                found |= {f"{name}.{own}": largest for own, _ in module.named_parameters() if own[:2] in ("q.", "k.")}
        return found

    def reset_measurements(self) -> None:
        """Forget what was measured; to be called before a step that is to be measured alone."""
        for name, buffer in self.named_buffers():
            if name.startswith("measured"):
                buffer.zero_()

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw every matrix, in the order of ``named_parameters``, from torch's global generator."""
        config = self.config
        residual_std = config.init_std / (2 * config.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            elif config.initialisation == "fan_in":
                std = 1 / config.width if parameter is self.embedding.weight else parameter.shape[-1] ** -0.5
                nn.init.trunc_normal_(parameter, 0.0, std, -TRUNCATION * std, TRUNCATION * std)
            elif config.initialisation in ZERO_OUTPUTS:
                embedding_std, variance = ZERO_OUTPUTS[config.initialisation]
                if parameter is self.embedding.weight:
                    parameter.normal_(0.0, embedding_std)
                elif parameter is self.head.weight or name.endswith(WRITES_RESIDUAL):
                    parameter.zero_()
                else:
                    parameter.normal_(0.0, (variance / parameter.shape[-1]) ** 0.5)
            else:
                scaled = config.initialisation == "depth_scaled" and name.endswith(WRITES_RESIDUAL)
                parameter.normal_(0.0, residual_std if scaled else config.init_std)


WRITES_RESIDUAL = ("attention.o.weight", "down.weight", "experts.down")
"""Ends of the names of matrices that write to the residual stream."""

ZERO_OUTPUTS = {"zero_outputs": (1.0, 0.33), "mup": (0.1, 1.0)}
"""Initialisations whose head and residual outputs are 0: standard deviation of the embedding, and the variance of other
weights times their inputs."""

MEASURED = ("z_loss", "balance_loss", "router_z_loss", "unrouted_tokens")
