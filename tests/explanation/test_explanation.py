"""Importance and people: sums, centring, bands, words; an explanation of every kind of model and of X."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError

import rnam
from rnam.explanation import Explanation
from tests.explanation import support
from tests.support.assertions import assert_within

# contributions are float32 and of size 1 in units of the loss: sums of 8 of them are rounded by as many halves of 2^-23
ROUNDED = 8 * 2.0**-23 * 4


def test_totals_are_predictions(explanation: Any, model: Any, panel: rnam.Panel) -> None:
    predicted = model.predict(panel).to_numpy()
    assert_within("total", explanation.total.mean(0), predicted, ROUNDED * np.abs(predicted).max())
    person = explanation.person(103)
    own = model.predict(panel[103]).to_numpy()
    assert_within("of a person", person.total, own, ROUNDED * np.abs(predicted).max())
    assert_within("told", person.predicted, person.total, 1e-12)


def test_contributions_are_centred_on_the_background(model: Any, panel: rnam.Panel) -> None:
    train, test = panel.split([0.5, 0.5], seed=0)
    e = model.explain(test, background=train)
    mean = e.contributions.mean(1)
    assert np.abs(mean).max() > 1e-4, "those of another panel are not 0 in the mean"
    inside = model.explain(train, background=train)
    found = np.where(inside.observed, inside.contributions, 0).sum(1)
    assert_within("mean", found / len(train.owners), np.zeros((2, 7)), 1e-12)
    same = model.explain(test, background=train).contributions + 0
    shift = same - model.explain(test).contributions
    assert_within("a constant for each term", np.ptp(shift, axis=1), 0.0, 1e-12)


def test_importance_is_the_mean_absolute_contribution(explanation: Any, tmp_path: Any) -> None:
    answer = explanation.importance()
    each = np.abs(explanation.contributions).mean(1)
    np.testing.assert_allclose(answer.importance, each.mean(0), rtol=1e-12)
    np.testing.assert_allclose(answer.high - answer.low, 2 * each.std(0, ddof=1), rtol=1e-9)
    assert answer.share.sum() == pytest.approx(1)
    frame = answer.frame()
    assert frame["importance"].is_monotonic_decreasing and set(frame["term"]) == set(answer.term)
    answer.to_csv(tmp_path / "importance.csv")
    assert len((tmp_path / "importance.csv").read_text().splitlines()) == 8
    with pytest.raises(ValueError, match=r"path must end in .csv, got importance.txt"):
        answer.to_csv(tmp_path / "importance.txt")
    ax = answer.plot()
    assert "mean absolute contribution to flow" in ax.get_xlabel()
    assert [label.get_text() for label in ax.get_yticklabels()] == frame["term"].tolist()


def test_weights_count(model: Any) -> None:
    frame = support.weather()
    frame["weight"] = (frame["basin"] == 101).astype(float)
    panel = rnam.Panel.from_frame(frame, **support.ROLES, target="flow", weight="weight")
    e = model.explain(panel)
    own = np.abs(e.contributions[:, 30:60]).mean((0, 1))
    np.testing.assert_allclose(e.importance().importance, own, rtol=1e-12)
    frame["weight"] = 0.0
    nothing = rnam.Panel.from_frame(frame, **support.ROLES, target="flow", weight="weight")
    with pytest.raises(ValueError, match="sample_weight must be greater than 0 somewhere"):
        model.explain(nothing).importance()


def test_a_person_is_told_in_words_and_numbers(explanation: Any, tmp_path: Any) -> None:
    person = explanation.person(103)
    parts = person.contribution
    np.testing.assert_allclose(person.change, parts[-1] - parts[-2])
    assert person.ranked[0] == person.term[int(np.abs(parts[-1]).argmax())]
    words = person.words()
    assert words.startswith("basin 103 at 29, 1 after 28: flow ") and f"to {person.total[-1]:.4g}." in words
    most = int(np.abs(person.change).argmax())
    assert f"{person.title[most]} {person.change[most]:+.3g}" in words
    frame = person.frame()
    assert len(frame) == 30 * 8
    last = frame[frame["time"] == 29].set_index("term")
    assert last.loc["(total)", "contribution"] == pytest.approx(person.total[-1])
    assert last["rank"].dropna().sort_values().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert last.loc["rain", "change"] == pytest.approx(person.change[0])
    assert last.loc["rain", "value"].endswith(" mm")
    person.to_csv(tmp_path / "person.csv")
    assert "'=cmd" in (tmp_path / "person.csv").read_text(), "a formula is a word"
    ax = person.plot()
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), person.total)
    assert ax.get_title(loc="left") == "basin 103" and repr(person) == f"Person: {words}"
    with pytest.raises(KeyError, match="no basin 7 among 12 ids"):
        explanation.person(7)


@pytest.mark.parametrize("kind", [rnam.RNAMClassifier, rnam.NAMClassifier])
def test_probabilities_of_a_classifier(kind: type, tmp_path: Any) -> None:
    panel = support.basins("high")
    hidden = {"hidden": (4,)} if kind is rnam.NAMClassifier else {}
    model = kind(**hidden, max_epochs=2, random_state=0, verbose=0).fit(panel)
    e = model.explain(panel)
    person = e.person(101)
    assert_within("told", person.predicted, model.predict_proba(panel[101]).to_numpy()[:, 1], ROUNDED)
    assert np.isnan(e.importance().low).all() and "log-odds of True" in e.importance().plot().get_xlabel()
    assert_within("total", e.total[0], model.decision_function(panel).to_numpy(), ROUNDED)


def test_rows_of_a_table_and_arrays() -> None:
    frame = support.weather().drop(columns=["basin", "day", "high"])
    y = frame.pop("flow")
    model = rnam.NAMRegressor((4,), max_epochs=2, random_state=0, verbose=0).fit(frame, y)
    e = model.explain(frame, y)
    person = e.person(5)
    assert person.contribution.shape == (1, 5) and "Largest parts:" in person.words()
    assert len(person.plot().patches) == 5
    X = np.random.default_rng(0).normal(size=(20, 6, 2))
    arrays = rnam.RNAMRegressor(4, max_epochs=1, random_state=0, verbose=0).fit(X, X[:, :, 0].mean(1))
    told = arrays.explain(X)
    assert_within("total", told.total[0], arrays.predict(X), ROUNDED)
    assert told.contributions.shape == (1, 20, 2) and told.person(3).contribution.shape == (6, 2)


def test_several_classes_and_survival() -> None:
    frame = support.weather()
    frame["level"] = np.select([frame["flow"] < 0.5, frame["flow"] < 1.5], ["low", "mid"], "high")
    panel = rnam.Panel.from_frame(frame, **support.ROLES, target="level")
    model = support.fitted(rnam.RNAMClassifier, panel)
    with pytest.raises(ValueError, match="output must be one of high, low, mid, got None"):
        model.explain(panel)
    with pytest.raises(ValueError, match="output must be one of high, low, mid, got 'none'"):
        model.explain(panel, output="none")
    e = model.explain(panel, output="mid")
    scores = model.decision_function(panel).to_numpy()
    assert_within("total", e.total[0], scores[:, 2] - scores.mean(1), ROUNDED)
    frame["until"], frame["event"] = frame["day"] + 1.0 + frame["basin"] % 5, True
    lives = rnam.Panel.from_frame(frame, **support.ROLES, target=["until", "event"])
    survival = rnam.RNAMSurvival(4, bins=3, max_epochs=1, random_state=0, verbose=0).fit(lives)
    told = survival.explain(lives)
    assert told.reader.output == "mean log-odds of the event" and np.isfinite(told.importance().importance).all()
    bins = survival.loss_.output_names(())
    each = [survival.explain(lives, output=name).total for name in bins]
    assert_within("mean", told.total, np.mean(each, axis=0), 1e-9)
    assert told.lag_response("rain", lags=2, sample=4).by_history.shape == (1, 4, 3)


def test_windows_and_dates_are_told_as_people_read_them() -> None:
    frame = support.weather(2, 40)
    frame["day"] = pandas.Timestamp("2020-01-01") + pandas.to_timedelta(frame["day"], "D")
    panel = rnam.Panel.from_frame(frame, **{**support.ROLES, "target": "flow"}).windows(20, step=5, horizon=0)
    e = support.fitted(rnam.RNAMRegressor, panel, max_epochs=1).explain(panel)
    person = e.person(panel.ids[1])
    assert person.words().startswith("basin 100, day_end 2020-01-25 at 2020-01-25, 1 day after 2020-01-24: flow")
    ax = person.plot()
    assert ax.xaxis.get_major_formatter().format_ticks(ax.get_xticks())[0] and not ax.get_xlabel()
    answer = e.lag_response("rain", lags=5, before=10, sample=3)
    assert answer.history.nlevels == 3 and answer.time.tolist() == [0, 1, 2, 3, 4, 5]
    assert e.calibration("day", groups=2).group[1].startswith("2020-01-20 to 2020-")


def test_it_says_what_it_is(model: Any, panel: rnam.Panel) -> None:
    e = model.explain(panel, background=panel[[101, 102]])
    assert isinstance(e, Explanation)
    assert repr(e).splitlines() == [
        "Explanation of flow by an RNAMRegressor: 12 ids, 360 visits",
        "  terms       rain, temp, kind, rain & temp, rain & soil, area, soil",
        "  members     2",
        "  background  2 ids, 60 visits",
    ]
    with pytest.raises(NotFittedError):
        rnam.RNAMRegressor().explain(panel)
    with pytest.raises(ValueError, match="the panel must have the column 'temp'"):
        model.explain(support.basins(values=["rain"], units={"rain": "mm"})).importance()
