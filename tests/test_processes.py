"""Which process runs a test, and in which of the two commands: by its markers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKED = """
import pytest

def test_plain(): pass
@pytest.mark.long
def test_long(): pass
@pytest.mark.compiled
def test_compiled(): pass
@pytest.mark.slow
@pytest.mark.long
def test_slow(): pass
@pytest.mark.kernels
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.long_in_interpreter)])
def test_kernels(n): pass
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.interpreter)])
def test_interpreter(n): pass
"""


@pytest.mark.parametrize(
    ("interpreted", "options", "runs"),
    [
        (False, (), {"plain", "kernels[1]", "kernels[2]", "interpreter[1]"}),
        (False, ("-m", "long and not slow"), {"long", "compiled"}),
        (True, (), {"kernels[1]", "interpreter[2]"}),
        (True, ("-m", "long and not slow"), {"kernels[2]"}),
    ],
)
def test_what_is_selected(interpreted: bool, options: tuple[str, ...], runs: set[str], tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(MARKED)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_INTERPRET": "1"} if interpreted else {}
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "tests.conftest"]
    command = [sys.executable, "-m", "pytest", *settings, str(tmp_path), "--collect-only", "-q", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert set(re.findall(r"::test_(\S+)", done.stdout)) == runs
