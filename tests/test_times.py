"""Times of every dtype: gaps are those of Python's numbers, whatever the width."""

import itertools
import math

import pytest
import torch

import rnam
from rnam.models.visits import read_elapsed, read_visits

INTEGERS = (
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)


def _times(dtype: torch.dtype) -> torch.Tensor:
    """Up and down, the ends of the dtype among them; the gaps are less than 2**63."""
    if dtype in FLOATS:
        return torch.tensor([3, 5, 4, 9, -100, 100, 101, 60000, -60000], dtype=dtype)
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    if dtype == torch.uint64:
        times = [most - 2, most - 1, most, 2**63 + 1, 2**63 - 5, 2**63 + 1]
    elif dtype == torch.int64:
        times = [5, 3, 4, most - 2, most - 1, most, 3, least + 7, least + 5, least + 2**62, most // 2]
    else:
        times = [5, 3, 4, most - 2, most - 1, most, least, least + 2, most, 3]
    return torch.tensor(times, dtype=dtype)


@DTYPES
@pytest.mark.parametrize("like", [torch.float64, torch.float32, torch.float16], ids=str)
def test_gaps_are_those_of_pythons_numbers(dtype: torch.dtype, like: torch.dtype) -> None:
    times = _times(dtype)
    visits = read_visits(times[None], None, torch.zeros(1, 1, len(times), 1, dtype=like))
    gaps = [0.0, *(float(max(0, b - a)) for a, b in itertools.pairwise(times.tolist()))]
    expected = torch.tensor([math.log1p(gap) for gap in gaps], dtype=torch.float64)
    assert visits.pattern.dtype == like
    # the gap and its logarithm are rounded once each, and the logarithm to the dtype
    wide = torch.finfo(torch.promote_types(like, torch.float32)).eps
    torch.testing.assert_close(visits.pattern[0, :, 0].double(), expected, rtol=torch.finfo(like).eps, atol=4 * wide)


def test_unsigned_times_do_not_wrap_and_narrow_ones_do_not_overflow() -> None:
    like = torch.zeros(1, 1, 2, 1)
    for dtype, times, gap in ((torch.uint8, [5, 3], 0), (torch.int8, [-100, 100], 200)):
        got = read_visits(torch.tensor([times], dtype=dtype), None, like).pattern[0, 1, 0]
        assert float(got) == pytest.approx(math.log1p(gap), rel=1e-6)


@DTYPES
def test_a_model_step_by_step_and_whole(dtype: torch.dtype) -> None:
    model = rnam.RNAM(2, 4, 1, 1, timing=True, dtype=torch.float64)
    x, times = torch.randn(2, 1, 5, 1, dtype=torch.float64), torch.tensor([[3, 5, 4, 9, 100]])
    right = model(x, times=times, return_sequence=True).prediction
    torch.testing.assert_close(model(x, times=times.to(dtype), return_sequence=True).prediction, right)
    state = None
    for t in range(5):
        # the dtype may change on the way
        now = times[:, t].to(dtype if t % 2 else torch.int64)
        prediction, _, state = model.step(x[:, :, t], state, times=now)
        torch.testing.assert_close(prediction, right[:, t])


@pytest.mark.parametrize("first", [2**63 - 4096, 2**63 + 4096, 2**64 - 8192])
def test_uint64_beside_float64_keeps_its_gaps(first: int) -> None:
    """Every 4096th of these numbers is a float64; from 2**63 on those of uint64 wrap in int64."""
    model = rnam.RNAM(2, 4, 1, 1, timing=True, continuous=True, dtype=torch.float64)
    x, gaps = torch.randn(2, 1, 3, 1, dtype=torch.float64), torch.tensor([[0, 4096, 8192]])
    right = model(x, times=gaps).prediction
    whole = torch.tensor([[first, first + 4096]], dtype=torch.uint64)
    real = torch.tensor([[first + 8192.0]], dtype=torch.float64)
    state = model(x[:, :, :2], times=whole, return_state=True).state
    torch.testing.assert_close(model(x[:, :, 2:], times=real, state=state).prediction, right)
    state = model(x[:, :, :2], times=whole.double(), return_state=True).state
    last = torch.tensor([[min(first + 8192, 2**64 - 1)]], dtype=torch.uint64)
    torch.testing.assert_close(model(x[:, :, 2:], times=last, state=state).prediction, right)


@pytest.mark.parametrize("first", [5, 2**63 + 5, 2**64 - 2])
def test_infinite_times_after_large_integers(first: int) -> None:
    """The first is infinitely later, which forgets; no time is between two of them."""
    like, inf = torch.zeros(1, 1, 2, 1), torch.full((1, 2), math.inf)
    model = rnam.RNAM(1, 4, 1, 1, continuous=True)
    times = torch.tensor([[first, first + 1]], dtype=torch.uint64)
    state = model(torch.randn(1, 1, 2, 1), times=times, return_state=True).state
    for later in (inf, inf.double()):
        got = read_elapsed(later, None, like, state)
        assert got.elapsed[0].tolist() == [[math.inf, 0.0]] and got.last.tolist() == [[math.inf]]
        assert model(torch.randn(1, 1, 2, 1), times=later, state=state).prediction.isfinite().all()


def test_a_float_after_a_large_integer_keeps_its_gap() -> None:
    """float32 has every 128th of these integers."""
    model = rnam.RNAM(1, 4, 1, 1, timing=True)
    x, seconds = torch.randn(1, 1, 2, 1), 1_700_000_000
    right = model(x, times=torch.tensor([[0, 28]])).prediction
    _, _, state = model.step(x[:, :, 0], times=torch.tensor([seconds + 100]))
    with pytest.warns(UserWarning, match="times in float32 must be below 16777216, .*, got 1700000128: give integers"):
        got, _, _ = model.step(x[:, :, 1], state, times=torch.tensor([seconds + 128], dtype=torch.float32))
    torch.testing.assert_close(got, right)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_answers_of_a_model_in_half_precision_have_gaps(dtype: torch.dtype) -> None:
    """Two hundred steps and more are told apart, though the dtype of the model has no number for each."""
    given = []

    class Watched(rnam.RNAM):
        def forward(self, *arguments: object, times: torch.Tensor, **options: object) -> object:
            given.append(times)
            return super().forward(*arguments, times=times, **options)

    model = Watched(2, 4, 1, 1, timing=True, dtype=dtype)
    rnam.explain.response(model, 0, baseline=[0.0, 1.0, 2.0], at=5, steps=3000)
    assert torch.equal(given[0].diff(dim=1), torch.ones(6, 2999))


def test_times_that_are_none() -> None:
    like = torch.zeros(1, 1, 2, 1)
    for dtype in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match="times must be a tensor of floats or integers, got"):
            read_visits(torch.zeros(1, 2, dtype=dtype), None, like)
    model = rnam.RNAM(1, 4, 1, 1, timing=True)
    _, _, state = model.step(torch.zeros(1, 1, 1), times=torch.zeros(1))
    with pytest.raises(TypeError, match=r"state\['last_visit'\] must be a tensor of floats or integers, got bool"):
        model.step(torch.zeros(1, 1, 1), {**state, "last_visit": torch.ones(1) > 0}, times=torch.ones(1))
