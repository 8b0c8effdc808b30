"""`RNAMClassifier` and `NAMClassifier`: additive models of classes, over time and of single rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from rnam import _checks
from rnam.estimators import labels, tables
from rnam.estimators.base import Estimator, Pairs
from rnam.estimators.labels import Targets
from rnam.estimators.losses import Loss
from rnam.estimators.networks import FeedForward, Recurrent
from rnam.estimators.samples import Sample
from rnam.models.block import CellName

__all__ = ["Classifier", "NAMClassifier", "RNAMClassifier"]

Array = NDArray[Any]


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """The part that the classifiers share.

    Attributes:
        classes_: sorted.
    """

    _saved: ClassVar[tuple[str, ...]] = ("classes_",)

    class_weight: Mapping[Any, float] | Literal["balanced"] | None

    classes_: Array

    @property
    def _classes(self) -> tuple[Any, ...]:
        return tuple(self.classes_)

    def _read_targets(self, found: Targets, first: bool) -> Targets:
        coded, classes = labels.of_classes(found, None if first else self.classes_)
        if first:
            self.classes_ = classes
        return coded

    def _fit_loss(self, target: Array, weight: Array | None) -> Loss:
        return Loss.fit(self.loss, target, weight, classes=len(self.classes_))

    def _label_weight(self, target: Array) -> Array | None:
        given = self.class_weight
        if given is None or (isinstance(given, str) and given == "balanced"):
            return None
        if not isinstance(given, Mapping):
            raise ValueError(f"class_weight must be None, 'balanced' or a dict of weights by class, got {given!r}")
        weight = np.ones(len(self.classes_))
        for level, own in given.items():
            found = np.flatnonzero([bool(known == level) for known in self.classes_.tolist()])
            if not len(found):
                raise ValueError(f"class_weight must name classes of {self.classes_.tolist()}, got {level!r}")
            weight[found] = _checks.finite_number(f"class_weight[{level!r}]", own)
            if own < 0:
                raise ValueError(f"class_weight[{level!r}] must be at least 0, got {own}")
        return np.asarray(weight[target])

    def _balanced(self, training: Sample, held_out: Sample | None) -> tuple[Sample, Sample | None]:
        if self.class_weight != "balanced":
            return training, held_out
        target = training.target[training.labelled]
        held = np.bincount(target, minlength=len(self.classes_))
        weight = len(target) / (np.count_nonzero(held) * held.clip(min=1))
        if held_out is not None:
            held_out = held_out.weighed(weight[held_out.target[held_out.labelled]])
        return training.weighed(weight[target]), held_out

    def _told(self, outputs: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[Array, None]:
        return self.classes_[self.loss_.predict(outputs)][:, None], None

    def predict(self, X: Any) -> Any:
        """The most probable class of each id, or of each visit where labels are of visits.

        Args:
            X: as in `fit`, with the columns of the fit. With a model that was fitted to a Panel a DataFrame is read as
                the panel was.

        Returns:
            Of a Panel and of a frame with an (id, time) index a Series whose index is the ids, or (id, time), in the
            order of the panel; else an array (n,), with labels at steps (n, T) with None at padding.
        """
        table, found = self._predicted(X)
        return self._answer(table, *self._told(found, self._times(table)))

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, in the order of `classes_`: a DataFrame with these as columns, or an array
        (n, classes), with labels at steps (n, T, classes)."""
        table, found = self._predicted(X)
        return self._answer(table, self.loss_.predict_proba(found), tuple(self.classes_))

    def decision_function(self, X: Any) -> Any:
        """The sum of contributions and intercept: of two classes the log odds of the second one, (n,); of more one
        score for each class, (n, classes)."""
        table, found = self._predicted(X)
        return self._answer(table, self.loss_.decision(found), None if found.shape[1] == 1 else tuple(self.classes_))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of labels that are predicted. Without y the target of the panel; where there is no label, there is
        nothing to predict."""
        check_is_fitted(self)
        table = tables.read(self, X, y)
        found = self._known_labels("y", table)
        told, there = self._outputs(self.encoder_.transform(table.panel)), found.labelled
        weight = labels.weight_of(sample_weight, table, found)
        truth = labels.codes(labels.classes_of(found), self.classes_)
        predicted = self.loss_.predict(told[there])
        return float(accuracy_score(truth, predicted, sample_weight=None if weight is None else weight[there]))


class RNAMClassifier(Classifier, Recurrent):
    """Classes by a recurrent neural additive model: each term reads the history of one column, or of a pair.

    X of two dimensions is one step a row: there is no history, and `NAMClassifier` does the same with less.

    Args:
        class_weight: {class: weight}, "balanced" for weights that make the classes of the training part count alike, or
            None.
        Others: as `RNAMRegressor`; loss is "auto", "logistic" (two classes), "cross_entropy", or a callable.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 8, 2))  # people, steps, columns
        >>> y = np.where(X[:, :, 0].mean(1) > 0, "up", "down")
        >>> model = rnam.RNAMClassifier(8, max_epochs=20, random_state=0, verbose=0).fit(X, y)
        >>> model.predict(X[:3]).shape, model.classes_
        ((3,), array(['down', 'up'], dtype='<U4'))
    """

    def __init__(
        self, hidden: int = 16, *, blocks: int = 1, cell: CellName = "mingru", pairs: Pairs = None,
        timescales: tuple[float, float] | Literal["auto"] | None = "auto", continuous: bool | Literal["auto"] = "auto",
        timing: bool = False, members: int = 1, bootstrap: bool = True, loss: str | Callable[..., Any] = "auto",
        regularizer: Mapping[str, float] | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        learning_rate: float = 0.01, weight_decay: float = 0.1, batch_size: int | Literal["auto"] = "auto",
        max_epochs: int = 20,
        schedule: Literal["onecycle", "plateau"] = "onecycle", patience: int | None = 15,
        validation: float | Literal["auto"] | None = 0.15, clip: float | None = 1.0, warm_start: bool = False,
        random_state: Any = None, device: str = "auto", precision: Literal["float32", "bf16"] = "float32",
        callbacks: Sequence[Any] | None = None, verbose: int = 1,
    ) -> None:  # fmt: skip
        self._keep(locals())


class NAMClassifier(Classifier, FeedForward):
    """Classes by a neural additive model: each term reads one column of a row, or a pair.

    A Panel whose labels are of ids has one visit of each. With labels at visits each visit is a row by itself.

    Args:
        class_weight: as `RNAMClassifier`.
        Others: as `NAMRegressor`; loss as `RNAMClassifier`.

    Example:
        >>> import pandas
        >>> rng = np.random.default_rng(0)
        >>> X = pandas.DataFrame({"age": rng.normal(50, 9, 200), "ward": rng.choice(["a", "b"], 200)})
        >>> y = (X["age"] > 50) ^ (X["ward"] == "b")
        >>> model = rnam.NAMClassifier(pairs=[("age", "ward")], max_epochs=20, random_state=0, verbose=0).fit(X, y)
        >>> model.contributions(X).columns.tolist()
        ['age', 'ward', 'age & ward']
    """

    def __init__(
        self, hidden: Sequence[int] = (64, 32), *, pairs: Pairs = None, members: int = 1, bootstrap: bool = True,
        loss: str | Callable[..., Any] = "auto", regularizer: Mapping[str, float] | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        learning_rate: float = 0.01, weight_decay: float = 1.0, batch_size: int | Literal["auto"] = "auto",
        max_epochs: int = 40,
        schedule: Literal["onecycle", "plateau"] = "onecycle", patience: int | None = 15,
        validation: float | Literal["auto"] | None = "auto", clip: float | None = 1.0, warm_start: bool = False,
        random_state: Any = None, device: str = "auto", precision: Literal["float32", "bf16"] = "float32",
        callbacks: Sequence[Any] | None = None, verbose: int = 1,
    ) -> None:  # fmt: skip
        self._keep(locals())
