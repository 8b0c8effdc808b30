"""The code of docs/bands.md runs, and prints what stands there."""

import pytest

from tests.support import pages


def test_the_page_runs_from_top_to_bottom() -> None:
    pytest.importorskip("pandas")
    assert pages.run("bands.md") == 5
