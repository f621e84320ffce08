"""ForeignModelSpec: anybody's model as a run's model, by the function that builds it or by a config of Transformers."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from fairstep.runs.frozen import Frozen, Positive

Count = Annotated[int, Field(ge=0)]


class ModelFacts(Frozen):
    """What was counted when the model was described. It follows from the code, and is no part of the identity."""

    parameters: Count = 0
    """All parameters. A tied one counts once."""
    parameters_matrix: Count = 0
    """Parameters with the roles matrix, expert and router."""
    flops_per_token: Count = 0
    """FLOPs of forward and backward pass for a token of a training sequence, counted operation by operation."""
    kept_per_token: Annotated[float, Field(ge=0)] = 0.0
    """Numbers that the backward pass needs of a token, logits apart."""


class ForeignModelSpec(Frozen):
    """Anybody's model: ``factory``, a function ``build(vocabulary, context)`` that returns a torch module, or
    ``config``, a causal language model of Hugging Face Transformers with new weights."""

    preset: str = ""
    """Name for tables and pages, with eight digits of a hash of what decides the model. Not part of the identity."""
    factory: str = ""
    """package.module:function, or file.py:function."""
    config: dict[str, Any] = Field(default_factory=dict)
    """config.json of Transformers. The run's vocabulary takes the place of its own."""
    code: str
    """Which code builds the model: a SHA-256 of the factory's file and of the files that it imports, or the version of
    Transformers."""
    vocabulary: Positive
    """Different tokens: the logits of a token."""
    context: Positive
    """Tokens of a sequence."""
    directory: str = ""
    """Folder from which the factory is imported. Not part of the identity."""
    facts: ModelFacts = ModelFacts()
    """What was counted. Not part of the identity."""

    @model_validator(mode="after")
    def _one(self) -> ForeignModelSpec:
        if bool(self.factory) == bool(self.config):
            raise ValueError("a foreign model has a factory or a config, and one of the two")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def elsewhere(self) -> set[str]:
        """Fields that are no part of a run's identity."""
        return {"preset", "directory", "facts"}

    @property
    def masked(self) -> bool:
        """Whether it is trained on masked tokens."""
        return False

    @property
    def token_work(self) -> float:
        """Of a token: about the parameters that multiply it."""
        return self.facts.flops_per_token / 6

    @property
    def source(self) -> str:
        """What is built, for messages."""
        return self.factory or self.preset.partition("@")[0]

    def semantic(self) -> str:
        """All that decides the model, as JSON."""
        return json.dumps(self.model_dump(mode="json", exclude=self.elsewhere), sort_keys=True)
