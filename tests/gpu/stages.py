"""One stage of the run: a command with a deadline, whose output is kept whatever becomes of it."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Characters of a log that stand in the report, too.
END = 2000

PASSED, FAILED, TIMED_OUT, NOT_FOUND = "passed", "failed", "timed out", "not found"


@dataclass(frozen=True)
class Stage:
    """A command, or None where the program was not found, and the seconds it may take."""

    name: str
    command: tuple[str, ...] | None
    limit: float
    environment: tuple[tuple[str, str], ...] = ()


@dataclass
class Outcome:
    """`status` is one of those above, `log` the file with the output, beside the report, and `end` the last of it.
    `compiled` kernels were in no cache."""

    name: str
    status: str
    seconds: float
    limit: float
    command: str
    log: str
    end: str = ""
    compiled: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(stage: Stage, out: Path, deadline: float) -> Outcome:
    """Runs a stage until its limit or `deadline` (time.monotonic()); it and all it started end with it."""
    log = out / f"{stage.name}.log"
    limit = max(0.0, min(stage.limit, deadline - time.monotonic()))
    if stage.command is None:
        log.write_text("The program of this stage was not found.\n")
        return Outcome(stage.name, NOT_FOUND, 0.0, limit, "", log.name, log.read_text())
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | dict(stage.environment)
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            stage.command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = PASSED if process.wait(limit) == 0 else FAILED
        except subprocess.TimeoutExpired:
            status = TIMED_OUT
        finally:
            _end(process)
    seconds, end = time.monotonic() - start, log.read_text(errors="replace")[-END:]
    return Outcome(stage.name, status, seconds, limit, " ".join(stage.command), log.name, end)


def _end(process: subprocess.Popen) -> None:
    """Ends the process group of a command, which is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
