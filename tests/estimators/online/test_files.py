"""States in files: what was saved goes on to the bit, and what is none of it is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import safetensors.torch
import torch

from rnam.estimators.online import Online, files, resume
from tests.estimators.online.support import fitted, inputs, people
from tests.support.assertions import assert_equal


@pytest.fixture(scope="module")
def model() -> Any:
    return fitted(timing=True, continuous=True)


def _halves() -> tuple[Any, Any]:
    df = inputs(people())
    return df[df["day"] < 30], df[df["day"] >= 30]


def test_a_stream_goes_on_to_the_bit(tmp_path: Path, model: Any) -> None:
    """In another process, where the model is a copy, also after ids were forgotten."""
    early, late = _halves()
    live = model.online()
    live.update(early)
    live.forget("p3")
    live.save(tmp_path / "states")
    other = resume(pickle.loads(pickle.dumps(model)), str(tmp_path / "states"))
    assert other.ids.equals(live.ids) and "p3" not in other
    answers = [each.update(late) for each in (live, other)]
    assert_equal("contributions", answers[1].contributions.to_numpy(), answers[0].contributions.to_numpy())
    with pytest.raises(ValueError, match=r"got person .p\d. at day \d+ after \d+"):
        other.update(late)
    with pytest.raises(ValueError, match="'age' must have one value for each person"):
        other.update({"person": "p1", "day": 100, "age": 3.0})


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path, model: Any) -> None:
    live, file = model.online(), tmp_path / "file"
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path} must be a file or nothing yet, got a folder"):
        live.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path / 'no'} must be a folder, in which x is made, got none"):
        live.save(tmp_path / "no" / "x")
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=f"^{file} must be a folder, in which x is made, got a file"):
        live.save(file / "x")
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path} must be a file that Online.save wrote, got a folder"):
        resume(model, tmp_path)
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path / 'no'} must be a file that Online.save wrote, got none"):
        resume(model, tmp_path / "no")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("ids", [[], ["a", 'quote " and é', ""], [1, -(2**62)], [1.5, "b"], [True, 7]])
def test_ids_come_back_in_their_kinds(ids: list[Any], tmp_path: Path, model: Any) -> None:
    live = model.online()
    for id in ids:
        live.update({"person": id, "day": 1, "bili": 2.0})
    live.save(tmp_path / "states")
    found = list(resume(model, tmp_path / "states"))
    assert found == ids and [*map(type, found)] == [*map(type, ids)]


def test_a_file_holds_tensors_and_json_alone(tmp_path: Path, model: Any) -> None:
    live = model.online()
    live.update(_halves()[0])
    live.save(tmp_path / "states")
    tensors = safetensors.torch.load_file(tmp_path / "states")
    assert json.loads(tensors["ids"].numpy().tobytes()) == live.ids.tolist()
    assert tensors["state.hidden.0"].shape[1] == tensors["times"].shape[0] == len(live)
    assert [each.name for each in tmp_path.iterdir()] == ["states"]


def test_ids_that_json_lacks_are_refused_and_the_file_stays(tmp_path: Path, model: Any) -> None:
    live, path = model.online(), tmp_path / "states"
    live.update({"person": "a", "day": 1})
    live.save(path)
    live.update({"person": pandas.Timestamp("2024"), "day": 1})
    with pytest.raises(TypeError, match="ids must be words, numbers or bools to be saved, got Timestamp"):
        live.save(path)
    assert list(resume(model, path)) == ["a"]


def test_another_model_is_refused(tmp_path: Path, model: Any) -> None:
    live = model.online()
    live.update(_halves()[0])
    live.save(tmp_path / "states")
    options = [dict(random_state=1, continuous=True), dict(continuous=False)]
    others = [fitted(timing=True, **each) for each in options]
    changed = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        changed.model_.blocks[0].gru.to_hidden_and_gate.weight[0, 0, 0] += 1e-6
    unit = pickle.loads(pickle.dumps(model))
    unit.model_.time_unit *= 2
    for other in [*others, changed, unit]:
        with pytest.raises(ValueError, match="states must hold the states of this model, got those of another one"):
            resume(other, tmp_path / "states")


def _rewrite(path: Path, tensors: dict[str, Any] | None = None, **changes: Any) -> None:
    with safetensors.safe_open(path, "pt") as file:
        told = json.loads(file.metadata()[files.FORMAT]) | changes
        held = {name: file.get_tensor(name) for name in file.keys()} | (tensors or {})  # noqa: SIM118
    held = {name: value for name, value in held.items() if value is not None}
    safetensors.torch.save_file(held, path, {files.FORMAT: json.dumps(told)})


def _saved(path: Path, model: Any) -> Online:
    live: Online = model.online()
    live.update(_halves()[0])
    live.save(path)
    return live


def test_what_was_changed_is_refused(tmp_path: Path, model: Any) -> None:
    path, rows = tmp_path / "states", len(_saved(tmp_path / "states", model))
    damages: list[dict[str, Any]] = [
        {"times": None},
        {"more": torch.zeros(1)},
        {"times": torch.zeros(rows, dtype=torch.float64)},
        {"state.contributions": torch.zeros(8, rows, 1)},
        {"ids": torch.from_numpy(np.frombuffer(json.dumps(["x"] * rows).encode(), np.uint8).copy())},
    ]
    for damage in damages:
        _saved(path, model)
        _rewrite(path, damage)
        with pytest.raises(ValueError, match="states must be as it was written, got a file that was changed"):
            resume(model, path)


def test_what_is_no_such_file_is_refused(tmp_path: Path, model: Any) -> None:
    path = tmp_path / "states"
    with pytest.raises(FileNotFoundError):
        resume(model, path)
    _saved(path, model)
    whole = path.read_bytes()
    for content in (b"", b"{}", whole[:1000], whole[:-1], pickle.dumps({"a": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"states must be a file that Online\.save wrote"):
            resume(model, path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"states must be a file that Online\.save wrote, got other tensors"):
        resume(model, path)
    _saved(path, model)
    _rewrite(path, version=2)
    with pytest.raises(ValueError, match="states must be of version 1, which this rnam reads, got 2"):
        resume(model, path)
