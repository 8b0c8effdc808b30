"""The JSON file of a run: what machine, the rows, and which shapes are through, so that a run can go on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "triton", "numpy", "rnam", "minGRU-pytorch", "mingru-scans", "accelerated-scan", "fla-core")
SAME = ("device", "versions", "threads", "commit", "quick")


@dataclass
class Row:
    """One provider's result at one piece of work; None where there is none. `shape` is a name of `shapes`."""

    op: str
    shape: str
    dtype: str
    pass_: str
    provider: str
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    gbps: float | None = None
    copy_fraction: float | None = None
    peak_mb: float | None = None
    max_error: float | None = None
    speedup: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {key.rstrip("_"): value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Row:
        return Row(**{"pass_" if key == "pass" else key: value for key, value in values.items()})

    @property
    def key(self) -> str:
        """Under which `Run.details` has the rest: the method, CPU time, rounds, compile time, why there is no time."""
        return "/".join((self.op, self.shape, self.dtype, self.pass_, self.provider))


FIELDS = tuple(Row("", "", "", "", "").as_json())


class Mismatch(Exception):  # noqa: N818  it is the user's choice of a file
    """A file was made elsewhere or by other code, so no run may go on in it."""


@dataclass
class Run:
    """A run and its file, if it has one."""

    about: dict[str, Any]
    path: Path | None = None
    rows: list[Row] = field(default_factory=list)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    shapes: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def has(self, unit: str, asked: dict[str, Any]) -> bool:
        """Whether a shape is through, with the passes and providers that are asked for now."""
        return unit in self.done and self.shapes[unit].get("asked", asked) == asked

    def add(self, unit: str, rows: list[Row], details: dict[str, dict[str, Any]], shape: dict[str, Any]) -> None:
        """What one shape gave, in the place of what it gave before; the file is written at once."""
        keys = {row.key for row in rows}
        gone = {row.key for row in self.rows if row.key in keys or row.key.startswith(f"{unit}/")}
        self.rows = [row for row in self.rows if row.key not in gone] + rows
        self.details = {key: detail for key, detail in self.details.items() if key not in gone} | details
        self.shapes[unit] = shape
        self.done = [*(other for other in self.done if other != unit), unit]
        self.failed.pop(unit, None)
        if self.path is not None:
            self.save(self.path)

    def fail(self, unit: str, reason: str) -> None:
        """That a shape broke off as a whole, and why; what it gave before stays."""
        self.failed[unit] = reason
        if self.path is not None:
            self.save(self.path)

    def save(self, path: Path) -> None:
        """Whole or not at all: a run that is interrupted leaves the file as it was."""
        body = {
            **self.about,
            "shapes": self.shapes,
            "done": self.done,
            "failed": self.failed,
            "rows": [row.as_json() for row in self.rows],
            "details": self.details,
        }
        write(path, body)

    @staticmethod
    def load(path: Path) -> Run:
        body = json.loads(path.read_text())
        rows = [Row.from_json(row) for row in body.pop("rows")]
        details, shapes, done = (body.pop(key) for key in ("details", "shapes", "done"))
        return Run(body, path, rows, details, shapes, done, body.pop("failed", {}))


def write(path: Path, body: dict[str, Any]) -> None:
    """A file of JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(body, indent=1) + "\n")
    beside.replace(path)


def resume(path: Path | None, about: dict[str, Any]) -> Run:
    """The run in `path` if there is one, else a new one.

    Raises:
        Mismatch: it was made with another device, versions, threads, commit or --quick.
    """
    if path is None or not path.exists():
        return Run(about, path)
    run = Run.load(path)
    check_same(path, run.about, about)
    return run


def check_same(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises Mismatch where a file was made with another device, versions, threads, commit or --quick."""
    for key in SAME:
        if there.get(key) != here[key]:
            raise Mismatch(
                f"{path} was made with {key} {there.get(key)!r}, and this is {here[key]!r}: choose another file"
            )


def about(device: torch.device, quick: bool, rounds: int) -> dict[str, Any]:
    """The machine, the versions and how it is measured."""
    return {
        "device": device_name(device),
        "versions": {"python": sys.version.split()[0], **_versions()},
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
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"CPU {models[0] if models else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
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
    code = ("rnam", "kernels", "benchmarks", ":!benchmarks/results")
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
