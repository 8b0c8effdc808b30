"""The tables of the terminal, of a device's results and of the README."""

from benchmarks.reports import tables
from tests.benchmarks.support import a_run


def test_the_tables_show_the_wrong_and_the_missing() -> None:
    run = a_run()
    lines = tables.terminal(run.rows).splitlines()
    assert "5.00x" in lines[1] and "50%" in lines[1]
    assert " wrong " in lines[4] and "5.0e-01" in lines[4]
    assert lines[5].endswith("peer is not installed")
    text = tables.markdown(run)
    assert text.startswith("# CPU of a test") and "commit 0123456789ab" in text and "a quick run" in text
    assert "## min_gru" in text and "| p12 | 37 x 32 x 48 x 16 | scaled down: batch 512 -> 32 |" in text
    assert "peer is not installed" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(tables.COLUMNS) + 2, 4}


def test_the_summary_shows_the_losses() -> None:
    """vmap is twice as fast in this run, and the summary says so."""
    lines = tables.summary(a_run()).splitlines()
    assert lines[4] == "| min_gru | p12 | float32 | forward | 2 | 5.0x | 0.50x | vmap | 50% | 1.00 |"
