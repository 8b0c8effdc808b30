"""`Answer`: what a model says at visits, by the names of ids, times, terms and outputs."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any

import pandas
from numpy.typing import NDArray

from rnam.estimators.online.visits import Arrived
from rnam.panel.columns import plain

__all__ = ["Answer"]

Array = NDArray[Any]


class Answer:
    """The predictions of a model after each visit that was read, in the order in which the visits came.

    Of one visit, which came as a dict or a Series, an attribute is a number, a class or a Series by name. Of a table it
    is a Series, or a DataFrame with a column for each name, whose index is (id, time). The length is the number of
    visits. Late ones that are ignored are not among them: `ignored` has their (id, time).

    Example:
        >>> df = pandas.DataFrame({"id": [1, 1, 2], "day": [0, 3, 0], "x": [1.0, 2.0, 5.0], "y": [0.0, 1.0, 3.0]})
        >>> panel = rnam.Panel.from_frame(df, id="id", time="day", values=["x"], target="y", at="visit")
        >>> model = rnam.RNAMRegressor(4, max_epochs=1, validation=None, random_state=0, verbose=0).fit(panel)
        >>> answer = model.online().update(df[["id", "day", "x"]])
        >>> answer.contributions.index.names, list(answer.contributions)
        (FrozenList(['id', 'day']), ['x'])
        >>> bool((answer.contributions.sum(axis=1) + answer.intercept - answer.prediction).abs().max() < 1e-6)
        True
    """

    def __init__(self, model: Any, outputs: Array, contributions: Array, arrived: Arrived) -> None:
        """
        Args:
            model: the estimator.
            outputs: float64 (visits, out_dim), of its network.
            contributions: float64 (visits, terms, out_dim), likewise.
            arrived: the visits.
        """
        self._model, self._outputs, self._contributions = model, outputs, contributions
        self._labels, self._ignored, self._times = arrived.labels, arrived.ignored, arrived.times
        self._single = arrived.single and len(outputs) == 1

    def __len__(self) -> int:
        return len(self._outputs)

    @cached_property
    def index(self) -> Any:
        """A pandas MultiIndex of the (id, time) of the visits."""
        return self._labels.made()

    @cached_property
    def ignored(self) -> Any:
        """A pandas MultiIndex of the (id, time) of the visits that were late, and ignored as was asked for."""
        return self._ignored.made()

    @cached_property
    def prediction(self) -> Any:
        """As `predict` gives it: a class, or a number in the units of y; of several targets one for each."""
        found, names = self._model._told(self._outputs, self._times)
        return self._single_or_several(found, names, self._model._told_name)

    @cached_property
    def probability(self) -> Any:
        """The probability of each class.

        Raises:
            AttributeError: the model is no classifier.
        """
        if not hasattr(self._model, "classes_"):
            raise AttributeError(f"probability is there of a classifier, got {type(self._model).__name__}")
        return self._by_name(self._model.loss_.predict_proba(self._outputs), self._model.classes_)

    @cached_property
    def contributions(self) -> Any:
        """The part of each term in `decision`, by name; of several outputs by (output, term)."""
        return self._by_name(*self._model._by_term(self._contributions))

    @cached_property
    def intercept(self) -> Any:
        """The number that contributions are added to; of several outputs a Series."""
        found, outputs = self._model.intercept_, self._model._output_names()
        return float(found[0]) if len(outputs) == 1 else pandas.Series(found, outputs)

    @cached_property
    def decision(self) -> Any:
        """The sum of the contributions and the intercept, on the scale on which terms add: the units of y, their
        logarithm, log odds; of several outputs one for each."""
        outputs = self._model._output_names()
        return self._single_or_several(
            self._model.loss_.decision(self._outputs), None if len(outputs) == 1 else outputs, outputs[0]
        )

    def __repr__(self) -> str:
        told = f"{self.prediction}" if self._single else f"{len(self):,} {'visit' if len(self) == 1 else 'visits'}"
        late = len(self._ignored.ids)
        return f"Answer({told}, {late:,} ignored)" if late else f"Answer({told})"

    def _single_or_several(self, array: Array, names: Any, name: Hashable) -> Any:
        """(visits, columns) by the names of the columns; without names the one column there is, which has a name."""
        if names is not None:
            return self._by_name(array, names)
        return plain(array[0, 0]) if self._single else pandas.Series(array[:, 0], self.index, name=name)

    def _by_name(self, array: Array, names: Any) -> Any:
        columns = pandas.Index(names)
        return pandas.Series(array[0], columns) if self._single else pandas.DataFrame(array, self.index, columns)
