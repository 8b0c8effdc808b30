"""Which pairs of columns tell what their sum does not: a search on the residuals of a model without pairs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam.estimators.encoding import PAIR, ROLES, refuse_ambiguous
from rnam.panel import Panel

__all__ = ["check_names", "search"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

BINS = 8  # of a column of numbers
PASSES = 10  # of backfitting the two main effects of a pair


def check_names(panel: Panel) -> None:
    """Raises ValueError where the search could find a pair whose term is called as a column or another pair is."""
    names = [str(column.name) for role in ROLES for column in getattr(panel.schema, role)]
    if any(PAIR in name for name in names):  # else each name has one pair
        refuse_ambiguous(names, itertools.combinations(names, 2))


def search(
    panel: Panel, rows: NDArray[np.int64], residuals: Floats, weight: Floats, count: int
) -> list[tuple[Any, Any]]:
    """The pairs of columns whose cells explain most of the residuals beyond their two main effects.

    Each column is cut into quantiles, or levels, with one more bin for what is missing; at a visit it is what was last
    observed. Of each pair the weighted sum of squares of its cells, less that of its rows and columns, is what the pair
    explains, and less what as many cells explain by chance. This is the search of GA2M (Lou and others, KDD 2013) with
    quantile bins.

    Args:
        panel: its columns are paired.
        rows: the visits (labels,) that labels belong to.
        residuals: (labels, outputs).
        weight: (labels,).
        count: the most pairs; those that explain nothing are left out.

    Returns:
        pairs of names, the strongest first.
    """
    binned = {}
    for role in ROLES:
        for at, column in enumerate(getattr(panel.schema, role)):
            codes = _bins(_held(panel, role, at), column.levels is not None)[rows]
            if codes.max() > 0:
                binned[column.name] = codes
    weight = weight / weight.mean()
    residuals = residuals - np.average(residuals, axis=0, weights=weight)
    found = [
        (_explained(binned[a], binned[b], residuals, weight), (a, b)) for a, b in itertools.combinations(binned, 2)
    ]
    found.sort(key=lambda pair: -pair[0])
    return [pair for gain, pair in found[:count] if gain > 0]


def _held(panel: Panel, role: str, at: int) -> Array:
    """A column at each visit, of visits what was last observed; NaN, or -1 of a category, before."""
    owners = panel.owners
    if role in ("static", "static_categories"):
        return np.asarray((panel.static if role == "static" else panel.static_codes)[:, at][owners])
    column = (panel.values if role == "values" else panel.codes)[:, at]
    seen = ~np.isnan(column) if role == "values" else column >= 0
    latest = np.maximum.accumulate(np.where(seen, np.arange(len(column)), -1))
    there = latest >= panel.offsets[owners]
    return np.where(there, column[latest], np.nan if role == "values" else -1)


def _bins(column: Array, category: bool) -> NDArray[np.int64]:
    """The bin of each value; 0 is that of what is missing, where anything is."""
    if category:
        codes = column.astype(np.int64)
    else:
        gone = np.isnan(column)
        limits = np.unique(np.quantile(column[~gone], np.arange(1, BINS) / BINS)) if not gone.all() else np.empty(0)
        codes = np.where(gone, -1, np.searchsorted(limits, column, side="right"))
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def _explained(first: Array, second: Array, residuals: Floats, weight: Floats) -> float:
    """The sum of squares that the cells of two columns explain beyond their main effects, less what is chance. Only the
    cells that hold a label are made: of two columns with thousands of levels there are millions of others."""
    shape = int(first.max()) + 1, int(second.max()) + 1
    cell, cells = pandas.factorize(first * shape[1] + second)
    row, column = np.divmod(cells, shape[1])
    held = np.bincount(cell, weight)
    rows, columns = (
        np.bincount(at, held, count).clip(min=1e-12) for at, count in ((row, shape[0]), (column, shape[1]))
    )
    filled = int((held > 0).sum()) - shape[0] - shape[1] + 1
    gain = 0.0
    for output in residuals.T:
        total = np.bincount(cell, weight * output)
        mean = total / np.where(held > 0, held, 1)
        a, b = np.zeros(shape[0]), np.zeros(shape[1])
        for _ in range(PASSES):
            a = np.bincount(row, total - held * b[column], shape[0]) / rows
            b = np.bincount(column, total - held * a[row], shape[1]) / columns
        variance = float(weight @ output**2) / len(output)
        gain += float((held * (mean - a[row] - b[column]) ** 2).sum()) - max(filled, 0) * variance
    return gain
