"""Which model a plan or a recommendation is about, in the words that all verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import tyro

from fairstep.cli.shared.options import at_least
from fairstep.model import AnyPreset, named
from fairstep.model.sized import sized
from fairstep.study.file.schema import token_count


@dataclass(frozen=True)
class SizeOptions:
    """A model by its name or its size, and one run's length and batch."""

    groups: ClassVar[Mapping[str, str]] = {"model": "model", "tokens": "length and batch"}
    model: Annotated[str, tyro.conf.arg(aliases=["--preset"])] = ""
    """A model (106k, semenov/124m, wen/130m ...), or anybody's (hf:config.json, hf:OWNER/NAME, model.py:build,
    package.module:build)."""
    params: str = ""
    """Instead: about so many matrix parameters (attention and MLP, without embeddings), for example 350M."""
    layers: int = 0
    """Instead, with --width: blocks of a dense Llama."""
    width: int = 0
    """Elements of a token's representation between its blocks."""
    vocabulary: int = 0
    """Tokens of the text. Default: the model's."""
    context: int = 0
    """Tokens of a sequence. Default: the model's."""
    tokens: str = ""
    """Token budget of the run, for example 7B. Default: --chinchilla."""
    chinchilla: float | None = None
    """Token budget in Chinchilla lengths: 20 tokens per matrix parameter. Default: 1, or a published run's tokens."""
    batch_sequences: int = 0
    """Sequences of an optimizer step. Default: the model's."""
    batch_tokens: str = ""
    """Tokens of an optimizer step, for example 500k, instead. recommend takes 500k for a model that is not named."""


def size_of(options: SizeOptions) -> AnyPreset:
    """The model that the options name. Raises ValueError where they name two, or none."""
    by_size = options.layers or options.width
    ways = {"--model": options.model, "--params": options.params, "--layers and --width": by_size}
    given = [way for way, value in ways.items() if value]
    if len(given) != 1:
        what = f"not by {' and by '.join(given)}" if given else "such as --params 350M"
        raise ValueError(f"name the model by one of --model, --params, or --layers and --width, {what}")
    at_least(options, 0, "vocabulary", "context", "batch_sequences", "layers", "width")
    if options.model:
        return named(options.model, options.context)
    if options.params:
        size, name = sized(token_count(options.params, "--params"), options.context), f"Llama of {options.params}"
        return replace(size, name=name, model=size.model.model_copy(update={"preset": name}))
    if not (options.layers and options.width):
        raise ValueError("--layers and --width go together, such as --layers 24 --width 1024")
    return named(f"{options.layers}x{options.width}", options.context)


def sequences_of(options: SizeOptions, size: AnyPreset) -> int:
    """Sequences of an optimizer step. Raises ValueError for tokens that are no whole sequences, or for both options."""
    if not options.batch_tokens:
        return options.batch_sequences or size.batch_sequences
    if options.batch_sequences:
        raise ValueError("the batch is given by --batch-tokens and by --batch-sequences; keep one of them")
    tokens = token_count(options.batch_tokens, "--batch-tokens")
    return max(1, round(tokens / size.context))
