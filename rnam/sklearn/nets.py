"""The three estimators: skorch's nets, taught that a model gives a prediction and contributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import get_len, unpack_data
from skorch.helper import SliceDict
from skorch.utils import is_dataset, to_tensor
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rnam.sklearn import tables
from rnam.sklearn.columns import READ_BY_TERMS, ColumnsByName
from rnam.sklearn.weights import CARRIED, GROUPS, RESAMPLED, WEIGHT, carried, grouped_split, mean_weight

__all__ = ["AdditiveBinaryClassifier", "AdditiveClassifier", "AdditiveRegressor"]

Regularizer = Callable[[Tensor], Tensor]


class _Additive(ColumnsByName):
    """What the three estimators add to skorch's."""

    loss: type[nn.Module]  # the criterion unless another is given
    random_state: Any = None

    # Of each call of fit or partial_fit: the mean weight of a sample of the validation and of the training part, and
    # the rows of a full batch.
    mean_weight_: tuple[NDArray[np.float64], NDArray[np.float64]] = (np.ones(1), np.ones(1))
    batch_rows_: int | None = None

    def __init__(
        self,
        module: Any,
        *args: Any,
        criterion: Any = None,
        regularizer: Regularizer | None = None,
        criterion__reduction: str = "none",
        random_state: Any = None,
        **kwargs: Any,
    ) -> None:
        made: Any = super().__init__
        criterion = self.loss if criterion is None else criterion
        made(module, *args, criterion=criterion, criterion__reduction=criterion__reduction, **kwargs)
        self.regularizer = regularizer
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, resample: Any = None, groups: Any = None, **fit_params: Any
    ) -> Any:
        """skorch's fit. With `warm_start`, a second call goes on with the model and must have its columns and classes.

        Args:
            X: as the module `rnam.sklearn` says.
            y: (samples,) or (samples, targets).
            sample_weight: (samples,), at least 0, weighs the loss of training and of validation.
            resample: (samples,), who each sample belongs to, numbers or words: each member learns from a bootstrap
                sample of these people (`rnam.bootstrap_weights`), drawn once, from torch's random numbers.
            groups: (samples,), numbers or words: samples of one group stay together when the validation part is
                split off. The default is `resample`.

        Raises:
            TypeError, ValueError: a column of X is of words, dates or categories, or has missing values that the model
                cannot mask; no term reads it; y, weights, times or lengths are no numbers or missing; `sample_weight`,
                `resample` or `groups` is not one for each sample; labels, `resample` or `groups` are of several kinds;
                weights are negative or all 0; `resample` for a model without members; y has another number of targets
                or classes than the model has outputs, or with `warm_start` a label that the first y lacked; the
                parameters are not finite after the fit.
        """
        own: Any = self
        if not (own.warm_start and own.initialized_):
            self._forget()
        given = {"sample_weight": sample_weight, "resample": resample, "groups": groups}
        return super().fit(X, y, **given, **fit_params)  # type: ignore[misc]

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: Any = None,
        sample_weight: Any = None,
        resample: Any = None,
        groups: Any = None,
        **fit_params: Any,
    ) -> Any:
        """skorch's partial_fit: goes on with the model. The arguments are those of `fit`, and each call draws its own
        bootstrap sample. A classifier takes all `classes` at the first call, or those of its y."""
        own: Any = self
        if not own.initialized_:
            own.initialize()
        with self._seeded(), self._learning():
            if not is_dataset(X):
                X = self.checked(X, first="n_features_in_" not in vars(self))
                y = self._target(y, classes)
                beside = carried(get_len(X), self._members, sample_weight, resample, groups)
                if beside:
                    X = SliceDict(**(X if isinstance(X, Mapping) else {"input": X}), **beside)
            elif any(value is not None for value in (sample_weight, resample, groups)):
                raise ValueError("sample_weight, resample and groups must be None for a Dataset")
            self._name_terms()
            self.training_ = True
            try:
                super().partial_fit(X, y, classes, **fit_params)  # type: ignore[misc]
            finally:
                del self.training_
        for name, parameter in own.module_.named_parameters():
            if not torch.isfinite(parameter).all():
                raise ValueError(
                    f"the fit diverged: the module's {name} holds NaN or infinity. Scaled columns and targets or a "
                    "smaller lr may help"
                )
        return self

    def initialize(self) -> Any:
        """skorch's initialize. The parameters are drawn from `random_state`, where it is given."""
        vars(self).pop("rng_", None)
        with self._seeded():
            return super().initialize()  # type: ignore[misc]

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """torch's random numbers from `random_state`; its own state is left as it was."""
        if self.random_state is None:
            yield
            return
        own: Any = self
        if "rng_" not in vars(self):
            self.rng_ = check_random_state(self.random_state)
        with torch.random.fork_rng([own.device] if str(own.device).startswith("cuda") else []):
            torch.manual_seed(int(self.rng_.randint(2**31 - 1)))
            yield

    def __getstate__(self) -> Any:
        """A checkpoint that a callback writes is of a net that does not train."""
        state: Any = super().__getstate__()
        state.pop("training_", None)
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__({"random_state": None, **state})  # type: ignore[misc]  # one of 0.2 has none

    @property
    def _members(self) -> int:
        return int(getattr(self._model, "members", 1))

    def _target(self, y: Any, classes: Any) -> Any:
        """y as an array of finite numbers."""
        if y is None:
            return self._no_target()
        array = tables.table("y", y, ensure_2d=False, estimator=self)
        largest = max(self._largest, torch.finfo(torch.float32).max)  # predictions in half precision are float32
        tables.refuse_missing("y", array, ~tables.there(array, largest), tables.names(y))
        return array

    def _no_target(self) -> None:
        """Raises ValueError unless the batches come with a y of their own."""
        own: Any = self
        if own.iterator_train is DataLoader:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        if is_dataset(X):
            return X
        y = y.to_numpy(copy=True) if hasattr(y, "to_numpy") else y
        return super().get_dataset(self.checked(X), y)  # type: ignore[misc]

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """skorch's training and validation part, of whole groups where there are groups."""
        own: Any = self
        groups = X[GROUPS] if isinstance(X, Mapping) and GROUPS in X else None
        if groups is not None:
            X = SliceDict(**{name: value for name, value in X.items() if name != GROUPS})
        if groups is None or not own.train_split:
            training, validation = super().get_split_datasets(X, y, **fit_params)  # type: ignore[misc]
        else:
            training, validation = grouped_split(own.train_split, self.get_dataset(X, y), y, groups)
        weights = mean_weight("training", training, WEIGHT, RESAMPLED)
        of_validation = np.ones(1) if validation is None else mean_weight("validation", validation, WEIGHT)
        self.mean_weight_ = of_validation, weights
        size = getattr(own.get_iterator(training, training=True), "batch_size", None)
        self.batch_rows_ = None if size is None else min(size, len(training))
        return training, validation

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """skorch's predict_proba, on which predict stands. Warns where a prediction is NaN or infinite."""
        predicted = np.asarray(super().predict_proba(X))  # type: ignore[misc]
        if not self.training_:
            tables.warn_of_overflow(predicted)
        return predicted

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """(prediction, contributions); what the terms read comes to the model in its dtype, since NumPy has float64."""
        given = dict(x) if isinstance(x, Mapping) else {"input": x}
        given = {name: value for name, value in given.items() if name not in CARRIED}
        own: Any = self
        like = next(own.module_.parameters())
        tensors = {name: to_tensor(value, device=own.device) for name, value in given.items()}
        cast = {name: value.to(like.dtype) if _read_by_terms(name, value) else value for name, value in tensors.items()}
        read = cast if isinstance(x, Mapping) else cast["input"]
        if own.module_.training and self._members > 1:
            # past the classifier's own, which takes (batch, 1) alone
            output = NeuralNet.infer(own, read, return_members=True, **fit_params)
        else:
            output = super().infer(read, **fit_params)  # type: ignore[misc]
        # skorch rebuilds tuples from their items, which a named one does not take, and NumPy has no bfloat16
        return tuple(part.float() if part.itemsize == 2 else part for part in output)

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """skorch's step. The history has the mean loss of the batch, so that the mean over batches is that of all."""
        step = super().train_step(batch, **fit_params)  # type: ignore[misc]
        return step | {"loss": step["loss"] / self._share(get_len(unpack_data(batch)[0]))}

    def _share(self, rows: int) -> float:
        """What a batch of so many rows counts for: without it, the rows of a last, short one would count for more."""
        return 1.0 if self.batch_rows_ is None else rows / self.batch_rows_

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """The criterion weighted by sample, divided by the mean weight of the part and by the rows of a full batch.

        In training it is the sum over the members, and what `regularizer` makes of the contributions is added.
        """
        own: Any = self
        prediction, contributions = y_pred
        target = to_tensor(y_true, device=own.device)
        members = self._members if training else 1
        if members > 1:
            prediction = prediction.flatten(0, 1)
            target = target.repeat(members, *(1,) * (target.dim() - 1))
        if not isinstance(self, NeuralNetClassifier):
            if target.numel() != prediction.numel():
                outputs, own_targets = prediction.shape[1:].numel(), target.shape[1:].numel()
                raise ValueError(f"y must have {outputs} targets a sample as the model has outputs, got {own_targets}")
            target = target.to(prediction.dtype).reshape(prediction.shape)
        losses: Tensor = own.criterion_(prediction, target)
        if losses.dim() == 0 or losses.shape[0] != prediction.shape[0]:
            raise ValueError(f"criterion must give one loss a sample (reduction='none'), got {tuple(losses.shape)}")
        losses = losses.flatten(1).mean(1) if losses.dim() > 1 else losses
        losses = torch.unflatten(losses, 0, (members, -1))
        # a member that has none of the training part's people learns nothing: 0 / 1
        mean = torch.as_tensor(self.mean_weight_[training])[:, None]
        relative = 1 / torch.where(mean > 0, mean, 1)
        for name in (WEIGHT, RESAMPLED) if training else (WEIGHT,):
            given = X.get(name) if isinstance(X, Mapping) else None
            if given is not None:
                relative = relative * to_tensor(given, device="cpu").movedim(0, -1)
        # in float64 up to here, since float32 may hold neither the weights nor their mean
        loss = (losses * relative.to(losses)).mean(1).sum()
        if not training:
            return loss
        if own.regularizer is not None:
            loss = loss + own.regularizer(contributions)
        return loss * self._share(losses.shape[1])


def _read_by_terms(name: str, value: Tensor) -> bool:
    """Not times: differences of large ones lose digits in a narrower dtype."""
    return name in READ_BY_TERMS or (name != "times" and value.is_floating_point())


class AdditiveRegressor(_Additive, NeuralNetRegressor):  # type: ignore[misc]
    """skorch.NeuralNetRegressor for an additive model of one or several targets.

    Args:
        module: a model whose forward gives (prediction, contributions), such as `rnam.RNAM`, or one that is made.
        criterion: a loss with one value a sample, made with reduction="none".
        regularizer: a function of the contributions (of all members, where there are several) that is added to the
            loss in training, such as functools.partial of `rnam.regularizers.concurvity` times a number; None adds
            nothing.
        random_state: an int or a numpy.random.RandomState, from which parameters, batches, dropout and bootstrap
            samples are drawn, so that two fits are alike. None takes torch's random numbers as they come.
        kwargs: skorch's.

    y is (samples,) or (samples, targets); predict gives (samples,) or (samples, targets).

    Example:
        >>> X, y = torch.randn(64, 3).numpy(), torch.randn(64).numpy()
        >>> net = AdditiveRegressor(rnam.NAM, module__terms=3, max_epochs=2, verbose=0, random_state=0)
        >>> net.fit(X, y, sample_weight=[1.0, 2.0] * 32).predict(X).shape
        (64,)
    """

    loss = nn.MSELoss

    def predict(self, X: Any) -> NDArray[Any]:
        """(samples,) of one target, (samples, targets) of several."""
        predicted = np.asarray(super().predict(X))
        return predicted[:, 0] if predicted.ndim == 2 and predicted.shape[1] == 1 else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _Classifier(_Additive):
    """What the two classifiers have in common: labels of any kind as numbers of classes, and back.

    While skorch trains, `classes_` and predict are numbers, since its callbacks compare them with the y of a batch.
    """

    def _target(self, y: Any, classes: Any) -> Any:
        """y as the numbers of its classes."""
        if y is None:
            return self._no_target()
        array = column_or_1d(tables.labels(y), warn=True)
        assert_all_finite(array, input_name="y")
        check_classification_targets(array)
        if not hasattr(self, "label_encoder_"):
            listed = getattr(self, "classes", None) if classes is None else classes
            encoder = LabelEncoder().fit(array if listed is None or not len(listed) else tables.labels(listed))
            self._check_classes(encoder.classes_)
            self.label_encoder_ = encoder
        known = self.label_encoder_.classes_.tolist()
        unseen = [label for label in np.unique(array).tolist() if label not in known]
        if unseen:
            raise ValueError(f"y contains previously unseen labels: {unseen} are not among the classes {known}")
        return self.label_encoder_.transform(array)

    def _check_classes(self, classes: NDArray[Any]) -> None:
        """Raises ValueError if the estimator cannot tell so many classes apart."""

    @property
    def classes_(self) -> Any:
        if not hasattr(self, "label_encoder_"):
            return super().classes_  # type: ignore[misc]
        known = self.label_encoder_.classes_
        return np.arange(len(known)) if self.training_ else known

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of the likeliest class of each sample."""
        numbers = np.asarray(super().predict(X))  # type: ignore[misc]
        if self.training_ or not hasattr(self, "label_encoder_"):
            return numbers
        return np.asarray(self.label_encoder_.classes_[numbers])


class AdditiveClassifier(_Classifier, NeuralNetClassifier):  # type: ignore[misc]
    """skorch.NeuralNetClassifier for an additive model with one output (logit) for each class.

    y holds labels of any kind, of which `classes_` is the sorted list; output k is that of class k.

    Args:
        module, regularizer, random_state, kwargs: as for `AdditiveRegressor`.
        criterion: a loss of logits with one value a sample.
        classes: all labels, where y may lack some, as the folds of a cross-validation do.
    """

    loss = nn.CrossEntropyLoss

    def _output_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.label_encoder_.classes_))

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        outputs = y_pred[0].shape[-1]
        if hasattr(self, "label_encoder_") and len(self.label_encoder_.classes_) != outputs:
            raise ValueError(
                f"y must have {outputs} classes as the model has outputs, got {len(self.label_encoder_.classes_)}: "
                f"{', '.join(map(str, self.label_encoder_.classes_))}. Where y lacks some, give all as classes=[...]"
            )
        return super().get_loss(y_pred, y_true, X, training)


class AdditiveBinaryClassifier(_Classifier, NeuralNetBinaryClassifier):  # type: ignore[misc]
    """skorch.NeuralNetBinaryClassifier for an additive model with one output, the log-odds of the second class.

    y holds two labels of any kind, such as 0 and 1, -1 and 1 or words, of which `classes_` is the sorted list.

    Args:
        module, regularizer, random_state, kwargs: as for `AdditiveRegressor`.
        criterion: a loss of log-odds with one value a sample.
    """

    loss = nn.BCEWithLogitsLoss

    def _check_classes(self, classes: NDArray[Any]) -> None:
        if len(classes) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: "
                f"y must have two classes, got {', '.join(map(str, classes))}"
            )
        if len(classes) < 2:
            raise ValueError(f"y must have two classes, got one class: {classes[0]}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
