"""The file that an interrupted run of an example goes on from.

It is an ordinary torch.save file of numbers, strings and tensors, read with weights_only=True:

    format    the program that wrote it
    settings  what decides the result: options, data, versions
    finished  the parameters of the finished models
    running   the epoch, parameters and optimizer's state of the model in training, or None
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from examples.training import Plan, Progress, Running


class CheckpointError(Exception):
    """The checkpoint cannot be used or written; the message says why."""


def save(path: Path, form: str, about: Mapping[str, Any], progress: Progress) -> None:
    """Write `progress` so that at any moment `path` is a whole file, the old one or the new one.

    Raises:
        CheckpointError: it cannot be written. What `path` held is still there.
    """
    running = progress.running
    content = {
        "format": form,
        "settings": dict(about),
        "finished": progress.finished,
        "running": vars(running) if running else None,
    }
    whole = io.BytesIO()  # torch's own writer turns a full disk into an internal error
    torch.save(content, whole)
    write(path, whole.getbuffer())


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that at any moment `path` is a whole one, the old or the new.

    Raises:
        CheckpointError: it cannot be written. What `path` held is still there.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def load(path: Path, form: str, about: Mapping[str, Any], plans: Sequence[Plan], epochs: int) -> Progress:
    """The progress in `path`, on the CPU; an empty one where there is no file.

    `plans` are the run's models in the order in which it trains them, each for so many epochs.

    Raises:
        CheckpointError: the file is damaged, is something else, or was made with other settings than `about`.
        OSError: it cannot be read at all.
    """
    if not path.exists():
        return Progress()
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != form:
        raise refused(path, "is not a checkpoint of this program")
    differ = differences(content.get("settings"), about)
    if differ:
        raise refused(path, "was made with other settings: " + "; ".join(differ))
    try:
        _fields(content, ("format", "settings", "finished", "running"), "the checkpoint")
        running = content["running"]
        if running is not None:
            _fields(running, ("epoch", "model", "optimizer"), "running")
        progress = Progress(content["finished"], None if running is None else Running(**running))
        _check(progress, plans, epochs)
    except Exception as error:  # a tensor of a strange kind may raise anything where it is looked at
        raise refused(path, f"does not hold this program's models ({error})") from error
    return progress


def _read(path: Path) -> Any:
    """The content of a torch.save file whose every record has the checksum it was written with."""
    whole = io.BytesIO(path.read_bytes())  # so that an OSError is the file's, whatever its content
    try:
        with zipfile.ZipFile(whole) as archive:
            broken = archive.testzip()  # torch.load does not look at the checksums
    except Exception as error:  # not a zip file, cut short, an unreadable directory of records
        raise refused(path, f"is damaged, or is not a checkpoint ({error})") from error
    if broken is not None:
        raise refused(path, f"is damaged (in {broken})")
    whole.seek(0)
    try:
        return torch.load(whole, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for what it cannot or may not read
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise refused(path, f"is not a checkpoint of this program ({reason})") from error


def differences(found: Any, about: Mapping[str, Any]) -> list[str]:
    """What the settings of a file have another value or type for than `about`, in words."""
    known = found if isinstance(found, dict) else {}
    names = dict.fromkeys([*about, *known])
    return [
        f"{name} {known.get(name)!r}, now {about.get(name)!r}"
        for name in names
        if not (name in known and name in about and _same(known[name], about[name]))
    ]


def _same(a: Any, b: Any) -> bool:
    """Equal and of one type: no tensor passes for a number and True not for 1."""
    return type(a) is type(b) and bool(a == b)


def _check(progress: Progress, plans: Sequence[Plan], epochs: int) -> None:
    """Raise ValueError unless every model has the parameters of its plan and the counts are possible."""
    finished, running = progress.finished, progress.running
    if type(finished) is not list:
        raise ValueError(f"finished: a list expected, got {type(finished).__name__}")
    if len(finished) + (running is not None) > len(plans):
        raise ValueError(f"at most {len(plans)} models expected")
    for number, state in enumerate(finished):
        _check_tensors(state, plans[number].model().state_dict(), f"finished model {number}")
    if running is None:
        return
    if type(running.epoch) is not int or not 0 < running.epoch < epochs:
        raise ValueError(f"an epoch of 1 to {epochs - 1} expected, got {running.epoch!r}")
    plan = plans[len(finished)]
    model = plan.model()
    _check_tensors(running.model, model.state_dict(), "running model")
    _check_optimizer(running.optimizer, model, plan, running.epoch * plan.steps)


def _check_optimizer(found: Any, model: torch.nn.Module, plan: Plan, steps: int) -> None:
    """Raise ValueError unless it is the state of the plan's AdamW after so many steps."""
    _fields(found, ("state", "param_groups"), "optimizer")
    # the learning rate is set before each step
    expected, groups = (
        [{name: value for name, value in group.items() if name != "lr"} for group in groups]
        for groups in (plan.optimizer(model).state_dict()["param_groups"], found["param_groups"])
    )
    if not _same(expected, groups):
        raise ValueError("optimizer: other options of AdamW expected")
    trained = {index: p for index, p in enumerate(model.parameters()) if p.requires_grad}
    _fields(found["state"], trained, "the optimizer's state")
    for index, parameter in trained.items():
        name, state = f"the optimizer's state {index}", found["state"][index]
        like = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        _check_tensors(state, like, name)
        if state["step"] != steps:
            raise ValueError(f"{name}: step {steps} expected, got {float(state['step'])}")
        if (state["exp_avg_sq"] < 0).any():
            raise ValueError(f"{name}: no negative squares expected")


def _check_tensors(found: Any, like: Mapping[str, Tensor], what: str) -> None:
    """Raise ValueError unless `found` has the names of `like`, and finite tensors of the same shape and dtype."""
    _fields(found, like, what)
    for name, expected in like.items():
        value = found[name]
        if type(value) is not Tensor or (value.shape, value.dtype) != (expected.shape, expected.dtype):
            is_tensor = isinstance(value, Tensor)
            got = f"{tuple(value.shape)} of {value.dtype}" if is_tensor else type(value).__name__
            raise ValueError(f"{what}: {name} of shape {tuple(expected.shape)} expected, got {got}")
        if not value.isfinite().all():
            raise ValueError(f"{what}: finite numbers expected in {name}")


def _fields(found: Any, names: Iterable[Any], what: str) -> None:
    """Raise ValueError unless `found` is a dict of these names."""
    if type(found) is not dict:
        raise ValueError(f"{what}: a dict expected, got {type(found).__name__}")
    if found.keys() != set(names):
        raise ValueError(f"{what}: {sorted(map(str, found.keys() ^ set(names)))} missing or too many")


def refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} {reason}. Delete it to start over, or choose another folder with --out.")
