"""A change of the prediction, over lags or over values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam.explain._arrays import floats, same_shape
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["lag_response"]


def lag_response(
    x: ArrayLike | Tensor,
    change: ArrayLike | Tensor,
    *,
    low: ArrayLike | Tensor | None = None,
    high: ArrayLike | Tensor | None = None,
    outside: ArrayLike | Tensor | None = None,
    title: str = "",
    label: str = "lag",
    name: str | None = None,
    change_label: str = "change of the prediction",
    ax: Axes | None = None,
) -> Axes:
    """Draw a change of the prediction as a line. Called again on the same axes, another line is added.

    Args:
        x: (points,), lags or values.
        change: (points,)
        low, high: (points,), the ends of a band; none where they are NaN.
        outside: bool (points,): marked by rings.
        title: of the axes.
        label: of the axis of x.
        name: of the line, for the legend.
        change_label: of the other axis.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: arrays are not of one length.
    """
    at, line = floats("x", x), floats("change", change)
    same_shape("change", line, "x", at)
    ax = _style.axes(ax)
    before = sum(own.get_gid() == "lag response" for own in ax.lines)
    color, style = _style.SERIES[before % 5], _style.STYLES[before % 5]
    if not before:
        ax.axhline(0, color=_style.EDGE, linewidth=1, zorder=0)
    marker = "o" if len(at) <= 15 else None
    ax.plot(
        at, line, color=color, linestyle=style, marker=marker, markersize=4, linewidth=1.8, gid="lag response",
        label=name or "_change",
    )  # fmt: skip
    if low is not None and high is not None and np.isfinite(floats("low", low)).all():
        band = "refit spread (±1 sd)" if not before else "_other band"
        ax.fill_between(at, floats("low", low), floats("high", high), color=color, alpha=0.2, linewidth=0, label=band)
    if outside is not None:
        beyond = np.asarray(outside, np.bool_)
        same_shape("outside", beyond, "x", at)
        if beyond.any():
            told = "outside of what occurred" if not any(
                own.get_gid() == "outside" for own in ax.lines
            ) else "_other rings"  # fmt: skip
            ax.plot(
                at[beyond], line[beyond], "o", color=color, markerfacecolor="white", markersize=6, linestyle="none",
                gid="outside", label=told,
            )  # fmt: skip
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    ax.set_xlabel(label)
    ax.set_ylabel(change_label)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small")
    return ax
