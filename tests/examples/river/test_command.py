"""The command line in a short form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnam
from examples import ebm
from examples.river import command, data, methods, rivals
from tests.examples.river.conftest import SHORT, TREES
from tests.support import command_line
from tests.support.assertions import assert_within

ROOT = Path(__file__).parents[3]


def test_it_writes_scores_models_and_a_picture(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert results["seeds"] == [0]
    assert results["settings"]["blocks"] == 3 and results["settings"]["spotpy"]
    assert list(results["scores"]) == [command.RNAM, command.MEMORYLESS, *rivals.FEW]
    for method, found in results["scores"].items():
        assert found["mean"]["cpu"] > 0, method
        assert 0.7 < found["mean"]["coverage"] <= 1, method
    assert results["scores"]["ridge on lags"]["mean"]["r2"] > 0.75
    assert results["forecast"] == {}
    assert {row["source"] for row in results["check"]} == {"measured", *results["scores"]}
    assert len(results["thaws"]["first mild days"]) == 9
    assert (whole / "river.png").read_bytes().startswith(b"\x89PNG")


def test_the_models_are_saved_and_their_parts_sum_to_what_they_predict(whole: Path) -> None:
    panel = data.as_panel(data.load())
    block = data.blocks(panel, 3)[1]
    mean = methods.Mean.load(whole / "models" / f"seed 0, {block.name}")
    assert len(mean.models) == 2
    known, predicted = data.rows(block.test), mean.predict(block.test)
    kept = json.loads((whole / "finished.json").read_text())["done"][f"seed 0, {block.name}, RNAM"]["result"]
    assert predicted[known].tolist() == kept
    parts = mean.contributions(block.test)
    assert list(parts.columns) == list(data.WEATHER)
    constant = np.mean([model.intercept_[0] for model in mean.models])
    # float32 models, of contributions of size 1
    assert_within("sum", parts.to_numpy().sum(1) + constant, predicted, 1e-4)
    assert isinstance(mean.models[0], rnam.RNAMRegressor)


def test_flow_is_no_input(whole: Path) -> None:
    """Flow that differs changes no prediction; weather that comes later changes none, either."""
    days = data.load()
    mean = methods.Mean.load(whole / "models" / "seed 0, block 0")
    before = mean.predict(data.as_panel(days))
    later = days.assign(log_flow=0.0)
    later.loc[1000:, "rain"] += 10
    after = mean.predict(data.as_panel(later))
    # another length may sum in another order: float32 at size 4
    assert_within("before the change", after[:1000], before[:1000], 1e-5)
    assert abs(after - before)[1000:].max() > 1e-3


@pytest.mark.parametrize("stop_at", [command.MEMORYLESS, "ridge on lags"])
def test_interrupted_it_goes_on_to_the_same_result(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop_at: str
) -> None:
    monkeypatch.setattr(rivals, "TREES", TREES)
    done, first = command_line.goes_on(command, SHORT, tmp_path, stop_at, monkeypatch, capsys)
    assert len(done) == [command.RNAM, command.MEMORYLESS, *rivals.FEW].index(stop_at)
    assert (tmp_path / "river.png").read_bytes() == (whole / "river.png").read_bytes()
    second = json.loads((whole / "results.json").read_text())
    for method, found in first["scores"].items():
        for score, value in found["mean"].items():
            assert score == "cpu" or value == second["scores"][method]["mean"][score], (method, score)
    assert first["check"] == second["check"]


def test_run_again_it_fits_nothing(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "_predicted", lambda *_: pytest.fail("fitted again"))
    file = tmp_path / "again.json"
    assert command.main([*SHORT, "--out", str(whole), "--json", str(file)]) == 0
    assert file.read_text() == (whole / "results.json").read_text()


def test_all_adds_two_models_and_the_forecast(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions are given, so that nothing is fitted; without interpret its EBM is left out by name."""
    monkeypatch.setattr(ebm, "version", lambda: None)
    monkeypatch.setattr(command, "_folder", lambda options, seed, block: whole / "models" / f"seed 0, {block.name}")
    level = 3.0
    monkeypatch.setattr(command, "_predicted", lambda m, days, block, *_: [
        level + 0.01 * n for n in range(len(data.rows(block.test)))
    ])  # fmt: skip
    file = tmp_path / "all.json"
    assert command.main([*SHORT, "--all", "--out", str(tmp_path), "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "Left out: EBM on lags" in out
    assert "1986 to 1988, from the years before" in out
    results = json.loads(file.read_text())
    assert list(results["scores"])[-1] == "GRU, a black box"
    assert set(results["forecast"]) == set(results["scores"])


def test_the_gru_learns_and_its_end_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    days = data.load()
    block = data.forecast(data.as_panel(days))
    told = []
    monkeypatch.setattr(rivals, "GRU_EPOCHS", (1, 2))

    def short(part: object, test: object, seed: int, epochs: int) -> np.ndarray:
        told.append(epochs)
        return rivals_gru(part, test, seed, 1)

    rivals_gru = rivals._gru
    monkeypatch.setattr(rivals, "_gru", short)
    predicted = rivals.gru(days, block, 0)
    assert predicted.shape == data.rows(block.test).shape
    assert told == [1, 2, 1], "equal errors choose the first"
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--blocks", "2"], "must be a whole number of at least 3 and at most 10, got '2'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["--jobs", "0"], "must be a whole number of at least 1 and at most 64, got '0'"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in command_line.refuses(command.main, arguments, capsys)


def test_the_whole_demo(tmp_path: Path) -> None:
    """As a person runs it, in two processes, with warnings as errors: what the README says of it."""
    run = [sys.executable, "-W", "error", "-m", "examples.river", "--json", str(tmp_path / "results.json")]
    done = subprocess.run(
        [*run, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Fitting: 100%" in done.stderr
    found = {name: row["mean"] for name, row in json.loads((tmp_path / "results.json").read_text())["scores"].items()}
    assert found["RNAM"]["r2"] > 0.83
    assert found["RNAM without memory"]["r2"] < 0.4
    assert 0.85 <= found["RNAM"]["coverage"] <= 0.95
