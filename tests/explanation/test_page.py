"""The page of explanations: its code runs from top to bottom, and prints what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import pages


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pages.run("explaining.md") == 7
