"""How the kernels sit in PyTorch on a device: graphs, streams, devices, synchronisation, the compiler, autocast."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rnam
from rnam import functional
from tests.gpu import parity, shapes
from tests.gpu.shapes import BF16, DEVICE
from tests.support.assertions import assert_equal, assert_finite, assert_norm_within
from tests.support.min_gru_cases import REL

needs_cuda = pytest.mark.skipif(shapes.INTERPRETED, reason="only a CUDA device has this")
TERMS, BATCH, STEPS, WIDTH = shapes.SMALL


def _min_gru(x: Tensor, weight: Tensor) -> Tensor:
    return functional.min_gru(x, weight)[0]


def _wide(x: Tensor, weight: Tensor) -> Tensor:
    return functional.min_gru(x, weight.repeat(1, 1, 70 // WIDTH + 1))[0]


def _block(x: Tensor, weight: Tensor) -> Tensor:
    square, bias, norm = weight[..., :WIDTH], weight[:, :1, :WIDTH], weight.new_ones(WIDTH)
    return functional.min_gru_block(x, weight, norm, norm, square, bias, square, bias)[0]


# name -> a function of x [F, B, T, D] and weight [F, D, 2 D]
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "min_gru": _min_gru,
    "min_gru, log": lambda x, w: functional.min_gru(x, w, space="log")[0],
    "min_gru, wide": _wide,
    "min_gru, cut": lambda x, w: functional.min_gru(x[:1, :1].repeat(1, 1, 20, 1), w[:1])[0],
    "linear_scan": lambda x, w: functional.linear_scan(torch.sigmoid(x), x * w.mean()),
    "log_scan": lambda x, w: functional.log_scan(-x.abs(), x * w.mean()),
    "grouped_linear": lambda x, w: functional.grouped_linear(x, w, None, "gelu"),
    "min_gru_block": _block,
    "min_lstm": lambda x, w: functional.min_lstm(x, torch.cat([w, w[..., :WIDTH]], 2))[0],
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def leaves(seed: int = 0, device: torch.device = DEVICE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TERMS, BATCH, STEPS, WIDTH, generator=generator).to(device)
    weight = torch.randn(TERMS, WIDTH, 2 * WIDTH, generator=generator).to(device)
    return x.requires_grad_(), weight.requires_grad_()


def run(name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """The output and both gradients, on the kernels."""
    held = x.detach().requires_grad_(), weight.detach().requires_grad_()  # leaves of the current stream
    with parity.on_kernels():
        h = FUNCTIONS[name](*held)
        return h.detach(), *torch.autograd.grad(h, held, torch.ones_like(h))


def assert_same_bits(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    for name, a, b in zip(("output", "dx", "dw"), got, want, strict=True):
        assert_equal(name, a.cpu(), b.cpu())


@needs_cuda
@every_function
def test_a_captured_graph_replays(name: str) -> None:
    held = [t.detach() for t in leaves(0)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles, and warms up what allocates
        run(name, *held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(name, *held)
    for t, new in zip(held, leaves(1), strict=True):
        t.copy_(new.detach())
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(captured, run(name, *leaves(1)))


@needs_cuda
def test_a_graphed_callable_gives_what_the_function_gives() -> None:
    """Forward and backward, as docs/first-step.md captures them."""
    with parity.on_kernels():
        graphed = torch.cuda.make_graphed_callables(FUNCTIONS["min_gru"], leaves(0))
    for seed in (1, 2):
        held = leaves(seed)
        h = graphed(*held)
        got = h.clone(), *torch.autograd.grad(h, held, torch.ones_like(h))
        assert_same_bits(got, run("min_gru", *held))


@needs_cuda
@every_function
# PyTorch says so of the mode itself, at every use
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_nothing_synchronises(name: str) -> None:
    held = leaves()
    want = run(name, *held)
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = run(name, *held)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same_bits(got, want)


@needs_cuda
@every_function
def test_the_current_stream_is_used(name: str) -> None:
    """The inputs come late, on a side stream: kernels of another stream would read zeros."""
    given = [t.detach() for t in leaves()]
    want = run(name, *given)
    late = [torch.zeros_like(t) for t in given]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)
        for t, value in zip(late, given, strict=True):
            t.copy_(value)
        got = run(name, *late)
    side.synchronize()
    assert_same_bits(got, want)


@needs_cuda
@every_function
def test_tensors_on_a_second_device(name: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device")
    with torch.cuda.device(0):
        got = run(name, *leaves(device=torch.device("cuda:1")))
    assert {t.device.index for t in got} == {1}
    assert_finite("output and gradients", got)
    if torch.cuda.get_device_capability(0) == torch.cuda.get_device_capability(1):
        assert_same_bits(got, run(name, *leaves(device=torch.device("cuda:0"))))


# the compiler recommends tf32, which a float32 test does not want, and its own modules are deprecated now and then
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning", "ignore::DeprecationWarning")
def test_a_compiled_model() -> None:
    """fullgraph, with the compiler's default backend on a GPU: prediction and gradients."""
    # small: two right roundings may differ in a gradient where one of relu's arguments is next to 0
    terms, batch, steps = 3, 4, min(STEPS, 64)
    model = rnam.RNAM(terms=terms, hidden_dim=WIDTH, out_dim=2, blocks=2).to(DEVICE)
    x = torch.randn(terms, batch, steps, 1, device=DEVICE)
    mask = torch.rand(terms, batch, steps, device=DEVICE) < 0.8
    mask[..., 0] = True
    compiled = torch.compile(model, fullgraph=True, backend=shapes.size("inductor", "aot_eager"))

    def derive(module: Callable[..., tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
        prediction, contributions = module(x, mask=mask)
        loss = prediction.square().sum() + contributions.square().sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return [t.detach().double() for t in (prediction, contributions, *gradients)]

    with parity.on_kernels():
        got = derive(compiled, x)
    with rnam.set_backend("reference"):
        plain = derive(model, x)
        model.double()
        exact = derive(model, x.double())
    # The band of one layer, for each of the ten that stand behind each other.
    names = ("prediction", "contributions", *(name for name, _ in model.named_parameters()))
    for name, ours, theirs, want in zip(names, got, plain, exact, strict=True):
        assert_norm_within(name, ours, want, 2 * (theirs - want).norm() + 10 * REL * want.norm())


def test_autocast_rounds_the_weight_at_the_load() -> None:
    x, weight = (t.detach().to(BF16).float().requires_grad_() for t in leaves())
    narrow = [t.detach().to(BF16).requires_grad_() for t in (x, weight)]
    with parity.on_kernels():
        with torch.autocast(DEVICE.type, dtype=BF16):
            h = _min_gru(x, weight)
            y = functional.grouped_linear(x, weight)
        dx, dw = torch.autograd.grad([h.float().sum(), y.float().sum()], (x, weight))
        h_narrow, y_narrow = _min_gru(*narrow), functional.grouped_linear(*narrow)
    assert h.dtype == y.dtype == BF16 and dx.dtype == dw.dtype == torch.float32
    assert torch.equal(h, h_narrow) and torch.equal(y, y_narrow)
    assert dx.isfinite().all() and dw.isfinite().all() and dw.any()
