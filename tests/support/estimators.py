"""Small nets of `rnam.sklearn`, and a frame of numbers for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import rnam
from rnam.sklearn import AdditiveRegressor

ROWS, NAMES = 40, ["age", "bilirubin", "albumin"]
OPTIONS: dict[str, Any] = dict(max_epochs=1, verbose=0, random_state=0)


def nam(kind: type = AdditiveRegressor, **options: Any) -> Any:
    return kind(rnam.NAM, **{"module__terms": 3, "module__hidden": (4,), **OPTIONS, **options})


def recurrent(**options: Any) -> Any:
    model = {"terms": 2, "hidden_dim": 4, "out_dim": 1, "blocks": 1, "columns": [[0], [1]]}
    return AdditiveRegressor(rnam.RNAM, **{f"module__{k}": value for k, value in model.items()} | OPTIONS | options)


def table() -> Any:
    """A frame of floats, integers and zeros and ones."""
    import pandas

    rng = np.random.default_rng(0)
    values = [rng.normal(size=ROWS), rng.integers(0, 9, ROWS), rng.integers(0, 2, ROWS)]
    return pandas.DataFrame(dict(zip(NAMES, values, strict=True)))


def outcome(frame: Any) -> NDArray[np.float64]:
    return np.asarray(frame["age"] - frame["albumin"], np.float64)
