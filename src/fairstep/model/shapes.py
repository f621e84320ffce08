"""Every parameter of a config with its shape and role, and the FLOPs of a token, without building a model or torch.

A test holds the table against the built modules; plans, memory estimates and exports rest on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairstep.model.config import ModelConfig

MOST_TOKENS = 1e15
"""A run of as many tokens or more is taken for a typing error."""


@dataclass(frozen=True)
class Parameter:
    """``role`` is one of the optimizers' roles: matrix, embedding, head, vector, expert, router. ``element_bytes``: of
    the weight and of its gradient; optimizers' state is float32 always."""

    name: str
    shape: tuple[int, ...]
    role: str
    element_bytes: int = 4

    @functools.cached_property
    def elements(self) -> int:
        return math.prod(self.shape)

    @functools.cached_property
    def size_bytes(self) -> int:
        return self.elements * self.element_bytes


@dataclass(frozen=True)
class Counts:
    """Parameters of a model. ``matrix``: the weights of the blocks (attention, MLP, router, experts); ``active``: those
    that a token uses (all but the experts that it does not see); ``multiplied``: weights that multiply a token, the
    head among them and embeddings not, counting ``experts_per_token`` experts."""

    total: int
    matrix: int
    active: int
    multiplied: int


def parameter_table(config: ModelConfig) -> list[Parameter]:
    """In the order of the module's ``named_parameters``."""
    return list(_table(config))


@functools.cache
def _table(config: ModelConfig) -> tuple[Parameter, ...]:
    """Kept, because every contestant of a cell asks for it, and for the sizes of its parameters."""
    tables = {"llama": _llama, "track3": _track3}
    return tuple(tables.get(config.architecture, _classic)(config))


@functools.cache
def counts(config: ModelConfig) -> Counts:
    """Counts of a config. A tied head is counted once in ``total``, and in ``multiplied``."""
    table = parameter_table(config)
    by_role = {role: sum(p.elements for p in table if p.role == role) for role in {p.role for p in table}}
    total = sum(by_role.values())
    experts = by_role.get("expert", 0)
    used = experts * config.moe.experts_per_token // config.moe.experts if config.moe else 0
    weights = by_role["matrix"] + by_role.get("router", 0)
    return Counts(
        total=total,
        matrix=weights + experts,
        active=total - experts + used,
        multiplied=weights + used + config.vocabulary * config.width,
    )


def flops_per_token(config: ModelConfig) -> int:
    """FLOPs of forward and backward per trained token: 6 for each weight that multiplies it, and 12 x layers x width x
    context for attention scores and values, counted in full although half is masked (arXiv 2204.02311, appendix B)."""
    return 6 * counts(config).multiplied + 12 * config.layers * config.width * config.context


def chinchilla_tokens(parameters_matrix: float, multiple: float = 1.0) -> int:
    """Tokens of so many Chinchilla lengths: one is 20 tokens a matrix parameter, as W counts (arXiv 2509.02046).

    Raises ValueError for more tokens than anyone has.
    """
    tokens = multiple * 20 * parameters_matrix
    if not tokens < MOST_TOKENS:
        raise ValueError(f"{multiple:g} Chinchilla lengths are more than {MOST_TOKENS:g} tokens; give fewer")
    return round(tokens)


def _llama(config: ModelConfig) -> Iterator[Parameter]:
    width, keys, mlp = config.width, config.key_width, config.mlp_width
    yield Parameter("embedding.weight", (config.vocabulary, width), "embedding")
    for n in range(config.layers):
        block = f"blocks.{n}."
        yield Parameter(block + "attention_norm.weight", (width,), "vector")
        for name, outputs in (("q", width), ("k", keys), ("v", keys), ("o", width)):
            yield Parameter(f"{block}attention.{name}.weight", (outputs, width), "matrix")
        for name in ("q_norm", "k_norm") if config.qk_norm else ():
            yield Parameter(f"{block}attention.{name}.weight", (config.head_width,), "vector")
        yield Parameter(block + "mlp_norm.weight", (width,), "vector")
        if config.moe is None:
            yield from _swiglu(block + "mlp.", width, mlp)
            continue
        yield Parameter(block + "mlp.router.weight", (config.moe.experts, width), "router")
        for name, shape in (("gate", (mlp, width)), ("up", (mlp, width)), ("down", (width, mlp))):
            yield Parameter(f"{block}mlp.experts.{name}", (config.moe.experts, *shape), "expert")
        if config.moe.shared_experts:
            yield from _swiglu(block + "mlp.shared.", width, config.moe.shared_experts * mlp)
    yield Parameter("norm.weight", (width,), "vector")
    if not config.tied_head:
        yield Parameter("head.weight", (config.vocabulary, width), "head")


def _swiglu(prefix: str, width: int, mlp: int) -> Iterator[Parameter]:
    for name, shape in (("gate", (mlp, width)), ("up", (mlp, width)), ("down", (width, mlp))):
        yield Parameter(f"{prefix}{name}.weight", shape, "matrix")


def _classic(config: ModelConfig) -> Iterator[Parameter]:
    yield Parameter("embedding.weight", (config.vocabulary, config.width), "embedding")
    yield Parameter("positions.weight", (config.context, config.width), "embedding")
    yield from _biased_blocks(config, ("weight", "bias"))
    if not config.tied_head:
        yield Parameter("head.weight", (config.vocabulary, config.width), "head")


def _track3(config: ModelConfig) -> Iterator[Parameter]:
    yield Parameter("embedding.weight", (config.vocabulary, config.width), "embedding", element_bytes=2)
    yield Parameter("embedding_norm.weight", (config.width,), "vector")
    yield from _biased_blocks(config, ("weight",))
    yield from _biased("head", config.vocabulary, config.width, "head")


def _biased_blocks(config: ModelConfig, of_norm: Sequence[str]) -> Iterator[Parameter]:
    """Blocks whose linear layers have biases, and the norm behind them. ``of_norm``: parameters of each norm."""
    width, mlp = config.width, config.mlp_width
    for n in range(config.layers):
        block = f"blocks.{n}."
        yield from (Parameter(f"{block}attention_norm.{kind}", (width,), "vector") for kind in of_norm)
        for name in ("q", "k", "v", "o"):
            yield from _biased(f"{block}attention.{name}", width, width)
        yield from (Parameter(f"{block}mlp_norm.{kind}", (width,), "vector") for kind in of_norm)
        yield from _biased(block + "mlp.up", mlp, width)
        yield from _biased(block + "mlp.down", width, mlp)
    yield from (Parameter(f"norm.{kind}", (width,), "vector") for kind in of_norm)


def _biased(name: str, outputs: int, inputs: int, role: str = "matrix") -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (outputs, inputs), role)
    yield Parameter(f"{name}.bias", (outputs,), "vector")
