"""Pieces of work are done once, kept at once, and give the same in one process and in several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("joblib")

from examples.finished import Finished
from examples.pieces import complete


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"number must be at least 0, got {number}")
    return number**2


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_kept_by_name(tmp_path: Path, jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    finished = Finished(tmp_path / "finished.json", {})
    complete(finished, {str(n): (square, (n,)) for n in range(4)}, jobs)
    assert {name: piece["result"] for name, piece in finished.done.items()} == {str(n): n**2 for n in range(4)}
    assert min(piece["cpu"] for piece in finished.done.values()) >= 0
    assert "Fitting: 100%" in capsys.readouterr().err
    assert Finished(tmp_path / "finished.json", {}).done == finished.done


def test_what_is_finished_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished = Finished(tmp_path / "finished.json", {})
    with pytest.raises(ValueError, match="got -1"):
        complete(finished, {"3": (square, (3,)), "wrong": (square, (-1,)), "4": (square, (4,))}, 1)
    assert list(json.loads((tmp_path / "finished.json").read_text())["done"]) == ["3"], "kept before the error"
    complete(finished, {"3": (square, (-1,)), "4": (square, (4,))}, 1)
    assert finished.done["3"]["result"] == 9
    assert finished.done["4"]["result"] == 16
    assert "1 of 2 are done" in capsys.readouterr().out
