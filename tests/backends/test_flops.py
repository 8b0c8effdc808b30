"""torch's counter of FLOPs sees through the operators: they count for what the reference's products count for."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import rnam
from rnam import functional
from tests.support import backends

TERMS, BATCH, SEQ, DIM = 2, 3, 4, 8


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape) for shape in shapes]


X = (TERMS, BATCH, SEQ, DIM)
NORM, WEIGHT, BIAS = (DIM,), (TERMS, DIM, DIM), (TERMS, 1, DIM)
FEED_FORWARD = (NORM, NORM, WEIGHT, BIAS, WEIGHT, BIAS)

CALLS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "min_gru": (functional.min_gru, (X, (TERMS, DIM, 2 * DIM))),
    "min_lstm": (functional.min_lstm, (X, (TERMS, DIM, 3 * DIM))),
    "grouped_linear": (functional.grouped_linear, (X, (TERMS, DIM, 5))),
    "feed_forward": (functional.feed_forward, (X, X, *FEED_FORWARD)),
    "min_gru_block": (functional.min_gru_block, (X, (TERMS, DIM, 2 * DIM), *FEED_FORWARD)),
    "min_gru_projected": (functional.min_gru_projected, (X, (TERMS, DIM, 2 * DIM), (TERMS, DIM, DIM))),
}


def counted(backend: str, function: Callable[..., Any], given: list[Tensor], learned: tuple[int, ...]) -> int:
    given = [t.clone().requires_grad_(n in learned) for n, t in enumerate(given)]
    with rnam.set_backend(backend), FlopCounterMode(display=False) as counter:
        out = function(*given)
        out = out if isinstance(out, Tensor) else out[0]
        if learned:
            out.square().sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("backend", backends.EACH)
@pytest.mark.parametrize("name", CALLS)
def test_the_products_are_those_of_the_reference(backend: str, name: str) -> None:
    """Without a gradient, and with that of the input, of the weights, and of both."""
    function, shapes = CALLS[name]
    given, weights = tensors(*shapes), tuple(range(1, len(shapes)))
    for learned in ((), (0,), weights, (0, *weights)):
        expected = counted("reference", function, given, learned)
        assert expected > 0
        assert counted(backend, function, given, learned) == expected, learned


@pytest.mark.parametrize("backend", backends.EACH)
def test_a_model_by_layer(backend: str) -> None:
    """Forward: in a backward torch's counter puts products to other layers."""
    found = []
    for name in ("reference", backend):
        torch.manual_seed(0)
        model = rnam.RNAM(TERMS, DIM, 1, 2)
        with rnam.set_backend(name), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.randn(TERMS, BATCH, SEQ, 1))
        found.append({layer: sum(of.values()) for layer, of in counter.get_flop_counts().items()})
    assert found[0] == found[1]
    assert found[1]["RNAM.blocks.0.ff.1"] == 2 * TERMS * BATCH * SEQ * DIM * DIM
    assert found[1]["RNAM.blocks.1.gru.to_hidden_and_gate"] == 2 * TERMS * BATCH * SEQ * DIM * 2 * DIM


@pytest.mark.parametrize("first", ["rnam", "torch.utils.flop_counter"])
def test_the_counter_may_be_imported_before_or_after(first: str) -> None:
    code = f"""
import torch, {first}
import rnam
from torch.utils.flop_counter import FlopCounterMode
with FlopCounterMode(display=False) as counter:
    rnam.Linear(2, 3, 4)(torch.randn(2, 5, 3))
print(counter.get_total_flops())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == 2 * 2 * 5 * 3 * 4


def test_a_formula_of_ones_own_goes_first() -> None:
    """`custom_mapping` of the counter, which it has from its maker."""
    own = {torch.ops.rnam.blocked_linear: lambda *given, **_: 7}
    with FlopCounterMode(display=False, custom_mapping=own) as counter, rnam.set_backend("torch"):
        rnam.Linear(2, 3, 4)(torch.randn(2, 5, 3))
    assert counter.get_total_flops() == 7
