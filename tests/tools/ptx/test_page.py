"""The examples of docs/ptx.md run as they stand there."""

import re
import runpy
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "ptx.md"


@pytest.mark.compiled
def test_examples_run(tmp_path: Path) -> None:
    """In one file, since Triton reads the source of a kernel."""
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(examples) == 3
    script = tmp_path / "examples.py"
    script.write_text("\n".join(examples))
    runpy.run_path(str(script))


def test_every_file_is_in_the_table() -> None:
    files = {path.name for path in (PAGE.parents[1] / "tools" / "ptx").glob("*.py")} - {"__init__.py"}
    table = "\n".join(line for line in PAGE.read_text().splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+\.py)`", table)) == files
