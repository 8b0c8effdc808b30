"""Types of command-line options that the examples share; a bad value ends with a message, before any work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

LARGEST_SEED = 2**63 - 1  # that torch.manual_seed takes


def whole(least: int, most: int = LARGEST_SEED) -> Callable[[str], int]:
    """The type of a whole number from `least` to `most`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            upper = "" if most == LARGEST_SEED and value < least else f" and at most {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}{upper}, got {text!r}")
        return value

    return number


def default_device() -> str:
    """A GPU when there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device(text: str) -> torch.device:
    """The type of a device that computes here."""
    try:
        chosen = torch.device(text)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ImportError) as error:  # a torch built without cuda asserts
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used here ({reason})") from error
    if chosen.type == "meta":
        raise argparse.ArgumentTypeError("must be a device that computes, got 'meta'")
    return chosen


def prepare(out: Path, json: Path | None) -> None:
    """Make the folders of what will be written, and raise OSError now, not after the work, if that can't be."""
    out.mkdir(parents=True, exist_ok=True)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        new = not json.exists()
        json.open("a").close()
        if new:
            json.unlink()
