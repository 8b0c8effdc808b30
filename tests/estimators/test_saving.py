"""A model that was saved and loaded is the same model: numbers to the bit, parameters, columns, and the same files."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pandas = pytest.importorskip("pandas")
for needed in ("safetensors", "skorch"):
    pytest.importorskip(needed)

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

import rnam  # noqa: E402
from rnam.estimators import folder  # noqa: E402
from rnam.estimators.folder import CONFIG, WEIGHTS  # noqa: E402
from tests.estimators import kept  # noqa: E402
from tests.panel.support import people, people_panel, series  # noqa: E402
from tests.support.assertions import assert_equal, assert_within  # noqa: E402

QUICK: dict[str, Any] = dict(max_epochs=1, random_state=0, verbose=0)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def table(n: int = 60) -> Any:
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"age": rng.normal(50, 9, n), "ward": rng.choice(["a", "b"], n), "old": rng.random(n) < 0.5}
    )
    frame.loc[3, "age"] = np.nan
    return frame


def dated_panel() -> Any:
    """Dates in a zone, a number as a name, numbers as levels, a period, a title, a unit."""
    frame = people().rename(columns={"x": 7})
    start = pandas.Timestamp("2020-03-01", tz="Europe/Berlin")
    frame["day"] = start + pandas.to_timedelta(frame["day"], unit="D")
    frame["hour"] = np.arange(len(frame)) % 24
    frame["kind"] = frame["kind"].map({"u": 2, "v": 3, "w": 5})
    return rnam.Panel.from_frame(
        frame, id="person", time="day", values=[7], categories=["kind"], cyclic={"hour": 24}, memoryless=["hour"],
        static=["sex"], target="label", at="visit", units={7: "mg"}, titles={7: "Seven"},
    )  # fmt: skip


def windows() -> Any:
    roles = dict(group="origin", time="ts", values=["temp"], cyclic={"hour": 24.0}, target="temp", window=4, horizon=2)
    return rnam.Panel.from_series(series(), **roles)


def visits_at_steps() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20, 4, 2))
    X[3, 2:] = np.nan
    return X, np.where(np.isnan(X[:, :, 0]), np.nan, X.sum(2))


def with_outcomes() -> tuple[Any, Any]:
    """A time and an event of each person."""
    outcomes = [(n % 3 > 0, 1.0 + n / 2) for n in range(12)]
    return people_panel("id", target=None), np.array(outcomes, [("died", bool), ("time", float)])


def rows_of(classes: Any) -> tuple[Any, Any]:
    frame = table()
    return frame, np.asarray(classes)[(frame["old"] ^ (frame["ward"] == "b")).astype(int)]


# a name: the estimator, and X and y (y None takes the panel's target)
FITS: dict[str, tuple[Any, Callable[[], tuple[Any, Any]]]] = {
    "visits": (rnam.RNAMClassifier(2, pairs=[("x", "sex")], timing=True, **QUICK), lambda: (people_panel(), None)),
    "dates": (
        rnam.RNAMClassifier(3, members=2, cell="minlstm", class_weight={0.0: 1, 1.0: np.float64(2)}, **QUICK),
        lambda: (dated_panel(), None),
    ),
    "ids": (
        rnam.RNAMRegressor(2, loss="huber", learning_rate=np.float64(0.01), **QUICK),
        lambda: (people_panel("id", target=None), range(12)),
    ),
    "windows": (rnam.RNAMRegressor(2, continuous=False, timescales=(1.0, 4.0), **QUICK), lambda: (windows(), None)),
    "steps": (rnam.RNAMRegressor(2, loss="quantile", quantiles=(0.1, 0.9), **QUICK), visits_at_steps),
    "half": (rnam.RNAMRegressor(2, precision="bf16", **QUICK), lambda: (visits_at_steps()[0], np.arange(20.0))),
    "survival": (rnam.RNAMSurvival(2, origin="visit", times=(2.0, 3.0), bins=3, **QUICK), with_outcomes),
    "horizons": (rnam.RNAMSurvival(2, origin="visit", times=2.0, method="ipcw", **QUICK), with_outcomes),
    "words": (rnam.NAMClassifier((4, 2), pairs=1, **QUICK), lambda: rows_of(["no", "yes"])),
    "bools": (rnam.NAMClassifier([4], **QUICK), lambda: rows_of([False, True])),
    "numbers": (rnam.NAMClassifier(np.array([4, 2]).tolist(), **QUICK), lambda: rows_of([3, 9])),
    "days": (rnam.NAMClassifier((4,), **QUICK), lambda: rows_of(np.array(["2020-01-01", "2021-01-01"], "M8[D]"))),
    "targets": (
        rnam.NAMRegressor((4,), loss="gaussian", regularizer={"concurvity": np.float32(0.1)}, **QUICK),
        lambda: (table(), pandas.DataFrame({"a": np.arange(60.0), 3: np.arange(60) % 5})),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=FITS)
def fitted(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    estimator, data = FITS[request.param]
    X, y = data()
    torch.manual_seed(0)
    return clone(estimator).fit(X, y), X, y


@pytest.fixture(scope="module")
def small() -> Any:
    """One that tests may change, as `pickle.loads(small)`."""
    X, y = rows_of(["no", "yes"])
    return pickle.dumps(rnam.NAMClassifier((2,), **QUICK).fit(X, y))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.rnam"


def answers(model: Any, X: Any) -> dict[str, Any]:
    names = ("predict", "predict_proba", "decision_function", "contributions", "predict_survival")
    return {name: getattr(model, name)(X) for name in names if hasattr(model, name)}


def same(a: Any, b: Any) -> None:
    """To the bit, with the same index and dtype."""
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, strict=True)
    elif a.ndim == 1:
        pandas.testing.assert_series_equal(a, b, check_exact=True)
    else:
        pandas.testing.assert_frame_equal(a, b, check_exact=True)


def files(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def test_a_loaded_estimator_is_the_same(fitted: tuple[Any, Any, Any], path: Path, tmp_path: Path) -> None:
    model, X, _ = fitted
    model.save(str(path))
    loaded = rnam.load(str(path))
    assert type(loaded) is type(model)
    assert loaded.get_params().keys() == model.get_params().keys()
    assert repr(loaded.get_params()) == repr(model.get_params())
    assert set(vars(loaded)) == set(vars(model))
    assert repr(loaded.history_) == repr(model.history_)
    assert loaded.encoder_ == model.encoder_ and loaded.loss_ == model.loss_
    assert not loaded.model_.training
    for name, answer in answers(model, X).items():
        same(getattr(loaded, name)(X), answer)
    loaded.save(tmp_path / "again")
    assert files(tmp_path / "again") == files(path)


def test_a_loaded_estimator_reads_tables_as_before(fitted: tuple[Any, Any, Any], path: Path) -> None:
    """Its schema is that of the training panel: columns, levels, dtypes and clock, without ids."""
    model, X, _ = fitted
    model.save(path)
    loaded = rnam.load(path)
    mine, theirs = loaded.schema_, model.schema_
    assert mine.schema == theirs.schema and repr(mine) == repr(theirs) and len(mine) == 0
    assert [column.dtype for _, column in mine.schema.columns()] == [c.dtype for _, c in theirs.schema.columns()]
    assert mine.schema.clock.dtype == theirs.schema.clock.dtype and mine.schema.order == theirs.schema.order
    if isinstance(X, rnam.Panel) and len(X.schema.id) == 1:
        frame = X.to_frame()
        again = rnam.Panel.from_frame(frame, like=mine)
        same(loaded.predict(again), model.predict(X))
        same(loaded.predict(frame), model.predict(X))


def test_a_loaded_estimator_can_be_cloned_fitted_and_fitted_further(fitted: tuple[Any, Any, Any], path: Path) -> None:
    model, X, y = fitted
    model.save(path)
    loaded = rnam.load(path)
    again = clone(loaded)
    assert not hasattr(again, "model_")
    same(again.fit(X, y).predict(X), model.predict(X))
    further = pickle.loads(pickle.dumps(model)).set_params(warm_start=True).fit(X, y)
    loaded.set_params(warm_start=True).fit(X, y)
    for name, value in further.model_.state_dict().items():
        assert_equal(name, loaded.model_.state_dict()[name], value)


def test_no_pickle_is_written_or_read(
    fitted: tuple[Any, Any, Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("save", "load"):
        monkeypatch.setattr(torch, name, refuse)
    fitted[0].save(path)
    rnam.load(path)


@pytest.mark.long
def test_another_process_gives_the_same_numbers(small: bytes, path: Path) -> None:
    model = pickle.loads(small)
    model.save(path)
    X = table()
    X.to_json(path.parent / "X.json")
    program = (
        "import sys, pandas, rnam\n"
        "found = rnam.load(sys.argv[1]).decision_function(pandas.read_json(sys.argv[2]))\n"
        "print(found.tobytes().hex())"
    )
    command = [sys.executable, "-c", program, str(path), str(path.parent / "X.json")]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert bytes.fromhex(out.stdout.strip()) == model.decision_function(X).tobytes()


# models alone

MODELS: dict[str, Callable[..., Any]] = {
    "rnam": lambda dtype: rnam.RNAM(3, 4, 2, 2, in_dim=2, dtype=dtype),
    "everything": lambda dtype: rnam.RNAM(
        3, 4, 2, 2, columns=[[0], [1, 2], [0, 3]], missing=True, timing=True, continuous=True, time_unit=2.0,
        timescales=(1, 60), memoryless_columns=[[4]], static_columns=[[0, 1]], members=3, cell="minlstm", dtype=dtype,
    ),
    "nam": lambda dtype: rnam.NAM(3, (4,), 2, "silu", 0.5, missing=True, members=2, dtype=dtype),
}  # fmt: skip


def call(name: str, model: Any, dtype: torch.dtype) -> Any:
    torch.manual_seed(1)
    if name == "rnam":
        return model(torch.randn(3, 5, 6, 2, dtype=dtype), mask=torch.rand(3, 5, 6) > 0.3)
    if name == "nam":
        return model(torch.randn(5, 3, dtype=dtype), mask=torch.rand(5, 3) > 0.3)
    x, times, static = torch.randn(5, 6, 5), torch.rand(5, 6).cumsum(1), torch.randn(5, 2)
    return model(x.to(dtype), mask=torch.rand(5, 6, 5) > 0.3, times=times.to(dtype), static=static.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_alone_is_saved(name: str, dtype: torch.dtype, path: Path, tmp_path: Path) -> None:
    model = MODELS[name](dtype).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    sizes = model.sizes()
    rnam.explain.describe(model, [f"term {n} é" for n in range(sizes.terms)], ["mg"] * sizes.terms)
    rnam.save(model, path)
    state = torch.get_rng_state()
    loaded = rnam.load(path)
    assert torch.equal(torch.get_rng_state(), state)  # and nothing was drawn
    assert type(loaded) is type(model) and not loaded.training
    assert loaded.description.names == model.description.names and loaded.description.units == model.description.units
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert_equal(key, loaded.state_dict()[key], value)
    flags = [{key: p.requires_grad for key, p in m.named_parameters()} for m in (loaded, model)]
    assert flags[0] == flags[1]
    told = call(name, loaded, dtype), call(name, model, dtype)
    assert_equal("prediction", told[0].prediction, told[1].prediction)
    assert_equal("contributions", told[0].contributions, told[1].contributions)
    rnam.save(loaded, tmp_path / "again")
    assert files(tmp_path / "again") == files(path)


def test_parameters_lie_in_memory_of_their_own(path: Path) -> None:
    rnam.save(rnam.NAM(3), path)
    loaded = rnam.load(path)
    assert len({p.untyped_storage().data_ptr() for p in loaded.parameters()}) == len(list(loaded.parameters()))
    for name, parameter in loaded.named_parameters():
        storage = parameter.untyped_storage()
        assert storage.nbytes() == parameter.nbytes and storage.resizable(), (
            name
        )  # torch's, not that of the file's bytes


# what is refused at save: nothing is written then


def refused(path: Path, error: Any, told: str, model: Any, **options: Any) -> None:
    with pytest.raises(error, match=told):
        rnam.save(model, path, **options)
    assert not path.exists()


def double(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (prediction - target).square().flatten()


def test_a_parameter_that_is_code_is_refused_by_its_name(small: bytes, path: Path) -> None:
    model = pickle.loads(small).set_params(callbacks=[print])
    refused(path, TypeError, r"callbacks\[0\] .* got print, which is code; set_params\(callbacks=None\) before", model)
    model.set_params(callbacks=None).save(path)
    assert rnam.load(path).callbacks is None


def test_a_state_of_random_numbers_is_refused(small: bytes, path: Path) -> None:
    model = pickle.loads(small).set_params(random_state=np.random.RandomState(0))
    refused(path, TypeError, r"random_state must be a plain value to be saved, got numpy.random.*RandomState", model)


def test_a_criterion_of_ones_own_is_left_out_where_that_is_asked(path: Path) -> None:
    X = table()
    model = rnam.NAMRegressor((2,), loss=double, **QUICK).fit(X, np.arange(60.0))
    refused(path, TypeError, r"loss must be a plain value to be saved, got double, which is code", model)
    model.set_params(loss=None).save(path)
    loaded = rnam.load(path)
    same(loaded.predict(X), model.predict(X))
    with pytest.raises(TypeError, match="loss must be a str or a callable, got NoneType"):
        loaded.fit(X, np.arange(60.0))


def test_an_estimator_without_a_model_is_refused(path: Path) -> None:
    refused(path, NotFittedError, "not fitted", rnam.NAMClassifier())


class Own(rnam.NAM):
    pass


class OwnClassifier(rnam.NAMClassifier):
    pass


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (LinearRegression(), "model must be one of RNAMClassifier, .* RNAM, NAM, got sklearn.*LinearRegression"),
        (OwnClassifier(), "model must be one of .* got .*OwnClassifier"),
        (Own(2), "model must be one of RNAM, NAM, got .*Own"),
        (nn.Linear(2, 2), "model must be one of RNAM, NAM, got torch.*Linear"),
        (None, "model must be one of .* got builtins.NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_classes_are_refused(model: Any, told: str, path: Path) -> None:
    refused(path, TypeError, told, model)


def test_a_module_of_ones_own_is_refused(path: Path) -> None:
    model = rnam.NAM(2)
    model.networks.layers[1] = nn.Identity()
    refused(path, TypeError, "must have the modules that NAM makes, got", model)
    model = rnam.RNAM(2, 4, 1, 2)
    model.blocks[1].ff[0] = nn.Identity()
    refused(path, TypeError, r"must have the modules that RNAM makes, got Identity at blocks.1.ff.0", model)
    model.blocks[0] = nn.Identity()
    refused(path, TypeError, "must have the modules that RNAM makes, got another", model)


def test_parameters_of_two_dtypes_are_refused(path: Path) -> None:
    model = rnam.RNAM(2, 4, 1, 1)
    model.emb.half()
    refused(path, TypeError, r"emb.weight must be float32 \(2, 1, 4\), got float16 \(2, 1, 4\)", model)


def test_an_attribute_that_no_class_names_is_refused(small: bytes, path: Path) -> None:
    model = pickle.loads(small)
    model.more_ = 1
    refused(path, TypeError, "must have the attributes of its class, got more_", model)


def test_data_are_never_saved(small: bytes, path: Path) -> None:
    model = pickle.loads(small)
    model.schema_ = people_panel()
    refused(path, TypeError, "must be one without ids to be saved", model)


def test_overwrite_must_be_a_bool_and_is_asked_for(small: bytes, path: Path) -> None:
    model = pickle.loads(small)
    refused(path, TypeError, "overwrite", model, overwrite="yes")
    model.save(path)
    with pytest.raises(FileExistsError, match=f"{path} must be a new or an empty folder"):
        model.save(path)
    model.set_params(verbose=3).save(path, overwrite=True)
    assert rnam.load(path).verbose == 3


def test_files_and_folders_in_the_wrong_place_are_said(small: bytes, path: Path) -> None:
    model = pickle.loads(small)
    path.mkdir()
    (path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=f"^{path / 'file'} must be a folder, in which x is made, got a file"):
        model.save(path / "file" / "x")
    for name, got in ((CONFIG, "folder"), (WEIGHTS, "folder"), (".rnam-new", "file")):
        place = path / name
        place.mkdir() if got == "folder" else place.write_text("")
        told = f"^{path} must be a folder of a model, got one in which {name} is a {got}"
        with pytest.raises(FileExistsError, match=told):
            model.save(path, overwrite=True)
        assert {each.name for each in path.iterdir()} == {"file", name}
        place.rmdir() if got == "folder" else place.unlink()
    (path / CONFIG).mkdir()
    with pytest.raises(IsADirectoryError, match=f"^{path / CONFIG} must be a file, got a folder"):
        rnam.load(path)


# what is refused at load


def forged(path: Path, **changes: Any) -> Path:
    """A file whose checksums fit: as another version of the package may write it."""
    config, tensors = folder.read(path)
    for name, value in changes.items():
        part, _, key = name.partition("__")
        config[part] = {**config[part], key: value} if key else value
    folder.write(path, config, tensors, "0.2.0", overwrite=True)
    return path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class": "RNAMForecaster"}, "the class 'RNAMForecaster'"),
        ({"class": "Panel"}, "the class 'Panel'"),
        ({"class": "NAM"}, None),
        ({"class": "RNAM"}, "a RNAM must have the model of its class"),
        ({"parameters": {"depth": 3}}, "depth"),
        ({"parameters__hidden": {"$set": [1]}}, r"hidden must have a tag that is known, got \$set"),
        ({"fitted__more_": 3}, "the attribute 'more_', which NAMClassifier has not"),
        ({"fitted__encoder_": {"$Encoder": {"terms": []}}}, r"encoder_ must be a \$Encoder"),
        ({"model": {"class": "NAM", "dtype": "int8", "arguments": {}}}, "a network of class 'NAM' and dtype 'int8'"),
        ({"model": {"class": "Own", "dtype": "float32", "arguments": {}}}, "a network of class 'Own'"),
        ({"fitted": {}}, "encoder_ must be Encoder, got NoneType"),
        ({"fitted__loss_": 3}, "loss_ must be Loss, got int"),
        (
            {"class": "RNAMClassifier", "parameters": {}},
            "the network must be RNAM of 3 terms and 1 outputs, got NAM of 3 terms and 1 outputs",
        ),
        ({"fitted": [1]}, "no attribute 'items'"),
        ({"parameters": 3}, "no attribute 'items'"),
        ({"model__arguments": {"terms": 1, "out_dim": 10**30}}, ""),
        ({"model": {}}, "no 'class'"),
        ({"model__arguments": {"terms": 3, "width": 2}}, "unexpected keyword argument 'width'"),
        ({"model__arguments": {"terms": 3, "hidden": [5]}}, r"layers.0.weight must be float32 \(3, 1, 5\), got"),
        ({"model__arguments": {"terms": -1}}, "terms must be at least 1, got -1"),
        ({"model__arguments": {"terms": 10**12}}, "arguments of 1,000,000,000,000 networks, where the weights are of"),
        ({"model__arguments": {"terms": 3, "members": 10**12}}, "arguments of 3,000,000,000,000 networks"),
        ({"model": {"class": "RNAM", "dtype": "float32", "arguments": {"terms": 10**12}}}, "1,.* networks"),
        ({"model": {"class": "NAM", "dtype": "float32", "arguments": {"static_columns": 3}}}, "has no len"),
        ({"model": {"class": "RNAM", "dtype": "float32", "arguments": {"blocks": 10**9}}}, "1,000,000,000 blocks"),
        ({"fitted__classes_": {"$array": ["<U500000000", [1], ["a"]]}}, "at most 268,435,456 bytes, got 2,000,000,000"),
    ],
)  # fmt: skip
def test_what_this_version_cannot_read_is_refused(
    changes: dict[str, Any], told: str | None, small: bytes, path: Path
) -> None:
    pickle.loads(small).save(path)
    forged(path, **changes)
    if told is None:
        assert type(rnam.load(path)) is rnam.NAM
        return
    with pytest.raises(ValueError, match=f"{path} must be a model of rnam .* or before, got one with .*{told}"):
        rnam.load(path)


def test_a_folder_of_another_program_is_refused(path: Path) -> None:
    path.mkdir()
    (path / CONFIG).write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (path / WEIGHTS).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{path / CONFIG} must be of format 'rnam.model', got another program's file"):
        rnam.load(path)


def test_one_reads_while_another_writes(small: bytes, path: Path) -> None:
    """A reader finds one of the models, or is told that the two files do not belong together."""
    models = [pickle.loads(small).set_params(verbose=n) for n in range(2)]
    nn.init.constant_(models[1].model_.gam.bias, 7.0)
    models[0].save(path)
    done = threading.Event()

    def write() -> None:
        for n in range(8):
            models[n % 2].save(path, overwrite=True)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    found, told = [], []
    while not done.is_set():
        try:
            found.append(rnam.load(path))
        except ValueError as error:
            told.append(str(error))
    writer.join()
    assert found and [each for each in told if "that was changed or is of another model" not in each] == []
    assert {(model.verbose, model.model_.gam.bias.item() == 7) for model in found} <= {(0, False), (1, True)}


# what was kept


@pytest.mark.parametrize("version", range(1, folder.VERSION + 1))
@pytest.mark.parametrize("name", kept.KEPT)
def test_models_of_every_version_are_read(name: str, version: int, path: Path) -> None:
    place = kept.FILES / f"version-{version}"
    model = rnam.load(place / name)
    _, answer, bound = kept.KEPT[name]
    expected = np.array(json.loads((place / "answers.json").read_text())[name])
    assert_within(name, torch.from_numpy(np.array(answer(model))), torch.from_numpy(expected), bound)
    if version == folder.VERSION:
        rnam.save(rnam.load(place / name), path)
        config = [json.loads((each / CONFIG).read_text()) for each in (path, place / name)]
        for each in config:
            each.pop("rnam"), each.pop("check")  # a later rnam has another version
        if "parameters" in config[1]:  # those that came later have their defaults
            config[1]["parameters"] = {"bootstrap": True} | config[1]["parameters"]
        assert config[0] == config[1]
        assert (path / WEIGHTS).read_bytes() == (place / name / WEIGHTS).read_bytes()


def test_a_kept_model_knows_its_columns() -> None:
    model = rnam.load(kept.FILES / "version-1" / "visits.rnam")
    assert [term.name for term in model.encoder_.terms] == [*model.model_.description.names]
    assert model.encoder_.terms[0].title == "Bilirubin" and model.encoder_.terms[0].unit == "mg/dl"
    assert model.classes_.tolist() == ["ill", "well"]
    assert model.schema_.schema.clock == kept.panel().schema.clock
    assert model.pairs == [("bili", "ward")]
