"""Kaplan-Meier, bins and losses of survival, beside scikit-survival and the likelihood written out as loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rnam.estimators.survival_curves import Grid, KaplanMeier, censoring, event_quantiles
from rnam.estimators.survival_losses import SurvivalLoss, hazard_loss, horizon_loss, horizon_weights
from tests.support.assertions import assert_equal, assert_finite, assert_within

EPS = float(np.finfo(np.float64).eps)


def drawn(n: int = 60, seed: int = 0, entry: bool = False) -> tuple[Any, Any, Any]:
    """Times in tenths, so that many are tied, with events, censorings and entries at the same time."""
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 25, n) / 10
    event = rng.random(n) < 0.6
    start = np.minimum(rng.integers(0, 12, n) / 10, time) if entry else np.zeros(n)
    return start, time, event


def curve_by_loops(start: Any, time: Any, event: Any, at: float) -> float:
    survival = 1.0
    for t in sorted(set(time[event])):
        if t <= at:
            risk = sum(1 for s, e in zip(start, time, strict=True) if s <= t <= e)
            died = sum(1 for e, happened in zip(time, event, strict=True) if happened and e == t)
            survival *= 1 - died / risk
    return survival


def tensor(array: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(array, np.float64))


def table(start: Any, time: Any, event: Any) -> Any:
    """The labels as a fit keeps them, each of an id of its own."""
    return np.stack([start, time, event, np.arange(len(time))], axis=1).astype(np.float64)


def clock_loss(start: Any, time: Any, event: Any, bins: int) -> SurvivalLoss:
    return SurvivalLoss.of("hazards", "clock", bins, table(start, time, event))


def fitted(start: Any, time: Any, event: Any, bins: int) -> Grid:
    return Grid.fit(event_quantiles(time, event, bins), KaplanMeier.fit(time, event, start), float(time.max()))


class TestKaplanMeier:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_that_of_scikit_survival(self, seed: int) -> None:
        nonparametric = pytest.importorskip("sksurv.nonparametric")
        _, time, event = drawn(seed=seed)
        times, expected = nonparametric.kaplan_meier_estimator(event, time)
        # a factor has three roundings, and a curve multiplies as many factors as there are event times
        bound = 3 * len(times) * EPS
        assert_within("survival", KaplanMeier.fit(time, event).at(times), expected, bound)

    @pytest.mark.parametrize("seed", range(3))
    def test_of_people_who_enter_late_is_the_loop(self, seed: int) -> None:
        start, time, event = drawn(seed=seed, entry=True)
        times = np.linspace(0, 3, 61)
        expected = [curve_by_loops(start, time, event, at) for at in times]
        assert_within("survival", KaplanMeier.fit(time, event, start).at(times), expected, 3 * 25 * EPS)

    def test_of_weights_is_that_of_repeated_rows(self) -> None:
        start, time, event = drawn(entry=True)
        weight = np.random.default_rng(1).integers(0, 4, len(time)).astype(np.float64)
        repeated = [np.repeat(array, weight.astype(int)) for array in (time, event, start)]
        mine, expected = KaplanMeier.fit(time, event, start, weight), KaplanMeier.fit(*repeated)
        times = np.linspace(0, 3, 61)
        assert_within("survival", mine.at(times), expected.at(times), 3 * 25 * EPS)

    def test_of_censoring_is_that_of_scikit_survival(self) -> None:
        nonparametric = pytest.importorskip("sksurv.nonparametric")
        _, time, event = drawn(seed=5)
        times, expected = nonparametric.kaplan_meier_estimator(event, time, reverse=True)
        assert_within("survival", censoring(time, event).at(times), expected, 3 * len(times) * EPS)

    def test_without_events_is_one(self) -> None:
        _, time, event = drawn()
        assert_equal("survival", KaplanMeier.fit(time, event & False).at(time), 1.0)


class TestGrid:
    @pytest.mark.parametrize("bins", [1, 3, 1000])
    @pytest.mark.parametrize("entry", [False, True])
    def test_hazards_of_the_curve_are_the_curve_at_every_time(self, bins: int, entry: bool) -> None:
        start, time, event = drawn(seed=2, entry=entry)
        event = event & (time < time.max())  # the last one is censored, so no factor is 0
        grid = fitted(start, time, event, bins)
        times = np.linspace(0, float(time.max()), 97)
        log = grid.survival(np.asarray(grid.cumulative), np.zeros(97), grid.after(times))
        # each log of a factor, and each sum of them, rounds once
        expected = KaplanMeier.fit(time, event, start).at(times)
        assert_within("survival", np.exp(log), expected, 8 * 25 * EPS)

    def test_edges_are_times_of_events_and_as_many_events_lie_between(self) -> None:
        time = np.arange(1.0, 101.0)
        event = np.arange(100) % 2 == 0
        assert_equal("edges", event_quantiles(time, event, 5), np.array([19.0, 39.0, 59.0, 79.0, 99.0]))

    def test_comes_back_from_json(self) -> None:
        import json

        for method, bins in (("hazards", 4), ("ipcw", [0.5, 1.0])):
            loss = SurvivalLoss.of(method, "visit", bins, table(*drawn()))  # type: ignore[arg-type]
            assert SurvivalLoss.from_dict(json.loads(json.dumps(loss.to_dict()))) == loss

    def test_an_event_between_two_jumps_counts_at_the_later_one_of_its_bin(self) -> None:
        time, event = np.array([1.0, 2.0, 3.0, 4.0, 9.0]), np.array([1, 1, 1, 1, 0], np.bool_)
        grid = Grid.fit([2.5, 4.0], KaplanMeier.fit(time, event), 9.0)
        zeros, happened = np.zeros(4), np.ones(4, np.bool_)
        mine = grid.likelihood(zeros, np.array([0.5, 1.5, 2.2, 2.7]), happened)
        assert_equal("likelihood", mine, grid.likelihood(zeros, np.array([1.0, 2.0, 2.0, 3.0]), happened))


def likelihood_by_loops(grid: Grid, logits: Any, start: float, end: float, event: bool) -> float:
    """-log likelihood, a factor 1 - (1 - h)^share for each jump."""
    jumps, shares = grid.jumps, np.diff([0.0, *grid.positions])
    bins = np.searchsorted(grid.edges, jumps)
    total = 0.0
    for t, share, k in zip(jumps, shares, bins, strict=True):
        stays = (1 / (1 + np.exp(logits[k]))) ** share
        if t >= start and (t < end or (t == end and not event)):
            total -= np.log(stays)
        elif t == end and t >= start:
            total -= np.log(1 - stays)
    return total


def written_out(loss: Any, z: Any, target: Any) -> Any:
    """A loss of one bin by its formula in float64, which holds where exp(z) is no subnormal number."""
    survived, weight = target.T
    hazard = np.logaddexp(0, z)
    share = np.where(weight > 0, weight, 1.0) if loss is hazard_loss else np.ones(len(z))
    with np.errstate(divide="ignore"):
        event = np.where(z > -700, -np.log(-np.expm1(-share * hazard)), -np.log(share) - z)
    return survived * hazard + np.where(weight > 0, event if loss is hazard_loss else weight * event, 0.0)


class TestHazardLoss:
    @pytest.mark.parametrize("bins", [1, 4, 1000])
    def test_is_the_likelihood_as_a_loop(self, bins: int) -> None:
        start, time, event = drawn(seed=3, entry=True)
        grid = fitted(start, time, event, bins)
        logits = np.random.default_rng(1).normal(-1, 1, (len(time), len(grid)))
        mine = hazard_loss(tensor(logits), tensor(grid.likelihood(start, time, event)))
        rows = zip(logits, start, time, event, strict=True)
        expected = np.array([likelihood_by_loops(grid, *row) for row in rows])
        # a term of the loop has the rounding of a position, up to the number of bins, and of a log near 1
        assert_within("loss", mine, expected, 100 * 25 * EPS)

    @pytest.mark.parametrize("entry", [False, True])
    @pytest.mark.parametrize("bins", [1, 3, 1000])
    def test_kaplan_meier_is_the_optimum_without_features(self, bins: int, entry: bool) -> None:
        start, time, event = drawn(seed=2, entry=entry)
        event = event & (time < time.max())
        grid = fitted(start, time, event, bins)
        target = tensor(grid.likelihood(start, time, event))
        logits = torch.zeros(len(grid), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-13, tolerance_change=0, history_size=50)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = hazard_loss(logits.expand(len(time), -1), target).mean()
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        times = np.linspace(0, float(time.max()), 97)
        log = clock_loss(start, time, event, bins).log_survival(logits.detach().numpy()[None], np.zeros(1), times)[0]
        expected = KaplanMeier.fit(time, event, start).at(times)
        # LBFGS stops where the mean loss no longer falls: at a distance of sqrt(EPS / curvature), with a curvature of
        # p (1 - p) times the share of people at risk, at least 1 / 60^2
        assert_within("survival", np.exp(log), expected, 60 * EPS**0.5)

    def test_the_bias_starts_at_the_optimum(self) -> None:
        start, time, event = drawn(seed=2, entry=True)
        event = event & (time < time.max())
        loss = clock_loss(start, time, event, 4)
        logits = tensor(loss.start).requires_grad_()
        target = tensor(loss.grid.likelihood(start, time, event))
        loss(logits.expand(len(time), -1), target).sum().backward()
        assert logits.grad is not None
        assert_within("gradient", logits.grad, torch.zeros_like(logits), 60 * 25 * EPS)

    @pytest.mark.parametrize("loss", [hazard_loss, horizon_loss])
    def test_holds_in_float32_for_all_logits(self, loss: Any) -> None:
        ends = [-1e4, -100.0, -15.0001, -14.9999, -9.0001, -8.9999, -1.0, 0.0, 3.0, 90.0, 1e4]
        target = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.0, 1e-6]]).repeat(len(ends), 1)
        values = torch.tensor(ends).repeat_interleave(4)[:, None]
        mine, exact = values.clone().requires_grad_(), values.double().requires_grad_()
        (small, large) = loss(mine, target), loss(exact, target.double())
        expected = written_out(loss, values.double().numpy()[:, 0], target.double().numpy())
        for each in (small, large):
            each.sum().backward()
        assert mine.grad is not None and exact.grad is not None
        assert_finite("loss", small)
        assert_finite("gradient", mine.grad)
        eps = float(np.finfo(np.float32).eps)
        # the branches leave out exp(z) / 2 at z = -15 and x^2 / 24 at x = exp(-9), both below 2 units of rounding
        assert_within("loss", small.double(), expected, 8 * eps * (1 + np.abs(expected)))
        # the gradient of logcumsumexp is the exponential of a number as large as the logit
        assert_within("gradient", mine.grad.double(), exact.grad, 8 * eps * (1 + exact.detach().abs()))

    @pytest.mark.parametrize("loss", [hazard_loss, horizon_loss])
    def test_gradient(self, loss: Any) -> None:
        target = torch.rand(5, 6, dtype=torch.float64)
        logits = torch.linspace(-12, 5, 15, dtype=torch.float64).view(5, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


def stays(people: list[tuple[float, float, bool]], until: float) -> float:
    """The probability of being observed just before a time, where an event comes before a censoring at its time."""
    g = 1.0
    for t in sorted({end for _, end, happened in people if not happened and end < until}):
        risk = sum(1 for s, end, happened in people if s <= t and (end > t or (end == t and not happened)))
        g *= 1 - sum(1 for _, end, happened in people if end == t and not happened) / risk
    return g


def before(curve: KaplanMeier) -> Any:
    """G(t-)."""
    return lambda times: np.append(1.0, curve.survival)[np.searchsorted(curve.times, times, side="left")]


class TestHorizons:
    @pytest.mark.parametrize("horizons", [[1.0], [0.5, 1.0, 1.7]])
    def test_kaplan_meier_is_the_optimum_without_features(self, horizons: list[float]) -> None:
        _, time, event = drawn(seed=2)
        start = np.zeros(len(time))
        loss = SurvivalLoss.of("ipcw", "visit", horizons, table(start, time, event))
        logits = tensor(loss.start).requires_grad_()
        weights = tensor(horizon_weights(np.array(horizons), start, time, event, before(censoring(time, event))))
        loss(logits.expand(len(time), -1), weights).sum().backward()
        assert logits.grad is not None
        assert_within("gradient", logits.grad, torch.zeros_like(logits), 60 * 25 * EPS)

    def test_one_horizon_is_a_weighted_logistic_regression(self) -> None:
        weights = torch.rand(7, 2, dtype=torch.float64)
        logits = torch.randn(7, 1, dtype=torch.float64)
        p = torch.sigmoid(logits[:, 0])
        expected = -weights[:, 0] * (1 - p).log() - weights[:, 1] * p.log()
        assert_within("loss", horizon_loss(logits, weights), expected, 40 * EPS)

    def test_weights_are_those_of_a_loop(self) -> None:
        """People who are seen from a visit on; G is on the clock."""
        start, time, event = drawn(seed=4, entry=True)
        curve = censoring(time, event, start)
        horizon = 0.7
        mine = horizon_weights(np.array([horizon]), start, time, event, before(curve))
        people = list(zip(start.tolist(), time.tolist(), event.tolist(), strict=True))
        for row, (s, e, happened) in enumerate(people):
            reached = s + horizon

            expected = [0.0, 0.0]
            if happened and e <= reached:
                expected[1] = stays(people, s) / stays(people, e)
            elif e >= reached:
                expected[0] = stays(people, s) / stays(people, reached)
            assert_within("weights", mine[row], expected, 200 * EPS)

    def test_who_is_censored_at_the_horizon_is_known_to_have_reached_it(self) -> None:
        time, event = np.full(4, 2.0), np.array([1, 0, 0, 0], np.bool_)
        mine = horizon_weights(np.array([2.0]), np.zeros(4), time, event, before(censoring(time, event)))
        labels = table(np.zeros(4), time, event)
        loss = SurvivalLoss.of("ipcw", "visit", [2.0], labels)
        assert_equal("target", loss.scaled(labels), torch.tensor(mine, dtype=torch.float32))
        assert_equal("weights", mine, np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
