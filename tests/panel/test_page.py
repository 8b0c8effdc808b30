"""The page of panels: its code runs from top to bottom, and prints what stands there."""

import pytest

from tests.support import pages


def test_the_code_of_the_page_runs() -> None:
    pytest.importorskip("pandas")
    assert pages.run("panel.md") == 8
