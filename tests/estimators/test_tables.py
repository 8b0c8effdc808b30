"""Labels, weights and groups belong to their rows, ids and visits, however X has these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

import rnam
from tests.estimators.support import feed_forward, outcome, panel, quick, recurrent, table, visits
from tests.support.assertions import assert_equal


def regressor(**changes: Any) -> rnam.RNAMRegressor:
    return rnam.RNAMRegressor(4, **quick(**changes))


def turns(people: int = 5, steps: int = 4) -> Any:
    """Visits of people who take turns: all first visits, then all second ones."""
    index = pandas.MultiIndex.from_product([range(steps), range(people)], names=["day", "id"]).swaplevel()
    return pandas.DataFrame({"x": np.random.default_rng(0).normal(size=people * steps)}, index=index)


def test_groups_of_rows_go_by_their_place() -> None:
    """The index of a shuffled table is none of ids."""
    X = table().sample(frac=1, random_state=0)
    groups = pandas.Series(np.arange(len(X)) // 3, index=X.index)
    sample = feed_forward()._first_table(X, outcome(X), None, groups, False)
    assert_equal("groups", sample.groups, groups.to_numpy())


@pytest.mark.parametrize("argument", ["groups", "sample_weight"])
def test_a_series_of_ids_is_read_by_its_index(argument: str) -> None:
    whole = panel()
    given = pandas.Series(np.arange(20.0) + 1, index=whole.ids)
    arguments: Any = {"groups": None, "sample_weight": None, argument: given[::-1]}
    sample = recurrent()._first_table(whole, None, arguments["sample_weight"], arguments["groups"], False)
    expected = given.to_numpy() if argument == "sample_weight" else np.arange(20)
    assert_equal(argument, sample.weight if argument == "sample_weight" else sample.groups, expected)
    with pytest.raises(ValueError, match=f"{argument} must have an index that holds the 20 ids"):
        recurrent().fit(whole, **{argument: given.set_axis(range(100, 120))})


def test_weights_of_visits_follow_the_rows_of_a_frame() -> None:
    X = turns()
    y = pandas.Series(np.arange(20.0), index=X.index)
    for weight in (y + 1, y.to_numpy() + 1):
        sample = regressor()._first_table(X, y, weight, None, False)
        assert_equal("weight", sample.weight, sample.target[:, 0] + 1)
    with pytest.raises(ValueError, match="sample_weight must have the index of X"):
        regressor().fit(X, y, sample_weight=y[::-1] + 1)
    model = regressor().fit(X, y)
    first = np.r_[np.ones(5), np.zeros(15)]
    assert model.score(X, y, first) == pytest.approx(model.score(X[:5], y[:5]), abs=1e-6)
    whole = rnam.Panel.from_frame(X.assign(y=y), values=["x"], target="y", at="visit")
    by_columns = X.assign(y=y).reset_index()
    assert regressor().fit(whole).score(by_columns, sample_weight=first) == pytest.approx(
        model.score(X[:5], y[:5]), abs=1e-6
    )


def test_weights_of_steps_have_the_shape_of_labels() -> None:
    X = np.random.default_rng(0).normal(size=(6, 3, 1))
    X[2, 1:] = np.nan
    y, weight = np.arange(18).reshape(6, 3), np.arange(18.0).reshape(6, 3)
    sample = regressor()._first_table(X, y, weight, None, False)
    assert_equal("weight", sample.weight, sample.target[:, 0])
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(6, 3\)"):
        regressor().fit(X, y, sample_weight=np.ones(16))


def test_labels_are_those_of_visits_where_each_id_has_one() -> None:
    X = turns()
    y = pandas.Series(np.arange(20.0), index=X.index)
    assert regressor().fit(X[:5], y[:5]).at_ == "visit"
    model = regressor().fit(X, y)
    assert model.score(X[:5], y[:5]) == model.score(X[:5], y[:5].to_numpy())


def test_several_labels_of_ids_are_no_labels_of_steps() -> None:
    X, y = np.random.default_rng(0).normal(size=(6, 5, 1)), np.arange(18.0).reshape(6, 3)
    model = regressor().fit(X, y)
    assert np.isfinite(model.score(X[:, :3], y))


def test_columns_called_by_numbers_are_not_taken_for_one_another() -> None:
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(30, 2)))
    model = feed_forward(max_epochs=1).fit(X, X[0])
    with pytest.raises(ValueError, match=r"X must have the columns \[0, 1\], as in the fit, got \[1, 0\]"):
        model.predict(X[[1, 0]])
    assert_equal("predictions", feed_forward(max_epochs=1).fit(X.to_numpy(), X[0]).predict(X), model.predict(X))


def test_an_index_of_three_levels_is_refused() -> None:
    index = pandas.MultiIndex.from_product([range(2), range(3), range(2)])
    with pytest.raises(ValueError, match="got one of 3 levels"):
        regressor().fit(pandas.DataFrame({"x": np.arange(12.0)}, index=index), np.arange(12.0))


def test_targets_are_those_of_the_fit_in_their_order() -> None:
    frame = visits().assign(a=lambda f: 1.0 * f["person"], b=lambda f: -2.0 * f["person"])
    roles: Any = dict(id="person", time="day", values=["x", "z"])
    one, other = (rnam.Panel.from_frame(frame, **roles, target=target) for target in (["a", "b"], ["b", "a"]))
    model = regressor().fit(one)
    with pytest.raises(ValueError, match="y must have the targets a, b in this order, as in the fit, got b, a"):
        model.score(other)
    with pytest.raises(ValueError, match="validation must have the targets"):
        regressor().fit(one, validation=other)
    with pytest.raises(ValueError, match="y must have 2 labels at each id"):
        model.score(rnam.Panel.from_frame(frame, **roles, target="a"))


def test_a_score_is_of_labels_where_the_fit_had_them() -> None:
    with pytest.raises(ValueError, match="1 labels at each id, as in the fit, got 1 at each visit"):
        recurrent().fit(panel()).score(panel("visit"))


@pytest.mark.parametrize("method", ["predict", "contributions"])
def test_a_panel_without_ids_is_refused(method: str) -> None:
    whole = panel()
    with pytest.raises(ValueError, match="X must have ids"):
        getattr(recurrent().fit(whole), method)(whole.take([]))


@pytest.mark.parametrize(
    ("groups", "told"),
    [(np.ones((20, 2)), r"shape \(20,\), one for each id, got \(20, 2\)"), ([1.0] * 19 + [np.nan], "got none for 19")],
)
def test_groups_are_one_for_each_id(groups: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"groups must have .*{told}"):
        recurrent().fit(panel(), groups=groups)


def test_an_id_of_several_visits_is_named_as_people_write_it() -> None:
    frame = visits()
    most = frame["person"].value_counts(sort=False)
    with pytest.raises(ValueError, match=f"got {most.max()} of person {most.idxmax()};"):
        rnam.NAMClassifier((4,), **quick()).fit(panel())
