"""What is finished comes back to the last bit; a file that is damaged or of another run is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from examples.finished import CheckpointError, Finished

ABOUT = {"epochs": 3, "hidden": (4, 2), "torch": "2.13"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "finished.json"
    kept = Finished(path, ABOUT)
    kept.add("a", {"auc": 0.1 + 0.2, "seeds": [1, 2]})
    kept.add("b", float("nan"))
    return path


def test_results_come_back_to_the_last_bit(path: Path) -> None:
    again = Finished(path, ABOUT)
    assert again.done["a"] == {"auc": 0.1 + 0.2, "seeds": [1, 2]}
    assert again.done["b"] != again.done["b"], "NaN"
    again.add("c", 3)
    assert list(Finished(path, ABOUT).done) == ["a", "b", "c"]


def test_there_is_a_file_before_anything_is_finished(tmp_path: Path) -> None:
    Finished(tmp_path / "finished.json", ABOUT)
    assert Finished(tmp_path / "finished.json", ABOUT).done == {}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ABOUT | {"epochs": 4}, "epochs 3, now 4"),
        (ABOUT | {"epochs": 3.0}, "epochs 3, now 3.0"),
        (ABOUT | {"hidden": (4, 3)}, r"hidden \[4, 2\], now \[4, 3\]"),
        (ABOUT | {"more": 1}, "more None, now 1"),
        ({"epochs": 3}, "torch '2.13', now None"),
    ],
)
def test_another_run_is_refused_and_the_file_left(path: Path, other: dict, words: str) -> None:
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"made with other settings: .*{words}.*Delete it to start over"):
        Finished(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[1, 2]", "is not a file of an example's results"),
        (b'{"format": "another"}', "is not a file of an example's results"),
    ],
)
def test_other_files_are_refused(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        Finished(path, ABOUT)


def test_a_changed_result_is_found(path: Path) -> None:
    content = json.loads(path.read_text())
    content["done"]["a"]["auc"] = 0.9
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="its results are not those that were written"):
        Finished(path, ABOUT)


def test_a_full_disk_is_said_and_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    before, kept = path.read_bytes(), Finished(path, ABOUT)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        kept.add("c", 1)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["finished.json"]
