"""A minGRU and its projection: one kernel where no gradient is recorded, two layers elsewhere, and the same numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.backends import choice
from rnam.functional import grouped_linear, min_gru, min_gru_projected
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_equal, assert_norm_within, assert_within
from tests.support.selection import crossed

TERMS, BATCH, SEQ = 2, 3, 7


@pytest.fixture(
    autouse=True,
    params=backends.EACH,
)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


def _arguments(dim: int, hidden: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """input, weight, out_weight and h0; mask and reset."""
    x, weight, h0 = inputs.layer_inputs(TERMS, BATCH, SEQ, dim, hidden, dtype=torch.float32)
    mask, reset = inputs.mask_and_reset(TERMS, BATCH, SEQ)
    return [x, weight, torch.randn(TERMS, hidden, dim) / hidden**0.5, h0], {"mask": mask, "reset": reset}


def _exact(given: list[Tensor], flags: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, weight, out_weight, h0 = given
    h, h_last = oracle.min_gru(x, weight, h0, flags["mask"], flags["reset"], dtype=dtype)
    return torch.einsum("fbth,fhd->fbtd", h, out_weight.to(dtype)), h_last


@pytest.mark.parametrize(
    ("size", "recorded"),
    crossed(((1, 2), (6, 9), (16, 32), (33, 8)), (False, True), short=lambda size, on: not on or size == (6, 9)),
)
def test_values_with_and_without_a_gradient(size: tuple[int, int], recorded: bool) -> None:
    given, flags = _arguments(*size)
    leaves = [t.requires_grad_(recorded) for t in given]
    got = min_gru_projected(*leaves, **flags)
    exact, same = (_exact([t.detach() for t in given], flags, d) for d in (torch.float64, torch.float32))
    for name, y, e, p in zip(("y", "h_last"), got, exact, same, strict=True):
        assert y.requires_grad == recorded
        assert_norm_within(name, y, e, bounds.gradient(e, p, torch.float32))


def test_gradients_are_those_of_the_two_functions() -> None:
    given, flags = _arguments(6, 9)
    leaves = [t.requires_grad_() for t in given]
    x, weight, out_weight, h0 = leaves
    h, last = min_gru(x, weight, h0, **flags)
    grads = [
        torch.autograd.grad(y.sin().sum() + h_last.cos().sum(), leaves)
        for y, h_last in (min_gru_projected(*leaves, **flags), (grouped_linear(h, out_weight), last))
    ]
    assert_equal("gradients", *grads)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the launchers that are called."""
    import rnam.kernels as kernels

    calls: list[str] = []

    def spy(name: str) -> Callable[..., Any]:
        launch = getattr(kernels, name)
        return lambda *given, **options: calls.append(name) or launch(*given, **options)

    for name in ("projected_forward", "recurrence_forward", "grouped_linear_forward"):
        monkeypatch.setattr(kernels, name, spy(name))
    return calls


@backends.on_triton
def test_which_kernels_run(backend: str, launched: list[str]) -> None:
    layer, x = rnam.minGRU(1, 4, 2.0), torch.randn(1, 2, 3, 4)
    one, two = ["projected_forward"], ["recurrence_forward", "grouped_linear_forward"]

    def ran(run: Callable[[], Any]) -> list[str]:
        launched.clear()
        run()
        return launched[:]

    whole = lambda: layer(x)
    embedding = torch.randn(1, 1, 4), torch.randn(1, 1, 4)
    assert ran(whole) == two
    with torch.no_grad():
        assert ran(whole) == one
        assert ran(lambda: layer(x, need_output=False)) == two[:1]
        assert ran(lambda: layer(x[..., :1], embedding=embedding)) == two
        assert ran(lambda: rnam.minGRU(1, 4)(x)) == two[:1]
        assert ran(lambda: rnam.minLSTM(1, 4, 2.0)(x)) == two
        assert ran(lambda: rnam.minGRU(1, 1, 2.0)(x[..., :1])) == two  # too narrow
        assert ran(lambda: rnam.minGRU(1, 16, 2.5)(torch.randn(1, 2, 3, 16))) == two  # too wide
    layer.requires_grad_(False)
    assert ran(whole) == one
    assert ran(lambda: layer(x.clone().requires_grad_())) == two
    state = torch.zeros(1, 2, 1, 8, requires_grad=True)
    assert ran(lambda: layer(x, state)) == two


@torch.no_grad()
def test_a_hook_or_another_layer_in_the_place_of_the_projection_is_called() -> None:
    layer, x = rnam.minGRU(TERMS, 4, 2.0), torch.randn(TERMS, BATCH, SEQ, 4)
    expected = layer(x)
    seen: list[Tensor] = []
    handle = layer.to_out.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    bounds.assert_same(layer(x), expected)
    assert [h.shape for h in seen] == [(TERMS, BATCH, SEQ, 8)]
    handle.remove()
    own = layer.to_out
    for other in (nn.Sequential(own), rnam.Linear(TERMS, 8, 4), rnam.Linear(TERMS, 8, 4, False, activation="relu")):
        layer.to_out = other
        h, _ = min_gru(x, layer.to_hidden_and_gate.weight)
        bounds.assert_same(layer(x), (other(h), expected[1]))


@torch.no_grad()
def test_steps_are_the_whole() -> None:
    layer, x = rnam.minGRU(TERMS, 4, 1.5), torch.randn(TERMS, BATCH, SEQ, 4)
    mask, reset = inputs.mask_and_reset(TERMS, BATCH, SEQ)
    expected, last = layer(x, mask=mask, reset=reset)
    state, outputs = None, []
    for t in range(SEQ):
        now = slice(t, t + 1)
        y, state = layer(x[:, :, now], state, mask=mask[..., now], reset=reset[..., now])
        outputs.append(y)
    bounds.assert_same((torch.cat(outputs, 2), state), (expected, last))
    empty, state = layer(x[:, :, :0], last)
    assert empty.shape == (TERMS, BATCH, 0, 4) and torch.equal(state, last)


@torch.no_grad()
def test_transforms_and_the_compiler() -> None:
    layer, x = rnam.minGRU(1, 4, 2.0), torch.randn(1, 2, 3, 4)
    mask = torch.tensor([True, False, True])
    run = lambda x: layer(x, mask=mask)
    expected = run(x)
    bounds.assert_same(torch.compile(run, fullgraph=True, backend="aot_eager")(x), expected)
    mapped = torch.func.vmap(run)(torch.stack([x, 2 * x]))
    bounds.assert_same([m[0] for m in mapped], expected)
    bounds.assert_same([m[1] for m in mapped], run(2 * x))
    exported = torch.export.export(layer, (x,), {"mask": mask}).module()
    bounds.assert_same(exported(x, mask=mask), expected)


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.long_in_interpreter)])
def test_halves(dtype: torch.dtype) -> None:
    """h is rounded to enter the product, whichever kernel makes it, and y at its end; weights are exact in `dtype`."""
    given, flags = _arguments(8, 16)
    x, weight, out_weight, h0 = [t.to(dtype) for t in given]
    exact_h, _ = oracle.min_gru(x, weight, h0, flags["mask"], flags["reset"])
    out, unit = out_weight.double().abs()[:, None], bounds.unit(dtype)
    if choice.interpreted() and dtype == torch.bfloat16:
        unit *= 2  # cut and not rounded
    d_h = bounds.min_gru(x, weight, h0, flags["mask"], flags["reset"], dtype=torch.float32) + unit * exact_h.abs()
    exact = exact_h @ out_weight.double()[:, None]
    limit = d_h @ out + bounds.BAND * bounds.unit(torch.float32) * (exact_h.abs() @ out)
    limit = limit + 2 * unit * (exact.abs() + limit) + torch.finfo(dtype).tiny
    for recorded in (False, True):
        y, h_last = min_gru_projected(x, weight, out_weight.requires_grad_(recorded), h0, **flags)
        assert (y.dtype, h_last.dtype) == (dtype, torch.float32)
        assert_within("y", y, exact, limit)


def test_autocast() -> None:
    given, flags = _arguments(6, 9)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        y, h_last = min_gru_projected(*given, **flags)
    with torch.no_grad():
        expected = min_gru_projected(*[t.half() for t in given[:3]], given[3], **flags)
    assert (y.dtype, h_last.dtype) == (torch.float16, torch.float32)
    assert torch.equal(y, expected[0]) and torch.equal(h_last, expected[1])


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, torch.zeros(2, 3, 4), ValueError, r"input must have shape \(terms, batch, seq, dim\), got \(2, 3, 4\)"),
        (1, torch.zeros(2, 4, 15), ValueError, r"weight must have shape \(terms, dim, 2 \* hidden\)"),
        (2, torch.zeros(2, 4, 8), ValueError, r"out_weight must have shape \(terms, hidden, dim\) = \(2, 8, 4\)"),
        (2, torch.zeros(2, 8, 4, dtype=torch.float64), TypeError, "out_weight must be float32"),
        (2, None, TypeError, "out_weight must be a tensor"),
        (3, torch.zeros(2, 3, 1, 4), ValueError, "h0 must have shape"),
    ],
)
def test_errors(position: int, value: Any, error: type[Exception], message: str) -> None:
    given, flags = _arguments(4, 8)
    given[position] = value
    with pytest.raises(error, match=message):
        min_gru_projected(*given, **flags)
