"""Models of continuous time: a term's state decays by what passed since its own last observed step."""

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rnam
from rnam import explain
from rnam.models.visits import read_elapsed
from tests.support import additive_oracle as oracle
from tests.support import bounds
from tests.support.assertions import assert_equal, assert_within
from tests.support.members import member
from tests.test_times import DTYPES, FLOATS, INTEGERS, _times

TERMS, BATCH, SEQ = 3, 4, 9
EXACT = torch.float64
COLUMNS = [[0], [1, 2], [0, 3]]
CELLS = pytest.mark.parametrize("cell", ["mingru", "minlstm"])


def _model(terms: int = TERMS, blocks: int = 2, **options: Any) -> rnam.RNAM:
    torch.manual_seed(0)
    given = {"continuous": True, "timescales": (0.5, 20.0), "dtype": EXACT, "missing": True} | options
    model = rnam.RNAM(terms, 6, 2, blocks, **given)
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> dict[str, Tensor]:
    """Irregular times, with NaN wherever they or the input have no effect."""
    mask = torch.rand(TERMS, BATCH, SEQ) > 0.5
    mask[:, 0, 2:5] = mask[0, 1] = mask[1, 2, :5] = False
    times = torch.rand(BATCH, SEQ, dtype=EXACT).mul(4).exp().cumsum(-1)
    return {
        "input": torch.where(mask, torch.randn(TERMS, BATCH, SEQ, dtype=EXACT), torch.nan)[..., None],
        "mask": mask,
        "times": torch.where(mask.any(0), times, torch.nan),
    }


def _log_gates(name: str, preacts: list[Tensor], elapsed: float) -> tuple[Tensor, Tensor]:
    """a and z = 1 - a of one step: a is the forget gate of an elapsed time of 1, to the power of the elapsed one."""
    if name == "mingru":
        rate = F.softplus(preacts[0])
    else:
        forget, keep = preacts[0].sigmoid(), preacts[1].sigmoid()
        rate = -(forget / (forget + keep)).log()
    return (-elapsed * rate).exp(), -torch.expm1(-elapsed * rate)


def _network(parameters: dict[str, Tensor], f: int, x: Tensor, elapsed: list[float], blocks: int, cell: str) -> Tensor:
    """The outputs of network f at its observed steps x (steps, width), `elapsed` after one another."""

    def linear(v: Tensor, name: str) -> Tensor:
        return v @ parameters[f"{name}.weight"][f, : len(v)] + parameters[f"{name}.bias"][f, 0]

    hidden = parameters["emb.weight"].shape[-1]
    states, outputs = [x.new_zeros(hidden)] * blocks, []
    for step, dt in zip(x, elapsed, strict=True):
        y = linear(step, "emb")
        for n in range(blocks):
            u, *preacts = linear(y, f"blocks.{n}.gru.to_hidden_and_gate").split(hidden)
            a, z = _log_gates(cell, preacts, dt)
            states[n] = a * states[n] + z * torch.where(u >= 0, u + 0.5, u.sigmoid())
            ff = f"blocks.{n}.ff"
            r = F.layer_norm(y + states[n], (hidden,), parameters[f"{ff}.0.weight"], parameters[f"{ff}.0.bias"])
            y = y + linear(linear(r, f"{ff}.1").relu(), f"{ff}.3")
        outputs.append(linear(linear(y, "proj.0").relu(), "proj.2"))
    return torch.stack(outputs) if outputs else x.new_zeros(0, 2)


def _exact(model: rnam.RNAM, inputs: dict[str, Tensor], cell: str = "mingru") -> Tensor:
    """Contributions (terms, batch, seq, out_dim) as loops over the observed steps of each row and term."""
    parameters, mask, read = oracle.named(model), inputs["mask"], [*inputs["input"]]
    if model.timing:
        read.append(oracle.visit_pattern(inputs["times"] / model.time_unit, mask))
        mask = torch.cat([mask, mask.any(0)[None]])
    assert model.missing is not None
    terms = []
    for f, x in enumerate(read):
        rows = []
        for b in range(BATCH):
            seen = mask[f, b]
            own = inputs["times"][b, seen].tolist()
            elapsed = [1.0, *(max(0.0, later - t) / model.time_unit for t, later in itertools.pairwise(own))]
            outputs = _network(parameters, f, x[b, seen], elapsed[: len(own)], len(model.blocks), cell)
            rows.append(oracle.held(list(outputs), seen, model.missing[f]))
        terms.append(torch.stack(rows))
    return torch.stack(terms)


@CELLS
@pytest.mark.parametrize("timing", [False, True])
@pytest.mark.usefixtures("backend")
def test_is_the_loop_over_the_observed_steps(cell: str, timing: bool) -> None:
    model, inputs = _model(cell=cell, timing=timing, time_unit=3.0), _inputs()
    exact = _exact(model, inputs, cell)
    every, end = model(**inputs, return_sequence=True), model(**inputs)
    bounds.assert_same(every.contributions, exact)
    bounds.assert_same(end.contributions, exact[:, :, -1])
    weight = torch.randn_like(exact)
    learned = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((every.contributions * weight).sum(), learned)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), learned))


@CELLS
@pytest.mark.usefixtures("backend")
def test_a_masked_stretch_is_the_sequence_without_it(cell: str) -> None:
    """Time passes all the same: the steps may be there or not."""
    model, x = _model(cell=cell), torch.randn(TERMS, BATCH, SEQ, 1, dtype=EXACT)
    times = torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(-1)
    keep = torch.tensor([0, 1, 2, 6, 7, 8])
    mask = torch.zeros(TERMS, BATCH, SEQ, dtype=torch.bool)
    mask[:, :, keep] = True
    nan = torch.where(mask, x[..., 0], torch.nan)[..., None]
    got = model(nan, mask, times=torch.where(mask[0], times, torch.nan), return_sequence=True)
    expected = model(x[:, :, keep], times=times[:, keep], return_sequence=True)
    assert_within("prediction", got.prediction[:, keep], expected.prediction, 1e-12)
    assert_equal("held", got.contributions[:, :, 3:6], got.contributions[:, :, 2:3].expand(-1, -1, 3, -1))


@pytest.mark.usefixtures("backend")
def test_two_half_steps_are_a_whole_one() -> None:
    """Of one block, whose cell reads the input alone, after a term's first observation."""
    model, x = _model(blocks=1), torch.randn(TERMS, BATCH, 4, 1, dtype=EXACT)
    times = torch.tensor([[0.0, 1.5, 2.0, 6.0]], dtype=EXACT).expand(BATCH, -1)
    halves = torch.tensor([[0.0, 0.75, 1.5, 1.75, 2.0, 4.0, 6.0]], dtype=EXACT).expand(BATCH, -1)
    twice = x[:, :, [0, 1, 1, 2, 2, 3, 3]]
    whole = model(x, times=times, return_sequence=True).contributions
    cut = model(twice, times=halves, return_sequence=True).contributions
    assert_within("contributions", cut[:, :, ::2], whole, 1e-12)


@pytest.mark.parametrize("timing", [False, True])
@pytest.mark.parametrize("factor", [60.0, 1 / 7])
@pytest.mark.usefixtures("backend")
def test_another_unit_of_time_changes_nothing(timing: bool, factor: float) -> None:
    inputs = _inputs()
    right = _model(timing=timing, time_unit=2.0)(**inputs, return_sequence=True)
    other = _model(timing=timing, time_unit=2.0 * factor)
    got = other(**inputs | {"times": inputs["times"] * factor}, return_sequence=True)
    # a rounding of each time, of which gaps are differences: up to 500, in units of 2, and of softplus(k) of size 1
    assert_within("contributions", got.contributions, right.contributions, 500 * 100 * torch.finfo(EXACT).eps)


@pytest.mark.usefixtures("backend")
def test_even_times_are_the_model_without() -> None:
    model, inputs = _model(), _inputs()
    plain = _model(continuous=False)
    plain.load_state_dict(model.state_dict())
    x = inputs["input"].nan_to_num()
    got = model(x, times=torch.arange(SEQ).expand(BATCH, -1) * 3 + 10, return_sequence=True)
    assert not torch.equal(got.prediction, plain(x, return_sequence=True).prediction)
    model.time_unit = 3.0
    got = model(x, times=torch.arange(SEQ).expand(BATCH, -1) * 3 + 10, return_sequence=True)
    assert_within("prediction", got.prediction, plain(x, return_sequence=True).prediction, 1e-12)


def test_time_that_stands_still_or_goes_back_holds_the_state() -> None:
    model, x = _model(blocks=1), torch.randn(TERMS, 1, 3, 1, dtype=EXACT)
    for times in ([5, 5, 5], [5, 4, 3]):
        for dtype in (torch.uint8, torch.int64, EXACT):
            given = torch.tensor([times], dtype=dtype)
            state = None
            for t in range(3):
                *_, state = model.step(x[:, :, t], state, times=given[:, t])
                if t == 0:
                    first = state
            assert_equal("hidden", state.hidden[0], first.hidden[0])


def test_a_large_gap_forgets() -> None:
    model, x = _model(blocks=1), torch.randn(TERMS, BATCH, 2, 1, dtype=EXACT)
    times = torch.tensor([[0.0, 1e300]], dtype=EXACT).expand(BATCH, -1)
    got = model(x, times=times).contributions
    other = model(torch.cat([10 * x[:, :, :1], x[:, :, 1:]], 2), times=times).contributions
    assert_equal("contributions", got, other)
    grads = torch.autograd.grad(got.sum(), [p for p in model.parameters() if p not in {model.gam.bias, model.missing}])
    for g in grads:
        assert g.isfinite().all()


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.usefixtures("backend")
def test_members_share_the_times(members: int) -> None:
    model, inputs = _model(members=members, timing=True), _inputs()
    every = model(**inputs, return_sequence=True, return_members=True).contributions
    for k in range(members):
        single = member(model, _model(timing=True), k)
        bounds.assert_same(every[k], single(**inputs, return_sequence=True).contributions)
    bounds.assert_same(model(**inputs, return_members=True).contributions, every[..., -1, :])


@pytest.mark.usefixtures("backend")
def test_steps_carry_the_time_of_each_term() -> None:
    model, inputs = _model(timing=True), _inputs()
    every, state = model(**inputs, return_sequence=True), None
    for t in range(SEQ):
        now = {"input": inputs["input"][:, :, t], "mask": inputs["mask"][..., t], "times": inputs["times"][:, t]}
        prediction, contributions, state = model.step(state=state, **now)
        assert_within("prediction", prediction, every.prediction[:, t], 1e-12)
        assert_within("contributions", contributions, every.contributions[:, :, t], 1e-12)
    for f in range(TERMS):
        for b in range(BATCH):
            own = inputs["times"][b, inputs["mask"][f, b]]
            assert state.last_times[f, b] == (own[-1] if len(own) else 0)
    assert_equal("visits", state.last_times[TERMS], state.last_visit)


@DTYPES
@pytest.mark.parametrize("like", [torch.float64, torch.float32, torch.float16], ids=str)
def test_elapsed_is_that_of_pythons_numbers(dtype: torch.dtype, like: torch.dtype) -> None:
    times = _times(dtype)
    seen = torch.rand(2, 1, len(times)) > 0.3
    seen[0] = True
    given = torch.zeros(2, 1, len(times), 1, dtype=like)
    for observed, rows in ((None, seen[:1]), (seen, seen)):
        got = read_elapsed(times[None], observed, given, unit=3.0)
        assert got.elapsed.dtype == torch.promote_types(like, torch.float32)
        assert got.last.shape == (2, 1)
        for f, row in enumerate(rows[:, 0]):
            own = [t for t, there in zip(times.tolist(), row.tolist(), strict=True) if there]
            exact = [1.0, *(max(0, b - a) / 3 for a, b in itertools.pairwise(own))]
            # the gap and the quotient are rounded
            exact = torch.tensor(exact, dtype=torch.float64)
            assert_within("elapsed", got.elapsed[f, 0, row], exact, 2 * torch.finfo(got.elapsed.dtype).eps * exact)
            assert (got.last[f, 0].item() - own[-1]) % 2**64 == 0  # uint64 wraps, and its gaps do not


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_times_of_every_dtype_in_steps_and_chunks(dtype: torch.dtype) -> None:
    model, x = _model(2), torch.randn(2, 1, 5, 1, dtype=EXACT)
    times = torch.tensor([[3, 5, 4, 9, 100]])
    right = model(x, times=times, return_sequence=True).prediction
    assert_within("prediction", model(x, times=times.to(dtype), return_sequence=True).prediction, right, 1e-12)
    state = None
    for t in range(5):  # the dtype may change on the way
        now = times[:, t].to(dtype if t % 2 else torch.int64)
        prediction, _, state = model.step(x[:, :, t], state, times=now)
        assert_within("prediction", prediction, right[:, t], 1e-12)


def test_coarse_times_are_told_of() -> None:
    model, x = rnam.RNAM(1, 4, 1, 1, continuous=True), torch.zeros(1, 2, 2, 1)
    seconds = torch.tensor([[1.7e9, 1.7e9 + 256], [0.0, 1.0]])
    days = torch.tensor([[2100.0, 2101], [0.0, 1.0]])
    for times, limit in (
        (seconds, 16777216),
        (seconds.bfloat16(), 256),
        (days.bfloat16(), 256),
        (days.half(), 2048),
    ):
        with pytest.warns(UserWarning, match=f"times in {str(times.dtype)[6:]} must be below {limit}, .*, got"):
            model(x, times=times)
    model.time_unit = 1e-3
    with pytest.warns(UserWarning, match="must be below 16777.216, from where a unit of 0.001 is lost"):
        model(x, times=10 * days)
    model.time_unit = 1e9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x, times=seconds)
    model.time_unit = 1.0
    mask = torch.tensor([[[False, False], [True, True]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x, times=seconds.double())
        model(x, times=seconds.long())
        model(x, mask, times=seconds)  # not observed there
        model(x, mask, times=torch.where(mask[0], seconds, torch.nan))
        model(x, times=torch.tensor([[math.inf, math.nan], [0.0, 1.0]]))
        model(x[:, :0], times=seconds[:0])
        torch.compile(model, backend="aot_eager", fullgraph=True)(x, times=seconds)


def test_times_have_a_gradient() -> None:
    model, inputs = _model(), _inputs()
    mask = torch.ones_like(inputs["mask"])
    times = torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(-1).requires_grad_()
    x = inputs["input"].nan_to_num()
    assert torch.autograd.gradcheck(lambda t: model(x, mask, times=t, return_sequence=True).contributions, times)


def test_half_precision_and_autocast() -> None:
    model = rnam.RNAM(2, 6, 1, 2, continuous=True, timescales=(1, 9), dtype=torch.bfloat16)
    x, times = torch.randn(2, 3, 5, 1, dtype=torch.bfloat16), torch.rand(3, 5).cumsum(1)
    *_, state = model(x, times=times, return_state=True)
    assert state.hidden[0].dtype == state.last_times.dtype == torch.float32
    wide = rnam.RNAM(2, 6, 1, 2, continuous=True)
    with torch.autocast("cpu"):
        assert wide(x.float(), times=times).prediction.isfinite().all()


def test_explanations_give_times() -> None:
    model = rnam.RNAM(2, 4, 1, 1, continuous=True, missing=True)
    answer = explain.response(model, 0, baseline=[0.0, 1.0, 2.0], at=2, steps=6, spacing=5.0)
    shown = torch.tensor(answer.input, dtype=torch.float32)[None, ..., None].expand(2, -1, -1, -1)
    times = torch.tensor(answer.time, dtype=torch.float32).expand(3, -1)
    got = model(shown, times=times, return_sequence=True).contributions[0].detach().numpy()
    np.testing.assert_allclose(answer.contribution, got, atol=1e-6)
    data = np.random.default_rng(0).normal(size=(20, 2))
    plain = rnam.RNAM(2, 4, 1, 1, missing=True)
    plain.load_state_dict(model.state_dict())
    got, expected = explain.table(model, data).contribution, explain.table(plain, data).contribution
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_estimators_take_times() -> None:
    """As those of a timing term: there at the steps at which a term is observed."""
    pytest.importorskip("skorch")
    from skorch.helper import SliceDict

    from tests.support.estimators import recurrent

    rng = np.random.default_rng(0)
    x, times, y = rng.normal(size=(40, 6, 2)).astype(np.float32), rng.random((40, 6)).cumsum(1), rng.normal(size=40)
    x[:, 4] = np.nan
    holes = times.copy()
    holes[:, 4] = np.nan
    net = recurrent(module__continuous=True, module__time_unit=0.5, random_state=0).fit(
        SliceDict(input=x, times=times), y
    )
    np.testing.assert_array_equal(
        net.predict(SliceDict(input=x, times=holes)), net.predict(SliceDict(input=x, times=times))
    )
    other = np.where(np.arange(6) == 3, times[:, [2]], times)
    assert not np.array_equal(
        net.predict(SliceDict(input=x, times=other)), net.predict(SliceDict(input=x, times=times))
    )
    holes[[3, 5], 2] = np.nan
    with pytest.raises(ValueError, match="column 2 of times must be finite, got NaN in 2 of 40 samples"):
        net.predict(SliceDict(input=x, times=holes))


def test_time_scales_are_those_of_the_layer() -> None:
    model = _model(timescales=(2.0, 50.0))
    for block in model.blocks:
        gates = block.gru.to_hidden_and_gate.bias[..., 6:]
        scales = 1 / F.softplus(gates)
        assert_within("scales", scales[..., [0, -1]], torch.tensor([2.0, 50.0], dtype=EXACT).expand(3, 1, 2), 1e-9)
    assert _model(timescales=None).blocks[0].gru.to_hidden_and_gate.bias is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"continuous": 1}, TypeError, "continuous must be True or False, got int"),
        ({"time_unit": 0}, ValueError, "time_unit must be finite and greater than 0, got 0.0"),
        (
            {"time_unit": 2, "continuous": False},
            ValueError,
            "time_unit must be left at 1 where neither timing nor cont",
        ),
        ({"timescales": (3, 2)}, ValueError, "timescales must"),
        ({"timescales": 3}, TypeError, "timescales must"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _model(**options)


@pytest.mark.parametrize(
    ("model", "times", "error", "message"),
    [
        (
            {},
            None,
            ValueError,
            "times must be given with timing=True or continuous=True, and only then; the model has tim",
        ),
        ({"continuous": False}, torch.zeros(BATCH, SEQ), ValueError, "has timing=False and continuous=False"),
        ({}, torch.zeros(BATCH, 2), ValueError, r"times must have shape \(batch, seq\) = \(4, 9\), got \(4, 2\)"),
        ({}, torch.zeros(BATCH, SEQ) > 0, TypeError, "times must be a tensor of floats or integers, got bool"),
        ({}, 3, TypeError, "times must be a tensor, got int"),
    ],
)
def test_bad_times(model: dict[str, Any], times: Any, error: type[Exception], message: str) -> None:
    inputs = _inputs() | {"times": times}
    with pytest.raises(error, match=message):
        _model(**model)(**inputs)


def test_a_state_of_another_model_is_refused() -> None:
    model, x = _model(), torch.zeros(TERMS, BATCH, 1, dtype=EXACT)
    *_, state = _model(continuous=False).step(x)
    with pytest.raises(ValueError, match=r"state must have the entries .*'last_times'"):
        model.step(x, state, times=torch.zeros(BATCH))
    *_, state = model.step(x, times=torch.zeros(BATCH))
    wrong = {**state, "last_times": torch.zeros(1, BATCH)}
    with pytest.raises(
        ValueError, match=r"state\['last_times'\] must have shape \(terms, batch\) = \(3, 4\), got \(1, 4"
    ):
        model.step(x, wrong, times=torch.zeros(BATCH))
