"""What a run counts from its first step on, whoever carries it out: a checkpoint stores it beside the weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairstep.runs.frozen import explain


class Facts(BaseModel):
    """What a checkpoint says of a run, with types. ``files``: bytes of metrics and timings, ``digests``: their SHA-256
    (none in a checkpoint of an earlier version)."""

    model_config = ConfigDict(strict=True)

    window: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    clipped: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    evaluation_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    files: dict[str, Annotated[int, Field(ge=0)]]
    digests: dict[str, str] | None = None


def checked(facts: Mapping[str, Any]) -> Facts:
    """Raises ValueError with one sentence for facts of another form."""
    try:
        return Facts.model_validate(dict(facts))
    except ValidationError as error:
        raise ValueError(explain(error)) from None


@dataclass
class Meters:
    """Counts and seconds of a run. Build it when the work begins.

    ``window``: (loss in nats per token, gradient norm) of each step since the last row of metrics.jsonl.
    ``clipped``: steps whose gradient was clipped. ``seconds``: work of earlier processes that the present state rests
    on. ``evaluation_seconds``: the part of all seconds that evaluated. ``began``: clock at which this process began.
    """

    window: list[tuple[float, float]] = field(default_factory=list)
    clipped: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        """Seconds of all the work that the present state rests on."""
        return self.seconds + time.perf_counter() - self.began

    def take_window(self, limit: float) -> dict[str, float]:
        """Means over the window, which is empty afterwards. ``limit``: norm to which gradients are clipped; 0: none."""
        losses, norms = zip(*self.window, strict=True)
        self.window = []
        clipped = sum(norm > limit for norm in norms) if limit else 0
        self.clipped += clipped
        return {
            "loss": statistics.fmean(losses),
            "gradient_norm": statistics.fmean(norms),
            "gradient_norm_max": max(norms),
            "clipped": clipped / len(norms),
        }

    def facts(self) -> dict[str, Any]:
        """What a checkpoint stores, as JSON values. The window is a copy: a thread may write it while it grows."""
        return {
            "window": list(self.window),
            "clipped": self.clipped,
            "seconds": self.elapsed(),
            "evaluation_seconds": self.evaluation_seconds,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint stored."""
        self.window = [(loss, norm) for loss, norm in facts["window"]]
        self.clipped, self.seconds = facts["clipped"], facts["seconds"]
        self.evaluation_seconds = facts["evaluation_seconds"]
