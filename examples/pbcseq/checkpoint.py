"""The demo's checkpoint: `settings.members` models for each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples import checkpoint
from examples.checkpoint import CheckpointError
from examples.pbcseq.training import Fold, Settings, plans
from examples.training import Progress

__all__ = ["FORMAT", "CheckpointError", "load", "save"]

FORMAT = "rnam examples.pbcseq 1"


def save(path: Path, about: Mapping[str, Any], progress: Progress) -> None:
    """As `examples.checkpoint.save`."""
    checkpoint.save(path, FORMAT, about, progress)


def load(path: Path, about: Mapping[str, Any], settings: Settings, made: Sequence[Fold]) -> Progress:
    """As `examples.checkpoint.load`, for the models of these folds."""
    return checkpoint.load(path, FORMAT, about, plans(settings, made), settings.epochs)
