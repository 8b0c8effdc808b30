"""One person over time: a row per feature, coloured by what it contributes at each visit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam.explain._arrays import Floats, floats, same_shape
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["timeline"]

TILE = 0.45  # inches, the width of a tile where visits are far enough apart
SMALLEST, LARGEST = 6.5, 9.5  # points, of the numbers
POINTS = 28  # four digits are 1/28 inch wide for each point


def timeline(
    time: ArrayLike | Tensor,
    contributions: ArrayLike | Tensor,
    values: ArrayLike | Tensor,
    names: Sequence[str],
    units: Sequence[str] | None = None,
    *,
    end: float | None = None,
    limit: float | None = None,
    tile: float | None = None,
    order: Sequence[int] | None = None,
    unobserved: bool = False,
    number: Callable[[int, float], str] | None = None,
    label: str = "contribution",
    time_label: str = "time",
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the features of one person over time.

    A tile holds the value where one was measured, coloured by the term's contribution there (violet lowers, orange
    raises); in between, a line carries the contribution on. A row begins at the first measured value, or with
    `unobserved` at the first visit. Tiles are of one width unless two visits lie so close that their numbers have no
    room; then each is as wide as its neighbours allow, and a number without room stands upright.

    Args:
        time: (visits,), rising.
        contributions: (terms, visits), centred, of one output: a person's of `rnam.explain.contributions` over time.
        values: (terms, visits) in units, NaN where nothing was measured.
        names, units: (terms,)
        end: where the last lines end; the last visit by default.
        limit: the contribution of the darkest colours; the largest that is there by default.
        tile: the width of a tile at most, in the unit of time; 0.45 inches by default.
        order: the terms to draw, from the top; by default all, by how far their contribution moved.
        unobserved: draw the line from the first visit on, for models in which what was never measured contributes.
        number: what to write for (term, value); three digits by default.
        label: of the colour bar, with the unit of the prediction.
        time_label: of the time axis, with its unit.
        colorbar: draw one beside the axes.
        ax: axes to draw on; new ones by default. Set the limits of x on it before, or the tiles may be too small
            for their numbers.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: shapes do not fit; times do not rise.
    """
    times, parts, shown = floats("time", time), floats("contributions", contributions), floats("values", values)
    units = ("",) * len(names) if units is None else units
    if parts.shape != (len(names), len(times)) or times.ndim != 1 or len(times) == 0:
        raise ValueError(
            f"contributions must have shape (terms, visits) = {(len(names), len(times))}, got {parts.shape}"
        )
    same_shape("values", shown, "contributions", parts)
    if not (np.diff(times) > 0).all():
        raise ValueError(f"time must rise from visit to visit, got a step of {np.diff(times).min()}")
    if len(units) != len(names):
        raise ValueError(f"units must be {len(names)}, one for each name, got {len(units)}")
    if order is None:
        order = np.argsort(-np.ptp(parts, axis=1), kind="stable").tolist()
    last = float(times[-1] if end is None else max(end, times[-1]))
    ax_given = ax is not None
    height = max(3.2, 1.2 + 0.42 * len(order))  # the label of the colour bar takes 3 inches
    ax = _style.axes(ax, (9.0, height))
    if not ax_given:
        span = last - float(times[0]) or 1.0
        ax.set_xlim(float(times[0]) - 0.04 * span, last + 0.04 * span)
    color = _style.diverging(limit if limit is not None else max(float(np.abs(parts).max()), 1e-6))
    widths, inches = _widths(ax, times, tile)
    until = np.append(times[1:], last)
    for row, index in enumerate(order):
        shade = color.to_rgba(parts[index])
        measured = np.flatnonzero(np.isfinite(shown[index]))
        first = 0 if unobserved else int(measured[0]) if len(measured) else len(times)
        for visit in range(first, len(times)):
            stretch = [times[visit], until[visit]], [row, row]
            ax.plot(*stretch, color=_style.EDGE, linewidth=5, solid_capstyle="butt", zorder=1)
            ax.plot(*stretch, color=shade[visit], linewidth=4, solid_capstyle="butt", zorder=1)
        for visit in measured.tolist():
            ax.add_patch(
                _style.matplotlib("patches").Rectangle(
                    (times[visit] - widths[visit] / 2, row - 0.4), widths[visit], 0.8, facecolor=shade[visit],
                    edgecolor=_style.EDGE, linewidth=0.6, zorder=2,
                )
            )  # fmt: skip
            text = number(index, shown[index, visit]) if number else f"{shown[index, visit]:.3g}"
            room = widths[visit] * inches
            ax.text(
                times[visit], row, text, ha="center", va="center", color=_style.ink(shade[visit]), zorder=3,
                fontsize=min(LARGEST, max(SMALLEST, 24 * room)), rotation=90 if room * POINTS < SMALLEST else 0,
            )  # fmt: skip
    ax.set_ylim(len(order) - 0.4, -0.6)
    rows = [f"{names[i]}  ({units[i]})" if units[i] else names[i] for i in order]
    ax.set_yticks(range(len(order)), rows, fontsize=10.5)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=10.5)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(time_label, fontsize=12)
    if colorbar:
        bar = ax.figure.colorbar(color, ax=ax, pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return ax


def _widths(ax: Axes, times: Floats, tile: float | None) -> tuple[Floats, float]:
    """The width of each tile, in the unit of time, and the inches of such a unit."""
    inches = ax.get_window_extent().width / ax.figure.dpi / float(np.ptp(ax.get_xlim()))
    gaps = np.concatenate([[np.inf], np.diff(times), [np.inf]])
    widths = np.minimum(TILE / inches if tile is None else tile, 0.92 * np.minimum(gaps[:-1], gaps[1:]))
    even = float(widths.min())
    return (np.full(len(times), even) if even * inches * POINTS >= SMALLEST else widths), inches
