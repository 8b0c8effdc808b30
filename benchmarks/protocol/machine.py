"""What a run was measured on: the device, the versions, the commit."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "triton", "numpy", "rnam", "minGRU-pytorch", "mingru-scans", "accelerated-scan", "fla-core")


def about(device: torch.device, quick: bool, rounds: int) -> dict[str, Any]:
    """The machine, the versions and how it is measured."""
    return {
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **_versions()},
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "quick": quick,
        "rounds": rounds,
        "clocks": clocks(device),
    }


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", cpu.read_text(), re.MULTILINE) if cpu.exists() else None
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return f"CPU {name}, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _commit() -> str:
    """The commit, and "changed" where a tracked file of the code differs from it.

    A copy of a tree, which may have no git or that of an older commit, is told it by the environment variable
    RNAM_COMMIT.
    """
    told = os.environ.get("RNAM_COMMIT")
    if told:
        return told
    head = _output("git", "rev-parse", "HEAD")
    if not head:
        return "unknown"
    code = ("rnam", "kernels", "benchmarks", "tests/support", ":!benchmarks/results")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", *code)
    return f"{head} changed" if changed else head


def clocks(device: torch.device) -> str:
    """Of the SM, of the memory and the most of the SM, as they are now; "" on a CPU and where nvidia-smi is missing."""
    if device.type != "cuda":
        return ""
    return _output("nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,clocks.max.sm", "--format=csv,noheader")


def _output(*command: str) -> str:
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
