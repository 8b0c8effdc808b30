"""Calibration: are predictions right on the whole, and in each group of people, of time or of blocks?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import _checks, explain, plot
from rnam.explain._arrays import Floats, as_array
from rnam.explanation.axes import column_of
from rnam.explanation.labelled import Labelled, labelled
from rnam.explanation.results import Result
from rnam.explanation.sources import Source
from rnam.explanation.words import when
from rnam.panel.columns import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Calibration", "by_group", "calibration"]

BINS = 10


@dataclass(frozen=True, eq=False)
class Calibration(Result):
    """Predictions beside labels, in all and in each group, weighted.

    Of numbers: observed = intercept + slope * predicted by least squares, bias = predicted - observed, and error is the
    root of the mean squared error. Of a class: predicted is a mean probability and observed a rate; intercept and slope
    are those of `rnam.explain.recalibrate`, of log-odds; bias is as above, and error the Brier score. A slope below 1
    says that predictions are too far apart.

    Args:
        by: what the groups are of.
        group: (groups,), their names, the first "all".
        n: (groups,), labels.
        predicted, observed, bias, intercept, slope, error: (groups,). Intercept and slope are NaN where no line can be
            fitted: where predictions are all alike, or outcomes are, or do not overlap.
        bin_predicted, bin_observed, bin_n: (bins,), of all: the means in bins of the prediction of equal weight.
        output: what is predicted.
        classes: whether it is a class.
    """

    by: str
    group: tuple[str, ...]
    n: NDArray[np.int64]
    predicted: Floats
    observed: Floats
    bias: Floats
    intercept: Floats
    slope: Floats
    error: Floats
    bin_predicted: Floats
    bin_observed: Floats
    bin_n: NDArray[np.int64]
    output: str
    classes: bool

    def frame(self) -> Any:
        """A row for each group."""
        names = "group", "n", "predicted", "observed", "bias", "intercept", "slope", "error"
        return pandas.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Axes | None = None) -> Axes:
        label = f"all: slope {self.slope[0]:.2f}, bias {self.bias[0]:+.2g}"
        return plot.agreement(
            self.bin_predicted, self.bin_observed, group_predicted=self.predicted[1:], group_observed=self.observed[1:],
            groups=self.group[1:], label=label, unit=f"probability of {self.output}" if self.classes else self.output,
            ax=ax,
        )  # fmt: skip


def calibration(source: Source, by: Any, groups: int) -> Calibration:
    """`Explanation.calibration`."""
    found = labelled(source)
    name, codes, names = by_group(source, by, _checks.positive_int("groups", groups))
    own = np.zeros(0, np.int64) if codes is None else codes[found.rows]
    chosen = [np.ones(len(found.rows), np.bool_)]
    there = [n for n in range(len(names)) if (own == n).any()]
    chosen += [own == n for n in there]
    predicted, observed, bias, intercept, slope, error = np.array([_measures(found, mask) for mask in chosen]).T
    edges = np.quantile(found.predicted, np.arange(1, BINS) / BINS, weights=found.weight, method="inverted_cdf")
    place = np.unique(np.searchsorted(edges, found.predicted), return_inverse=True)[1]
    total = np.bincount(place, found.weight)
    means = [np.bincount(place, found.weight * part) / total for part in (found.predicted, found.truth)]
    return Calibration(
        by=name, group=("all", *(names[n] for n in there)), n=np.array([mask.sum() for mask in chosen], np.int64),
        predicted=predicted, observed=observed, bias=bias, intercept=intercept, slope=slope, error=error,
        bin_predicted=means[0], bin_observed=means[1], bin_n=np.bincount(place), output=source.reader.output,
        classes=found.classes,
    )  # fmt: skip


def _measures(found: Labelled, mask: Any) -> tuple[float, ...]:
    x, y, w = found.predicted[mask], found.truth[mask], found.weight[mask]
    predicted, observed = float(np.average(x, weights=w)), float(np.average(y, weights=w))
    squared = float(np.average((x - y) ** 2, weights=w))
    intercept = slope = np.nan
    if found.classes:
        inside = np.clip(x, 1e-12, 1 - 1e-12)
        try:
            line = explain.recalibrate(np.log(inside) - np.log1p(-inside), y, w)
            intercept, slope = line.intercept, line.slope
        except (ValueError, RuntimeError):  # one outcome alone, or no overlap: there is no line
            pass
        return predicted, observed, predicted - observed, intercept, slope, squared
    away = x - predicted
    spread = float(np.average(away**2, weights=w))
    if spread > 0:
        slope = float(np.average(away * (y - observed), weights=w)) / spread
        intercept = observed - slope * predicted
    return predicted, observed, predicted - observed, intercept, slope, float(np.sqrt(squared))


def by_group(source: Source, by: Any, groups: int) -> tuple[str, NDArray[np.int64] | None, list[str]]:
    """The kind of the groups, the group (rows,) of each prediction, -1 for none, and their names.

    Args:
        by: None; the name of a column, of which levels are groups, or quantiles; "time" for so many blocks of time; or
            a group for each prediction.

    Raises:
        ValueError: there is no such column; groups are not one for each prediction.
    """
    panel, rows = source.panel, source.rows(source.panel)
    if by is None:
        return "", None, []
    if not isinstance(by, str) and np.ndim(by):
        array = as_array(by)
        if array.shape != (len(rows),):
            raise ValueError(f"by must have shape ({len(rows)},), one for each prediction, got {array.shape}")
        codes, names = pandas.factorize(array, sort=True)
        return "group", np.asarray(codes, np.int64), [str(plain(name)) for name in names]
    known = {feature.name for feature in source.reader.encoder.features}
    if str(by) not in known and by in ("time", panel.schema.clock.name):
        times = panel.times[rows]
        codes = _quantile_codes(times, groups)
        stamps = panel.stamps.iloc[rows].reset_index(drop=True)
        names = []
        for n in range(int(codes.max()) + 1):
            own = stamps[codes == n]
            names.append(f"{when(own.min())} to {when(own.max())}")
        return str(panel.schema.clock.name), codes, names
    if str(by) not in known:
        raise ValueError(f"by must be 'time' or one of {', '.join(sorted(known))}, got {by!r}")
    feature = source.reader.feature(by)
    column = column_of(panel, feature)
    shown = column[panel.owners[rows]] if feature.is_static else column[rows]
    if feature.kind == "category":
        codes = np.where(shown < 0, len(feature.levels), shown).astype(np.int64)
        return feature.name, codes, [*map(str, feature.levels), "missing"]
    there = ~np.isnan(shown)
    codes = np.full(len(shown), -1, np.int64)
    codes[there] = _quantile_codes(shown[there], groups)
    names = [
        f"{feature.name} {shown[codes == n].min():.4g} to {shown[codes == n].max():.4g} {feature.unit}".strip()
        for n in range(int(codes.max(initial=-1)) + 1)
    ]
    codes[~there] = len(names)
    return feature.name, codes, [*names, "missing"]


def _quantile_codes(values: Floats, groups: int) -> NDArray[np.int64]:
    edges = np.quantile(values, np.arange(1, groups) / groups, method="inverted_cdf") if groups > 1 else np.zeros(0)
    return np.asarray(np.unique(np.searchsorted(edges, values), return_inverse=True)[1], np.int64)
