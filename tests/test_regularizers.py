"""Regularisers on data with a known answer, and against float64 loops."""

import copy
import itertools

import numpy as np
import pytest
import torch

import rnam
from rnam import regularizers
from rnam.regularizers import concurvity, output_penalty, term_dropout
from tests.support import bounds
from tests.support.assertions import assert_equal, assert_finite, assert_within

U = bounds.unit(torch.float64)
LAYOUTS = pytest.mark.parametrize("shape", [(3, 20, 2), (3, 20, 5, 2), (2, 3, 20, 2), (2, 3, 20, 5, 2)], ids=str)


def _given(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Contributions, weights with a zero, and whether members lead (where they do, there are 2)."""
    members = shape[0] == 2
    weight = torch.rand(shape[members + 1 : -1], dtype=torch.float64) + 0.5
    weight.view(-1)[3] = 0
    return torch.randn(shape, dtype=torch.float64), weight, members


def _rows(values: torch.Tensor, members: bool) -> np.ndarray:
    """(members, terms, places, out)"""
    array = values.numpy() if members else values.numpy()[None]
    return array.reshape(*array.shape[:2], -1, array.shape[-1])


@LAYOUTS
def test_output_penalty_is_the_mean_square(shape: tuple[int, ...]) -> None:
    values, weight, members = _given(shape)
    got = output_penalty(values, weight, members=members)
    assert got.shape == ((2,) if members else ())
    for member, rows in zip(got.reshape(-1), _rows(values, members), strict=True):
        total, w = 0.0, weight.flatten().tolist()
        for f, n, k in np.ndindex(rows.shape):
            total += w[n] * rows[f, n, k] ** 2
        expected = total / sum(w) / rows.shape[0]
        # positive numbers: each sum rounds once per summand
        assert abs(float(member) - expected) <= 3 * rows.size * U * expected


@LAYOUTS
def test_concurvity_is_the_mean_absolute_correlation(shape: tuple[int, ...]) -> None:
    values, weight, members = _given(shape)
    got = concurvity(values, weight, members=members)
    assert got.shape == ((2,) if members else ())
    for member, rows in zip(got.reshape(-1), _rows(values, members), strict=True):
        found = []
        for k, (i, j) in itertools.product(range(2), itertools.combinations(range(3), 2)):
            covariance = np.cov(rows[i, :, k], rows[j, :, k], aweights=weight.flatten().numpy())
            found.append(abs(covariance[0, 1]) / np.sqrt(covariance[0, 0] * covariance[1, 1]))
        # up to 100 places, each with some ten roundings of numbers up to 5 times the spread
        assert abs(float(member) - np.mean(found)) <= 5 * 10 * 100 * U


@pytest.mark.parametrize("function", [output_penalty, concurvity])
def test_gradients(function: object) -> None:
    for shape in ((3, 6, 2), (3, 3, 2, 2)):
        values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        weight = torch.rand(shape[1:-1], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda v, w=weight: function(v, w), values)


def test_concurvity_of_known_data() -> None:
    x = torch.randn(500, dtype=torch.float64)
    x = x - x.mean()
    y = torch.randn(500, dtype=torch.float64)
    y = y - y.mean() - x * (x @ y) / (x @ x)  # without correlation
    z = torch.full_like(x, 0.1)
    for terms, expected in (((x, y), 0), ((x, -3 * x + 1), 1), ((x, x, y), 1 / 3), ((x, z), 0), ((z, z), 0)):
        assert float(concurvity(torch.stack(terms)[..., None])) == pytest.approx(expected, abs=5 * 10 * 500 * U)


def test_a_term_that_does_not_vary_has_gradient_0() -> None:
    values = torch.cat([torch.full((1, 50, 1), 0.1), torch.randn(2, 50, 1)]).requires_grad_()
    concurvity(values).backward()
    assert values.grad.isfinite().all()
    assert (values.grad[0] == 0).all() and (values.grad[1:] != 0).any()


def test_concurvity_separates_two_features_that_tell_the_same() -> None:
    """y = 2 x + v, with x in both terms, a x and b x + c v: any a + b = 2 fits, the penalty takes x out of one."""
    x, v = torch.randn(2, 400, dtype=torch.float64)
    target = 2 * x + v
    weights = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], 0.02)
    for _ in range(600):
        a, b, c = weights
        parts = torch.stack([a * x, b * x + c * v])[..., None]
        loss = (parts.sum(0)[:, 0] - target).square().mean() + 0.1 * concurvity(parts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    a, b, c = weights.tolist()
    # the correlation is 0 where b = -c cov(x, v) / var(x), whose standard error is 1 / sqrt(400): 4 of them
    assert concurvity(parts) < 0.05
    assert abs(b) < 0.2 and abs(a + b - 2) < 0.1 and abs(c - 1) < 0.1


def test_output_penalty_shrinks_as_ridge_regression_does() -> None:
    """min (y - w x)^2 + penalty (w x)^2, y = x, has w = 1 / (1 + penalty): there the gradient is 0."""
    x = torch.randn(50, dtype=torch.float64)
    w = torch.tensor(1 / (1 + 0.25), dtype=torch.float64, requires_grad=True)
    parts = (w * x)[None, :, None]
    ((parts.sum(0)[:, 0] - x).square().mean() + 0.25 * output_penalty(parts)).backward()
    assert abs(float(w.grad)) <= 100 * 8 * U * float(x.square().mean())


@LAYOUTS
def test_term_dropout_drops_whole_terms_of_samples(shape: tuple[int, ...]) -> None:
    members = shape[0] == 2
    values = torch.randn(shape)
    got = term_dropout(values, 0.4, members=members)
    ratio = (got / values).reshape(*shape[: members + 2], -1)
    assert_within("all steps and outputs alike", ratio.amax(-1), ratio.amin(-1), 1e-5)
    kept = ratio[..., 0] > 0
    torch.testing.assert_close(ratio[..., 0][kept], torch.full((int(kept.sum()),), 1 / 0.6))
    assert 0 < kept.sum() < kept.numel()


def test_term_dropout_keeps_the_expectation() -> None:
    n = 40_000
    got = term_dropout(torch.ones(2, n, 1), 0.3)
    # (kept share) / 0.7, whose standard error is sqrt(0.3 / 0.7 / n); 5 of them
    assert_within("mean", got.mean((1, 2)), 1.0, 5 * (0.3 / 0.7 / n) ** 0.5)
    # terms are drawn apart from each other
    assert (got[0] * got[1]).mean() == pytest.approx(1, abs=5 * ((1 / 0.7**2 - 1) / n) ** 0.5)


def test_term_dropout_shares_what_two_terms_tell_alike() -> None:
    """Least squares of y = 1 on two dropped copies of 1 is ridge with p / (1 - p): each gets 1 / (2 + p / (1 - p))."""
    n, p = 40_000, 0.5
    columns = term_dropout(torch.ones(2, n, 1, dtype=torch.float64), p)[..., 0].T
    fitted = torch.linalg.lstsq(columns, torch.ones(n, 1, dtype=torch.float64)).solution.flatten()
    # the residual is below 1 and the design's second moments 1 to 2: standard errors below 1 / sqrt(n), 5 of them
    assert_within("fitted", fitted, 1 / (2 + p / (1 - p)), 5 / n**0.5)


def test_term_dropout_off_and_repeated() -> None:
    values = torch.randn(3, 4, 1)
    assert term_dropout(values, 0.5, training=False) is values
    assert term_dropout(values, 0.0) is values
    a, b = (term_dropout(values, 0.5, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("penalty", [output_penalty, concurvity])
def test_a_batch_of_weight_0_has_no_penalty_and_no_gradient(penalty: object) -> None:
    """As one of padding alone, or of people whom no member's bootstrap sample holds."""
    parts = torch.randn(2, 5, 3, 1, requires_grad=True)
    value = penalty(parts, torch.zeros(5, 3))
    (gradient,) = torch.autograd.grad(value, parts)
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halves(dtype: torch.dtype) -> None:
    values = torch.randn(3, 20, 2).to(dtype)
    for function in (output_penalty, concurvity):
        assert torch.equal(function(values), function(values.float()))
    assert term_dropout(values, 0.5).dtype == dtype


def test_with_a_model() -> None:
    """All three in one loss, on the recurrent model."""
    model = rnam.RNAM(terms=3, hidden_dim=4, out_dim=1, blocks=1)
    before = copy.deepcopy(model.state_dict())
    _, parts = model(torch.randn(3, 8, 6, 1), return_sequence=True)
    prediction = term_dropout(parts, 0.5, training=model.training).sum(0) + model.gam.bias
    loss = prediction.square().mean() + output_penalty(parts) + concurvity(parts, torch.ones(8))
    loss.backward()
    for name, p in model.named_parameters():
        assert_finite(name, p.grad)
    assert_equal("state", model.state_dict(), before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: term_dropout(x, 1.0), ValueError, "p must be at least 0 and less than 1, got 1.0"),
        (lambda x: term_dropout(x[0], 0.5), ValueError, r"contributions must have shape \(terms, batch, out\) or"),
        (lambda x: output_penalty(x, members=True), ValueError, r"shape \(members, terms, batch, out\) or"),
        (lambda x: output_penalty(x.long()), TypeError, "contributions must be a float32"),
        (lambda x: output_penalty(x, torch.ones(3)), ValueError, r"weight must have shape \(batch\) = \(4,\)"),
        (lambda x: output_penalty(x, torch.ones(4).long()), TypeError, "weight must be a float32"),
        (lambda x: concurvity(x[:1]), ValueError, "contributions must be of at least 2 terms, got 1"),
    ],
)
def test_bad_arguments(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(torch.randn(3, 4, 1))


def test_is_public() -> None:
    assert rnam.regularizers is regularizers
