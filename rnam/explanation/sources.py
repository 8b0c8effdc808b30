"""`Source`: the data of an explanation, and what is computed from them once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas

from rnam.estimators import tables
from rnam.estimators.encoding import Feature, Inputs
from rnam.explain import _arrays
from rnam.explain._arrays import Floats
from rnam.explain.centring import Centering
from rnam.explanation.reading import Reader, Rows
from rnam.explanation.support import Support
from rnam.panel import Panel

__all__ = ["Source"]


class Source:
    """A fitted estimator with the panel that it is explained on. A row is a prediction: of an id or of a visit, as the
    labels of the fit were.

    Attributes:
        reader: of the estimator.
        panel: the ids and visits that are explained.
        background: those that contributions are centred on, and whose values and histories count as what occurred.
    """

    def __init__(self, estimator: Any, X: Any, y: Any = None, background: Any = None, output: Any = None) -> None:
        self.reader, self._supports = Reader(estimator, output), dict[str, Support]()
        self.table = tables.read(estimator, X, y)
        self.panel: Panel = self.table.panel
        self.background: Panel = self.panel if background is None else tables.read(estimator, background).panel

    @cached_property
    def inputs(self) -> Inputs:
        return self.reader.encoder.transform(self.panel)

    @cached_property
    def background_inputs(self) -> Inputs:
        return self.inputs if self.background is self.panel else self.reader.encoder.transform(self.background)

    def rows(self, panel: Panel) -> Rows:
        """The visit of each prediction."""
        return np.arange(len(panel.owners)) if self.reader.at == "visit" else panel.last

    def weight_of(self, panel: Panel) -> Floats:
        """(rows,), the panel's own weights, or ones.

        Raises:
            ValueError: all are 0.
        """
        own = panel.weight if panel.weight is not None and panel.at == self.reader.at else None
        return _arrays.sample_weight(own, (len(self.rows(panel)),))

    @cached_property
    def weight(self) -> Floats:
        return self.weight_of(self.panel)

    @cached_property
    def centring(self) -> Centering:
        """Of each member, on the background where a term is observed."""
        inputs, rows = self.background_inputs, self.rows(self.background)
        reference = self._by_row(inputs, rows)
        observed = self._rows_of(self.reader.observed(inputs), rows)
        return Centering.fit(reference[..., None], self.weight_of(self.background), observed, members=True)

    def centred(self, contributions: Floats) -> Floats:
        """Of contributions (members, rows, terms)."""
        return np.asarray(self.centring(contributions[..., None])[..., 0])

    @cached_property
    def intercept(self) -> Floats:
        """(members,), what centred contributions are added to."""
        return np.asarray(self.centring.intercept(self.reader.bias()[:, None])[:, 0])

    @cached_property
    def contributions(self) -> Floats:
        """(members, rows, terms), centred."""
        return self.centred(self._by_row(self.inputs, self.rows(self.panel)))

    @cached_property
    def total(self) -> Floats:
        """(members, rows), the prediction before the link."""
        return np.asarray(self.contributions.sum(2) + self.intercept[:, None])

    @cached_property
    def observed(self) -> Any:
        """bool (rows, terms)"""
        return self._rows_of(self.reader.observed(self.inputs), self.rows(self.panel))

    def support(self, feature: Feature) -> Support:
        """Of a column of visits, in the background."""
        if feature.name not in self._supports:
            self._supports[feature.name] = self._support(feature)
        return self._supports[feature.name]

    def _support(self, feature: Feature) -> Support:
        reader, panel = self.reader, self.background
        partners: set[int] = set()
        for n in reader.readers(feature):
            partners |= set(reader.terms[n].columns) - set(feature.visit_columns)
        owners = panel.ids if panel.groups is None else panel.groups
        codes = pandas.factorize(owners)[0]
        if self.background_inputs.flat:
            codes = codes[panel.owners]
        near = tuple(sorted(partners))
        return Support.of(self.background_inputs, feature, near, codes, panel.times)

    def _by_row(self, inputs: Inputs, rows: Rows) -> Floats:
        found = self.reader.contributions(inputs)
        return found[:, rows] if inputs.flat and self.reader.at == "id" else found

    def _rows_of(self, observed: Any, rows: Rows) -> Any:
        return observed[rows] if self.inputs.flat and self.reader.at == "id" else observed
