"""Masks and resets of the functions and of the model."""

import pytest
import torch
from torch import Tensor

import rnam
from rnam.functional import min_gru
from tests.support import bounds, inputs
from tests.support.assertions import assert_equal, assert_within

pytestmark = pytest.mark.usefixtures("backend")

SPACES = ("linear", "log")
SEQS = (12, 40)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seq", SEQS)
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
def test_what_is_masked_leaves_no_trace(garbage: float, seq: int, space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, seq, 3, 4, seed=1)
    h0 = h0.abs()
    mask, reset = inputs.mask_and_reset(2, 3, seq)
    dirty = torch.where(mask[..., None], x, garbage)
    results = []
    for values in (x, dirty):
        arguments = [t.detach().clone().requires_grad_() for t in (values, w, h0)]
        h, h_last = min_gru(*arguments, mask=mask, reset=reset, space=space)
        grads = torch.autograd.grad((h * h.detach()).sum() + h_last.sum(), arguments)
        assert (grads[0][~mask] == 0).all()
        results.append((h, h_last, *grads))
    for clean, got in zip(*results, strict=True):
        assert torch.equal(clean, got)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seq", SEQS)
def test_a_masked_step_keeps_the_state(seq: int, space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, seq, 3, 4, seed=2)
    h0 = h0.abs()
    mask, _ = inputs.mask_and_reset(2, 3, seq)
    h, h_last = min_gru(x, w, h0, mask=mask, space=space)
    before = torch.cat([h0, h[:, :, :-1]], dim=2)
    assert torch.equal(torch.where(mask[..., None], 0, h), torch.where(mask[..., None], 0, before))
    for b in range(3):
        assert torch.equal(h_last[0, b, 0], torch.cat([h0[0, b], h[0, b, mask[0, b]]])[-1])
    for f in range(2):
        for b in range(3):
            seen = mask[f, b]
            alone, _ = min_gru(x[f : f + 1, b : b + 1, seen], w[f : f + 1], h0[f : f + 1, b : b + 1], space=space)
            with_start = torch.cat([h0[f, b], alone[0, 0]])
            expected = with_start[seen.cumsum(0)]
            # the exact values are equal; each side is within its bound of them
            limit = 2 * bounds.min_gru(x, w, h0, mask, dtype=torch.float64, space=space)[f, b]
            assert_within(f"h[{f}, {b}]", h[f, b], expected, limit)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("at", [0, 1, 7, 23])
def test_a_reset_starts_a_sequence_of_its_own(at: int, space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, 24, 3, 4, seed=3)
    h0 = h0.abs().requires_grad_()
    x, w = x.requires_grad_(), w.requires_grad_()
    reset = torch.arange(24) == at
    h, h_last = min_gru(x, w, h0, reset=reset, space=space)
    first, _ = min_gru(x[:, :, :at], w, h0, space=space)
    second, last = min_gru(x[:, :, at:], w, space=space)
    weights = torch.randn(2, 3, 24, 4, dtype=torch.float64)
    bounds.assert_same(h, torch.cat([first, second], dim=2))
    bounds.assert_same(h_last, last)
    got = torch.autograd.grad((h * weights).sum(), (x, w, h0))
    expected = torch.autograd.grad(
        (first * weights[:, :, :at]).sum() + (second * weights[:, :, at:]).sum(),
        (x, w, h0),
        materialize_grads=True,
    )
    bounds.assert_same(got, expected)
    if at == 0:
        assert (got[2] == 0).all()


@pytest.mark.parametrize("space", SPACES)
def test_reset_acts_before_mask(space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, 20, 3, 4, seed=4)
    both = torch.arange(20) == 9
    h, _ = min_gru(x, w, h0.abs(), mask=~both, reset=both, space=space)
    assert (h[:, :, 9] == 0).all()
    assert h[:, :, 8].min() > 0
    alone, _ = min_gru(x[:, :, 10:], w, space=space)
    bounds.assert_same(h[:, :, 10:], alone)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("start", [-1.0, 1e308, torch.inf, torch.nan])
@pytest.mark.parametrize("seq", [1, 16, 17, 33])
def test_a_reset_at_the_first_step_ignores_the_state(seq: int, start: float, space: str) -> None:
    """Whatever it holds: values and gradients are bitwise those without it, and it gets exactly none."""
    x, w, _ = inputs.layer_inputs(2, 3, seq, 3, 4, seed=5)
    x, w = x.requires_grad_(), w.requires_grad_()
    h0 = torch.full((2, 3, 1, 4), start, dtype=torch.float64, requires_grad=True)
    for reset in (torch.arange(seq) == 0, torch.tensor([True]), torch.ones(3, 1, dtype=torch.bool)):
        results = []
        for state in (h0, None):
            h, h_last = min_gru(x, w, state, reset=reset, space=space)
            given = (x, w) if state is None else (x, w, h0)
            results.append((h, h_last, *torch.autograd.grad(10 * h.sum() + h_last.sum(), given)))
        with_state, without = results
        assert_equal("results with and without a state", with_state[:4], without)
        assert_equal("dh0", with_state[4], 0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seq", SEQS)
def test_finite_values_never_cross_a_reset(seq: int, space: str) -> None:
    x, w, _ = inputs.layer_inputs(1, 1, seq, 2, 3, seed=5)
    h0 = torch.full((1, 1, 1, 3), 1e300, dtype=torch.float64)
    reset = torch.arange(seq) == seq // 2
    h, _ = min_gru(x, w, h0, reset=reset, space=space)
    alone, _ = min_gru(x[:, :, seq // 2 :], w, space=space)
    bounds.assert_same(h[:, :, seq // 2 :], alone)


@pytest.mark.parametrize("space", SPACES)
def test_nothing_observed_is_the_initial_state(space: str) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, 40, 3, 4, seed=6)
    h0 = h0.abs()
    never = torch.zeros(1, dtype=torch.bool)
    h, h_last = min_gru(x, w, h0, mask=never, space=space)
    assert torch.equal(h, h0.expand_as(h))
    assert torch.equal(h_last, h0)
    assert torch.equal(min_gru(x, w, mask=never, space=space)[0], torch.zeros_like(h))


@pytest.mark.parametrize("shape", [(), (20,), (1, 20), (3, 20), (2, 1, 20), (2, 3, 1), (1, 1, 1), (2, 3, 20)], ids=str)
def test_codes_broadcast(shape: tuple[int, ...]) -> None:
    x, w, h0 = inputs.layer_inputs(2, 3, 20, 3, 4, seed=7)
    rng = torch.Generator().manual_seed(len(shape))
    mask, reset = (torch.rand(shape, generator=rng) < p for p in (0.6, 0.2))
    got = min_gru(x, w, h0, mask=mask, reset=reset)
    full = min_gru(x, w, h0, mask=mask.expand(2, 3, 20).clone(), reset=reset.expand(2, 3, 20).clone())
    assert_equal("h and h_last", got, full)


def _model() -> rnam.RNAM:
    torch.manual_seed(0)
    return rnam.RNAM(terms=3, hidden_dim=6, out_dim=2, blocks=2, in_dim=2, dtype=torch.float64)


def _gradients(model: rnam.RNAM, x: Tensor, **how: Tensor) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    prediction, contributions = model(x, **how)
    sequence = model(x, **how, return_sequence=True)
    loss = prediction.square().sum() + sequence.prediction.square().sum()
    return prediction, contributions, *sequence, *torch.autograd.grad(loss, [x, *model.parameters()])


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf])
def test_model_masked_inputs_leave_no_trace(garbage: float) -> None:
    """The residual path included: x + ff(x + minGRU(x)) passes its input around the layer."""
    model = _model()
    x, mask = torch.randn(3, 4, 19, 2, dtype=torch.float64), inputs.mask_and_reset(3, 4, 19)[0]
    clean = _gradients(model, torch.where(mask[..., None], x, 0), mask=mask)
    dirty = _gradients(model, torch.where(mask[..., None], x, garbage), mask=mask)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)


def test_padding_is_each_sequence_alone() -> None:
    model = _model()
    lengths = torch.tensor([19, 1, 7, 0, 12])
    x = torch.randn(3, 5, 19, 2, dtype=torch.float64)
    prediction, contributions = model(x, lengths=lengths)
    sequence = model(x, lengths=lengths, return_sequence=True)
    for b, n in enumerate(lengths.tolist()):
        alone = model(x[:, b : b + 1, :n])
        bounds.assert_same(prediction[b], alone.prediction[0])
        bounds.assert_same(contributions[:, b], alone.contributions[:, 0])
        every = model(x[:, b : b + 1, :n], return_sequence=True)
        bounds.assert_same(sequence.prediction[b, :n], every.prediction[0])
        # after its end a sequence holds what it had
        held = contributions[:, b, None].expand(-1, 19 - n, -1)
        bounds.assert_same(sequence.contributions[:, b, n:], held)


def test_a_masked_term_is_the_sequence_of_its_observed_steps() -> None:
    model = _model()
    x, mask = torch.randn(3, 4, 19, 2, dtype=torch.float64), inputs.mask_and_reset(3, 4, 19)[0]
    mask[1, 2] = False
    mask[0, 0, :5] = False
    _, contributions = model(x, mask)
    _, every = model(x, mask, return_sequence=True)
    assert (contributions[1, 2] == 0).all()
    assert (every[1, 2] == 0).all()
    assert (every[0, 0, :5] == 0).all()
    for f in range(3):
        for b in range(4):
            seen = mask[f, b]
            steps = torch.zeros(3, 1, int(seen.sum()), 2, dtype=torch.float64)
            steps[f, 0] = x[f, b, seen]
            alone = model(steps, return_sequence=True).contributions[f, 0]
            held = torch.cat([torch.zeros(1, 2, dtype=torch.float64), alone])[seen.cumsum(0)]
            bounds.assert_same(every[f, b], held)
            bounds.assert_same(contributions[f, b], held[-1])


def test_gradients_of_a_masked_sequence_are_those_of_each_alone() -> None:
    """At every step, the held ones included."""
    model = _model()
    lengths = torch.tensor([19, 7, 12])
    x = torch.randn(3, 3, 19, 2, dtype=torch.float64)
    weights = torch.randn(3, 19, 2, dtype=torch.float64)
    parameters = list(model.parameters())
    together = (model(x, lengths=lengths, return_sequence=True).prediction * weights).sum()
    alone = torch.zeros((), dtype=torch.float64)
    for b, n in enumerate(lengths.tolist()):
        every = model(x[:, b : b + 1, :n], return_sequence=True).prediction[0]
        held = torch.cat([every, every[-1:].expand(19 - n, -1)])
        alone = alone + (held * weights[b]).sum()
    bounds.assert_same(torch.autograd.grad(together, parameters), torch.autograd.grad(alone, parameters))


def test_lengths_out_of_range_act_as_the_nearest_in_it() -> None:
    model, x = _model(), torch.randn(3, 2, 19, 2, dtype=torch.float64)
    got = model(x, lengths=torch.tensor([-3, 99])).prediction
    assert torch.equal(got, model(x, lengths=torch.tensor([0, 19])).prediction)


def test_mask_and_lengths_together() -> None:
    model = _model()
    x, mask = torch.randn(3, 4, 19, 2, dtype=torch.float64), inputs.mask_and_reset(3, 4, 19)[0]
    lengths = torch.tensor([19, 3, 0, 8], dtype=torch.int32)
    padding = torch.arange(19) < lengths[:, None]
    assert torch.equal(model(x, mask, lengths=lengths).prediction, model(x, mask & padding).prediction)
