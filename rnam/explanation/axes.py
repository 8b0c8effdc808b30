"""`Axis`: the values of one column at which a term is shown, with the data behind each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnam.estimators.encoding import ROLES, Feature, Inputs
from rnam.explain._arrays import Bools, Floats
from rnam.explain.tables import grid_of
from rnam.explanation.sources import Source
from rnam.panel import Panel

__all__ = ["Axis", "column_of", "held", "nothing"]

COARSE = 12  # values of a pair's axis


@dataclass(frozen=True, eq=False)
class Axis:
    """Values of a column, in order.

    Args:
        feature: the column.
        x: (points,), in units; of a category the codes of the levels.
        nearest: (data,), the point that each value of the background is nearest to; -1 where it is missing.
    """

    feature: Feature
    x: Floats
    nearest: NDArray[np.int64]

    @classmethod
    def of(cls, source: Source, feature: Feature, points: int) -> Axis:
        """Quantiles and values evenly apart; all where there are few, and all levels.

        Raises:
            ValueError: the background has no value of the column.
        """
        raw = column_of(source.background, feature)
        if feature.kind == "category":
            return cls(feature, np.arange(len(feature.levels), dtype=np.float64), raw.astype(np.int64))
        there = ~np.isnan(raw)
        if not there.any():
            raise ValueError(f"column {feature.name!r} must have a value in the background, got none")
        known = raw[there] % feature.period if feature.kind == "cyclic" else raw[there]
        x = grid_of(known, points)
        nearest = np.full(len(raw), -1, np.int64)
        nearest[there] = np.searchsorted((x[1:] + x[:-1]) / 2, known)
        return cls(feature, x, nearest)

    def coarse(self) -> tuple[Axis, NDArray[np.int64]]:
        """Fewer of the points, and which these are."""
        last = len(self.x) - 1
        if self.feature.kind == "category" or last < COARSE:
            return self, np.arange(last + 1)
        chosen = np.unique(np.linspace(0, last, COARSE).round().astype(np.int64))
        middle = np.concatenate([(self.x[chosen][1:] + self.x[chosen][:-1]) / 2])
        owner = np.searchsorted(middle, self.x)
        return Axis(self.feature, self.x[chosen], np.where(self.nearest < 0, -1, owner[self.nearest])), chosen

    @property
    def names(self) -> tuple[str, ...]:
        """Of the levels; () of numbers."""
        return tuple(map(str, self.feature.levels)) if self.feature.kind == "category" else ()

    @property
    def counts(self) -> NDArray[np.int64]:
        """(points,), the data nearest to each."""
        return np.bincount(self.nearest[self.nearest >= 0], minlength=len(self.x))

    @property
    def encoded(self) -> Floats:
        """(points, width)"""
        return self.feature.encode(self.x.astype(np.int64) if self.names else self.x)[0].astype(np.float64)


def column_of(panel: Panel, feature: Feature) -> Floats:
    """A column of the panel, (visits,) or (ids,): numbers with NaN, or codes in the levels of the fit with -1."""
    sources = dict(zip(ROLES, (panel.values, panel.codes, panel.static, panel.static_codes), strict=True))
    columns = getattr(panel.schema, feature.role)
    at = next(n for n, column in enumerate(columns) if str(column.name) == feature.name)
    raw, levels = sources[feature.role][:, at], columns[at].levels
    return (raw if levels is None else feature.codes(raw, levels)).astype(np.float64)


def held(source: Source, given: list[tuple[Feature, Floats, bool]], steps: int) -> Inputs:
    """Inputs of sequences at which columns stay what they are; all others are missing. Visits are the usual gap apart.

    Args:
        given: columns, their encoded values (sequences, width), NaN where one is missing, and whether it is read as one
            of ids.
        steps: the visits of each sequence.
    """
    like = source.background_inputs
    sequences = len(given[0][1])
    steps = 1 if like.flat else steps
    values, mask = _blank(sequences, like.values.shape[1])
    facts, facts_mask = _blank(sequences, like.static.shape[1])
    for feature, encoded, static in given:
        array, there, own = (
            (facts, facts_mask, feature.static_columns) if static else (values, mask, feature.visit_columns)
        )
        array[:, own] = np.nan_to_num(encoded)
        there[:, own] = ~np.isnan(encoded[:, :1])
    gap = getattr(source.reader.estimator, "time_unit_", 1.0)
    times = None if like.times is None else np.tile(np.arange(steps) * gap, sequences)
    offsets = np.arange(sequences + 1) * steps
    return Inputs(values.repeat(steps, 0), mask.repeat(steps, 0), times, facts, facts_mask, offsets, like.flat)


def nothing(source: Source) -> Inputs:
    """Inputs of one sequence of one visit at which all columns are missing."""
    feature = source.reader.encoder.features[0]
    static = feature.is_static and not source.inputs.flat
    return held(source, [(feature, np.full((1, feature.width), np.nan), static)], 1)


def _blank(rows: int, columns: int) -> tuple[NDArray[np.float32], Bools]:
    return np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.bool_)
