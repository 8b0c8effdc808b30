"""The operators: derivatives, transforms, the compiler and export; on the kernels in the Triton interpreter, and on the
blocks for a CPU in the other process.

What they compute is tested in tests/kernels and tests/test_blocked.py; here small shapes do.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import rnam
from rnam.backends import flags, projected
from rnam.functional import (
    feed_forward,
    grouped_linear,
    linear_scan,
    log_scan,
    min_gru,
    min_gru_block,
    min_gru_projected,
    min_lstm,
)
from tests.support import bounds, inputs
from tests.support.assertions import assert_norm_within, assert_within

# torch.func.jvp imports a part of torch that scripts decompositions
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

F, B, T, D, H = 2, 2, 5, 3, 4


@pytest.fixture(
    autouse=True,
    params=[pytest.param("triton", marks=pytest.mark.interpreter), "torch"],
)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


@pytest.fixture
def launchers(backend: str) -> Any:
    return importlib.import_module({"triton": "rnam.kernels", "torch": "rnam.backends.blocks"}[backend])


def _tensors(dtype: torch.dtype = torch.float32, requires_grad: bool = False) -> list[Tensor]:
    x, w, h0 = inputs.layer_inputs(F, B, T, D, H, seed=1)
    x = inputs.away_from_the_kink(x, w, 0.02)
    return [t.to(dtype).requires_grad_(requires_grad) for t in (x, w, h0.abs())]


MASK, RESET = inputs.mask_and_reset(F, B, T, seed=1)


def _min_gru(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    h, h_last = min_gru(x, w, h0, mask=MASK, reset=RESET[0])
    return torch.cat([h, h_last], dim=2)


def _timed_min_gru(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    """With a bias, and times for every term alike."""
    times, bias = x[:1, :, :, 0].square(), w[:, :1]
    return torch.cat(min_gru(x, w, h0, mask=MASK, reset=RESET[0], bias=bias, elapsed=times), dim=2)


def _timed_last_state(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return min_gru(x, w, h0, mask=MASK, elapsed=x[..., 0].square(), need_h=False)[1]


def _timed_min_lstm(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    weight = torch.cat([w, w[..., :H].roll(1, 1)], -1)
    return torch.cat(min_lstm(x, weight, h0, mask=MASK, bias=weight[:, :1], elapsed=x[..., 0].square()), dim=2)


def _last_state(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return min_gru(x, w, h0, mask=MASK, reset=RESET[0], need_h=False)[1]


def _linear(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return grouped_linear(x, w, torch.cat([h0, h0], -1)[:, 0], "silu")


def _feed_forward(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    norm, bias1, bias2 = h0[0, 0, :, :D], h0[:, :1, 0, :D], h0[:, 1:, 0, 1:]
    return feed_forward(x, x.sin(), 1 + norm[0], norm[0], w[..., :D], bias1, w[..., D : 2 * D], bias2)


def _embedding(w: Tensor) -> tuple[Tensor, Tensor]:
    """Of one number, to H."""
    return w[:, :1, :H], w[:, 1:2, :H]


def _embedded_min_gru(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    weight = torch.cat([w, w[:, :1]], 1)
    return torch.cat(min_gru(x[..., :1], weight, h0, mask=MASK, reset=RESET[0], embedding=_embedding(w)), dim=2)


def _embedded_feed_forward(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    norm, bias1, bias2, weights = h0[0, 0, 0], h0[:, 0], h0[:, 1], w.reshape(F, -1) / 4
    update = torch.cat([x, x[..., :1]], -1).sin() + 2 * torch.arange(
        H, dtype=x.dtype
    )  # far from a row without variance
    layers = (weights[:, :16].reshape(F, H, H), bias1, weights[:, 8:24].reshape(F, H, H), bias2)
    return feed_forward(x[..., :1], update, 1 + norm, norm, *layers, embedding=_embedding(w))


def _linear_scan(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return linear_scan(x.tanh(), x, h0[..., :D])


def _log_scan(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return log_scan(-x.abs(), x, h0[..., :D])


def _block(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    """One that embeds: the same operator as one that does not. The states from 1 on, and a beta that is large, are far
    from a row without variance."""
    weight = torch.cat([w, w[:, :1]], 1)
    norm, bias1, bias2, square = h0[0, 0, 0], h0[:, 0], h0[:, 1], weight[..., :H] / 4
    start = h0 + 2 * torch.arange(H, dtype=x.dtype)
    parameters = weight, 1 + norm, 1 + norm, square, bias1, square.mT, bias2
    return torch.cat(min_gru_block(x[..., :1], *parameters, start, embedding=_embedding(w)), dim=2)


def _projected(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    """The operator that computes a projected minGRU without a gradient: it has one too."""
    out_weight = w[:, :, H:].mT
    if rnam.get_backend() == "triton":
        packed = torch.cat([w.flatten(1), out_weight.flatten(1)], dim=1)
        call = projected.PackedProjection(x, packed, h0, None, flags.encode(MASK, RESET[:1]), False)
        y, h_last = projected._OPERATOR(call)
    else:
        y, h_last = min_gru_projected(x, w, out_weight, h0, mask=MASK, reset=RESET[0])
    return torch.cat([y, h_last[..., :D], h_last[..., 1:]], dim=2)


TIMED = (_timed_min_gru, _timed_last_state, _timed_min_lstm)
FUNCTIONS = [
    _min_gru,
    *TIMED,
    _last_state,
    _block,
    _projected,
    _linear,
    _feed_forward,
    _embedded_min_gru,
    _embedded_feed_forward,
    _linear_scan,
    _log_scan,
]
Function = Callable[[Tensor, Tensor, Tensor], Tensor]

# of several operators or kernels each; test_block.py and test_projected.py map two of them as well
LONG = (*TIMED, _last_state, _block, _projected, _embedded_min_gru, _log_scan)
SOME_LONG = [pytest.param(f, marks=pytest.mark.long_in_interpreter) if f in LONG else f for f in FUNCTIONS]


def _exactly(run: Callable[[list[Tensor]], Any]) -> Any:
    """`run` on the reference in float64."""
    with rnam.set_backend("reference"):
        return run(_tensors(torch.float64))


def _close(got: Any, exact: Any, plain: Any = None) -> None:
    """Norms differ by a few float32 roundings: some T + D sums, each of unit 6e-8, second derivatives too; or by twice
    what the reference is off in float32, `plain`."""
    got, exact, plain = (list(t) if isinstance(t, tuple | list) else [t] for t in (got, exact, plain))
    for i, (a, b, p) in enumerate(zip(got, exact, plain if plain[0] is not None else exact, strict=True)):
        assert a.dtype == torch.float32
        limit = max(100 * bounds.unit(torch.float32) * b.norm() + 1e-12, 2 * (p.double() - b).norm())
        assert_norm_within(f"result {i}", a, b, limit)


def _loss(function: Function) -> Callable[..., Tensor]:
    return lambda *tensors: function(*tensors).sin().sum()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_first_and_second_derivatives(function: Function) -> None:
    def run(tensors: list[Tensor]) -> list[Tensor]:
        tensors = [t.requires_grad_() for t in tensors]
        out = function(*tensors)
        first = torch.autograd.grad(out.sin().sum(), tensors, create_graph=True, materialize_grads=True)
        mixed = sum((g * g.detach().cos()).sum() for g in first)
        second = torch.autograd.grad(mixed, tensors, materialize_grads=True)
        return [out, *first, *second]

    with rnam.set_backend("reference"):
        plain = run(_tensors())
    _close(run(_tensors()), _exactly(run), plain)


class _Calls(TorchDispatchMode):
    """How many operations run while it is open."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _masked_min_gru(x: Tensor, w: Tensor, h0: Tensor) -> Tensor:
    return torch.cat(min_gru(x, w, h0, mask=x[..., 0] > 0), dim=2)


@pytest.mark.parametrize("function", [_masked_min_gru, _linear, _linear_scan, _log_scan])
def test_a_second_derivative_has_no_loop_over_the_steps(function: Function) -> None:
    """Four times the steps are two more levels of a scan each time, and nothing else."""

    def calls(steps: int) -> int:
        tensors = [t.requires_grad_() for t in inputs.layer_inputs(1, 1, steps, 2, 2, dtype=torch.float32)]
        first = torch.autograd.grad(function(*tensors).sum(), tensors, create_graph=True, materialize_grads=True)
        with _Calls() as counted:
            torch.autograd.grad(sum(g.square().sum() for g in first), tensors, materialize_grads=True)
        return counted.count

    short, middle, long = map(calls, (32, 128, 512))
    assert 0 <= long - middle == middle - short < 512 - 128


@pytest.mark.parametrize("function", SOME_LONG)
def test_func_grad_vmap_and_jacrev(function: Function) -> None:
    arguments = (0, 1, 2)
    gradient = grad(_loss(function), argnums=arguments)
    batched = vmap(gradient, in_dims=(0, None, 1))

    def many(tensors: list[Tensor]) -> Any:
        x, w, h0 = tensors
        return batched(torch.stack([x, 2 * x]), w, torch.stack([h0, h0 / 2, h0], 1)[:, :2])

    for run in (
        lambda t: gradient(*t),
        many,
        lambda t: vmap(function, in_dims=(None, 2, None))(t[0], torch.stack([t[1], -t[1]], 2), t[2]),
        lambda t: jacrev(lambda x: function(x, t[1], t[2])[0, 0, -1])(t[0]),
        lambda t: grad(lambda x: vmap(lambda x: function(x, t[1], t[2]))(x).sin().sum())(torch.stack([t[0], -t[0]])),
    ):
        _close(run(_tensors()), _exactly(run))


def test_vmap_over_masks() -> None:
    masks = torch.stack([MASK, ~MASK])[:, :1]  # for every term alike

    def run(t: list[Tensor]) -> Tensor:
        return vmap(lambda m, x: min_gru(x, t[1], mask=m)[0], in_dims=(0, None))(masks, t[0])

    _close(run(_tensors()), _exactly(run))


def test_forward_mode_raises(backend: str) -> None:
    x, w, h0 = _tensors()
    # the scans of "torch" are the reference's, which has it
    functions = FUNCTIONS if backend == "triton" else FUNCTIONS[:-2]
    for function in functions:
        with pytest.raises(NotImplementedError, match="forward-mode"):
            jvp(lambda x, f=function: f(x, w, h0), (x,), (x,))


@pytest.mark.parametrize("third", range(3))  # so that processes share them
@pytest.mark.parametrize("requires_grad", [False, pytest.param(True, marks=pytest.mark.long)])
def test_opcheck(requires_grad: bool, third: int, backend: str) -> None:
    ops = torch.ops.rnam
    x, w, h0 = _tensors(requires_grad=requires_grad)
    encoded = flags.encode(MASK, RESET)
    a = torch.rand(B, T, H, requires_grad=requires_grad)
    rows, bias = x.detach().flatten(1, 2), w.detach()[:, :1].clone()
    rows, bias = rows.requires_grad_(requires_grad), bias.requires_grad_(requires_grad)
    start = a.detach()[:, :1].clone().requires_grad_(requires_grad)
    params, wide = (torch.randn(F, n, requires_grad=requires_grad) for n in (2 * H * H + 4 * H, 2 * H * H + 6 * H))
    update = torch.randn(F, B * T, H, requires_grad=requires_grad)
    column = rows.detach()[..., :1].clone().requires_grad_(requires_grad)
    packed = torch.randn(F, 4 * (D + 1), D, requires_grad=requires_grad)
    composed = torch.randn(F, 4 + 2 * H + 4 + 2, H, requires_grad=requires_grad)
    state = h0[..., :D].detach().requires_grad_(requires_grad)
    embedded = (x.detach()[..., :1].clone(), composed, h0, None, encoded, True, True)
    one = x[:, :, :1].detach().clone().requires_grad_(requires_grad)
    biased = torch.randn(F, D + 1, 2 * H, requires_grad=requires_grad)
    times = torch.rand(1, B, T, requires_grad=requires_grad)
    wide_packed = torch.randn(F, 3 * D * H, requires_grad=requires_grad)
    kernels = (
        (ops.min_gru, (x, w, h0, None, encoded, "mingru", "linear")),
        (ops.min_gru, (x, w, None, None, None, "mingru", "log")),
        (ops.min_gru_last, (x, w, h0, None, encoded, "mingru", "linear")),
        (ops.min_gru, (x, biased, h0, times, encoded, "mingru", "linear")),
        (ops.min_gru_block, embedded if requires_grad else (x, packed, state, None, encoded, False, False)),
        (ops.min_gru_projected, (x, wide_packed, h0, None, encoded, False)),
        (ops.scan, (a, a, None, "linear")),
        (ops.scan, (a, a, start, "log")),
        (ops.grouped_linear, (rows, w, bias, "gelu")),
        (ops.feed_forward, (column, wide, update)),
    )
    blocks = (
        (ops.blocked_min_gru, (x, w, h0, None, encoded, "mingru", "linear")),
        (ops.blocked_min_gru, (x, w, None, None, None, "mingru", "linear")),
        (ops.blocked_min_gru, (one, w, h0, None, None, "mingru", "linear")),
        (ops.blocked_min_gru_last, (x, w, h0, None, encoded, "mingru", "linear")),
        (ops.blocked_min_gru, (x, biased, h0, times, encoded, "mingru", "linear")),
        (ops.blocked_min_gru_last, (x, w, h0, times, None, "mingru", "linear")),
        (ops.blocked_linear, (rows, w, bias, "gelu")),
        (ops.blocked_feed_forward, (update, params, update)),
        (ops.blocked_feed_forward, (column, wide, update)),
    )
    # what is traced with gradients is traced without
    utils = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_dynamic")
    chosen = {"test_utils": utils if requires_grad else utils[:2]}
    for op, arguments in (kernels if backend == "triton" else blocks)[third::3]:
        torch.library.opcheck(op.default, arguments, **chosen)
        outputs = op(*arguments)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        output, incoming = outputs[-1 if len(outputs) == 3 else 0].detach(), torch.ones_like(outputs[0])
        backward = getattr(ops, op._qualified_op_name.split("::")[1] + "_backward").default
        needs = [requires_grad or n == 1 for n in range(len(backward._schema.returns))]
        torch.library.opcheck(backward, (*arguments, output, incoming, None, needs), **chosen)


def test_only_what_is_asked_is_computed(launchers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    launch = launchers.recurrence_backward

    def spy(call: Any, gates: Any, h: Tensor, *grads: Tensor | None, needs: tuple[bool, ...]) -> Any:
        found = launch(call, gates, h, *grads, needs=needs)
        assert [g is not None for g in found] == list(needs)
        asked.append((needs[:3], *(g is None for g in grads)))
        return found

    monkeypatch.setattr(launchers, "recurrence_backward", spy)
    x, w, h0 = _tensors()
    h, _ = min_gru(x, w.requires_grad_(), h0)
    h.sum().backward()
    _, h_last = min_gru(x.requires_grad_(), w.detach(), h0.requires_grad_())
    h_last.sum().backward()
    assert asked == [((False, True, False), False, True), ((True, False, True), True, False)]


def test_the_states_are_written_only_where_they_are_read(launchers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    launch = launchers.recurrence_forward

    def spy(call: Any, gates: Any) -> Any:
        h, h_last = launch(call, gates)
        written.append(h is not None)
        return h, h_last

    monkeypatch.setattr(launchers, "recurrence_forward", spy)
    for dtype in (torch.float32, torch.bfloat16):
        x, w, h0 = _tensors(dtype)
        _, expected = min_gru(x, w, h0, mask=MASK)
        h, h_last = min_gru(x, w, h0, mask=MASK, need_h=False)
        assert (h.shape, h.dtype, torch.equal(h_last, expected)) == ((F, B, 0, H), dtype, True)
    h, _ = min_gru(x, w.requires_grad_(), h0, need_h=False)  # the backward reads them
    assert h.shape == (F, B, 0, H)
    assert written == [True, False, True, False, True]


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru = rnam.minGRU(F, D)

    def forward(self, x: Tensor, mask: Tensor, reset: Tensor) -> Tensor:
        output, state = self.gru(x, mask=mask, reset=reset)
        return output + state


class _TimedLayer(_Layer):
    """Times that the input says, for every term alike, and a cell of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = rnam.minGRU(F, D, 2.0, timescales=(1, 30))
        self.lstm = rnam.minLSTM(F, D, timescales=(1, 30))

    def forward(self, x: Tensor, mask: Tensor, reset: Tensor) -> Tensor:
        elapsed = x[:1, :, :, 0].square()
        output, _ = self.gru(x, mask=mask, reset=reset, elapsed=elapsed)
        second, state = self.lstm(output, mask=mask, elapsed=elapsed)
        return second + state


LAYERS = pytest.mark.parametrize("kind", [_Layer, _TimedLayer])


@LAYERS
def test_compile_without_graph_breaks(kind: type[_Layer]) -> None:
    layer, x = kind(), _tensors(requires_grad=True)[0]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def gradients(run: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(run(x, MASK, RESET).sin().sum(), [x, *layer.parameters()])

    torch.testing.assert_close(gradients(compiled), gradients(layer))


@LAYERS
def test_export_with_dynamic_batch_and_length(kind: type[_Layer]) -> None:
    layer, x = kind(), _tensors()[0]
    b, t = torch.export.Dim("b", min=2, max=64), torch.export.Dim("t", min=2, max=64)
    shapes = ({1: b, 2: t}, {1: b, 2: t}, {1: b, 2: t})
    program = torch.export.export(layer, (x, MASK, RESET), dynamic_shapes=shapes).module()
    longer = torch.randn(F, B + 2, T + 4, D)
    mask, reset = inputs.mask_and_reset(F, B + 2, T + 4)
    torch.testing.assert_close(program(longer, mask, reset), layer(longer, mask, reset))


@pytest.mark.parametrize("function", SOME_LONG)
def test_compiled_transforms_are_right_or_raise(function: Function) -> None:
    """With the autograd Function alone they gave zeros."""
    tensors = _tensors()
    expected = grad(_loss(function))(*tensors)
    assert expected.abs().max() > 0
    for transformed, arguments in (
        (grad(_loss(function)), tensors),
        (vmap(grad(_loss(function)), in_dims=(0, None, None)), [tensors[0][None], *tensors[1:]]),
    ):
        torch.compiler.reset()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the compiler has to say about its fallbacks
                got = torch.compile(transformed, backend="aot_eager")(*arguments)
        except Exception:  # raising, in whatever way, is allowed
            continue
        torch.testing.assert_close(got.reshape(expected.shape), expected)


def test_a_backward_uses_the_backend_of_its_forward(launchers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    launch = launchers.recurrence_backward
    monkeypatch.setattr(launchers, "recurrence_backward", lambda *a, **k: calls.append(1) or launch(*a, **k))
    x, w, h0 = _tensors(requires_grad=True)
    h, _ = min_gru(x, w, h0)
    with rnam.set_backend("reference"):
        h.sum().backward()
        assert calls == [1]
        h, _ = min_gru(x, w, h0)
    h.sum().backward()
    assert calls == [1]


def test_a_linear_layer_lets_its_output_be_changed() -> None:
    """Its backward does not read it, so an in-place activation may follow."""
    layer, x = nn.Sequential(rnam.Linear(F, D, H), nn.ReLU(inplace=True)), _tensors()[0]
    gradients = []
    for run in (layer, lambda x: torch.relu(layer[0](x))):
        gradients.append(torch.autograd.grad(run(x).sin().sum(), list(layer.parameters())))
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_fake_and_meta_tensors() -> None:
    """Shapes and dtypes go through forward and backward where there are no numbers."""
    with FakeTensorMode():
        layer, x = _Layer(), torch.randn(F, B, T, D)
        layer(x, torch.ones(T, dtype=torch.bool), torch.zeros(T, dtype=torch.bool)).sum().backward()
        assert layer.gru.to_hidden_and_gate.weight.grad.shape == (F, D, 2 * D)


def test_make_fx() -> None:
    x, w, h0 = _tensors()
    gradient = grad(lambda x: _min_gru(x, w, h0).sin().sum())
    traced = make_fx(gradient)(x)
    torch.testing.assert_close(traced(2 * x), gradient(2 * x))


def test_autocast_keeps_the_gradient_of_the_weight_in_float32() -> None:
    x, w, h0 = _tensors()
    w = w.bfloat16().float()  # the interpreter would truncate where a GPU and torch round
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h, h_last = min_gru(x, w.requires_grad_(), h0)
    rounded = w.detach().bfloat16().requires_grad_()
    same, same_last = min_gru(x.bfloat16(), rounded, h0)
    assert (h.dtype, h_last.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(h, same)
    assert torch.equal(h_last, same_last)
    (got,), (expected,) = torch.autograd.grad(h_last.sum(), w), torch.autograd.grad(same_last.sum(), rounded)
    # the same sums: one leaves as it is, the other is rounded to bfloat16
    assert (got.dtype, expected.dtype) == (torch.float32, torch.bfloat16)
    assert_within("dw", expected, got, bounds.unit(torch.bfloat16) * got.abs())
