"""Elapsed times of a recurrence: 1 - z = exp(-elapsed softplus(k)), on the reference and on the blocks.

Blocks are made so small that the shapes here are cut in terms, rows, stretches and segments of time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap

import rnam
from rnam.backends.blocks import gru, one_step, plan
from rnam.backends.calls import Recurrence
from rnam.functional import min_gru, min_gru_block, min_gru_projected, min_lstm, recurrence
from tests.support import bounds, inputs, oracle
from tests.support.assertions import assert_equal, assert_finite, assert_norm_within, assert_within

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# terms, batch, seq, dim, hidden
SIZES = [(2, 3, 1, 4, 5), (3, 4, 9, 5, 3), (2, 9, 40, 3, 8), (1, 1, 211, 2, 3)]
# torch.func.jvp imports a part of torch that scripts decompositions
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

WAYS = [("torch", "linear"), ("reference", "linear"), ("reference", "log")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WIDE", 128)
    monkeypatch.setattr(plan, "NARROW", 32)
    monkeypatch.setattr(gru, "FORWARD", 512)
    monkeypatch.setattr(gru, "BACKWARD", 256)


@pytest.fixture(params=WAYS, ids=" ".join)
def space(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend, and each space that it has of its own."""
    name, space = request.param
    with rnam.set_backend(name):
        yield space


def times(terms: int, batch: int, seq: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """From a thousandth to a thousand, and none at about every tenth step."""
    rng = torch.Generator().manual_seed(seed)
    elapsed = torch.exp(2 * torch.randn(terms, batch, seq, generator=rng, dtype=torch.float64))
    return torch.where(torch.rand(terms, batch, seq, generator=rng) < 0.1, 0.0, elapsed).to(dtype)


def drawn(size: tuple[int, ...], dtype: torch.dtype, preacts: int = 2) -> list[Tensor]:
    """x, weight, h0 >= 0, elapsed and bias; times and states of half precision are float32."""
    terms, batch, seq, dim, hidden = size
    x, w, h0 = inputs.layer_inputs(terms, batch, seq, dim, hidden, seed=1)
    if preacts == 3:
        w = torch.cat([w, w[..., :hidden].roll(1, -1)], -1)
    x, w = inputs.away_from_the_kink(x, w[..., : 2 * hidden], 0.02), w
    bias = torch.randn(terms, 1, preacts * hidden, dtype=torch.float64)
    bias[..., :hidden] = 0  # u keeps away from the kink
    inside = bounds.computed(dtype)
    return [x.to(dtype), w.to(dtype), h0.abs().to(inside), times(terms, batch, seq, inside), bias.to(dtype)]


Function = Callable[..., tuple[Tensor, Tensor]]


def outputs(function: Function, tensors: list[Tensor], dtype: torch.dtype | None) -> tuple[list[Tensor], list[Tensor]]:
    """What a function of drawn tensors gives in their dtypes or in another one, and every gradient."""
    leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in tensors]
    out = function(*leaves)
    rng, given = torch.Generator().manual_seed(3), tensors[0].dtype  # numbers that every dtype here has
    incoming = [torch.randn(o.shape, generator=rng, dtype=torch.float64).to(given).to(o.dtype) for o in out]
    found = torch.autograd.grad(out, leaves, incoming)
    return [o.detach() for o in out], list(found)


NAMES = ("dx", "dw", "dh0", "d_elapsed", "d_bias")


@pytest.mark.parametrize("flagged", ["", "mask", "mask reset"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_every_gradient(space: str, dtype: torch.dtype, size: tuple[int, ...], flagged: str) -> None:
    """With NaN in masked places of the input and of the times, whose gradients are 0 there."""
    tensors = drawn(size, dtype)
    mask, reset = inputs.mask_and_reset(*size[:3])
    m, r = mask if "mask" in flagged else None, reset[:1] if "reset" in flagged else None
    if m is not None:
        tensors[0] = torch.where(m[..., None], tensors[0], torch.nan)
        tensors[3] = torch.where(m, tensors[3], torch.nan)

    def ours(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        return min_gru(x, w, h0, mask=m, reset=r, bias=b, elapsed=e, space=space)

    def steps(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        return oracle.min_gru(x, w, h0, m, r, bias=b, elapsed=e, dtype=h0.dtype)

    (h, h_last), got = outputs(ours, tensors, None)
    (exact, exact_last), expected = outputs(steps, tensors, torch.float64)
    _, plain = outputs(steps, tensors, bounds.computed(dtype))
    assert [g.dtype for g in got] == [t.dtype for t in tensors]
    if dtype == torch.float64:  # the steps are no more exact than that themselves
        bounds.assert_same([h, h_last, *got], [exact, exact_last, *expected])
    else:
        x, w, h0, e, b = tensors
        bound = bounds.min_gru(x, w, h0, m, r, dtype=dtype, space=space, bias=b, elapsed=e)
        assert_within("h", h, exact, bound)
        assert_within("h_last", h_last, exact_last, bound[:, :, -1:])
        for name, g, e, p in zip(NAMES, got, expected, plain, strict=True):
            assert_norm_within(name, g, e, bounds.gradient(e, p, dtype))
    if m is not None:
        assert (got[0][~m] == 0).all() and (got[3][~m] == 0).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_min_lstm_takes_the_power_of_its_normalised_forget_gate(backend: str, size: tuple[int, ...]) -> None:
    tensors = drawn(size, torch.float64, preacts=3)
    mask, reset = inputs.mask_and_reset(*size[:3])
    tensors[0] = torch.where(mask[..., None], tensors[0], torch.nan)
    tensors[3] = torch.where(mask, tensors[3], torch.nan)
    with rnam.set_backend(backend):
        values, got = outputs(
            lambda x, w, h0, e, b: min_lstm(x, w, h0, mask=mask, reset=reset, bias=b, elapsed=e), tensors, None
        )
    exact, expected = outputs(
        lambda x, w, h0, e, b: oracle.min_lstm(x, w, h0, mask, reset, bias=b, elapsed=e), tensors, None
    )
    bounds.assert_same([*values, *got], [*exact, *expected])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_min_lstm_of_half_precision_rounds_nothing_between_its_two_operators(dtype: torch.dtype) -> None:
    """Its error is that of the float32 steps and one rounding."""
    tensors = drawn((2, 9, 40, 3, 8), dtype, preacts=3)
    x, w, h0, e, b = tensors
    exact, _ = oracle.min_lstm(x, w, h0, bias=b, elapsed=e)
    plain, _ = oracle.min_lstm(x, w, h0, bias=b, elapsed=e, dtype=torch.float32)
    h, h_last = min_lstm(x, w, h0, bias=b, elapsed=e)
    largest = torch.maximum(exact.abs().amax(2, keepdim=True), h0.abs())
    error = 2 * (plain - exact).abs().amax(2, keepdim=True) + bounds.BAND * bounds.unit(torch.float32) * largest
    assert_within("h", h, exact, error + bounds.unit(dtype) * exact.abs() + torch.finfo(dtype).tiny)
    assert h_last.dtype == torch.float32
    assert_within("h_last", h_last, exact[:, :, -1:], error)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("function", [min_gru, min_lstm])
def test_a_time_of_one_is_the_published_step(space: str, function: Function, size: tuple[int, ...]) -> None:
    x, w, h0, _, b = drawn(size, torch.float64, 2 if function is min_gru else 3)
    options = {"space": space} if function is min_gru else {}
    found = [
        outputs(lambda x, w, h0, b, e=e: function(x, w, h0, bias=b, elapsed=e, **options), [x, w, h0, b], None)
        for e in (torch.ones((), dtype=x.dtype), None)
    ]
    bounds.assert_same([*found[0][0], *found[0][1]], [*found[1][0], *found[1][1]])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_halves_are_one_whole(space: str, dtype: torch.dtype) -> None:
    """Exact to rounding: of the states at each second of twice as many steps."""
    x, w, h0, e, b = drawn((2, 9, 20, 3, 8), dtype)
    twice, halves = x.repeat_interleave(2, 2), e.repeat_interleave(2, 2) / 2
    whole, last = min_gru(x, w, h0, bias=b, elapsed=e, space=space)
    h, h_last = min_gru(twice, w, h0, bias=b, elapsed=halves, space=space)
    bound = bounds.min_gru(x, w, h0, dtype=dtype, space=space, bias=b, elapsed=e)
    bound = bound + bounds.min_gru(twice, w, h0, dtype=dtype, space=space, bias=b, elapsed=halves)[:, :, 1::2]
    assert_within("h", h[:, :, 1::2], whole, bound)
    assert_within("h_last", h_last, last, bound[:, :, -1:])


def of_preacts(preacts: Tensor, h0: Tensor | None, elapsed: Tensor, space: str = "linear") -> tuple[Tensor, Tensor]:
    """Of (u | k) themselves: a product with the identity would multiply an infinity by 0."""
    return recurrence(Recurrence(preacts, None, h0, elapsed, space=space), None, None)


EXTREMES = [-torch.inf, -1e4, -200.0, -20.0, 0.0, 3.0, 200.0, 1e4, torch.inf]


@pytest.mark.parametrize("seq", [1, 3, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_time_holds_the_state_to_the_bit(space: str, dtype: torch.dtype, seq: int) -> None:
    """For every u and k, infinite ones too, at steps in all places, and the state goes on from there."""
    k = torch.tensor(EXTREMES, dtype=dtype)
    preacts = torch.cat([k.flip(0), k]).expand(1, 2, seq, -1)
    h0 = torch.rand(1, 2, 1, len(k), dtype=dtype) + 0.1
    usual = torch.randn(1, 2, seq, 2 * len(k), dtype=dtype)
    still = torch.rand(1, 2, seq) < 0.8
    still[:, 0], still[:, 1, -1] = True, False
    given = torch.where(still[..., None], preacts, usual)
    elapsed = torch.where(still, 0.0, 1.5).to(dtype)
    h, h_last = of_preacts(given, h0, elapsed, space)
    before = torch.cat([h0, h[:, :, :-1]], 2)
    assert_equal("held states", h[still], before[still])
    assert_equal("h_last", h_last, h[:, :, -1:])
    assert torch.equal(h[:, 0], h0[:, 0].expand_as(h[:, 0]))
    assert_finite("h", h)
    assert (h[:, 1, -1] != before[:, 1, -1]).any()


@pytest.mark.parametrize("gates", [EXTREMES[1:], [-1e4, -200.0, 3.0]], ids=("wide", "closed"))
@pytest.mark.parametrize("seq", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_time_forgets(space: str, dtype: torch.dtype, seq: int, gates: list[float]) -> None:
    """At every rate: the state is g(u), and k and the times get a gradient of exactly 0."""
    k = torch.tensor(gates, dtype=dtype)
    u = torch.linspace(-3, 2.5, len(k), dtype=dtype)
    preacts = torch.cat([u, k]).expand(1, 2, seq, -1).clone().requires_grad_()
    h0 = torch.rand(1, 2, 1, len(k), dtype=dtype).requires_grad_()
    elapsed = torch.full((seq,), torch.inf, dtype=dtype).requires_grad_()
    h, h_last = of_preacts(preacts, h0, elapsed, space)
    g = torch.where(u >= 0, u + 0.5, u.sigmoid())
    bounds.assert_same([h, h_last], [g.expand_as(h), g.expand_as(h_last)])
    dp, dh0, de = torch.autograd.grad(h.sum() + h_last.sum(), (preacts, h0, elapsed))
    du, dk = dp.chunk(2, dim=-1)
    assert (dk == 0).all() and (dh0 == 0).all() and (de == 0).all()
    slope = torch.where(u >= 0, 1.0, u.sigmoid() * (1 - u.sigmoid())).to(dtype).expand_as(du).clone()
    slope[:, :, -1] *= 2
    bounds.assert_same(du, slope)


@pytest.mark.parametrize("time", [0.0, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("gate", EXTREMES)
@pytest.mark.parametrize("seq", [1, 7])
def test_gradients_at_extreme_gates_are_finite(space: str, gate: float, time: float, seq: int) -> None:
    preacts = torch.tensor([0.7, -0.3, gate, gate]).expand(1, 2, seq, 4).clone().requires_grad_()
    h0 = torch.rand(1, 2, 1, 2).requires_grad_()
    elapsed = torch.full((2, seq), time).requires_grad_()
    h, h_last = of_preacts(preacts, h0, elapsed, space)
    found = torch.autograd.grad(h.sum() + h_last.sum(), (preacts, h0, elapsed))
    for name, value in zip(("h", "d_preacts", "dh0", "d_elapsed"), (h.detach(), *found), strict=True):
        assert_finite(name, value)
    if time == 0:
        assert (found[0] == 0).all()
    if time == 0 and gate in (torch.inf, -torch.inf):  # blocks have e^k of the smallest normal number at least
        assert_within("d_elapsed", found[2], torch.zeros_like(found[2]), 100 * torch.finfo(torch.float32).tiny)
    if gate == torch.inf and time > 0:
        assert_within("h", h.detach()[..., 0], torch.full((1, 2, seq), 1.2), 4 * bounds.unit(torch.float32))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("seq", [1, 6])
def test_gradients_pass_a_step_of_no_time_whatever_it_holds(seq: int, part: int, bad: float) -> None:
    """As they pass a step that is not there."""
    drawn_preacts, h0 = torch.randn(1, 2, seq, 4, dtype=torch.float64), torch.rand(1, 2, 1, 2, dtype=torch.float64)
    still = seq // 2
    keep = [t for t in range(seq) if t != still]

    def gradients(preacts: Tensor, elapsed: Tensor) -> tuple[Tensor, ...]:
        given = preacts.clone().requires_grad_(), h0.clone().requires_grad_()
        h, h_last = of_preacts(*given, elapsed)
        return torch.autograd.grad(h.sin().sum() + h_last.sum(), given)

    broken = drawn_preacts.clone()
    broken[:, :, still, 2 * part : 2 * part + 2] = bad
    elapsed = torch.ones(seq, dtype=torch.float64)
    elapsed[still] = 0
    calm = drawn_preacts.clone()
    calm[:, :, still] = 0.5
    (d_preacts, dh0), (expected, expected_h0) = gradients(broken, elapsed), gradients(calm, elapsed)
    bounds.assert_same(dh0, expected_h0)
    bounds.assert_same(d_preacts[:, :, keep], expected[:, :, keep])
    assert_finite("d_preacts", d_preacts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("seq", [1, 2])
def test_a_gate_that_hardly_opens_has_all_digits(backend: str, dtype: torch.dtype, seq: int) -> None:
    """z of one step, against 100 digits: -expm1(-dt log1p(e^k)) has a handful of roundings, and the exponent of e^k
    |k| of them."""
    gates, spans = [-80.0, -30.0, -18.0, -12.0, -5.0, -1.0, 0.5, 4.0], [1e-6, 1e-3, 0.3, 1.0, 7.0, 1e3]
    preacts = torch.tensor([0.5] * len(gates) + gates, dtype=dtype).expand(1, len(spans), seq, -1)
    elapsed = torch.tensor(spans, dtype=dtype)[:, None].expand(-1, seq)
    with rnam.set_backend(backend):
        z, _ = of_preacts(preacts, None, elapsed)
    with localcontext() as context:
        context.prec = 120
        exact = [[float(1 - (1 + Decimal(k).exp()) ** -Decimal(float(e))) for k in gates] for e in elapsed[:, 0]]
    want = torch.tensor(exact, dtype=torch.float64)
    roundings = bounds.BAND + torch.tensor(gates, dtype=torch.float64).abs()
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert_within("z", z[0, :, 0], want, roundings * (bounds.unit(dtype) * want + smallest))


SHAPES = [(), (7,), (3, 1), (1, 7), (3, 7), (2, 1, 1), (1, 3, 7), (2, 1, 7), (2, 3, 1), (2, 3, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seq", [1, 7])
def test_times_broadcast_and_their_gradient_has_their_shape(space: str, shape: tuple[int, ...], seq: int) -> None:
    shape = tuple(seq if n == 7 else n for n in shape)
    x, w, h0, _, b = drawn((2, 3, seq, 4, 5), torch.float64)
    e = (torch.rand(shape, dtype=torch.float64) + 0.2).requires_grad_()
    whole = e.detach().expand(2, 3, seq).clone().requires_grad_()
    got, want = (
        torch.autograd.grad(min_gru(x, w, h0, bias=b, elapsed=t, space=space)[0].sin().sum(), t)[0] for t in (e, whole)
    )
    assert got.shape == shape
    bounds.assert_same(got, want.sum_to_size(shape))


@given(cuts=st.lists(st.integers(0, 60), max_size=6), backend=st.sampled_from(["torch", "reference"]))
@pytest.mark.parametrize("cell", [rnam.minGRU, rnam.minLSTM])
def test_steps_and_chunks_are_the_whole(cell: type, cuts: list[int], backend: str) -> None:
    layer = cell(2, 3, 2.0, dtype=torch.float64, timescales=(0.5, 50))
    x, _, _, e, _ = drawn((2, 3, 60, 3, 6), torch.float64)
    mask, reset = inputs.mask_and_reset(2, 3, 60)
    ends = sorted({0, 60, 30, 31, *cuts})
    with rnam.set_backend(backend):
        whole, last = layer(x, mask=mask, reset=reset, elapsed=e)
        state, parts = None, []
        for start, stop in itertools.pairwise(ends):
            part = slice(start, stop)
            out, state = layer(
                x[:, :, part], state, mask=mask[:, :, part], reset=reset[:, :, part], elapsed=e[:, :, part]
            )
            parts.append(out)
    bounds.assert_same([torch.cat(parts, 2), state], [whole, last])


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("embedded", [False, True])
def test_a_block_and_a_projection_are_their_layers(backend: str, embedded: bool) -> None:
    x, w, h0, e, b = drawn((2, 3, 20, 6, 6), torch.float64)
    square, shift, norm = (
        torch.randn(2, 6, 6, dtype=x.dtype),
        torch.randn(2, 1, 6, dtype=x.dtype),
        torch.rand(6).double(),
    )
    embedding = None
    if embedded:
        x, embedding = x[..., :2].clone(), (torch.randn(2, 2, 6).double(), torch.randn(2, 1, 6).double())

    def fused(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        feed = norm, norm, square, shift, square, shift
        return min_gru_block(x, w, *feed, h0, bias=b, elapsed=e, embedding=embedding)

    def layers(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        inner = x if embedding is None else oracle.embed(x, *embedding)
        h, last = oracle.min_gru(inner, w, h0, bias=b, elapsed=e)
        return oracle.feed_forward(inner, h, norm, norm, square, shift, square, shift), last

    def both(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        return min_gru_projected(x, w, square, h0, bias=b, elapsed=e)

    def apart(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        h, last = oracle.min_gru(x, w, h0, bias=b, elapsed=e)
        return torch.einsum("fbth,fhd->fbtd", h, square), last

    pairs = [(fused, layers)] if embedded else [(fused, layers), (both, apart)]
    for function, expected in pairs:
        with rnam.set_backend(backend):
            values, got = outputs(function, [x, w, h0, e, b], None)
        exact, want = outputs(expected, [x, w, h0, e, b], None)
        bounds.assert_same([*values, *got], [*exact, *want])


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_layer_that_is_called_takes_times_too(backend: str) -> None:
    """A hook waits for its projection, whose output is the pre-activations."""
    for cell in (rnam.minGRU, rnam.minLSTM):
        layer = cell(2, 3, timescales=(1, 9), dtype=torch.float64)
        x, _, _, e, _ = drawn((2, 3, 20, 3, 3), torch.float64)
        mask, _ = inputs.mask_and_reset(2, 3, 20)
        x, e = torch.where(mask[..., None], x, torch.nan), torch.where(mask, e, torch.nan)
        with rnam.set_backend(backend):
            expected = layer(x, mask=mask, elapsed=e)
            called = []
            layer.to_hidden_and_gate.register_forward_hook(lambda *_, called=called: called.append(1))
            bounds.assert_same(layer(x, mask=mask, elapsed=e), expected)
        assert called == [1]


def test_one_large_step_is_the_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gradient, in place, as operations and in blocks; where no time has passed it holds infinite u too."""
    x, w, h0, e, b = drawn((2, 9, 1, 3, 8), torch.float64)
    e[0, :4] = 0
    x[0, :2] = torch.inf
    with torch.no_grad():
        found = []
        for few, most in ((1 << 12, 1 << 17), (0, 1 << 17), (0, 0)):
            monkeypatch.setattr(one_step, "FEW_NUMBERS", few)
            monkeypatch.setattr(one_step, "MOST", most)
            found.append(min_gru(x, w, h0, bias=b, elapsed=e))
    for other in found[1:]:
        bounds.assert_same(other, found[0])
    for h, _ in found:
        assert torch.equal(h[0, :4], h0[0, :4])


def test_a_time_that_does_not_fit_is_refused_by_name() -> None:
    x, w, _ = inputs.layer_inputs(2, 3, 7, 4, 5, dtype=torch.float32)
    for elapsed, error, message in (
        (torch.ones(3, 7, dtype=torch.int64), TypeError, "elapsed must be a float32.* got int64"),
        (torch.ones(3, 7, dtype=torch.bool), TypeError, "elapsed must be a float32.* got bool"),
        (torch.ones(3, 7, dtype=torch.float64), TypeError, "elapsed must be float32 to go with input, got float64"),
        (torch.ones(3, 6), ValueError, r"elapsed must be broadcastable to \(terms, batch, seq\) = \(2, 3, 7\)"),
        (torch.ones(1, 2, 3, 7), ValueError, "elapsed must be broadcastable"),
        (torch.ones(3, 7, device="meta"), ValueError, "elapsed must be on cpu as input is, got meta"),
        (1.0, TypeError, "elapsed must be a tensor, got float"),
    ):
        for function, weight in ((min_gru, w), (min_lstm, torch.cat([w, w[..., :5]], -1))):
            with pytest.raises(error, match=message):
                function(x, weight, elapsed=elapsed)
        with pytest.raises(error, match=message):
            min_gru_projected(x, w, torch.zeros(2, 5, 4), elapsed=elapsed)
        with pytest.raises(error, match=message):
            rnam.minGRU(2, 4)(x, elapsed=elapsed)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("seq", [1, 5])
@pytest.mark.parametrize("function", [min_gru, min_lstm])
def test_derivatives_of_every_order(backend: str, seq: int, function: Function) -> None:
    """gradcheck moves the times by 1e-6, so that none is 0 here; `test_values_and_every_gradient` has such."""
    tensors = drawn((2, 2, seq, 3, 2), torch.float64, 2 if function is min_gru else 3)
    tensors[3] = torch.rand(2, seq, dtype=torch.float64) + 0.3
    mask = torch.rand(2, 2, seq) > 0.3
    leaves = [t.detach().requires_grad_() for t in tensors]

    def both(x: Tensor, w: Tensor, h0: Tensor, e: Tensor, b: Tensor) -> Any:
        return function(x, w, h0, mask=mask, bias=b, elapsed=e)

    with rnam.set_backend(backend):
        assert gradcheck(both, leaves)
        assert gradgradcheck(both, leaves)


@pytest.mark.parametrize("in_dim", [None, 0])
@pytest.mark.parametrize("shape", [(1, 3, 6), (2, 3, 6), (6,)], ids=str)
def test_vmap_gives_each_sample_its_own_gradient_of_the_times(in_dim: int | None, shape: tuple[int, ...]) -> None:
    """Times that broadcast over terms or that every sample shares, mapped and not."""
    x, w, h0, _, b = drawn((2, 3, 6, 4, 5), torch.float64)
    xs = torch.stack([x, -x, 2 * x])
    times = torch.rand(3, *shape, dtype=torch.float64) + 0.1
    times = times if in_dim == 0 else times[0]

    def loss(x: Tensor, e: Tensor) -> Tensor:
        return min_gru(x, w, h0, bias=b, elapsed=e)[0].sin().sum()

    got = vmap(grad(loss, argnums=(0, 1)), in_dims=(0, in_dim))(xs, times)
    own = [grad(loss, argnums=(0, 1))(x, times[n] if in_dim == 0 else times) for n, x in enumerate(xs)]
    bounds.assert_same(got, [torch.stack(t) for t in zip(*own, strict=True)])
    values = vmap(lambda x, e: min_gru(x, w, h0, bias=b, elapsed=e), in_dims=(0, in_dim))(xs, times)
    each = [min_gru(x, w, h0, bias=b, elapsed=times[n] if in_dim == 0 else times) for n, x in enumerate(xs)]
    bounds.assert_same(values, [torch.stack(t) for t in zip(*each, strict=True)])


@pytest.mark.parametrize("shape", [(1, 3, 6), (2, 3, 6), (1, 1, 1)], ids=str)
def test_vmap_of_the_backward_op(shape: tuple[int, ...]) -> None:
    """A gradient of the times has their shape for each sample, without autograd's help."""
    x, w, h0, _, _ = drawn((2, 3, 6, 4, 5), torch.float32)
    times = torch.rand(shape)
    h, _ = min_gru(x, w, h0, elapsed=times)
    grads = torch.randn(3, *h.shape)

    def backward(dh: Tensor) -> tuple[Tensor, ...]:
        call = x, w, h0, times, None, "mingru", "linear"
        return torch.ops.rnam.blocked_min_gru_backward(*call, h, dh, None, [True] * 4)

    each = [backward(dh) for dh in grads]
    assert each[0][3].shape == times.shape
    bounds.assert_same(vmap(backward)(grads), [torch.stack(t) for t in zip(*each, strict=True)])


def test_forward_mode_is_the_reference() -> None:
    x, w, h0, e, b = drawn((2, 3, 6, 4, 5), torch.float64)
    e = e + 0.1

    def states(e: Tensor) -> Tensor:
        return min_gru(x, w, h0, bias=b, elapsed=e)[0]

    with rnam.set_backend("reference"):
        _, tangent = jvp(states, (e,), (torch.ones_like(e),))
        moved = (states(e + 1e-6) - states(e - 1e-6)) / 2e-6
    torch.testing.assert_close(tangent, moved, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("batch", "seq"), [(0, 5), (3, 0), (0, 0)])
@pytest.mark.parametrize("kind", [rnam.minGRU, rnam.minLSTM])
def test_empty_sequences(kind: type, batch: int, seq: int) -> None:
    layer, h0 = kind(2, 4, timescales=(1, 9)), torch.rand(2, batch, 1, 4)
    elapsed = torch.ones(batch, seq, requires_grad=True)
    output, state = layer(torch.zeros(2, batch, seq, 4), h0, elapsed=elapsed)
    assert output.shape == (2, batch, seq, 4) and torch.equal(state, h0)
    found = torch.autograd.grad(output.sum() + state.sum(), [elapsed, *layer.parameters()])
    assert [g.shape for g in found] == [t.shape for t in (elapsed, *layer.parameters())]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_leaves_the_times_as_they_are(dtype: torch.dtype) -> None:
    x, w, _, e, b = drawn((2, 3, 30, 4, 5), torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        h, _ = min_gru(x, w, bias=b, elapsed=e)
    half = x.to(dtype), w.to(dtype)
    exact, _ = oracle.min_gru(*half, bias=b, elapsed=e)
    assert h.dtype == dtype
    assert_within("h", h, exact, bounds.min_gru(*half, dtype=dtype, bias=b, elapsed=e))


def test_a_negative_time_runs_away() -> None:
    """It is not looked at: the formula is the same one."""
    x, w, h0, e, b = drawn((2, 3, 5, 4, 5), torch.float64)
    exact, _ = oracle.min_gru(x, w, h0, bias=b, elapsed=-e.clamp(max=1))
    for name in ("torch", "reference"):
        with rnam.set_backend(name):
            bounds.assert_same(min_gru(x, w, h0, bias=b, elapsed=-e.clamp(max=1))[0], exact)
    assert min_gru(x, w, h0, bias=b, elapsed=-e - 1, space="log")[0].isnan().all()
