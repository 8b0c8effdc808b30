"""The backend "torch": blocks of every form against the float64 steps, and what only blocks can get wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import rnam
from rnam.backends.blocks import gates, gru, linear, plan, products
from rnam.functional import grouped_linear, min_gru
from tests.support import bounds, inputs, oracle
from tests.support.assertions import assert_norm_within, assert_within

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

# terms, batch, seq, dim, hidden: with the limits below one block; several terms, rows and stretches of time; segments
# of time, and a tail that is none; rows that cannot stand side by side; more inputs than outputs and the reverse; one
# step, which is in no block without flags
SIZES = [
    (2, 3, 5, 4, 6),
    (3, 19, 37, 8, 8),
    (1, 1, 211, 2, 3),
    (2, 2, 75, 5, 3),
    (1, 2, 100, 40, 4),
    (2, 5, 90, 1, 16),
    (3, 4, 1, 5, 6),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits so small that the shapes of tests are cut in every way."""
    monkeypatch.setattr(plan, "WIDE", 128)
    monkeypatch.setattr(plan, "NARROW", 32)
    monkeypatch.setattr(gru, "FORWARD", 512)
    monkeypatch.setattr(gru, "BACKWARD", 256)
    monkeypatch.setattr(linear, "ELEMENTS", 256)
    with rnam.set_backend("torch"):
        yield


def test_the_shapes_are_cut_in_every_way() -> None:
    plans = [plan.Plan(torch.Size(size[:4]), size[4], gru.FORWARD) for size in SIZES]
    blocks = [[b for group in p.groups() for b in p.blocks(*group)] for p in plans]
    assert [bs for bs in blocks if len(bs) == 1]
    assert [p for p in plans if p.terms < p.sizes[0]]
    assert [p for p in plans if p.batch < p.sizes[1]]
    assert [b for bs in blocks for b in bs if b.segments > 1 and b.start]
    assert [bs for bs in blocks if bs[0].segments > 1 and bs[-1].segments == 1]


@given(
    sizes=st.tuples(*[st.integers(1, n) for n in (12, 12, 200)]),
    hidden=st.integers(1, 70),
    elements=st.sampled_from([64, 256, 4096]),
)
def test_blocks_hold_every_step_once(sizes: tuple[int, int, int], hidden: int, elements: int) -> None:
    """In the order of time, and within the buffers."""
    cut = plan.Plan(torch.Size((*sizes, 1)), hidden, elements)
    seen, x = torch.zeros(*sizes, 1), torch.arange(sizes[2]).expand(*sizes)[..., None]
    for group in cut.groups():
        end = 0
        for block in cut.blocks(*group):
            assert block.start == end
            end += block.segments * block.steps
            block.cut(seen).add_(1)
            part = block.cut(x)
            assert part[0, :, :, 0, 0].T.flatten().tolist() == list(range(block.start, end))
            assert part.numel() <= cut.rows
    assert (seen == 1).all()


@pytest.mark.parametrize("flagged", ["", "mask", "reset", "mask reset"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_min_gru(dtype: torch.dtype, size: tuple[int, ...], flagged: str) -> None:
    """Values and the gradient of every input, with negative states too."""
    terms, batch, seq, dim, hidden = size
    x, w, h0 = inputs.layer_inputs(terms, batch, seq, dim, hidden, seed=1)
    x, w = inputs.away_from_the_kink(x, w).to(dtype), w.to(dtype)
    h0 = h0.to(bounds.computed(dtype))
    mask, reset = inputs.mask_and_reset(terms, batch, seq)
    m, r = mask if "mask" in flagged else None, reset[:1] if "reset" in flagged else None
    grads = [
        g.to(t)
        for g, t in zip(inputs.layer_inputs(terms, batch, seq, hidden, hidden, 2)[::2], (dtype, h0.dtype), strict=True)
    ]

    def run(function: Any, to: torch.dtype | None) -> tuple[list[Tensor], list[Tensor]]:
        tensors = [t.detach().to(to or t.dtype).requires_grad_() for t in (x, w, h0)]
        out = function(*tensors)
        return [t.detach() for t in out], list(
            torch.autograd.grad(out, tensors, [g.to(o) for g, o in zip(grads, out, strict=True)])
        )

    (h, h_last), got = run(lambda x, w, h0: min_gru(x, w, h0, mask=m, reset=r), None)
    (exact, exact_last), expected = run(lambda x, w, h0: oracle.min_gru(x, w, h0, m, r), torch.float64)
    _, plain = run(lambda x, w, h0: oracle.min_gru(x, w, h0, m, r, dtype=h0.dtype), bounds.computed(dtype))
    if dtype == torch.float64:  # the steps are no more exact than that themselves
        return bounds.assert_same([h, h_last, *got], [exact, exact_last, *expected])
    bound = bounds.min_gru(x, w, h0, m, r, dtype=dtype)
    assert (h.dtype, h_last.dtype) == (dtype, bounds.computed(dtype))
    assert_within("h", h, exact, bound)
    assert_within("h_last", h_last, exact_last, bound[:, :, -1:])
    for name, g, e, p in zip(("dx", "dw", "dh0"), got, expected, plain, strict=True):
        assert_norm_within(name, g, e, bounds.gradient(e, p, dtype))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_masked_step_holds_the_state_to_the_bit(size: tuple[int, ...]) -> None:
    """Across segments and blocks, whatever stands there, and with a gradient of exactly 0."""
    terms, batch, seq = size[:3]
    x, w, h0 = inputs.layer_inputs(*size, dtype=torch.float32)
    mask, _ = inputs.mask_and_reset(terms, batch, seq)
    mask[:, :, seq // 3 : seq - 2] = False
    x = torch.where(mask[..., None], x, torch.nan).requires_grad_()
    h, h_last = min_gru(x, w.requires_grad_(), h0, mask=mask)
    before = torch.cat([h0, h[:, :, :-1]], dim=2)
    assert torch.equal(h[~mask], before[~mask])
    dx, dw = torch.autograd.grad(h.sum() + h_last.sum(), (x, w))
    assert (dx[~mask] == 0).all()
    assert dw.isfinite().all()


def test_a_row_keeps_its_nan() -> None:
    """Rows of 4 stand side by side in one product, whose zeros must not carry a NaN to the next row."""
    x, w, _ = inputs.layer_inputs(2, 4, 10, 4, 4)
    clean, _ = min_gru(x, w)
    x[0, 1, 3] = torch.nan
    x[1, 2, 4] = torch.inf
    h, _ = min_gru(x.requires_grad_(), w)
    assert h[0, 1, 3:].isnan().all()
    others = torch.ones(2, 4, 10, dtype=torch.bool)
    others[0, 1, 3:] = others[1, 2, 4:] = False
    bounds.assert_same(h[others], clean[others])  # each row by itself is another order of sums
    (dx,) = torch.autograd.grad(h.sum(), x)
    assert dx[0, [0, 2, 3]].isfinite().all()
    assert dx[1, [0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_copied_as_words_to_the_bit(dtype: torch.dtype, width: int) -> None:
    """Wherever they start in memory, whatever bits they hold, and where the source is one row for all."""
    size = (2, 5, 7, width)
    count = math.prod(size)
    memory = bytearray(torch.randint(256, ((count + 3) * dtype.itemsize,), dtype=torch.uint8).tolist())
    for start in range(3):
        source = torch.frombuffer(memory, dtype=dtype, count=count, offset=start * dtype.itemsize).view(size)
        for part in (source, source[:, :1].expand(size), source[:, :, ::2], source.flip(3)):
            turned = part.transpose(1, 2)
            to = torch.zeros(turned.shape, dtype=dtype)
            assert plan.copy(to, turned) is to
            assert torch.equal(to.view(torch.int8), turned.contiguous().view(torch.int8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_sigmoids_of_a_gate(dtype: torch.dtype) -> None:
    """Off by the rounding of the exponent, half an ulp of |k| and of log2 e, and three operations; never denormal."""
    inf, nan = torch.inf, torch.nan
    k = torch.tensor([0, 1, -20, 20, -87, 87, -700, 700, -1e4, 1e4, -inf, inf, nan], dtype=dtype)
    a, z = gates._sigmoids(k.clone(), torch.empty_like(k))
    unit, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    for got, x in ((z, k.double()), (a, -k.double())):
        assert got[-1].isnan() and z[:-1].min() >= tiny
        band = unit * (k.double().abs().clamp(max=1e3) + 4) * x.sigmoid() + 2 * tiny
        assert_within("sigmoid", got[:-1], x.sigmoid()[:-1], band[:-1])


@pytest.mark.parametrize("size", [(1, 3, 300, 1, 8), (1, 1, 211, 2, 3), (3, 4, 1, 5, 6)])
def test_closed_gates_hold_the_state(size: tuple[int, ...]) -> None:
    """To the bit, for as long as they are closed: a product of two roundings is often the number below 1."""
    terms, batch, steps, dim, hidden = size
    x = torch.rand(terms, batch, steps, dim, generator=torch.Generator().manual_seed(0)) + 1
    closed = torch.linspace(-40, -20, hidden).expand(terms, dim, hidden)
    h0 = torch.linspace(0.1, 3, terms * batch * hidden).view(terms, batch, 1, hidden)
    h, h_last = min_gru(x, torch.cat([torch.ones(terms, dim, hidden), closed], 2), h0)
    assert torch.equal(h, h0.expand_as(h)) and torch.equal(h_last, h0)


def test_an_infinite_weight_stays_in_its_column() -> None:
    x, w, _ = inputs.layer_inputs(1, 2, 6, 4, 4)
    x[..., 0] = x[..., 0].abs() + 0.1
    w[0, 0, 4] = torch.inf  # a gate of 1
    expected, _ = oracle.min_gru(x, w)
    bounds.assert_same(min_gru(x, w)[0], expected)


@pytest.mark.parametrize("junk", [torch.inf, torch.nan])
def test_a_masked_row_keeps_its_junk_to_itself(junk: float) -> None:
    """A state that is not finite, in a row that is never observed, has no share in any gradient."""
    x, w, h0 = inputs.layer_inputs(1, 2, 6, 3, 4)
    h0[0, 1] = junk
    mask = torch.tensor([True, False])[:, None]
    h, _ = min_gru(x.requires_grad_(), w.requires_grad_(), h0, mask=mask)
    dx, dw = torch.autograd.grad(h[:, 0].sum(), (x, w))
    alone = torch.autograd.grad(min_gru(x[:, :1], w, h0[:, :1])[0].sum(), (x, w))
    assert (dx[:, 1] == 0).all()
    bounds.assert_same((dx, dw), alone)


def test_an_infinite_gradient_stays_away_from_masked_steps() -> None:
    x, w, _ = inputs.layer_inputs(1, 1, 8, 3, 4)
    mask = torch.arange(8) != 4
    h, _ = min_gru(x.requires_grad_(), w, mask=mask)
    (dx,) = torch.autograd.grad(h, x, torch.where(torch.arange(8) == 5, torch.inf, 1.0)[:, None].double().expand_as(h))
    assert (dx[:, :, 4] == 0).all()
    assert dx[:, :, 6:].isfinite().all()


def test_blocks_of_a_wide_input_are_small_too() -> None:
    cut = plan.Plan(torch.Size((1, 8, 4096, 1024)), 2, 1 << 17)
    assert cut.rows * 1024 <= 1 << 17


def test_an_infinite_state_stays() -> None:
    x, w, h0 = inputs.layer_inputs(1, 2, 40, 3, 3)
    h0[0, 1] = torch.inf
    h, _ = min_gru(x, w, h0)
    assert h[0, 0].isfinite().all()
    assert (h[0, 1] == torch.inf).all()


def test_one_step_from_a_float32_state() -> None:
    """Into float64, where the state's type is another."""
    x, w, h0 = inputs.layer_inputs(2, 3, 1, 4, 5)
    h, h_last = min_gru(x, w, h0.float())
    exact, _ = oracle.min_gru(x, w, h0.float())
    bounds.assert_same((h, h_last), (exact, exact))
    h.zero_()
    bounds.assert_same(h_last, exact)


@pytest.mark.parametrize("shape", ["expanded", "transposed", "sliced"])
def test_layouts(shape: str) -> None:
    """Inputs and incoming gradients that are views give what their copies give."""
    x, w, _ = inputs.layer_inputs(3, 4, 20, 5, 6)
    dh = torch.randn(3, 4, 20, 6, dtype=torch.float64)
    view = {
        "expanded": lambda t: t[:, :1].expand_as(t),
        "transposed": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
        "sliced": lambda t: torch.cat([t, t], -1)[..., : t.shape[-1]],
    }[shape]
    results = []
    for a, g in ((view(x), view(dh)), (view(x).contiguous(), view(dh).contiguous())):
        a = a.detach().requires_grad_()
        h, _ = min_gru(a, w)
        results.append((h, *torch.autograd.grad(h, a, g)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu"])
@pytest.mark.parametrize("size", [(3, 7, 4, 6), (5, 32, 1, 3), (2, 100, 8, 8), (2, 40, 33, 2), (40, 1, 3, 3)], ids=str)
def test_grouped_linear(size: tuple[int, ...], activation: Any, dtype: torch.dtype) -> None:
    """A sum of dim products errs by dim units of the sum of their sizes, and a slope of an activation is at most 1.13.
    The second derivatives of gelu and silu are below 1.13 too: the slope errs by the error of its argument."""
    terms, rows, dim, hidden = size
    x, w, b, dy = (
        torch.randn(*s, dtype=torch.float64).to(dtype)
        for s in ((terms, rows, dim), (terms, dim, hidden), (terms, 1, hidden), (terms, rows, hidden))
    )
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    y = grouped_linear(*leaves, activation)
    got = torch.autograd.grad(y, leaves, dy)
    doubles = [t.double().requires_grad_() for t in (x, w, b)]
    exact = {None: lambda t: t}.get(activation) or getattr(torch.nn.functional, str(activation))
    u = doubles[0] @ doubles[1] + doubles[2]
    expected = torch.autograd.grad(exact(u), doubles, dy.double())
    unit = bounds.unit(bounds.computed(dtype))
    error = 1.13 * (dim + bounds.BAND) * unit * (x.double().abs() @ w.double().abs() + b.double().abs() + 1)
    assert_within("y", y, exact(u), error + bounds.unit(dtype) * exact(u).abs())
    # at the kink of relu a sign may differ; inputs drawn here have none within the error
    assert activation != "relu" or (u.abs() - error).min() > 0 or dtype in (torch.bfloat16, torch.float16)
    g, g_error = dy.double().abs() * 1.13, dy.double().abs() * error
    limits = (
        g_error @ w.double().abs().mT + (hidden + bounds.BAND) * unit * (g @ w.double().abs().mT),
        x.double().abs().mT @ g_error + (rows + bounds.BAND) * unit * (x.double().abs().mT @ g),
        g_error.sum(1, keepdim=True) + (rows + bounds.BAND) * unit * g.sum(1, keepdim=True),
    )
    for name, value, e, limit in zip(("dx", "dw", "db"), got, expected, limits, strict=True):
        assert value.dtype == dtype
        assert_within(name, value, e, limit + bounds.unit(dtype) * e.abs())


@pytest.mark.parametrize("into", [1, 2, 3, 8, 11, 12, 40])
@pytest.mark.parametrize("out", [1, 2, 5, 8, 11, 12, 16, 40])
@pytest.mark.parametrize("rows", [7, 32])
def test_products(into: int, out: int, rows: int) -> None:
    """Side by side, transposed or as they stand; rows that do not divide; one of several terms; added to."""
    x, y = torch.randn(1, rows, into, dtype=torch.float64), torch.randn(1, rows, out, dtype=torch.float64)
    w = torch.randn(3, into, out, dtype=torch.float64)
    product, terms = products.Product(w), slice(1, 2)
    result = torch.full((1, rows, out), torch.nan, dtype=torch.float64)
    product(x, terms, result)
    bounds.assert_same(result, x @ w[1:2])
    product(x, terms, result, add=True)
    bounds.assert_same(result, 2 * x @ w[1:2])
    total = products.Sum(w)
    total(x, y, terms)
    total(2 * x, y, terms)
    bounds.assert_same(total.total[1:2], 3 * x.mT @ y)
    assert (total.total[[0, 2]] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_memory_of_large_results(dtype: torch.dtype) -> None:
    """Above the size at which it comes from numpy too it is a tensor of its own, aligned as torch's are."""
    like = torch.empty(1, dtype=dtype)
    for sizes in (torch.Size((3, 5)), torch.Size((4, plan.HUGE // 4))):
        t = plan.new(sizes, like)
        assert (t.shape, t.dtype, t.is_contiguous(), t._base) == (sizes, dtype, True, None)
        assert t.untyped_storage().nbytes() == t.numel() * t.element_size()
        assert t.data_ptr() % 64 == 0
        t.fill_(1)
        assert (t == 1).all()


def test_calls_agree_to_the_bit() -> None:
    x, w, h0 = inputs.layer_inputs(3, 9, 211, 8, 8, dtype=torch.float32)

    def run() -> list[Tensor]:
        leaves = [t.clone().requires_grad_() for t in (x, w, h0)]
        h, h_last = min_gru(*leaves)
        return [h, h_last, *torch.autograd.grad(h.sin().sum() + h_last.sum(), leaves)]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)
