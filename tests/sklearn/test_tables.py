"""Tables that the estimators take: columns by name and missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring
from skorch.helper import SliceDict
from torch import Tensor, nn

import rnam
from rnam.sklearn import AdditiveBinaryClassifier, AdditiveClassifier, AdditiveRegressor
from tests.support.assertions import assert_equal, assert_finite
from tests.support.estimators import NAMES, OPTIONS, ROWS, nam, recurrent

pandas = pytest.importorskip("pandas")


# columns by name


def test_the_columns_are_known_by_name(frame: Any, target: np.ndarray) -> None:
    net = nam().fit(frame, target)
    assert net.n_features_in_ == 3 and list(net.feature_names_in_) == NAMES
    for other, message in (
        (frame[NAMES[::-1]], "must be in the same order as they were in fit"),
        (frame[NAMES[:2]], "seen at fit time, yet now missing:\n- albumin"),
        (frame.assign(id=1), "unseen at fit time:\n- id"),
    ):
        for call in (net.predict, net.forward, lambda X: net.score(X, target)):
            with pytest.raises(ValueError, match=message):
                call(other)
    with pytest.raises(ValueError, match="X has 2 features, but AdditiveRegressor is expecting 3"):
        nam().fit(frame.to_numpy(), target).predict(frame.to_numpy()[:, :2])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        net.predict(frame.to_numpy())


def test_a_second_fit_forgets_the_columns_of_the_first(frame: Any, target: np.ndarray) -> None:
    net = nam().fit(frame, target)
    net.fit(frame[NAMES[::-1]], target)
    assert list(net.feature_names_in_) == NAMES[::-1]
    assert net.module_.description.names == tuple(NAMES[::-1])
    net.fit(frame.to_numpy(), target)
    assert not hasattr(net, "feature_names_in_")


@pytest.mark.parametrize("going_on", ["partial_fit", "warm_start"])
def test_a_model_goes_on_with_the_columns_that_it_knows(frame: Any, target: np.ndarray, going_on: str) -> None:
    net = nam(warm_start=True).partial_fit(frame, target)
    again = net.fit if going_on == "warm_start" else net.partial_fit
    with pytest.raises(ValueError, match="same order"):
        again(frame[NAMES[::-1]], target)
    again(frame, target)


def test_a_fit_that_was_refused_teaches_no_columns(frame: Any, target: np.ndarray) -> None:
    net = nam(warm_start=True)
    for X, y in ((frame.assign(albumin="a"), target), (frame[NAMES[::-1]], target[:3])):
        with pytest.raises(ValueError):
            net.fit(X, y, sample_weight=np.ones(ROWS))
        assert not hasattr(net, "feature_names_in_")
    assert list(net.fit(frame, target).feature_names_in_) == NAMES


def test_a_callback_that_predicts_the_training_arrays_is_no_warning(frame: Any, target: np.ndarray) -> None:
    """skorch gives it rows of the arrays that the frame became."""
    scoring = EpochScoring("r2", use_caching=False)
    net = nam(callbacks=[scoring]).fit(frame, target)
    assert np.isfinite(net.history[-1, "r2"])


def test_every_column_is_read_by_a_term(frame: Any, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no term reads column 'albumin' of X"):
        nam(module__terms=2).fit(frame, target)
    with pytest.raises(ValueError, match=r"no term reads column 2 of X"):
        nam(module__terms=2).fit(frame.to_numpy(), target)
    with pytest.raises(ValueError, match="X must have at least 4 columns, since the terms read them, got 3"):
        nam(module__terms=4).fit(frame, target)
    chosen = nam(module__terms=1, module__columns=[[1]]).fit(frame, target)  # said, so meant
    assert np.ptp(chosen.predict(frame.assign(age=0.0)) - chosen.predict(frame)) == 0


def test_two_columns_of_one_name_are_refused(frame: Any, target: np.ndarray) -> None:
    twice = frame.set_axis(["age", "age", "albumin"], axis=1)
    with pytest.raises(ValueError, match="the columns of X must have different names, got 'age' 2 times"):
        nam().fit(twice, target)


def test_the_names_flow_on_to_the_explanation(frame: Any, target: np.ndarray) -> None:
    net = nam().fit(frame, target)
    given = torch.tensor(frame.to_numpy(), dtype=torch.float32)
    assert list(rnam.explain.contributions(net.module_, given, as_frame=True)) == NAMES
    pairs = nam(module__terms=2, module__columns=[[0], [1, 2]]).fit(frame, target)
    assert pairs.module_.description.names == ("age", "bilirubin & albumin")
    classes = np.digitize(target, [-1, 0.5])
    several = nam(AdditiveClassifier, module__out_dim=3, train_split=None).fit(
        frame, np.array(["low", "mid", "high"])[classes]
    )
    assert several.module_.description.outputs == ("high", "low", "mid")


def test_a_description_by_hand_stays(frame: Any, target: np.ndarray) -> None:
    model = rnam.explain.describe(rnam.NAM(3, (4,)), ["Age", "Bilirubin", "Albumin"], ["years", "mg/dl", "g/dl"])
    net = AdditiveRegressor(model, **OPTIONS).fit(frame, target)
    assert net.module_.description.units == ("years", "mg/dl", "g/dl")


def test_the_columns_of_sequences_are_counted() -> None:
    """They are the last dimension."""
    x, y = np.random.default_rng(0).normal(size=(ROWS, 5, 2)).astype(np.float32), np.arange(ROWS) / ROWS
    for wrap in (lambda values: values, lambda values: SliceDict(input=values)):
        net = recurrent().fit(wrap(x), y)
        assert net.n_features_in_ == 2
        assert net.predict(wrap(x[:, :3])).shape == (ROWS,)  # fewer steps
        with pytest.raises(ValueError, match="X has 3 features, but AdditiveRegressor is expecting 2"):
            net.predict(wrap(np.concatenate([x[..., :1], x], -1)))


def test_the_columns_of_static_values_are_known_by_name(frame: Any, target: np.ndarray) -> None:
    x = np.zeros((ROWS, 2, 2), np.float32)
    net = recurrent(module__static_columns=[[0], [1], [2]]).fit(SliceDict(input=x, static=frame), target)
    assert np.isfinite(net.predict(SliceDict(input=x, static=frame))).all()
    with pytest.raises(ValueError, match="same order"):
        net.predict(SliceDict(input=x, static=frame[NAMES[::-1]]))
    missing = frame.astype(float).mask(frame["age"] > 0.5)
    with pytest.raises(ValueError, match="column 'age' of static must be finite, got NaN"):
        net.predict(SliceDict(input=x, static=missing))
    learned = recurrent(module__static_columns=[[0], [1], [2]], module__missing=True)
    assert np.isfinite(
        learned.fit(SliceDict(input=x, static=missing), target).predict(SliceDict(input=x, static=missing))
    ).all()


# missing values


GAPS = {"NaN": np.nan, "infinity": -np.inf}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("as_frame", [False, True])
def test_a_model_that_cannot_mask_refuses_missing_values(
    frame: Any, target: np.ndarray, gap: str, as_frame: bool
) -> None:
    """In the fit and in a prediction, with the column and what to do."""
    whole = frame.astype(float)
    holes = whole.copy()
    holes.loc[[3, 5], "bilirubin"] = GAPS[gap]
    name = "'bilirubin'" if as_frame else "1"
    form = (lambda f: f) if as_frame else (lambda f: f.to_numpy())
    message = f"column {name} of X must be finite, got {gap} in 2 of 40 samples.*missing=True"
    with pytest.raises(ValueError, match=message):
        nam().fit(form(holes), target)
    with pytest.raises(ValueError, match=message):
        nam().fit(form(whole), target).predict(form(holes))


def test_a_number_that_the_model_cannot_hold_is_infinite_for_it(frame: Any, target: np.ndarray) -> None:
    """Those of float32 end at 3.4e38."""
    large = frame.astype(float)
    large.loc[3, "bilirubin"] = 1e39
    with pytest.raises(ValueError, match=r"column 'bilirubin' of X must be finite, got 1e\+39 in 1 of 40 samples"):
        nam().fit(frame.astype(float), target).predict(large)
    assert np.isfinite(nam(module__missing=True).fit(large, target).predict(large)).all()
    assert np.isfinite(nam(module__dtype=torch.float64).fit(frame.astype(float), target).predict(large)).all()
    with pytest.raises(ValueError, match=r"y must be finite, got 1e\+39 in 1 of 40 samples"):
        nam().fit(frame, np.where(np.arange(ROWS) == 3, 1e39, target))
    # the predictions of halves are float32
    assert nam(module__dtype=torch.float16).fit(frame, np.where(np.arange(ROWS) == 3, 7e4, target)).history


@pytest.mark.parametrize("model", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, object])
def test_infinity_is_no_number_in_any_dtype(frame: Any, target: np.ndarray, dtype: Any, model: Any) -> None:
    """Refused, or masked as NaN is."""
    values = frame.to_numpy(float).astype(dtype)
    plain = nam(module__dtype=model).fit(values, target)
    infinite, holes = values.copy(), values.copy()
    infinite[3, 1], holes[3, 1] = -np.inf, np.nan
    for call in (plain.predict, lambda X: nam(module__dtype=model).fit(X, target)):
        with pytest.raises(ValueError, match="column 1 of X must be finite, got infinity in 1 of 40 samples"):
            call(infinite)
    learned = nam(module__dtype=model, module__missing=True).fit(infinite, target)
    assert_finite("prediction", learned.predict(infinite))
    assert_equal("prediction", learned.predict(infinite), learned.predict(holes))
    x = np.zeros((ROWS, 2, 2), np.float32)
    static = recurrent(module__static_columns=[[0], [1], [2]], module__dtype=model)
    with pytest.raises(ValueError, match="column 1 of static must be finite, got infinity in 1 of 40 samples"):
        static.fit(SliceDict(input=x, static=infinite), target)
    with pytest.raises(ValueError, match="y must be finite, got infinity in 1 of 40 samples"):
        nam(module__dtype=model).fit(values, infinite[:, 1])
    with pytest.raises(ValueError, match="sample_weight must be finite, got NaN or infinity"):
        nam(module__dtype=model).fit(values, target, sample_weight=np.abs(infinite[:, 1]))


def _holes(frame: Any, kind: str) -> Any:
    """The frame with gaps in its second column."""
    if kind == "NA":
        return frame.astype("Float64").mask(frame.index.to_series() % 7 == 0)
    if kind == "None":
        return frame.astype(object).mask(frame.index.to_series() % 7 == 0, None)
    holes = frame.astype(float)
    holes.iloc[::7, 1] = np.inf if kind == "inf" else np.nan
    return holes.to_numpy() if kind == "array" else holes


@pytest.mark.parametrize("kind", ["NaN", "NA", "None", "inf", "array"])
def test_a_model_that_learned_what_missing_means_masks_it(frame: Any, target: np.ndarray, kind: str) -> None:
    """The prediction is that of the model where the mask says which values are there."""
    holes = _holes(frame, kind)
    net = nam(module__missing=True, max_epochs=2, lr=0.1).fit(holes, target)
    values = pandas.DataFrame(holes).astype("Float64").to_numpy(np.float64, na_value=np.nan)
    seen = np.isfinite(values)
    assert 0 < (~seen).sum() < seen.size
    with torch.no_grad():
        given = torch.tensor(np.where(seen, values, 0), dtype=torch.float32), torch.tensor(seen)
        expected = net.module_(*given).prediction[:, 0]
    np.testing.assert_allclose(net.predict(holes), expected, rtol=1e-5, atol=1e-6)
    assert net.module_.missing.detach().abs().max() > 0
    whole = net.predict(frame.astype(float) if kind != "array" else frame.to_numpy(float))
    assert np.isfinite(whole).all()


def test_the_mask_works_inside_a_pipeline(frame: Any, target: np.ndarray) -> None:
    holes = _holes(frame, "NA")
    for head in (StandardScaler(), StandardScaler().set_output(transform="pandas")):
        pipeline = make_pipeline(head, nam(module__missing=True))
        assert np.isfinite(pipeline.fit(holes, target).predict(holes)).all()
    assert list(pipeline[-1].feature_names_in_) == NAMES
    scaled = make_column_transformer((StandardScaler(), NAMES[:2]), remainder="passthrough")
    scaled.set_output(transform="pandas")
    scores = cross_val_score(make_pipeline(scaled, nam(module__missing=True)), holes, target, cv=3)
    assert np.isfinite(scores).all()
    assert nam(module__missing=True).__sklearn_tags__().input_tags.allow_nan
    assert not nam().__sklearn_tags__().input_tags.allow_nan and recurrent().__sklearn_tags__().input_tags.allow_nan


def test_gaps_in_sequences_are_masked() -> None:
    """With a mask and lengths of one's own, too, and without `missing=True`: a recurrent term waits for a value."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 6, 2)).astype(np.float32), rng.normal(size=ROWS)
    x[rng.random(x.shape) < 0.2] = np.nan
    mask, lengths = rng.random(x.shape) < 0.8, rng.integers(1, 7, ROWS)
    beside = {"mask": mask, "lengths": lengths}
    net = recurrent().fit(x, y)
    for given, seen in ((x, np.isfinite(x)), (SliceDict(input=x, **beside), np.isfinite(x) & mask)):
        more = {"lengths": torch.tensor(lengths)} if isinstance(given, SliceDict) else {}
        with torch.no_grad():
            expected = net.module_(torch.tensor(np.nan_to_num(x)), torch.tensor(seen), **more).prediction[:, 0]
        np.testing.assert_allclose(net.predict(given), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(recurrent().fit(SliceDict(input=x, **beside), y).predict(x)).all()
    with pytest.raises(ValueError, match=r"mask must have shape \(batch, seq, columns\)"):
        net.predict(SliceDict(input=x, mask=mask[:, 0]))


class OneMask(nn.Module):
    """A module that reads the mask in its own way, and one without it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = rnam.NAM(3, (4,))

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Any:
        return self.model(input) if mask is None else self.model(input.where(mask[:, None], 0))


def test_a_module_of_ones_own_reads_its_own_mask_or_has_no_gaps(frame: Any, target: np.ndarray) -> None:
    holes = frame.to_numpy(float)
    holes[::7] = np.nan
    mask = np.isfinite(holes).all(1)
    net = AdditiveRegressor(OneMask, **OPTIONS).fit(SliceDict(input=holes, mask=mask), target)
    assert np.isfinite(net.predict(SliceDict(input=holes, mask=mask))).all()
    with pytest.raises(ValueError, match=r"column 0 of X must be finite, got NaN in 6 of 40 samples$"):
        net.predict(holes)


@pytest.mark.parametrize("kind", [AdditiveRegressor, AdditiveBinaryClassifier])
def test_missing_targets_are_refused(kind: type, frame: Any, target: np.ndarray) -> None:
    y = np.where(np.arange(ROWS) % 9 == 0, np.nan, (target > 0).astype(float))
    for form in (y, pandas.Series(y), pandas.Series(y).astype("Float64"), y.astype(object)):
        with pytest.raises(ValueError, match="NaN"):
            nam(kind).fit(frame, form)


def test_missing_targets_are_named(frame: Any, target: np.ndarray) -> None:
    y = pandas.DataFrame({"first": target, "second": np.where(target > 0, np.inf, target)})
    with pytest.raises(ValueError, match="column 'second' of y must be finite, got infinity in"):
        nam(module__out_dim=2).fit(frame, y)
    words = np.where(target > 0, "yes", "no").astype(object)
    words[4] = None
    with pytest.raises(ValueError, match="y must have a label for each sample, got NaN or None in 1 of 40"):
        nam(AdditiveBinaryClassifier).fit(frame, words)


def test_a_fit_that_diverges_is_no_fit(frame: Any, target: np.ndarray) -> None:
    """skorch's defaults on a target in its own unit: NaN after some epochs."""
    with pytest.raises(ValueError, match=r"the fit diverged: the module's .* holds NaN or infinity"):
        nam(lr=10.0, max_epochs=20).fit(frame, 1e3 * target)
