"""The page of streams: its code runs from top to bottom, and prints what stands there."""

from tests.support import pages


def test_the_code_of_the_page_runs() -> None:
    assert pages.run("online.md") == 7
