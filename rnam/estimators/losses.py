"""`Loss`: what a model is trained on, and what its outputs say in the units of y."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rnam import _checks
from rnam._checks import shown

__all__ = ["CLASSIFICATION", "REGRESSION", "Criterion", "Loss"]

Floats = NDArray[np.float64]
Criterion = Callable[[Tensor, Tensor], Tensor]

REGRESSION = ("squared", "absolute", "huber", "quantile", "poisson", "gaussian")
CLASSIFICATION = ("logistic", "cross_entropy")
OWN = "criterion"  # the name of a callable

_MEDIAN = ("absolute", "huber", "quantile")  # centred at the median, which long tails do not move
_HUBER = 1.345  # in standard deviations: 95% of the efficiency of the mean where errors are normal (Huber 1981)
_LOG_VARIANCE = -14.0  # the least that is told apart, of y of variance 1: a millionth
_OF_ERRORS: dict[str, Callable[..., Tensor]] = {
    "squared": F.mse_loss,
    "absolute": F.l1_loss,
    "huber": partial(F.huber_loss, delta=_HUBER),
}
_LINKS = {"poisson": "log", "logistic": "logit", "cross_entropy": "softmax"}


@dataclass(frozen=True)
class Loss:
    """A loss by name, with the centre and the scale of the labels that it was fitted to.

    A model learns scaled labels, and its output o says o * gain + offset in the units of y, on the scale of the link.
    With s = o * scale + centre, and m the mean of y:

    | name | loss of a label | labels are scaled by | outputs |
    |---|---|---|---|
    | squared | (y - s)^2 / scale^2 | mean, standard deviation | a target each |
    | absolute | abs(y - s) / scale | median, spread | a target each |
    | huber | Huber's, quadratic up to 1.345 scales | median, spread | a target each |
    | quantile | (q - [y < s]) (y - s) / scale, the mean over q | median, spread | a quantile of a target each |
    | poisson | exp(o) - o y / m | m alone | the log of the rate, a target each |
    | gaussian | -log of the normal density of (y - centre) / scale | mean, standard deviation | means, log variances |
    | logistic | -log of the probability | not | the log odds of the second class |
    | cross_entropy | -log of the probability | not | a class each |
    | a callable | criterion(prediction, y) | not | a target or class each; one of two classes |

    The spread is the mean distance from the median times sqrt(pi / 2), which is the standard deviation where y is
    normal. Several targets are scaled each by its own, and their losses are averaged.

    Attributes:
        name: one of these, "criterion" where it is a callable.
        targets: the number of columns of y.
        classes: the number of classes, 0 for a regression.
        quantiles: those of "quantile"; of each target all of them, one after the other.
        out_dim: the number of outputs of the model.
        start: (out_dim,), the constant outputs of least loss (of huber the median): where the bias of a model starts.
        centre, scale: (targets,), of y.
        criterion: the callable: (prediction (labels, out_dim), y (labels, targets)) -> a loss for each label
            (labels,). y is not scaled, nor is what the model gives. Of classes y is (labels,): 0.0 and 1.0 of two, with
            prediction (labels,), and int64 codes of several.

    Example:
        >>> loss = Loss.fit("squared", np.array([10.0, 20.0, 30.0]))
        >>> loss.predict(np.array([[0.0], [1.0]]))[:, 0].round(2)
        array([20.  , 28.16])
    """

    name: str
    targets: int
    classes: int
    quantiles: tuple[float, ...]
    out_dim: int
    start: tuple[float, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    criterion: Criterion | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        loss: str | Criterion,
        target: Any,
        weight: Any = None,
        *,
        classes: int = 0,
        quantiles: Sequence[float] = (),
    ) -> Self:
        """The loss for these labels, which are those of the training part alone.

        Args:
            loss: a name, "auto" (squared; logistic of two classes, cross_entropy of more) or a callable.
            target: (labels,) or (labels, targets) in the units of y; of classes their codes, integers (labels,).
            weight: (labels,), at least 0; ones by default.
            classes: the number of classes, 0 for a regression.
            quantiles: for "quantile", each between 0 and 1.

        Raises:
            TypeError: loss is neither str nor callable; quantiles are no list of numbers.
            ValueError: loss is none of the names, or none for this kind of y; quantiles are missing, out of range, one
                comes twice, or they are given to another loss; y is negative or 0 everywhere for "poisson"; all weights
                are 0.
        """
        name = _name(loss, classes)
        shares = _quantiles(name, quantiles)
        y = np.asarray(target, np.float64)
        y = y.reshape(len(y), -1)
        w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
        if not w.sum() > 0:
            raise ValueError("sample_weight must not be zero for all labels of the training part")
        w = w / w.sum()
        _refuse_negative(name, y)
        centre, scale = _units(name, y, w)
        targets = y.shape[1]
        outputs = targets
        if classes > 2 or name == "cross_entropy":
            outputs = classes
        elif name in ("quantile", "gaussian"):
            outputs = targets * (len(shares) if name == "quantile" else 2)
        criterion = loss if callable(loss) else None
        made = cls(name, targets, classes, shares, outputs, (0.0,) * outputs, centre, scale, criterion)
        start = tuple(map(float, _start(made, y, w)))
        return cls(name, targets, classes, shares, outputs, start, centre, scale, criterion)

    @property
    def link(self) -> str:
        """The scale on which terms add: "identity", "log", "logit" or "softmax"."""
        if self.name == OWN and self.classes:
            return "logit" if self.out_dim == 1 else "softmax"
        return _LINKS.get(self.name, "identity")

    @property
    def gain(self) -> tuple[float, ...]:
        """(out_dim,): a contribution times this is one in the units of y, on the scale of the link."""
        if self.name == "poisson" or self.classes:
            return (1.0,) * self.out_dim
        if self.name == "gaussian":
            return (*self.scale, *(1.0,) * self.targets)
        return tuple(np.repeat(self.scale, self.out_dim // self.targets).tolist())

    @property
    def offset(self) -> tuple[float, ...]:
        """(out_dim,): what the bias times `gain` lacks."""
        if self.classes:
            return (0.0,) * self.out_dim
        if self.name == "poisson":
            return tuple(math.log(scale) for scale in self.scale)
        if self.name == "gaussian":
            return (*self.centre, *(2 * math.log(scale) for scale in self.scale))
        return tuple(np.repeat(self.centre, self.out_dim // self.targets).tolist())

    def scaled(self, target: Any) -> Tensor:
        """y as `__call__` takes it, float32 (labels, targets), of classes (labels,): float32 of two, int64 of more.

        Raises:
            ValueError: y is negative for "poisson".
        """
        if self.classes:
            codes = torch.from_numpy(np.ascontiguousarray(target, np.int64))
            return codes if self.link == "softmax" else codes.float()
        y = np.asarray(target, np.float64)
        _refuse_negative(self.name, y)
        y = (y.reshape(len(y), -1) - self.centre) / self.scale
        return torch.from_numpy(np.ascontiguousarray(y, np.float32))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each label.

        Args:
            prediction: (..., labels, out_dim), of a model or of each member of one.
            target: as `scaled` gives it.

        Returns:
            (..., labels).

        Raises:
            ValueError: a criterion of one's own gives no loss for each label.
        """
        if self.criterion is not None:
            return self._own(self.criterion, prediction, target)
        if self.name == "cross_entropy":
            return -prediction.log_softmax(-1).gather(-1, _like(target, prediction)).squeeze(-1)
        if self.name == "logistic":
            o = prediction.squeeze(-1)
            return F.binary_cross_entropy_with_logits(o, target.expand_as(o), reduction="none")
        losses: Tensor
        if self.name == "gaussian":
            mean, log_variance = prediction.chunk(2, dim=-1)
            log_variance = log_variance.clamp(min=_LOG_VARIANCE)
            square = (target - mean).square() * (-log_variance).exp()
            losses = 0.5 * (square + log_variance + math.log(2 * math.pi))
        elif self.name == "poisson":
            losses = prediction.exp() - target * prediction
        elif self.name == "quantile":
            q = torch.tensor(self.quantiles, dtype=prediction.dtype, device=prediction.device)
            over = target[..., None] - torch.unflatten(prediction, -1, (self.targets, -1))
            losses = torch.maximum(q * over, (q - 1) * over).flatten(-2)
        else:
            losses = _OF_ERRORS[self.name](prediction, target.expand_as(prediction), reduction="none")
        return losses.squeeze(-1) if losses.shape[-1] == 1 else losses.mean(-1)

    def _own(self, criterion: Criterion, prediction: Tensor, target: Tensor) -> Tensor:
        flat = prediction.flatten(0, -2)
        given = flat.squeeze(-1) if self.classes and self.out_dim == 1 else flat
        times = flat.shape[0] // max(len(target), 1)
        losses = criterion(given, target.repeat(times, *(1,) * (target.dim() - 1)))
        if not isinstance(losses, Tensor) or losses.shape != flat.shape[:1]:
            got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(f"loss must give one number for each label, {tuple(flat.shape[:1])}, got {got}")
        return losses.reshape(prediction.shape[:-1])

    def decision(self, output: Any) -> Floats:
        """The model's outputs (rows, out_dim), in the units of y on the scale of the link."""
        return np.asarray(output, np.float64) * self.gain + self.offset

    def predict(self, output: Any) -> NDArray[Any]:
        """The prediction of outputs (rows, out_dim): float64 (rows, targets), of quantiles (rows, targets * quantiles),
        of a Gaussian the mean; of classes the code of the most probable one, int64 (rows,)."""
        if self.classes:
            return np.asarray(self.predict_proba(output).argmax(1), np.int64)
        decision = self.decision(output)
        if self.link == "log":
            return np.exp(decision)
        return decision[:, : self.targets] if self.name == "gaussian" else decision

    def predict_proba(self, output: Any) -> Floats:
        """The probability of each class, float64 (rows, classes)."""
        decision = torch.from_numpy(self.decision(output))
        if self.link == "softmax":
            return decision.softmax(1).numpy()
        return torch.cat([(-decision).sigmoid(), decision.sigmoid()], 1).numpy()

    def deviation(self, output: Any) -> Floats:
        """The standard deviation that "gaussian" predicts, float64 (rows, targets), in the units of y."""
        if self.name != "gaussian":
            raise ValueError(f"loss must be 'gaussian' to tell a standard deviation, got {self.name!r}")
        least = _LOG_VARIANCE + 2 * np.log(self.scale)
        return np.asarray(np.exp(0.5 * np.maximum(self.decision(output)[:, self.targets :], least)))

    def output_names(self, targets: Sequence[str], classes: Sequence[str] = ()) -> list[str]:
        """A name for each output of the model."""
        if self.classes:
            return [str(classes[-1])] if self.out_dim == 1 else [str(name) for name in classes]
        named = [str(name) for name in targets]
        if self.name == "quantile":
            return [f"{name} at {shown(q)}" for name in named for q in self.quantiles]
        if self.name == "gaussian":
            return named + [f"log variance of {name}" for name in named]
        return named

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them, but for `criterion`."""
        found = {own.name: getattr(self, own.name) for own in fields(self) if own.name != "criterion"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any], criterion: Criterion | None = None) -> Self:
        """The loss that `to_dict` told of. One of one's own comes with its criterion, or predicts alone."""
        found: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in told.items()}
        return cls(**found, criterion=criterion)


def _name(loss: str | Criterion, classes: int) -> str:
    if not isinstance(loss, str):
        if not callable(loss):
            raise TypeError(f"loss must be a str or a callable, got {type(loss).__name__}")
        return OWN
    if loss == "auto":
        return "squared" if not classes else "logistic" if classes <= 2 else "cross_entropy"
    _checks.one_of("loss", loss, ("auto", *(CLASSIFICATION if classes else REGRESSION)))
    if loss == "logistic" and classes > 2:
        raise ValueError(f"loss must be 'cross_entropy' for {classes} classes, got 'logistic'")
    return loss


def _refuse_negative(name: str, y: Floats) -> None:
    if name == "poisson" and (y < 0).any():
        raise ValueError(f"y must be at least 0 for loss='poisson', got {shown(y.min())}")


def _quantiles(name: str, quantiles: Sequence[float]) -> tuple[float, ...]:
    if isinstance(quantiles, str) or not isinstance(quantiles, Sequence | np.ndarray):
        raise TypeError(f"quantiles must be a list of numbers, got {quantiles!r}")
    if name != "quantile":
        if len(quantiles):
            raise ValueError(f"quantiles must be empty for loss={name!r}, got {tuple(quantiles)}")
        return ()
    found = tuple(_checks.real_number(f"quantiles[{n}]", q) for n, q in enumerate(quantiles))
    if len(set(found)) < len(found):
        raise ValueError(f"quantiles must be different, got {found}")
    if not found or not all(0 < q < 1 for q in found):
        raise ValueError(f"quantiles must be one or more numbers between 0 and 1 for loss='quantile', got {found}")
    return found


def _units(name: str, y: Floats, w: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The centre and the scale of each target; a constant has scale 1."""
    targets = y.shape[1]
    if name in (OWN, *CLASSIFICATION):
        return (0.0,) * targets, (1.0,) * targets
    mean = w @ y
    if name == "poisson":
        if not (mean > 0).all():
            at = int((mean > 0).argmin())
            of = f" of target {at}" if targets > 1 else ""
            raise ValueError(f"y must be above 0 somewhere for loss='poisson', got 0 for all labels{of}")
        return (0.0,) * targets, tuple(mean.tolist())
    if name in _MEDIAN:
        centre = np.array([_quantile(column, w, 0.5) for column in y.T])
        scale = math.sqrt(math.pi / 2) * (w @ np.abs(y - centre))
    else:
        # halved or doubled to be near 1, where no square overflows
        exponent = np.frexp(np.abs(y - mean).max(0))[1]
        centre, scale = mean, np.ldexp(np.sqrt(w @ np.ldexp(y - mean, -exponent) ** 2), exponent)
    # the deviations of a constant are the rounding of its mean
    constant = ~(scale > 4 * np.finfo(np.float64).eps * np.abs(centre))
    return tuple(centre.tolist()), tuple(np.where(constant, 1.0, scale).tolist())


def _start(loss: Loss, y: Floats, w: Floats) -> Floats:
    """The constant outputs of least loss, of labels with weights whose sum is 1."""
    if loss.classes and loss.name != OWN:
        # half a label more or less keeps the log odds of a class that is alone finite
        least = 0.5 / len(y)
        share = np.bincount(y[:, 0].astype(np.int64), w, max(loss.classes, 2)).clip(least, 1 - least)
        odds = share if loss.link == "softmax" else share[1:] / (1 - share[1:])
        return np.asarray(np.log(odds), np.float64)
    if loss.name == "quantile":
        z = (y - loss.centre) / loss.scale
        return np.array([_quantile(column, w, q) for column in z.T for q in loss.quantiles])
    if loss.name == OWN:
        return _least(loss, y, w)
    return np.zeros(loss.out_dim)


def _least(loss: Loss, y: Floats, w: Floats) -> Floats:
    """The constant outputs of least loss by a criterion of one's own, as L-BFGS finds them from 0, or else 0."""
    target, weight = loss.scaled(y[:, 0] if loss.classes else y), torch.from_numpy(w).float()
    constant = torch.zeros(loss.out_dim, dtype=torch.float32, requires_grad=True)
    search: Any = torch.optim.LBFGS([constant], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        total = loss(constant.expand(len(target), -1), target) @ weight
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        search.step(closure)
    found = constant.detach().double().numpy()
    return found if np.isfinite(found).all() else np.zeros(loss.out_dim)


def _quantile(values: Floats, w: Floats, q: float) -> float:
    """The least value at and below which lies a share q of the weight."""
    order = np.argsort(values, kind="stable")
    at = int(np.searchsorted(np.cumsum(w[order]), q - 1e-12))
    return float(values[order[min(at, len(values) - 1)]])


def _like(target: Tensor, prediction: Tensor) -> Tensor:
    """Codes (labels,) as an index (..., labels, 1) of `prediction`."""
    return target[:, None].expand(*prediction.shape[:-1], 1)
