"""Observed against predicted means, of numbers or of rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam.explain._arrays import floats, same_shape
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["agreement"]


def agreement(
    predicted: ArrayLike | Tensor,
    observed: ArrayLike | Tensor,
    *,
    group_predicted: ArrayLike | Tensor = (),
    group_observed: ArrayLike | Tensor = (),
    groups: Sequence[str] = (),
    label: str = "all",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw observed means against predicted ones: a line over bins of all, and a ring for each group.

    Args:
        predicted, observed: (bins,)
        group_predicted, group_observed: (groups,)
        groups: their names, which stand beside the rings.
        label: of the line.
        unit: of both axes.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: arrays are not of one length.
    """
    x, y = floats("predicted", predicted), floats("observed", observed)
    same_shape("observed", y, "predicted", x)
    at, to = floats("group_predicted", group_predicted), floats("group_observed", group_observed)
    same_shape("group_observed", to, "group_predicted", at)
    ax = _style.axes(ax, (5.0, 5.0))
    ends = [float(np.min([*x, *y, *at, *to])), float(np.max([*x, *y, *at, *to]))]
    ax.plot(ends, ends, color=_style.GREY, linewidth=1, linestyle=":", label="right")
    ax.plot(x, y, color=_style.BLUE, marker="o", markersize=5, linewidth=1.6, label=label)
    if len(at):
        ax.plot(at, to, "D", color=_style.ORANGE, markerfacecolor="white", markersize=6, label="groups", zorder=3)
        for name, a, b in zip(groups, at, to, strict=True):
            ax.annotate(name, (a, b), xytext=(6, -3), textcoords="offset points", fontsize="small", color=_style.ORANGE)
    ax.set_xlabel(_style.labelled("predicted, mean of the bin", unit))
    ax.set_ylabel(_style.labelled("observed", unit))
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax
