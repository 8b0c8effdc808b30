"""Matplotlib when it is needed, and one look for all pictures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

# of Okabe and Ito, told apart with every common colour blindness and, by their lightness, in grey
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, BLACK)
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # lines differ by more than colour
DIVERGING = "PuOr_r"  # violet lowers, orange raises
GREY, EDGE = "#555555", "#d0d0d0"  # text; the edge of tiles and lines, or those near 0 would vanish


def matplotlib(module: str) -> Any:
    """A module of matplotlib."""
    try:
        return import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError("rnam.plot needs matplotlib: pip install 'rnam[plot]'") from error


def axes(ax: Axes | None, size: tuple[float, float] = (6.0, 4.0)) -> Axes:
    """The axes given, or those of a new pyplot figure, without the frame's upper and right line."""
    if ax is None:
        _, ax = matplotlib("pyplot").subplots(figsize=size, layout="constrained")
    assert ax is not None
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def grid(count: int, columns: int = 2) -> list[Axes]:
    """So many axes in one new figure, row by row."""
    rows = -(-count // columns)
    size = 6.0 * columns, 4.0 * rows
    figure, axes = matplotlib("pyplot").subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for spare in axes.ravel()[count:]:
        figure.delaxes(spare)
    return list(axes.ravel()[:count])


def diverging(limit: float) -> ScalarMappable:
    """Colours of contributions from -limit to limit: violet lowers, orange raises, white is 0."""
    mappable: ScalarMappable = matplotlib("cm").ScalarMappable(matplotlib("colors").Normalize(-limit, limit), DIVERGING)
    return mappable


def ink(shade: NDArray[Any]) -> str:
    """Black or white, whichever is read better on the colour (r, g, b, ...)."""
    r, g, b = shade[:3]
    return "white" if 0.299 * r + 0.587 * g + 0.114 * b < 0.5 else "black"


def labelled(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
