"""`rnam.minGRU`: parameters, states, dtypes and the original's modules."""

import copy
import pickle

import pytest
import torch
from torch import nn

import rnam
from rnam.backends import choice
from rnam.gru import minGRU
from tests.support import bounds, oracle
from tests.support.assertions import assert_within
from tests.support.selection import crossed


@pytest.mark.parametrize(("factor", "hidden"), [(1.0, 5), (1, 5), (2.0, 10), (1.5, 7), (0.5, 2)])
def test_parameters(factor: float, hidden: int) -> None:
    layer = rnam.minGRU(3, 5, factor)
    shapes = {n: tuple(p.shape) for n, p in layer.named_parameters()}
    expected = {"to_hidden_and_gate.weight": (3, 5, 2 * hidden)}
    if factor == 1:
        assert isinstance(layer.to_out, nn.Identity)
    else:
        expected["to_out.weight"] = (3, hidden, 5)
    assert shapes == expected
    output, state = layer(torch.randn(3, 2, 6, 5))
    assert (output.shape, state.shape) == ((3, 2, 6, 5), (3, 2, 1, hidden))


def test_seed_gives_modules_in_order() -> None:
    torch.manual_seed(3)
    layer = rnam.minGRU(2, 4, 2.0)
    torch.manual_seed(3)
    first, second = rnam.Linear(2, 4, 16, bias=False), rnam.Linear(2, 8, 4, bias=False)
    assert torch.equal(layer.to_hidden_and_gate.weight, first.weight)
    assert torch.equal(layer.to_out.weight, second.weight)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert torch.equal(layer.to_out.weight, second.weight)


@pytest.mark.parametrize("start", [None, 0.0, -2.0])
def test_step_chunk_and_whole(start: float | None) -> None:
    layer = rnam.minGRU(3, 4, 2.0, dtype=torch.float64)
    x = torch.randn(3, 2, 20, 4, dtype=torch.float64)
    state = None if start is None else torch.full((3, 2, 1, 8), start, dtype=torch.float64)
    whole, last = layer(x, state)
    h, _ = oracle.min_gru(x, layer.to_hidden_and_gate.weight, state)
    bounds.assert_same(whole, torch.einsum("fbth,fhd->fbtd", h, layer.to_out.weight))
    for size in (1, 7):
        carried, parts = state, []
        for part in x.split(size, dim=2):
            output, carried = layer(part, carried)
            parts.append(output)
        bounds.assert_same(torch.cat(parts, 2), whole)
        bounds.assert_same(carried, last)


def test_mask_and_reset_reach_the_recurrence() -> None:
    layer, x = rnam.minGRU(3, 4, dtype=torch.float64), torch.randn(3, 2, 20, 4, dtype=torch.float64)
    mask, reset = torch.rand(3, 2, 20) > 0.5, torch.rand(2, 20) > 0.8
    output, state = layer(x, mask=mask, reset=reset)
    w = layer.to_hidden_and_gate.weight
    exact, exact_last = oracle.min_gru(x, w, None, mask, reset)
    bound = bounds.min_gru(x, w, None, mask, reset, dtype=torch.float64)
    assert_within("output", output, exact, bound)
    assert_within("state", state, exact_last, bound[:, :, -1:])


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("steps", "factor", "cell"),
    crossed(
        (0, 1, 6, 200),
        (1.0, 2.0),
        (rnam.minGRU, rnam.minLSTM),
        short=lambda steps, factor, cell: steps == 0 or (steps == 6 and (factor == 2 or cell is rnam.minGRU)),
    ),
)
def test_the_last_state_alone(steps: int, factor: float, cell: type) -> None:
    layer, x = cell(3, 4, factor), torch.randn(3, 2, steps, 4)
    mask, h0 = torch.rand(3, 2, steps) > 0.3, torch.rand(3, 2, 1, int(4 * factor))
    for learns in (True, False):
        with torch.set_grad_enabled(learns):
            _, expected = layer(x, h0, mask=mask)
            output, state = layer(x, h0, mask=mask, need_output=False)
        assert output.shape == (3, 2, 0, 4)
        assert state.requires_grad == (learns and steps > 0)
        # without a gradient the kernel of a layer and its projection is another than that of the state alone
        one = cell is rnam.minGRU and factor != 1 and not learns and choice.interpreted()
        bounds.assert_same(state, expected)
        assert one or torch.equal(state, expected)
    with pytest.raises(TypeError, match="need_h"):
        rnam.functional.min_gru(x, layer.to_hidden_and_gate.weight, need_h=1)


def test_state_and_copies() -> None:
    layer, x = rnam.minGRU(3, 4, 2.0), torch.randn(3, 2, 6, 4)
    assert list(layer.state_dict()) == ["to_hidden_and_gate.weight", "to_out.weight"]
    other = rnam.minGRU(3, 4, 2.0)
    other.load_state_dict(layer.state_dict())
    for same in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same(x)[0], layer(x)[0])


def test_a_module_of_the_original_runs() -> None:
    """The original's objects held to_hidden_and_gate and to_out and nothing else."""
    original = minGRU.__new__(minGRU)
    nn.Module.__init__(original)
    original.to_hidden_and_gate, original.to_out = rnam.Linear(3, 4, 8, bias=False), nn.Identity()
    loaded = pickle.loads(pickle.dumps(original))
    assert type(loaded).__module__ == "rnam.gru"
    assert loaded(torch.randn(3, 2, 6, 4))[0].shape == (3, 2, 6, 4)
    assert "terms=3, dim=4, hidden=4" in repr(loaded)


def test_a_bad_state_is_named_as_the_caller_named_it() -> None:
    layer, x = rnam.minGRU(3, 4), torch.randn(3, 2, 6, 4)
    with pytest.raises(ValueError, match=r"prev_hidden must have shape .* = \(3, 2, 1, 4\), got \(3, 2, 4\)"):
        layer(x, torch.zeros(3, 2, 4))
    with pytest.raises(TypeError, match="prev_hidden must be a tensor, got float"):
        layer(x, 0.0)


def test_meta_device_and_dtype() -> None:
    layer = rnam.minGRU(3, 4, 2.0, device="meta", dtype=torch.bfloat16)
    mask = torch.empty(3, 2, 40, device="meta", dtype=torch.bool)
    start = torch.empty(3, 2, 1, 8, device="meta")
    x = torch.empty(3, 2, 40, 4, device="meta", dtype=torch.bfloat16)
    # a meta tensor has no values, so what runs on it looks at none: it waits for no device
    output, state = layer(x, start, mask=mask, reset=mask)
    assert (output.shape, output.dtype, output.device.type) == ((3, 2, 40, 4), torch.bfloat16, "meta")
    assert (state.shape, state.dtype) == ((3, 2, 1, 8), torch.float32)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    layer = rnam.minGRU(3, 4).to(dtype)
    x = torch.randn(3, 2, 30, 4).to(dtype).requires_grad_()
    output, state = layer(x)
    assert (output.dtype, state.dtype) == (dtype, torch.float32)
    resumed, _ = layer(x, state)  # the float32 state goes back in as it came
    (output.float().sum() + resumed.float().sum()).backward()
    assert {x.grad.dtype, layer.to_hidden_and_gate.weight.grad.dtype} == {dtype}


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    layer, x = rnam.minGRU(3, 4), torch.randn(3, 2, 30, 4)
    with torch.autocast("cpu", dtype=dtype):
        output, state = layer(x)
        layer(x, state)
    assert (output.dtype, state.dtype) == (dtype, torch.float32)
    w = layer.to_hidden_and_gate.weight
    exact, _ = oracle.min_gru(x.to(dtype), w.to(dtype))
    bound = bounds.min_gru(x.to(dtype), w.to(dtype), dtype=dtype)
    assert_within("output", output, exact, bound)
    output.float().sum().backward()
    assert w.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4), ValueError, "terms must be at least 1, got 0"),
        ((3, -1), ValueError, "dim must be at least 1, got -1"),
        (
            (3, 4, 0.1),
            ValueError,
            r"expansion_factor must give a state of at least 1, got int\(4 \* 0.1\) = 0",
        ),
        ((3, "4"), TypeError, "dim must be an int, got str"),
        ((3, 4, "2"), TypeError, "expansion_factor must be a number, got str"),
        ((3, 4, True), TypeError, "expansion_factor must be a number, got bool"),
        ((3, 4, None), TypeError, "expansion_factor must be a number, got NoneType"),
        ((3, 4, float("nan")), ValueError, "expansion_factor must be finite and greater than 0, got nan"),
        ((3, 4, -1), ValueError, "expansion_factor must be finite and greater than 0, got -1"),
    ],
)
def test_bad_sizes(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.minGRU(*arguments)
