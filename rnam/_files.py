"""Files that are there as a whole or not at all, and JSON that is read without a guess."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

__all__ = ["check_parent", "checksum", "replace", "strict_json"]


def replace(path: Path, content: bytes) -> None:
    """Put `content` in the place of a file. A reader, or a crash, finds the old one or the new one.

    Raises:
        IsADirectoryError: the path is a folder.
        FileNotFoundError, NotADirectoryError: there is no folder in which it would be.
    """
    target = Path(os.path.realpath(path))  # the file that a link leads to
    if target.is_dir():
        raise IsADirectoryError(f"{path} must be a file or nothing yet, got a folder")
    check_parent(target)
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            part.chmod(target.stat().st_mode & 0o7777)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def check_parent(path: Path) -> None:
    """Raises FileNotFoundError or NotADirectoryError where `path` has no folder to be in."""
    if not path.parent.exists():
        raise FileNotFoundError(f"{path.parent} must be a folder, in which {path.name} is made, got none")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} must be a folder, in which {path.name} is made, got a file")


def strict_json(text: str, *, twice: str, constant: str) -> Any:
    """Read JSON, and refuse what `json.loads` takes beyond it.

    Args:
        twice: the error of an object with a key that comes twice.
        constant: the error of NaN and the infinities, with {} for the name.

    Raises:
        ValueError: one of these two; or the text is no JSON.
    """

    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError(twice)
        return found

    def refused(name: str) -> float:
        raise ValueError(constant.format(name))

    return json.loads(text, object_pairs_hook=each_once, parse_constant=refused)


def checksum(value: Any) -> str:
    """SHA-256 of what JSON holds, whatever its blanks and line ends."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
