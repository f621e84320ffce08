"""What a name means as a model: a preset of ours, LAYERSxWIDTH, or anybody's model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fairstep.model.config import ModelConfig, config_of
from fairstep.model.foreign.sources import described, is_foreign
from fairstep.model.presets import AnyPreset, preset
from fairstep.model.sized import SIZES, by_layers
from fairstep.runs import AnyModelSpec, ForeignModelSpec


@dataclass(frozen=True)
class ForeignPreset(AnyPreset):
    """Anybody's model and a batch for it."""

    model: ForeignModelSpec

    def config(self, vocabulary: int = 0) -> ForeignModelSpec:
        """Counted anew for another vocabulary."""
        if vocabulary in (0, self.model.vocabulary):
            return self.model
        return _with_facts(self.model.model_copy(update={"vocabulary": vocabulary}))


def named(name: str, context: int = 0) -> AnyPreset:
    """The model of a name (docs/howto/my-model.md). ``context``: tokens of a sequence; 0: the model's own.

    A foreign model is built on the meta device and counted, which loads torch. Raises ValueError with one sentence.
    """
    if is_foreign(name):
        model = _with_facts(described(name, context))
        return ForeignPreset(model.preset, model, source=model.code)
    size = by_layers(name) if SIZES.fullmatch(name) else preset(name)
    if not context or context == size.context:
        return size
    batch_sequences = max(1, round(size.batch_sequences * size.context / context))
    return replace(size, model=config_of({**size.fields(), "context": context}), batch_sequences=batch_sequences)


def changed(model: AnyModelSpec, options: dict[str, object]) -> AnyModelSpec:
    """A model of ours with other choices. Raises ValueError for a foreign one, whose choices are its code's."""
    if not options:
        return model
    if isinstance(model, ModelConfig):
        return config_of({**model.model_dump(), **options})
    first = next(iter(options))
    raise ValueError(f"{first} is a choice of fairstep's own models; make it in the code or config of {model.source}")


def _with_facts(model: ForeignModelSpec) -> ForeignModelSpec:
    from fairstep.model.foreign.counting import counted  # loads torch

    return model.model_copy(update={"facts": counted(model).facts})
