"""Tensors of more than 2^31 elements: an offset of 32 bits would reach the wrong row.

All gradients that come in are 0 but for those of the first and last rows, so that a reference for these rows
is all of it.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnam import functional, reference
from rnam.backends.calls import Recurrence
from rnam.backends.cells import CELLS
from tests.gpu import parity, shapes
from tests.gpu.shapes import BF16, DEVICE, FAR
from tests.support import min_gru_cases
from tests.support.assertions import assert_norm_within, assert_within

pytestmark = pytest.mark.usefixtures("nan_buffers")

WIDTH = shapes.size(16, 4)
# steps of the first and last pieces that are compared
PIECE = shapes.size(64, 8)
REL, ROUNDING = min_gru_cases.REL, min_gru_cases.ROUNDING[BF16]


def needs_memory(tensors: int, elements: int) -> None:
    """Skips unless so many tensors of 2 bytes an element fit, and one more for what PyTorch does beside."""
    if DEVICE.type == "cuda":
        needed, free = 2 * (tensors + 1) * elements, torch.cuda.mem_get_info()[0]
        if free < needed:
            pytest.skip(f"needs {needed / 2**30:.0f} GiB, and {free / 2**30:.0f} are free")


def rows(*shape: int) -> Tensor:
    """Random numbers without a float32 copy of all of them."""
    return torch.empty(shape, dtype=BF16, device=DEVICE).normal_()


def ends(t: Tensor, dim: int) -> Tensor:
    """The first and the last slice. (No list of indices: PyTorch's own offsets are not what is tested.)"""
    return torch.cat([t.narrow(dim, 0, 1), t.narrow(dim, t.shape[dim] - 1, 1)], dim)


def put_ends(t: Tensor, dim: int, value: Tensor | float) -> None:
    for n, at in enumerate((0, t.shape[dim] - 1)):
        t.narrow(dim, at, 1).copy_(value.narrow(dim, n, 1) if isinstance(value, Tensor) else torch.tensor(value))


def close(name: str, got: Tensor, want: Tensor, band: float) -> None:
    assert_norm_within(name, got, want, band * want.norm())


def test_min_gru_of_many_rows() -> None:
    """Batch rows far apart; the last ones must be the layer's own."""
    terms, steps = 2, PIECE
    batch = FAR // (terms * steps * WIDTH) + 1
    elements = terms * batch * steps * WIDTH
    assert elements > FAR
    needs_memory(4, elements)
    x, dh = rows(terms, batch, steps, WIDTH), torch.zeros(terms, batch, steps, WIDTH, dtype=BF16, device=DEVICE)
    weight = (torch.randn(terms, WIDTH, 2 * WIDTH, device=DEVICE) / WIDTH**0.5).to(BF16)
    put_ends(dh, 1, rows(terms, 2, steps, WIDTH))
    compare_layer(x, weight, dh, None, lambda t: ends(t, 1), lambda t: put_ends(t, 1, 0.0))


def test_min_gru_of_many_steps() -> None:
    """One sequence, cut into chunks. A reset near its end is where the reference starts."""
    steps = FAR // WIDTH + 1
    needs_memory(4, steps * WIDTH)
    x, dh = rows(1, 1, steps, WIDTH), torch.zeros(1, 1, steps, WIDTH, dtype=BF16, device=DEVICE)
    weight = (torch.randn(1, WIDTH, 2 * WIDTH, device=DEVICE) / WIDTH**0.5).to(BF16)
    dh[:, :, -PIECE:] = rows(1, 1, PIECE, WIDTH)
    reset = torch.zeros(1, 1, steps, dtype=torch.bool, device=DEVICE)
    reset[..., -PIECE] = True
    piece = lambda t: t[:, :, -PIECE:]
    compare_layer(x, weight, dh, reset, piece, lambda t: piece(t).zero_())


def compare_layer(
    x: Tensor, weight: Tensor, dh: Tensor, reset: Tensor | None, at: Callable[[Tensor], Tensor],
    clear: Callable[[Tensor], object],
) -> None:  # fmt: skip
    """h, dx and dW, where `at` leads to all of dh that is not 0, and `clear` makes it 0 there."""
    leaves = x.requires_grad_(), weight.requires_grad_()
    with parity.on_kernels():
        h, _ = functional.min_gru(*leaves, reset=reset)
        dx, dw = torch.autograd.grad(h, leaves, dh)
    piece, wide = at(x.detach()).double().requires_grad_(), weight.detach().double().requires_grad_()
    with parity.plain_torch():
        want, _ = reference.recurrence(Recurrence(piece, wide), CELLS["mingru"])
        want_dx, want_dw = torch.autograd.grad(want, (piece, wide), at(dh).double())
    bound = (REL + ROUNDING) * want.abs() + min_gru_cases.ABS * want.abs().amax(2, keepdim=True)
    assert_within("h", at(h), want, bound)
    band = REL + 4 * ROUNDING
    close("dx", at(dx), want_dx, band)
    close("dw", dw, want_dw, band)
    clear(dx)
    assert not dx.any(), "a gradient where none came in"


@pytest.mark.parametrize("log", [False, True])
def test_scan_of_many_rows(log: bool) -> None:
    batch = FAR // (PIECE * WIDTH) + 1
    needs_memory(8 if log else 7, batch * PIECE * WIDTH)
    a, b = rows(batch, PIECE, WIDTH), rows(batch, PIECE, WIDTH)
    a = a.abs_().neg_() if log else a.sigmoid_()
    dh = torch.zeros_like(a)
    put_ends(dh, 0, rows(2, PIECE, WIDTH))
    name = "log_scan" if log else "linear_scan"
    leaves = a.requires_grad_(), b.requires_grad_()
    with parity.on_kernels():
        h = getattr(functional, name)(*leaves)
        got = torch.autograd.grad(h, leaves, dh)
    pieces = [ends(t.detach(), 0).double().requires_grad_() for t in leaves]
    with parity.plain_torch():
        want = getattr(reference, name)(*pieces, None)
        wanted = torch.autograd.grad(want, pieces, ends(dh, 0).double())
    close("h", ends(h, 0), want, REL + ROUNDING)
    # an h rounded to the dtype is read where a row of the tile starts: in logs its error is one of log h
    size = float(want.detach().abs().max()) if log else 1.0
    for gradient, ours, theirs in zip(("da", "db"), got, wanted, strict=True):
        close(gradient, ends(ours, 0), theirs, REL + 2 * ROUNDING * max(1.0, size))
        put_ends(ours, 0, 0.0)
        assert not ours.any(), "a gradient where none came in"


def test_linear_of_many_rows() -> None:
    count = FAR // WIDTH + 1
    needs_memory(5, count * WIDTH)
    x, weight = rows(1, count, WIDTH), (torch.randn(1, WIDTH, WIDTH, device=DEVICE) / WIDTH**0.5).to(BF16)
    dy = torch.zeros_like(x)
    put_ends(dy, 1, rows(1, 2, WIDTH))
    leaves = x.requires_grad_(), weight.requires_grad_()
    with parity.on_kernels():
        y = functional.grouped_linear(*leaves, None, "silu")
        dx, dw = torch.autograd.grad(y, leaves, dy)
    pieces = [t.detach().double().requires_grad_() for t in (ends(x.detach(), 1), weight)]
    want = reference.grouped_linear(*pieces, None, "silu")
    wanted = torch.autograd.grad(want, pieces, ends(dy, 1).double())
    for name, got, exact in zip(("y", "dx", "dw"), (ends(y, 1), ends(dx, 1), dw), (want, *wanted), strict=True):
        close(name, got, exact, REL + 2 * ROUNDING)
    put_ends(dx, 1, 0.0)
    assert not dx.any(), "a gradient where none came in"
