"""The file an interrupted run goes on from.

It is an ordinary torch.save file of numbers, strings and tensors, read with weights_only=True:

    format    FORMAT
    settings  what decides the result: options, data, versions
    finished  the parameters of the finished models, `settings.members` for each fold
    running   the epoch, parameters and optimizer's state of the model in training, or None
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from examples.pbcseq.training import Progress, Running, Settings

FORMAT = "rnam examples.pbcseq 1"


class CheckpointError(Exception):
    """The checkpoint cannot be used; the message says why and what to do."""


def save(path: Path, about: Mapping[str, Any], progress: Progress) -> None:
    """Write `progress` so that at any moment `path` is a whole file, the old one or the new one."""
    running = progress.running
    content = {
        "format": FORMAT,
        "settings": dict(about),
        "finished": progress.finished,
        "running": vars(running) if running else None,
    }
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load(path: Path, about: Mapping[str, Any], settings: Settings) -> Progress:
    """The progress in `path`; an empty one where there is no file.

    Raises:
        CheckpointError: the file is damaged, is something else, or was made with other settings than `about`.
    """
    if not path.exists():
        return Progress()
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _refused(path, "is not a checkpoint of this demo")
    made_with = content.get("settings")
    if made_with != dict(about):
        known = made_with if isinstance(made_with, dict) else {}
        differ = [
            f"{name} {known.get(name)!r}, now {about.get(name)!r}"
            for name in dict.fromkeys([*about, *known])
            if known.get(name) != about.get(name)
        ]
        raise _refused(path, "was made with other settings: " + "; ".join(differ))
    try:
        progress = Progress(content["finished"], content["running"] and Running(**content["running"]))
        _check(progress, settings)
    except Exception as error:
        raise _refused(path, f"does not hold this demo's models ({error})") from error
    return progress


def _read(path: Path) -> Any:
    """The content of a torch.save file whose every record has the checksum it was written with."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch.load does not look at the checksums
    except Exception as error:  # not a zip file, cut short, an unreadable directory of records
        raise _refused(path, f"is damaged, or is not a checkpoint ({error})") from error
    if broken is not None:
        raise _refused(path, f"is damaged (in {broken})")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for what it cannot or may not read
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _refused(path, f"is not a checkpoint of this demo ({reason})") from error


def _check(progress: Progress, settings: Settings) -> None:
    """Raise unless every model has the parameters of `settings` and the counts are possible."""
    limit = settings.folds * settings.members
    if len(progress.finished) + (progress.running is not None) > limit:
        raise ValueError(f"at most {limit} models expected")
    model = settings.model()
    for state in progress.finished:
        model.load_state_dict(state)
    if progress.running:
        if not 0 < progress.running.epoch < settings.epochs:
            raise ValueError(f"an epoch below {settings.epochs} expected, got {progress.running.epoch}")
        model.load_state_dict(progress.running.model)
        torch.optim.AdamW(model.parameters()).load_state_dict(progress.running.optimizer)


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} {reason}. Delete it to start over, or choose another folder with --out.")
