"""One constant per term, so that contributions of different terms and models can be compared."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Floats

__all__ = ["Centering", "Spread", "importance", "spread"]


@dataclass(frozen=True, eq=False)
class Centering:
    """What is taken from each term's contributions and given to the intercept.

    An additive model fixes its terms only up to constants: what one gains another or the intercept may lose. Centred,
    each term's contribution has weighted mean 0 over the reference, where the term is observed. The same constant is
    taken at every step and wherever the term is not observed, so a difference between visits is a change of the
    model's output, and the sum stays what it was:

        sum over terms of centring(contributions) + centring.intercept(bias) = sum of contributions + bias

    With `classes=True` each term's contributions to one sample also have mean 0 over the outputs, since a number
    added to all logits changes no probability of a softmax. That sum is then the prediction minus its mean over the
    outputs (at each sample and step): probabilities stay, logits move together.

    Args:
        constants: ([members,] terms, out).
        count: (terms,) the places of weight greater than 0 that each constant was taken from. A term with none has
            constant 0.
        classes: whether the outputs are classes of one softmax.

    Example:
        >>> reference = [[[1.0], [5.0]], [[3.0], [7.0]]]  # 2 samples, 2 terms, 1 output
        >>> centring = rnam.explain.Centering.fit(reference)
        >>> centring(reference)[:, :, 0]
        array([[-1., -1.],
               [ 1.,  1.]])
        >>> centring.intercept([0.5])
        array([8.5])
    """

    constants: Floats
    count: NDArray[np.int64]
    classes: bool = False

    @classmethod
    def fit(
        cls,
        reference: ArrayLike | Tensor,
        weight: ArrayLike | Tensor | None = None,
        observed: ArrayLike | Tensor | None = None,
        *,
        members: bool = False,
        classes: bool = False,
    ) -> "Centering":
        """The constants that center the contributions of a reference set, such as the training data.

        Args:
            reference: contributions (batch, terms, out) or (batch, terms, seq, out), with members before the batch.
            weight: (batch,), or (batch, seq) over time, at least 0: of samples and visits; 0 for padding. Ones by
                default.
            observed: bool (batch, terms) or (batch, terms, seq): where the term is observed (`explain.observed`).
                By default everywhere. What other places hold has no effect, NaN included.
            members: the reference has a leading dimension of members; each gets its constants.
            classes: the outputs are the classes of one softmax.

        Raises:
            TypeError: an argument is not of numbers, observed, members or classes not bool.
            ValueError: shapes do not fit; weights are negative or all 0; classes with one output.
        """
        values = _arrays.contributions("reference", reference, members)
        _checks.boolean_flag("classes", classes)
        if classes and values.shape[-1] == 1:
            raise ValueError("classes must be False where there is one output, got True")
        values = _without_common_part(values) if classes else values
        weights = _arrays.places(values.shape[members:-1], weight, observed)
        total = weights.sum(axis=(0, *range(2, weights.ndim)))[:, None]
        constants = _arrays.over_places(weights, values) / np.where(total > 0, total, 1.0)
        count = (weights > 0).sum(axis=(0, *range(2, weights.ndim)))
        return cls(constants, count, classes)

    def __call__(self, contributions: ArrayLike | Tensor) -> Floats:
        """The centred contributions, float64 of the shape given; over time or not, whatever the reference was.

        Raises:
            ValueError: the terms, outputs or members are not those of the constants.
        """
        members = self.constants.ndim == 3
        values = _arrays.contributions("contributions", contributions, members)
        have = (*values.shape[:members], values.shape[members + 1], values.shape[-1])
        if have != self.constants.shape:
            lead = "members, " if members else ""
            raise ValueError(f"contributions must have ({lead}terms, out) {self.constants.shape}, got {have}")
        values = _without_common_part(values) if self.classes else values
        return np.asarray(values - _arrays.along_places(self.constants, values))

    def intercept(self, bias: ArrayLike | Tensor) -> Floats:
        """The intercept that goes with the centred contributions, ([members,] out), from the model's bias."""
        values = _arrays.floats("bias", bias)
        want = (*self.constants.shape[:-2], self.constants.shape[-1])
        if values.shape != want:
            raise ValueError(f"bias must have shape {want}, got {values.shape}")
        values = _without_common_part(values) if self.classes else values
        return np.asarray(values + self.constants.sum(-2))


def _without_common_part(values: Floats) -> Floats:
    return np.asarray(values - values.mean(-1, keepdims=True))


def importance(
    contributions: ArrayLike | Tensor,
    weight: ArrayLike | Tensor | None = None,
    observed: ArrayLike | Tensor | None = None,
    *,
    members: bool = False,
) -> Floats:
    """The weighted standard deviation of each term's contribution: how much it tells one sample from another.

    It is in units of the prediction, about the term's own mean, so a term's constant has no part in it (with
    classes, center first: the part common to all classes does have one).

    Args:
        contributions, weight, observed, members: as in `Centering.fit`. Without `observed` a term's spread is
            over all samples, those where it is missing included.

    Returns:
        ([members,] terms, out); 0 for a term without a place.

    Raises:
        TypeError, ValueError: as in `Centering.fit`.

    Example:
        >>> rnam.explain.importance([[[1.0], [5.0]], [[3.0], [5.0]]])
        array([[1.],
               [0.]])
    """
    values = _arrays.contributions("contributions", contributions, members)
    weights = _arrays.places(values.shape[members:-1], weight, observed)
    total = weights.sum(axis=(0, *range(2, weights.ndim)))[:, None]
    total = np.where(total > 0, total, 1.0)
    mean = _arrays.over_places(weights, values) / total
    square = (values - _arrays.along_places(mean, values)) ** 2
    return np.asarray(np.sqrt(_arrays.over_places(weights, square) / total))


class Spread(NamedTuple):
    """The refit spread: mean and standard deviation over members. It tells how far refits of the same model on this
    data differ; it is not a confidence interval, since what all members get wrong alike does not show."""

    mean: Floats
    sd: Floats


def spread(contributions: ArrayLike | Tensor, centering: Centering) -> Spread:
    """Mean and standard deviation over members, each of them centred on the same reference before.

    Uncentred, members differ by constants that say nothing: they would show as spread.

    Args:
        contributions: (members, batch, terms, out) or (members, batch, terms, seq, out), of at least 2 members.
        centering: that of the members on one reference, `Centering.fit(reference, ..., members=True)`.

    Returns:
        mean and sd (divided by members - 1), each (batch, terms, out) or (batch, terms, seq, out). The means plus
        `centering.intercept(bias).mean(0)` are the mean of the members' predictions.

    Raises:
        ValueError: the centring is not of members, or of fewer than 2; shapes do not fit.

    Example:
        >>> members = [[[[1.0]], [[3.0]]], [[[10.0]], [[16.0]]]]  # 2 members, 2 samples, 1 term
        >>> centring = rnam.explain.Centering.fit(members, members=True)
        >>> rnam.explain.spread(members, centring).mean[:, 0, 0]
        array([-2.,  2.])
    """
    if centering.constants.ndim != 3 or len(centering.constants) < 2:
        raise ValueError("centering must be of at least 2 members (Centering.fit(..., members=True)), got one model's")
    centred = centering(contributions)
    return Spread(np.asarray(centred.mean(0)), np.asarray(centred.std(0, ddof=1)))
