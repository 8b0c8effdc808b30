"""`RNAMSurvival`: what it predicts, what it is scored by, and what it refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.base import clone

import rnam
from rnam.estimators.survival_curves import KaplanMeier
from tests.support.assertions import assert_equal, assert_within

EPS32 = float(np.finfo(np.float32).eps)
TARGET = ["until", "died"]


def table(n: int = 80, visits: int = 3, seed: int = 0) -> Any:
    """People whose hazard rises with x: visits every 30 days, ends later than the last one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    time = visits * 30 + np.ceil(rng.exponential(120 * np.exp(-1.5 * x)))
    stop = visits * 30 + np.ceil(rng.uniform(20, 400, n))
    df = pandas.DataFrame({"id": np.repeat(np.arange(n), visits), "day": np.tile(30 * np.arange(visits), n)})
    df["x"] = np.repeat(x, visits) + rng.normal(0, 0.3, n * visits)
    df["until"] = np.repeat(np.minimum(time, stop), visits)
    df["died"] = np.repeat(time <= stop, visits)
    return df


def panel(at: str = "visit", n: int = 80, **changes: Any) -> rnam.Panel:
    roles: dict[str, Any] = dict(id="id", time="day", values=["x"], target=TARGET, at=at, time_unit="day")
    return rnam.Panel.from_frame(table(n).assign(**changes), **roles)


def model(**parameters: Any) -> rnam.RNAMSurvival:
    return rnam.RNAMSurvival(
        **{**dict(hidden=4, max_epochs=4, learning_rate=0.03, random_state=0, verbose=0), **parameters}
    )


def structured(event: Any, time: Any) -> Any:
    y = np.empty(len(time), dtype=[("event", np.bool_), ("time", np.float64)])
    y["event"], y["time"] = event, time
    return y


@pytest.fixture(scope="module")
def fitted() -> rnam.RNAMSurvival:
    return model(times=[60, 120], max_epochs=12).fit(panel())


class TestPredictions:
    def test_survival_of_visits(self, fitted: rnam.RNAMSurvival) -> None:
        found = fitted.predict_survival(panel())
        assert found.columns.tolist() == [60, 120]
        assert found.index.names == ["id", "day"]
        assert found.index.tolist() == list(zip(table()["id"], table()["day"], strict=True))
        falls = np.diff(fitted.predict_survival(panel(), np.arange(0, 300, 7)).to_numpy(), axis=1)
        assert_equal("rises", np.maximum(falls, 0.0), 0.0)

    def test_survival_is_one_before_time(self, fitted: rnam.RNAMSurvival) -> None:
        assert_equal("survival", fitted.predict_survival(panel(), 0).to_numpy(), 1.0)

    def test_risk_is_what_survival_lacks(self, fitted: rnam.RNAMSurvival) -> None:
        risk = fitted.predict_risk(panel(), 60)
        assert risk.name == "risk"
        # an exponential near 1 less 1 has a rounding of float64
        assert_within("risk", risk.to_numpy(), 1 - fitted.predict_survival(panel())[60].to_numpy(), 1e-15)

    def test_survival_of_ids(self) -> None:
        found = model(times=[60]).fit(panel("id")).predict_survival(panel("id"))
        assert found.index.tolist() == list(range(80))

    def test_without_times_those_are_the_edges(self) -> None:
        trained = model(bins=4, validation=None).fit(panel())
        time = table()["until"] - table()["day"]
        expected = np.quantile(time[table()["died"]], [0.25, 0.5, 0.75, 1.0], method="inverted_cdf")
        assert trained.predict_survival(panel()).columns.tolist() == expected.tolist()

    def test_are_of_the_visits_up_to_each(self, fitted: rnam.RNAMSurvival) -> None:
        """The later visits, and the labels, have no part in a prediction."""
        later = rnam.Panel.from_frame(table()[table()["day"] < 60].drop(columns=TARGET), like=fitted.schema_)
        whole = fitted.predict(panel())
        assert_within("risk", fitted.predict(later).to_numpy(), whole.loc[:, :30].to_numpy(), 64 * EPS32 * whole.max())

    def test_contributions_sum_to_the_log_odds_of_each_bin(self, fitted: rnam.RNAMSurvival) -> None:
        parts = fitted.contributions(panel())
        edges = fitted.loss_.grid.edges
        assert parts.columns.tolist() == [(f"until {edge:g}", "x") for edge in edges]
        hazards = 1 / (1 + np.exp(-(parts.to_numpy() + fitted.intercept_)))
        # float32 contributions and bias, of a size of some units
        assert_within(
            "survival", fitted.predict_survival(panel(), edges[-1]).to_numpy()[:, 0],
            np.prod(1 - hazards, axis=1), 16 * len(edges) * EPS32,
        )  # fmt: skip

    def test_pickle_and_clone(self, fitted: rnam.RNAMSurvival) -> None:
        again = pickle.loads(pickle.dumps(fitted))
        pandas.testing.assert_frame_equal(again.predict_survival(panel()), fitted.predict_survival(panel()))
        assert clone(fitted).get_params() == fitted.get_params()

    def test_of_rows_with_structured_labels(self) -> None:
        X, rng = np.random.default_rng(0).normal(size=(60, 2)), np.random.default_rng(1)
        y = structured(rng.random(60) < 0.7, rng.exponential(np.exp(-X[:, 0])))
        trained = model(max_epochs=12).fit(X, y)
        assert isinstance(trained.predict(X), np.ndarray)
        assert trained.predict_survival(X, 0.1).shape == (60, 1)
        assert trained.score(X, y) > 0.6

    def test_times_from_the_visit_on_are_those_of_the_clock(self) -> None:
        mine, other = table(), table()
        other["until"] -= other["day"]
        by_clock = model().fit(panel())
        by_visit = model(origin="visit").fit(panel(until=other["until"]))
        pandas.testing.assert_series_equal(by_clock.predict(panel()), by_visit.predict(panel()))
        assert not mine.equals(other)

    def test_names_of_bins_tell_edges_apart_that_differ_late(self) -> None:
        late = panel(day=table()["day"] + 1e9, until=table()["until"] + 1e9)
        trained = model(time_scale="clock", bins=[1e9 + 140, 1e9 + 200]).fit(late)
        names = trained.contributions(late).columns.get_level_values("output").unique()
        assert names.tolist() == ["until 1000000140.0", "until 1000000200.0"]

    def test_a_held_out_part_may_have_no_event(self) -> None:
        """It has a likelihood. That of a share of the ids may have none, too."""
        trained = model().fit(panel(), validation=panel(n=9, died=False))
        assert np.isfinite([epoch["valid_loss"] for epoch in trained.history_]).tolist() == [True] * 4


class TestKaplanMeier:
    @pytest.mark.parametrize("parameters", [{}, {"bins": 3}, {"bins": 1000}, {"method": "ipcw", "times": [40, 80]}])
    def test_is_the_model_without_features(self, parameters: dict[str, Any]) -> None:
        """A column that was never measured leaves a bias, which starts at the curve and has no reason to move."""
        roles: dict[str, Any] = dict(id="id", time="day", values=["x"], target=TARGET, time_unit="day")
        own = rnam.Panel.from_frame(table(visits=1).assign(x=np.nan), **roles)
        trained = model(validation=None, learning_rate=1e-6, max_epochs=3, **parameters).fit(own)
        times = np.array([40.0, 80.0]) if "times" in parameters else np.arange(31.0, 200.0, 10.0)
        curve = KaplanMeier.fit(own.target[:, 0].astype(np.float64), own.target[:, 1] == 1)
        # a step of Adam is one learning rate at most, of the bias and of what a missing column tells; both are float32
        bins, size = len(trained.loss_.grid), np.abs(trained.loss_.start).max()
        expected = np.broadcast_to(curve.at(times), (80, len(times)))
        found = trained.predict_survival(own, times).to_numpy()
        assert_within("survival", found, expected, bins * (2 * 3 * 1e-6 + 2 * EPS32 * size))


class TestScores:
    def test_concordance_is_that_of_all_pairs(self, fitted: rnam.RNAMSurvival) -> None:
        pytest.importorskip("sksurv")
        small = panel(n=20)
        time = (table(20)["until"] - table(20)["day"]).to_numpy()
        event, risk = table(20)["died"].to_numpy(), fitted.predict(small).to_numpy()
        right = pairs = 0.0
        for i in np.flatnonzero(event):
            later = (time > time[i]) | ((time == time[i]) & ~event)
            pairs += later.sum()
            right += (risk[i] - risk[later] > 1e-8).sum() + (np.abs(risk[i] - risk[later]) <= 1e-8).sum() / 2
        assert_within("concordance", fitted.score(small), right / pairs, 1e-12)
        assert fitted.score(small) > 0.65

    def test_brier_score_is_weighted_by_the_probability_of_censoring(self, fitted: rnam.RNAMSurvival) -> None:
        """As written out by Graf et al. (1999), with G of the training part right after an event and at the time."""
        nonparametric = pytest.importorskip("sksurv.nonparametric")
        test = panel(n=30)
        time = (table(30)["until"] - table(30)["day"]).to_numpy()
        event, at = table(30)["died"].to_numpy(), 100.0
        before = (table()["until"] - table()["day"]).to_numpy()
        points, g = nonparametric.kaplan_meier_estimator(table()["died"].to_numpy(), before, reverse=True)
        curve = np.append(1.0, g)

        def stays(when: Any) -> Any:
            return curve[np.searchsorted(points, when, side="right")]

        survival = fitted.predict_survival(test, at).to_numpy()[:, 0]
        died, alive = event & (time <= at), time > at
        expected = np.mean(survival**2 * died / stays(time) + (1 - survival) ** 2 * alive / stays(at))
        mine = fitted.brier_score(test, times=[at], train=panel())
        assert mine.index.tolist() == [at]
        assert_within("brier", mine.to_numpy(), np.array([expected]), 1e-12)

    def test_without_the_extra_is_refused(self, fitted: rnam.RNAMSurvival, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "sksurv", None)
        with pytest.raises(ImportError, match=r"pip install 'rnam\[survival\]'"):
            fitted.score(panel())


class TestClock:
    def test_survival_from_a_visit_on_is_that_after_it(self) -> None:
        """S(s + t | T > s) is the product of what lies between: 60 days from day 0 are 30 and then 30 from day 30."""
        trained = model(time_scale="clock", validation=None).fit(panel())
        output = np.random.default_rng(0).normal(size=(1, len(trained.loss_.grid)))
        log = trained.loss_.log_survival
        whole = log(output, np.array([0.0]), np.array([150.0]))
        parts = log(output, np.array([0.0]), np.array([109.5])) + log(output, np.array([109.5]), np.array([40.5]))
        assert_within("log survival", whole, parts, 1e-13)

    def test_an_event_at_the_time_of_the_visit_comes_after_it(self) -> None:
        trained = model(time_scale="clock", validation=None).fit(panel())
        output, jump = np.zeros((1, len(trained.loss_.grid))), trained.loss_.grid.jumps[3]
        log = trained.loss_.log_survival
        at = log(output, np.array([jump]), np.array([0.0]))
        until, before = log(output, np.zeros(1), np.array([jump, np.nextafter(jump, 0.0)]))[0]
        assert before > until
        assert_within("log survival", at[0, 0], until - before, 1e-13)

    def test_what_was_not_seen_is_missing(self) -> None:
        longest = table()["until"].max()
        reach = longest - 45
        trained = model(time_scale="clock", validation=None, times=[20, reach]).fit(panel())
        found = trained.predict_survival(panel())
        late = found.index.get_level_values("day") > 45
        assert 0 < late.sum() < len(late)
        assert_equal("missing", found[reach].isna().to_numpy(), np.asarray(late))
        assert not found[20].isna().any()
        assert trained.predict(panel()).notna().all()
        with pytest.raises(ValueError, match=r"times\[1\] must be predicted for all visits, got \d+, which 80 of 240"):
            trained.brier_score(panel())

    def test_a_visit_later_than_what_was_seen_has_no_risk(self) -> None:
        """A risk of 0 would be the least of all."""
        trained = model(time_scale="clock", validation=None).fit(panel())
        longest = float(table()["until"].max())
        df = table(1).assign(day=[30.0, longest, longest + 1], until=longest + 9)
        late = rnam.Panel.from_frame(df, like=trained.schema_)
        assert trained.predict(late).isna().tolist() == [False, False, True]
        assert np.isnan(trained.online().update(late).prediction).tolist() == [False, False, True]
        with pytest.raises(ValueError, match=r"visits must be at most at \d+, .* got 1 of 3 that are later"):
            trained.score(late)


class TestRefusals:
    @pytest.mark.parametrize(
        ("parameters", "told"),
        [
            (dict(times=[-1]), r"times\[0\] must be at least 0, got -1"),
            (dict(times=[1, np.nan]), r"times\[1\] must be finite, got nan"),
            (dict(times=[20, 10]), r"times must rise, got \[20, 10\]"),
            (dict(times=[]), "times must be a number or a list of numbers"),
            (dict(times=[9999]), r"times\[0\] must be at most \d+, the longest time that was seen .*, got 9999"),
            (dict(times=[60, 9999], method="ipcw"), r"times\[1\] must be at most \d+, the longest time that was seen"),
            (dict(bins=0), "bins must be at least 1, got 0"),
            (dict(bins=[0.0, 100.0]), r"bins\[0\] must be above 0, got 0"),
            (dict(bins=[1e-3, 100.0]), r"each hold an event of the training part, got none up to bins\[0\]=0.001"),
            (dict(method="cox"), "method must be"),
            (dict(method="ipcw"), "times must be the horizons with method='ipcw', got None"),
            (dict(method="ipcw", times=[60], bins=3), "bins must be left out with method='ipcw', got 3"),
            (dict(method="ipcw", times=[60], time_scale="clock"), "time_scale must be 'visit' with method='ipcw'"),
            (dict(origin="visit", time_scale="clock"), "time_scale must be 'visit' with origin='visit'"),
            (dict(origin="entry"), "origin must be"),
        ],
    )  # fmt: skip
    def test_of_parameters(self, parameters: dict[str, Any], told: str) -> None:
        with pytest.raises((TypeError, ValueError), match=told):
            model(**parameters).fit(panel())

    def test_of_times_when_predicting(self, fitted: rnam.RNAMSurvival) -> None:
        for times, told in (
            ([-3.0], r"times\[0\] must be at least 0, got -3"),
            ([np.nan], r"times\[0\] must be finite, got nan"),
            ([50.0, 9999.0], r"times\[1\] must be at most \d+, the longest time that was seen in training, got 9999"),
        ):
            with pytest.raises(ValueError, match=told):
                fitted.predict_survival(panel(), times)

    def test_of_times_beyond_the_horizons(self) -> None:
        trained = model(method="ipcw", times=[60, 120]).fit(panel())
        with pytest.raises(ValueError, match=r"times\[0\] must be at most 120, the longest horizon, got 121"):
            trained.predict_risk(panel(), 121)

    def test_without_an_event(self) -> None:
        with pytest.raises(ValueError, match="y must have an event, got none in 240 labels"):
            model().fit(panel(died=False))

    def test_without_labels(self) -> None:
        bare = rnam.Panel.from_frame(table().drop(columns=TARGET), id="id", time="day", values=["x"])
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is a Panel without a target"):
            model().fit(bare)

    def test_of_a_visit_after_the_event(self) -> None:
        with pytest.raises(ValueError, match="column 'until' must not be before the visit, got 31, id 0 at day 60"):
            model().fit(panel(until=31.0))

    def test_of_other_labels_when_scored(self, fitted: rnam.RNAMSurvival) -> None:
        with pytest.raises(ValueError, match="y must have labels of visits, as in the fit, got those of ids"):
            fitted.score(panel("id"))


@pytest.mark.parametrize("parameters", [{}, {"method": "ipcw", "times": [60]}, {"members": 3}, {"time_scale": "clock"}])
def test_learns(parameters: dict[str, Any]) -> None:
    pytest.importorskip("sksurv")
    trained = model(max_epochs=12, **parameters).fit(panel(n=150))
    assert trained.score(panel(n=150)) > 0.65


def test_errors_have_all_digits() -> None:
    with pytest.raises(ValueError, match=r"times\[0\] must be at least 0, got -1234567.25"):
        model(times=[-1234567.25]).fit(panel(n=20))
    with pytest.raises(ValueError, match=r"times\[0\] must be at most \d+, .* got 1234567.25$"):
        model(times=[1234567.25]).fit(panel(n=20))


@pytest.mark.parametrize("changes", [{"method": "ipcw", "times": [60]}, {"time_scale": "clock"}])
def test_a_warm_start_keeps_what_the_outputs_mean(changes: dict[str, Any]) -> None:
    trained = model(warm_start=True, max_epochs=1).fit(panel(n=20))
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"{name} must be '.*', as in the fit that goes on, got '{value}'"):
        trained.set_params(**changes).fit(panel(n=20))
    assert trained.set_params(method="hazards", time_scale="visit").fit(panel(n=20)).loss_.name == "hazards"


def test_weights_count_as_rows() -> None:
    """A weight of 2 is two people, for the curve from which a fit starts."""
    once, twice = panel(n=10), rnam.Panel.concat([panel(n=10), _others()])
    weighted = model(validation=None).fit(once, sample_weight=np.full(30, 2.0)).loss_
    repeated = model(validation=None).fit(twice).loss_
    assert weighted.grid.edges == repeated.grid.edges
    # hazards of as many people, of whom the last one to die counts for all but half a person: of rows, not of weights
    assert_within("hazards", np.array(weighted.grid.cumulative[:-1]), np.array(repeated.grid.cumulative[:-1]), 1e-12)


def test_weights_count_as_rows_for_censoring() -> None:
    weight = np.repeat(1.0 + np.arange(20) % 2, 3)
    df = table(20)
    others = df[df["id"] % 2 == 1].assign(id=lambda d: d["id"] + 1000)
    options: dict[str, Any] = dict(method="ipcw", times=[60], validation=None)
    weighted = model(**options).fit(panel(n=20), sample_weight=weight).loss_
    twice = rnam.Panel.from_frame(pandas.concat([df, others]), like=panel())
    repeated = model(**options).fit(twice).loss_
    assert weighted.ends == repeated.ends
    # the last to be censored counts for all but half a person: of rows, not of weights
    assert_within("observed", np.array(weighted.observed[:-1]), np.array(repeated.observed[:-1]), 1e-12)


def _others() -> rnam.Panel:
    df = table(10).assign(id=lambda d: d["id"] + 1000)
    return rnam.Panel.from_frame(df, id="id", time="day", values=["x"], target=TARGET, at="visit", time_unit="day")
