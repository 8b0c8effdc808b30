"""A checkpoint goes on to the same bits; one that is damaged, foreign or of another run is refused."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rnam
from examples import checkpoint
from examples.checkpoint import CheckpointError
from examples.training import Plan, Progress, Running, fit, in_turn
from tests.support.assertions import assert_equal

ROOT = Path(__file__).parents[2]
FORM, EPOCHS, MODELS = "rnam a test 1", 4, 2
ABOUT: dict[str, Any] = {"seed": 0, "epochs": EPOCHS, "data": "1f", "torch": "2.11"}


def model() -> rnam.NAM:
    torch.manual_seed(0)
    return rnam.NAM(2, (3,))


def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


PLANS = [Plan(model, optimizer, steps=2)] * MODELS


def train(progress: Progress) -> Iterator[Progress]:
    """Two models of two steps an epoch, from where `progress` stands."""

    def one(number: int, running: Running | None) -> Iterator[Running]:
        own, x = model(), torch.linspace(-1, 1, 8)[:, None].expand(-1, 2)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return (own(x[rows]).prediction[:, 0] - (number + 1) * x[rows, 0]).square().mean()

        return fit(
            own, optimizer(own), lambda _: torch.arange(8).split(4), loss, rate=0.1, epochs=EPOCHS, running=running
        )

    return in_turn(one, MODELS, EPOCHS, progress)


def after(epochs: int) -> Progress:
    progress = Progress()
    for _ in zip(range(epochs), train(progress), strict=False):
        pass
    return progress


def load(path: Path, about: dict[str, Any] = ABOUT) -> Progress:
    return checkpoint.load(path, FORM, about, PLANS, EPOCHS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint in the middle of the second model."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, FORM, ABOUT, after(6))
    return path


@pytest.fixture
def content(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def refused(path: Path, about: dict[str, Any] = ABOUT) -> str:
    """The message of what must refuse the file and leave it as it is."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as error:
        load(path, about)
    assert path.read_bytes() == before
    message = str(error.value)
    assert message.startswith(f"{path} ") and "Delete it to start over" in message
    return message


@pytest.mark.parametrize("epochs", [1, 4, 5, 8])
def test_it_goes_on_to_the_same_bits(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, FORM, ABOUT, after(epochs))
    progress = load(path)
    assert progress.epochs(EPOCHS) == epochs
    for _ in train(progress):
        pass
    for one, other in zip(progress.finished, after(8).finished, strict=True):
        assert_equal("finished", one, other)


def test_where_there_is_no_file_nothing_is_done(tmp_path: Path) -> None:
    assert load(tmp_path / "checkpoint.pt") == Progress()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "seed 0, now 3"),
        ({"epochs": 5}, "epochs 4, now 5"),
        ({"data": "2f", "torch": "1.0"}, "data '1f', now '2f'; torch '2.11', now '1.0'"),
        ({"seed": False}, "seed 0, now False"),
        ({"seed": 0.0}, "seed 0, now 0.0"),
        ({"seed": None}, "seed 0, now None"),
    ],
)
def test_one_of_other_settings_is_refused(path: Path, changes: dict[str, Any], words: str) -> None:
    assert f"was made with other settings: {words}" in refused(path, {**ABOUT, **changes})


def test_a_tensor_is_no_setting(path: Path, content: dict[str, Any]) -> None:
    torch.save(content | {"settings": ABOUT | {"seed": torch.tensor([4, 4])}}, path)
    assert "was made with other settings" in refused(path)


def test_a_damaged_one_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = archive.read(max(archive.infolist(), key=lambda record: record.file_size))
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole[len(whole) // 2 :]):
        path.write_bytes(damaged)
        assert "is damaged" in refused(path)
    inside = whole.index(weights) + len(weights) // 2
    path.write_bytes(whole[:inside] + bytes([whole[inside] ^ 1]) + whole[inside + 1 :])
    assert torch.load(path, weights_only=True), "torch reads it"
    assert "is damaged" in refused(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(path: Path) -> None:
    whole, good, found = path.read_bytes(), load(path), 0
    for position in np.random.default_rng(0).integers(0, len(whole), 200):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            progress = load(path)
        except CheckpointError:
            found += 1
            continue
        for one, other in zip(progress.finished, good.finished, strict=True):
            assert_equal("finished", one, other)
    assert found > 50


@pytest.mark.parametrize("foreign", [[1, 2], {"format": "another's"}, {"model": torch.zeros(2)}, torch.zeros(3)])
def test_a_foreign_one_is_refused(path: Path, foreign: Any) -> None:
    torch.save(foreign, path)
    assert "is not a checkpoint of this program" in refused(path)


class Creates:
    """Unpickled without weights_only=True, it creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_one_that_runs_code_is_refused_unrun(path: Path, tmp_path: Path) -> None:
    torch.save({"format": FORM, "settings": Creates(tmp_path / "created")}, path)
    assert "is not a checkpoint of this program" in refused(path)
    assert not (tmp_path / "created").exists()


def test_a_text_file_or_another_zip_file_is_refused(path: Path) -> None:
    path.write_text("not a checkpoint")
    assert "is damaged, or is not a checkpoint" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    assert "is not a checkpoint of this program" in refused(path)


@pytest.mark.parametrize(
    "change",
    ["nothing", "epoch 2.0", "epoch True", "epoch 4", "no moments", "shape", "steps", "negative squares", "nan"],
)
def test_a_model_in_training_that_no_run_wrote_is_refused(path: Path, content: dict[str, Any], change: str) -> None:
    running = copy.deepcopy(content["running"])
    moments = running["optimizer"]["state"]
    if change.startswith("epoch"):
        running["epoch"] = {"epoch 2.0": 2.0, "epoch True": True, "epoch 4": 4}[change]
    elif change == "no moments":
        running["optimizer"]["state"] = {}
    elif change == "shape":
        moments[0]["exp_avg"] = torch.zeros(3)
    elif change == "steps":
        moments[0]["step"] += 1
    elif change == "negative squares":
        moments[0]["exp_avg_sq"] -= 1
    elif change == "nan":
        running["model"]["gam.bias"] = torch.full((1,), torch.nan)
    torch.save(content | {"running": running}, path)
    if change == "nothing":
        found = load(path).running
        assert found is not None and found.epoch == 2
    else:
        assert "does not hold this program's models" in refused(path)


@pytest.mark.parametrize("change", ["shape", "name", "count", "running", "list"])
def test_one_with_other_models_is_refused(path: Path, content: dict[str, Any], change: str) -> None:
    state = content["finished"][0]
    if change == "shape":
        state["gam.bias"] = torch.zeros(2)
    elif change == "name":
        state["other"] = state.pop("gam.bias")
    elif change == "count":
        content["finished"] += [state]
    elif change == "running":
        content["running"] = {"epoch": 1}
    else:
        content["finished"] = {}
    torch.save(content, path)
    assert "does not hold this program's models" in refused(path)


def test_a_full_disk_is_said_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt cannot be written: No space left on device"):
        checkpoint.save(tmp_path / "checkpoint.pt", FORM, ABOUT, after(1))
    assert not list(tmp_path.iterdir())


def test_a_folder_in_its_place_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(OSError, match=r"checkpoint\.pt"):
        load(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "checkpoint.pt", FORM, ABOUT, after(1))


def test_where_files_may_not_grow_a_message_says_so(tmp_path: Path) -> None:
    """As with `ulimit -f 1` or a full disk; a block is less than a checkpoint."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'checkpoint.pt'} cannot be written: File too large\n"
    assert not list(tmp_path.iterdir()), "no part of a file is left"


LIMITED = """
import resource, sys
from pathlib import Path
from examples.checkpoint import CheckpointError
from tests.examples import test_checkpoint as own
progress = own.after(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    own.checkpoint.save(Path(sys.argv[1]) / "checkpoint.pt", own.FORM, own.ABOUT, progress)
except CheckpointError as error:
    print(error)
"""
