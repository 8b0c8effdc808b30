"""`backward` inside torch.autocast gives the gradients that it gives outside: they are computed in the dtypes of the
forward. Functions of torch's own, in an embedding or in one step, autocast rounds there as it does anywhere."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam import functional

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
BACKENDS = pytest.mark.parametrize("name", ["torch", "reference"])
# a product of `torch` in the backward: one rounding of each factor, of numbers up to 16 in a sum
ROUNDED = 16


def _recurrence(cell: str) -> Callable[..., Tensor]:
    return lambda x, weight: getattr(functional, cell)(x, weight)[0]


def _feed_forward(x: Tensor, scale: Tensor, square: Tensor, bias: Tensor) -> Tensor:
    return functional.feed_forward(x, x, scale, scale, square, bias, square, bias)


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Callable[[int], tuple[Tensor, ...]]]] = {
    "min_gru": (_recurrence("min_gru"), lambda d: (torch.randn(2, d, 2 * d),)),
    "min_lstm": (_recurrence("min_lstm"), lambda d: (torch.randn(2, d, 3 * d),)),
    "grouped_linear": (
        lambda x, weight, bias: functional.grouped_linear(x, weight, bias, "relu"),
        lambda d: (torch.randn(2, d, 5), torch.randn(2, 1, 5)),
    ),
    "feed_forward": (_feed_forward, lambda d: (torch.rand(d), torch.randn(2, d, d) / d, torch.randn(2, 1, d))),
    "min_gru_projected": (
        lambda x, weight, out: functional.min_gru_projected(x, weight, out)[0],
        lambda d: (torch.randn(2, d, 4 * d), torch.randn(2, 2 * d, d)),
    ),
}


@DTYPES
@pytest.mark.parametrize("width", [1, 4, 8, 16, 32])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions(function: str, width: int, dtype: torch.dtype) -> None:
    call, parameters = FUNCTIONS[function]
    x = torch.randn(2, 3, 5, width, requires_grad=True)
    given = [p.requires_grad_() for p in parameters(width)]
    with torch.autocast("cpu", dtype):
        y = call(x, *given)
        loss = y.float().square().sum()
        inside = torch.autograd.grad(loss, [x, *given], retain_graph=True)
    outside = torch.autograd.grad(loss, [x, *given])
    for got, expected in zip(inside, outside, strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)


def _model(kind: str, width: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if kind == "NAM":
        return rnam.NAM(3, (width,)), torch.randn(6, 3)
    if kind == "minGRU":
        return rnam.minGRU(3, width, expansion_factor=1.5 if width > 1 else 2), torch.randn(3, 6, 9, width)
    options = {"lstm": {"cell": "minlstm"}, "members": {"members": 2}, "columns": {"columns": [[0], [1, 2], [0, 3]]}}
    model = rnam.RNAM(3, width, 1, 2, **options.get(kind, {}))
    return model, torch.randn(6, 9, 4) if kind == "columns" else torch.randn(3, 6, 9, 1)


@DTYPES
@BACKENDS
@pytest.mark.parametrize("width", [1, 8, 16, 32])
@pytest.mark.parametrize("kind", ["RNAM", "lstm", "members", "columns", "NAM", "minGRU"])
def test_models(kind: str, width: int, name: str, dtype: torch.dtype) -> None:
    model, x = _model(kind, width)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradients(inside: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype):
            loss = model(x)[0].float().square().mean()
            if inside:
                return torch.autograd.grad(loss, parameters)
        return torch.autograd.grad(loss, parameters)

    with rnam.set_backend(name):
        for got, expected in zip(gradients(True), gradients(False), strict=True):
            assert got.dtype == torch.float32
            error = ROUNDED * torch.finfo(dtype).eps * (expected.norm() + 1e-3)
            assert float((got - expected).norm()) <= error


@DTYPES
def test_one_step(dtype: torch.dtype) -> None:
    model, x = _model("RNAM", 8)
    for inside in (False, True):
        with torch.autocast("cpu", dtype):
            _, _, state = model.step(x[:, :, 0])
            loss = model.step(x[:, :, 1], state)[0].float().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), parameter_name


@DTYPES
def test_second_derivatives(dtype: torch.dtype) -> None:
    x, weight = torch.randn(2, 3, 5, 4, requires_grad=True), torch.randn(2, 4, 8, requires_grad=True)
    found = []
    for inside in (False, True):
        with torch.autocast("cpu", dtype):
            h, _ = functional.min_gru(x, weight)
            (first,) = torch.autograd.grad(h.float().square().sum(), x, create_graph=True)
            loss = first.square().sum()
            if inside:
                found.append(torch.autograd.grad(loss, weight)[0])
        if not inside:
            found.append(torch.autograd.grad(loss, weight)[0])
    outside, within = found
    assert float((within - outside).norm()) <= torch.finfo(dtype).eps * float(outside.norm())


@DTYPES
def test_a_compiled_model(dtype: torch.dtype) -> None:
    """Its backward calls the operators, with autocast on or off."""
    model, x = _model("RNAM", 8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.autocast("cpu", dtype):
        inside = torch.autograd.grad(compiled(x).prediction.float().square().mean(), parameters)
        loss = model(x).prediction.float().square().mean()
    for got, expected in zip(inside, torch.autograd.grad(loss, parameters), strict=True):
        assert float((got - expected).norm()) <= ROUNDED * torch.finfo(dtype).eps * float(expected.norm() + 1e-3)


@DTYPES
def test_an_exported_model_inside_autocast(dtype: torch.dtype) -> None:
    """The graph was made outside, and its operators compute as they do there."""
    model, x = _model("RNAM", 8)
    program = torch.export.export(model.eval(), (x,)).module()
    with torch.no_grad(), torch.autocast("cpu", dtype):
        got = program(x).prediction.float()
    torch.testing.assert_close(got, model(x).prediction, rtol=0.1, atol=0.1)
