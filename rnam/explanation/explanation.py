"""`Explanation`: what a fitted estimator says about a panel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import numpy as np

from rnam.explanation import (
    calibrations,
    counterfactuals,
    drifts,
    exports,
    importances,
    lag_responses,
    memories,
    persons,
    trust,
)
from rnam.explanation.calibrations import Calibration
from rnam.explanation.counterfactuals import Counterfactual
from rnam.explanation.drifts import Drift
from rnam.explanation.importances import Importance
from rnam.explanation.lag_responses import ExposureLagResponse
from rnam.explanation.memories import TermMemory
from rnam.explanation.persons import Person
from rnam.explanation.shapes import PairShape, Shape, Shapes
from rnam.explanation.sources import Source
from rnam.explanation.trust import Missingness, Stability, TermConcurvity

__all__ = ["Explanation"]


class Explanation(Source):
    """The answers of a fitted estimator about people with visits: `model.explain(panel)` makes one.

    Contributions are those to the prediction before the link, in the units of y: to log-odds of a classifier of two
    classes, to the logarithm of a rate of loss="poisson". Each term is centred: where it is observed, its contributions
    to the predictions of the background have the mean 0. Nothing is computed before it is asked for.

    Every answer is a frozen dataclass of float64 arrays with `.frame()`, `.to_csv(path)` and `.plot(ax=None)`. Bands
    are one standard deviation over the members of the model: the refit spread, and no confidence interval.

    Attributes:
        panel: the ids and visits that are explained.
        background: what contributions are centred on, and whose values and histories count as what occurred.
        reader: the estimator as arrays.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 6, 2))  # people, steps, columns
        >>> model = rnam.RNAMRegressor(4, max_epochs=2, random_state=0, verbose=0).fit(X, X[:, :, 0].mean(1))
        >>> e = model.explain(X)
        >>> e
        Explanation of y by an RNAMRegressor: 40 ids, 240 visits
          terms       x0, x1
          members     1
        >>> e.importance().frame().columns.tolist()
        ['term', 'importance', 'low', 'high', 'share']
    """

    def importance(self) -> Importance:
        """How much each term moves the predictions: the weighted mean of its absolute centred contribution."""
        return importances.importance(self)

    def person(self, id: Any) -> Person:
        """One person over the visits: total and terms with bands, and what changed since the last visit.

        Args:
            id: one of `panel.ids`.

        Raises:
            KeyError: there is none.
        """
        return persons.person(self, id)

    def shapes(self) -> Shapes:
        """The contributions of each term at each value of its column, by name; see `Shape` and `PairShape`.

        The shape of a term that has no memory is exact. Of a recurrent term a value is held until the contribution
        settles, which may be a history that never was: that is marked. Pairs are pure, and what they say of one column
        is moved to its main term: the sum is unchanged at the values of the pair, between which it is interpolated.
        """
        return self._shapes

    def shape(self, term: str) -> Shape | PairShape:
        """The shape of one term.

        Raises:
            ValueError: there is no such term, or it reads no column.
        """
        found: Shape | PairShape = self._shapes[term]
        return found

    @cached_property
    def _shapes(self) -> Shapes:
        return Shapes(self)

    def lag_response(
        self, column: Any, *, size: float | None = None, kind: Literal["impulse", "step"] = "impulse", lags: int = 10,
        histories: Any = None, value: float | None = None, quantile: float | None = None,
        reference: float | None = None, values: Sequence[float] | None = None, before: int = 0, sample: int = 100,
        seed: int = 0,
    ) -> ExposureLagResponse:  # fmt: skip
        """The effect of a change of a column on the prediction, before the link, at the visits after it.

        The change is made in histories that occurred: sequences of the panel, each cut at a visit that has `lags`
        visits after it. These are as they occurred, with their times and all other columns. The answer is the sum over
        all terms that read the column, pairs included. Histories outside of those of the background are marked.

        Args:
            column: of numbers of visits.
            size: what is added to the column, in its units; by default the scale of the encoder.
            kind: "impulse", at one visit, or "step", from it on.
            lags: L, the visits after the change.
            histories: None or "sample" for all visits that have so many after them; a list of ids, of each of which the
                last such visit is taken, or the one nearest to `value`; or bools for each visit of the panel.
            value, quantile: where histories are cut: the tenth of the visits whose value is nearest to it.
            reference: the value that the column has before `size` is added, and that those of the surface are compared
                with. None adds to what occurred, and compares with the median.
            values: of the surface; by default quantiles of the background from 1% to 99%.
            before: the fewest visits before the change: for windows, whose state starts empty.
            sample: the most histories, drawn with `seed`.

        Raises:
            TypeError, ValueError: there is no such column, or it holds no numbers of visits; the model is not
                recurrent; no history is long enough, or one that was asked for is too short; a number is NaN.
            KeyError: an id is none of the panel's.

        Source: Gasparrini, Armstrong and Kenward, Statistics in Medicine 29 (2010); the surface and its cuts are those
        of R's dlnm.
        """
        return lag_responses.lag_response(
            self, column, size=size, kind=kind, lags=lags, histories=histories, value=value, quantile=quantile,
            reference=reference, values=values, before=before, sample=sample, seed=seed,
        )  # fmt: skip

    def response(self, column: Any, *, size: float | None = None, lags: int | None = None) -> ExposureLagResponse:
        """The effect of a column that changes and stays so: `lag_response` with kind="step".

        Args:
            column, size: as there.
            lags: the visits after the change; by default 10, or fewer, so that half of the sequences have as many.

        Raises:
            TypeError, ValueError: as `lag_response`.
        """
        if lags is None:
            lags = min(10, max(1, int(np.median(self.panel.lengths)) - 1))
        return self.lag_response(column, size=size, kind="step", lags=lags)

    def memory(self, *, sample: int = 500, seed: int = 0) -> TermMemory:
        """How long each recurrent term remembers, and by how much the loss rises without: `rnam.explain.memory`.

        Args:
            sample: the most ids that are read, drawn with `seed`.

        Raises:
            ValueError: the model is not recurrent.
        """
        return memories.memory(self, sample, seed)

    def concurvity(self, *, knots: int = 5) -> TermConcurvity:
        """How much of each term the others could say, in all and pairwise: `rnam.explain.concurvity`.

        Raises:
            ValueError: the model has one term.
        """
        return trust.concurvity(self, knots)

    def missingness(self) -> Missingness:
        """The contribution of each term where it was never observed, apart from the effects of values."""
        return trust.missingness(self)

    def stability(self) -> Stability:
        """The agreement of the members of the model on each term, and which terms are not identified.

        Raises:
            ValueError: the model has one member.
        """
        return trust.stability(self)

    def calibration(self, by: Any = None, *, groups: int = 4) -> Calibration:
        """Calibration: are predictions right on the whole, and in groups?

        Args:
            by: None; a column, whose levels are groups, or so many quantiles; "time" for so many blocks of time; or a
                group for each prediction, such as a block.
            groups: how many quantiles or blocks.

        Raises:
            ValueError: X came without labels; the outputs are quantiles or of survival; there is no such column.
        """
        return calibrations.calibration(self, by, groups)

    def drift(self, blocks: Any = 5) -> Drift:
        """The means of contributions, and of residuals where there are labels, over blocks of time.

        Args:
            blocks: how many, with as many predictions each; or limits that rise, of the kind of the times.

        Raises:
            TypeError, ValueError: they are neither.
        """
        return drifts.drift(self, blocks)

    def counterfactual(self, id: Any, target: float) -> Counterfactual:
        """The smallest change of one column at the last visit that moves the prediction of a person to a target.

        Changes are compared in the scale of the encoder; another level counts 1, and takes the prediction to the target
        or beyond. Columns of ids, cyclic ones and those that are missing then stay. A value or a history that
        never was is no answer.

        Args:
            id: one of `panel.ids`.
            target: a prediction in the units of y, of a class its probability; of several classes and of survival
                before the link.

        Raises:
            KeyError: there is no such id.
            ValueError: target is no such prediction; no change of one column reaches it.
        """
        return counterfactuals.counterfactual(self, id, target)

    def to_shap(self) -> Any:
        """The contributions as a `shap.Explanation`, a row for each prediction.

        Centred contributions of terms that read one column are Shapley values, where columns are changed one by one. A
        pair stays one feature.

        Raises:
            ImportError: shap is missing.
        """
        return exports.to_shap(self)

    def to_interpret(self) -> Any:
        """The contributions as a local explanation of interpret, a dict for each prediction in `.data(n)`.

        Raises:
            ImportError: interpret is missing.
        """
        return exports.to_interpret(self)

    def report(
        self, path: str | PathLike[str], *, title: str | None = None, ids: Sequence[Any] | None = None,
        lags: int | None = None, overwrite: bool = False, verbose: int = 0,
    ) -> None:  # fmt: skip
        """Write one HTML page that loads nothing: score, calibration and importance; a panel for each term; people.

        The score is that on `panel`, so explain people that the model was not fitted to. Numbers of people are float32
        there, all others float64. A file is there as a whole or not at all.

        Args:
            path: ends in .html.
            title: of the page.
            ids: whose visits are on the page. By default all, or so many as fit into 8 MB, evenly apart, which the page
                says. Of a person it has the last 2,000 visits.
            lags: of `lag_response`; by default 10, or less where fewer than a tenth of the people have so many visits.
            overwrite: replace a file that is there.
            verbose: 1 shows a bar.

        Raises:
            ValueError: the path has another ending; ids are none, twice, or too many.
            KeyError: an id is none of the panel's.
            FileExistsError, FileNotFoundError, IsADirectoryError: the file is there; its folder is not; it is a folder.
        """
        from rnam import report  # which takes this package

        report.write(self, path, title=title, ids=ids, lags=lags, overwrite=overwrite, verbose=verbose)

    def __repr__(self) -> str:
        reader, panel = self.reader, self.panel
        kind = type(reader.estimator).__name__
        article = "an" if kind[0] in "AEIOUR" else "a"
        lines = [
            f"Explanation of {reader.output} by {article} {kind}: {len(panel):,} ids, {len(panel.owners):,} visits",
            f"  terms       {', '.join(reader.names)}",
            f"  members     {reader.members}",
        ]
        if self.background is not self.panel:
            lines.append(f"  background  {len(self.background):,} ids, {len(self.background.owners):,} visits")
        return "\n".join(lines)
