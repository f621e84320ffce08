"""Named models, without torch: a ladder for CPUs, the sizes of both papers, and other architectures.

A rung of the ladder is named by its matrix parameters (attention and MLP matrices), in thousands (k) or millions (M).
W's token ratios count the same parameters. Published models have the names that the papers give them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from fairstep.model.config import ModelConfig, MoEConfig
from fairstep.model.facts import counts
from fairstep.optim.spec import did_you_mean
from fairstep.runs import AnyModelSpec


@dataclass(frozen=True)
class AnyPreset:
    """A model and the batch that suits it. ``source``: where it is from."""

    name: str
    model: AnyModelSpec
    batch_sequences: int = 16
    vocabulary_multiple: int = 1
    extra_tokens: int = 0
    source: str = ""

    @property
    def context(self) -> int:
        """Tokens of a sequence."""
        return self.model.context

    @property
    def parameters_matrix(self) -> int:
        """Weights of the blocks: attention and MLP matrices, routers, all experts."""
        return counts(self.model).matrix

    def config(self, vocabulary: int = 0) -> AnyModelSpec:
        """The model for a tokenizer of so many tokens; 0: as it is."""
        raise NotImplementedError

    def parameters(self, vocabulary: int = 0) -> int:
        """All parameters, embedding, head and norms included."""
        return counts(self.config(vocabulary)).total


@dataclass(frozen=True)
class Preset(AnyPreset):
    """One of ours.

    The model's vocabulary is the published one; with another tokenizer it is that one's, rounded up to a multiple of
    ``vocabulary_multiple``, with ``extra_tokens`` that no text has (BERT's mask).
    """

    model: ModelConfig

    def config(self, vocabulary: int = 0) -> ModelConfig:
        if not vocabulary:
            return self.model
        multiple = self.vocabulary_multiple
        return self.model.model_copy(update={"vocabulary": -(-(vocabulary + self.extra_tokens) // multiple) * multiple})

    def fields(self, vocabulary: int = 0) -> dict[str, Any]:
        """The fields of ``config``."""
        return self.config(vocabulary).model_dump()


def _model(
    name: str, layers: int, width: int, heads: int, mlp_width: int, vocabulary: int, context: int, **choices: Any
) -> ModelConfig:
    sizes: dict[str, Any] = {"layers": layers, "width": width, "heads": heads, "mlp_width": mlp_width}
    return ModelConfig(preset=name, vocabulary=vocabulary, context=context, **sizes, **choices)


DEMO_VOCABULARY = 512


def _ladder(name: str, layers: int, width: int, heads: int, context: int, batch_sequences: int, **more: Any) -> Preset:
    """Heads are 64 wide where they can be, the MLP three times the width."""
    mlp_width = more.pop("mlp_width", 3 * width)
    return Preset(
        name, _model(name, layers, width, heads, mlp_width, DEMO_VOCABULARY, context, **more), batch_sequences
    )


def _semenov(
    name: str, layers: int, width: int, heads: int, batch_sequences: int, table: str, moe: MoEConfig | None = None
) -> Preset:
    """Tied head; MLP width int(8 width / 3) rounded up to a multiple of 256; GPT-2's 50257 tokens padded to 50304."""
    name, mlp_width = f"semenov/{name}", -(-(8 * width // 3) // 256) * 256
    model = _model(name, layers, width, heads, mlp_width, 50_304, 512, tied_head=True, moe=moe)
    return Preset(name, model, batch_sequences, vocabulary_multiple=64, source=f"arXiv 2509.01440, {table}")


def _wen(name: str, width: int, batch_sequences: int) -> Preset:
    """32 layers, heads 64 wide, MLP four times the width, untied head, Llama-3's 128256 tokens, own initialisation."""
    name = f"wen/{name}"
    model = _model(name, 32, width, width // 64, 4 * width, 128_256, 4096, initialisation="fan_in")
    return Preset(name, model, batch_sequences, source="arXiv 2509.02046, table of model sizes")


GPT2: dict[str, Any] = {"architecture": "gpt2", "tied_head": True}
BERT: dict[str, Any] = {"architecture": "bert", "tied_head": True, "initialisation": "flat", "norm_eps": 1e-12}
TRACK3: dict[str, Any] = {
    "architecture": "track3",
    "initialisation": "zero_outputs",
    "rope_base": 1024.0,
    "norm_eps": 2.0**-23,  # of float32, which torch's rms_norm takes by itself
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _ladder("27k", 2, 32, 1, context=128, batch_sequences=16),
        _ladder("106k", 2, 64, 1, context=128, batch_sequences=16),
        _ladder("213k", 4, 64, 1, context=128, batch_sequences=16),
        _ladder("852k", 4, 128, 2, context=256, batch_sequences=16),
        _ladder("6.8M", 8, 256, 4, context=256, batch_sequences=32),
        _ladder("27M", 8, 512, 8, context=512, batch_sequences=32),
        _ladder("moe/82k", 2, 32, 1, context=128, batch_sequences=16, moe=MoEConfig(experts=4)),
        _ladder("moe/328k", 2, 64, 1, context=128, batch_sequences=16, moe=MoEConfig(experts=4)),
        _ladder("gpt2/98k", 2, 64, 1, context=128, batch_sequences=16, mlp_width=256, **GPT2),
        replace(_ladder("bert/98k", 2, 64, 1, 128, 16, mlp_width=256, **BERT), extra_tokens=1),
        _semenov("30m", 8, 384, 6, 16, "Table 2"),
        _semenov("52m", 8, 512, 8, 16, "Table 2"),
        _semenov("80m", 6, 768, 6, 16, "Table 2"),
        _semenov("124m", 12, 768, 12, 256, "Table 1"),
        _semenov("150m", 16, 768, 12, 16, "Table 2"),
        _semenov("210m", 24, 768, 12, 256, "Table 1"),
        _semenov("360m", 24, 1024, 16, 16, "Table 2"),
        _semenov("583m", 11, 1920, 15, 3936, "Figure 16"),
        _semenov("720m", 12, 2048, 16, 1984, "Table 1"),
        _semenov("1026m", 24, 1792, 14, 16, "Table 2"),
        _semenov("moe", 12, 768, 12, 256, "section 4.5", MoEConfig(experts=8)),
        _wen("130m", 512, 128),
        _wen("300m", 768, 128),
        _wen("520m", 1024, 256),
        _wen("1.2b", 1536, 256),
        Preset(
            "gpt2/124m",
            _model("gpt2/124m", 12, 768, 12, 3072, 50_257, 1024, **GPT2),
            512,
            source="Radford et al. 2019, the smallest size as it was released",
        ),
        Preset(
            "bert/110m",
            _model("bert/110m", 12, 768, 12, 3072, 30_522, 512, **BERT),
            256,
            extra_tokens=1,
            source="arXiv 1810.04805, BERT base",
        ),
        Preset(
            "track3/124m",
            _model("track3/124m", 12, 768, 6, 3072, 50_304, 1024, **TRACK3),
            512,
            vocabulary_multiple=64,
            source="KellerJordan/modded-nanogpt, records/track_3_optimization (MIT), state of 2026-08-01",
        ),
    )
}


def preset(name: str) -> Preset:
    """Raises ValueError with the nearest names."""
    if name in PRESETS:
        return PRESETS[name]
    size = f"; plan and recommend take a size by --params {name}" if re.fullmatch(r"[0-9.]+[kKmMbB]", name) else ""
    raise ValueError(
        f"unknown preset {name!r}{did_you_mean(name, PRESETS)}; the presets are {', '.join(PRESETS)}{size}"
    )
