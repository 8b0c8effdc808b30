"""What a fit and a prediction refuse, with the column, the id or the argument that is at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

import rnam
from tests.estimators.support import feed_forward, outcome, panel, quick, recurrent, table, visits


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"age": np.inf}, "'age' must hold finite numbers"),
        ({"age": "old"}, "'age'"),
        ({"ward": 1}, "'ward' must hold words"),
        ({"extra": 1.0}, "extra"),
    ],
)
def test_bad_columns_of_a_prediction(changes: dict[str, Any], word: str) -> None:
    X = table()
    model = feed_forward(max_epochs=1).fit(X, outcome(X))
    with pytest.raises(ValueError, match=word):
        model.predict(X.assign(**changes))


def test_infinities_are_refused_in_a_fit() -> None:
    X = table()
    X.loc[7, "age"] = -np.inf
    with pytest.raises(ValueError, match="column 'age' must hold finite numbers, got -inf, row 7"):
        feed_forward().fit(X, outcome(table()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_of_rows_are_there(bad: float) -> None:
    y = outcome(table())
    y[3] = bad
    with pytest.raises(ValueError, match="y"):
        feed_forward().fit(table(), y)


def test_labels_are_asked_for_and_counted() -> None:
    with pytest.raises(ValueError, match="Panel without a target"):
        recurrent().fit(panel(target=None))
    with pytest.raises(ValueError, match="requires y"):
        recurrent().fit(table())
    with pytest.raises(ValueError, match="20 ids, got 3"):
        recurrent().fit(panel(), np.zeros(3))
    with pytest.raises(ValueError, match="at least 2 classes"):
        recurrent().fit(panel(), np.zeros(20))
    words = rnam.Panel.from_frame(visits().assign(died="dead"), id="person", time="day", values=["x"], target="died")
    with pytest.raises(ValueError, match="target 'died' must hold numbers"):
        rnam.RNAMRegressor(4, **quick()).fit(words)
    frame = visits().set_index(["person", "day"])[["x", "z"]]
    with pytest.raises(ValueError, match="20 ids or of"):
        recurrent().fit(frame, np.zeros(3))


def test_a_nam_reads_one_visit_of_an_id() -> None:
    with pytest.raises(ValueError, match="reads one visit of each id"):
        rnam.NAMClassifier((4,), **quick()).fit(panel())
    model = rnam.NAMClassifier((4,), **quick()).fit(panel("visit"))
    assert len(model.predict(panel("visit"))) == len(visits())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden": 0}, "hidden"),
        ({"pairs": "age"}, "pairs"),
        ({"pairs": -1}, "pairs"),
        ({"pairs": [("x", "nothing")]}, "'nothing'"),
        ({"timescales": (3, 1)}, "timescales"),
        ({"continuous": 1}, "continuous"),
        ({"validation": 1.0}, "validation"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"members": 0}, "members"),
        ({"bootstrap": 1}, "bootstrap must be True or False, got int"),
        ({"loss": "squared"}, "loss"),
        ({"warm_start": 1}, "warm_start"),
        ({"cell": "gru"}, "cell"),
        ({"schedule": "cosine"}, "schedule"),
        ({"callbacks": 3}, "callbacks must be None or a list"),
        ({"verbose": "no"}, "verbose"),
        ({"device": "gpu"}, "device must be 'auto' or a device of torch, got 'gpu'"),
        ({"class_weight": "balance"}, "class_weight must be None, 'balanced' or a dict"),
        ({"class_weight": {"dead": 2}}, r"class_weight must name classes of \[0, 1\], got 'dead'"),
        ({"class_weight": {0: -1, 1: 5}}, r"class_weight\[0\] must be at least 0, got -1"),
        ({"class_weight": {0: np.nan}}, r"class_weight\[0\] must be finite"),
    ],
)
def test_bad_parameters_are_named(changes: dict[str, Any], word: str) -> None:
    with pytest.raises((TypeError, ValueError), match=word):
        recurrent().set_params(**changes).fit(panel())


@pytest.mark.parametrize("chosen", [[("age", "ward")], 1])
def test_a_pair_called_as_a_column_is_refused_before_the_fit(chosen: Any) -> None:
    X = table().assign(**{"age & ward": 1.0})
    model = feed_forward(pairs=chosen)
    told = r"got \('age', 'ward'\), whose term is called as the column 'age & ward' is"
    with pytest.raises(ValueError, match=told):
        model.fit(X, outcome(X))
    assert not hasattr(model, "history_")
    model.fit(X.rename(columns={"age & ward": "age, ward"}), outcome(X))


def test_two_pairs_of_one_name_are_refused() -> None:
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=["a & b", "c", "a", "b & c"])
    for chosen in ([("a & b", "c"), ("a", "b & c")], 1):
        with pytest.raises(ValueError, match=r"got \('a', 'b & c'\), whose term is called as that of \('a & b', 'c'\)"):
            feed_forward(pairs=chosen).fit(X, X["a"])


def test_other_tables_than_in_the_fit_are_refused() -> None:
    model = recurrent(max_epochs=1).fit(panel())
    with pytest.raises(TypeError, match="Panel or a DataFrame"):
        model.predict(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="'z'"):
        model.predict(panel(values=["x"]))
    rows = feed_forward(max_epochs=1).fit(np.zeros((30, 2)) + np.arange(30)[:, None], np.arange(30.0))
    with pytest.raises(ValueError, match="3 features"):
        rows.predict(np.zeros((3, 3)))
    over_time = recurrent(max_epochs=1).fit(np.random.default_rng(0).normal(size=(20, 3, 2)), np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"\(n, T, columns\)"):
        over_time.predict(np.zeros((3, 2)))


def test_words_of_numpy_are_words() -> None:
    """As a column holds them that was filled item by item."""
    wards = [np.str_("a"), np.str_("b")] * 20
    X = pandas.DataFrame({"ward": pandas.Series(wards, dtype=object), "x": range(40)})
    assert len(feed_forward().fit(X, [0, 1] * 20).predict(X)) == 40


def test_weights_and_groups_are_one_for_each_id() -> None:
    for argument, value, word in (
        ("sample_weight", np.ones(3), "sample_weight"),
        ("sample_weight", -np.ones(20), "at least 0"),
        ("sample_weight", np.zeros(20), "zero"),
        ("groups", np.ones(3), r"groups must have shape \(20,\), one for each id"),
    ):
        with pytest.raises(ValueError, match=word):
            recurrent().fit(panel(), **{argument: value})


@pytest.mark.parametrize("first", [0, 1000])
def test_cross_validation_of_scikit_learn_does_not_cut_a_panel(first: int) -> None:
    frame = visits().assign(person=lambda own: own["person"] + first)
    whole = rnam.Panel.from_frame(frame, id="person", time="day", values=["x", "z"], target="died")
    with pytest.raises((TypeError, KeyError), match="folds"):
        cross_val_score(recurrent(), whole, whole.target, cv=3, error_score="raise")
    model = recurrent(max_epochs=1).fit(whole)
    with pytest.raises(TypeError, match="X must be one Panel, got 2 in a list"):
        model.predict([whole, whole])


@pytest.mark.parametrize("seed", range(3))
def test_counts_below_0_are_refused_in_either_part(seed: int) -> None:
    y = np.abs(outcome(table()))
    y[7] = -3
    with pytest.raises(ValueError, match="y must be at least 0 for loss='poisson', got -3"):
        feed_forward(loss="poisson", validation=0.5, random_state=seed).fit(table(), y)


@pytest.mark.parametrize("quantiles", [None, 0.5, (0.5, 0.5)])
def test_quantiles_are_a_list_of_different_numbers(quantiles: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="quantiles must be"):
        feed_forward(loss="quantile", quantiles=quantiles).fit(table(), outcome(table()))


def test_a_fit_that_diverges_leaves_no_model() -> None:
    model = feed_forward(learning_rate=1e30, clip=None)
    with pytest.raises(ValueError, match="the fit diverged"):
        model.fit(table(), outcome(table()))
    with pytest.raises(NotFittedError):
        model.predict(table())
