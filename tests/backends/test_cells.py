"""The table of cells: a third one, known to these tests alone, runs from its row. It has as many pre-activations as the
minLSTM, and is another function of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import rnam
from rnam import reference
from rnam.backends import cells
from rnam.backends.blocks import gates as blocks
from rnam.backends.blocks import gru, plan
from rnam.backends.calls import Recurrence
from rnam.backends.cells import CELLS, Cell
from rnam.functional import recurrence
from rnam.gru import Cell as Layer
from tests.support import backends, bounds, inputs, oracle

F, B, D, H = 2, 3, 4, 5


def coefficients(u: Tensor, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    """h = sigmoid(f) h + sigmoid(i) g(u): an LSTM whose gates do not see the state. On the kernels it is
    `tests.kernels.cells.THIRD`."""
    return torch.sigmoid(f), torch.sigmoid(i) * torch.where(u >= 0, u + 0.5, torch.sigmoid(u))


def _block_coefficients(preacts: list[Tensor], out: Tensor) -> tuple[Tensor, Tensor]:
    a, b = coefficients(*preacts)
    return a, out.copy_(b)


def _block_gates(preacts: list[Tensor], buffer: object) -> tuple[Tensor, ...]:
    u, f, i = preacts
    return torch.sigmoid(f), torch.sigmoid(i), torch.where(u >= 0, u + 0.5, torch.sigmoid(u))


def _block_slopes(
    preacts: list[Tensor], kept: tuple[Tensor, ...], a: Tensor, before: Tensor, lam: Tensor
) -> list[Tensor]:
    (u, _, _), (_, i, v) = preacts, kept
    slope = torch.where(u >= 0, 1, v * (1 - v))
    return [lam * i * slope, lam * before * a * (1 - a), lam * v * i * (1 - i)]


THIRD = Cell(
    name="third",
    num_preacts=3,
    reference=reference.Gates(coefficients),
    blocks=blocks.Gates(_block_coefficients, _block_gates, _block_slopes),
    kernels_path="tests.kernels.cells:THIRD",
)


class Third(Layer):
    cell = "third"


@pytest.fixture(autouse=True, params=backends.EACH)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(cells.CELLS, "third", THIRD)
    # blocks so small that the shapes here are cut in terms, rows, stretches and segments of time
    monkeypatch.setattr(plan, "WIDE", 64)
    monkeypatch.setattr(plan, "NARROW", 40)
    monkeypatch.setattr(gru, "FORWARD", 512)
    monkeypatch.setattr(gru, "BACKWARD", 256)
    with rnam.set_backend(request.param):
        yield request.param


def steps(x: Tensor, weight: Tensor, h0: Tensor, mask: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """One step after the other."""
    x = torch.where(mask[..., None], x, 0)
    u, f, i = (x @ weight[:, None]).chunk(3, dim=-1)
    h, states = h0[:, :, 0], []
    for t in range(x.shape[2]):
        a, b = coefficients(u[:, :, t], f[:, :, t], i[:, :, t])
        h = torch.where(reset[:, :, t, None], 0, h)
        h = torch.where(mask[:, :, t, None], a * h + b, h)
        states.append(h)
    return torch.stack(states, dim=2), h[:, :, None]


@pytest.mark.parametrize(("seq", "rows"), [(1, B), (17, B), (75, 1)])
def test_a_third_cell_runs_from_one_row(seq: int, rows: int) -> None:
    """Values and the gradient of every input, within twice the error of its plain steps and a band."""
    x, w, _ = inputs.layer_inputs(F, rows, seq, D, 2 * H, dtype=torch.float32)
    _, _, h0 = inputs.layer_inputs(F, rows, seq, D, H, dtype=torch.float32)
    x, w = inputs.away_from_the_kink(x, w[..., : 2 * H]), w[..., : 3 * H].contiguous()
    mask, reset = inputs.mask_and_reset(F, rows, seq)
    grads = [torch.randn(F, rows, n, H) for n in (seq, 1)]

    def run(function: object, dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in (x, w, h0)]
        out = function(*leaves)  # type: ignore[operator]
        found = torch.autograd.grad(out, leaves, [g.to(dtype) for g in grads])
        return [*(o.detach() for o in out), *found]

    got = run(lambda x, w, h0: recurrence(Recurrence(x, w, h0, cell="third"), mask, reset), torch.float32)
    exact, plain = (run(lambda *t: steps(*t, mask, reset), dtype) for dtype in (torch.float64, torch.float32))
    for name, g, e, p in zip(("h", "h_last", "dx", "dw", "dh0"), got, exact, plain, strict=True):
        assert float((g.double() - e).norm()) <= bounds.gradient(e, p, torch.float32), name


def test_a_layer_of_a_third_cell() -> None:
    layer, x = Third(F, D, expansion_factor=2.0), torch.randn(F, B, 6, D)
    assert layer.to_hidden_and_gate.weight.shape == (F, D, 3 * 2 * D)
    output, state = layer(x)
    first, middle = layer(x[:, :, :2])
    second, last = layer(x[:, :, 2:], middle)
    torch.testing.assert_close(torch.cat([first, second], 2), output)
    torch.testing.assert_close(last, state)


def test_a_cell_without_a_log_space_is_refused_by_name() -> None:
    call = Recurrence(torch.randn(F, B, 3, D), torch.randn(F, D, 3 * H), cell="third", space="log")
    with pytest.raises(ValueError, match="space must be one of 'linear', got 'log'"):
        recurrence(call, None, None)


def test_a_cell_that_knows_no_time_is_refused_by_name() -> None:
    call = Recurrence(torch.randn(F, B, 3, D), torch.randn(F, D, 3 * H), elapsed=torch.ones(3), cell="third")
    with pytest.raises(ValueError, match="elapsed must be None for the cell 'third', which knows no time"):
        recurrence(call, None, None)
    with pytest.raises(ValueError, match=r"timescales must be None for the cell 'third', got \(1.0, 2.0\)"):
        Third(F, D, timescales=(1, 2))


def test_times_of_a_cell_without_a_form_of_its_own_in_blocks(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's `relaxation` is enough: the minGRU computes it, after a projection."""
    if backend == "triton":
        pytest.skip("the kernels read no times")
    relaxing = reference.Gates(coefficients, relaxation=lambda u, f, i: (u - f, i))
    monkeypatch.setitem(cells.CELLS, "third", dataclasses.replace(THIRD, reference=relaxing))
    x, w, h0 = (t.double() for t in inputs.layer_inputs(F, B, 9, D, 2 * H, seed=1))
    w, h0 = w[..., : 3 * H], h0[..., :H]
    elapsed = torch.rand(B, 9, dtype=torch.float64)
    h, _ = recurrence(Recurrence(x, w, h0, elapsed, cell="third"), None, None)
    u, f, i = w.chunk(3, dim=-1)
    expected, _ = oracle.min_gru(x, torch.cat([u - f, i], -1), h0, elapsed=elapsed)
    bounds.assert_same(h, expected)


def test_the_rows_agree_about_the_pre_activations(backend: str) -> None:
    if backend != "triton":
        pytest.skip("the kernels' rows say it too")
    for cell in CELLS.values():
        assert cell.kernels.num_preacts == cell.num_preacts
