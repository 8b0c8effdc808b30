"""The command line in a short form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples import ebm
from examples.tabular import command, methods
from tests.support import command_line

ROOT = Path(__file__).parents[3]
SHORT = ["--folds", "2", "--epochs", "3", "--data", "breast_cancer", "diabetes", "--seeds", "0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run that was never interrupted, without EBM."""
    out = tmp_path_factory.mktemp("tabular")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ebm, "version", lambda: None)
        assert command.main([*SHORT, "--out", str(out), "--json", str(out / "results.json")]) == 0
    return out


def test_the_command_runs_and_writes_its_files(tmp_path: Path) -> None:
    """As a person runs it, with warnings as errors and with EBM where it is installed."""
    run = [sys.executable, "-W", "error", "-m", "examples.tabular", *SHORT, "4", "--data", "diabetes"]
    done = subprocess.run(
        [*run, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = ebm.version() is not None
    for words in ("NAM", "ridge", "R², seed 4", "mean R²", "mean RMSE", "shapes.png"):
        assert words in done.stdout
    assert ("Left out" in done.stdout) != there
    assert "Fitting: 100%" in done.stderr
    assert (tmp_path / "shapes.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["seeds"] == [0, 4]
    assert results["left_out"] == ([] if there else [methods.EBM])
    assert results["nam"]["epochs"] == 3
    assert results["settings"]["interpret-core"] == ebm.version()
    rows = results["scores"]["diabetes"]
    assert list(rows) == [methods.NAM, methods.LINEAR, *([methods.EBM] if there else [])], "pairs are asked for"
    for method, found in rows.items():
        assert set(found["seeds"]) == {"0", "4"}
        assert found["mean"]["r2"] > 0.3 or method == methods.NAM, "three epochs are not enough to be good"


@pytest.mark.parametrize("method", [methods.NAM, methods.LINEAR])
def test_interrupted_it_goes_on_to_the_same_result(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    arguments = [*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    fit, calls = methods.METHODS[method], []

    def stop(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*given)

    with monkeypatch.context() as patch:
        patch.setitem(methods.METHODS, method, stop)
        assert command.main(arguments) == 130
    assert f"goes on from {tmp_path / 'finished.json'}" in capsys.readouterr().err
    done = list(json.loads((tmp_path / "finished.json").read_text())["done"])
    assert len(done) == list(methods.METHODS).index(method)
    assert command.main(arguments) == 0
    for name in ("results.json", "shapes.png"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_run_again_it_fits_only_what_is_drawn(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    for method in methods.METHODS:
        monkeypatch.setitem(methods.METHODS, method, None)  # type: ignore[arg-type]
    assert command.main([*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]) == 0
    out = capsys.readouterr().out
    for words in (
        "Left out: EBM; interpret-core is not installed (pip install -e '.[compare]')",
        "AUC, seed 0",
        "R², seed 0",
    ):
        assert words in out
    assert "mean Brier score" in out and "mean RMSE" in out
    assert (tmp_path / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_one_table_alone(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    file = tmp_path / "results.json"
    assert command.main([*SHORT, "--data", "diabetes", "--out", str(tmp_path), "--json", str(file)]) == 0
    alone, both = (json.loads(path.read_text())["scores"] for path in (file, whole / "results.json"))
    assert alone == {"diabetes": both["diabetes"]}


def test_a_table_with_words_is_scored_and_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    file = tmp_path / "results.json"
    assert command.main([*SHORT, "--data", "hmda", "--out", str(tmp_path), "--json", str(file)]) == 0
    scores = json.loads(file.read_text())["scores"]["hmda"]
    assert list(scores) == [methods.NAM, methods.LINEAR]
    assert scores[methods.LINEAR]["mean"]["auc"] > 0.8
    assert not (tmp_path / "shapes.png").exists()


def test_with_all_the_ebm_comes_with_interactions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for method in methods.METHODS:
        monkeypatch.setitem(methods.METHODS, method, lambda *_, name=method: given.append(name) or _Constant())
    monkeypatch.setattr(ebm, "version", lambda: "1")
    assert command.main([*SHORT, "--data", "hmda", "--all", "--out", str(tmp_path)]) == 0
    assert set(given) == set(methods.METHODS)


class _Constant:
    def predict(self, values: Any) -> Any:
        return np.arange(len(values)) % 2 - 0.5


def test_a_file_of_other_options_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    assert command.main([*SHORT, "--folds", "3", "--out", str(tmp_path)]) == 1
    assert "folds 2, now 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "iris"], "choose from"),
        (["--seeds", "-1"], "must be a whole number of at least 0 and at most 4294967295, got '-1'"),
        (["--seeds", str(2**32)], f"at most {2**32 - 1}, got '{2**32}'"),
        (["--folds", "1"], "must be a whole number of at least 2 and at most 100, got '1'"),
        (["--folds", "101"], "at most 100, got '101'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in command_line.refuses(command.main, arguments, capsys)


def test_a_bad_path_is_found_before_the_fitting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(command, "METHODS", {methods.NAM: lambda *_: pytest.fail("fitted first")})
    for bad in (["--out", str(tmp_path / "file")], ["--out", str(tmp_path), "--json", str(tmp_path / "file" / "x")]):
        assert command.main([*SHORT, *bad]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_the_folder_is_named_after_what_decides_the_result() -> None:
    names = [command._options(a).out.name for a in ([], ["--seeds", "5"], ["--folds", "3", "--epochs", "9"])]
    assert names == ["tabular", "tabular", "tabular-folds3"]
    assert command._options(["--data", "diabetes", "diabetes"]).data == ["diabetes"]


def test_other_epochs_keep_what_they_do_not_change(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    monkeypatch.setitem(methods.METHODS, methods.LINEAR, None)  # type: ignore[arg-type]
    file = tmp_path / "results.json"
    assert command.main([*SHORT, "--epochs", "2", "--out", str(tmp_path), "--json", str(file)]) == 0
    now, before = (json.loads(path.read_text())["scores"] for path in (file, whole / "results.json"))
    for table in now:
        assert now[table][methods.LINEAR] == before[table][methods.LINEAR]
        assert now[table][methods.NAM] != before[table][methods.NAM]
