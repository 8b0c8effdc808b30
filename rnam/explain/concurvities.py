"""How much of each term others could say: concurvity, which is to smooth terms what collinearity is to columns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain._arrays import Floats

__all__ = ["Concurvity", "concurvity"]

RANK = 1e-8  # singular values below this share of the largest are 0


@dataclass(frozen=True, eq=False)
class Concurvity:
    """Three measures from 0, no trouble, to 1, a term that others can say as a whole.

    Args:
        worst: (terms,), of the function of a term that the others say best.
        observed: (terms,), of the term as it is.
        estimate: (terms,), of all functions of a term together.
        pairwise_worst, pairwise_observed, pairwise_estimate: (terms, terms), of column j by row i alone; 1 on the
            diagonal. NaN for terms that are constant.
    """

    worst: Floats
    observed: Floats
    estimate: Floats
    pairwise_worst: Floats
    pairwise_observed: Floats
    pairwise_estimate: Floats


def concurvity(
    contributions: ArrayLike | Tensor, sample_weight: ArrayLike | Tensor | None = None, *, knots: int = 5
) -> Concurvity:
    """How much of each term lies in the space of the others.

    mgcv asks it of the spline basis of each smooth. A term that reads a history has no such basis, and that of linear
    splines of its contribution takes the place, with knots at its quantiles: functions of what the term says, itself
    among them. Each basis is centred. With P the projection on the bases of the others, X a term's own and g its
    contributions, observed is |P g|^2 / |g|^2, estimate is |P X|^2 / |X|^2 in the Frobenius norm, and worst is the
    largest |P X b|^2 / |X b|^2 over all b.

    Args:
        contributions: (samples, terms).
        sample_weight: (samples,), at least 0; ones by default.
        knots: of each basis, 2 or more; 2 make it linear, so that worst is the squared multiple correlation.

    Raises:
        TypeError, ValueError: an argument is not what is said above; there are fewer than two terms.

    Source: Wood, Generalized Additive Models, 2nd edition (2017), 5.6.3, and `concurvity` of R's mgcv, whose bases are
    those of its smooths.

    Example:
        >>> x = np.random.default_rng(0).normal(size=200)
        >>> found = rnam.explain.concurvity(np.stack([x, 2 * x, x**3], axis=1), knots=2)
        >>> found.observed.round(3)[:2]
        array([1., 1.])
    """
    values = _arrays.finite("contributions", contributions)
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        raise ValueError(f"contributions must have shape (samples, terms) of two terms or more, got {values.shape}")
    knots = _checks.whole_number("knots", knots, least=2)
    weight = _arrays.sample_weight(sample_weight, values.shape[:1])
    kept = weight > 0
    values, share = values[kept], weight[kept] / weight.sum()
    root = np.sqrt(share)[:, None]
    terms = values.shape[1]
    bases = [root * _centred(_splines(column, share, knots), share) for column in values.T]
    own = [root * _centred(column[:, None], share) for column in values.T]
    spans = [_orthonormal(basis) for basis in bases]
    whole = np.full((3, terms), np.nan)
    pairs = np.full((3, terms, terms), np.nan)
    for j in range(terms):
        if not spans[j].shape[1]:
            continue
        others = _orthonormal(np.concatenate([bases[i] for i in range(terms) if i != j], axis=1))
        whole[:, j] = _shares(others, spans[j], own[j], bases[j])
        for i in range(terms):
            pairs[:, i, j] = 1.0 if i == j else _shares(spans[i], spans[j], own[j], bases[j])
    return Concurvity(*whole, *pairs)


def _splines(column: Floats, share: Floats, knots: int) -> Floats:
    """Linear B-splines with knots at the quantiles of a column, its ends among them: (samples, knots or fewer)."""
    shares = np.linspace(0, 1, knots)
    at = np.unique(np.quantile(column, shares, weights=share, method="inverted_cdf"))
    if len(at) == 1:
        return np.ones((len(column), 1))
    return np.stack([np.interp(column, at, row) for row in np.eye(len(at))], axis=1)


def _centred(basis: Floats, share: Floats) -> Floats:
    return np.asarray(basis - share @ basis)


def _orthonormal(basis: Floats) -> Floats:
    """Of the space of the columns, (samples, rank)."""
    left, sizes, _ = np.linalg.svd(basis, full_matrices=False)
    largest = sizes[0] if len(sizes) else 0.0
    return np.asarray(left[:, sizes > max(RANK * largest, 1e-300)] if largest > 1e-14 else left[:, :0])


def _shares(others: Floats, span: Floats, own: Floats, basis: Floats) -> tuple[float, float, float]:
    """worst, observed and estimate of a term in the space of the others."""
    if not others.shape[1]:
        return 0.0, 0.0, 0.0
    worst = float(np.linalg.svd(others.T @ span, compute_uv=False)[0] ** 2)
    observed = float(((others.T @ own) ** 2).sum() / (own**2).sum())
    return min(worst, 1.0), observed, float(((others.T @ basis) ** 2).sum() / (basis**2).sum())
