"""Bands of predictions and sets of classes that cover the truth as often as they say, and how often they did."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Bools, Floats

__all__ = ["Band", "Conformal", "Coverage", "conformal"]

ROUNDING = 1e-12  # of a sum of shares, which is 1


class Band(NamedTuple):
    """The ends of a band, float64 of the shape of the predictions."""

    lower: Floats
    upper: Floats


class Coverage(NamedTuple):
    """How often bands or sets held the truth.

    Args:
        rate: the mean over groups of the share of their rows that was covered; over rows without groups.
        standard_error: of that mean, from its spread between groups; NaN for one group.
        shares: (groups,) in rising order of the groups; without groups 0 or 1 for each row.
        size: the mean width of the bands, or the mean number of classes in the sets, over the same groups.
    """

    rate: float
    standard_error: float
    shares: Floats
    size: float


@dataclass(frozen=True, eq=False)
class Conformal:
    """A threshold that was learned from predictions of data that the model was not trained on, see `conformal`.

    Args:
        level: the share that is to be covered.
        threshold: the greatest score that is inside. The score of a number is its distance from the prediction, over
            the scale where there is one; that of a class is 1 less its probability.
        classes: of the sets; 0 for bands of numbers.
        rows, groups: how many there were; groups is rows where none were given.
        pooled: True where no groups were given, so that rows were taken for independent ones.
        scaled: whether a scale goes with each prediction.
    """

    level: float
    threshold: float
    classes: int
    rows: int
    groups: int
    pooled: bool
    scaled: bool

    def band(self, prediction: ArrayLike | Tensor, *, scale: ArrayLike | Tensor | None = None) -> Band:
        """The band of each prediction, in its units.

        Args:
            prediction: of any shape.
            scale: of the same shape, where `conformal` had one.

        Raises:
            ValueError: this is one of classes; a scale is missing, or there was none; as `conformal`.
        """
        if self.classes:
            raise ValueError(f"band must be asked of numbers, got {self.classes} classes: sets has their sets")
        centre = _arrays.finite("prediction", prediction)
        if self.scaled == (scale is None):
            raise ValueError(f"scale must be {'given' if self.scaled else 'None'}, as it was in conformal")
        half = self.threshold * _scale(scale, centre)
        return Band(centre - half, centre + half)

    def sets(self, probability: ArrayLike | Tensor) -> Bools:
        """Which classes are in the set of each row, bool (rows, classes). A set may be empty, where no class is likely
        enough, and may hold all.

        Raises:
            ValueError: this is one of numbers; as `conformal`.
        """
        if not self.classes:
            raise ValueError("sets must be asked of classes, got numbers: band has their bands")
        p = _probabilities(probability)
        if p.shape[1] != self.classes:
            raise ValueError(f"prediction must have {self.classes} classes, got {p.shape[1]}")
        return 1 - p <= self.threshold

    def coverage(
        self,
        prediction: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        *,
        groups: ArrayLike | None = None,
        scale: ArrayLike | Tensor | None = None,
    ) -> Coverage:
        """How often the truth was inside, on other data than `conformal` had.

        Args:
            prediction, y, groups, scale: as in `conformal`.

        Raises:
            TypeError, ValueError: as `conformal`.
        """
        if self.classes:
            inside_sets = self.sets(prediction)
            rows = np.arange(len(inside_sets))
            inside = inside_sets[rows, _classes(y, inside_sets.shape)]
            size = inside_sets.sum(1).astype(np.float64)
        else:
            band, truth = self.band(prediction, scale=scale), _numbers(prediction, y)[1]
            lower, upper = band.lower.ravel(), band.upper.ravel()
            inside, size = (lower <= truth) & (truth <= upper), upper - lower
        owners, counts = _owners(groups, len(inside))
        shares = np.bincount(owners, inside) / counts
        error = float(shares.std(ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else np.nan
        return Coverage(float(shares.mean()), error, shares, float((np.bincount(owners, size) / counts).mean()))


def conformal(
    prediction: ArrayLike | Tensor,
    y: ArrayLike | Tensor,
    *,
    groups: ArrayLike | None = None,
    scale: ArrayLike | Tensor | None = None,
    level: float = 0.9,
) -> Conformal:
    """Split-conformal bands of numbers, or sets of classes, from predictions of data that no part of the model saw.

    A new row is covered with a chance of at least `level`, whatever the model is, if its group is exchangeable with
    those here: drawn from the same people, by chance. Every group counts alike, however many rows it has:

        threshold = the least s with  sum_k 1 / (K + 1) * share of the rows of group k with score <= s  >= level

    of K groups. The chance is over a new group and one of its rows, and over the groups here; it is no promise for each
    kind of person. Refits and held-out folds see no change of the world, and neither does this.

    Args:
        prediction: numbers, of any shape; or (rows, classes), the probabilities of classes, where y is of integers and
            has one dimension less.
        y: the truth, of the shape of the predictions; of classes (rows,), integers from 0.
        groups: the person or the block of time of each row, of the shape of y. Where rows of one group are alike, bands
            need this. None takes each row as a group: with rows of few blocks pooled in this way the level is that of
            the days here, and nothing is promised for another block.
        scale: greater than 0, of the shape of y: how far off each prediction is thought to be. The band is then as
            wide as its scale says. None is one width for all.
        level: the share that is to be covered, between 0 and 1.

    Raises:
        TypeError: an argument is not of numbers.
        ValueError: shapes differ, a number is not finite, a probability is not from 0 to 1, a class is none of them;
            there are too few groups for the level, which takes level / (1 - level) of them: 9 for 0.9.

    Source: Vovk, Gammerman and Shafer, Algorithmic learning in a random world (2005), for rows; Lee, Barber and
    Willett, Distribution-free inference with hierarchical data, arXiv 2306.06342, for groups; Sadinle, Lei and
    Wasserman, JASA 114 (2019), for the sets.

    Example:
        >>> bands = rnam.explain.conformal(np.zeros(19), np.arange(1, 20), level=0.9)
        >>> bands.threshold, bands.band([100.0])
        (18.0, Band(lower=array([82.]), upper=array([118.])))
    """
    level = _checks.finite_number("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if np.ndim(_arrays.as_array(prediction)) == np.ndim(_arrays.as_array(y)) + 1:
        if scale is not None:
            raise ValueError("scale must be None for probabilities of classes")
        p = _probabilities(prediction)
        score, classes = 1 - p[np.arange(len(p)), _classes(y, p.shape)], p.shape[1]
    else:
        centre, truth = _numbers(prediction, y)
        score, classes = np.abs(truth - centre) / _scale(scale, centre, np.shape(_arrays.as_array(y))), 0
    owners, counts = _owners(groups, len(score))
    number = len(counts)
    if number / (number + 1) < level - ROUNDING:
        least = int(np.ceil(level / (1 - level) - 1e-9))
        what, advice = ("rows", "") if groups is None else ("groups", ": groups=None pools their rows, and promises "
                                                            "nothing for a new group")  # fmt: skip
        raise ValueError(f"{what} must be at least {least} for level {level:g}, got {number}{advice}")
    order = np.argsort(score, kind="stable")
    share = np.cumsum(1 / (counts[owners[order]] * (number + 1)))
    threshold = float(score[order[np.searchsorted(share, level - ROUNDING)]])
    return Conformal(level, threshold, classes, len(score), number, groups is None, scale is not None)


def _numbers(prediction: ArrayLike | Tensor, y: ArrayLike | Tensor) -> tuple[Floats, Floats]:
    """Flat and checked."""
    centre, truth = _arrays.finite("prediction", prediction), _arrays.finite("y", y)
    _arrays.same_shape("y", truth, "prediction", centre)
    if not centre.size:
        raise ValueError("prediction must hold at least one number, got none")
    return centre.ravel(), truth.ravel()


def _scale(value: ArrayLike | Tensor | None, like: Floats, shape: tuple[int, ...] | None = None) -> Floats:
    if value is None:
        return np.ones(like.shape)
    scale = _arrays.finite("scale", value)
    if scale.shape != (like.shape if shape is None else shape):
        raise ValueError(f"scale must have the shape of the predictions, got {scale.shape}")
    if not (scale > 0).all():
        raise ValueError(f"scale must be greater than 0, got {scale.min()}")
    return scale.reshape(like.shape)


def _probabilities(value: ArrayLike | Tensor) -> Floats:
    p = _arrays.finite("prediction", value)
    if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
        raise ValueError(f"prediction must have shape (rows, classes), of a row and two classes or more, got {p.shape}")
    if not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"prediction must hold probabilities from 0 to 1, got {p.min()} to {p.max()}")
    return p


def _classes(y: ArrayLike | Tensor, shape: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    codes = _arrays.finite("y", y)
    if codes.shape != shape[:1]:
        raise ValueError(f"y must have shape {shape[:1]}, a class for each row, got {codes.shape}")
    if not (np.isin(codes, np.arange(shape[1]))).all():
        raise ValueError(f"y must hold classes from 0 to {shape[1] - 1}, got {codes.min():g} to {codes.max():g}")
    return codes.astype(np.int64)


def _owners(groups: ArrayLike | None, rows: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats]:
    """The number of the group of each row, and how many rows each group has."""
    if groups is None:
        return np.arange(rows), np.ones(rows)
    given = np.asarray(groups).ravel()
    if len(given) != rows:
        raise ValueError(f"groups must have one for each of {rows} rows, got {len(given)}")
    _, owners, counts = np.unique(given, return_inverse=True, return_counts=True)
    return owners.astype(np.int64), counts.astype(np.float64)
