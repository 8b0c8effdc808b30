"""The three estimators: skorch's nets, taught that a model gives a prediction and contributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import get_len, unpack_data
from skorch.helper import SliceDict
from skorch.utils import is_dataset, to_tensor
from torch import Tensor, nn

from rnam.sklearn.weights import CARRIED, GROUPS, RESAMPLED, WEIGHT, carried, grouped_split, mean_weight

__all__ = ["AdditiveBinaryClassifier", "AdditiveClassifier", "AdditiveRegressor"]

Regularizer = Callable[[Tensor], Tensor]


class _Additive:
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
        """skorch's fit.

        Args:
            sample_weight: (samples,), at least 0, weighs the loss of training and of validation.
            resample: (samples,), who each sample belongs to, numbers or words: each member learns from a bootstrap
                sample of these people (`rnam.bootstrap_weights`), drawn once, from torch's random numbers.
            groups: (samples,), numbers or words: samples of one group stay together when the validation part is
                split off. The default is `resample`.

        Raises:
            TypeError: `sample_weight` is not of numbers.
            ValueError: `sample_weight`, `resample` or `groups` is not one for each sample; weights are negative, not
                finite, or all 0 in one part; `resample` for a model without members; y has another number of targets
                than the model.
        """
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
        """skorch's partial_fit; the arguments are those of `fit`, and each call draws its own bootstrap sample."""
        own: Any = self
        if not own.initialized_:
            own.initialize()
        with self._seeded():
            if not is_dataset(X):
                beside = carried(get_len(X), self._members, sample_weight, resample, groups)
                if beside:
                    X = SliceDict(**(X if isinstance(X, Mapping) else {"input": _no_frame(X)}), **beside)
            elif any(value is not None for value in (sample_weight, resample, groups)):
                raise ValueError("sample_weight, resample and groups must be None for a Dataset")
            return super().partial_fit(X, y, classes, **fit_params)  # type: ignore[misc]

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

    def __setstate__(self, state: Any) -> None:
        super().__setstate__({"random_state": None, **state})  # type: ignore[misc]  # one of 0.2 has none

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        return super().get_dataset(_no_frame(X), _no_frame(y))  # type: ignore[misc]

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
        for name in (WEIGHT, RESAMPLED) if training else (WEIGHT,):
            given = X.get(name) if isinstance(X, Mapping) else None
            if given is not None:
                losses = losses * to_tensor(given, device=own.device).to(losses.dtype).movedim(0, -1)
        # a member that has none of the training part's people learns nothing: 0 / 1
        mean = self.mean_weight_[training]
        loss = (losses.mean(1) / losses.new_tensor(np.where(mean > 0, mean, 1))).sum()
        if not training:
            return loss
        if own.regularizer is not None:
            loss = loss + own.regularizer(contributions)
        return loss * self._share(losses.shape[1])

    @property
    def _members(self) -> int:
        own: Any = self
        return int(getattr(own.module_, "members", 1))


def _no_frame(value: Any) -> Any:
    """A pandas frame or series as an array: of a frame, skorch would make each column an argument of its name."""
    return value.to_numpy(copy=True) if hasattr(value, "to_numpy") else value


def _read_by_terms(name: str, value: Tensor) -> bool:
    """Not times: differences of large ones lose digits in a narrower dtype."""
    return name in ("input", "static") or (name != "times" and value.is_floating_point())


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


class AdditiveClassifier(_Additive, NeuralNetClassifier):  # type: ignore[misc]
    """skorch.NeuralNetClassifier for an additive model with one output (logit) for each class.

    y holds the numbers of the classes, from 0; names go through sklearn.preprocessing.LabelEncoder.

    Args:
        module, regularizer, random_state, kwargs: as for `AdditiveRegressor`.
        criterion: a loss of logits with one value a sample.
    """

    loss = nn.CrossEntropyLoss


class AdditiveBinaryClassifier(_Additive, NeuralNetBinaryClassifier):  # type: ignore[misc]
    """skorch.NeuralNetBinaryClassifier for an additive model with one output, the log-odds of class 1.

    y holds 0 and 1.

    Args:
        module, regularizer, random_state, kwargs: as for `AdditiveRegressor`.
        criterion: a loss of log-odds with one value a sample.
    """

    loss = nn.BCEWithLogitsLoss
