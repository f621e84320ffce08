"""A page's tables and figures as files: CSV, Markdown and LaTeX; SVG and PNG (by matplotlib, no browser needed)."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairstep.report.section import Page
from fairstep.report.table import printable
from fairstep.runs import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "triangle-down": "v", "star": "*"}
MARKERS |= {"circle": "o", "hexagon": "h", "x": "x", "line-ns": "|", "triangle-left": "<", "triangle-right": ">"}
LONGEST = 80
"""Letters of a line of a label."""
MISSING = "pictures of figures need matplotlib: pip install 'fairstep[figures]' (tables were written)"


def export(page: Page, folder: Path) -> list[Path]:
    """Write ``tables/NAME.csv, .md, .tex``, ``figures/NAME.svg, .png`` and ``result.json``; return the paths.

    Raises ValueError when matplotlib is missing (after the tables were written), OSError when a file cannot be written.
    """
    written = [folder / "result.json"]
    write_atomic(written[0], json.dumps(page.result, indent=1))
    for table in page.tables:
        for ending, made in (("csv", table.csv), ("md", table.markdown), ("tex", table.latex)):
            written.append(folder / "tables" / f"{_file(table.name)}.{ending}")
            write_atomic(written[-1], made())
    return written + list(pictures(page.figures, folder / "figures"))


def pictures(figures: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Every figure as SVG and PNG; of a figure with a choice, one picture for each. Raises ValueError, OSError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(MISSING) from None
    folder.mkdir(parents=True, exist_ok=True)
    for key, drawn in figures.items():
        for group in drawn.get("groups") or [""]:
            traces = [trace for trace in drawn["data"] if not group or trace.get("legendgroup", group) == group]
            if not traces:
                continue
            figure = Figure(figsize=(9, drawn["layout"].get("height", 440) / 90), layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure, traces, drawn["layout"], group)
            for ending in ("svg", "png"):
                path = folder / f"{_file(f'{key}-{group}' if group else key)}.{ending}"
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in letters of elsewhere
                    figure.savefig(path, dpi=144, metadata={"Date": None} if ending == "svg" else None)
                yield path


def draw(figure: Any, traces: list[dict[str, Any]], layout: Mapping[str, Any], title: str) -> None:
    """Traces of lines, markers and bars of error on one pair of axes, or two where there is a second y axis."""
    second = any(trace.get("yaxis") == "y2" for trace in traces)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[5, 2]) if second else [figure.subplots()]
    for trace in traces:
        _trace(axes[1 if trace.get("yaxis") == "y2" else 0], trace)
    for place, one in enumerate(axes):
        _axis(one, "x", layout.get("xaxis", {}), title_too=place == len(axes) - 1)
        _axis(one, "y", layout.get("yaxis2" if place else "yaxis", {}))
        one.grid(color="#eceef1", linewidth=0.8)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    for shape in layout.get("shapes", ()):
        across = shape.get("yref", "").endswith("domain")
        (axes[0].axvline if across else axes[0].axhline)(shape["x0" if across else "y0"], color="#878d96", ls=":", lw=1)
    shown = [one.get_legend_handles_labels() for one in axes]
    # Of several traces of one name the last is the boldest.
    handles = {name: handle for pairs in shown for handle, name in zip(*pairs, strict=True)}
    if len(handles) > 1 and layout.get("meta"):
        axes[0].legend(handles.values(), handles.keys(), fontsize="small", frameon=False)
    if title:
        axes[0].set_title(_plain(title), loc="left", fontsize="medium")


def _trace(axes: Axes, trace: Mapping[str, Any]) -> None:
    mode = trace.get("mode", "lines")
    line, marker = trace.get("line", {}), trace.get("marker", {})
    colour = line.get("color") or marker.get("color") or "#878d96"
    x, y = list(trace.get("x") or ()), list(trace.get("y") or ())
    look: dict[str, Any] = {"color": colour, "alpha": trace.get("opacity", 1.0), "label": _plain(trace["name"])}
    if "lines" in mode:
        style = {"dot": ":", "dash": "--"}.get(line.get("dash", ""), "-")
        axes.plot(x, y, style, linewidth=line.get("width", 1.5) * 0.75, **look)
    if "markers" in mode:
        symbols = marker.get("symbol", "circle")
        sizes = marker.get("size", 7)
        for place, (at, value) in enumerate(zip(x, y, strict=True)):
            symbol = symbols[place] if isinstance(symbols, list) else symbols
            size = (sizes[place] if isinstance(sizes, list) else sizes) * 0.6
            hollow = {"markerfacecolor": "none"} if symbol.endswith("-open") else {}
            shape = MARKERS.get(symbol.removesuffix("-open"), "o")
            axes.plot([at], [value], linestyle="", marker=shape, markersize=size, **look | hollow)
    if "text" in mode:
        for at, value, words in zip(x, y, trace.get("text", ()), strict=False):
            axes.annotate(_plain(words), (at, value), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    for axis in ("x", "y"):
        if bars := trace.get(f"error_{axis}"):
            high = bars.get("array", [])
            errors: dict[str, Any] = {f"{axis}err": [bars.get("arrayminus", high), high]}
            axes.errorbar(x, y, fmt="none", ecolor=colour, elinewidth=1, capsize=2, **errors)


def _axis(axes: Axes, name: str, layout: Mapping[str, Any], title_too: bool = True) -> None:
    scale, limits = getattr(axes, f"set_{name}scale"), getattr(axes, f"set_{name}lim")
    ticks, label = getattr(axes, f"set_{name}ticks"), getattr(axes, f"set_{name}label")
    log = layout.get("type") == "log"
    if log:
        scale("log")
    if layout.get("tickvals") is not None:
        ticks(layout["tickvals"], [_plain(words) for words in layout.get("ticktext", layout["tickvals"])])
        ticks([], minor=True)
    if layout.get("showticklabels") is False:
        ticks([])
    if bounds := layout.get("range"):
        limits([10**end for end in bounds] if log else bounds)
    if title_too and (words := layout.get("title", {}).get("text")):
        label(_plain(words))


def _plain(words: object) -> str:
    """A Plotly label as text that matplotlib does not read as mathematics."""
    import html

    text = re.sub(r"<br ?/?>", "\n", str(words))
    text = html.unescape(re.sub(r"</?[bi]>", "", text))
    lines = [
        printable(line) if len(line) <= LONGEST else f"{printable(line[:LONGEST])}..." for line in text.split("\n")
    ]
    return "\n".join(lines).replace("$", r"\$")


def _file(name: str) -> str:
    """A file name; one that had to be changed ends in a hash, so that no two names become one."""
    plain = re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "unnamed"
    short = plain.encode()[:100].decode(errors="ignore")
    changed = re.sub(r"[ ,;:]+", "_", name) != short
    return f"{short}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:6]}" if changed else short
