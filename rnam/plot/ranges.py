"""A number for each term, with the range that it may lie in."""

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

__all__ = ["ranges"]


def ranges(
    values: ArrayLike | Tensor,
    names: Sequence[str],
    *,
    low: ArrayLike | Tensor | None = None,
    high: ArrayLike | Tensor | None = None,
    marked: ArrayLike | Tensor | None = None,
    marked_label: str = "",
    at: float = 0.0,
    label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a point for each name, in the order given from the top, and a line over its range.

    Args:
        values: (names,), NaN where there is none.
        names: beside the points.
        low, high: (names,), the ends of the lines; none where they are NaN.
        marked: bool (names,): hollow and grey.
        marked_label: what that means.
        at: where a line crosses the axes.
        label: of the axis.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: arrays are not of one length.
    """
    found = floats("values", values)
    if found.shape != (len(names),):
        raise ValueError(f"values must have shape ({len(names)},), one for each name, got {found.shape}")
    hollow = np.zeros(len(found), np.bool_) if marked is None else np.asarray(marked, np.bool_)
    same_shape("marked", hollow, "values", found)
    ax = _style.axes(ax, (6.0, 1.0 + 0.3 * len(names)))
    ax.axvline(at, color=_style.EDGE, linewidth=1, zorder=0)
    places = np.arange(len(found))
    if low is not None and high is not None:
        ends = floats("low", low), floats("high", high)
        for own, name in zip(ends, ("low", "high"), strict=True):
            same_shape(name, own, "values", found)
        ax.hlines(places, *ends, color=_style.BLUE, linewidth=1.4, zorder=1)
    for chosen, color, face, told in (
        (~hollow, _style.BLUE, _style.BLUE, "_values"),
        (hollow, _style.GREY, "white", marked_label),
    ):
        if chosen.any():
            ax.plot(
                found[chosen],
                places[chosen],
                "o",
                color=color,
                markerfacecolor=face,
                markersize=6,
                label=told,
                zorder=2,
            )
    if hollow.any() and marked_label:
        ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    ax.set_yticks(places, names)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    return ax
