"""Tables that the estimators take: columns by name, missing values, and columns of every dtype."""

from __future__ import annotations

import datetime
import decimal
import warnings
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

pandas = pytest.importorskip("pandas")

ROWS, NAMES = 40, ["age", "bilirubin", "albumin"]
OPTIONS: dict[str, Any] = dict(max_epochs=1, verbose=0, random_state=0)


def _nam(kind: type = AdditiveRegressor, **options: Any) -> Any:
    return kind(rnam.NAM, **{"module__terms": 3, "module__hidden": (4,), **OPTIONS, **options})


def _rnam(**options: Any) -> Any:
    model = {"terms": 2, "hidden_dim": 4, "out_dim": 1, "blocks": 1, "columns": [[0], [1]]}
    return AdditiveRegressor(
        rnam.RNAM, **{f"module__{name}": value for name, value in model.items()}, **OPTIONS, **options
    )


@pytest.fixture
def frame() -> Any:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=ROWS), rng.integers(0, 9, ROWS), rng.integers(0, 2, ROWS)]
    return pandas.DataFrame(dict(zip(NAMES, values, strict=True)))


@pytest.fixture
def target(frame: Any) -> np.ndarray:
    return np.asarray(frame["age"] - frame["albumin"], np.float64)


# columns by name


def test_the_columns_are_known_by_name(frame: Any, target: np.ndarray) -> None:
    net = _nam().fit(frame, target)
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
        _nam().fit(frame.to_numpy(), target).predict(frame.to_numpy()[:, :2])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        net.predict(frame.to_numpy())


def test_a_second_fit_forgets_the_columns_of_the_first(frame: Any, target: np.ndarray) -> None:
    net = _nam().fit(frame, target)
    net.fit(frame[NAMES[::-1]], target)
    assert list(net.feature_names_in_) == NAMES[::-1]
    assert net.module_.description.names == tuple(NAMES[::-1])
    net.fit(frame.to_numpy(), target)
    assert not hasattr(net, "feature_names_in_")


@pytest.mark.parametrize("going_on", ["partial_fit", "warm_start"])
def test_a_model_goes_on_with_the_columns_that_it_knows(frame: Any, target: np.ndarray, going_on: str) -> None:
    net = _nam(warm_start=True).partial_fit(frame, target)
    again = net.fit if going_on == "warm_start" else net.partial_fit
    with pytest.raises(ValueError, match="same order"):
        again(frame[NAMES[::-1]], target)
    again(frame, target)


def test_a_fit_that_was_refused_teaches_no_columns(frame: Any, target: np.ndarray) -> None:
    net = _nam(warm_start=True)
    for X, y in ((frame.assign(albumin="a"), target), (frame[NAMES[::-1]], target[:3])):
        with pytest.raises(ValueError):
            net.fit(X, y, sample_weight=np.ones(ROWS))
        assert not hasattr(net, "feature_names_in_")
    assert list(net.fit(frame, target).feature_names_in_) == NAMES


def test_a_callback_that_predicts_the_training_arrays_is_no_warning(frame: Any, target: np.ndarray) -> None:
    """skorch gives it rows of the arrays that the frame became."""
    scoring = EpochScoring("r2", use_caching=False)
    net = _nam(callbacks=[scoring]).fit(frame, target)
    assert np.isfinite(net.history[-1, "r2"])


def test_every_column_is_read_by_a_term(frame: Any, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no term reads column 'albumin' of X"):
        _nam(module__terms=2).fit(frame, target)
    with pytest.raises(ValueError, match=r"no term reads column 2 of X"):
        _nam(module__terms=2).fit(frame.to_numpy(), target)
    with pytest.raises(ValueError, match="X must have at least 4 columns, since the terms read them, got 3"):
        _nam(module__terms=4).fit(frame, target)
    chosen = _nam(module__terms=1, module__columns=[[1]]).fit(frame, target)  # said, so meant
    assert np.ptp(chosen.predict(frame.assign(age=0.0)) - chosen.predict(frame)) == 0


def test_two_columns_of_one_name_are_refused(frame: Any, target: np.ndarray) -> None:
    twice = frame.set_axis(["age", "age", "albumin"], axis=1)
    with pytest.raises(ValueError, match="the columns of X must have different names, got 'age' 2 times"):
        _nam().fit(twice, target)


def test_the_names_flow_on_to_the_explanation(frame: Any, target: np.ndarray) -> None:
    net = _nam().fit(frame, target)
    given = torch.tensor(frame.to_numpy(), dtype=torch.float32)
    assert list(rnam.explain.contributions(net.module_, given, as_frame=True)) == NAMES
    pairs = _nam(module__terms=2, module__columns=[[0], [1, 2]]).fit(frame, target)
    assert pairs.module_.description.names == ("age", "bilirubin & albumin")
    classes = np.digitize(target, [-1, 0.5])
    several = _nam(AdditiveClassifier, module__out_dim=3, train_split=None).fit(
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
        net = _rnam().fit(wrap(x), y)
        assert net.n_features_in_ == 2
        assert net.predict(wrap(x[:, :3])).shape == (ROWS,)  # fewer steps
        with pytest.raises(ValueError, match="X has 3 features, but AdditiveRegressor is expecting 2"):
            net.predict(wrap(np.concatenate([x[..., :1], x], -1)))


def test_the_columns_of_static_values_are_known_by_name(frame: Any, target: np.ndarray) -> None:
    x = np.zeros((ROWS, 2, 2), np.float32)
    net = _rnam(module__static_columns=[[0], [1], [2]]).fit(SliceDict(input=x, static=frame), target)
    assert np.isfinite(net.predict(SliceDict(input=x, static=frame))).all()
    with pytest.raises(ValueError, match="same order"):
        net.predict(SliceDict(input=x, static=frame[NAMES[::-1]]))
    missing = frame.astype(float).mask(frame["age"] > 0.5)
    with pytest.raises(ValueError, match="column 'age' of static must be finite, got NaN"):
        net.predict(SliceDict(input=x, static=missing))
    learned = _rnam(module__static_columns=[[0], [1], [2]], module__missing=True)
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
        _nam().fit(form(holes), target)
    with pytest.raises(ValueError, match=message):
        _nam().fit(form(whole), target).predict(form(holes))


def test_a_number_that_the_model_cannot_hold_is_infinite_for_it(frame: Any, target: np.ndarray) -> None:
    """Those of float32 end at 3.4e38."""
    large = frame.astype(float)
    large.loc[3, "bilirubin"] = 1e39
    with pytest.raises(ValueError, match=r"column 'bilirubin' of X must be finite, got 1e\+39 in 1 of 40 samples"):
        _nam().fit(frame.astype(float), target).predict(large)
    assert np.isfinite(_nam(module__missing=True).fit(large, target).predict(large)).all()
    assert np.isfinite(_nam(module__dtype=torch.float64).fit(frame.astype(float), target).predict(large)).all()


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
    net = _nam(module__missing=True, max_epochs=2, lr=0.1).fit(holes, target)
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
        pipeline = make_pipeline(head, _nam(module__missing=True))
        assert np.isfinite(pipeline.fit(holes, target).predict(holes)).all()
    assert list(pipeline[-1].feature_names_in_) == NAMES
    scaled = make_column_transformer((StandardScaler(), NAMES[:2]), remainder="passthrough")
    scaled.set_output(transform="pandas")
    scores = cross_val_score(make_pipeline(scaled, _nam(module__missing=True)), holes, target, cv=3)
    assert np.isfinite(scores).all()
    assert _nam(module__missing=True).__sklearn_tags__().input_tags.allow_nan
    assert not _nam().__sklearn_tags__().input_tags.allow_nan and _rnam().__sklearn_tags__().input_tags.allow_nan


def test_gaps_in_sequences_are_masked() -> None:
    """With a mask and lengths of one's own, too, and without `missing=True`: a recurrent term waits for a value."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 6, 2)).astype(np.float32), rng.normal(size=ROWS)
    x[rng.random(x.shape) < 0.2] = np.nan
    mask, lengths = rng.random(x.shape) < 0.8, rng.integers(1, 7, ROWS)
    beside = {"mask": mask, "lengths": lengths}
    net = _rnam().fit(x, y)
    for given, seen in ((x, np.isfinite(x)), (SliceDict(input=x, **beside), np.isfinite(x) & mask)):
        more = {"lengths": torch.tensor(lengths)} if isinstance(given, SliceDict) else {}
        with torch.no_grad():
            expected = net.module_(torch.tensor(np.nan_to_num(x)), torch.tensor(seen), **more).prediction[:, 0]
        np.testing.assert_allclose(net.predict(given), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(_rnam().fit(SliceDict(input=x, **beside), y).predict(x)).all()
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
            _nam(kind).fit(frame, form)


def test_missing_targets_are_named(frame: Any, target: np.ndarray) -> None:
    y = pandas.DataFrame({"first": target, "second": np.where(target > 0, np.inf, target)})
    with pytest.raises(ValueError, match="column 'second' of y must be finite, got infinity in"):
        _nam(module__out_dim=2).fit(frame, y)
    words = np.where(target > 0, "yes", "no").astype(object)
    words[4] = None
    with pytest.raises(ValueError, match="y must have a label for each sample, got NaN or None in 1 of 40"):
        _nam(AdditiveBinaryClassifier).fit(frame, words)


def test_a_fit_that_diverges_is_no_fit(frame: Any, target: np.ndarray) -> None:
    """skorch's defaults on a target in its own unit: NaN after some epochs."""
    with pytest.raises(ValueError, match=r"the fit diverged: the module's .* holds NaN or infinity"):
        _nam(lr=10.0, max_epochs=20).fit(frame, 1e3 * target)


# columns of every dtype


def _forms(frame: Any) -> dict[str, Any]:
    arrow = {"n": frame["bilirubin"].map(decimal.Decimal)}
    return {
        "float, int, bool": frame.astype({"albumin": bool}),
        "nullable": frame.astype({"albumin": bool}).convert_dtypes(),
        "Float64, Int64": frame.astype({"age": "Float64", "bilirubin": "Int64", "albumin": "boolean"}),
        "float16 beside uint8": frame.assign(bilirubin=frame["bilirubin"].astype(np.float16)).astype(
            {"albumin": "uint8"}
        ),
        "objects": frame.astype(object),
        "decimals": frame.assign(bilirubin=arrow["n"]),
        "categories of numbers": frame.astype({"bilirubin": "category"}),
        "sparse": frame.astype({"albumin": pandas.SparseDtype(int, 0)}),
    }


@pytest.mark.parametrize("form", _forms(pandas.DataFrame({name: [] for name in NAMES})))
def test_columns_of_numbers_are_taken(frame: Any, target: np.ndarray, form: str) -> None:
    expected = _nam().fit(frame.astype(float), target).predict(frame.astype(float))
    given = _forms(frame)[form]
    assert np.array_equal(_nam().fit(given, target).predict(given), expected)


def test_arrays_lists_and_tensors_are_taken(frame: Any, target: np.ndarray) -> None:
    values = frame.to_numpy(float)
    expected = _nam().fit(values, target).predict(values)
    read_only = values.copy()
    read_only.flags.writeable = False
    for given in (values.astype(object), values.tolist(), torch.tensor(values), read_only, values[:, ::-1][:, ::-1]):
        assert np.array_equal(_nam().fit(given, target).predict(given), expected)


def test_columns_that_hold_no_numbers_are_refused_by_name(frame: Any, target: np.ndarray) -> None:
    dates = pandas.date_range("2020", periods=ROWS)
    for values, message in (
        (["m", "f"] * (ROWS // 2), "got 'm'"),
        (["1", "2"] * (ROWS // 2), "got '1'"),
        (pandas.Categorical(["m", "f"] * (ROWS // 2)), "got 'm'"),
        (dates, "got datetime64"),
        (dates.tz_localize("UTC"), "got datetime64"),
        (dates - dates[0], "got timedelta64"),
        (dates.to_period("D"), "not 'Period'"),
        ([datetime.date(2020, 1, 1)] * ROWS, "not 'datetime.date'"),
        ([1j] * ROWS, "complex"),
        ([{}] * ROWS, "not 'dict'"),
    ):
        given = frame.assign(bilirubin=values)
        for call in (_nam().fit, _nam(AdditiveBinaryClassifier).fit):
            with pytest.raises((TypeError, ValueError), match=f"column 'bilirubin' of X must hold numbers.*{message}"):
                call(given, (target > 0).astype(int))
        with pytest.raises((TypeError, ValueError), match="column 'bilirubin' of X must hold numbers"):
            _nam().fit(frame, target).predict(given)


class OtherFrame:
    """A frame as polars has them: as one array, its dates are numbers."""

    def __init__(self, frame: Any) -> None:
        self.frame, self.columns, self.shape = frame, list(frame), frame.shape

    def __getitem__(self, name: str) -> Any:
        return self.frame[name].to_numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.column_stack([np.asarray(self[name], np.float64) for name in self.columns])


def test_frames_of_other_libraries_are_read_by_column(frame: Any, target: np.ndarray) -> None:
    expected = _nam().fit(frame, target).predict(frame)
    assert np.array_equal(_nam().fit(OtherFrame(frame), target).predict(OtherFrame(frame)), expected)
    dates = frame.assign(bilirubin=pandas.date_range("2020", periods=ROWS))
    with pytest.raises(ValueError, match="column 'bilirubin' of X must hold numbers, got datetime64"):
        _nam().fit(OtherFrame(dates), target)


def test_arrays_that_hold_no_numbers_are_refused_by_column(frame: Any, target: np.ndarray) -> None:
    for given, message in (
        (frame.astype(str).to_numpy(), "column 0 of X must hold numbers, got '0.1"),
        (frame.to_numpy().astype(str), "column 0 of X must hold numbers, got '0.1"),
        (frame.assign(albumin="a").to_numpy(object), "column 2 of X must hold numbers, got 'a'"),
        (np.full((ROWS, 3), np.datetime64("2020")), "column 0 of X must hold numbers, got datetime64"),
        (np.ones((ROWS, 3), complex), "Complex data not supported"),
        (np.ones(ROWS), "Expected 2D array, got 1D array instead"),
        (np.ones((ROWS, 0)), "0 feature"),
        (np.ones((0, 3)), "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            _nam().fit(given, target[: len(given)])


def test_targets_of_every_dtype(frame: Any, target: np.ndarray) -> None:
    expected = _nam().fit(frame, target).predict(frame)
    series = pandas.Series(target, index=[f"row {n}" for n in range(ROWS)])
    for y in (series, series.astype("Float64"), series.astype(object), series.to_frame("y"), target.tolist()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(_nam().fit(frame, y).predict(frame), expected)
    with pytest.raises(ValueError, match="y must hold numbers, got 'low'"):
        _nam().fit(frame, np.array(["low", "high"] * (ROWS // 2), object))
