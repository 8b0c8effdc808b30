"""A checkpoint that is damaged, foreign or of another run is refused."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.pbcseq import checkpoint, demo, training
from tests.examples.pbcseq.support import SHORT
from tests.support.assertions import assert_equal

ROOT = Path(__file__).parents[3]


def refused(path: Path, arguments: list[str], capsys) -> str:
    """The message of a run that must refuse the checkpoint in `path` and leave it as it is."""
    before = path.read_bytes()
    capsys.readouterr()
    assert demo.main([*arguments, "--out", str(path.parent)]) == 1
    assert path.read_bytes() == before
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path} ")
    assert "Delete it to start over" in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--seed", "3", "seed 0, now 3"),
        ("--folds", "3", "folds 2, now 3"),
        ("--epochs", "4", "epochs 2, now 4"),
    ],
)
def test_a_checkpoint_of_other_options_is_refused(finished, capsys, option, value, words):
    message = refused(finished / "checkpoint.pt", [*SHORT, option, value], capsys)
    assert "was made with other settings" in message
    assert words in message


def test_a_checkpoint_of_other_data_or_versions_is_refused(finished, tmp_path, capsys):
    content = torch.load(finished / "checkpoint.pt", weights_only=True)
    content["settings"] |= {"data": "0", "torch": "1.0"}
    torch.save(content, tmp_path / "checkpoint.pt")
    message = refused(tmp_path / "checkpoint.pt", SHORT, capsys)
    assert "data '0', now" in message
    assert "torch '1.0', now" in message


def test_a_damaged_checkpoint_is_refused(finished, tmp_path, capsys):
    whole, path = (finished / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole[len(whole) // 2 :]):
        path.write_bytes(damaged)
        assert "is damaged" in refused(path, SHORT, capsys)
    with zipfile.ZipFile(finished / "checkpoint.pt") as archive:
        weights = archive.read(max(archive.infolist(), key=lambda record: record.file_size))
    inside = whole.index(weights) + len(weights) // 2
    path.write_bytes(whole[:inside] + bytes([whole[inside] ^ 1]) + whole[inside + 1 :])
    assert torch.load(path, weights_only=True), "torch reads it"
    assert "is damaged" in refused(path, SHORT, capsys)


def test_a_flipped_bit_is_refused_or_changes_nothing(finished, people, tmp_path):
    whole, path = (finished / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    settings = training.Settings(folds=2, epochs=2)
    about = torch.load(finished / "checkpoint.pt", weights_only=True)["settings"]
    made = training.make_folds(people, settings)
    good = checkpoint.load(finished / "checkpoint.pt", about, settings, made).finished
    found = 0
    for position in np.random.default_rng(0).integers(0, len(whole), 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            states = checkpoint.load(path, about, settings, made).finished
        except checkpoint.CheckpointError:
            found += 1
            continue
        for one, other in zip(states, good, strict=True):
            assert_equal("finished", one, other)
    assert found > 30


@pytest.mark.parametrize(
    "content", [[1, 2], {"format": "another program's"}, {"model": torch.zeros(2)}, torch.zeros(3)]
)
def test_a_foreign_checkpoint_is_refused(people, tmp_path, capsys, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    assert "is not a checkpoint of this program" in refused(tmp_path / "checkpoint.pt", SHORT, capsys)


class Creates:
    """Unpickled without weights_only=True, it creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_runs_code_is_refused_unrun(people, tmp_path, capsys):
    torch.save({"format": checkpoint.FORMAT, "settings": Creates(tmp_path / "created")}, tmp_path / "checkpoint.pt")
    assert "is not a checkpoint of this program" in refused(tmp_path / "checkpoint.pt", SHORT, capsys)
    assert not (tmp_path / "created").exists()


def test_a_text_file_or_another_zip_file_is_refused(people, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    path.write_text("not a checkpoint")
    assert "is damaged, or is not a checkpoint" in refused(path, SHORT, capsys)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    assert "is not a checkpoint of this program" in refused(path, SHORT, capsys)


@pytest.fixture(scope="module")
def interrupted(people):
    """The content of a checkpoint in the middle of the first model, with what reads it."""
    settings = training.Settings(folds=2, epochs=4, members=1)
    made, progress = training.make_folds(people, settings), training.Progress()
    for now in training.train(made, settings, progress, torch.device("cpu")):
        if now.running.epoch == 2:
            break
    content = {"format": checkpoint.FORMAT, "settings": {"seed": 0}, "finished": [], "running": vars(progress.running)}
    return content, settings, made


@pytest.mark.parametrize(
    "change",
    ["nothing", "epoch 2.0", "epoch True", "no moments", "shape of moments", "steps", "negative squares", "nan"],
)
def test_a_model_in_training_that_no_run_wrote_is_refused(interrupted, tmp_path, change):
    content, settings, made = interrupted
    running = copy.deepcopy(content["running"])
    moments = running["optimizer"]["state"]
    if change == "epoch 2.0":
        running["epoch"] = 2.0
    elif change == "epoch True":
        running["epoch"] = True
    elif change == "no moments":
        running["optimizer"]["state"] = {}
    elif change == "shape of moments":
        moments[0]["exp_avg"] = torch.zeros(3)
    elif change == "steps":
        moments[0]["step"] += 1
    elif change == "negative squares":
        moments[0]["exp_avg_sq"] -= 1
    elif change == "nan":
        running["model"]["gam.bias"] = torch.full((1,), torch.nan)
    path = tmp_path / "checkpoint.pt"
    torch.save(content | {"running": running}, path)
    if change == "nothing":
        assert checkpoint.load(path, content["settings"], settings, made).running.epoch == 2
    else:
        with pytest.raises(checkpoint.CheckpointError, match="does not hold this program's models"):
            checkpoint.load(path, content["settings"], settings, made)


@pytest.mark.parametrize("value", [torch.tensor([4, 4]), False, 0.0, None])
def test_a_setting_of_another_type_is_another_setting(interrupted, tmp_path, value):
    content, settings, made = interrupted
    torch.save(content | {"settings": {"seed": value}}, tmp_path / "checkpoint.pt")
    with pytest.raises(checkpoint.CheckpointError, match="was made with other settings"):
        checkpoint.load(tmp_path / "checkpoint.pt", content["settings"], settings, made)


def test_a_full_disk_is_said_and_leaves_no_part(people, tmp_path, monkeypatch, capsys):
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert demo.main([*SHORT, "--out", str(tmp_path)]) == 1
    assert "checkpoint.pt cannot be written: No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_in_its_place_is_not_called_damaged(people, tmp_path, capsys):
    (tmp_path / "checkpoint.pt").mkdir()
    assert demo.main([*SHORT, "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "damaged" not in message


@pytest.mark.parametrize("change", ["shape", "name", "count", "running", "epoch", "list"])
def test_a_checkpoint_with_other_models_is_refused(finished, tmp_path, capsys, change):
    content = torch.load(finished / "checkpoint.pt", weights_only=True)
    state = content["finished"][0]
    if change == "shape":
        state["gam.bias"] = torch.zeros(2)
    elif change == "name":
        state["other"] = state.pop("gam.bias")
    elif change == "count":
        content["finished"].append(state)
    elif change == "running":
        content["running"] = {"epoch": 1}
    elif change == "list":
        content["finished"] = {}
    else:
        content["finished"].pop()
        content["running"] = {"epoch": 2, "model": state, "optimizer": {}}
    torch.save(content, tmp_path / "checkpoint.pt")
    assert "does not hold this program's models" in refused(tmp_path / "checkpoint.pt", SHORT, capsys)


def test_where_files_may_not_grow_a_message_says_so(people, tmp_path):
    """As with `ulimit -f 40` or a full disk; 40 blocks are less than a checkpoint."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *SHORT, "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"error: {tmp_path / 'checkpoint.pt'} cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "no part of a file is left"


LIMITED = """
import resource, sys
from examples.pbcseq.demo import main
resource.setrlimit(resource.RLIMIT_FSIZE, (40 * 1024, 40 * 1024))
sys.exit(main())
"""
