"""The pictures of a run: speed-up per shape, share of copy bandwidth, time against T, error against T."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.reports.run import Row, Run

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
    import matplotlib

    matplotlib.use("Agg")
    made = []
    for name, picture in _PICTURES.items():
        figure = picture(run)
        if figure is not None:
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
            made.append(path)
    return made


def _axes(width: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def _bars(value: Callable[[Row], float | None], label: str, one: float, *, ratios: bool = True) -> Callable[[Run], Any]:
    """Bars with a line at `one`. Ratios start there on a logarithmic axis: twice as fast and twice as slow are as long;
    else they start at 0."""
    bottom = one if ratios else 0.0

    def picture(run: Run) -> Any:
        first = {r.op: r.dtype for r in reversed(run.rows)}  # of each kind of work its first type
        shown = [r for r in run.rows if r.provider in COLOURS and r.pass_ in ("forward", "both")]
        drawn = [r for r in shown if value(r) is not None and r.dtype == first[r.op]]
        groups = list(dict.fromkeys((r.op, r.shape, r.dtype, r.pass_) for r in drawn))
        if not groups:
            return None
        names = [name for name in COLOURS if any(r.provider == name for r in drawn)]
        figure, axes = _axes(max(6.0, 0.45 * len(groups) + 2))
        width = 0.85 / len(names)
        for i, name in enumerate(names):
            of = {(r.op, r.shape, r.dtype, r.pass_): value(r) for r in drawn if r.provider == name}
            places = [g for g, group in enumerate(groups) if group in of]
            axes.bar(
                [g + (i - (len(names) - 1) / 2) * width for g in places],
                [of[groups[g]] - bottom for g in places],
                width,
                bottom=bottom,
                color=COLOURS[name],
                label=name,
            )
        axes.axhline(one, color="black", linewidth=0.7)
        if ratios:
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        labels = [f"{op} {shape}\n{dtype} {pass_}" for op, shape, dtype, pass_ in groups]
        axes.set_xticks(range(len(groups)), labels, rotation=60, ha="right", fontsize=7)
        axes.set_ylabel(label)
        axes.legend(fontsize=8, frameon=False, ncols=2)
        return figure

    return picture


def _against_steps(
    select: Callable[[Row], bool], steps: Callable[[Row, Run], int], value: Callable[[Row], float | None], label: str
) -> Callable[[Run], Any]:
    def picture(run: Run) -> Any:
        drawn = [r for r in run.rows if r.provider in COLOURS and select(r) and value(r)]
        if not drawn:
            return None
        figure, axes = _axes(6.5)
        for op, dtype, provider in dict.fromkeys((r.op, r.dtype, r.provider) for r in drawn):
            of = [r for r in drawn if (r.op, r.dtype, r.provider) == (op, dtype, provider)]
            points = sorted((steps(r, run), value(r)) for r in of)
            style = "-" if op in ("linear_scan", "accuracy") else "--"
            text = f"{op} {provider} {dtype}"
            axes.plot(*zip(*points, strict=True), style, marker="o", color=COLOURS[provider], label=text)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("steps")
        axes.set_ylabel(label)
        axes.legend(fontsize=8, frameon=False)
        return figure

    return picture


def _scan_steps(row: Row, run: Run) -> int:
    """Those that were run, which may be fewer than the named shape has."""
    return int(run.shapes[f"{row.op}/{row.shape}/{row.dtype}"]["steps"])


def _accuracy_steps(row: Row, run: Run) -> int:
    """The length in a shape's name as `accuracy` writes it, "T=1000 k~N(0,1)"."""
    return int(row.shape.split()[0].removeprefix("T="))


_PICTURES: dict[str, Callable[[Run], Any]] = {
    "speedup": _bars(lambda r: r.speedup, "times the published eager form (baddbmm)", 1.0),
    "bandwidth": _bars(
        lambda r: None if r.copy_fraction is None else 100 * r.copy_fraction,
        "% of copy bandwidth",
        100.0,
        ratios=False,
    ),
    "time": _against_steps(
        lambda r: r.op.endswith("scan") and r.pass_ == "forward", _scan_steps, lambda r: r.median_ms, "ms, forward"
    ),
    "error": _against_steps(
        lambda r: r.op == "accuracy" and r.shape.endswith("k~N(0,1)"),
        _accuracy_steps,
        lambda r: r.max_error,
        "largest relative error of h",
    ),
}


def names() -> Iterable[str]:
    return _PICTURES
