"""The JSON file of a run: what machine, the rows, and which shapes are through, so that a run can go on."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.protocol import anchor
from benchmarks.protocol.anchor import Anchor
from benchmarks.protocol.row import Row

SAME = ("device", "versions", "threads", "commit", "quick")


class UsageError(Exception):
    """What was asked for can't be done, and why."""


@dataclass
class Run:
    """A run and its file, if it has one. Where the anchor is known, every row has its share of it."""

    about: dict[str, Any]
    path: Path | None = None
    rows: list[Row] = field(default_factory=list)
    shapes: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    anchor: Anchor | None = None

    def has(self, unit: str, asked: dict[str, Any]) -> bool:
        """Whether a shape is through, with the passes and providers that are asked for now."""
        return unit in self.done and self.shapes[unit].get("asked", asked) == asked

    def add(self, unit: str, rows: list[Row], shape: dict[str, Any]) -> None:
        """What one shape gave, in the place of what it gave before; the file is written at once."""
        new = {row.key for row in rows}
        kept = [row for row in self.rows if row.key not in new and not row.key.startswith(f"{unit}/")]
        self.rows = kept + rows
        if self.anchor is not None:
            self.anchor.rate(rows)
        self.shapes[unit] = shape
        self.done = [*(other for other in self.done if other != unit), unit]
        self.failed.pop(unit, None)
        self.save(self.path)

    def hold(self, found: Anchor) -> None:
        """Makes this the anchor, for the rows that there are and those to come."""
        self.anchor = found
        found.rate(self.rows)
        self.save(self.path)

    def fail(self, unit: str, reason: str) -> None:
        """That a shape broke off as a whole, and why; what it gave before stays."""
        self.failed[unit] = reason
        self.save(self.path)

    def save(self, path: Path | None) -> None:
        if path is not None:
            known = {} if self.anchor is None else {"anchor": self.anchor.as_json()}
            state = {**known, "shapes": self.shapes, "done": self.done, "failed": self.failed}
            rows = [row.as_json() for row in self.rows]
            write(path, {**self.about, **state, "rows": rows, "details": {row.key: row.detail for row in self.rows}})


def load(path: Path, here: dict[str, Any] | None = None) -> Run:
    body = read(path, here)
    try:
        details = body.pop("details")
        rows = [Row(pass_=row.pop("pass"), **row) for row in body.pop("rows")]
        shapes, done = body.pop("shapes"), body.pop("done")
        known = anchor.from_json(body.pop("anchor")) if "anchor" in body else None
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} has no run: {error!r}") from error
    for row in rows:
        row.detail = details.get(row.key, {})
    return Run(body, path, rows, shapes, done, body.pop("failed", {}), known)


def read(path: Path, here: dict[str, Any] | None = None) -> dict[str, Any]:
    """The body of a file; with `here`, one of the same device, versions, threads, commit and --quick."""
    try:
        body: dict[str, Any] = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    for key in SAME if here is not None else ():
        if body.get(key) != here[key]:
            raise UsageError(f"{path} was made with {key} {body.get(key)!r}, not {here[key]!r}: choose another file")
    return body


def write(path: Path, body: dict[str, Any]) -> None:
    """A file of JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(body, indent=1) + "\n")
    beside.replace(path)


def resume(path: Path | None, about: dict[str, Any]) -> Run:
    """The run in `path` if there is one, which was made with the same, else a new one."""
    return load(path, about) if path is not None and path.exists() else Run(about, path)
