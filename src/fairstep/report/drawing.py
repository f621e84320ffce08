"""What all figures share: one look for each contestant, a figure of traces, ticks, and the way into JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairstep.analysis import count_text
from fairstep.report.markup import label

PALETTE = ("#1f78c8", "#d9791a", "#1a9c78", "#c25f9f", "#4aa8dc", "#cf4a22", "#9a8f12", "#8167cf")
"""Hues of Okabe and Ito (Color Universal Design, 2008), set to a lightness that reads on white and on near-black."""

BASELINE_COLOUR = "#878d96"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "star", "hexagon")
FINE = BASELINE_COLOUR
"""Of lines that are no contestant's: grey enough for both themes."""


@dataclass(frozen=True)
class Look:
    """Colour and marker of each contestant, the same in every figure."""

    colour: Mapping[str, str]
    symbol: Mapping[str, str]

    @classmethod
    def of(cls, names: Sequence[str], baseline: str) -> Look:
        """The baseline is grey. Every name has a marker too, so that colour is never the only difference."""
        others = [name for name in names if name != baseline]
        hues = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(others)}
        symbols = {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(names)}
        return cls({baseline: BASELINE_COLOUR} | hues, symbols)


class Drawing:
    """A figure whose traces have the looks of their names. Its ``figure`` is Plotly's."""

    def __init__(self, look: Look, height: int) -> None:
        import plotly.graph_objects as go

        axis = {"automargin": True, "zeroline": False}
        # With its layout from the start: a figure without one first gets Plotly's own template, which takes longer.
        layout = {
            "template": go.layout.Template(),
            "height": height,
            "showlegend": False,
            "margin": {"l": 60, "r": 24, "t": 28, "b": 52},
            "hovermode": "closest",
            "xaxis": axis,
            "yaxis": axis,
        }
        self.look, self.figure, self._panels = look, go.Figure(layout=layout), dict[str, None]()

    def add(
        self,
        name: str,
        x: Sequence[float],
        y: Sequence[float],
        *,
        width: float = 0,
        size: float | Sequence[float] = 0,
        hover: str = "",
        panel: str = "",
        line: Mapping[str, Any] | None = None,
        marker: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A line of a ``width``, markers of a ``size``, or both, in pixels. ``hover``: Plotly's template of what a
        pointer reads. Of ``panel``s one is shown at a time, the first at the start. ``line``, ``marker`` and ``more``
        are properties of Plotly's that differ from the name's look."""
        import plotly.graph_objects as go

        colour, trace = {"color": self.look.colour[name]}, {"x": x, "y": y, **more}
        trace.setdefault("mode", "+".join(kind for kind, drawn in (("lines", width), ("markers", size)) if drawn))
        if width:
            trace["line"] = {**colour, "width": width, **(line or {})}
        if size:
            trace["marker"] = {**colour, "symbol": self.look.symbol[name], "size": size, **(marker or {})}
        if panel:
            self._panels[panel] = None
            trace |= {"legendgroup": panel, "visible": panel == next(iter(self._panels))}
        trace |= {"hovertemplate": hover if "<extra>" in hover else f"{hover}<extra></extra>"} if hover else SILENT
        if isinstance(trace.get("text"), str):  # a hover finds only texts that belong to a point
            trace["text"] = [trace["text"]] * len(x)
        self.figure.add_trace(go.Scatter(name=label(name), meta=name, **trace))

    def words(self, words: str, **place: Any) -> None:
        """A note in the figure."""
        self.figure.add_annotation(text=words, showarrow=False, font={"size": 12}, **place)

    def mark(self, *, x: float | None = None, y: float | None = None, dash: str = "dot") -> None:
        """A fine line across the figure."""
        style = {"color": FINE, "width": 1.5, "dash": dash}
        self.figure.add_vline(x=x, line=style) if x is not None else self.figure.add_hline(y=y, line=style)

    def rows(self, texts: Sequence[str]) -> None:
        """The y axis is a list, read from the top."""
        self.figure.update_yaxes(
            range=[len(texts) - 0.4, -0.6], showgrid=False, tickvals=list(range(len(texts))), ticktext=texts
        )

    def json(self, legend: bool = True) -> dict[str, Any]:
        """Plain JSON. ``layout.meta`` is what the page's legend offers: the names that have a trace here. ``groups``:
        the panels, among which the page offers a choice."""
        value: dict[str, Any] = json.loads(self.figure.to_json())
        value["layout"].pop("template", None)
        shown = {trace["meta"] for trace in value["data"]}
        entries = [{"name": name, "colour": colour} for name, colour in self.look.colour.items() if name in shown]
        value["layout"]["meta"] = entries if legend else []
        return value | ({"groups": list(self._panels)} if self._panels else {})


SILENT = {"hoverinfo": "skip"}


def bars(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], thickness: float, width: float
) -> dict[str, Any]:
    """Bars of error from the lows to the highs."""
    above = [high - value for high, value in zip(highs, values, strict=True)]
    below = [value - low for value, low in zip(values, lows, strict=True)]
    return {"type": "data", "array": above, "arrayminus": below, "thickness": thickness, "width": width}


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


def ratio_axis(drawing: Drawing, reach: float, title: str | None = None) -> None:
    """A log axis of ratios around 1 along x, up to ``reach``."""
    span = math.log10(max(reach, 1.1)) * 1.12
    drawing.figure.update_xaxes(type="log", range=[-span, span], title=title, **ratio_ticks(reach))
