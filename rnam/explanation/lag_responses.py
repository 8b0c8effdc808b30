"""The effect of a change of one column on the predictions after it, from histories that occurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import _checks, explain, plot
from rnam.estimators.encoding import Feature, Inputs
from rnam.explain import _arrays
from rnam.explain._arrays import Bools, Floats
from rnam.explanation.histories import Histories, raw_values
from rnam.explanation.reading import Reader
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source
from rnam.plot._style import labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Cut", "ExposureLagResponse", "lag_response"]

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # the quantiles of the surface
EVEN = 5  # and so many values evenly apart, where most are the same
STEPS = 50_000  # visits of a batch


@dataclass(frozen=True, eq=False)
class Cut(Result):
    """One line of a lag-response: over the lags, or over the values of the column.

    Args:
        over: "lag" or the name of the column.
        unit: of x.
        x: (points,)
        change: (points,), of the prediction before the link, the mean over histories and members.
        low, high: (points,), minus and plus one standard deviation over members; NaN for one model.
        outside: (points,), the share of the histories that lie outside of what occurred, see `Support`.
        title, scale: what is shown.
    """

    over: str
    unit: str
    x: Floats
    change: Floats
    low: Floats
    high: Floats
    outside: Floats
    title: str
    scale: str

    def frame(self) -> Any:
        """A row for each point."""
        columns = {self.over: self.x, "change": self.change, "low": self.low, "high": self.high}
        return pandas.DataFrame({**columns, "outside": self.outside})

    def plot(self, ax: Axes | None = None) -> Axes:
        label = labelled(self.over, self.unit)
        return plot.lag_response(
            self.x, self.change, low=self.low, high=self.high, outside=self.outside > 0.5, title=self.title,
            label=label, change_label=f"change of {self.scale}", ax=ax,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExposureLagResponse(Result):
    """The change of the prediction before the link at lags 0 to L after a change of a column, all terms together.

    The visits after the change are as they occurred, with their times and the values of the other columns; with
    kind="step" the column is changed at them, too.

    Args:
        column, unit: the column, and its unit.
        kind, size: "impulse" or "step", and by how much the value is changed.
        scale: what the prediction is before the link.
        lag: int64 (lags + 1,), visits after the change.
        time: (lags + 1,), the mean time since the change, in units of the panel's times.
        term: the terms that read the column.
        by_term: (terms, lags + 1), the part of each in the change, the mean over histories and members.
        by_history: (members, histories, lags + 1), the change.
        outside: bool (histories, lags + 1), where the changed history lies outside of what occurred, see `Support`.
        history: a pandas MultiIndex of the id and the time at which each history is cut.
        value: (histories,), the column there, to which `size` is added; `reference` where that is given.
        values: (values,), those of the surface.
        reference: the value that those of the surface are compared with.
        surface_by_member: (members, values, lags + 1), the change from the reference to each value.
        surface_outside: (values, lags + 1), the share of the histories that lie outside.
    """

    column: str
    unit: str
    kind: str
    size: float
    scale: str
    lag: NDArray[np.int64]
    time: Floats
    term: tuple[str, ...]
    by_term: Floats
    by_history: Floats
    outside: Bools
    history: Any
    value: Floats
    values: Floats
    reference: float
    surface_by_member: Floats
    surface_outside: Floats

    @property
    def change(self) -> Floats:
        """(lags + 1,), the mean over histories and members."""
        return np.asarray(self.by_history.mean((0, 1)))

    @property
    def surface(self) -> Floats:
        """(values, lags + 1), the mean over members."""
        return np.asarray(self.surface_by_member.mean(0))

    @property
    def response(self) -> Cut:
        """The change by `size`, over the lags."""
        return self._over_lag(self.by_history.mean(1), self.outside.mean(0), self._changed)

    @property
    def cumulative(self) -> Cut:
        """The sum of the change by `size` over the lags so far."""
        reached = np.maximum.accumulate(self.outside, axis=1).mean(0)
        return self._over_lag(self.by_history.mean(1).cumsum(1), reached, f"{self._changed}, cumulative")

    @property
    def overall(self) -> Cut:
        """The sum over all lags of the change from the reference, over the values."""
        title = f"sum over lags 0 to {self.lag[-1]}, from {self._told(self.reference)}"
        return self._over_value(self.surface_by_member.sum(2), self.surface_outside.max(1), title)

    def at_value(self, value: float) -> Cut:
        """The change from the reference to the value of the surface nearest to this one, over the lags."""
        row = int(np.abs(self.values - _checks.finite_number("value", value)).argmin())
        title = f"{self.column}: {self._told(self.reference)} to {self._told(float(self.values[row]))}"
        return self._over_lag(self.surface_by_member[:, row], self.surface_outside[row], title)

    def at_lag(self, lag: int) -> Cut:
        """The change from the reference at one lag, over the values.

        Raises:
            ValueError: the lag is more than those of the answer.
        """
        at = _checks.whole_number("lag", lag)
        if at > self.lag[-1]:
            raise ValueError(f"lag must be at most {self.lag[-1]}, got {at}")
        title = f"at lag {at}, from {self._told(self.reference)}"
        return self._over_value(self.surface_by_member[:, :, at], self.surface_outside[:, at], title)

    def frame(self) -> Any:
        """A row for each lag: the change by `size` and its sum so far, with bands over members."""
        line, total = self.response, self.cumulative
        return pandas.DataFrame(
            {
                "lag": self.lag, "time": self.time, "change": line.change, "low": line.low, "high": line.high,
                "cumulative": total.change, "cumulative_low": total.low, "cumulative_high": total.high,
                "outside": line.outside,
            }
        )  # fmt: skip

    def surface_frame(self) -> Any:
        """A row for each value and lag: the change from the reference."""
        mean, low, high = band(self.surface_by_member)
        at, lag = (part.ravel() for part in np.meshgrid(self.values, self.lag, indexing="ij"))
        parts = {"change": mean, "low": low, "high": high, "outside": self.surface_outside}
        return pandas.DataFrame({self.column: at, "lag": lag} | {name: part.ravel() for name, part in parts.items()})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The change by `size` over the lags."""
        return self.response.plot(ax)

    def plot_surface(self, ax: Axes | None = None) -> Axes:
        """The change from the reference, values by lags; dots where most histories lie outside of what occurred."""
        return plot.surface(
            self.lag, self.values, self.surface, outside=self.surface_outside > 0.5, x_label="lag (visits)",
            y_label=labelled(self.column, self.unit), label=f"change of {self.scale}",
            title=f"from {self._told(self.reference)}", ax=ax,
        )  # fmt: skip

    def _told(self, value: float) -> str:
        return f"{value:.4g} {self.unit}".strip()

    @property
    def _changed(self) -> str:
        return f"{self.column} {self.size:+.4g} {self.unit}".strip() + (", from 0 on" if self.kind == "step" else "")

    def _over_lag(self, by_member: Floats, outside: Floats, title: str) -> Cut:
        told = "lag", "visits", self.lag.astype(np.float64)
        return Cut(*told, *band(by_member), outside.astype(np.float64), title, self.scale)

    def _over_value(self, by_member: Floats, outside: Floats, title: str) -> Cut:
        return Cut(self.column, self.unit, self.values, *band(by_member), outside, title, self.scale)


def lag_response(
    source: Source, column: Any, *, size: float | None, kind: str, lags: int, histories: Any, value: float | None,
    quantile: float | None, reference: float | None, values: Sequence[float] | None, before: int, sample: int,
    seed: int,
) -> ExposureLagResponse:  # fmt: skip
    """`Explanation.lag_response`."""
    reader = source.reader
    feature = reader.feature(column)
    if source.inputs.flat:
        raise ValueError("the model must be recurrent to have a response over lags, got one of single visits")
    lags = _checks.whole_number("lags", lags)
    _checks.one_of("kind", kind, ("impulse", "step"))
    if size is None:
        if feature.kind == "cyclic":
            raise ValueError(f"size must be given for the cyclic column {feature.name!r}, got None")
        size = feature.scale
    size = _checks.finite_number("size", size)
    if reference is not None:
        reference = _checks.finite_number("reference", reference)
    given = dict(histories=histories, value=value, quantile=quantile, before=before, sample=sample, seed=seed)
    cut = Histories.of(source.panel, source.inputs, feature, lags, **given)
    moved = cut.moved(kind)
    base = cut.raw if reference is None else np.where(moved, reference, cut.raw)
    support = source.support(feature)

    after = cut.with_column(feature, np.where(moved, base + size, cut.raw))
    by_term = _difference(reader, cut, cut.with_column(feature, base), after)
    outside = support.outside(after, cut.lagged.ravel()).reshape(cut.lagged.shape)
    terms = reader.readers(feature)

    grid = _grid(source, feature, values)
    middle = float(np.median(_known(source, feature))) if reference is None else reference
    level = cut.with_column(feature, np.where(moved, middle, cut.raw))
    surface, beyond = [], []
    for other in grid:
        changed = cut.with_column(feature, np.where(moved, other, cut.raw))
        surface.append(_difference(reader, cut, level, changed).sum(2).mean(1))
        beyond.append(support.outside(changed, cut.lagged.ravel()).reshape(cut.lagged.shape).mean(0))
    panel = source.panel
    owners = panel.owners[cut.visits]
    ids = [panel.ids.get_level_values(n)[owners] for n in range(panel.ids.nlevels)]
    index = pandas.MultiIndex.from_arrays(
        [*ids, panel.stamps.iloc[cut.visits]], names=[*panel.ids.names, panel.schema.clock.name]
    )
    times = panel.times[cut.visits[:, None] + np.arange(lags + 1)]
    shape = by_term.shape[0], len(grid), lags + 1
    return ExposureLagResponse(
        column=feature.name, unit=feature.unit, kind=kind, size=size, scale=reader.scale_name,
        lag=np.arange(lags + 1), time=(times - times[:, :1]).mean(0), term=tuple(reader.names[n] for n in terms),
        by_term=by_term[:, :, terms].mean((0, 1)), by_history=by_term.sum(2), outside=outside, history=index,
        value=base[cut.cut], values=grid, reference=middle,
        surface_by_member=np.stack(surface, 1) if surface else np.zeros(shape),
        surface_outside=np.stack(beyond) if beyond else np.zeros(shape[1:]),
    )  # fmt: skip


def _difference(reader: Reader, cut: Histories, before: Inputs, after: Inputs) -> Floats:
    """(members, histories, terms, lags + 1)"""
    size = max(1, STEPS // int(cut.inputs.lengths.max()))
    found = []
    for start in range(0, len(cut), size):
        positions = np.arange(start, min(start + size, len(cut)))
        given, changed = (each.batch(positions, reader.device) for each in (before, after))
        answer = explain.lag_response(
            reader.model, given.pop("input"), changed["input"], at=cut.steps[positions], lags=cut.lags,
            names=reader.names, **given,
        )  # fmt: skip
        by_term = answer.by_term if answer.by_term.ndim == 5 else answer.by_term[None]
        found.append(reader.change(by_term))
    return np.concatenate(found, axis=1)


def _known(source: Source, feature: Feature) -> Floats:
    """The values of the column at the visits of the background."""
    raw = raw_values(source.background, feature)
    return raw[~np.isnan(raw)]


def _grid(source: Source, feature: Feature, values: Sequence[float] | None) -> Floats:
    if values is not None:
        grid = _arrays.finite("values", values)
        if grid.ndim != 1:
            raise ValueError(f"values must be a list of numbers, got shape {grid.shape}")
        return np.unique(grid)
    known = _known(source, feature)
    distinct = np.unique(known)
    if len(distinct) <= len(SHARES):
        return distinct
    quantiles = np.quantile(known, SHARES)
    return np.unique(np.concatenate([quantiles, np.linspace(quantiles[0], quantiles[-1], EVEN)]))
