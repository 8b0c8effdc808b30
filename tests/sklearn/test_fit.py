"""Fits and predictions of the estimators: labels of any kind, shapes, random numbers, groups, what 0.2 saved."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import accuracy_score, average_precision_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit, cross_val_score
from skorch.callbacks import Callback, Checkpoint, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDict, predefined_split

import rnam
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor
from tests.support.assertions import assert_finite

ROWS = 60
KINDS = [AdditiveRegressor, AdditiveBinaryClassifier, AdditiveClassifier]


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(ROWS, 2))
    return x, x[:, 0] - x[:, 1] ** 2 / 2 + 0.25


def _net(kind: type, **options: Any) -> Any:
    plain: dict[str, Any] = dict(max_epochs=3, lr=0.1, batch_size=16, verbose=0, random_state=0)
    outs = 2 if kind is AdditiveClassifier else 1
    return kind(rnam.NAM, **{"module__terms": 2, "module__hidden": (8,), "module__out_dim": outs, **plain, **options})


# labels


LABELS = {
    "0 and 1": np.array([0, 1]),
    "1 and 2": np.array([1, 2]),
    "-1 and 1": np.array([-1, 1]),
    "floats": np.array([0.0, 1.0]),
    "bools": np.array([False, True]),
    "words": np.array(["benign", "malignant"]),
    "objects": np.array(["benign", "malignant"], object),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", [AdditiveBinaryClassifier, AdditiveClassifier])
def test_labels_of_any_kind_are_classes(kind: type, labels: str, data: Any) -> None:
    """The fit is that of 0 and 1; the answers, and the scores on the way, are in the labels."""
    x, y = data
    numbers, own = (y > 0).astype(int), LABELS[labels]
    expected = _net(kind).fit(x, numbers)
    net = _net(kind).fit(x, own[numbers])
    assert np.array_equal(net.classes_, own)
    assert np.array_equal(net.predict_proba(x), expected.predict_proba(x))
    assert np.array_equal(net.predict(x), own[expected.predict(x)])
    assert net.score(x, own[numbers]) == expected.score(x, numbers) > 0.6
    assert net.history[:, "valid_acc"] == expected.history[:, "valid_acc"]
    again = pickle.loads(pickle.dumps(net))
    assert np.array_equal(again.predict(x), net.predict(x)) and np.array_equal(again.classes_, own)


@pytest.mark.parametrize("caching", [True, False])
def test_scores_of_callbacks_are_of_classes(caching: bool, data: Any) -> None:
    """Of labels whose numbers are other ones: all scores are those of 0 and 1."""
    x, y = data
    of_class_1 = make_scorer(average_precision_score, response_method="predict_proba", pos_label=1)
    names = ["accuracy", "roc_auc", "neg_log_loss", "f1_macro", "average_precision"]
    scorers = {name: name for name in names} | {"class 1": of_class_1}
    histories = []
    for labels in ([0, 1], [1, 2]):
        callbacks = [EpochScoring(s, name=name, use_caching=caching) for name, s in scorers.items()]
        net = _net(AdditiveBinaryClassifier, callbacks=callbacks, module__members=2, max_epochs=15)
        net.fit(x, np.array(labels)[(y > 0).astype(int)], resample=np.arange(ROWS))
        histories.append({name: net.history[:, name] for name in [*scorers, "valid_acc"]})
    assert histories[0] == histories[1]
    assert histories[1]["accuracy"] == histories[1]["valid_acc"] and histories[1]["accuracy"][-1] > 0.6


def test_words_go_through_scikit_learns_searches(data: Any) -> None:
    x, y = data
    words = np.where(y > 0, "yes", "no")
    for scoring in ("accuracy", "roc_auc", "neg_log_loss"):
        search = GridSearchCV(_net(AdditiveBinaryClassifier), {"lr": [0.1, 0.2]}, scoring=scoring, cv=2).fit(x, words)
        assert np.isfinite(search.best_score_)
    calibrated = CalibratedClassifierCV(_net(AdditiveBinaryClassifier), cv=2).fit(x, words)
    assert set(calibrated.predict(x)) <= {"yes", "no"}


def test_labels_of_pandas_are_what_they_are(data: Any) -> None:
    pandas = pytest.importorskip("pandas")
    x, y = data
    yes = pandas.Series(y > 0)
    for labels, classes in (
        (yes.astype("boolean"), [False, True]),
        (yes.astype("Int64"), [0, 1]),
        (yes.astype(int).astype(object), [0, 1]),
        (yes.map({True: "b", False: "a"}).astype("category"), ["a", "b"]),
        (yes.map({True: "b", False: "a"}), ["a", "b"]),
    ):
        net = _net(AdditiveBinaryClassifier).fit(x, labels)
        assert net.classes_.tolist() == classes and net.classes_.dtype == net.predict(x).dtype
        assert accuracy_score(np.array(labels.tolist()), net.predict(x)) > 0.6


def test_labels_that_are_no_classes_are_refused(data: Any) -> None:
    x, y = data
    several = np.arange(ROWS) % 3
    binary = _net(AdditiveBinaryClassifier)
    for labels, message in (
        (several, "Only binary classification is supported.* got 0, 1, 2"),
        (np.zeros(ROWS, int), "y must have two classes, got one class: 0"),
        (y, "Unknown label type: continuous"),
        (np.stack([several, several], 1), "y should be a 1d array"),
        (None, "AdditiveBinaryClassifier requires y to be passed"),
    ):
        with pytest.raises(ValueError, match=message):
            binary.fit(x, labels)
    net = _net(AdditiveClassifier, warm_start=True)
    with pytest.raises(ValueError, match=r"y must have 2 classes as the model has outputs, got 3: 0, 1, 2"):
        net.fit(x, several)
    assert net.fit(x, several > 0).classes_.tolist() == [False, True]
    with pytest.raises(ValueError, match="AdditiveRegressor requires y to be passed"):
        _net(AdditiveRegressor).fit(x, None)


def test_classes_that_y_lacks_are_given(data: Any) -> None:
    """In the constructor, or at the first of several parts."""
    x, y = data
    some = np.where(y > 0, "b", "a")
    with pytest.raises(ValueError, match=r"give all as classes=\[\.\.\.\]"):
        _net(AdditiveClassifier, module__out_dim=3).fit(x, some)
    net = _net(AdditiveClassifier, module__out_dim=3, classes=["c", "a", "b"]).fit(x, some)
    assert net.classes_.tolist() == ["a", "b", "c"] and net.predict_proba(x).shape == (ROWS, 3)
    assert clone(net).fit(x, some).classes_.tolist() == ["a", "b", "c"]
    parts = _net(AdditiveBinaryClassifier, train_split=None)
    for part, classes in ((y <= 0, ["a", "b"]), (y > 0, None)):
        parts.partial_fit(x[part], some[part], classes)
    assert parts.classes_.tolist() == ["a", "b"] and set(parts.predict(x)) <= {"a", "b"}
    with pytest.raises(ValueError, match="previously unseen labels"):
        parts.partial_fit(x, np.full(ROWS, "c"))
    assert parts.fit(x, np.where(y > 0, "d", "c")).classes_.tolist() == ["c", "d"]  # a fit begins anew


@pytest.mark.parametrize("kind", [AdditiveBinaryClassifier, AdditiveClassifier])
def test_labels_of_another_kind_than_those_of_the_fit_are_named(kind: type, data: Any) -> None:
    x, y = data
    for first, second, named in (
        ("0 and 1", "words", "'benign'"),
        ("words", "1 and 2", "1"),
        ("floats", "1 and 2", "2"),
    ):
        net = _net(kind, warm_start=True).fit(x, LABELS[first][(y > 0).astype(int)])
        for call in (net.fit, net.partial_fit):
            with pytest.raises(ValueError, match=rf"y contains previously unseen labels: \[.*{named}.* not among"):
                call(x, LABELS[second][(y > 0).astype(int)])
        assert net.fit(x, LABELS[first][(y > 0).astype(int)]).classes_.tolist() == LABELS[first].tolist()
    with pytest.raises(
        ValueError, match=r"unseen labels: \['benign', 'malignant'\] are not among the classes \[0, 1\]"
    ):
        _net(AdditiveClassifier, classes=[0, 1]).fit(x, LABELS["words"][(y > 0).astype(int)])
    mixed = np.where(y > 0, "a", np.array([1] * ROWS, object))
    with pytest.raises(TypeError, match="the labels y must be of one kind, numbers or words, got int, str"):
        _net(kind).fit(x, mixed)


# shapes


def test_the_prediction_of_one_target_has_one_dimension(data: Any) -> None:
    x, y = data
    for target in (y, y[:, None]):
        assert _net(AdditiveRegressor).fit(x, target).predict(x).shape == (ROWS,)
    net = _net(AdditiveRegressor)
    assert np.sqrt(np.mean((net.fit(x, y).predict(x) - y) ** 2)) < y.std()
    assert net.score(x, y) > 0
    both = _net(AdditiveRegressor, module__out_dim=2).fit(x, np.stack([y, -y], 1))
    assert both.predict(x).shape == (ROWS, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_that_overflows_is_a_warning(kind: type, data: Any) -> None:
    """One for each call, with the samples."""
    x, y = data
    net = _net(kind, module__hidden=(8, 8)).fit(x, y if kind is AdditiveRegressor else y > 0)
    with torch.no_grad():
        net.module_.get_parameter("networks.layers.0.weight").mul_(100)  # infinities, whose differences are NaN
    large = x.copy()
    large[[3, 5]] = 3e38
    for call in (net.predict, net.predict_proba):
        with pytest.warns(RuntimeWarning, match=r"NaN or infinite for 2 of 60 samples \(3, 5\)") as caught:
            call(large)
        assert len(caught) == 1
        assert_finite("prediction", net.predict_proba(x))
    with pytest.warns(RuntimeWarning, match=r"for 58 of 60 samples \(0, 1, 2, 4, 6, \.\.\.\)") as caught:
        net.predict(np.where(np.isin(np.arange(ROWS), [3, 5])[:, None], x, 3e38))
    assert caught[0].filename == __file__  # the call, and no line of the package


# random numbers


@pytest.mark.parametrize("kind", KINDS)
def test_two_fits_are_alike(kind: type, data: Any) -> None:
    """Parameters, order of the rows, dropout and bootstrap samples; torch's own numbers are left as they were."""
    x, y = data
    y = y if kind is AdditiveRegressor else y > 0
    options = {"module__dropout": 0.2, "module__members": 2, "iterator_train__shuffle": True}
    net = _net(kind, **options)
    ids = np.arange(ROWS) // 2
    before = torch.get_rng_state()
    net.fit(x, y, resample=ids)
    assert torch.equal(torch.get_rng_state(), before)
    first = net.predict_proba(x)
    torch.rand(7)
    assert np.array_equal(net.fit(x, y, resample=ids).predict_proba(x), first)
    assert np.array_equal(clone(net).fit(x, y, resample=ids).predict_proba(x), first)
    other = _net(kind, **options, **{"random_state": 1}).fit(x, y, resample=ids)
    assert not np.array_equal(other.predict_proba(x), first)


def _net_of(kind: type, seed: Any, **options: Any) -> Any:
    return _net(kind, **options).set_params(random_state=seed)


def test_without_a_random_state_torchs_numbers_go_on(data: Any) -> None:
    x, y = data
    net = _net_of(AdditiveRegressor, None)
    torch.manual_seed(0)
    first, second = (net.fit(x, y).predict(x) for _ in range(2))
    torch.manual_seed(0)
    assert np.array_equal(net.fit(x, y).predict(x), first) and not np.array_equal(first, second)


def test_parts_draw_on_and_whole_runs_are_alike(data: Any) -> None:
    x, y = data
    options = {"module__members": 2, "iterator_train__shuffle": True, "train_split": None, "max_epochs": 1}
    runs = []
    for _ in range(2):
        net, seen = _net(AdditiveRegressor, **options), []
        loss = net.get_loss
        net.get_loss = lambda *a, X, seen=seen, loss=loss, **k: seen.append(X["resample_weight"]) or loss(*a, X=X, **k)
        for _ in range(2):
            net.partial_fit(x, y, resample=np.arange(ROWS))
        runs.append((net.predict(x), torch.cat(seen)))
    assert np.array_equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    first, second = runs[0][1].split(ROWS)
    assert not torch.equal(first.sum(1).sort().values, second.sum(1).sort().values) or not torch.equal(first, second)


# groups


class Parts(Callback):  # type: ignore[misc]
    """The rows of both parts, by their first column."""

    def on_epoch_begin(self, net: Any, dataset_train: Any, dataset_valid: Any, **kwargs: Any) -> None:
        parts = [part for part in (dataset_train, dataset_valid) if part is not None]
        self.rows = [np.array([_row(part[n][0]) for n in range(len(part))]) for part in parts]


def _row(x: Any) -> int:
    return int((x["input"] if isinstance(x, dict) else x)[0])


def _numbered(x: np.ndarray) -> np.ndarray:
    return np.stack([np.arange(len(x)), x[:, 1]], 1)


SPLITS = {
    "default": {},
    "folds": {"train_split": ValidSplit(3)},
    "share": {"train_split": ValidSplit(0.3, random_state=0)},
    "splitter": {"train_split": ValidSplit(GroupShuffleSplit(1, test_size=0.5, random_state=0))},
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_of_a_group_are_in_one_part(kind: type, split: str, data: Any) -> None:
    x, y = data
    y = y if kind is AdditiveRegressor else np.where(y > 0, "b", "a")
    groups = np.array([f"person {n % 12}" for n in range(ROWS)])
    parts = Parts()
    net = _net(kind, callbacks=[parts], lr=0.0, max_epochs=1, **SPLITS[split])
    net.fit(_numbered(x), y, groups=groups)
    training, validation = (set(groups[rows]) for rows in parts.rows)
    assert training and validation and not training & validation and len(training | validation) == 12
    assert sorted(np.concatenate(parts.rows)) == list(range(ROWS))
    net.fit(SliceDict(input=_numbered(x)), y, groups=groups)
    assert not set(groups[parts.rows[0]]) & set(groups[parts.rows[1]])


def test_the_people_of_bootstrap_samples_are_groups(data: Any) -> None:
    x, y = data
    people, parts = np.arange(ROWS) % 12, Parts()
    net = _net(AdditiveRegressor, callbacks=[parts], lr=0.0, module__members=2)
    net.fit(_numbered(x), y, resample=people)
    assert not set(people[parts.rows[0]]) & set(people[parts.rows[1]])
    net.fit(_numbered(x), y, resample=people, groups=np.arange(ROWS) // 10)
    assert set(people[parts.rows[0]]) & set(people[parts.rows[1]])
    net.set_params(train_split=None).partial_fit(_numbered(x), y, groups=people)
    assert [len(rows) for rows in parts.rows] == [ROWS]


def test_groups_that_mean_nothing_are_refused(data: Any) -> None:
    x, y = data
    net = _net(AdditiveRegressor)
    for name, groups, message in (
        ("groups", np.arange(3), r"groups must have shape \(60,\), got \(3,\)"),
        ("groups", [None, *range(ROWS - 1)], "groups must have an id for each sample, got NaN or None in 1 of 60"),
        ("resample", np.where(np.arange(ROWS) < 2, np.nan, 1), "resample must have an id for each.* in 2 of 60"),
    ):
        with pytest.raises(ValueError, match=message):
            net.set_params(module__members=2).fit(x, y, **{name: groups})
    mixed = np.where(y > 0, "a", np.array([1] * ROWS, object))
    for name in ("groups", "resample"):
        with pytest.raises(TypeError, match=f"{name} must be of one kind, numbers or words, got int, str"):
            net.fit(x, y, **{name: mixed})


def test_a_split_of_ones_own_stays(data: Any) -> None:
    x, y = data
    valid = Dataset(x[:10].astype(np.float32), y[:10].astype(np.float32))
    net = _net(AdditiveRegressor, train_split=predefined_split(valid)).fit(x, y, sample_weight=np.ones(ROWS))
    error = np.mean((net.predict(x[:10]) - y[:10]) ** 2)
    assert net.history[-1, "valid_loss"] == pytest.approx(error, rel=1e-5)


def test_groups_and_weights_go_through_cross_validation(data: Any) -> None:
    x, y = data
    beside = {"sample_weight": np.ones(ROWS), "groups": np.arange(ROWS) // 3}
    assert np.isfinite(cross_val_score(_net(AdditiveRegressor), x, y, cv=3, params=beside)).all()


# saved nets


def test_a_checkpoint_of_a_callback_is_of_a_net_that_does_not_train(tmp_path: Path, data: Any) -> None:
    x, y = data
    saving = Checkpoint(dirname=str(tmp_path), f_pickle="net.pkl", monitor=None)
    words = np.where(y > 0, "b", "a")
    net = _net(AdditiveBinaryClassifier, callbacks=[saving]).fit(x, words)
    loaded = pickle.loads((tmp_path / "net.pkl").read_bytes())
    assert np.array_equal(loaded.predict(x), net.predict(x)) and accuracy_score(words, loaded.predict(x)) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_that_0_2_pickled_predicts(kind: type, data: Any) -> None:
    """It has none of the attributes that came later; a classifier then answers in the numbers of the classes."""
    x, y = data
    net = _net(kind).fit(x, y if kind is AdditiveRegressor else (y > 0).astype(int))
    expected, old = net.predict(x), copy.copy(net)
    later = ("random_state", "rng_", "label_encoder_", "n_features_in_", "mean_weight_", "batch_rows_")
    for name in later:
        vars(old).pop(name, None)
    again = pickle.loads(pickle.dumps(old))
    assert np.array_equal(again.predict(x), expected)
    assert again.get_params()["random_state"] is None and clone(again).random_state is None
