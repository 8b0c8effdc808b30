"""Files of visits, and a run of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnam.command.options import main
from tests.report import support

QUICK = ["--members", "1", "--epochs", "2"]
ASKED = ["--id", "id", "--time", "date", "--target", "died"]


def visits(ids: int = 30) -> Any:
    """The people of the page's tests, with columns that are not learned from."""
    frame = support.visits(ids).drop(columns=["cost"])
    return frame.assign(ward=3, note=[f"text {n}" for n in range(len(frame))], born="1970-01-01", none=None)


def written(path: Path, frame: Any = None, **options: Any) -> Path:
    (visits() if frame is None else frame).to_csv(path, index=False, **options)
    return path


def report(file: Path, *more: str, out: str = "page.html", asked: list[str] = ASKED) -> int:
    return main(["report", str(file), *asked, "--out", str(file.parent / out), *QUICK, *more])
