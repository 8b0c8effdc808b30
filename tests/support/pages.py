"""The code of a page of docs/ that is one program: it runs from top to bottom, and prints what stands there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """The Python of a page, each with the block of what it prints, "" where there is none."""
    return re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", (DOCS / page).read_text(), re.DOTALL)


def run(page: str) -> int:
    """Run the Python of a page. A block without a language after one of Python is what that prints.

    Returns:
        the number of blocks.
    """
    names: dict[str, Any] = {}
    found = blocks(page)
    for code, expected in found:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        assert out.getvalue() == expected
    return len(found)
