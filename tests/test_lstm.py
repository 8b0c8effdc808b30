"""minLSTM: its formula step by step in float64, on every backend; what it shares with minGRU is tested there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import rnam
from rnam.backends.blocks import gru, plan
from rnam.functional import min_lstm
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_equal, assert_norm_within
from tests.support.selection import crossed

F, B, D, H = 2, 3, 4, 5


@pytest.fixture(
    autouse=True,
    params=backends.EACH,
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # blocks so small that the shapes here are cut in terms, rows, stretches and segments of time
    monkeypatch.setattr(plan, "WIDE", 64)
    monkeypatch.setattr(plan, "NARROW", 40)
    monkeypatch.setattr(gru, "FORWARD", 512)
    monkeypatch.setattr(gru, "BACKWARD", 256)
    with rnam.set_backend(request.param):
        yield request.param


def _arguments(seq: int, dtype: torch.dtype, rows: int = B) -> tuple[list[Tensor], Tensor, Tensor]:
    """x, weight and h0; a mask and a reset. u keeps away from the kink of g."""
    x, w, _ = inputs.layer_inputs(F, rows, seq, D, 2 * H, seed=seq)
    x = inputs.away_from_the_kink(x, w[..., : 2 * H], 1e-3)
    weight = torch.cat([w[..., :H], w[..., 2 * H :]], dim=-1)
    _, _, h0 = inputs.layer_inputs(F, rows, seq, D, H, seed=seq)
    mask, reset = inputs.mask_and_reset(F, rows, seq)
    return [x.to(dtype), weight.to(dtype), h0.to(bounds.computed(dtype))], mask, reset


def _run(function: Any, tensors: list[Tensor], grads: tuple[Tensor, Tensor], **flags: Any) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = function(*leaves, **flags)
    used = [g.to(o) for g, o in zip(grads, out, strict=True)]
    return (*(o.detach() for o in out), *torch.autograd.grad(out, leaves, used))


@pytest.mark.parametrize(
    ("dtype", "size", "flagged"),
    crossed(
        (torch.float64, torch.float32, torch.bfloat16, torch.float16),
        ((1, B), (2, B), (17, B), (75, 1)),
        (False, True),
        short=lambda dtype, size, flagged: flagged and size[0] != 2 and (dtype == torch.float32 or size[0] == 17),
    ),
    ids=str,
)
def test_values_and_gradients(backend: str, dtype: torch.dtype, size: tuple[int, int], flagged: bool) -> None:
    if backend == "triton" and dtype == torch.float64:
        pytest.skip("the kernels take no float64")
    seq, rows = size
    tensors, mask, reset = _arguments(seq, dtype, rows)
    flags = dict(mask=mask, reset=reset[:1]) if flagged else {}
    generator = torch.Generator().manual_seed(1)
    grads = tuple(torch.randn(F, rows, n, H, generator=generator, dtype=torch.float64) for n in (seq, 1))
    grads = (grads[0].to(dtype).double(), grads[1].float().double())
    got = _run(min_lstm, tensors, grads, **flags)
    wide = [t.double() for t in tensors]
    exact = _run(oracle.min_lstm, wide, grads, **flags)
    if dtype == torch.float64:
        return bounds.assert_same(got, exact)
    inside = bounds.computed(dtype)
    same = _run(lambda *t, **c: oracle.min_lstm(*t, dtype=inside, **c), [t.to(inside) for t in tensors], grads, **flags)
    assert [t.dtype for t in got] == [dtype, inside, dtype, dtype, inside]
    for name, g, e, s in zip(("h", "h_last", "dx", "dw", "dh0"), got, exact, same, strict=True):
        # the kernels round the gradients of u, k_f and k_i to the half before the products that give dx and dW
        allowed = (2 if backend == "triton" and dtype != torch.float32 else 1) * bounds.gradient(e, s, dtype)
        assert_norm_within(name, g, e, allowed)


def test_gates_far_from_zero(backend: str) -> None:
    """Both gates vanish at -200, where f + i is 0 in float32 and the quotient still is 1/2; one wins at +-200."""
    x = torch.ones(1, 1, 1, 1)
    h0 = torch.full((1, 1, 1, 4), 2.0)
    u, f, i = torch.full((4,), 3.5), torch.tensor([-200.0, -200, 200, 200]), torch.tensor([-200.0, 200, -200, 200])
    h, _ = min_lstm(x, torch.cat([u, f, i])[None, None], h0)
    torch.testing.assert_close(h.flatten(), torch.tensor([3.0, 4, 2, 3]), rtol=1e-6, atol=0)


def test_no_gate_at_all_is_nan_from_its_step_on(backend: str) -> None:
    """0 / 0 where k_f = k_i = -inf, in the channel that has it; one gate of 0 alone leaves the other's 1."""
    x = torch.zeros(1, 1, 6, 1)
    x[:, :, 2] = 1e38
    weights = [[0.0] * 4, [-100.0, -100.0, 0, 0], [-100.0, 0, -100.0, 0]]  # of u, k_f and k_i in each channel
    h0 = torch.full((1, 1, 1, 4), 2.0)
    h, _ = min_lstm(x, torch.tensor(weights).flatten()[None, None], h0)
    state, states = torch.full((4,), 2.0), []
    for t in range(6):
        z = torch.tensor([torch.nan, 1, 0, 0.5]) if t == 2 else torch.full((4,), 0.5)
        state = state + z * (0.5 - state)
        states.append(state)
    torch.testing.assert_close(h[0, 0], torch.stack(states), rtol=1e-6, atol=0, equal_nan=True)


def test_u_beyond_the_range_of_a_half(backend: str) -> None:
    """u = 2e5 overflows float16, which the state, with a gate of exp(-20), does not."""
    x = torch.full((1, 1, 1, 16), 200.0, dtype=torch.float16)
    w = torch.zeros(1, 16, 3)
    w[0, :, 0], w[0, :, 1], w[0, :, 2] = 1000 / 16, 10 / 200 / 16, -10 / 200 / 16
    w = w.half()
    exact, _ = oracle.min_lstm(x, w)
    h, h_last = min_lstm(x, w)
    torch.testing.assert_close(h_last.double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(h.double(), exact, rtol=2**-10, atol=0)


def test_steps_are_chunks_are_the_whole(backend: str) -> None:
    (x, w, h0), mask, reset = _arguments(9, torch.float32)
    whole, last = min_lstm(x, w, h0, mask=mask, reset=reset)
    state, parts = h0, []
    for a, b in ((0, 1), (1, 6), (6, 9)):
        h, state = min_lstm(x[:, :, a:b], w, state, mask=mask[:, :, a:b], reset=reset[:, :, a:b])
        parts.append(h)
    bounds.assert_same([torch.cat(parts, 2), state], [whole, last])


def test_second_derivatives(backend: str) -> None:
    if backend == "triton":
        pytest.skip("the kernels take no float64")
    (x, w, h0), mask, reset = _arguments(3, torch.float64, rows=1)
    leaves = [t.requires_grad_() for t in (x, w, h0)]
    for function in (min_lstm, lambda *t: min_lstm(*t, mask=mask, reset=reset)):
        assert gradcheck(function, leaves)
        assert gradgradcheck(function, leaves)


def test_the_operator(backend: str) -> None:
    """Shapes without data, the compiler and vmap: the rules of minGRU's operator, with a weight of three parts."""
    if backend == "reference":
        pytest.skip("has no operator")
    (x, w, h0), mask, _ = _arguments(5, torch.float32)
    expected = min_lstm(x, w, h0, mask=mask)
    compiled = torch.compile(lambda *t: min_lstm(*t, mask=mask), fullgraph=True, backend="aot_eager")
    bounds.assert_same(compiled(x, w, h0), expected)
    twice = torch.func.vmap(lambda x: min_lstm(x, w, h0, mask=mask)[0])(torch.stack([x, x]))
    bounds.assert_same(twice[1], expected[0])


def test_layer(backend: str) -> None:
    layer = rnam.minLSTM(F, D, expansion_factor=1.5)
    assert repr(layer).startswith(f"minLSTM(\n  terms={F}, dim={D}, hidden=6")
    assert [(n, tuple(p.shape)) for n, p in layer.named_parameters()] == [
        ("to_hidden_and_gate.weight", (F, D, 18)),
        ("to_out.weight", (F, 6, D)),
    ]
    x = torch.randn(F, B, 7, D)
    h, state = min_lstm(x, layer.to_hidden_and_gate.weight)
    output, last = layer(x)
    assert torch.equal(output, rnam.functional.grouped_linear(h, layer.to_out.weight))
    assert torch.equal(last, state)
    with pytest.raises(ValueError, match=r"prev_hidden must have shape \(terms, batch, 1, hidden\) = \(2, 3, 1, 6\)"):
        layer(x, state[..., :5])


def test_model_with_this_cell(backend: str) -> None:
    """The block is minGRU's with the other cell, whole and step by step."""
    model = rnam.RNAM(F, 4, out_dim=1, blocks=1, cell="minlstm")
    assert isinstance(model.blocks[0].gru, rnam.minLSTM)
    x = torch.randn(F, B, 6, 1)
    mask = torch.rand(F, B, 6) > 0.3
    with torch.no_grad():
        e = model.emb(torch.where(mask[..., None], x, 0))
        expected = model.proj(e + model.blocks[0].ff(e + model.blocks[0].gru(e, mask=mask)[0]))
        every = model(x, mask, return_sequence=True).contributions
        state = None
        for t in range(6):
            _, contributions, state = model.step(x[:, :, t], state, mask=mask[:, :, t])
            torch.testing.assert_close(contributions, every[:, :, t], rtol=1e-5, atol=1e-6)
        prediction, last = model(x, mask)
        torch.testing.assert_close(last, every[:, :, -1], rtol=1e-5, atol=1e-6)
        assert_equal("prediction", prediction, last.sum(0) + model.gam.bias)
    torch.testing.assert_close(every[mask], expected[mask], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="cell must be one of 'mingru', 'minlstm', got 'gru'"):
        rnam.RNAM(F, 4, out_dim=1, blocks=1, cell="gru")  # type: ignore[arg-type]


def test_errors(backend: str) -> None:
    (x, w, h0), _, _ = _arguments(3, torch.float32)
    with pytest.raises(ValueError, match=r"weight must have shape \(terms, dim, 3 \* hidden\), got \(2, 4, 14\)"):
        min_lstm(x, w[..., :14])
    with pytest.raises(ValueError, match=r"h0 must have shape .* = \(2, 3, 1, 5\)"):
        min_lstm(x, w, h0[..., :4])
