"""The pictures of a run: speed-up per shape, share of copy bandwidth, time against T, error against T."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.protocol.row import Row
from benchmarks.reports.run import Run

# Who is drawn, and how: the same colour in every picture.
COLOURS = {
    "rnam": "#1f5fa8",
    "rnam-reference": "#8fb4dc",
    "rnam-log": "#3fa7a0",
    "published": "#c0504d",
    "published-compiled": "#e39b35",
    "associative-compiled": "#8a6bb1",
    "steps-compiled": "#7f7f7f",
    "baddbmm": "#c0504d",
    "einsum": "#e39b35",
    "conv1d": "#8a6bb1",
}


def draw(run: Run, folder: Path) -> list[Path]:
    """Writes the PNG files that the rows of a run allow, and says which."""
    made = []
    for name, picture in PICTURES.items():
        figure = picture(run)
        if figure is not None:
            made.append(folder / f"{name}.png")
            figure.savefig(made[-1], dpi=130, bbox_inches="tight", metadata={"Software": None})
    return made


def _axes(width: float, label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_ylabel(label)
    return figure, axes


def _bars(run: Run, value: Callable[[Row], float | None], label: str, one: float, *, ratios: bool) -> Any:
    """Bars with a line at `one`. Ratios start there on a logarithmic axis: twice as fast and twice as slow are as long;
    else they start at 0."""
    first = {row.op: row.dtype for row in reversed(run.rows)}  # of each kind of work its first type
    places: dict[str, int] = {}
    heights: dict[str, dict[int, float]] = {name: {} for name in COLOURS}
    for row in run.rows:
        height = value(row)
        shown = row.provider in COLOURS and row.pass_ in ("forward", "both") and row.dtype == first[row.op]
        if shown and height is not None:
            place = places.setdefault(f"{row.op} {row.shape}\n{row.dtype} {row.pass_}", len(places))
            heights[row.provider][place] = height
    heights = {name: of for name, of in heights.items() if of}
    if not heights:
        return None
    figure, axes = _axes(max(6.0, 0.45 * len(places) + 2), label)
    bottom, width = one if ratios else 0.0, 0.85 / len(heights)
    for i, (name, of) in enumerate(heights.items()):
        centres = [place + (i - (len(heights) - 1) / 2) * width for place in of]
        bars = [height - bottom for height in of.values()]
        axes.bar(centres, bars, width, bottom=bottom, color=COLOURS[name], label=name)
    axes.axhline(one, color="black", linewidth=0.7)
    if ratios:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(places)), places, rotation=60, ha="right", fontsize=7)
    axes.legend(fontsize=8, frameon=False, ncols=2)
    return figure


def _lines(run: Run, is_shown: Callable[[Row], bool], steps: Callable[[Run, Row], int], value: str, label: str) -> Any:
    lines: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in run.rows:
        if row.provider in COLOURS and is_shown(row) and getattr(row, value):
            lines.setdefault((row.op, row.provider, row.dtype), []).append((steps(run, row), getattr(row, value)))
    if not lines:
        return None
    figure, axes = _axes(6.5, label)
    for (op, provider, dtype), points in lines.items():
        style, name = "--o" if op == "log_scan" else "-o", f"{op} {provider} {dtype}"
        axes.loglog(*zip(*sorted(points), strict=True), style, color=COLOURS[provider], label=name)
    axes.set_xlabel("steps")
    axes.legend(fontsize=8, frameon=False)
    return figure


def _scan_steps(run: Run, row: Row) -> int:
    """As they were run, which may be fewer than the named shape has."""
    return int(run.shapes[f"{row.op}/{row.shape}/{row.dtype}"]["steps"])


def _named_steps(run: Run, row: Row) -> int:
    """Of `accuracy`, whose shapes are "T=1000 k~N(0,1)"."""
    return int(row.shape.split()[0].removeprefix("T="))


_is_scan = lambda row: row.op.endswith("scan") and row.pass_ == "forward"
_is_accuracy = lambda row: row.op == "accuracy" and row.shape.endswith("k~N(0,1)")
_percent = lambda row: None if row.copy_fraction is None else 100 * row.copy_fraction
_speedup = lambda row: row.speedup

PICTURES: dict[str, Callable[[Run], Any]] = {
    "speedup": lambda run: _bars(run, _speedup, "times the published eager form (baddbmm)", 1.0, ratios=True),
    "bandwidth": lambda run: _bars(run, _percent, "% of the run's copy bandwidth", 100.0, ratios=False),
    "time": lambda run: _lines(run, _is_scan, _scan_steps, "median_ms", "ms, forward"),
    "error": lambda run: _lines(run, _is_accuracy, _named_steps, "max_error", "largest relative error of h"),
}
