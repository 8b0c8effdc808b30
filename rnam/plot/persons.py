"""One person: the prediction and the terms that make it, over the visits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from rnam.explain._arrays import Floats, floats
from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["person"]

LINES = 4  # the terms with a line of their own
BARS = 12


def person(
    time: ArrayLike | Tensor,
    contributions: ArrayLike | Tensor,
    total: ArrayLike | Tensor,
    names: Sequence[str],
    *,
    label: str = "prediction",
    time_label: str = "time",
    title: str = "",
    dates: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the prediction of one person over time as a black line, and below it what terms add to it.

    The terms that moved most, or else contribute most, have a line each, and the sum of the others has one. A band is
    one standard deviation over members about their mean. Of a single visit each term is a bar.

    Args:
        time: (visits,), rising.
        contributions: (members, visits, terms), centred.
        total: (members, visits), the prediction before the link.
        names: (terms,)
        label: what the prediction is, with its unit.
        time_label: of the axis.
        title: of the axes.
        dates: time is in days since the start of 1970, and is written as dates.
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: shapes do not fit.
    """
    at, parts, whole = floats("time", time), floats("contributions", contributions), floats("total", total)
    if parts.ndim != 3 or parts.shape[1:] != (len(at), len(names)) or whole.shape != parts.shape[:2]:
        raise ValueError(
            f"contributions must have shape (members, visits, terms) = (any, {len(at)}, {len(names)}) and total the "
            f"first two of these, got {parts.shape} and {whole.shape}"
        )
    if len(at) == 1:
        return _bars(parts[:, 0], whole[:, 0], names, label, title, ax)
    ax = _style.axes(ax, (8.0, 4.6))
    ax.axhline(0, color=_style.EDGE, linewidth=1, zorder=0)
    moved = np.ptp(parts.mean(0), axis=0) + 1e-3 * np.abs(parts.mean(0)).max(0)
    order = np.argsort(-moved, kind="stable")
    shown, rest = order[:LINES], order[LINES:]
    _line(ax, at, whole, _style.BLACK, "-", label, 2.4)
    for n, index in enumerate(shown):
        _line(ax, at, parts[:, :, index], _style.SERIES[n % 4], _style.STYLES[(n + 1) % 5], names[index], 1.6)
    if len(rest):
        told = f"sum of {len(rest)} others" if len(rest) > 1 else names[rest[0]]
        _line(ax, at, parts[:, :, rest].sum(2), _style.GREY, ":", told, 1.2)
    if dates:
        locator = _style.matplotlib("dates").AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(_style.matplotlib("dates").ConciseDateFormatter(locator))
    ax.set_xlabel(time_label)
    ax.set_ylabel("prediction and contributions")
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def _line(ax: Axes, at: Floats, members: Floats, color: str, style: object, name: str, width: float) -> None:
    mean = members.mean(0)
    marker = "o" if len(at) <= 30 else None
    ax.plot(at, mean, color=color, linestyle=style, linewidth=width, marker=marker, markersize=3.5, label=name)
    if len(members) > 1:
        sd = members.std(0, ddof=1)
        ax.fill_between(at, mean - sd, mean + sd, color=color, alpha=0.15, linewidth=0)


def _bars(parts: Floats, total: Floats, names: Sequence[str], label: str, title: str, ax: Axes | None) -> Axes:
    mean = parts.mean(0)
    order = np.argsort(-np.abs(mean), kind="stable")[:BARS]
    ax = _style.axes(ax, (6.0, 1.2 + 0.3 * len(order)))
    error = parts.std(0, ddof=1)[order] if len(parts) > 1 else None
    colors = [_style.ORANGE if mean[n] > 0 else _style.BLUE for n in order]
    ax.barh(range(len(order)), mean[order], xerr=error, color=colors, ecolor=_style.BLACK, height=0.7)
    ax.axvline(0, color=_style.GREY, linewidth=1)
    ax.set_yticks(range(len(order)), [names[n] for n in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"contribution to {label}")
    told = f"{title}: {label} {total.mean():.3g}" if title else f"{label} {total.mean():.3g}"
    ax.set_title(told, fontsize="medium", loc="left")
    return ax
