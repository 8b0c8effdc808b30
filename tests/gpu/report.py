"""The report of a run: gpu.json, and the same as a table."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.protocol.machine import about
from benchmarks.reports import tables
from benchmarks.reports.run import load
from tests.gpu import plan
from tests.gpu.stages import PASSED, ROOT, Outcome

REPORT = "gpu.json"
# A run goes on in a folder where these are the same.
SAME = ("device", "python", "torch", "triton", "commit")


class AnotherRunError(Exception):
    """A folder has the results of another device, version or commit."""


def machine() -> dict[str, Any]:
    """The device, the versions and the commit."""
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
        "commit": about(torch.device("cuda", index), quick=True, rounds=1)["commit"],
    }


def _output(*command: str) -> str | None:
    """The first line that a program prints; None where it is not there, fails or prints nothing."""
    try:
        text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip().splitlines()[0] if text.strip() else None


def outcomes(out: Path, here: dict[str, Any]) -> dict[str, Outcome]:
    """The outcomes of the stages so far, by name.

    Raises:
        AnotherRunError: they ran elsewhere.
    """
    if not (out / REPORT).exists():
        return {}
    before = json.loads((out / REPORT).read_text())
    for key in SAME:
        if before[key] != here[key]:
            raise AnotherRunError(
                f"{out} has results of {key} {before[key]!r}, not {here[key]!r}: choose another --out, or --again"
            )
    return {stage["name"]: Outcome(**stage) for stage in before["stages"]}


def forget(out: Path) -> None:
    for name in (REPORT, plan.TESTS, plan.ROWS):
        (out / name).unlink(missing_ok=True)


def write(out: Path, report: dict[str, Any]) -> None:
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n")


def tests(results: Path) -> dict[str, Any]:
    """Counts and failures from the lines that tests/gpu/conftest.py writes, of a test that ran again the last; 0 where
    it wrote none."""
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    last = {line["test"]: line for line in lines}.values()
    counts = {kind: sum(line["outcome"] == kind for line in last) for kind in ("passed", "failed", "skipped")}
    failures = [{"test": line["test"], "message": line["message"]} for line in last if line["outcome"] == "failed"]
    return {**counts, "failures": failures}


def assemble(about: dict[str, Any], outcomes: dict[str, Outcome], out: Path) -> dict[str, Any]:
    """The whole report. `ok` says that all stages of the plan are through and passed."""
    ran = [outcomes[planned.name] for planned in plan.PLAN if planned.name in outcomes]
    return {
        **about,
        "ok": len(ran) == len(plan.PLAN) and all(o.status == PASSED for o in ran),
        "seconds": sum(o.seconds for o in ran),
        "stages": [o.as_json() for o in ran],
        "tests": tests(out / plan.TESTS),
    }


def table(report: dict[str, Any], out: Path) -> str:
    """The report in lines of text, with the rows that were measured."""
    capability = ".".join(map(str, report["capability"]))
    lines = [
        f"{report['device']}, compute capability {capability}, driver {report['driver']}",
        f"torch {report['torch']}, triton {report['triton']}, CUDA {report['cuda']}, commit {report['commit']}",
        "",
    ]
    ran = {stage["name"]: stage for stage in report["stages"]}
    for planned in plan.PLAN:
        stage = ran.get(planned.name)
        status = "not run" if stage is None else f"{stage['status']:10s} {stage['seconds']:6.1f} s"
        compiled = "" if stage is None or not stage["compiled"] else f"  {stage['compiled']} kernels compiled"
        lines.append(f"{planned.part}  {planned.name:10s} {status}{compiled}")
    counts = report["tests"]
    lines += ["", f"tests: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"]
    lines += [f"  failed: {failure['test']}" for failure in counts["failures"]]
    if (out / plan.ROWS).exists():
        run = load(out / plan.ROWS)
        lines += ["", str(run.anchor)] if run.anchor is not None else []
        for op in dict.fromkeys(row.op for row in run.rows):
            lines += ["", op, tables.terminal(row for row in run.rows if row.op == op)]
        lines += [f"{unit} broke off: {reason}" for unit, reason in run.failed.items()]
    return "\n".join(lines)
