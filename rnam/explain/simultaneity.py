"""`simultaneous`: one band for a whole curve, from an ensemble of refits."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from rnam import _checks
from rnam.explain import _arrays
from rnam.explain.conformity import Band

__all__ = ["simultaneous"]

DRAWS = 4000


def simultaneous(curves: ArrayLike | Tensor, *, level: float = 0.9, seed: int = 0) -> Band:
    """A band that holds the whole curve at once with this probability, from refits on bootstrap samples.

    A band of one standard error at each point misses somewhere along most curves. This one is

        mean +- c * sd,    c the `level` quantile of max over points of abs(Z) / S * sqrt(1 + 1 / K)

    with K members, Z normal with the correlations of the members' curves from point to point, and S^2 chi-squared over
    its K - 1 degrees of freedom: sd was estimated, and so was the mean. The quantile is that of 4,000 seeded draws.

    A refit shares the model, the data that were collected and all that is wrong with both. The band says how far the
    curve could differ had other people, or other blocks of time, been drawn; it knows of no bias.

    Args:
        curves: (members, ...), each member's curve at the same points, such as `Shape.by_member`. Members are fits on
            bootstrap samples by person: `members=` of an estimator, or `rnam.bootstrap_weights`.
        level: between 0 and 1.
        seed: of the draws.

    Returns:
        lower and upper ends, (...). A point at which all members agree has no width.

    Raises:
        ValueError: there are fewer than 10 members, of which no such quantile is known; a number is not finite; the
            level is out of range.

    Source: Montiel Olea and Plagborg-Moller, Journal of Applied Econometrics 34 (2019), the sup-t band.

    Example:
        >>> refits = np.random.default_rng(0).normal(size=(20, 1)) * np.linspace(1, 2, 30)
        >>> band = rnam.explain.simultaneous(refits)
        >>> band.lower.shape, bool((band.lower < 0).all() and (band.upper > 0).all())
        ((30,), True)
    """
    values = _arrays.finite("curves", curves)
    level = _checks.finite_number("level", level)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if values.ndim < 2 or len(values) < 10:
        raise ValueError(f"curves must have shape (members, ...) with 10 members or more, got {values.shape}")
    members = len(values)
    rng = np.random.default_rng(_checks.whole_number("seed", seed))
    mean, sd = values.mean(0), values.std(0, ddof=1)
    # of curves that agree to rounding, the rest is noise
    moves = sd > 1e-12 * np.abs(values).max(initial=0.0)
    apart = ((values - mean) / np.where(moves, sd, 1.0))[:, moves] / np.sqrt(members - 1)
    highest = np.abs(rng.normal(size=(DRAWS, members)) @ apart).max(1, initial=0.0)
    estimated = np.sqrt(rng.chisquare(members - 1, DRAWS) / (members - 1))
    width = np.quantile(highest / estimated, level) * np.sqrt(1 + 1 / members)
    half = np.where(moves, width * sd, 0.0)
    return Band(mean - half, mean + half)
