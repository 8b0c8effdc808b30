"""Command-line options that the examples share, and their types; a bad value ends with a message, before any work."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

LARGEST_SEED = 2**63 - 1  # that torch.manual_seed takes
LARGEST_SEED_OF_SKLEARN = 2**32 - 1


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


class Different(argparse.Action):
    """The values of an option in their order, each once."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, list(dict.fromkeys(values)))


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device"""
    auto = device(default_device())
    parser.add_argument(
        "--device", type=device, default=auto, help="where to train: cpu or cuda (default: %(default)s)"
    )


def add_seeds(
    parser: argparse.ArgumentParser, default: Sequence[int], what: str, most: int = LARGEST_SEED_OF_SKLEARN
) -> None:
    """--seeds, or --seed: `seeds`, a list of different numbers, of which `what` says what they are seeds of."""
    parser.add_argument(
        "--seeds",
        "--seed",
        type=whole(0, most),
        nargs="+",
        action=Different,
        default=list(default),
        metavar="SEED",
        help=f"{what} (default: {' '.join(map(str, default))})",
    )


def add_files(parser: argparse.ArgumentParser, name: str, decides: str, content: str = "settings and scores") -> None:
    """--out and --json. The default of `out` is None, which `runtime.folder` fills in: it is named after `decides`, in
    words the options that decide a result."""
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of the files made (default: results/{name}, and in its name {decides} where they are not the "
        "default ones)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"write {content} to this file")


def prepare(out: Path, json: Path | None) -> None:
    """Make the folders of what will be written, and raise OSError now, not after the work, if that can't be."""
    out.mkdir(parents=True, exist_ok=True)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        new = not json.exists()
        json.open("a").close()
        if new:
            json.unlink()
