"""Numbers over two columns, or over values and lags, as a map of colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rnam.explain._arrays import Floats, floats
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["surface"]

TICKS = 10  # the most names of an axis
LETTERS = 56  # for which there is room side by side


def surface(
    x: NDArray[Any] | Sequence[Any],
    y: NDArray[Any] | Sequence[Any],
    values: ArrayLike | Tensor,
    *,
    outside: ArrayLike | Tensor | None = None,
    x_label: str = "",
    y_label: str = "",
    label: str = "contribution",
    title: str = "",
    outside_label: str = "outside of what occurred",
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a tile for each pair of places, coloured by its number: violet lowers, orange raises, white is 0.

    Tiles are of one size, whatever the distance of the places, which stand beside them.

    Args:
        x: (columns,), numbers that rise, or words.
        y: (rows,), from the bottom to the top.
        values: (rows, columns); NaN is left grey.
        outside: bool (rows, columns): marked by dots.
        x_label, y_label: of the axes.
        label: of the colours.
        title: of the axes.
        outside_label: what the dots mean.
        limit: the number of the darkest colours; the largest that is there by default.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: shapes do not fit.
    """
    found = floats("values", values)
    if found.shape != (len(y), len(x)):
        raise ValueError(f"values must have shape (rows, columns) = {(len(y), len(x))}, got {found.shape}")
    ax = _style.axes(ax, (6.4, 4.4))
    most = limit if limit is not None else float(np.nanmax(np.abs(found), initial=1e-12))
    colors = _style.diverging(most)
    shade = colors.to_rgba(found)
    shade[np.isnan(found)] = (0.85, 0.85, 0.85, 1.0)
    ax.imshow(shade, origin="lower", aspect="auto", interpolation="nearest")
    for axis, places in ((ax.xaxis, x), (ax.yaxis, y)):
        names = _names(places)
        every = range(0, len(names), -(-len(names) // TICKS))
        axis.set_ticks(every, [names[n] for n in every])
        axis.set_tick_params(length=0)
        if axis is ax.xaxis and max(len(names[n]) for n in every) * len(every) > LETTERS:
            axis.set_tick_params(rotation=90)
    if outside is not None:
        row, column = np.nonzero(np.asarray(outside, np.bool_))
        ax.plot(column, row, ".", color=_style.GREY, markersize=4, label=outside_label)
        if len(row):
            ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    ax.figure.colorbar(colors, ax=ax, label=label, shrink=0.9)
    return ax


def _names(places: NDArray[Any] | Sequence[Any]) -> list[str]:
    array = np.asarray(places)
    if array.dtype.kind not in "fiu":
        return [str(name) for name in array]
    numbers: Floats = array.astype(np.float64)
    return [f"{number:.3g}" for number in numbers]
