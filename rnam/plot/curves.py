"""The contribution of a term at each value of its column, or at each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rnam.explain._arrays import Floats, floats, same_shape
from rnam.plot import _style
from rnam.plot.shapes import DENSITY, MARKED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["curve"]

BINS = 40  # of the density


def curve(
    x: ArrayLike | Tensor,
    contribution: ArrayLike | Tensor,
    *,
    levels: Sequence[str] = (),
    low: ArrayLike | Tensor | None = None,
    high: ArrayLike | Tensor | None = None,
    n: ArrayLike | Tensor | None = None,
    outside: ArrayLike | Tensor | None = None,
    after: Mapping[str, ArrayLike | Tensor] | None = None,
    missing: float | None = None,
    name: str = "contribution",
    label: str = "",
    contribution_label: str = "contribution",
    ax: Axes | None = None,
) -> Axes:
    """Draw a term as a line over the values of its column, or as a bar for each level, with the density of the data.

    The line is drawn where the value occurred, and thin and grey outside.

    Args:
        x: (points,), rising; of levels anything.
        contribution: (points,)
        levels: (points,) names, which make bars.
        low, high: (points,), the ends of a band; none where they are NaN.
        n: (points,), how many data each stands for.
        outside: bool (points,): where the model says what it hardly saw.
        after: further lines by name (points,): the effect of the last value after some history.
        missing: a dotted line at what a missing value contributes.
        name: of the line.
        label, contribution_label: of the axes.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: arrays are not of one length.
    """
    at, line = floats("x", x), floats("contribution", contribution)
    same_shape("contribution", line, "x", at)
    counts = None if n is None else np.asarray(n, np.int64)
    others = {told: floats("after", own) for told, own in (after or {}).items()}
    for own in others.values():
        same_shape("after", own, "x", at)
    ax = _style.axes(ax)
    ax.axhline(0, color=_style.EDGE, linewidth=1, zorder=0)
    band = None if low is None or high is None else (floats("low", low), floats("high", high))
    band = None if band is None or not np.isfinite(band[0]).all() else band
    if levels:
        _bars(ax, line, levels, band, counts, others)
    else:
        beyond = np.zeros(len(at), np.bool_) if outside is None else np.asarray(outside, np.bool_)
        same_shape("outside", beyond, "x", at)
        _lines(ax, at, line, beyond, band, name, others)
        if counts is not None:
            _density(ax, at, counts)
    if missing is not None:
        ax.axhline(missing, color=_style.BLACK, linestyle=":", linewidth=1.4, label="missing", zorder=2)
    ax.set_xlabel(label)
    ax.set_ylabel(contribution_label)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _lines(
    ax: Axes, x: Floats, y: Floats, beyond: NDArray[np.bool_], band: tuple[Floats, Floats] | None, name: str,
    others: Mapping[str, Floats],
) -> None:  # fmt: skip
    marker = "o" if len(x) <= MARKED else None
    if beyond.any():
        told = f"{name}, outside of what occurred"
        ax.plot(x, y, color=_style.GREY, linewidth=1, linestyle=(0, (2, 2)), label=told, zorder=2)
    inside = np.where(beyond, np.nan, y)
    if not beyond.all():
        ax.plot(x, inside, color=_style.BLUE, linewidth=2, marker=marker, markersize=5, label=name, zorder=3)
    if band is not None:
        told = "refit spread (±1 sd)"
        ax.fill_between(x, *band, color=_style.BLUE, alpha=0.2, linewidth=0, label=told, zorder=1)
    colors = (_style.ORANGE, _style.GREEN, _style.PURPLE, _style.BLACK)
    for n, (told, own) in enumerate(others.items()):
        ax.plot(x, own, color=colors[n % 4], linestyle=_style.STYLES[1 + n % 4], linewidth=1.4, label=told, zorder=3)


def _density(ax: Axes, x: Floats, n: NDArray[np.int64]) -> None:
    """How many data lie where, in bars of one width below the lines. Those that are nearest to a point lie evenly
    between the middles to its neighbours."""
    if len(x) < 2:
        return
    edges = np.linspace(x[0], x[-1], BINS + 1)
    ends = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    heights = np.diff(np.interp(edges, ends, np.concatenate([[0], np.cumsum(n)])))
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom - (top - bottom) * DENSITY / (1 - DENSITY), top)
    ax.bar(
        edges[:-1], heights / max(heights.max(), 1) * DENSITY * 0.9, np.diff(edges), align="edge", color=_style.GREY,
        alpha=0.45, linewidth=0, transform=ax.get_xaxis_transform(), zorder=0,
    )  # fmt: skip


def _bars(
    ax: Axes, y: Floats, levels: Sequence[str], band: tuple[Floats, Floats] | None, n: Any, others: Mapping[str, Floats]
) -> None:
    places = np.arange(len(y))
    error = None if band is None else (band[1] - band[0]) / 2
    ax.bar(places, y, yerr=error, color=_style.BLUE, ecolor=_style.BLACK, width=0.7)
    for k, (told, own) in enumerate(others.items()):
        ax.plot(places, own, "osD^"[k % 4], color=_style.SERIES[1 + k % 4], markersize=5, label=told)
    names = levels if n is None else [f"{level}\n{count:,}" for level, count in zip(levels, n, strict=True)]
    long = max(map(len, levels)) > 10 or len(levels) > 8
    ax.set_xticks(places, names, rotation=90 if long else 0)
    ax.tick_params(axis="x", length=0)
