"""Which terms matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam.explain._arrays import floats
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["importance"]


def importance(
    values: ArrayLike | Tensor,
    names: Sequence[str],
    *,
    sd: ArrayLike | Tensor | None = None,
    largest: int = 20,
    label: str = "importance: standard deviation of the contribution",
    ax: Axes | None = None,
) -> Axes:
    """Draw a bar per term, the largest at the top.

    Args:
        values: (terms,), one output's of `rnam.explain.importance`.
        names: (terms,)
        sd: (terms,) over members, drawn as lines of plus and minus one.
        largest: how many terms to show at most; how many are left out is said.
        label: of the axis, with the unit of the prediction.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: names, sd and values are not of one length.
    """
    sizes = floats("values", values)
    if sizes.shape != (len(names),):
        raise ValueError(f"values must have shape ({len(names)},), one for each name, got {sizes.shape}")
    spread = None if sd is None else floats("sd", sd)
    if spread is not None and spread.shape != sizes.shape:
        raise ValueError(f"sd must have shape {sizes.shape}, got {spread.shape}")
    order = np.argsort(-sizes, kind="stable")[:largest]
    ax = _style.axes(ax, (6.0, 1.0 + 0.28 * len(order)))
    error = None if spread is None else spread[order]
    ax.barh(range(len(order)), sizes[order], xerr=error, color=_style.BLUE, ecolor=_style.BLACK, height=0.7)
    ax.set_yticks(range(len(order)), [names[i] for i in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(left=0)
    ax.set_xlabel(label + ("" if spread is None else "\n(lines: ±1 sd over refits)"))
    if len(order) < len(sizes):
        ax.set_title(f"the {len(order)} largest of {len(sizes)} terms", fontsize="medium", loc="left")
    return ax
