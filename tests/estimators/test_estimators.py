"""The classifiers and the regressors on tables of each kind: what they predict, and that terms sum to it."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

import rnam
from rnam.estimators import pairs
from rnam.estimators.samples import Sample
from rnam.estimators.training import outputs
from tests.estimators.support import ROWS, feed_forward, outcome, panel, quick, recurrent, table, visits
from tests.support.assertions import assert_equal, assert_within


def summed(model: Any, X: Any) -> Any:
    return (model.contributions(X).sum(axis=1) + model.intercept_[0]).to_numpy()


def assert_sums(model: Any, X: Any, told: Any) -> None:
    """float32 sums in another order: an error of a rounding for each term, of the largest part."""
    parts = model.contributions(X).abs().sum(axis=1).to_numpy() + abs(model.intercept_[0])
    assert_within("sum", summed(model, X), np.asarray(told), parts * 16 * 2**-24)


def test_rows_come_as_they_are() -> None:
    X, y = table(), outcome(table())
    model = feed_forward(pairs=[("age", "ward")]).fit(X, y)
    predicted = model.predict(X)
    assert isinstance(predicted, np.ndarray)
    assert predicted.shape == (ROWS,)
    assert_sums(model, X, predicted)
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.model_.description.names == ("age", "visits", "ward", "stage", "smoker", "age & ward")
    array = clone(model).set_params(pairs=None).fit(X.astype(object).to_numpy(), y)
    assert_within("predictions", array.predict(X.astype(object).to_numpy()), feed_forward().fit(X, y).predict(X), 0)


def test_a_level_that_is_not_known_says_nothing() -> None:
    X, y = table(), outcome(table())
    model = feed_forward(max_epochs=5).fit(X, y)
    new, gone = X.assign(ward="d"), X.assign(ward=None)
    assert_equal("predictions", model.predict(new), model.predict(gone.astype({"ward": object})))
    assert model.contributions(new)["ward"].nunique() == 1


def test_recurrent_terms_of_rows_are_of_one_step() -> None:
    X, y = table(), np.where(table()["smoker"], "yes", "no")
    model = recurrent().fit(X, y)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.predict(X).dtype.kind == "U"
    assert_sums(model, X, model.decision_function(X))
    probability = model.predict_proba(X)
    assert_within("probabilities", probability.sum(1), np.ones(ROWS), 2**-50)
    assert_equal("classes", model.predict(X) == "yes", probability[:, 1] > 0.5)


@pytest.mark.parametrize("at", ["id", "visit"])
def test_a_panel_answers_with_its_ids_and_times(at: str) -> None:
    whole = panel(at)
    model = recurrent(timing=True).fit(whole)
    told = model.predict(whole)
    expected = pandas.Index(whole.ids, name="person")
    if at == "visit":
        expected = pandas.MultiIndex.from_frame(visits()[["person", "day"]])
    assert told.index.equals(expected)
    assert told.index.names == expected.names
    proba = model.predict_proba(whole)
    assert list(proba.columns) == list(model.classes_)
    assert_sums(model, whole, model.decision_function(whole))
    assert model.score(whole) == float((told.to_numpy()[whole.labelled] == whole.target[whole.labelled]).mean())
    again = model.predict(visits().drop(columns=["label", "died"]))
    pandas.testing.assert_series_equal(again, told)


def test_predictions_are_those_of_the_model_on_the_encoded_panel() -> None:
    whole = panel("visit")
    model = recurrent(continuous=True).fit(whole)
    inputs = model.encoder_.transform(whole)
    one = whole.take([4])
    values, mask = (
        torch.from_numpy(a[inputs.offsets[4] : inputs.offsets[5]])[None] for a in (inputs.values, inputs.mask)
    )
    static, times = torch.from_numpy(inputs.static[[4]]), torch.from_numpy(one.times)[None]
    with torch.no_grad():
        by_hand = model.model_(values, mask, static=static, times=times, return_sequence=True).prediction[0, :, 0]
    assert model.continuous_
    # the same formula in another batch: float32 roundings of numbers near 1
    assert_within("decision", model.decision_function(one).to_numpy(), by_hand.double(), 2**-20)


def test_labels_at_visits_say_nothing_where_there_are_none() -> None:
    """A visit without a label is an input and no loss."""
    whole = panel("visit")
    frame = visits()
    kept = frame["label"].notna()
    told = recurrent(validation=None).fit(whole).decision_function(whole)
    changed = frame.assign(z=np.where(kept, frame["z"], frame["z"] + 5))
    other = rnam.Panel.from_frame(changed, like=whole)
    assert not np.allclose(recurrent(validation=None).fit(other).decision_function(other), told)


def test_an_index_of_ids_and_times_is_a_panel() -> None:
    whole = panel("visit")
    frame = visits().set_index(["person", "day"])
    X, y = frame[["x", "z", "kind", "age"]], frame["label"]
    model = recurrent(validation=None).fit(X, y)
    told = model.predict_proba(X)
    assert told.index.equals(frame.index)
    by_id = recurrent(validation=None).fit(X, pandas.Series(whole.ids % 2, index=whole.ids))
    assert by_id.predict(X).index.equals(whole.ids)
    with pytest.raises(ValueError, match="same order"):
        model.predict(X[["z", "x", "kind", "age"]])


def test_arrays_over_time_have_labels_of_ids_or_steps() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 5, 2))
    X[0, 3:], X[4, 2, 1] = np.nan, np.nan
    y = rng.normal(size=(12, 5))
    model = rnam.RNAMRegressor(4, **quick()).fit(X, y)
    told = model.predict(X)
    assert_equal("padding", np.isnan(told), np.isnan(X).all(2))
    model = rnam.RNAMRegressor(4, **quick()).fit(X, y[:, :2])
    assert model.predict(X).shape == (12, 2)
    assert list(model.contributions(X).columns.names) == ["output", "term"]


@pytest.mark.parametrize(
    ("loss", "changes", "columns"), [("poisson", {}, 1), ("quantile", {"quantiles": (0.1, 0.9)}, 2)]
)
def test_losses_by_name(loss: str, changes: dict[str, Any], columns: int) -> None:
    X, y = table(), np.round(outcome(table()))
    model = feed_forward(loss=loss, **changes).fit(X, y)
    told = model.predict(X)
    assert told.size == columns * ROWS
    if loss == "poisson":
        assert_sums(model, X, np.log(told))


def test_pairs_are_found_where_residuals_have_them() -> None:
    rng = np.random.default_rng(0)
    X = pandas.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    X["w"] = rng.choice(["u", "v"], 400)
    y = X["b"] * X["d"] + (X["w"] == "u") * X["a"] + X["c"]
    model = rnam.NAMRegressor((8,), pairs=2, **quick(max_epochs=10)).fit(X, y)
    assert {frozenset(pair) for pair in model.pairs_} == {frozenset("bd"), frozenset("aw")}
    assert [term.name for term in model.encoder_.terms if term.is_pair] == [" & ".join(p) for p in model.pairs_]


def test_pairs_of_columns_with_many_levels_are_searched() -> None:
    """Of 10,000 levels each there are 100 million cells, of which 10,000 hold a label: 800 MB an array."""
    rows = 10_000
    frame = pandas.DataFrame({"id": np.arange(rows), "day": 0, "a": np.arange(rows), "b": np.arange(rows)[::-1]})
    frame["c"] = np.tile([0, 0, 1, 1], rows // 4)
    frame["d"] = np.tile([0, 1, 0, 1], rows // 4)
    whole = rnam.Panel.from_frame(frame, id="id", time="day", categories=["a", "b", "c", "d"])
    residuals = (frame["c"] == frame["d"]).to_numpy(np.float64)[:, None]
    tracemalloc.start()
    found = pairs.search(whole, np.arange(rows), residuals, np.ones(rows), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [("c", "d")]
    assert peak < 100e6


class Pressed(Callback):  # type: ignore[misc]
    """Ctrl-C in an epoch, counted over the fits."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.seen = epoch, 0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.seen += 1
        if self.seen == self.epoch:
            raise KeyboardInterrupt


def test_a_fit_says_whether_it_was_interrupted() -> None:
    X, y = table(), outcome(table())
    assert feed_forward().fit(X, y).interrupted_ is False
    model = feed_forward(max_epochs=5, validation=0.2, callbacks=[Pressed(3)])
    with pytest.warns(RuntimeWarning, match="the fit was interrupted after 2 epochs and keeps the weights of epoch"):
        model.fit(X, y)
    assert model.interrupted_ and len(model.history_) == 2
    with pytest.raises(RuntimeWarning):  # where warnings are errors, as in these tests
        model.set_params(callbacks=[Pressed(2)]).fit(X, y)
    assert model.interrupted_ and len(model.history_) == 1


def test_an_interruption_before_the_first_batch_leaves_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sample, "batches", pressed)
    model = feed_forward()
    with pytest.raises(KeyboardInterrupt):
        model.fit(table(), outcome(table()))
    assert not hasattr(model, "model_")


def product() -> tuple[Any, Any]:
    X = np.random.default_rng(0).normal(size=(200, 2))
    return X, X[:, 0] * X[:, 1]


def test_the_search_for_pairs_does_not_follow_an_interrupted_fit() -> None:
    pressed = Pressed(1)
    with pytest.warns(RuntimeWarning, match="keeps the last weights; pairs were not searched for"):
        model = feed_forward(pairs=1, callbacks=[pressed]).fit(*product())
    assert (pressed.seen, model.pairs_, model.interrupted_) == (1, [], True)


@pytest.mark.parametrize("epoch", [None, 3, 4])
def test_an_interrupted_fit_with_pairs_gives_the_first_one_back(epoch: int | None, monkeypatch: Any) -> None:
    """Without a held-out part nothing says that a part of a fit is better than a whole one. None is in the search."""
    X, y = product()
    plain = feed_forward().fit(X, y)

    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    if epoch is None:
        monkeypatch.setattr(pairs, "search", pressed)
    model = feed_forward(pairs=1, callbacks=None if epoch is None else [Pressed(epoch)])
    epochs = 0 if epoch is None else epoch - 3
    told = (
        f"the fit with pairs was interrupted after {epochs} epochs; the model of the first fit, without pairs, is kept"
    )
    with pytest.warns(RuntimeWarning, match=told):
        model.fit(X, y)
    assert_equal("predictions", model.predict(X), plain.predict(X))
    assert (model.pairs_, model.interrupted_, len(model.history_)) == ([], True, 2)
    assert [term.name for term in model.encoder_.terms] == ["x0", "x1"]


def test_an_interrupted_fit_with_pairs_is_kept_where_it_does_better() -> None:
    X, y = product()
    options = dict(max_epochs=20, patience=None, learning_rate=0.03, validation=0.3)
    with pytest.warns(RuntimeWarning, match="the fit with pairs was interrupted after 17 epochs and keeps the weights"):
        model = feed_forward(pairs=1, callbacks=[Pressed(38)], **options).fit(X, y)
    assert (len(model.pairs_), model.interrupted_, len(model.history_)) == (1, True, 17)
    assert model.score(X, y) > feed_forward(**options).fit(X, y).score(X, y)


def test_batches_are_of_what_has_a_label() -> None:
    """Most visits have none in a panel of people whose last interview is labelled."""
    frame = visits(400)
    last = frame.groupby("person").cumcount(ascending=False) == 0
    frame["label"] = frame["label"].fillna(1.0).where(last & (frame["person"] < 320))
    whole = rnam.Panel.from_frame(frame, id="person", time="day", values=["x"], target="label", at="visit")
    for model in (recurrent(), rnam.NAMClassifier((4,), **quick())):
        sample = model._first_table(whole, None, None, None, False)
        assert model._settings(sample, 0).batch_size == 32


def test_the_default_dtype_of_torch_is_not_read() -> None:
    X, y = table(), outcome(table())
    torch.set_default_dtype(torch.float64)
    try:
        for loss in ("squared", lambda prediction, target: (prediction - target).square().squeeze(-1)):
            model = feed_forward(loss=loss, members=2, regularizer={"concurvity": 0.1}).fit(X, y)
            assert {p.dtype for p in model.model_.parameters()} == {torch.float32}
        model = recurrent(regularizer={"contributions": 0.1}).fit(panel("visit"))
        assert model.predict_proba(panel("visit")).to_numpy().dtype == np.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_members_learn_from_samples_of_groups() -> None:
    X, y = table(), outcome(table())
    groups = np.arange(ROWS) // 3
    told = [feed_forward(members=3, validation=None).fit(X, y, groups=g).predict(X) for g in (groups, groups, None)]
    assert_equal("predictions", told[0], told[1])
    assert not np.allclose(told[0], told[2])


def test_members_without_bootstrap_differ_by_their_random_numbers_alone() -> None:
    X, y = table(), outcome(table())
    options = dict(members=3, validation=None, bootstrap=False)
    models = [feed_forward(**options).fit(X, y, groups=groups) for groups in (None, np.arange(ROWS) // 3)]
    assert_equal("no samples of groups", models[0].predict(X), models[1].predict(X))
    assert not np.allclose(models[0].predict(X), feed_forward(**{**options, "bootstrap": True}).fit(X, y).predict(X))
    inputs = models[0].encoder_.transform(models[0]._first_table(X, y, None, None, True).panel)
    each = outputs(models[0].model_, inputs, return_members=True)
    assert not np.allclose(each[0], each[1])


def test_a_held_out_part_has_whole_groups() -> None:
    whole = panel()
    model = recurrent(validation=0.3)
    sample = model._first_table(whole, None, None, np.arange(20) // 4, False)
    training, held_out = sample.split(0.3, np.random.default_rng(0), 2)
    assert held_out is not None
    assert not set(training.groups) & set(held_out.groups)
    assert len(training.panel) + len(held_out.panel) == 20


@pytest.mark.parametrize("at", ["id", "visit"])
@pytest.mark.parametrize("share", [0.001, 0.999])
@pytest.mark.parametrize("groups", [None, np.arange(20) // 4])
def test_each_part_has_a_label(at: str, share: float, groups: Any) -> None:
    """Two ids, or groups, have one here."""
    whole = panel(at)
    target = np.where(np.isin(whole.ids, [3, 4]), 1.0, np.nan)
    labels = whole.to_frame().assign(**{"died" if at == "id" else "label": np.repeat(target, whole.lengths)})
    model = rnam.RNAMRegressor(4, **quick())
    sample = model._first_table(rnam.Panel.from_frame(labels, like=whole), None, None, groups, False)
    for seed in range(5):
        training, held_out = sample.split(share, np.random.default_rng(seed), 0)
        assert held_out is not None
        assert (len(training.panel), len(held_out.panel)) != (0, 0)
        assert training.labelled.any() and held_out.labelled.any()
        alone, none = (training if share < 0.5 else held_out).split(share, np.random.default_rng(seed), 0)
        assert none is None and alone.labelled.any()


def test_a_class_is_not_held_out_whole() -> None:
    X, y = table(8), np.r_[np.zeros(6, int), 1, 1]
    model = rnam.NAMClassifier((4,), validation=0.01, **quick()).fit(X, y)
    assert "valid_loss" in model.history_[0]
    sample = model._first_table(X, y, None, None, True)
    _, held_out = sample.split(0.01, np.random.default_rng(0), 2)
    assert held_out is not None and held_out.target.tolist() == [0]
    one_of_each = rnam.NAMClassifier((4,), validation=0.01, **quick()).fit(X[5:7], y[5:7])
    assert "valid_loss" not in one_of_each.history_[0]


def test_a_held_out_part_is_taken_as_given() -> None:
    whole = panel()
    train, valid = whole.split([0.7, 0.3], seed=0)
    model = recurrent().fit(train, validation=valid)
    assert "valid_loss" in model.history_[0]
    X, y = table(), outcome(table())
    assert "valid_loss" in feed_forward().fit(X[:40], y[:40], validation=(X[40:], y[40:])).history_[0]
    with pytest.raises(ValueError, match="classes of the fit, got 2"):
        recurrent().fit(whole, whole.target, validation=(valid, 2 * np.ones(len(valid), int)))
    with pytest.raises(TypeError, match="validation"):
        recurrent().fit(whole, validation=3)


def test_weights_count_as_copies_do() -> None:
    """Without a batch there is no chance: a weight of 2 is a row twice."""
    X, y = table(20)[["age"]].fillna(50), np.arange(20.0)
    weight = np.r_[np.full(10, 2.0), np.ones(10)]
    options = dict(validation=None, batch_size=64)
    weighed = feed_forward(**options).fit(X, y, sample_weight=weight)
    assert weighed.loss_.centre[0] == pytest.approx(np.average(y, weights=weight), rel=1e-12)
    twice = feed_forward(**options).fit(X, y, sample_weight=2 * weight)
    # weights of another scale are divided by their mean: the same numbers but for their rounding
    assert_within("predictions", twice.predict(X), weighed.predict(X), 1e-3)


def test_class_weights_hold_for_a_held_out_part_of_one_class() -> None:
    whole = panel()
    alive = whole.take(np.flatnonzero(whole.target == 0))
    model = recurrent(class_weight={1: 5.0}).fit(whole, validation=alive)
    assert "valid_loss" in model.history_[0]


def test_dates_are_classes() -> None:
    X, y = table(), pandas.to_datetime(["2020-01-01", "2021-01-01"] * (ROWS // 2))
    model = rnam.NAMClassifier((4,), **quick()).fit(X, y)
    assert model.score(X, y) == (model.predict(X) == y.to_numpy()).mean()
    assert model.score(X, y.as_unit("ns") + pandas.Timedelta("1D")) == 0


def test_class_weights_move_the_intercept() -> None:
    X, y = table(), np.r_[np.zeros(50, int), np.ones(10, int)]
    plain, balanced = (rnam.NAMClassifier((8,), class_weight=w, **quick()).fit(X, y) for w in (None, "balanced"))
    assert plain.loss_.start[0] == pytest.approx(np.log(10 / 50))
    assert balanced.loss_.start[0] == pytest.approx(0.0, abs=1e-9)


def test_balanced_classes_are_those_of_the_training_part() -> None:
    """The held-out part may have other shares; its labels are weighed by those of the training part."""
    X, y = table(), np.r_[np.zeros(50, int), np.ones(10, int)]
    model = rnam.NAMClassifier((4,), class_weight="balanced", **quick())
    sample = model._first_table(X, y, 2 * np.ones(ROWS), None, False)
    training, held_out = model._balanced(sample.take(np.arange(20, 60)), sample.take(np.arange(20)))
    assert held_out is not None and held_out.weight is not None and training.weight is not None
    assert_equal("training", training.weight, 2 * np.r_[np.full(30, 40 / 60), np.full(10, 40 / 20)])
    assert_equal("held out", held_out.weight, 2 * np.full(20, 40 / 60))
    fitted = model.fit(X[20:], y[20:], validation=(X[:20], y[:20]))
    assert recurrent(class_weight="balanced", validation=0.3).fit(panel("visit")).loss_.start[0] == pytest.approx(0)
    told = np.log(1 / fitted.predict_proba(X[:20])[:, 0]).mean()  # each of these rows has the same weight
    assert_within("loss", min(row["valid_loss"] for row in fitted.history_), told, 1e-5)


def test_warm_start_goes_on() -> None:
    X, y = table(), outcome(table())
    model = feed_forward(warm_start=True).fit(X, y)
    before, encoder = model.predict(X), model.encoder_
    model.fit(X, y)
    assert model.encoder_ is encoder
    assert not np.allclose(model.predict(X), before)
    with pytest.raises(ValueError, match="feature names"):
        model.fit(X[["age"]], y)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_warm_start_holds_out_the_same_ids(random_state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other ones the held-out loss would be of ids that were learned from."""
    seen, batches = [], Sample.batches

    def watched(self: Sample, encoder: Any) -> Any:
        seen.append(set(self.panel.ids))
        return batches(self, encoder)

    monkeypatch.setattr(Sample, "batches", watched)
    model = feed_forward(validation=0.3, warm_start=True, random_state=random_state)
    X, y = table(), outcome(table())
    model.fit(X, y).fit(X, y)
    assert seen[:2] == seen[2:]
    again = clone(model).fit(X, y)
    assert again.seed_ != model.seed_ and seen[4:] != seen[:2]


def test_copies_and_pickles_predict_the_same() -> None:
    whole = panel("visit")
    model = recurrent(members=2).fit(whole)
    told = model.predict_proba(whole)
    pandas.testing.assert_frame_equal(pickle.loads(pickle.dumps(model)).predict_proba(whole), told)
    pandas.testing.assert_frame_equal(clone(model).fit(whole).predict_proba(whole), told)


def test_searches_and_pipelines_take_words_and_gaps() -> None:
    X, y = table(), outcome(table())
    search = GridSearchCV(feed_forward(), {"hidden": [(4,), (8, 4)]}, cv=2).fit(X, y)
    assert search.best_params_["hidden"] in [(4,), (8, 4)]
    pipeline = make_pipeline(FunctionTransformer(), feed_forward()).fit(X, y)
    assert_equal("predictions", pipeline.predict(X), feed_forward().fit(X, y).predict(X))


def test_units_of_x_and_y_change_nothing_that_is_learned() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    y = X[:, 0] + rng.normal(size=80)
    options = dict(max_epochs=5, validation=None)
    scaled = feed_forward(**options).fit(X, y).score(X, y)
    for moved, other in ((X + 1e6, y), (X * 1e-6, y * 1e6), (X * 1e-6 + 1, y + 1e6), (X * 1e6, y * 1e-6)):
        assert feed_forward(**options).fit(moved, other).score(moved, other) == pytest.approx(scaled, abs=0.005)


@pytest.mark.parametrize("scale", [2.0**700, 2.0**-700])
@pytest.mark.parametrize("loss", ["squared", "absolute", "gaussian"])
def test_no_scale_is_too_large_or_too_small(scale: float, loss: str) -> None:
    X = np.random.default_rng(0).normal(size=(60, 2))
    near, far = (feed_forward(loss=loss).fit(X * s, X[:, 0] * s) for s in (1.0, scale))
    assert_within("predictions", far.predict(X * scale) / scale, near.predict(X), 1e-6)


def test_columns_may_reach_the_ends_of_float64() -> None:
    X = np.where(np.random.default_rng(0).normal(size=(60, 1)) > 0, 1.7e308, -1.7e308)
    assert np.isfinite(feed_forward().fit(X, np.sign(X[:, 0])).predict(X)).all()
