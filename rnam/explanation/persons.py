"""One person: the prediction visit by visit, term by term, and what changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from rnam import plot
from rnam.explain._arrays import Floats
from rnam.explanation.results import Result, band
from rnam.explanation.sources import Source
from rnam.explanation.words import called, when
from rnam.panel import Panel
from rnam.panel.columns import plain
from rnam.panel.times import SECONDS
from rnam.plot._style import labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Person", "person"]

TOLD = 5  # the terms that a sentence names


@dataclass(frozen=True, eq=False)
class Person(Result):
    """The contributions of each term at each visit of one person, in the units of y before the link.

    Args:
        id, id_name: the person, and what ids are called.
        output, scale: the number that is explained, and what it is before the link.
        stamp: (visits,), the times as they came.
        time: (visits,), the same as numbers, in `time_unit`.
        days: of dates, of a unit of time; 0 where times are no dates.
        term, title, unit: (terms,)
        value: (visits, terms), what each term reads in words: "2.4 mg/dl", "retail"; "" where it is missing.
        by_member: (members, visits, terms), centred contributions.
        intercept: (members,), what they are added to.
        predicted: (visits,), the prediction in the units of y, the link undone; where no single output gives it, as
            for a softmax, the number before the link.
    """

    id: Any
    id_name: Any
    output: str
    scale: str
    stamp: tuple[Any, ...]
    time: Floats
    time_unit: str
    days: float
    term: tuple[str, ...]
    title: tuple[str, ...]
    unit: tuple[str, ...]
    value: NDArray[Any]
    by_member: Floats
    intercept: Floats
    predicted: Floats

    @property
    def contribution(self) -> Floats:
        """(visits, terms), the mean over members."""
        return np.asarray(self.by_member.mean(0))

    @property
    def total(self) -> Floats:
        """(visits,), intercept and contributions: the prediction before the link, the mean over members."""
        return np.asarray(self._totals.mean(0))

    @property
    def change(self) -> Floats:
        """(terms,), of the contributions since the visit before the last; 0 of a single visit."""
        parts = self.contribution
        return np.asarray(parts[-1] - parts[-2]) if len(parts) > 1 else np.zeros(len(self.term))

    @property
    def ranked(self) -> tuple[str, ...]:
        """The terms by the size of their contribution at the last visit, the largest first."""
        order = np.argsort(-np.abs(self.contribution[-1]), kind="stable")
        return tuple(self.term[n] for n in order)

    def frame(self) -> Any:
        """A row for each visit and term, and one for the total, with bands over members. `rank` is that of the size of
        the contributions of the visit, from 1; `change` is since the visit before."""
        mean, low, high = (
            np.concatenate([terms, total[:, None]], axis=1)
            for terms, total in zip(band(self.by_member), band(self._totals), strict=True)
        )
        visits, columns = mean.shape
        rank = np.argsort(np.argsort(-np.abs(mean[:, :-1]), axis=1, kind="stable"), axis=1) + 1.0
        change = np.full(mean.shape, np.nan)
        change[1:] = np.diff(mean, axis=0)
        shown = np.concatenate([self.value, np.full((visits, 1), "", object)], axis=1)
        return pandas.DataFrame(
            {
                "time": np.repeat(np.array(self.stamp, object), columns), "term": [*self.term, "(total)"] * visits,
                "value": shown.ravel(), "contribution": mean.ravel(), "low": low.ravel(), "high": high.ravel(),
                "change": change.ravel(), "rank": np.concatenate([rank, np.full((visits, 1), np.nan)], 1).ravel(),
            }
        )  # fmt: skip

    def words(self) -> str:
        """The change since the last visit, in words and numbers."""
        last, total = when(self.stamp[-1]), self.total
        if len(total) == 1:
            parts = self.contribution[-1]
            told = [f"{self.title[n]} {parts[n]:+.3g}" + self._of(n, -1) for n in self._largest(parts)]
            return f"{self._name} at {last}: {self.scale} is {total[-1]:.4g}. Largest parts: {', '.join(told)}."
        gap = f"{self.time[-1] - self.time[-2]:.4g} {self.time_unit}".strip()
        moved = total[-1] - total[-2]
        way = "rose" if moved > 0 else "fell" if moved < 0 else "did not change"
        by = f" by {abs(moved):.3g}" if moved else ""
        since = f"{self._name} at {last}, {gap} after {when(self.stamp[-2])}"
        head = f"{since}: {self.scale} {way}{by}, from {total[-2]:.4g} to "
        change = self.change
        told = [f"{self.title[n]} {change[n]:+.3g}" + self._moved(n) for n in self._largest(change)]
        tail = f" Of this: {'; '.join(told)}." if told else " No term changed."
        return f"{head}{total[-1]:.4g}.{tail}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """The total and the terms that moved most over the visits; of one visit a bar for each term."""
        label = "" if self.days else labelled("time", self.time_unit)
        return plot.person(
            self.time * (self.days or 1.0), self.by_member, self._totals, self.title, label=self.scale,
            title=self._name, time_label=label, dates=self.days > 0, ax=ax,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Person: {self.words()}"

    @property
    def _name(self) -> str:
        return called(self.id_name, self.id)

    @property
    def _totals(self) -> Floats:
        return np.asarray(self.by_member.sum(2) + self.intercept[:, None])

    def _largest(self, parts: Floats) -> list[int]:
        order = np.argsort(-np.abs(parts), kind="stable")[:TOLD]
        return [int(n) for n in order if abs(parts[n]) > 1e-3 * np.abs(parts).max()]

    def _of(self, term: int, visit: int) -> str:
        value = self.value[visit, term]
        return f" ({value})" if value else ""

    def _moved(self, term: int) -> str:
        before, after = self.value[-2, term] or "missing", self.value[-1, term] or "missing"
        if before == after:
            return f" ({before}, its history)" if after != "missing" else ""
        return f" ({before} to {after})"


def person(source: Source, id: Any) -> Person:
    """`Explanation.person`."""
    reader = source.reader
    own = source.panel[[id]]
    inputs = reader.encoder.transform(own)
    by_member = source.centred(reader.contributions(inputs, "visit"))
    total = (by_member.sum(2) + source.intercept[:, None]).mean(0)
    terms, clock = reader.terms, own.schema.clock
    return Person(
        id=plain(id), id_name=own.schema.id_name, output=reader.output, scale=reader.scale_name,
        stamp=tuple(map(plain, own.stamps)), time=own.times, time_unit=own.time_unit,
        days=SECONDS[clock.unit] / SECONDS["day"] if clock.kind == "date" else 0.0, term=reader.names,
        title=tuple(term.title for term in terms), unit=tuple(term.unit for term in terms),
        value=_values(own, source), by_member=by_member, intercept=source.intercept, predicted=reader.told(total),
    )  # fmt: skip


def _values(panel: Panel, source: Source) -> NDArray[Any]:
    """(visits, terms), what each term reads at each visit in words."""
    shown: dict[str, list[str]] = {"": [""] * len(panel.owners)}
    rows = panel.owners
    schema = panel.schema
    for columns, numbers in ((schema.values, panel.values), (schema.static, panel.static[rows])):
        for n, column in enumerate(columns):
            told = [f"{x:.4g} {column.unit}".strip() if x == x else "" for x in numbers[:, n].astype(np.float64)]
            shown[str(column.name)] = told
    for columns, codes in ((schema.categories, panel.codes), (schema.static_categories, panel.static_codes[rows])):
        for n, column in enumerate(columns):
            levels = [*map(str, column.levels or ()), ""]
            shown[str(column.name)] = [levels[code] for code in codes[:, n]]
    found = np.full((len(rows), len(source.reader.terms)), "", object)
    for n, term in enumerate(source.reader.terms):
        parts = [shown[name] for name in term.features]
        if parts:
            found[:, n] = [", ".join(row) if all(row) else "" for row in zip(*parts, strict=True)]
    return found
