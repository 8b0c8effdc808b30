"""Data as a page: JSON that no name can break out of, in a template whose policy lets nothing in or out."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Packed", "render"]


@dataclass(frozen=True, eq=False)
class Packed:
    """An array that the page has as float32 or int32 in base64, by rows, the least byte first. What the page shows of
    it has four digits."""

    array: NDArray[Any]

    def told(self) -> dict[str, Any]:
        kind = "<i4" if self.array.dtype.kind in "iub" else "<f4"
        with np.errstate(over="ignore"):
            content = np.ascontiguousarray(self.array, kind).tobytes()
        return {"type": kind[1:], "base64": base64.b64encode(content).decode()}


def render(data: Mapping[str, Any]) -> str:
    """The page of these data: dicts, lists, words, numbers, arrays and `Packed`. NaN becomes null.

    A script or a style runs by its checksum alone, and nothing is loaded: see the policy in page.html.
    """
    style, script = _read("page.css"), _read("charts.js") + _read("page.js")
    parts = {
        "title": html.escape(str(data["title"])),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
        "data": _json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("page.html"))


def _read(name: str) -> str:
    return files("rnam.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair has no bytes


def _plain(value: Any) -> Any:
    if isinstance(value, Packed):
        return value.told()
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
