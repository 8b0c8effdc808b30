"""Sliced, transposed and expanded tensors, on the way in and as incoming gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnam.functional import grouped_linear, linear_scan, log_scan, min_gru
from tests.support import bounds, inputs

pytestmark = pytest.mark.usefixtures("backend")


def _sliced(t: Tensor) -> Tensor:
    wide = torch.full((*t.shape[:-1], 2 * t.shape[-1] + 1), torch.nan, dtype=t.dtype)
    view = wide[..., 1::2]
    view.copy_(t)
    return view


def _transposed(t: Tensor) -> Tensor:
    return t.movedim(0, -1).contiguous().movedim(-1, 0)


def _offset(t: Tensor) -> Tensor:
    longer = torch.full((t.numel() + 3,), torch.nan, dtype=t.dtype)
    longer[3:] = t.flatten()
    return longer[3:].view(t.shape)


def _functions() -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    x, w, h0 = inputs.layer_inputs(2, 3, 20, 4, 5, seed=1)
    h = torch.randn(2, 3, 20, 5, dtype=torch.float64)
    return {
        "min_gru": (lambda *t: min_gru(*t)[0], (x, w, h0)),
        "min_gru h_last": (lambda *t: min_gru(*t)[1], (x, w, h0)),
        "min_gru over times": (lambda *t: min_gru(*t[:3], elapsed=t[3])[0], (x, w, h0, x[..., 0].square() + 0.1)),
        "linear_scan": (linear_scan, (h.sigmoid(), h, h0)),
        "log_scan": (log_scan, (h - 1, h + 1, h0)),
        "grouped_linear": (lambda *t: grouped_linear(*t, "silu"), (x, w, w[:, :1])),
    }


@pytest.mark.parametrize("layout", [_sliced, _transposed, _offset])
@pytest.mark.parametrize("name", sorted(_functions()))
def test_layout_of_inputs_and_gradients(name: str, layout: Callable[[Tensor], Tensor]) -> None:
    function, tensors = _functions()[name]
    plain = [t.detach().clone().requires_grad_() for t in tensors]
    strided = [layout(t.detach()).requires_grad_() for t in tensors]
    out, same = function(*plain), function(*strided)
    grad = torch.randn_like(out)
    # torch picks another product kernel for another layout: rounding may differ in the last places
    bounds.assert_same(same, out)
    expected = torch.autograd.grad(out, plain, grad)
    bounds.assert_same(torch.autograd.grad(same, strided, layout(grad)), expected)


@pytest.mark.parametrize("name", sorted(_functions()))
def test_expanded_inputs_and_gradients(name: str) -> None:
    function, tensors = _functions()[name]
    narrow = [t[:, :1].detach().requires_grad_() if t.dim() == 4 else t.detach().requires_grad_() for t in tensors]
    wide = [t.expand(-1, 3, -1, -1) if t.dim() == 4 else t for t in narrow]
    assert [t for t in wide if 0 in t.stride()]
    out = function(*wide)
    copied = function(*(t.contiguous() for t in wide))
    bounds.assert_same(out, copied)
    expanded = torch.ones((), dtype=torch.float64).expand_as(out)
    got = torch.autograd.grad(out, narrow, expanded)
    expected = torch.autograd.grad(copied, narrow, expanded.contiguous())
    bounds.assert_same(got, expected)
