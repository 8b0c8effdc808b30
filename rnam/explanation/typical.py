"""`Typical`: what the last value does after histories that occurred, at whose end a term stood low, high or between."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from rnam.estimators.encoding import Inputs
from rnam.explain._arrays import Floats
from rnam.explanation.axes import Axis
from rnam.explanation.reading import Rows
from rnam.explanation.sources import Source
from rnam.explanation.words import called, when
from rnam.panel import Panel
from rnam.panel.storage import ragged

__all__ = ["Typical"]

SEQUENCES = 200  # of the background, in which histories are looked for
SHARES = (0.1, 0.5, 0.9)  # the quantiles of the contribution at which a history ends
LEVELS = ("low", "median", "high")


class Typical:
    """Histories of the background: for a term those after which its contribution stands at the 10%, 50% and 90%
    quantile of where it stands. They are taken from a seeded draw of 200 sequences.

    Args:
        source: of the background.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def after(self, term: int, axis: Axis) -> tuple[Floats, tuple[str, ...]]:
        """(histories, points), the contribution of a term where the last value of its column is each of the axis, after
        each history, the mean over members; and which histories these are. Neither where no history has two visits."""
        visits = self._last(term, axis)
        if not len(visits):
            return np.zeros((0, len(axis.x))), ()
        inputs, owner = self._inputs, self._panel.owners[visits]
        starts = inputs.offsets[owner].repeat(len(axis.x))
        lengths = (visits - inputs.offsets[owner] + 1).repeat(len(axis.x))
        rows, offsets = ragged(starts, lengths), np.concatenate([[0], np.cumsum(lengths)])
        values, mask = inputs.values[rows], inputs.mask[rows]
        columns = list(axis.feature.visit_columns)
        last = (offsets[1:] - 1)[:, None]
        values[last, columns] = np.tile(axis.encoded, (len(visits), 1))
        mask[last, columns] = True
        who = owner.repeat(len(axis.x))
        times = None if inputs.times is None else inputs.times[rows]
        given = Inputs(values, mask, times, inputs.static[who], inputs.static_mask[who], offsets, False)
        found = self._source.centred(self._source.reader.contributions(given, "id"))[:, :, term].mean(0)
        told = []
        for visit, level in zip(visits, LEVELS, strict=True):
            id = called(self._panel.schema.id_name, self._panel.ids[self._panel.owners[visit]])
            told.append(f"last value after a {level} history ({id}, {when(self._panel.stamps.iloc[visit])})")
        return found.reshape(len(visits), len(axis.x)), tuple(told)

    def _last(self, term: int, axis: Axis) -> Rows:
        """The visit at which the last value stands, of each of the three histories."""
        panel, inputs = self._panel, self._inputs
        seen = inputs.mask[:, axis.feature.visit_columns[0]]
        inner = np.arange(len(seen)) > inputs.offsets[panel.owners]
        before = np.maximum(np.arange(len(seen)) - 1, 0)
        places = np.flatnonzero(inner & seen & self._observed[before, term])
        if len(places) < len(SHARES):
            return np.zeros(0, np.int64)
        stood = self._standing[before[places], term]
        wanted = np.quantile(stood, SHARES)
        return np.asarray(places[np.abs(stood[:, None] - wanted).argmin(0)], np.int64)

    @cached_property
    def _panel(self) -> Panel:
        panel = self._source.background
        if len(panel) <= SEQUENCES:
            return panel
        return panel.take(np.sort(np.random.default_rng(0).choice(len(panel), SEQUENCES, replace=False)))

    @cached_property
    def _inputs(self) -> Inputs:
        return self._source.reader.encoder.transform(self._panel)

    @cached_property
    def _standing(self) -> Floats:
        """(visits, terms), the mean over members."""
        return np.asarray(self._source.reader.contributions(self._inputs, "visit").mean(0))

    @cached_property
    def _observed(self) -> Any:
        return self._source.reader.observed(self._inputs, "visit")
