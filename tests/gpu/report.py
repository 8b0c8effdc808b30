"""The report of a run: gpu.json, and the same as a table."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.gpu.stages import PASSED, ROOT, Outcome


def machine() -> dict[str, Any]:
    """The device and the versions."""
    import triton

    index = torch.cuda.current_device()
    return {
        "device": torch.cuda.get_device_name(index),
        "devices": torch.cuda.device_count(),
        "capability": list(torch.cuda.get_device_capability(index)),
        "memory_bytes": torch.cuda.get_device_properties(index).total_memory,
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "commit": _output("git", "rev-parse", "HEAD"),
        "changed_since": bool(_output("git", "status", "--porcelain")),
    }


def _output(*command: str) -> str | None:
    """The first line that a program prints; None where it is not there, fails or prints nothing."""
    try:
        text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip().splitlines()[0] if text.strip() else None


def tests(results: Path) -> dict[str, Any]:
    """Counts and failures from the lines that tests/gpu/conftest.py writes; 0 where it wrote none."""
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    counts = {kind: sum(line["outcome"] == kind for line in lines) for kind in ("passed", "failed", "skipped")}
    failures = [{"test": line["test"], "message": line["message"]} for line in lines if line["outcome"] == "failed"]
    return {**counts, "failures": failures}


def timings(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text()) if file.exists() else []


def assemble(about: dict[str, Any], outcomes: list[Outcome], planned: int, out: Path) -> dict[str, Any]:
    """The whole report. `ok` says that all the planned stages are through and passed."""
    return {
        **about,
        "ok": len(outcomes) == planned and all(o.status == PASSED for o in outcomes),
        "seconds": sum(o.seconds for o in outcomes),
        "stages": [o.as_json() for o in outcomes],
        "tests": tests(out / "tests.jsonl"),
        "timings": timings(out / "timings.json"),
    }


def table(report: dict[str, Any]) -> str:
    """The report in lines of text."""
    capability = ".".join(map(str, report["capability"]))
    lines = [
        f"{report['device']}, compute capability {capability}, driver {report['driver']}",
        f"torch {report['torch']}, triton {report['triton']}, CUDA {report['cuda']}, commit {report['commit']}",
        "",
    ]
    lines += [f"{s['name']:10s} {s['status']:10s} {s['seconds']:6.1f} s  {s['log']}" for s in report["stages"]]
    counts = report["tests"]
    lines += ["", f"tests: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"]
    lines += [f"  failed: {failure['test']}" for failure in counts["failures"]]
    if report["timings"]:
        shape = " x ".join(map(str, report["timings"][0]["shape"]))
        lines += ["", f"medians in ms at {shape}{'':8s} kernel   torch    copy of its bytes"]
    for row in report["timings"]:
        times = "  ".join(
            "  wrong" if row[k] is None else f"{row[k]:7.3f}" for k in ("kernel_ms", "torch_ms", "copy_ms")
        )
        lines.append(f"{row['name']:34s} {row['dtype']:9s} {times}")
    return "\n".join(lines)
