"""Which entry of an operator a call takes: the launcher, the autograd Function, or the op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import rnam
from rnam.functional import feed_forward, grouped_linear, min_gru, min_gru_block
from tests.support import backends

F, B, T, D = 2, 3, 5, 4


@pytest.fixture(autouse=True, params=backends.EACH[1:])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


class Watch(TorchDispatchMode):
    """Collects the operators of rnam that run while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "rnam":
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def _calls() -> dict[str, Callable[..., Any]]:
    x, w = torch.randn(F, B, T, D), torch.randn(F, D, 2 * D)
    square, bias, row = torch.randn(F, D, D), torch.randn(F, 1, D), torch.ones(D)
    return {
        "min_gru": lambda x=x: min_gru(x, w),
        "min_gru, last state": lambda x=x: min_gru(x, w, need_h=False),
        "one step": lambda x=x[:, :, :1]: min_gru(x, w),
        "grouped_linear": lambda x=x: grouped_linear(x, square, bias, "relu"),
        "feed_forward": lambda x=x: feed_forward(x, x, row, row, square, bias, square, bias),
        "min_gru_block": lambda x=x: min_gru_block(x, w, row, row, square, bias, square, bias),
    }


@pytest.mark.parametrize("name", list(_calls()))
def test_a_mode_sees_the_op(name: str) -> None:
    """A dispatch mode, as a FLOP counter, counts the op and not what its launcher does."""
    call = _calls()[name]
    with Watch() as watch:
        call()
    assert watch.seen


@pytest.mark.parametrize("name", list(_calls()))
def test_an_eager_call_goes_past_the_op(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator of rnam is dispatched, with and without a gradient; the numbers are the same."""
    call = _calls()[name]
    with Watch():
        expected = call()
    with torch.profiler.profile() as profile:  # a profile keeps the names of the ops
        call()
    assert [event.name for event in profile.events() if event.name.startswith("rnam::")]
    entered: list[str] = []
    for op in _operators():
        for entry in ("op", "op_backward"):
            monkeypatch.setattr(op, entry, lambda *a, op=op: entered.append(op.name))
    for got, same in zip(_tensors(call()), _tensors(expected), strict=True):
        assert torch.equal(got, same)
    assert entered == []


def _operators() -> list[Any]:
    from rnam.backends import block, feed_forward, linear, min_gru, projected, scan

    pairs = min_gru._OPERATORS.values()
    others = (*linear._OPERATORS.values(), *feed_forward._OPERATORS.values())
    return [op for pair in pairs for op in pair] + [*others, block._OPERATOR, projected._OPERATOR, scan._OPERATOR]


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def test_a_backward_goes_past_the_op_unless_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = torch.randn(F, B, T, D), torch.randn(F, D, 2 * D, requires_grad=True)
    (expected,) = torch.autograd.grad(min_gru(x, w)[0].sum(), w)
    with Watch() as watch:
        (watched,) = torch.autograd.grad(min_gru(x, w)[0].sum(), w)
    assert [name for name in watch.seen if name.endswith("_backward")]
    for op in _operators():
        monkeypatch.setattr(op, "op", None)
        monkeypatch.setattr(op, "op_backward", None)
    (got,) = torch.autograd.grad(min_gru(x, w)[0].sum(), w)
    assert torch.equal(got, expected) and torch.equal(watched, expected)
    with pytest.raises(TypeError, match="NoneType"):  # differentiable again, it is a Function around the op
        torch.autograd.grad(min_gru(x, w)[0].sum(), w, create_graph=True)


class Subclass(torch.Tensor):
    """One that has a rule for each op, as DTensor has."""

    seen: list[str] = []  # noqa: RUF012 - of the class

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func.name())
        with no_dispatch():
            return func(*args, **(kwargs or {}))


def test_a_subclass_sees_the_op() -> None:
    Subclass.seen.clear()
    x = torch.Tensor._make_subclass(Subclass, torch.randn(F, B, T, D))
    min_gru(x, torch.randn(F, D, 2 * D))
    assert [name for name in Subclass.seen if name.startswith("rnam::")]


def test_what_watches_operators_sees_the_op(backend: str) -> None:
    x, w = torch.randn(F, B, T, D), torch.randn(F, D, 2 * D)
    op = "min_gru" if backend == "triton" else "blocked_min_gru"
    graph = make_fx(lambda x: min_gru(x, w)[0])(x)
    assert f"rnam.{op}" in " ".join(str(node.target) for node in graph.graph.nodes)
    with FlopCounterMode(display=False), Watch() as watch:
        min_gru(x, w)
    assert watch.seen == [f"rnam::{op}"]
    with FakeTensorMode() as mode:
        h, _ = min_gru(mode.from_tensor(x), mode.from_tensor(w))
    assert h.shape == (F, B, T, D)

    class Functions(TorchFunctionMode):
        names: list[str] = []  # noqa: RUF012

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    with Functions() as functions:
        min_gru(x, w)
    assert [name for name in functions.names if op in name]


def test_a_tensor_that_holds_minus_its_numbers() -> None:
    """The negative bit: the memory is that of another tensor, and a launcher would read it as it is."""
    x, w = torch.randn(F, B, T, D), torch.randn(F, D, 2 * D)
    minus = torch._neg_view(x)
    assert minus.is_neg()
    assert torch.equal(min_gru(minus, w)[0], min_gru(-x, w)[0])
