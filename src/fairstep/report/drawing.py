"""What all figures share: one look for each contestant, an empty figure, traces, ticks, and the way into JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fairstep.analysis import count_text
from fairstep.report.markup import colours, label, symbols

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from fairstep.runs import Ledger


FINE = "#878d96"
"""Of lines that are no contestant's: grey enough for both themes."""


@dataclass(frozen=True)
class Look:
    """Colour and marker of each contestant, the same in every figure."""

    colour: Mapping[str, str]
    symbol: Mapping[str, str]

    @classmethod
    def of(cls, ledger: Ledger) -> Look:
        return cls(colours(ledger.contestants, ledger.baseline), symbols(ledger.contestants))


def new_figure(height: int) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        showlegend=False,
        margin={"l": 60, "r": 24, "t": 28, "b": 52},
        hovermode="closest",
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure


def add_line(figure: go.Figure, name: str, **trace: Any) -> None:
    import plotly.graph_objects as go

    if isinstance(trace.get("text"), str):  # a hover finds only texts that belong to a point
        trace["text"] = [trace["text"]] * len(trace["x"])
    figure.add_trace(go.Scatter(name=label(name), meta=name, **trace))


def add_words(figure: go.Figure, words: str, **place: Any) -> None:
    figure.add_annotation(text=words, showarrow=False, font={"size": 12}, **place)


def figure_json(figure: go.Figure, look: Look, *, legend: bool = True, groups: Sequence[str] = ()) -> dict[str, Any]:
    """Plain JSON; ``layout.meta`` is what the page's legend offers: the contestants that have a trace here.

    ``groups``: of traces (their ``legendgroup``) only one is shown at a time, the first at the start; the page offers
    a choice.
    """
    value: dict[str, Any] = json.loads(figure.to_json())
    value["layout"].pop("template", None)
    shown = {trace["meta"] for trace in value["data"]}
    entries = [{"name": name, "colour": colour} for name, colour in look.colour.items() if name in shown]
    value["layout"]["meta"] = entries if legend else []
    return value | ({"groups": list(groups)} if groups else {})


def ratio_ticks(reach: float) -> dict[str, Any]:
    """Round ratios on both sides of 1, few enough for a phone."""
    steps = (1.1, 1.2) if reach < 1.35 else (1.5, 2.0) if reach < 2.6 else (2.0, 4.0, 8.0, 16.0)
    above = [step for step in steps if step <= reach * 1.1]
    ticks = [1 / step for step in reversed(above)] + [1.0, *above]
    return {"tickvals": ticks, "ticktext": [f"{tick:.2g}x" for tick in ticks], "tickangle": 0}


def token_ticks(last: float) -> dict[str, Any]:
    """1, 2 and 5 times every power of ten up to the last token."""
    powers = range(int(math.log10(last)) + 1)
    ticks = [digit * 10**power for power in powers for digit in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [count_text(tick) for tick in ticks]}


def ratio_axis(figure: go.Figure, reach: float, title: str | None = None) -> None:
    """A log axis of ratios around 1 along x, up to ``reach``."""
    span = math.log10(max(reach, 1.1)) * 1.12
    figure.update_xaxes(type="log", range=[-span, span], title=title, **ratio_ticks(reach))
