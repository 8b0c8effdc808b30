"""Results of finished pieces of work in a JSON file, from which an interrupted run goes on.

format    FORMAT
settings  what decides the results: options, data, versions
done      {name of a piece of work: its result}
digest    of `done`, so that a damaged file is found
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.checkpoint import CheckpointError, differences, refused, write

FORMAT = "rnam examples finished 1"


class Finished:
    """What is done, by name, and the file that keeps it.

    Results are what JSON holds: numbers, strings, lists, and dicts with strings as keys. Python writes a float so that
    the same float is read again; a run that goes on ends with the same numbers.

    Args:
        path: the file; its folder is there. Where there is no file, nothing is done yet and one is written.
        about: what decides the results, in the same form.

    Raises:
        CheckpointError: the file is damaged, is something else, or was made with other settings than `about`, or it
            cannot be written.
        OSError: it cannot be read at all.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about: dict[str, Any] = json.loads(json.dumps(about))  # lists for tuples, as they are read again
        self.done: dict[str, Any] = {}
        if path.exists():
            self.done = self._read()
        else:
            self._write()

    def add(self, name: str, result: Any) -> None:
        """Keep a result, at once.

        Raises:
            CheckpointError: it cannot be written. What the file held is still there.
        """
        self.done[name] = result
        self._write()

    def _write(self) -> None:
        content = {"format": FORMAT, "settings": self._about, "done": self.done, "digest": _digest(self.done)}
        write(self.path, json.dumps(content).encode())

    def _read(self) -> dict[str, Any]:
        whole = self.path.read_bytes()
        try:
            content = json.loads(whole)
        except ValueError as error:
            raise refused(self.path, f"is damaged, or is not a file of results ({error})") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise refused(self.path, "is not a file of an example's results")
        differ = differences(content.get("settings"), self._about)
        if differ:
            raise refused(self.path, "was made with other settings: " + "; ".join(differ))
        done = content.get("done")
        if not isinstance(done, dict) or content.get("digest") != _digest(done):
            raise refused(self.path, "is damaged: its results are not those that were written")
        return done


def _digest(done: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(done).encode()).hexdigest()


__all__ = ["CheckpointError", "Finished"]
