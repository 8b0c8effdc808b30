"""The smallest change of one column at the last visit that moves a prediction to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from rnam import _checks, plot
from rnam.estimators.encoding import Feature, Inputs
from rnam.explain._arrays import Floats
from rnam.explanation.axes import Axis, column_of
from rnam.explanation.results import Result
from rnam.explanation.sources import Source
from rnam.explanation.words import called
from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.plot._style import labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Counterfactual", "counterfactual"]

POINTS, ROUNDS = 64, 5  # of a column at once, and how often the interval is cut into so many


@dataclass(frozen=True, eq=False)
class Counterfactual(Result):
    """The value that one column would need at the last visit for the prediction to be a target; all else as it was.

    It says what the model would say, and no more: a column that is changed in the world may change others, and need not
    cause the outcome.

    Args:
        id, id_name, target: of the question.
        predicted: the prediction as it is.
        column, unit: the column with the smallest change.
        before, after: its value at the last visit, and what it would be; of a category the levels.
        distance: the change in the scale of the encoder; 1 for another level.
        reached: the prediction then.
        others: a pandas DataFrame with a row for each column that reaches the target inside of what occurred, the
            smallest change first.
        curve: for each of these columns its values (points,) and the prediction at each (points,).
    """

    id: Any
    id_name: Any
    target: float
    predicted: float
    column: str
    unit: str
    before: Any
    after: Any
    distance: float
    reached: float
    others: Any
    curve: dict[str, tuple[Any, Floats]]

    def frame(self) -> Any:
        """A row for each column that reaches the target."""
        return self.others.copy()

    def words(self) -> str:
        """The answer as a sentence."""
        before, after = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in (self.before, self.after))
        unit = f" {self.unit}" if self.unit else ""
        id = called(self.id_name, self.id)
        return (
            f"{id}: with {self.column} {after}{unit} instead of {before}{unit} at the last visit the prediction "
            f"would be {self.reached:.4g} instead of {self.predicted:.4g}."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The prediction at each value of the column that was found."""
        x, line = self.curve[self.column]
        levels = tuple(map(str, x)) if isinstance(self.before, str) else ()
        axes = plot.curve(
            np.arange(len(line)) if levels else x, line, levels=levels,
            label=labelled(self.column, self.unit), contribution_label="prediction", ax=ax,
        )  # fmt: skip
        axes.axhline(self.target, linestyle=":", color=plot.BLACK, linewidth=1.2)
        if not levels:
            axes.plot([self.before, self.after], [self.predicted, self.reached], "o", color=plot.ORANGE, zorder=4)
        return axes

    def __repr__(self) -> str:
        return f"Counterfactual {self.words()}"


class _Last:
    """One person, whose columns may be changed at the last visit."""

    def __init__(self, source: Source, own: Panel) -> None:
        inputs = source.reader.encoder.transform(own)
        if inputs.flat:  # the model reads each visit by itself
            last = inputs.values[-1:], inputs.mask[-1:]
            inputs = inputs._replace(values=last[0], mask=last[1], offsets=np.array([0, 1]))
        self.source, self.inputs = source, inputs

    def total(self, feature: Feature, encoded: Floats) -> Floats:
        """(points,), the prediction before the link where the column is encoded (points, width) so."""
        found = self.source.centred(self.source.reader.contributions(self.changed(feature, encoded), "id"))
        return np.asarray((found.sum(2) + self.source.intercept[:, None]).mean(0))

    def changed(self, feature: Feature, encoded: Floats) -> Inputs:
        """A sequence for each of the points."""
        inputs, points = self.inputs, len(encoded)
        steps = len(inputs.values)
        values = np.tile(inputs.values, (points, 1))
        values[np.arange(1, points + 1)[:, None] * steps - 1, list(feature.visit_columns)] = encoded
        mask = np.tile(inputs.mask, (points, 1))
        static, static_mask = np.tile(inputs.static, (points, 1)), np.tile(inputs.static_mask, (points, 1))
        times = None if inputs.times is None else np.tile(inputs.times, points)
        return Inputs(values, mask, times, static, static_mask, np.arange(points + 1) * steps, inputs.flat)


def counterfactual(source: Source, id: Any, target: float) -> Counterfactual:
    """`Explanation.counterfactual`."""
    reader = source.reader
    goal = reader.linked(_checks.finite_number("target", target))
    own = source.panel[[id]]
    last = _Last(source, own)
    now = float(source.centred(reader.contributions(last.inputs, "id")).sum(2).mean() + source.intercept.mean())
    found, curves = [], {}
    for feature in reader.encoder.features:
        if not feature.visit_columns or (feature.is_static and not source.inputs.flat):
            continue
        if feature.kind != "cyclic" and last.inputs.mask[-1, feature.visit_columns[0]]:
            answer = _levels(source, last, own, feature, now, goal) if feature.kind == "category" else _number(
                source, last, own, feature, goal
            )  # fmt: skip
            if answer is not None:
                row, curves[feature.name] = answer
                found.append(row)
    told = float(reader.told(np.array(now)))
    if not found:
        raise ValueError(
            f"target must be reached by a change of one column at the last visit inside of what occurred, got {target} "
            f"for {called(own.schema.id_name, id)}, whose prediction is {told:.4g}"
        )
    others = pandas.DataFrame(found, columns=["column", "unit", "before", "after", "distance", "reached"])
    others["reached"] = reader.told(others["reached"].to_numpy(np.float64))
    others = others.sort_values("distance", kind="stable").reset_index(drop=True)
    best = others.iloc[0]
    lines = {name: (x, reader.told(line)) for name, (x, line) in curves.items()}
    return Counterfactual(
        plain(id), own.schema.id_name, float(target), told, best["column"], best["unit"], best["before"], best["after"],
        float(best["distance"]), float(best["reached"]), others, lines,
    )  # fmt: skip


def _number(source: Source, last: _Last, own: Panel, feature: Feature, goal: float) -> Any:
    """The nearest value inside of what occurred at which the prediction is the goal; None where there is none."""
    before = float(column_of(own, feature)[-1])
    known = column_of(source.background, feature)
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    x = np.unique(np.concatenate([np.linspace(low, high, POINTS), [np.clip(before, low, high)]]))

    def encode(at: Floats) -> Floats:
        return feature.encode(at)[0].astype(np.float64)

    line = last.total(feature, encode(x))
    curve, crossings = (x, line), []
    for n in np.flatnonzero(np.sign(line[:-1] - goal) * np.sign(line[1:] - goal) <= 0):
        a, b = float(x[n]), float(x[n + 1])
        for _ in range(ROUNDS):
            inner = np.linspace(a, b, POINTS)
            away = last.total(feature, encode(inner)) - goal
            k = int(np.flatnonzero(np.sign(away[:-1]) * np.sign(away[1:]) <= 0)[:1].sum())
            a, b = float(inner[k]), float(inner[k + 1])
            if abs(away[k + 1] - away[k]) < 1e-9 * max(1.0, abs(goal)):
                break
        crossings.append((a + b) / 2)
    if not crossings:
        return None
    support = source.support(feature) if not source.inputs.flat else None
    for after in sorted(crossings, key=lambda at: abs(at - before)):
        changed = last.changed(feature, encode(np.array([after])))
        if support is None or not support.outside(changed, np.array([len(changed.values) - 1]))[0]:
            reached = float(last.total(feature, encode(np.array([after])))[0])
            distance = abs(after - before) / (feature.scale or 1.0)
            return (feature.name, feature.unit, before, after, distance, reached), curve
    return None


def _levels(source: Source, last: _Last, own: Panel, feature: Feature, now: float, goal: float) -> Any:
    """The level that occurred and takes the prediction to the other side of the goal, and nearest to it; or None."""
    axis = Axis.of(source, feature, POINTS)
    line = last.total(feature, axis.encoded)
    crossed = (np.sign(line - goal) != np.sign(now - goal)) & (axis.counts > 0)
    before = int(column_of(own, feature)[-1])
    crossed[before] = False
    if not crossed.any():
        return None
    places = np.flatnonzero(crossed)
    after = int(places[np.abs(line[places] - goal).argmin()])
    levels = feature.levels
    return (feature.name, "", str(levels[before]), str(levels[after]), 1.0, float(line[after])), (list(levels), line)
