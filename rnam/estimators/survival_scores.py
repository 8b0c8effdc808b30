"""Scores of survival through scikit-survival: concordance, and the Brier score over time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["brier_scores", "concordance"]

Floats = NDArray[np.float64]


def _metrics() -> Any:
    try:
        from sksurv import metrics
    except ImportError as error:
        raise ImportError(
            "scores of survival need scikit-survival, which is not installed: pip install 'rnam[survival]'"
        ) from error
    return metrics


def concordance(y: Any, risk: Floats) -> float:
    """Harrell's concordance: the share of comparable pairs in which who has the event earlier has the higher risk. Ties
    of risk count one half; 0.5 is chance.

    Args:
        y: (n,), structured with fields event and time.
        risk: (n,).

    Raises:
        ImportError: scikit-survival is not installed.
        ValueError: y has no event, or no pair can be compared.
    """
    return float(_metrics().concordance_index_censored(y["event"], y["time"], risk)[0])


def brier_scores(train: Any, y: Any, survival: Floats, times: Floats) -> Floats:
    """The Brier score at each time, weighted by the inverse probability of censoring (Graf et al. 1999). Survival of
    0.5 for all has 0.25.

    Args:
        train: structured as `y`, from which the probability of being censored is estimated.
        y: (n,), structured with fields event and time.
        survival: (n, times), the probability of no event until each time.
        times: (times,), rising, inside the times of `y`.

    Raises:
        ImportError: scikit-survival is not installed.
        ValueError: a time lies outside of those of `y`, or one of `y` outside of those of `train`.
    """
    return np.asarray(_metrics().brier_score(train, y, survival, times)[1], np.float64)
