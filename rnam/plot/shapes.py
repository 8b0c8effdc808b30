"""A shape function: what a term contributes at each value of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rnam.plot import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rnam.explain import Table

__all__ = ["DENSITY", "MARKED", "shape"]

DENSITY = 0.14  # the height of the tallest bar of the density, as a share of the axes
MARKED = 15  # with so few values each is marked, since the line between them stands for nothing

Floats = NDArray[np.float64]


def shape(
    table: Table,
    term: str,
    *,
    ebm: Any = None,
    label: str = "RNAM",
    contribution: str = "contribution",
    ax: Axes | None = None,
) -> Axes:
    """Draw one term of a table: its contribution, the refit spread as a band, and at the bottom where the data are.

    What the term contributes where it is not observed is a dotted line.

    Args:
        table: of `rnam.explain.table`; a model with members gives the band.
        term: its name.
        ebm: an EBM of interpret to be compared with, fitted or as its `explain_global()`; its term of that name is
            taken. Or plain arrays (x, contribution). It is centred on the data values of the table, as the table is.
        label: what the model is called in the legend.
        contribution: what it is a contribution to, as the label of the axis: "contribution to the log-odds".
        ax: axes to draw on; new ones by default.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: the table or the EBM has no such term, or the EBM's is no function of one number.
    """
    rows = table.rows(term)
    there = np.isfinite(rows.x)
    x, y, n = rows.x[there], rows.contribution[there], rows.n[there]
    ax = _style.axes(ax)
    ax.axhline(0, color=_style.EDGE, linewidth=1, zorder=0)
    marker = "o" if len(x) <= MARKED else None
    ax.plot(x, y, color=_style.BLUE, linewidth=2, marker=marker, markersize=5, label=label, zorder=3)
    low, high = rows.low[there], rows.high[there]
    if np.isfinite(low).all():
        band = "refit spread (±1 sd)"
        ax.fill_between(x, low, high, color=_style.BLUE, alpha=0.25, linewidth=0, label=band, zorder=1)
    if ebm is not None:
        edges, scores = _steps(ebm, term, x)
        at = scores[np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(scores) - 1)]
        scores = scores - np.average(at, weights=n)
        heights = np.append(scores, scores[-1])
        ax.step(edges, heights, where="post", color=_style.ORANGE, linestyle="--", linewidth=1.6, label="EBM", zorder=2)
    for value, missing in zip(rows.contribution[~there], rows.n[~there], strict=True):
        text = f"not observed ({missing:,})"
        ax.axhline(value, color=_style.BLACK, linestyle=":", linewidth=1.4, label=text, zorder=2)
    _density(ax, x, n)
    ax.set_xlabel(_style.labelled(term, rows.unit[0]))
    ax.set_ylabel(contribution)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _density(ax: Axes, x: Floats, n: NDArray[np.int64]) -> None:
    """Bars as wide as the data that they stand for, their area in proportion to how many these are."""
    ends = np.array([x[0], *(x[1:] + x[:-1]) / 2, x[-1]]) if len(x) > 1 else np.array([x[0] - 0.5, x[0] + 0.5])
    if len(x) <= MARKED and len(x) > 1:  # single values
        width = np.full(len(x), 0.4 * np.diff(x).min())
        left, height = x - width / 2, n.astype(np.float64)
    else:
        width, left = np.diff(ends), ends[:-1]
        height = n / width
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom - (top - bottom) * DENSITY / (1 - DENSITY), top)
    ax.bar(
        left, height / height.max() * DENSITY * 0.9, width, align="edge", color=_style.GREY, alpha=0.45, linewidth=0,
        transform=ax.get_xaxis_transform(), zorder=0,
    )  # fmt: skip


def _steps(ebm: Any, term: str, x: Floats) -> tuple[Floats, Floats]:
    """The left ends of an EBM's bins and the end of the last, and its scores; plain arrays as bins about each x."""
    if isinstance(ebm, tuple):
        at, scores = (np.asarray(part, np.float64) for part in ebm)
        if at.ndim != 1 or at.shape != scores.shape or len(at) == 0:
            raise ValueError(f"ebm must be two arrays of one length, got shapes {at.shape} and {scores.shape}")
        order = np.argsort(at)
        at, scores = at[order], scores[order]
        return np.array([at[0], *(at[1:] + at[:-1]) / 2, at[-1]]), scores
    explanation = ebm.explain_global() if hasattr(ebm, "explain_global") else ebm
    known = list(explanation.data()["names"])
    if term not in known:
        raise ValueError(f"ebm must have the term {term!r}, got {', '.join(known)}")
    found = explanation.data(known.index(term))
    scores = np.asarray(found["scores"], np.float64)
    try:
        edges = np.asarray(found["names"], np.float64)
    except ValueError:
        edges = np.empty(0)
    if scores.ndim != 1 or len(edges) != len(scores) + 1:
        raise ValueError(f"ebm's term {term!r} must be a function of one number with bins, got {found['type']}")
    # it says the same beyond its ends
    return np.array([min(edges[0], x[0]), *edges[1:-1], max(edges[-1], x[-1])]), scores
