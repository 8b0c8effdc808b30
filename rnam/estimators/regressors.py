"""`RNAMRegressor` and `NAMRegressor`: additive models of numbers, over time and of single rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from rnam.estimators import labels, tables
from rnam.estimators.base import Estimator, Pairs
from rnam.estimators.labels import Targets
from rnam.estimators.losses import Loss
from rnam.estimators.networks import FeedForward, Recurrent
from rnam.models.block import CellName

__all__ = ["NAMRegressor", "RNAMRegressor", "Regressor"]

Array = NDArray[Any]


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """The part that the regressors share."""

    quantiles: Sequence[float]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _read_targets(self, found: Targets, first: bool) -> Targets:
        return labels.numbers(found)

    def _fit_loss(self, target: Array, weight: Array | None) -> Loss:
        return Loss.fit(self.loss, target, weight, quantiles=self.quantiles)

    def predict(self, X: Any) -> Any:
        """The prediction for each id, or for each visit where labels are of visits, in the units of y.

        Args:
            X: as in `fit`, with the columns of the fit. With a model that was fitted to a Panel a DataFrame is read as
                the panel was.

        Returns:
            Of a Panel and of a frame with an (id, time) index a Series, or of several targets or quantiles a DataFrame,
            whose index is the ids, or (id, time), in the order of the panel; else an array (n,) or (n, targets), with
            labels at steps (n, T) or (n, T, targets) with NaN at padding.
        """
        table, found = self._predicted(X)
        return self._answer(table, *self._told(found, self._times(table)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R2, of several targets its mean. Without y the target of the panel; where there is no label, there is nothing
        to predict."""
        check_is_fitted(self)
        if len(self.loss_.quantiles) > 1:
            raise ValueError(f"score must have one prediction for each target, got {len(self.loss_.quantiles)}")
        table = tables.read(self, X, y)
        found = labels.numbers(self._known_labels("y", table))
        told, there = self._outputs(self.encoder_.transform(table.panel)), found.labelled
        weight = labels.weight_of(sample_weight, table, found)
        truth, predicted = found.values[there], self.loss_.predict(told[there])
        return float(r2_score(truth, predicted, sample_weight=None if weight is None else weight[there]))

    def _told(self, outputs: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[Array, list[str] | None]:
        predicted = self.loss_.predict(outputs)
        count = predicted.shape[1]
        return predicted, None if count == 1 and self.single_target_ else self._output_names()[:count]


class RNAMRegressor(Regressor, Recurrent):
    """Numbers by a recurrent neural additive model: each term reads the history of one column, or of a pair.

    X of two dimensions is one step a row: there is no history, and `NAMRegressor` does the same with less.

    Columns, and y where the loss says so, are scaled inside, by the training part alone. A share of the ids is held
    out; the weights of the epoch that does best on it are kept. Ctrl-C ends the fit with these.

    Args:
        hidden: the width of each term's network.
        blocks: of each network, see `rnam.RNAM`.
        cell: "mingru" or "minlstm".
        pairs: terms that read two columns: a list of pairs of names, or how many are searched for. The search looks
            where the residuals of a first fit without pairs depend on two columns together.
        timescales: (shortest, longest), at which memory starts, in units of the panel's times where time is continuous,
            else in steps. "auto" goes from the median gap to half of the median span. None starts memory near 1.4
            steps.
        continuous: let time pass between visits, see `rnam.RNAM`. "auto" does where gaps differ: where more than 5% of
            them are not within 5% of the median.
        timing: add a term on the pattern of the visits.
        members: train so many models at once. Predictions are those of their mean.
        bootstrap: each member has its own bootstrap sample of ids or groups. False: all learn from the same ids, and
            differ by their random numbers alone.
        loss: "auto" (squared), "squared", "absolute", "huber", "quantile", "poisson", "gaussian" (mean and variance),
            or a callable (prediction, target) -> a loss for each row, in the units of y.
        quantiles: of loss="quantile".
        regularizer: strengths by name: "contributions", "concurvity", "term_dropout", see `rnam.regularizers`.
        learning_rate: of AdamW, the highest of the schedule.
        weight_decay: of AdamW.
        batch_size: the most ids of a batch; "auto" makes about 10 batches, of 32 to 512 ids.
        max_epochs: with schedule="onecycle" the length of the cycle.
        schedule: "onecycle" or "plateau".
        patience: the fit ends after so many epochs without a better held-out loss; None for never.
        validation: the share of ids that is held out; 0 or None for none. A share of less than one id holds one out,
            unless only one has a label, or one of each class. "auto" is 0.15 where there are 1,000 labels or more. Of
            fewer the held-out loss would choose the epoch by chance, and all are learned from.
        clip: the greatest norm of the gradient; None for any.
        warm_start: a second fit goes on with the model, the scaling and the held-out part, and must have the same
            columns.
        random_state: of the held-out part, the first parameters, the batches and the bootstrap samples.
        device: "auto" takes a CUDA device where there is one.
        precision: of training: "float32", or "bf16" for mixed precision. Predictions are in float32.
        callbacks: of skorch.
        verbose: 0 is silent, 1 shows a bar.

    There is no partial_fit: scaling and the held-out part are of the whole training set. `warm_start` goes on.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 8, 2))  # people, steps, columns
        >>> y = 100 + 20 * X[:, :, 0].mean(1)
        >>> model = rnam.RNAMRegressor(8, max_epochs=20, random_state=0, verbose=0).fit(X, y)
        >>> parts = model.contributions(X)
        >>> bool(np.allclose(parts.sum(axis=1) + model.intercept_, model.predict(X), atol=1e-3))
        True
    """

    def __init__(
        self, hidden: int = 16, *, blocks: int = 1, cell: CellName = "mingru", pairs: Pairs = None,
        timescales: tuple[float, float] | Literal["auto"] | None = "auto", continuous: bool | Literal["auto"] = "auto",
        timing: bool = False, members: int = 1, bootstrap: bool = True, loss: str | Callable[..., Any] = "auto",
        quantiles: Sequence[float] = (), regularizer: Mapping[str, float] | None = None,
        learning_rate: float = 0.01, weight_decay: float = 0.1, batch_size: int | Literal["auto"] = "auto",
        max_epochs: int = 20,
        schedule: Literal["onecycle", "plateau"] = "onecycle", patience: int | None = 15,
        validation: float | Literal["auto"] | None = 0.15, clip: float | None = 1.0, warm_start: bool = False,
        random_state: Any = None, device: str = "auto", precision: Literal["float32", "bf16"] = "float32",
        callbacks: Sequence[Any] | None = None, verbose: int = 1,
    ) -> None:  # fmt: skip
        self._keep(locals())


class NAMRegressor(Regressor, FeedForward):
    """Numbers by a neural additive model: each term reads one column of a row, or a pair.

    A Panel whose labels are of ids has one visit of each. With labels at visits each visit is a row by itself.

    Args:
        hidden: the widths of each term's network.
        Others: as `RNAMRegressor`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(1e6, 1e-3, size=(200, 2))
        >>> y = np.abs(X[:, 0] - 1e6)
        >>> rnam.NAMRegressor(max_epochs=30, random_state=0, verbose=0).fit(X, y).score(X, y) > 0.8
        True
    """

    def __init__(
        self, hidden: Sequence[int] = (64, 32), *, pairs: Pairs = None, members: int = 1, bootstrap: bool = True,
        loss: str | Callable[..., Any] = "auto", quantiles: Sequence[float] = (),
        regularizer: Mapping[str, float] | None = None,
        learning_rate: float = 0.01, weight_decay: float = 1.0, batch_size: int | Literal["auto"] = "auto",
        max_epochs: int = 40,
        schedule: Literal["onecycle", "plateau"] = "onecycle", patience: int | None = 15,
        validation: float | Literal["auto"] | None = "auto", clip: float | None = 1.0, warm_start: bool = False,
        random_state: Any = None, device: str = "auto", precision: Literal["float32", "bf16"] = "float32",
        callbacks: Sequence[Any] | None = None, verbose: int = 1,
    ) -> None:  # fmt: skip
        self._keep(locals())
