"""A residual block: one kernel each way where the kernels compute, its two halves elsewhere, and the same numbers."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.functional import feed_forward, min_gru, min_gru_block
from rnam.models.block import Block
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_norm_within, assert_within

TERMS, BATCH, SEQ = 2, 3, 7


@pytest.fixture(
    autouse=True,
    params=backends.EACH,
)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


def _arguments(dim: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """input, weight, the six parameters and h0; mask and reset."""
    x, weight, h0 = inputs.layer_inputs(TERMS, BATCH, SEQ, dim, dim, dtype=torch.float32)
    square = [torch.randn(TERMS, dim, dim) / dim**0.5 for _ in range(2)]
    bias = [torch.randn(TERMS, 1, dim) for _ in range(2)]
    mask, reset = inputs.mask_and_reset(TERMS, BATCH, SEQ)
    given = [x, weight, 1 + torch.randn(dim) / 4, torch.randn(dim), square[0], bias[0], square[1], bias[1], h0]
    return given, {"mask": mask, "reset": reset}


def _exact(given: list[Tensor], flags: dict[str, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, weight, *parameters, h0 = given
    h, h_last = oracle.min_gru(x, weight, h0, flags["mask"], flags["reset"], dtype=dtype)
    return oracle.feed_forward(x, h, *parameters, dtype=dtype), h_last


@pytest.mark.parametrize("recorded", [False, pytest.param(True, marks=pytest.mark.long_in_interpreter)])
@pytest.mark.parametrize("dim", [1, 6, 16, 33])
def test_values_with_and_without_a_gradient(dim: int, recorded: bool) -> None:
    given, flags = _arguments(dim)
    leaves = [t.requires_grad_(recorded) for t in given]
    got = min_gru_block(*leaves, **flags)
    exact, same = (_exact([t.detach() for t in given], flags, d) for d in (torch.float64, torch.float32))
    for name, y, e, p in zip(("y", "h_last"), got, exact, same, strict=True):
        assert y.requires_grad == recorded
        assert_norm_within(name, y, e, bounds.gradient(e, p, torch.float32))


@pytest.mark.parametrize(
    ("dim", "in_dim"),
    [
        *((1, 0), (20, 0), (6, 2)),
        *(pytest.param(*size, marks=pytest.mark.long_in_interpreter) for size in ((6, 0), (16, 0), (16, 1), (20, 3))),
    ],
)
def test_gradients(dim: int, in_dim: int) -> None:
    """Against those of the two functions in float64; with `in_dim` the input is embedded."""
    given, flags = _arguments(dim)
    given[5] = torch.where(torch.arange(dim) % 2 == 0, 9.0, -9.0).expand(TERMS, 1, dim)  # far from the kink of relu
    if in_dim:
        given[0] = torch.randn(TERMS, BATCH, SEQ, in_dim)
        given += [torch.randn(TERMS, in_dim, dim), torch.randn(TERMS, 1, dim)]

    def run(given: list[Tensor]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in given]
        embedding = (leaves[9], leaves[10]) if in_dim else None
        y, h_last = min_gru_block(*leaves[:9], **flags, embedding=embedding)
        grads = torch.autograd.grad(y.sin().sum() + h_last.cos().sum(), leaves)
        return [y.detach(), h_last.detach(), *grads]

    got = run(given)
    with rnam.set_backend("reference"):
        same, exact = run(given), run([t.double() for t in given])
    feed_forward_names = ("dscale", "dshift", "dw1", "db1", "dw2", "db2")
    names = ("y", "h_last", "dx", "dweight", *feed_forward_names, "dh0", "dembedding", "dembedding_bias")
    for name, g, e, s in zip(names[: len(got)], got, exact, same, strict=True):
        assert_norm_within(name, g, e, bounds.gradient(e, s, torch.float32))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The names of the launchers that are called, and what need_h was."""
    import rnam.kernels as kernels

    calls: list[Any] = []

    def spy(name: str) -> Callable[..., Any]:
        launch = getattr(kernels, name)

        def call(*given: Any, **options: Any) -> Any:
            calls.append((name, getattr(given[0], "need_h", None) if name.endswith("forward") else None))
            return launch(*given, **options)

        return call

    names = "block_forward", "block_backward", "recurrence_forward", "feed_forward_forward"
    for name in names:
        monkeypatch.setattr(kernels, name, spy(name))
    return calls


@backends.on_triton
@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_which_kernels_run(cell: Any, backend: str, launched: list[Any]) -> None:
    block, x = Block(1, 4, cell), torch.randn(1, 2, 3, 4)
    name = "recurrence_forward"
    rest = ("feed_forward_forward", None)
    halves = [(name, True), rest]
    kept, dropped = ([("block_forward", h)] if cell == "mingru" else halves for h in (True, False))

    def ran(run: Any) -> list[Any]:
        launched.clear()
        run()
        return launched[:]

    whole, end = lambda: block(x), lambda: block(x, last=-1)
    assert ran(whole) == kept and ran(end) == halves
    with torch.no_grad():
        assert ran(whole) == dropped
        assert ran(end) == [(name, False), rest]
    block.requires_grad_(False)
    assert ran(whole) == dropped
    assert ran(lambda: block(x.clone().requires_grad_())) == kept
    if cell == "mingru":
        assert ran(lambda: block(x.clone().requires_grad_())[0].sum().backward()) == [
            *kept,
            ("block_backward", None),
        ]


@backends.on_triton
def test_a_wide_block_takes_its_layers(launched: list[Any]) -> None:
    block = Block(1, 33, "mingru").requires_grad_(False)
    block(torch.randn(1, 2, 3, 33))
    assert launched == [("recurrence_forward", True)]


@torch.no_grad()
def test_hooks_see_what_the_cell_gives() -> None:
    block, x = Block(TERMS, 4, "mingru"), torch.randn(TERMS, BATCH, SEQ, 4)
    expected = block(x)[0], block(x, last=-1)[0]
    seen: list[Tensor] = []
    block.gru.register_forward_hook(lambda module, given, output: seen.append(output[0]))
    got = block(x)[0], block(x, last=-1)[0]
    assert [h.shape for h in seen] == [x.shape, x.shape]  # a hook may change what comes out
    bounds.assert_same(got, expected)


@torch.no_grad()
def test_transforms_and_the_compiler() -> None:
    block, x = Block(1, 4, "mingru"), torch.randn(1, 2, 3, 4)
    mask = torch.tensor([True, False, True])

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        return block(x, mask)[0], block(x, mask, last=-1)[0]

    expected = run(x)
    bounds.assert_same(torch.compile(run, fullgraph=True, backend="aot_eager")(x), expected)
    mapped = torch.func.vmap(run)(torch.stack([x, 2 * x]))
    bounds.assert_same([m[0] for m in mapped], expected)
    bounds.assert_same([m[1] for m in mapped], run(2 * x))
    bounds.assert_same(torch.export.export(block, (x, mask)).module()(x, mask)[0], expected[0])


@backends.on_triton
@pytest.mark.parametrize("return_sequence", [False, True])
def test_a_model_without_a_gradient_is_the_one_with(return_sequence: bool) -> None:
    """Both within the bound of the model in float64."""
    model, x = rnam.RNAM(1, 6, 2, 2), torch.randn(1, BATCH, SEQ, 1)
    mask = torch.rand(1, BATCH, SEQ) > 0.4

    def run(model: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = model(x, mask, return_sequence=return_sequence).contributions
        return out.detach()

    with_gradient = run(model, x)
    with torch.no_grad():
        without = run(model, x)
    with rnam.set_backend("reference"):
        same, exact = run(model, x), run(copy.deepcopy(model).double(), x.double())
    for name, got in (("with a gradient", with_gradient), ("without", without)):
        assert_norm_within(name, got, exact, bounds.gradient(exact, same, torch.float32))


@backends.on_triton
def test_one_kernel_and_two_in_float16() -> None:
    """Each within its own bound; the two round h on the way."""
    from tests.support.block_cases import assert_output, case, exact
    from tests.support.block_cases import inputs as block_inputs
    from tests.support.feed_forward_cases import split

    given, params = block_inputs(case("time_rows", 3, 9, 8, torch.float16, flags="own"))
    flags = {"mask": (given.flags & 1) == 0, "reset": (given.flags & 2) != 0}
    wanted = exact(given, params)
    gamma, beta, *others = split(params, 8)
    arguments = [given.x, given.weight.half(), gamma[0, 0], beta[0, 0], *others, given.h0]
    with torch.no_grad():
        one, _ = min_gru_block(*arguments, **flags)
    h, _ = min_gru(given.x, arguments[1], given.h0, **flags)
    two = feed_forward(given.x, h, *arguments[2:8])
    assert_output(one, given, params, wanted, "tf32x3")
    assert_output(two, given, params, wanted, "tf32x3", rounded=True)


def test_autocast() -> None:
    given, flags = _arguments(6)
    x, *others = given
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        y, h_last = min_gru_block(*given, **flags)
    with torch.no_grad():
        halves = [t.half() for t in (x, *others[:-1])]
        expected = min_gru_block(*halves, others[-1], **flags)
    assert (y.dtype, h_last.dtype) == (torch.float16, torch.float32)
    # biases are not rounded under autocast, and reach y through a layer whose weights are of size 1
    assert_within("y", y, expected[0], 8 * bounds.unit(torch.float16) * expected[0].abs().max())
    torch.testing.assert_close(h_last, expected[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("position", "value", "error", "message"),
    [
        (0, torch.zeros(2, 3, 4), ValueError, r"input must have shape \(terms, batch, seq, dim\), got \(2, 3, 4\)"),
        (1, torch.zeros(2, 4, 10), ValueError, r"weight must have shape \(terms, dim, 2 \* dim\) = \(2, 4, 8\)"),
        (2, torch.zeros(3), ValueError, r"norm_weight must have shape \(dim\)"),
        (6, torch.zeros(2, 4, 4, dtype=torch.int64), TypeError, "weight2 must"),
        (7, torch.zeros(2, 1, 4, dtype=torch.float64), TypeError, "bias2 must"),
        (8, torch.zeros(2, 3, 4), ValueError, "h0 must have shape"),
    ],
)
def test_errors(position: int, value: Tensor, error: type[Exception], message: str) -> None:
    given, flags = _arguments(4)
    given[position] = value
    if position == 1:
        given.pop()  # h0, whose width is read off the weight
    with pytest.raises(error, match=message):
        min_gru_block(*given, **flags)
