"""interpret's explainable boosting machine, an optional package: is it there, and how the examples fit it.

It is fitted without interactions unless they are asked for, so that it is additive as rnam's models are; everything
else is its default.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Sequence
from typing import Any

DISTRIBUTION = "interpret-core"
BAGS = 14  # its default


def version() -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def left_out(names: Sequence[str]) -> str:
    """The words of a program where it is not installed."""
    return f"Left out: {', '.join(names)}; {DISTRIBUTION} is not installed (pip install -e '.[compare]')."


def fit(
    values: Any,
    target: Any,
    names: Sequence[str],
    seed: int,
    *,
    binary: bool,
    words: Sequence[str] = (),
    interactions: int | str = 0,
    **arguments: Any,
) -> Any:
    """A fitted classifier or regressor.

    Args:
        values: (rows, columns), numbers but for the columns of the names in `words`.
        interactions: 0, or what interpret takes; "3x" is its default.
        arguments: of its `fit`.
    """
    from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

    kind = ExplainableBoostingClassifier if binary else ExplainableBoostingRegressor
    model = kind(
        feature_names=list(names), feature_types=["nominal" if name in words else "continuous" for name in names],
        interactions=interactions, outer_bags=BAGS, random_state=seed, n_jobs=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        # that its pictures leave missing values out; what is drawn here has none
        warnings.filterwarnings("ignore", message="Missing values detected", category=UserWarning)
        return model.fit(values, target, **arguments)
