"""`rnam.RNAM`: what adds up, what is kept, what is refused."""

import copy
import pickle

import pytest
import torch
from torch import nn

import rnam
from tests.support import bounds
from tests.support.assertions import assert_within


def _model(**options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    return rnam.RNAM(terms=3, hidden_dim=6, out_dim=2, blocks=2, **options)  # type: ignore[arg-type]


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
def test_contributions_sum_to_the_prediction() -> None:
    model, x = _model(), torch.randn(3, 4, 9, 1)
    nn.init.normal_(model.gam.bias)
    out = model(x)
    assert out._fields == ("prediction", "contributions")
    assert (out.prediction.shape, out.contributions.shape) == ((4, 2), (3, 4, 2))
    assert torch.equal(out.prediction, out.contributions.sum(0) + model.gam.bias)
    every = model(x, return_sequence=True)
    assert (every.prediction.shape, every.contributions.shape) == ((4, 9, 2), (3, 4, 9, 2))
    assert torch.equal(every.prediction, every.contributions.sum(0) + model.gam.bias)
    bounds.assert_same(every.contributions[:, :, -1], out.contributions)


def test_a_step_sees_no_later_one() -> None:
    model, x = _model(dtype=torch.float64), torch.randn(3, 4, 40, 1, dtype=torch.float64)
    every = model(x, return_sequence=True)
    for t in (1, 16, 17, 33):
        part = model(x[:, :, :t])
        bounds.assert_same(every.prediction[:, t - 1], part.prediction)
        bounds.assert_same(every.contributions[:, :, t - 1], part.contributions)


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
def test_a_contribution_depends_on_its_own_term() -> None:
    model, x = _model(), torch.randn(3, 4, 9, 1)
    moved = x.clone()
    moved[1] += 1
    before, after = model(x).contributions, model(moved).contributions
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] != after[1]).any()


def test_is_the_sum_of_networks_written_out() -> None:
    """Term by term, step by step, with torch.nn.functional alone."""
    model, x = _model(dtype=torch.float64), torch.randn(3, 4, 9, 1, dtype=torch.float64)
    state = model.state_dict()
    total = state["gam.bias"].clone()
    for f in range(3):

        def linear(t: torch.Tensor, name: str, f: int = f) -> torch.Tensor:
            return t @ state[f"{name}.weight"][f] + state[f"{name}.bias"][f]

        h = linear(x[f], "emb")
        for n in range(2):
            u, k = (h @ state[f"blocks.{n}.gru.to_hidden_and_gate.weight"][f]).chunk(2, -1)
            s, states = torch.zeros(4, 6, dtype=torch.float64), []
            for t in range(9):
                v = torch.where(u[:, t] >= 0, u[:, t] + 0.5, u[:, t].sigmoid())
                s = (1 - k[:, t].sigmoid()) * s + k[:, t].sigmoid() * v
                states.append(s)
            ff = f"blocks.{n}.ff"
            y = h + torch.stack(states, 1)
            y = nn.functional.layer_norm(y, (6,), state[f"{ff}.0.weight"], state[f"{ff}.0.bias"])
            h = h + linear(linear(y, f"{ff}.1").relu(), f"{ff}.3")
        total = total + linear(linear(h[:, -1], "proj.0").relu(), "proj.2")
    bounds.assert_same(model(x).prediction, total)


def test_state_dict() -> None:
    model = _model(in_dim=2)
    layers = {"emb": (2, 6), "proj.0": (6, 6), "proj.2": (6, 2)}
    expected = {"gam.bias": (2,)}
    for n in range(2):
        expected[f"blocks.{n}.gru.to_hidden_and_gate.weight"] = (3, 6, 12)
        expected |= {f"blocks.{n}.ff.0.weight": (6,), f"blocks.{n}.ff.0.bias": (6,)}
        layers |= {f"blocks.{n}.ff.1": (6, 6), f"blocks.{n}.ff.3": (6, 6)}
    for name, (rows, columns) in layers.items():
        expected |= {f"{name}.weight": (3, rows, columns), f"{name}.bias": (3, 1, columns)}
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == expected


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
def test_copies_reset_and_meta() -> None:
    model, x = _model(), torch.randn(3, 4, 9, 1)
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(same(x).prediction, model(x).prediction)
    empty = rnam.RNAM(3, 6, 2, 2, device="meta")
    shape = (3, 4, 9)
    x_meta, mask = (torch.empty(s, device="meta", dtype=t) for s, t in (((*shape, 1), None), (shape, torch.bool)))
    lengths = torch.empty(4, device="meta", dtype=torch.int64)
    # a meta tensor has no values, so what runs on it looks at none: it waits for no device
    for flag in (False, True):
        assert empty(x_meta, mask, lengths=lengths, return_sequence=flag).contributions.is_meta
    torch.manual_seed(0)
    made = empty.to_empty(device="cpu")
    made.reset_parameters()
    assert torch.equal(made(x).prediction, model(x).prediction)


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
def test_contributions_keep_their_graph() -> None:
    for return_sequence in (False, True):
        model = _model()
        _, contributions = model(torch.randn(3, 4, 9, 1), return_sequence=return_sequence)
        contributions[1].sum().backward()
        grad = model.emb.weight.grad
        assert (grad[[0, 2]] == 0).all()
        assert (grad[1] != 0).any()


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    model, x = _model(), torch.randn(3, 4, 30, 1)
    exact = model.double()(x.double()).prediction
    model.float()
    mask = torch.ones(30, dtype=torch.bool)
    with torch.autocast("cpu", dtype=dtype):
        cast = model(x, mask).prediction
    half = model.to(dtype)(x.to(dtype), mask).prediction
    # 2 blocks of 4 roundings to the half and the 6 around them, each of half an eps of numbers of size 2
    assert_within("x", x, 0.0, 4.0)
    for name, got in (("cast", cast), ("half", half)):
        assert_within(name, got, exact, 14 * 2 * torch.finfo(dtype).eps / 2)
    half.float().sum().backward()
    assert model.emb.weight.grad.dtype == dtype


@pytest.mark.kernels
@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("batch", "seq"), [(0, 5), (4, 0), (0, 0)])
def test_empty(batch: int, seq: int, masked: bool, return_sequence: bool) -> None:
    model, x = _model(), torch.randn(3, batch, seq, 1)
    nn.init.normal_(model.gam.bias)
    mask = torch.ones(seq, dtype=torch.bool) if masked else None
    prediction, contributions = model(x, mask, return_sequence=return_sequence)
    middle = (batch, seq) if return_sequence else (batch,)
    assert (prediction.shape, contributions.shape) == ((*middle, 2), (3, *middle, 2))
    assert (contributions == 0).all()
    assert torch.equal(prediction, model.gam.bias.expand_as(prediction))


@pytest.mark.kernels
@pytest.mark.long_in_interpreter
def test_compiles_without_graph_breaks() -> None:
    model, x, mask = _model(), torch.randn(3, 4, 20, 1), torch.rand(3, 4, 20) > 0.5
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for flag in (False, True):
        got = compiled(x, mask, return_sequence=flag)
        bounds.assert_same(got, model(x, mask, return_sequence=flag))


def test_learns_an_average() -> None:
    """A hundred steps on the mean of one of two series; the other series gets no part in it."""
    torch.manual_seed(0)
    model = rnam.RNAM(terms=2, hidden_dim=6, out_dim=1, blocks=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x = torch.randn(2, 256, 8, 1)
    target = x[0].mean(1)
    for _ in range(100):
        loss = (model(x).prediction - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # a line through one feature would leave all of it; 0.013 and 0.008 were measured
    assert loss < 0.1 * target.var()
    spread = model(x).contributions.std(1).flatten()
    assert spread[1] < 0.1 * spread[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x": torch.zeros(3, 4, 9)},
            ValueError,
            r"input must have shape \(terms, batch, seq, in_dim\), got \(3",
        ),
        ({"x": torch.zeros(2, 4, 9, 1)}, ValueError, "input must have 3 terms and in_dim 1"),
        ({"x": torch.zeros(3, 4, 9, 2)}, ValueError, "input must have 3 terms and in_dim 1"),
        ({"x": torch.zeros(3, 4, 9, 1, dtype=torch.int64)}, TypeError, "input must be a float32.*got int64"),
        (
            {"x": torch.zeros(3, 4, 9, 1).double()},
            TypeError,
            "input must be float32 to go with the model, got f",
        ),
        (
            {"x": torch.zeros(3, 4, 9, 1, device="meta")},
            ValueError,
            "input must be on cpu as the model is, got meta",
        ),
        (
            {"mask": torch.ones(4, 9).bool().to("meta")},
            ValueError,
            "mask must be on cpu as input is, got meta",
        ),
        (
            {"lengths": torch.ones(4).long().to("meta")},
            ValueError,
            "lengths must be on cpu as input is, got meta",
        ),
        ({"mask": torch.ones(4, 9)}, TypeError, "mask must be a bool tensor, got float32"),
        (
            {"mask": torch.ones(5, 9).bool()},
            ValueError,
            r"mask must be broadcastable to \(terms, batch, seq\)",
        ),
        ({"lengths": torch.ones(4)}, TypeError, "lengths must be a tensor of integers, got float32"),
        ({"lengths": [9, 9, 9, 9]}, TypeError, "lengths must be a tensor, got list"),
        (
            {"lengths": torch.ones(5).long()},
            ValueError,
            r"lengths must have shape \(batch\) = \(4,\), got \(5,\)",
        ),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    arguments = {"x": torch.zeros(3, 4, 9, 1), "mask": None, "lengths": None} | change
    with pytest.raises(error, match=message):
        _model()(arguments["x"], arguments["mask"], lengths=arguments["lengths"])


@pytest.mark.parametrize("name", ["terms", "hidden_dim", "out_dim", "blocks", "in_dim"])
def test_bad_sizes(name: str) -> None:
    sizes = {"terms": 3, "hidden_dim": 6, "out_dim": 2, "blocks": 2, "in_dim": 1}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        rnam.RNAM(**sizes | {name: 0})
    with pytest.raises(TypeError, match=f"{name} must be an int, got float"):
        rnam.RNAM(**sizes | {name: 1.0})
