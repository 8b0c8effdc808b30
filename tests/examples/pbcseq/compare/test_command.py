"""The comparison's command line in a short form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rnam
from examples import ebm
from examples.pbcseq.compare import command, methods
from examples.pbcseq.models import Settings
from tests.examples.pbcseq.support import SHORT
from tests.support import command_line

ROOT = Path(__file__).parents[4]
ARGUMENTS = [*SHORT, "--seeds", "0"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    """An EBM of 2 bags."""
    monkeypatch.setattr(ebm, "BAGS", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a short run that was never interrupted, without EBM."""
    out = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ebm, "version", lambda: None)
        assert command.main([*ARGUMENTS, "--out", str(out), "--json", str(out / "results.json")]) == 0
    return out


def test_the_command_runs_and_writes_its_files(tmp_path):
    """As a person runs it, with warnings as errors and with EBM where it is installed."""
    run = [sys.executable, "-W", "error", "-m", "examples.pbcseq.compare", *SHORT, "--seeds", "4"]
    done = subprocess.run(
        [*run, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = ebm.version() is not None
    names = [name for name in methods.BASELINES if there or not name.startswith("EBM")]
    for words in (command.RNAM, command.SINGLE, *names, "AUC, seed 4", "Asked of RNAM", "What the memory"):
        assert words in done.stdout
    assert "seed 4: baselines: 100%" in done.stderr
    assert "Training seed4-single-fold: 100%" in done.stderr
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["seeds"] == [4]
    assert results["left_out"] == ([] if there else ["EBM, last values"])
    assert results["settings"]["interpret-core"] == ebm.version()
    assert "seed" not in results["settings"]
    assert list(results["scores"]) == [command.RNAM, command.SINGLE, *names]
    for rows in results["scores"].values():
        assert set(rows["mean"]) == {"auc", "brier_skill", "calibration_slope", "observed_expected"}
        assert rows["seeds"]["4"] == rows["mean"]
        assert rows["mean"]["auc"] > 0.75
    assert len(results["asked"]) == 5


def test_the_scores_of_the_demo_are_its_own(finished, whole):
    """The same folds, weights and models as `python -m examples.pbcseq`."""
    ours = json.loads((whole / "results.json").read_text())["scores"]
    theirs = json.loads((finished / "results.json").read_text())
    assert ours[command.RNAM]["seeds"]["0"] == theirs["rnam"]
    assert ours[command.LAST]["seeds"]["0"] == theirs["logistic_regression"]


@pytest.mark.parametrize("at", ["second model", "baseline"])
def test_interrupted_it_goes_on_to_the_same_result(whole, tmp_path, monkeypatch, capsys, at):
    monkeypatch.setattr(ebm, "version", lambda: None)
    arguments = [*ARGUMENTS, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    fit = rnam.RNAMClassifier.fit

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def second(model: Any, *args: Any, **kwargs: Any) -> Any:
        return stop() if (tmp_path / "seed0-rnam-fold0").exists() else fit(model, *args, **kwargs)

    with monkeypatch.context() as patch:
        if at == "baseline":
            patch.setitem(methods.BASELINES, "gradient boosting, summaries", stop)
        else:
            patch.setattr(rnam.RNAMClassifier, "fit", second)
        assert command.main(arguments) == 130
    assert f"goes on from {tmp_path / 'finished.json'}" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    if at == "baseline":  # the models that are finished are not trained again
        monkeypatch.setattr(rnam.RNAMClassifier, "fit", None)
    assert command.main(arguments) == 0
    assert (tmp_path / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (tmp_path / "comparison.png").read_bytes() == (whole / "comparison.png").read_bytes()


def test_more_seeds_keep_what_is_done(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    seen = []
    monkeypatch.setattr(command, "_compare", lambda *given: seen.append(list(given[-1].done)))
    with pytest.raises(KeyError, match="seed 1"):
        command.main([*SHORT, "--seeds", "0", "1", "--out", str(tmp_path)])
    assert len(seen) == 2 and not [name for name in seen[0] if not name.startswith(("seed 0", "seed0"))]


def test_without_interpret_what_is_left_out_is_said(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    assert command.main([*ARGUMENTS, "--out", str(tmp_path), "--json", str(tmp_path / "again.json")]) == 0
    out = capsys.readouterr().out
    assert "Left out: EBM, last values; interpret-core is not installed" in out
    assert "'.[compare]'" in out
    results = json.loads((tmp_path / "again.json").read_text())
    assert results["left_out"] == ["EBM, last values"]
    assert not [name for name in results["scores"] if name.startswith("EBM")]


def test_a_file_of_other_options_is_refused(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ebm, "version", lambda: None)
    (tmp_path / "finished.json").write_bytes((whole / "finished.json").read_bytes())
    assert command.main([*ARGUMENTS, "--epochs", "3", "--out", str(tmp_path)]) == 1
    assert "epochs 2, now 3" in capsys.readouterr().err


ROWS = {
    command.RNAM: {"auc": 0.9, "brier_skill": 0.4, "calibration_slope": 1.0, "observed_expected": 1.0},
    command.SINGLE: {"auc": 0.91, "brier_skill": 0.4, "calibration_slope": 1.0, "observed_expected": 1.0},
    command.LAST: {"auc": 0.89, "brier_skill": 0.4, "calibration_slope": 1.0, "observed_expected": 1.0},
}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"auc": 0.894}, [0, 2]),
        ({"auc": 0.889}, [0, 1, 2]),
        ({"calibration_slope": 0.84}, [3]),
        ({"calibration_slope": 1.16}, [3]),
        ({"observed_expected": 0.89}, [4]),
        ({"observed_expected": 1.11}, [4]),
    ],
)
def test_what_is_asked(change, missed):
    rows = ROWS | {command.RNAM: ROWS[command.RNAM] | change, command.SINGLE: ROWS[command.SINGLE] | {"auc": 0.9099}}
    found = command.asked(rows)
    assert [number for number, a in enumerate(found) if not a.met] == missed
    said = command.text({name: [row] for name, row in rows.items()}, [0])
    assert said.count("NO ") == len(missed)


def test_what_the_memory_changed_is_said():
    said = command.text({name: [row] for name, row in ROWS.items()}, [0])
    assert "against the same model on last values: AUC -0.010 (by seed -0.010)" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "-1"], "must be a whole number of at least 0 and at most 4294967295, got '-1'"),
        (["--seeds", "1", str(2**32)], f"at most {2**32 - 1}, got '{2**32}'"),
        (["--folds", "1"], "must be a whole number of at least 2, got '1'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["--device", "meta"], "must be a device that computes, got 'meta'"),
    ],
)
def test_bad_options_are_refused(arguments, words, capsys):
    assert words in command_line.refuses(command.main, arguments, capsys)


def test_more_folds_than_people_of_one_outcome_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"error: stratify must have at least 200 ids of each kind, .* got 143"):
        command.main(["--folds", "200", "--out", str(tmp_path)])


def test_a_bad_path_is_found_before_the_training(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(command, "trained", lambda *_: pytest.fail("trained first"))
    for bad in (["--out", str(tmp_path / "file")], ["--out", str(tmp_path), "--json", str(tmp_path / "file" / "x")]):
        assert command.main([*ARGUMENTS, *bad]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_the_folder_is_named_after_what_decides_the_result():
    default = Settings()
    assert command._options(["--device", "cpu"]).out.name.startswith("pbcseq-compare")
    assert command._options(["--seeds", "3", "3", "1"]).seeds == [3, 1]
    out = command._options(["--folds", "3", "--seeds", "5"]).out
    assert default.folds == 5 and out == Path("results/pbcseq-compare-folds3")
