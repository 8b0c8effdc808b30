"""How contributions and residuals move over blocks of time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import _checks, plot
from rnam.explain._arrays import Floats
from rnam.explanation.calibrations import by_group
from rnam.explanation.labelled import labelled, predicts_labels, targets
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source
from rnam.explanation.words import when
from rnam.panel.columns import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Drift", "drift"]


@dataclass(frozen=True, eq=False)
class Drift(Result):
    """The means of contributions and residuals in blocks of time, weighted.

    Args:
        block: (blocks,), the first and the last time of each, in words.
        n: (blocks,), predictions.
        term: (terms,)
        scale: what is contributed to.
        contribution: (blocks, terms), the mean over predictions and members.
        low, high: (blocks, terms), minus and plus one standard deviation over members; NaN for one model.
        residual: (blocks,), observed - predicted, the mean; NaN without labels, and of quantiles and survival.
        error: (blocks,), the standard error of that mean, as if residuals were independent, which those of neighbouring
            visits seldom are; NaN without labels.
        n_labels: (blocks,)
    """

    block: tuple[str, ...]
    n: NDArray[np.int64]
    term: tuple[str, ...]
    scale: str
    contribution: Floats
    low: Floats
    high: Floats
    residual: Floats
    error: Floats
    n_labels: NDArray[np.int64]

    def frame(self) -> Any:
        """A row for each block: residuals, and the mean contribution of each term."""
        columns = {"block": self.block, "n": self.n, "residual": self.residual, "error": self.error}
        terms = {f"contribution of {name}": self.contribution[:, n] for n, name in enumerate(self.term)}
        return pandas.DataFrame({**columns, "n_labels": self.n_labels, **terms})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The mean contribution of each term in each block, and on top the mean residual."""
        rows, names = self.contribution.T, list(self.term)
        if np.isfinite(self.residual).any():
            rows, names = np.concatenate([rows, self.residual[None]]), [*names, "(residual)"]
        return plot.surface(self.block, names, rows, label=f"mean, in {self.scale}", x_label="block", ax=ax)


def drift(source: Source, blocks: Any) -> Drift:
    """`Explanation.drift`."""
    if _checks.is_whole_number(blocks):
        _, codes, names = by_group(source, source.panel.schema.clock.name, _checks.positive_int("blocks", blocks))
        assert codes is not None
    else:
        codes, names = _between(source, blocks)
    parts, weight = source.contributions, source.weight
    found = np.full((len(parts), len(names), parts.shape[2]), np.nan)
    residual, error = np.full(len(names), np.nan), np.full(len(names), np.nan)
    count = np.zeros(len(names), np.int64)
    known = labelled(source) if predicts_labels(source) and targets(source) is not None else None
    for n in range(len(names)):
        inside = (codes == n) & (weight > 0)
        if inside.any():
            found[:, n] = np.average(parts[:, inside], axis=1, weights=weight[inside])
        if known is None:
            continue
        own = codes[known.rows] == n
        count[n] = own.sum()
        if count[n]:
            away, share = (known.truth - known.predicted)[own], known.weight[own] / known.weight[own].sum()
            residual[n] = share @ away
            if count[n] > 1:
                error[n] = np.sqrt((share**2) @ (away - residual[n]) ** 2 * count[n] / (count[n] - 1))
    mean, low, high = band(found)
    held = np.bincount(codes, minlength=len(names))
    return Drift(
        tuple(names), held, source.reader.names, source.reader.scale_name, mean, low, high, residual, error, count
    )


def _between(source: Source, limits: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Blocks between limits, of which a time that is one is in the block before it."""
    clock, panel = source.panel.schema.clock, source.panel
    if isinstance(limits, str) or not np.iterable(limits):
        raise TypeError(f"blocks must be an int or a list of limits, got {limits!r}")
    given = list(limits)
    stamps = [clock.limit(f"blocks[{n}]", value) for n, value in enumerate(given)]
    at = clock.numbers(np.array(stamps)) if stamps else np.zeros(0)
    if not len(at) or not (np.diff(at) > 0).all():
        raise ValueError(f"blocks must be limits that rise, got {[plain(value) for value in given]}")
    codes = np.searchsorted(at, panel.times[source.rows(panel)], side="left")
    told = [when(value) for value in given]
    names = [f"to {told[0]}", *(f"{a} to {b}" for a, b in pairwise(told)), f"after {told[-1]}"]
    return np.asarray(codes, np.int64), names
