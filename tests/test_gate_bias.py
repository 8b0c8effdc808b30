"""The bias of a recurrence: where it goes, how it starts, and which layers have one."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import rnam
from rnam import functional
from rnam.backends import block
from rnam.backends.calls import FeedForward, Recurrence, pack
from rnam.functional import min_gru, min_gru_block, min_gru_projected, min_lstm
from tests.support import backends, bounds, inputs, oracle
from tests.support.assertions import assert_equal, assert_norm_within, assert_within
from tests.support.backends import TRITON

CELLS = [(rnam.minGRU, 2), (rnam.minLSTM, 3)]


def drawn(dim: int, hidden: int, preacts: int = 2, seq: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, h0 and bias (2 terms, 3 rows), float64."""
    x, w, h0 = inputs.layer_inputs(2, 3, seq, dim, hidden, seed=1)
    w = torch.cat([w, w[..., :hidden].roll(1, -1)], -1)[..., : preacts * hidden]
    return x, w, h0, torch.randn(2, 1, preacts * hidden, dtype=x.dtype)


def outputs(function: Any, tensors: list[Tensor]) -> list[Tensor]:
    """What a function gives, and every gradient."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = function(*leaves)
    loss = sum((n + 1) * o.sin().sum() for n, o in enumerate(out))
    return [*(o.detach() for o in out), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("seq", [1, 12, 200])
@pytest.mark.parametrize("cell", CELLS, ids=("minGRU", "minLSTM"))
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_it_is_added_to_the_pre_activations(backend: str, cell: tuple[type, int], seq: int) -> None:
    """Values and every gradient, with NaN at masked places."""
    x, w, h0, b = drawn(4, 5, cell[1], seq)
    function, steps = ((min_gru, oracle.min_gru), (min_lstm, oracle.min_lstm))[cell[1] - 2]
    mask, reset = inputs.mask_and_reset(2, 3, seq)
    x = torch.where(mask[..., None], x, torch.nan)
    with rnam.set_backend(backend):
        got = outputs(lambda x, w, h0, b: function(x, w, h0, mask=mask, reset=reset, bias=b), [x, w, h0, b])
    bounds.assert_same(got, outputs(lambda x, w, h0, b: steps(x, w, h0, mask, reset, bias=b), [x, w, h0, b]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seq", [1, 40])
@pytest.mark.parametrize("backend", ["torch", "reference", TRITON])
def test_it_is_not_rounded_where_a_weight_is(backend: str, seq: int, dtype: torch.dtype) -> None:
    """Autocast rounds the weight to half precision, and leaves the bias."""
    if backend == "triton" and dtype == torch.bfloat16:
        pytest.skip("the interpreter cuts the weight off where a GPU rounds it")
    x, w, h0, b = (t.float() for t in drawn(4, 5, seq=seq))
    with rnam.set_backend(backend), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        h, h_last = min_gru(x, w, h0, bias=b)
    rounded = x.to(dtype), w.to(dtype), h0
    exact, last = oracle.min_gru(*rounded, bias=b)
    bound = bounds.min_gru(*rounded, dtype=dtype, bias=b)
    assert_within("h", h, exact, bound)
    error = bounds.min_gru(*(t.float() for t in rounded), dtype=torch.float32, bias=b)
    assert_within("h_last", h_last, last, error[:, :, -1:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seq", [1, 40])
@pytest.mark.parametrize("backend", ["torch", "reference", TRITON])
def test_an_embedding_leaves_it_as_it_is(backend: str, seq: int, dtype: torch.dtype) -> None:
    """Of a gate at -9 half precision would round away a hundredth, and so of the rate. This embedding picks columns, so
    that nothing else is rounded on the way."""
    x, w, h0, b = (t.float() for t in drawn(4, 5, seq=seq))
    b[..., 5:] -= 9
    picks, nothing = torch.eye(4)[:2].expand(2, 2, 4), torch.zeros(2, 1, 4)
    x = x[..., :2].contiguous()
    with rnam.set_backend(backend), torch.autocast("cpu", dtype=dtype):
        _, h_last = min_gru(x, w, h0, bias=b, embedding=(picks, nothing))
    rounded = [t.to(dtype).float() for t in (x, w[:, :2])]
    _, last = oracle.min_gru(*rounded, h0, bias=b)
    assert_within("h_last", h_last, last, bounds.min_gru(*rounded, h0, dtype=torch.float32, bias=b)[:, :, -1:])


@pytest.mark.parametrize("in_dim", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_an_embedding_goes_with_it(backend: str, biased: bool, in_dim: int) -> None:
    """Of every width beside 4, so that a row of bias and the row of an embedding are never taken for each other."""
    x, w, h0, b = drawn(4, 4)
    e, c = torch.randn(2, in_dim, 4, dtype=x.dtype), torch.randn(2, 1, 4, dtype=x.dtype)
    x = torch.randn(2, 3, 12, in_dim, dtype=x.dtype)
    square, shift = torch.randn(2, 4, 4, dtype=x.dtype), torch.randn(2, 1, 4, dtype=x.dtype)
    feed = torch.rand(4, dtype=x.dtype), torch.rand(4, dtype=x.dtype), square, shift, square, shift
    with rnam.set_backend(backend):
        for function, steps in (
            (
                lambda x, w, h0, b, e, c: min_gru(x, w, h0, bias=b if biased else None, embedding=(e, c)),
                lambda x, w, h0, b, e, c: oracle.min_gru(oracle.embed(x, e, c), w, h0, bias=b if biased else None),
            ),
            (
                lambda x, w, h0, b, e, c: min_gru_block(x, w, *feed, h0, bias=b if biased else None, embedding=(e, c)),
                lambda x, w, h0, b, e, c: _block_by_steps(oracle.embed(x, e, c), w, h0, b if biased else None, *feed),
            ),
        ):
            given = [x, w, h0, b, e, c]
            # a bias that is not used has no gradient: it is added as 0
            got, want = (outputs(lambda *t, f=f: [o + 0 * t[3].sum() for o in f(*t)], given) for f in (function, steps))
            bounds.assert_same(got, want)


def _block_by_steps(x: Tensor, w: Tensor, h0: Tensor, b: Tensor | None, *feed: Tensor) -> tuple[Tensor, Tensor]:
    h, last = oracle.min_gru(x, w, h0, bias=b)
    return oracle.feed_forward(x, h, *feed), last


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_a_projection_takes_it(backend: str) -> None:
    x, w, h0, b = drawn(4, 6)
    out = torch.randn(2, 6, 4, dtype=x.dtype)
    with rnam.set_backend(backend):
        got = outputs(lambda x, w, h0, b: min_gru_projected(x, w, out, h0, bias=b), [x, w, h0, b])

    def steps(x: Tensor, w: Tensor, h0: Tensor, b: Tensor) -> Any:
        h, last = oracle.min_gru(x, w, h0, bias=b)
        return torch.einsum("fbth,fhd->fbtd", h, out), last

    bounds.assert_same(got, outputs(steps, [x, w, h0, b]))


@pytest.mark.parametrize("in_dim", [None, 1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_a_packed_block_says_which_rows_it_has(in_dim: int | None, biased: bool) -> None:
    """At width 4 the rows of an embedding of 3 are as many as those without one."""
    x, w, h0, b = drawn(4, 4)
    feed = FeedForward(
        torch.rand(4, dtype=x.dtype),
        torch.rand(4, dtype=x.dtype),
        *(torch.randn(2, n, 4, dtype=x.dtype) for n in (4, 1, 4, 1)),
    )
    bias, embedding = b if biased else None, None
    if in_dim is not None:
        embedding = torch.randn(2, in_dim, 4, dtype=x.dtype), torch.randn(2, 1, 4, dtype=x.dtype)
        x = torch.randn(2, 3, 12, in_dim, dtype=x.dtype)
        weight = block.composed(x, embedding, w, bias)
    else:
        weight = w if bias is None else block.with_bias_row(w, bias)
    rows = torch.cat([weight.flatten(1), pack(feed, embedding)], 1).unflatten(1, (-1, 4))
    row = embedding is not None or biased
    call = block.PackedBlock(x, rows, h0, None, None, True, row)
    gru, packed = call.recurrence()
    assert gru.has_bias_row == row and packed.shape[1] == pack(feed, embedding).shape[1]
    y, last = block.MinGRUBlock.formula(block._OPERATOR, call)
    inner = x if embedding is None else oracle.embed(x, *embedding)
    bounds.assert_same((y, last), _block_by_steps(inner, w, h0, bias, *feed))
    assert block._OPERATOR.fake(call)[0].shape == y.shape


def test_a_row_of_bias_is_told_from_an_embedding() -> None:
    x, w, b = torch.zeros(2, 3, 5, 3), torch.zeros(2, 4, 8), torch.ones(2, 1, 8)
    assert Recurrence(x, w).has_bias_row
    assert not Recurrence(x, w, embedding=(torch.zeros(2, 3, 4), torch.zeros(2, 1, 4))).has_bias_row
    assert not Recurrence(torch.zeros(2, 3, 5, 4), w, bias=b).has_bias_row
    assert not Recurrence(x, None).has_bias_row


# ---- the layers ----


@pytest.mark.parametrize("cell", CELLS, ids=("minGRU", "minLSTM"))
def test_parameters_of_a_layer(cell: tuple[type, int]) -> None:
    """The gates of a bias start at 0 and the rest as a Linear's; without one nothing is as it was not."""
    kind, n = cell
    torch.manual_seed(3)
    plain = kind(3, 5, 2.0)
    assert list(plain.state_dict()) == ["to_hidden_and_gate.weight", "to_out.weight"]
    torch.manual_seed(3)
    layer = kind(3, 5, 2.0, bias=True)
    torch.manual_seed(3)
    same = rnam.Linear(3, 5, n * 10)
    names = ["to_hidden_and_gate.weight", "to_hidden_and_gate.bias", "to_out.weight"]
    assert list(layer.state_dict()) == names
    assert_equal("weight", layer.to_hidden_and_gate.weight, same.weight)
    bias = layer.to_hidden_and_gate.bias
    assert bias.shape == (3, 1, n * 10) and bias.requires_grad
    assert_equal("hidden part", bias[..., :10], same.bias[..., :10])
    assert_equal("gates", bias[..., 10:], 0.0)
    with torch.no_grad():
        bias.fill_(7)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert_equal("hidden part", bias[..., :10], same.bias[..., :10])
    assert_equal("gates", bias[..., 10:], 0.0)


@pytest.mark.parametrize("cell", CELLS, ids=("minGRU", "minLSTM"))
@pytest.mark.parametrize(("shortest", "longest"), [(1.5, 365), (1e-3, 1e3), (0.01, 1e6), (7, 7)])
def test_a_layer_starts_at_its_time_scales(shortest: float, longest: float, cell: tuple[type, int]) -> None:
    """From zero input a state decays as exp(-t / tau), tau spaced in logarithms, at every step length."""
    kind, _ = cell
    layer = kind(2, 9, dtype=torch.float64, timescales=(shortest, longest))
    tau = torch.logspace(math.log10(shortest), math.log10(longest), 9, dtype=torch.float64)
    with torch.no_grad():
        layer.to_hidden_and_gate.bias[..., :9] = -torch.inf  # g(u) = 0: nothing but the decay is left
        for time in (0.1, 1.0, 20.0):
            elapsed = None if time == 1 else torch.tensor(time, dtype=torch.float64)
            _, state = layer(torch.zeros(2, 1, 1, 9).double(), torch.ones(2, 1, 1, 9).double(), elapsed=elapsed)
            exact = torch.exp(-time / tau).expand_as(state)
            # an error of k, a few roundings of up to |k| = 14, is one of the exponent
            assert_within("state", state, exact, 100 * bounds.unit(torch.float64) * (1 + time / tau) * exact)


def test_time_scales_of_one_channel_and_of_half_precision() -> None:
    (bias,) = rnam.minGRU(1, 1, timescales=(4, 25)).to_hidden_and_gate.bias[0, 0, 1:].tolist()
    assert abs(bias - math.log(math.expm1(1 / 10))) < 1e-6  # the geometric mean
    layer = rnam.minGRU(2, 4, timescales=(1, 100), dtype=torch.bfloat16)
    assert layer.to_hidden_and_gate.bias.dtype == torch.bfloat16
    assert rnam.minGRU(2, 4, device="meta", timescales=(1, 100)).to_hidden_and_gate.bias.device.type == "meta"


def test_a_reset_restores_the_time_scales() -> None:
    for kind, n in CELLS:
        layer = kind(2, 4, timescales=(2, 50))
        gates = layer.to_hidden_and_gate.bias[..., 4:].clone()
        with torch.no_grad():
            layer.to_hidden_and_gate.bias.zero_()
        layer.reset_parameters()
        assert_equal("gates", layer.to_hidden_and_gate.bias[..., 4:], gates)
        assert gates.shape == (2, 1, 4 * (n - 1)) and layer.timescales == (2.0, 50.0)


def test_copies_and_modules_of_before() -> None:
    layer, x = rnam.minGRU(3, 4, 2.0, timescales=(1, 30)), torch.randn(3, 2, 6, 4)
    other = rnam.minGRU(3, 4, 2.0, bias=True)
    other.load_state_dict(layer.state_dict())
    for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same(x)[0], layer(x)[0])
    original = rnam.minGRU.__new__(rnam.minGRU)
    nn.Module.__init__(original)
    original.to_hidden_and_gate, original.to_out = rnam.Linear(3, 4, 8), nn.Identity()
    original.reset_parameters()
    assert_equal("gates", original.to_hidden_and_gate.bias[..., 4:], 0.0)
    original.to_hidden_and_gate = nn.Sequential(original.to_hidden_and_gate)
    original.reset_parameters()


class _Shift(nn.Module):
    def forward(self, bias: Tensor) -> Tensor:
        return bias + 1


def _hook(layer: nn.Module) -> None:
    layer.to_hidden_and_gate.register_forward_hook(lambda *_: None)


def _pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer.to_hidden_and_gate, "bias", amount=0.5)


def _parametrized(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer.to_hidden_and_gate, "bias", _Shift())


def _replaced(layer: nn.Module) -> None:
    layer.to_hidden_and_gate = nn.Sequential(layer.to_hidden_and_gate)


@pytest.mark.parametrize("touch", [_hook, _pruned, _parametrized, _replaced])
@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_touched_projection_adds_its_bias_once(factor: float, backend: str, touch: Any) -> None:
    """It is called, and its bias is in what it gives."""
    layer, (x, _, _, _) = rnam.minGRU(2, 4, factor, timescales=(1, 30), dtype=torch.float64), drawn(4, 4)
    touch(layer)
    project = layer.to_hidden_and_gate
    project = project[0] if isinstance(project, nn.Sequential) else project
    h, _ = oracle.min_gru(x, project.weight, bias=project.bias)
    expected = h if factor == 1 else torch.einsum("fbth,fhd->fbtd", h, layer.to_out.weight)
    mask = torch.ones(12, dtype=torch.bool)
    with rnam.set_backend(backend):
        bounds.assert_same(layer(x, mask=mask)[0], expected)
        bounds.assert_same(layer(x)[0], expected)


@pytest.mark.parametrize("name", backends.EACH)
def test_a_model_with_a_biased_cell_is_the_plain_one(name: str) -> None:
    """A block's cell that was given a bias is no part of a fused block, or its bias is added there."""
    torch.manual_seed(0)
    model = rnam.RNAM(2, 4, 1, 1)
    gru = model.blocks[0].gru
    gru.to_hidden_and_gate = rnam.Linear(2, 4, 8)
    x = torch.randn(2, 3, 6, 1)
    with rnam.set_backend("reference"):
        expected = model(x)
    with rnam.set_backend(name):
        got = model(x)
    bound = 1e5 * bounds.unit(torch.float32)
    assert_norm_within("prediction", got.prediction, expected.prediction, bound * expected.prediction.norm())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bias": 1}, TypeError, "bias must be True or False, got int"),
        ({"timescales": 3.0}, TypeError, r"timescales must be None or a pair \(shortest, longest\), got 3.0"),
        ({"timescales": (1, 2, 3)}, TypeError, "timescales must be None or a pair"),
        ({"timescales": ("1", 2)}, TypeError, r"timescales\[0\] must be a number, got str"),
        ({"timescales": (0, 2)}, ValueError, r"timescales\[0\] must be finite and greater than 0, got 0.0"),
        ({"timescales": (1, math.inf)}, ValueError, r"timescales\[1\] must be finite and greater than 0, got inf"),
        ({"timescales": (1, math.nan)}, ValueError, r"timescales\[1\] must be finite and greater than 0, got nan"),
        ({"timescales": (3, 2)}, ValueError, r"timescales must be a pair \(shortest, longest\), got 3.0 > 2.0"),
    ],
)
@pytest.mark.parametrize("kind", [rnam.minGRU, rnam.minLSTM])
def test_bad_options(kind: type, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kind(2, 4, **options)


def test_a_bias_that_does_not_fit_is_refused_by_name() -> None:
    x, w = torch.zeros(2, 3, 5, 4), torch.zeros(2, 4, 8)
    for bias, error, message in (
        (torch.zeros(2, 1, 4), ValueError, r"bias must have shape \(terms, 1, 2 \* hidden\) = \(2, 1, 8\)"),
        (torch.zeros(8), ValueError, "bias must have shape"),
        (torch.zeros(2, 1, 8, dtype=torch.int64), TypeError, "bias must be a float32.* got int64"),
        (torch.zeros(2, 1, 8).double(), TypeError, "bias must be float32 to go with input, got float64"),
        (torch.zeros(2, 1, 8, device="meta"), ValueError, "bias must be on cpu as input is, got meta"),
        (0.0, TypeError, "bias must be a tensor, got float"),
    ):
        with pytest.raises(error, match=message):
            min_gru(x, w, bias=bias)
        with pytest.raises(error, match=message):
            min_gru_projected(x, w, torch.zeros(2, 4, 4), bias=bias)
    with pytest.raises(ValueError, match=r"bias must have shape \(terms, 1, 3 \* hidden\) = \(2, 1, 12\)"):
        min_lstm(x, torch.zeros(2, 4, 12), bias=torch.zeros(2, 1, 8))


def test_products_with_a_bias_count_as_without() -> None:
    """As torch counts a product and a sum."""
    from torch.utils.flop_counter import FlopCounterMode

    x, w, _, b = (t.float() for t in drawn(4, 5))
    counts = []
    for name in ("reference", "torch"):
        for bias in (None, b):
            leaves = [t.detach().requires_grad_() for t in (x, w)]
            with rnam.set_backend(name), FlopCounterMode(display=False) as counter:
                functional.min_gru(*leaves, bias=bias)[0].sum().backward()
            counts.append(counter.get_total_flops())
    assert len(set(counts)) == 1 and counts[0] > 0
