"""Each loss beside its formula, in float64, and where a constant of least loss is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from rnam.estimators.losses import REGRESSION, Loss
from tests.support.assertions import assert_equal, assert_within

RNG = np.random.default_rng(0)
Y = RNG.gamma(2.0, 30.0, size=(200, 2)).round()  # counts, so that Poisson takes them
WEIGHT = RNG.integers(0, 4, 200).astype(float)
QUANTILES = (0.1, 0.5, 0.9)
ROUNDINGS = 64 * np.finfo(np.float64).eps  # of the dozen operations of a formula, twice
DELTA = 1.345


def fitted(name: str, y: Any = Y, weight: Any = None) -> Loss:
    return Loss.fit(name, y, weight, quantiles=QUANTILES if name == "quantile" else ())


def units(name: str, y: Any) -> tuple[Any, Any]:
    """Centre and scale of a column, written apart from the package."""
    if name == "poisson":
        return 0.0, y.mean()
    if name in ("absolute", "huber", "quantile"):
        middle = np.sort(y)[(len(y) - 1) // 2]
        return middle, np.abs(y - middle).mean() * np.sqrt(np.pi / 2)
    return y.mean(), y.std()


FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "squared": lambda o, z: (z - o) ** 2,
    "absolute": lambda o, z: abs(z - o),
    "huber": lambda o, z: np.where(abs(z - o) < DELTA, (z - o) ** 2 / 2, DELTA * (abs(z - o) - DELTA / 2)),
    "poisson": lambda o, z: np.exp(o) - o * z,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_loss_is_its_formula(name: str) -> None:
    loss, o = fitted(name), RNG.normal(size=(len(Y), 2))
    centre, scale = (np.array(own) for own in zip(*(units(name, column) for column in Y.T), strict=True))
    z = (Y - centre) / scale
    exact = FORMULAS[name](o, z).mean(1)
    got = loss(torch.from_numpy(o), torch.from_numpy(z))
    assert_within("loss", got, exact, ROUNDINGS * (1 + np.exp(o).max() + np.abs(o * z).max() + (z - o).max() ** 2))
    assert_within("scaled", loss.scaled(Y), z, np.finfo(np.float32).eps * np.abs(z))


def test_quantiles_have_the_pinball_loss_of_each() -> None:
    loss, o = fitted("quantile"), RNG.normal(size=(len(Y), 2, 3))
    z = (Y - np.array(loss.centre)) / np.array(loss.scale)
    over = z[..., None] - o
    exact = np.where(over > 0, np.array(QUANTILES) * over, (np.array(QUANTILES) - 1) * over).mean((1, 2))
    got = loss(torch.from_numpy(o.reshape(len(Y), 6)), torch.from_numpy(z))
    assert_within("loss", got, exact, ROUNDINGS * np.abs(over).max())


def test_gaussian_is_the_density_of_the_normal_distribution() -> None:
    loss, o = fitted("gaussian"), RNG.normal(size=(len(Y), 4))
    z = (Y - Y.mean(0)) / Y.std(0)
    exact = -stats.norm.logpdf(z, o[:, :2], np.exp(o[:, 2:] / 2)).mean(1)
    got = loss(torch.from_numpy(o), torch.from_numpy(z))
    assert_within("loss", got, exact, ROUNDINGS * (1 + np.abs(exact).max()))
    assert_within("mean", loss.predict(o), o[:, :2] * Y.std(0) + Y.mean(0), ROUNDINGS * Y.max() * 5)
    assert_within("deviation", loss.deviation(o), np.exp(o[:, 2:] / 2) * Y.std(0), ROUNDINGS * Y.max() * 5)


def test_a_variance_that_vanishes_leaves_the_loss_finite() -> None:
    loss = fitted("gaussian", Y[:, :1])
    o = torch.tensor([[0.0, -1e30]], requires_grad=True)
    value = loss(o, torch.ones(1, 1))
    value.sum().backward()
    assert torch.isfinite(value).all() and torch.isfinite(o.grad).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_have_the_log_of_their_probability(classes: int) -> None:
    codes, loss = RNG.integers(0, classes, 50), Loss.fit("auto", np.arange(50) % classes, classes=classes)
    o = RNG.normal(size=(50, loss.out_dim))
    odds = np.c_[np.zeros(50), o] if classes == 2 else o
    probability = np.exp(odds) / np.exp(odds).sum(1, keepdims=True)
    target = loss.scaled(codes)
    got = loss(torch.from_numpy(o), target.double() if classes == 2 else target)
    assert_within("loss", got, -np.log(probability[np.arange(50), codes]), ROUNDINGS * 10)
    assert_within("probability", loss.predict_proba(o), probability, ROUNDINGS)
    assert_equal("class", loss.predict(o), probability.argmax(1))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_start_is_the_constant_of_least_loss(weighted: bool) -> None:
    weight = WEIGHT if weighted else np.ones(len(Y))
    repeated = np.repeat(Y, weight.astype(int), axis=0)
    n, bound = len(repeated), 1e3 * ROUNDINGS * Y.max()

    def start(name: str) -> Any:
        loss = fitted(name, Y, weight if weighted else None)
        return loss.predict(np.array([loss.start]))[0]

    assert_within("squared", start("squared"), repeated.mean(0), bound)
    assert_within("gaussian", start("gaussian"), repeated.mean(0), bound)
    assert_within("poisson", start("poisson"), repeated.mean(0), bound)
    ranked = np.sort(repeated, axis=0)
    at = [int(np.ceil(q * n - 1e-9)) - 1 for q in QUANTILES]
    assert_within("quantile", start("quantile"), ranked[at].T.ravel(), bound)
    assert_within("absolute", start("absolute"), ranked[at[1]], bound)


def test_the_start_of_classes_is_their_share() -> None:
    codes, weight = np.array([0, 0, 1, 2]), np.array([1.0, 2.0, 3.0, 2.0])
    loss = Loss.fit("auto", codes, weight, classes=3)
    assert_within("three", loss.predict_proba([loss.start])[0], [3 / 8, 3 / 8, 2 / 8], ROUNDINGS)
    loss = Loss.fit("auto", codes == 1, weight, classes=2)
    assert_within("two", loss.predict_proba([loss.start])[0], [5 / 8, 3 / 8], ROUNDINGS)
    alone = Loss.fit("auto", np.ones(10, int), classes=2)
    assert 0.9 < alone.predict_proba([alone.start])[0, 1] < 1


@pytest.mark.parametrize("name", REGRESSION)
def test_weights_are_repeated_labels(name: str) -> None:
    a, b = fitted(name, Y, WEIGHT), fitted(name, np.repeat(Y, WEIGHT.astype(int), axis=0))
    for part in ("centre", "scale", "start"):
        assert_within(part, np.array(getattr(a, part)), np.array(getattr(b, part)), 1e3 * ROUNDINGS * Y.max())


@pytest.mark.parametrize("name", [*REGRESSION, "cross_entropy", "logistic"])
def test_members_have_the_losses_that_they_have_alone(name: str) -> None:
    classes = {"cross_entropy": 3, "logistic": 2}.get(name, 0)
    y = RNG.integers(0, classes, len(Y)) if classes else Y
    loss = Loss.fit(name, y, classes=classes, quantiles=QUANTILES if name == "quantile" else ())
    o, target = torch.randn(4, len(Y), loss.out_dim), loss.scaled(y)
    assert_equal("losses", loss(o, target), torch.stack([loss(own, target) for own in o]))


def test_a_criterion_of_ones_own_takes_y_as_it_is() -> None:
    seen: list[Any] = []

    def criterion(prediction: Any, target: Any) -> Any:
        seen.append((prediction.shape, target.shape))
        return (prediction - target).square().sum(1)

    loss = Loss.fit(criterion, Y)
    # L-BFGS ends where a gradient is below 1e-7, or a step below 1e-9, relative to float32 sums of 100^2
    assert_within("start", np.array(loss.start), Y.mean(0), 1e-4 * Y.mean(0))
    assert_equal("target", loss.scaled(Y), torch.from_numpy(Y).float())
    assert loss(torch.zeros(3, len(Y), 2), loss.scaled(Y)).shape == (3, len(Y))
    assert seen[-1] == ((600, 2), (600, 2))
    binary = Loss.fit(lambda p, t: torch.nn.functional.softplus(p) - p * t, np.arange(4) % 4 == 0, classes=2)
    assert_within("probability", binary.predict_proba([binary.start])[0], [0.75, 0.25], 1e-3)
    with pytest.raises(ValueError, match=r"loss must give one number for each label, \(200,\), got \(\)"):
        Loss.fit(lambda p, t: (p - t).mean(), Y)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("name", [name for name in REGRESSION if name != "poisson"])
def test_a_constant_has_scale_one(name: str, offset: float) -> None:
    loss = fitted(name, np.full(7, offset + 0.1))
    assert loss.scale == (1.0,)
    assert_within("start", loss.predict([loss.start])[0, 0], offset + 0.1, ROUNDINGS * (1 + offset))


@pytest.mark.parametrize("name", [*REGRESSION, "auto"])
def test_a_loss_goes_through_json(name: str) -> None:
    loss = Loss.fit(name, np.arange(3), classes=3) if name == "auto" else fitted(name)
    assert Loss.from_dict(json.loads(json.dumps(loss.to_dict()))) == loss


@pytest.mark.parametrize("name", REGRESSION)
def test_contributions_times_the_gain_add_up(name: str) -> None:
    loss = fitted(name)
    contributions, bias = RNG.normal(size=(5, 20, loss.out_dim)), RNG.normal(size=loss.out_dim)
    total = (contributions * loss.gain).sum(0) + bias * loss.gain + loss.offset
    assert_within("sum", total, loss.decision(contributions.sum(0) + bias), ROUNDINGS * 10 * Y.max())
    assert len(loss.output_names(["a", "b"])) == loss.out_dim


def test_outputs_have_names() -> None:
    assert fitted("quantile").output_names(["a", "b"])[:3] == ["a at 0.1", "a at 0.5", "a at 0.9"]
    assert fitted("gaussian", Y[:, 0]).output_names(["a"]) == ["a", "log variance of a"]
    assert Loss.fit("auto", [0, 1], classes=2).output_names(["y"], ["no", "yes"]) == ["yes"]
    assert Loss.fit("auto", [0, 1, 2], classes=3).output_names(["y"], "abc") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "mse"}, "loss must be one of 'auto', 'squared'"),
        ({"loss": "logistic"}, "loss must be one of 'auto', 'squared'"),
        ({"loss": "squared", "classes": 2}, "loss must be one of 'auto', 'logistic', 'cross_entropy', got 'squared'"),
        ({"loss": "logistic", "classes": 3}, "loss must be 'cross_entropy' for 3 classes"),
        ({"loss": "quantile"}, "quantiles must be one or more numbers between 0 and 1"),
        ({"loss": "quantile", "quantiles": [0.5, 1.0]}, "quantiles must be one or more numbers between 0 and 1"),
        ({"loss": "squared", "quantiles": [0.5]}, "quantiles must be empty for loss='squared'"),
        ({"loss": "poisson", "target": [-1.0, 2.0]}, "y must be at least 0 for loss='poisson', got -1"),
        ({"loss": "poisson", "target": [0.0, 0.0]}, "y must be above 0 somewhere"),
        ({"loss": "squared", "weight": [0.0, 0.0]}, "sample_weight must not be zero for all labels"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loss.fit(**{"target": [1.0, 2.0]} | given)
    with pytest.raises(TypeError, match="loss must be a str or a callable, got int"):
        Loss.fit(3, [1.0])  # type: ignore[arg-type]
