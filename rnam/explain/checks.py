"""`observed_check`: one small regression on what was measured, and the same on what models predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Bools, Floats
from rnam.explain.evaluation import import_pandas

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from pandas import DataFrame

__all__ = ["MEASURED", "ObservedCheck", "observed_check"]

MEASURED = "measured"


@dataclass(frozen=True, eq=False)
class ObservedCheck:
    """How far a series rises after an event, under each condition: measured, and as each model says.

    Args:
        sources: "measured", and then the names of the models.
        conditions: their names.
        n: int64 (conditions,), the rows of each.
        size: of the event that a slope is for.
        slope: (sources, conditions), the rise for an event of that size.
        covariance: (sources, conditions, conditions) of these slopes.
        difference_covariance: the same, of the slopes of a source less those measured: the rows are the same, so their
            noise is not counted twice. 0 for "measured".
    """

    sources: tuple[str, ...]
    conditions: tuple[str, ...]
    n: NDArray[np.int64]
    size: float
    slope: Floats
    covariance: Floats
    difference_covariance: Floats

    @property
    def standard_error(self) -> Floats:
        """(sources, conditions), of `slope`."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def difference(self) -> Floats:
        """(sources, conditions): slope less the measured one."""
        return np.asarray(self.slope - self.slope[:1])

    @property
    def difference_standard_error(self) -> Floats:
        """(sources, conditions), of `difference`."""
        return np.sqrt(np.diagonal(self.difference_covariance, axis1=1, axis2=2))

    def contrast(self, first: str, second: str) -> tuple[Floats, Floats]:
        """The slopes under the second condition less those under the first, (sources,), and their standard errors.

        Raises:
            ValueError: there is no such condition.
        """
        for name in (first, second):
            _checks.one_of("condition", name, self.conditions)
        way = np.zeros(len(self.conditions))
        way[self.conditions.index(second)] += 1
        way[self.conditions.index(first)] -= 1
        return self.slope @ way, np.sqrt(np.einsum("i,sij,j->s", way, self.covariance, way))

    def frame(self) -> DataFrame:
        """A pandas DataFrame with a row for each source and condition.

        Raises:
            ImportError: pandas is missing.
        """
        pandas = import_pandas()
        count = len(self.sources)
        return pandas.DataFrame(
            {
                "source": np.repeat(self.sources, len(self.conditions)),
                "condition": list(self.conditions) * count,
                "n": np.tile(self.n, count),
                "slope": self.slope.ravel(),
                "standard_error": self.standard_error.ravel(),
                "difference": self.difference.ravel(),
                "difference_standard_error": self.difference_standard_error.ravel(),
            }
        )


def observed_check(
    y: ArrayLike | Tensor,
    predictions: Mapping[str, ArrayLike | Tensor],
    event: ArrayLike | Tensor,
    conditions: Mapping[str, ArrayLike | Tensor],
    *,
    before: int = 1,
    after: Sequence[int] = (1,),
    size: float = 1.0,
    groups: ArrayLike | None = None,
) -> ObservedCheck:
    """Hold models against what was measured, where an event came under one condition and another.

    Under each condition one line is fitted by least squares, to what was measured and to what each model predicted, on
    the same rows:

        rise_t = mean over a in `after` of y_{t + a}  -  y_{t - before}  =  constant + slope * event_t

    A model that says the right thing has the slopes that were measured. Predictions are to be held-out ones: of data
    that no part of the model saw.

    Rows are consecutive steps of time. Those count that a condition holds, and of which the event, the rise measured
    and all rises predicted are known: NaN leaves a row out, and no rise reaches from one group into another.

    Standard errors are those of Newey and West with Bartlett weights up to before + max(after) - 1 steps, since rises
    that are so near share steps. They take no few events into account: look at `n`, and at how many events are large.

    Args:
        y: what was measured, (rows,).
        predictions: {name of the model: (rows,)}, in the units of y.
        event: (rows,), such as the rain of a day.
        conditions: {name: bool (rows,)}; no row has two. Leave out with them what would disturb the check, such as
            events that follow another one.
        before: the step, so many before the event, from which the rise counts.
        after: the steps after the event whose mean is the top.
        size: of the event that a slope is told for.
        groups: (rows,), the series that a row is of; None for one.

    Raises:
        TypeError: an argument is not of numbers, or a condition not of bools.
        ValueError: shapes differ; a number is infinite; a row has two conditions; a condition has fewer than three
            rows, or events of one size alone.

    Source: Newey and West, Econometrica 55 (1987).

    Example:
        >>> rain = np.tile([0.0, 20.0, 0.0, 0.0, 10.0, 0.0], 20)
        >>> wet = np.arange(120) >= 60
        >>> flow = np.concatenate([[0.0], np.where(wet, 2.0, 1.0)[:-1] * rain[:-1]])  # a day later
        >>> found = rnam.explain.observed_check(
        ...     flow, {"half of it": flow / 2}, rain, {"dry": ~wet, "wet": wet}, before=0
        ... )
        >>> found.sources, found.slope.shape
        (('measured', 'half of it'), (2, 2))
    """
    before = _checks.whole_number("before", before)
    tops = [_checks.positive_int("after", step) for step in after]
    if not tops:
        raise ValueError("after must hold at least one step, got none")
    size = _checks.finite_number("size", size)
    measured = _rows("y", y, None)
    rows = measured.shape
    sources = {MEASURED: measured, **{name: _rows(f"predictions[{name!r}]", own, rows)
                                      for name, own in predictions.items()}}  # fmt: skip
    if len(sources) != len(predictions) + 1:
        raise ValueError(f"predictions must be of models, got one that is called {MEASURED!r}")
    occurred = _rows("event", event, rows)
    held = _conditions(conditions, rows)
    owners = np.zeros(rows, np.int64) if groups is None else _groups(groups, rows)
    rises = np.stack([_rise(own, owners, before, tops) for own in sources.values()])
    known = held.any(0) & np.isfinite(occurred) & np.isfinite(rises).all(0)
    held = held & known
    _refuse_few(held, occurred, list(conditions))
    at = np.flatnonzero(known)
    slopes, ones = held[:, at] * occurred[at] / (size or 1.0), held[:, at].astype(np.float64)
    design = np.concatenate([slopes, ones]).T  # (rows, 2 conditions)
    inverse = np.linalg.inv(design.T @ design)
    beta = rises[:, at] @ design @ inverse  # (sources, 2 conditions)
    residual = rises[:, at] - beta @ design.T
    reach = before + max(tops) - 1
    covariance = _covariance(design, inverse, residual, at, owners[at], reach)
    apart = _covariance(design, inverse, residual - residual[:1], at, owners[at], reach)
    count = len(held)
    return ObservedCheck(
        tuple(sources), tuple(conditions), held.sum(1), size, beta[:, :count], covariance[:, :count, :count],
        apart[:, :count, :count],
    )  # fmt: skip


def _rise(values: Floats, owners: NDArray[np.int64], before: int, after: Sequence[int]) -> Floats:
    """(rows,), NaN where a step that it takes is not there, or is of another group."""
    return np.asarray(np.mean([_moved(values, owners, a) for a in after], axis=0) - _moved(values, owners, -before))


def _moved(values: Floats, owners: NDArray[np.int64], steps: int) -> Floats:
    """The values `steps` after each row, NaN beyond its group."""
    to = np.arange(len(values)) + steps
    there = (to >= 0) & (to < len(values))
    to = np.clip(to, 0, len(values) - 1)
    return np.where(there & (owners[to] == owners), values[to], np.nan)


def _covariance(
    design: Floats, inverse: Floats, residual: Floats, at: NDArray[np.int64], owners: NDArray[np.int64], reach: int
) -> Floats:
    """Of the coefficients of each source, (sources, columns, columns)."""
    scores = residual[:, :, None] * design  # (sources, rows, columns)
    middle = np.einsum("sri,srj->sij", scores, scores)
    for gap in range(1, reach + 1):
        # the row that stands `gap` steps later, where that one counts too
        later = np.searchsorted(at, at + gap)
        pair = (later < len(at)) & (at[np.minimum(later, len(at) - 1)] == at + gap)
        first, second = np.flatnonzero(pair), later[pair]
        same = owners[first] == owners[second]
        part = np.einsum("sri,srj->sij", scores[:, first[same]], scores[:, second[same]])
        middle += (1 - gap / (reach + 1)) * (part + part.transpose(0, 2, 1))
    return np.asarray(inverse @ middle @ inverse * (len(at) / (len(at) - design.shape[1])))


def _rows(name: str, value: ArrayLike | Tensor, shape: tuple[int, ...] | None) -> Floats:
    array = _arrays.finite_or_nan(name, value)
    if array.ndim != 1 or (shape is not None and array.shape != shape):
        raise ValueError(f"{name} must have shape {shape or '(rows,)'}, got {array.shape}")
    return array


def _conditions(conditions: Mapping[str, Any], shape: tuple[int, ...]) -> Bools:
    if not conditions:
        raise ValueError("conditions must be one or more, got none")
    held = []
    for name, value in conditions.items():
        array = _arrays.as_array(value)
        if array.dtype != np.bool_:
            raise TypeError(f"conditions[{name!r}] must be bool, got {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"conditions[{name!r}] must have shape {shape}, got {array.shape}")
        held.append(array)
    found = np.stack(held)
    if (found.sum(0) > 1).any():
        row = int((found.sum(0) > 1).argmax())
        raise ValueError(f"conditions must not hold at one row together, got two at row {row}")
    return found


def _groups(groups: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    given = np.asarray(groups)
    if given.shape != shape:
        raise ValueError(f"groups must have shape {shape}, got {given.shape}")
    return np.unique(given, return_inverse=True)[1].astype(np.int64)


def _refuse_few(held: Bools, event: Floats, names: Sequence[str]) -> None:
    for name, rows in zip(names, held, strict=True):
        if rows.sum() < 3:
            raise ValueError(f"conditions[{name!r}] must hold at three rows or more with a rise, got {rows.sum()}")
        if np.ptp(event[rows]) == 0:
            raise ValueError(f"event must differ between the rows of condition {name!r}, got one size")
