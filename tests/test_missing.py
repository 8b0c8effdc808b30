"""Missingness and the visit pattern as effects of their own."""

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds

TERMS, BATCH, SEQ = 3, 4, 7


def _model(**options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=torch.float64, **options)  # type: ignore[arg-type]
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> tuple[Tensor, Tensor]:
    """Values, NaN where they are masked, and a mask in which term 1 of row 2 is never observed."""
    mask = torch.rand(TERMS, BATCH, SEQ) > 0.6
    mask[1, 2] = False
    mask[0, 0, :3] = False
    x = torch.randn(TERMS, BATCH, SEQ, 1, dtype=torch.float64)
    return torch.where(mask[..., None], x, torch.nan), mask


def test_missing_starts_at_zero_and_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = rnam.RNAM(TERMS, 6, 2, 2, dtype=torch.float64)
    model = _model(missing=True)
    assert model.missing.shape == (TERMS, 2) and "missing" in model.state_dict()
    assert "missing" not in plain.state_dict()
    model.reset_parameters()
    assert (model.missing == 0).all()
    torch.manual_seed(0)
    model.reset_parameters()
    assert torch.equal(model.emb.weight, plain.emb.weight)
    x, mask = _inputs()
    assert torch.equal(model(x, mask).contributions, plain(x, mask).contributions)


@pytest.mark.usefixtures("backend")
def test_never_observed_gives_exactly_missing() -> None:
    model, (x, mask) = _model(missing=True), _inputs()
    end, every = model(x, mask), model(x, mask, return_sequence=True)
    assert torch.equal(end.contributions[1, 2], model.missing[1])
    assert torch.equal(every.contributions[1, 2], model.missing[1].expand(SEQ, 2))
    assert torch.equal(every.contributions[0, 0, :3], model.missing[0].expand(3, 2))
    nothing = model(x, lengths=torch.zeros(BATCH, dtype=torch.int64))
    assert torch.equal(nothing.contributions, model.missing[:, None].expand(TERMS, BATCH, 2))
    assert torch.equal(model(x[:, :, :0]).contributions, model.missing[:, None].expand(TERMS, BATCH, 2))
    assert torch.equal(end.prediction, end.contributions.sum(0) + model.gam.bias)


@pytest.mark.usefixtures("backend")
def test_is_the_loop_and_separable() -> None:
    model, (x, mask) = _model(missing=True), _inputs()
    exact = oracle.sequences(oracle.named(model), list(x), mask, 2, model.missing)
    got = model(x, mask, return_sequence=True).contributions
    bounds.assert_same(got, exact)
    weight = torch.randn_like(exact)
    parameters = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((got * weight).sum(), parameters)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), parameters))
    seen = model.observed(x, mask, return_sequence=True)
    assert torch.equal(seen, mask.cumsum(-1) > 0)
    assert torch.equal(model.observed(x, mask), mask.any(-1))
    effect = torch.where(seen[..., None], 0, got)
    assert torch.equal(effect, torch.where(seen[..., None], 0, model.missing[:, None, None]))


def test_observed_without_a_mask() -> None:
    model, x = _model(), torch.randn(TERMS, BATCH, SEQ, 1, dtype=torch.float64)
    assert model.observed(x).all() and model.observed(x, return_sequence=True).shape == (TERMS, BATCH, SEQ)
    assert not model.observed(x[:, :, :0]).any()


def test_bad_flag() -> None:
    with pytest.raises(TypeError, match="missing must be True or False, got int"):
        _model(missing=1)


def _times(mask: Tensor) -> Tensor:
    times = torch.rand(BATCH, SEQ, dtype=torch.float64).cumsum(-1) * 3
    return torch.where(mask.any(0), times, torch.nan)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.usefixtures("backend")
def test_timing_is_a_term_on_the_visits(missing: bool) -> None:
    model, (x, mask) = _model(timing=True, missing=missing), _inputs()
    mask[:, 1, 2:4] = False  # no visit at these
    mask[:, 3] = False  # no visit at all
    times = _times(mask)
    visits = mask.any(0)
    inputs = [*x, oracle.visit_pattern(times, mask)]
    exact = oracle.sequences(oracle.named(model), inputs, torch.cat([mask, visits[None]]), 2, model.missing)
    got = model(x, mask, times=times, return_sequence=True)
    bounds.assert_same(got.contributions, exact)
    assert torch.equal(got.prediction, got.contributions.sum(0) + model.gam.bias)
    bounds.assert_same(model(x, mask, times=times).contributions, exact[:, :, -1])
    weight = torch.randn_like(exact)
    parameters = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((got.contributions * weight).sum(), parameters)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), parameters))
    assert torch.equal(model.observed(x, mask, times=times), torch.cat([mask, visits[None]]).any(-1))


@pytest.mark.usefixtures("backend")
def test_times_alone_change_the_timing_term_alone() -> None:
    model, (x, mask) = _model(timing=True, missing=True), _inputs()
    first = model(x, mask, times=_times(mask), return_sequence=True).contributions
    second = model(x, mask, times=_times(mask) ** 2, return_sequence=True).contributions
    assert torch.equal(first[:TERMS], second[:TERMS])
    assert (first[TERMS] != second[TERMS]).any()


def test_values_alone_leave_the_timing_term() -> None:
    model, (x, mask) = _model(timing=True), _inputs()
    times = _times(mask)
    assert torch.equal(
        model(x, mask, times=times).contributions[TERMS], model(x + 1, mask, times=times).contributions[TERMS]
    )


def test_timing_with_columns_lengths_and_integers() -> None:
    columns = [[0], [1, 2, 3], [0, 4]]
    model, lengths = _model(timing=True, columns=columns), torch.tensor([7, 0, 3, 5])
    x = torch.randn(BATCH, SEQ, 5, dtype=torch.float64)
    times = torch.randint(1, 9, (BATCH, SEQ)).cumsum(-1) + 10**9  # seconds since 1970, say
    within = torch.arange(SEQ) < lengths[:, None]
    observed = within.expand(3, BATCH, SEQ)
    inputs = [*(x[..., own] for own in columns), oracle.visit_pattern(times, observed)]
    exact = oracle.sequences(oracle.named(model), inputs, within.expand(4, BATCH, SEQ), 2)
    got = model(x, lengths=lengths, times=times, return_sequence=True).contributions
    bounds.assert_same(got, exact)
    full = model(x, times=times, return_sequence=True).contributions
    bounds.assert_same(full[:, 0], got[:, 0])


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
@pytest.mark.parametrize("return_sequence", [False, True])
def test_empty(shape: tuple[int, int], return_sequence: bool) -> None:
    model, x = _model(timing=True, missing=True), torch.zeros(TERMS, *shape, 1, dtype=torch.float64)
    mask, times = torch.ones(TERMS, *shape).bool(), torch.zeros(*shape)
    got = model(x, mask, times=times, return_sequence=return_sequence).contributions
    middle = shape if return_sequence else shape[:1]
    assert torch.equal(got, model.missing.view(TERMS + 1, *(1,) * len(middle), 2).expand(-1, *middle, -1))


def test_compiles_without_graph_breaks() -> None:
    model, (x, mask) = _model(timing=True, missing=True), _inputs()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    times = _times(mask)
    bounds.assert_same(compiled(x, mask, times=times), model(x, mask, times=times))


@pytest.mark.parametrize(
    ("timing", "times", "error", "message"),
    [
        (
            True,
            None,
            ValueError,
            "times must be given with timing=True or continuous=True, and only then; the model has timing=True",
        ),
        (
            False,
            torch.zeros(BATCH, SEQ),
            ValueError,
            "times must be given with timing=True or continuous=True, and only then",
        ),
        (True, torch.zeros(SEQ), ValueError, r"times must have shape \(batch, seq\) = \(4, 7\), got \(7,\)"),
        (True, torch.ones(BATCH, SEQ).bool(), TypeError, "times must be a tensor of floats or integers, got bool"),
        (True, [0.0], TypeError, "times must be a tensor, got list"),
        (True, torch.zeros(BATCH, SEQ, device="meta"), ValueError, "times must be on cpu as input is, got meta"),
    ],
)
def test_bad_times(timing: bool, times: object, error: type[Exception], message: str) -> None:
    x, mask = _inputs()
    with pytest.raises(error, match=message):
        _model(timing=timing)(x, mask, times=times)
