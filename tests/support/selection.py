"""Which cases of a test the interpreter runs in `make test`."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["crossed"]


def crossed(*axes: Iterable[Any], short: Callable[..., bool]) -> list[Any]:
    """The product of these axes as cases for `parametrize`. Those that are not `short` are `long_in_interpreter`."""
    return [
        pytest.param(*case, marks=[] if short(*case) else pytest.mark.long_in_interpreter)
        for case in itertools.product(*axes)
    ]
