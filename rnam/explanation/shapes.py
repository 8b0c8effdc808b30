"""The contribution of each term at each value of its column: exact without memory, and settled with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import explain, plot
from rnam.estimators.encoding import Feature, Term
from rnam.explain import Band
from rnam.explain._arrays import Bools, Floats
from rnam.explanation.axes import Axis, held
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source
from rnam.explanation.typical import Typical
from rnam.plot._style import labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PairShape", "Shape", "Shapes"]

POINTS = 48  # of a curve
SHORTEST, LONGEST = 32, 256  # visits for which a value is held
SETTLED = 0.01  # of the range of the curve


@dataclass(frozen=True, eq=False)
class Shape(Result):
    """The contributions of a term that reads one column.

    Of a recurrent term they are those of a value that is held until the contribution settles, and `after` has the
    effect of the last value after typical histories. Other terms have no memory, and their contributions are exact.

    Args:
        term, title, unit, kind: of the term; kind is "recurrent", "memoryless" or "static".
        scale: what is contributed to.
        x: (points,), values in units; of a category 0, 1, ...
        level: (points,), the levels of a category, else ().
        contribution: (points,), centred, with what pure pairs moved here; the mean over members.
        low, high: (points,), minus and plus one standard deviation over members; NaN for one model.
        by_member: (members, points), the contribution of each.
        moved: (points,), the part that pairs moved here, 0 without pairs.
        n: (points,), how many values of the background are nearest to each.
        missing: what the term contributes where it was never observed, and `n_missing` for how many values that is.
        settled: the visits after which a held value has settled to 1% of the range of the curve; 0 without memory, and
            NaN where that takes longer than what was tried.
        outside: bool (points,): the value never occurred, or was never held for as long as it takes to settle.
        after: (histories, points), the contribution where the last value is x, after histories that occurred, at whose
            end the term stood at its 10%, 50% and 90% quantile; as the model has it, without what was moved.
        after_told: (histories,), which these are, in words.
    """

    term: str
    title: str
    unit: str
    kind: str
    scale: str
    x: Floats
    level: tuple[str, ...]
    contribution: Floats
    low: Floats
    high: Floats
    by_member: Floats
    moved: Floats
    n: NDArray[np.int64]
    missing: float
    n_missing: int
    settled: float
    outside: Bools
    after: Floats
    after_told: tuple[str, ...]

    def simultaneous(self, level: float = 0.9) -> Band:
        """A band (points,) that holds the whole curve with this probability, see `rnam.explain.simultaneous`.

        Raises:
            ValueError: the model has fewer than 10 members, or the level is out of range.
        """
        return explain.simultaneous(self.by_member, level=level)

    def frame(self) -> Any:
        """A row for each point, and one for what is missing. `after 1` and so on are of the histories."""
        shown: Any = list(self.level) if self.level else self.x
        columns = {
            "term": self.term, "x": shown, "contribution": self.contribution, "low": self.low, "high": self.high,
            "moved": self.moved, "n": self.n, "outside": self.outside,
        }  # fmt: skip
        frame = pandas.DataFrame(columns | {f"after {n + 1}": line for n, line in enumerate(self.after)})
        last = {"term": self.term, "contribution": self.missing, "n": self.n_missing, "outside": False, "moved": 0.0}
        frame.loc[len(frame)] = {name: last.get(name, None if self.level else np.nan) for name in frame.columns}
        return frame

    def plot(self, ax: Axes | None = None) -> Axes:
        names = (told.partition(" (")[0] for told in self.after_told)
        after = dict(zip(names, self.after, strict=True))
        return plot.curve(
            self.x, self.contribution, levels=self.level, low=self.low, high=self.high, n=self.n,
            outside=self.outside, after=after,
            missing=self.missing if self.n_missing else None,
            name="held until it settles" if self.kind == "recurrent" else "contribution",
            label=labelled(self.title, self.unit),
            contribution_label=f"contribution to {self.scale}", ax=ax,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PairShape(Result):
    """A term that reads two columns, as a table: constant + first + second + interaction, which is what neither column
    says by itself. Of a recurrent pair both values are held until the contribution settles.

    Args:
        term, kind, scale: as of a `Shape`.
        column, unit: of the two columns.
        x, y: (rows,) and (columns,), values of the first and the second column, of a category 0, 1, ...
        x_level, y_level: the levels of a category, else ().
        interaction: (rows, columns), pure: weighted by the data its mean is 0 over each row and column.
        low, high: (rows, columns), minus and plus one standard deviation over members; NaN for one model.
        first, second: (rows,) and (columns,), what was moved to the main terms.
        constant: what was moved to the intercept.
        n: (rows, columns), how much data each cell stands for. Where it is 0 the model says what it never saw.
        settled: as of a `Shape`.
    """

    term: str
    kind: str
    scale: str
    column: tuple[str, str]
    unit: tuple[str, str]
    x: Floats
    y: Floats
    x_level: tuple[str, ...]
    y_level: tuple[str, ...]
    interaction: Floats
    low: Floats
    high: Floats
    first: Floats
    second: Floats
    constant: float
    n: NDArray[np.int64]
    settled: float

    @property
    def contribution(self) -> Floats:
        """(rows, columns), of the term as the model has it, centred."""
        return np.asarray(self.interaction + self.first[:, None] + self.second + self.constant)

    def frame(self) -> Any:
        """A row for each cell."""
        x, y = (list(level) if level else at for level, at in ((self.x_level, self.x), (self.y_level, self.y)))
        index = pandas.MultiIndex.from_product([x, y], names=list(self.column))
        parts = {name: getattr(self, name).ravel() for name in ("interaction", "low", "high", "contribution", "n")}
        return pandas.DataFrame(parts, index=index).reset_index()

    def plot(self, ax: Axes | None = None) -> Axes:
        """The pure interaction; dots where there are no data."""
        x_label, y_label = (labelled(name, unit) for name, unit in zip(self.column, self.unit, strict=True))
        return plot.surface(
            self.x_level or self.x, self.y_level or self.y, self.interaction.T, outside=self.n.T == 0, x_label=x_label,
            y_label=y_label, label=f"interaction in {self.scale}", outside_label="no data", ax=ax,
        )  # fmt: skip


class Shapes(Result, Mapping[str, Any]):
    """The shapes of all terms that read columns, by name: a `Shape` for each column, a `PairShape` for each pair."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = [term.name for term in source.reader.terms if term.features]

    def __getitem__(self, term: str) -> Any:
        if term not in self._names:
            raise ValueError(f"term must be one of {', '.join(self._names)}, got {term!r}")
        if term not in self._made:
            self._made[term] = self._pair(term) if self._terms[term].is_pair else self._single(term)
        return self._made[term]

    def __contains__(self, term: object) -> bool:
        return term in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Shapes of {', '.join(self._names)}"

    def frame(self) -> Any:
        """The rows of all terms that read one column."""
        return pandas.concat([self[name].frame() for name in self if not self._terms[name].is_pair], ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """All terms in one figure; returns the first axes. To draw on given axes, plot one term.

        Raises:
            ImportError: matplotlib is missing.
            ValueError: axes are given.
        """
        if ax is not None:
            raise ValueError("ax must be None for all terms, which take a figure; plot one: shapes['a'].plot(ax)")
        drawn = plot.grid(len(self))
        for own, name in zip(drawn, self, strict=True):
            self[name].plot(own)
        return drawn[0]

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _terms(self) -> dict[str, Term]:
        return {term.name: term for term in self._source.reader.terms}

    @cached_property
    def _axes(self) -> dict[str, Axis]:
        return {f.name: Axis.of(self._source, f, POINTS) for f in self._source.reader.encoder.features}

    @cached_property
    def _steps(self) -> int:
        return int(np.clip(self._source.background.lengths.max(), SHORTEST, LONGEST))

    @cached_property
    def _main(self) -> Floats:
        """(members, points + 1, steps, terms), each column at its own values, and last all missing."""
        longest = max(len(axis.x) for axis in self._axes.values())
        given = []
        for axis in self._axes.values():
            encoded = np.full((longest + 1, axis.feature.width), np.nan)
            encoded[: len(axis.x)] = axis.encoded
            # at visits, too, where a static column stands there: a pair reads it, and nobody looks at the pair here
            given.append((axis.feature, encoded, axis.feature.is_static and not self._source.inputs.flat))
        return self._run(given, longest + 1)

    def _run(self, given: list[tuple[Feature, Floats, bool]], rows: int) -> Floats:
        source = self._source
        found = source.reader.contributions(held(source, given, self._steps), "visit")
        return source.centred(found).reshape(len(found), rows, -1, found.shape[2])

    def _single(self, name: str) -> Shape:
        source, term = self._source, self._terms[name]
        axis = self._axes[term.features[0]]
        number = source.reader.term(name)
        over_time = self._main[:, : len(axis.x), :, number]
        moved = sum((self._moved(pair, axis) for pair in self._pairs_of(axis.feature)), np.zeros((1, len(axis.x))))
        by_member = np.asarray(over_time[:, :, -1] + moved)
        mean, low, high = band(by_member)
        recurrent = term.kind == "recurrent"
        settled = _settled(over_time.mean(0)) if recurrent else 0.0
        outside = axis.counts == 0
        after: Floats = np.zeros((0, len(axis.x)))
        told: tuple[str, ...] = ()
        if recurrent:
            if axis.feature.kind == "number":
                steps = self._steps if np.isnan(settled) else int(settled)
                outside = source.support(axis.feature).held(max(1, steps), axis.encoded)
            after, told = self._typical.after(number, axis)
        return Shape(
            term=name, title=term.title, unit=term.unit, kind=term.kind, scale=source.reader.scale_name, x=axis.x,
            level=axis.names, contribution=mean, low=low, high=high, by_member=by_member,
            moved=np.asarray(moved).mean(0), n=axis.counts,
            missing=float(self._main[:, -1, -1, number].mean()), n_missing=int((axis.nearest < 0).sum()),
            settled=settled, outside=outside, after=after, after_told=told,
        )  # fmt: skip

    @cached_property
    def _typical(self) -> Typical:
        return Typical(self._source)

    def _pairs_of(self, feature: Feature) -> list[str]:
        return [name for name in self if self._terms[name].is_pair and feature.name in self._terms[name].features]

    def _moved(self, pair: str, axis: Axis) -> Floats:
        """(members, points), what a pair moves to the main term of this column."""
        table = self._purified[pair]
        first = self._terms[pair].features[0] == axis.feature.name
        effect = table[1].first if first else table[1].second
        if axis.names:
            return np.asarray(effect)
        at = axis.coarse()[0].x
        return np.stack([np.interp(axis.x, at, own) for own in effect])

    @cached_property
    def _purified(self) -> dict[str, tuple[float, Any, NDArray[np.int64]]]:
        """Of each pair the visits until it settles, its pure table by member, and the data of each cell."""
        return {name: self._purify(self._terms[name]) for name in self if self._terms[name].is_pair}

    def _purify(self, term: Term) -> tuple[float, Any, NDArray[np.int64]]:
        one, two = (self._axes[name].coarse()[0] for name in term.features)
        rows, columns = len(one.x), len(two.x)
        grids = one.encoded.repeat(columns, 0), np.tile(two.encoded, (rows, 1))
        static = term.kind == "static"
        given = [(axis.feature, grid, static) for axis, grid in zip((one, two), grids, strict=True)]
        found = self._run(given, rows * columns)[..., self._source.reader.term(term.name)]
        settled = _settled(found.mean(0)) if term.kind == "recurrent" else 0.0
        nearest = [self._at_visits(axis) for axis in (one, two)]
        both = (nearest[0] >= 0) & (nearest[1] >= 0)
        n = np.bincount(nearest[0][both] * columns + nearest[1][both], minlength=rows * columns)
        table = found[:, :, -1].reshape(-1, rows, columns)
        return settled, explain.purify(table, n.reshape(rows, columns)), n.reshape(rows, columns)

    def _at_visits(self, axis: Axis) -> NDArray[np.int64]:
        """The nearest point at each visit."""
        return axis.nearest[self._source.background.owners] if axis.feature.is_static else axis.nearest

    def _pair(self, name: str) -> PairShape:
        term, reader = self._terms[name], self._source.reader
        settled, pure, n = self._purified[name]
        one, two = (self._axes[own].coarse()[0] for own in term.features)
        mean, low, high = band(pure.interaction)
        return PairShape(
            term=name, kind=term.kind, scale=reader.scale_name, column=(one.feature.name, two.feature.name),
            unit=(one.feature.unit, two.feature.unit), x=one.x, y=two.x, x_level=one.names, y_level=two.names,
            interaction=mean, low=low, high=high, first=pure.first.mean(0), second=pure.second.mean(0),
            constant=float(pure.constant.mean()), n=n, settled=settled,
        )  # fmt: skip


def _settled(over_time: Floats) -> float:
    """The first visit from which on each point (points, steps) stays within 1% of the range of the last; NaN where that
    is in the second half of what was tried."""
    last = over_time[:, -1]
    limit = SETTLED * max(float(np.ptp(last)), 1e-12)
    away = (np.abs(over_time - last[:, None]) > limit).any(0)
    visits = float(np.flatnonzero(away)[-1] + 2) if away.any() else 1.0
    return visits if visits <= over_time.shape[1] / 2 else np.nan
