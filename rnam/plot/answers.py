"""How a term answers a change of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rnam.explain import Response

__all__ = ["response"]


def response(
    answer: Response,
    *,
    output: int = 0,
    time: str = "steps since the change",
    contribution: str = "change of the contribution",
    ax: Axes | None = None,
) -> Axes:
    """Draw the change of a term's contribution after a step or an impulse, a line per baseline.

    Rings mark steps whose input lies outside the 1 to 99 % range of the data. With members the line is their mean
    and the band one standard deviation about it.

    Args:
        answer: of `rnam.explain.response`.
        output: the number of the output.
        time: the label of the axis, with the unit of the spacing: "years since the change".
        contribution: the label of the other axis.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
    """
    values = answer.difference[..., output]
    ax = _style.axes(ax)
    ax.axhline(0, color=_style.EDGE, linewidth=1, zorder=0)
    ax.axvline(0, color=_style.EDGE, linewidth=1, zorder=0)
    unit = f" {answer.unit}" if answer.unit else ""
    for i, baseline in enumerate(answer.baseline):
        color, style = _style.SERIES[i % 5], _style.STYLES[i % 5]
        line = values[i] if values.ndim == 2 else values[:, i].mean(0)
        ax.plot(answer.time, line, color=color, linestyle=style, linewidth=1.8, label=f"from {baseline:.3g}{unit}")
        if values.ndim == 3:
            sd = values[:, i].std(0, ddof=1)
            ax.fill_between(answer.time, line - sd, line + sd, color=color, alpha=0.2, linewidth=0)
        outside = answer.outside[i] & (answer.time >= 0)
        ax.plot(answer.time[outside], line[outside], "o", color=color, markerfacecolor="white", markersize=6)
    if np.any(answer.outside[:, answer.time >= 0]):
        ax.plot([], [], "o", color=_style.BLACK, markerfacecolor="white", label="outside 1 to 99 % of the data")
    how = "from 0 on" if answer.kind == "step" else "at 0 alone"
    ax.set_title(f"{answer.term} {answer.size:+.3g}{unit}, {how}", fontsize="medium", loc="left")
    ax.set_xlabel(time)
    ax.set_ylabel(contribution)
    ax.legend(frameon=False, fontsize="small")
    return ax
