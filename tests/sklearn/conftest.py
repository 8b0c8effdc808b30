"""A frame of numbers and its target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import estimators


@pytest.fixture
def frame() -> Any:
    return estimators.table()


@pytest.fixture
def target(frame: Any) -> np.ndarray:
    return estimators.outcome(frame)
