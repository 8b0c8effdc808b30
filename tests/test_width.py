"""A wide model is no loop over its terms."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rnam

BATCH, SEQ = 2, 3


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _train(make: Callable[[], tuple[torch.nn.Module, dict]]) -> Counter[str]:
    """The operators of construction, forward and backward."""
    with _Count() as count:
        model, inputs = make()
        model(**inputs).prediction.sum().backward()
    return count.calls


def _recurrent(terms: int) -> tuple[torch.nn.Module, dict]:
    columns = [[f] for f in range(terms - 1)] + [[0, 1]]
    model = rnam.RNAM(terms, 4, 1, 1, columns=columns, missing=True, timing=True, static_columns=columns)
    inputs = {"input": torch.randn(BATCH, SEQ, terms), "mask": torch.rand(BATCH, SEQ, terms) > 0.5}
    inputs |= {"times": torch.rand(BATCH, SEQ), "static": torch.randn(BATCH, terms)}
    return model, inputs


def _feed_forward(terms: int) -> tuple[torch.nn.Module, dict]:
    return rnam.NAM(terms, (4, 4)), {"input": torch.randn(BATCH, terms)}


def _ensemble(terms: int) -> tuple[torch.nn.Module, dict]:
    return rnam.RNAM(1, 4, 1, 1, members=terms), {"input": torch.randn(1, BATCH, SEQ, 1)}


@pytest.mark.parametrize("make", [_recurrent, _feed_forward, _ensemble])
@pytest.mark.usefixtures("backend")
def test_calls_do_not_grow_with_the_terms(make: Callable[[int], tuple[torch.nn.Module, dict]]) -> None:
    """All of the reference's operators are counted; of "torch" a layer counts as one."""
    assert _train(lambda: make(3)) == _train(lambda: make(300))
