"""The tables of the terminal, of a device's results and of the README."""

from benchmarks.protocol.anchor import Anchor
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


def test_the_tables_say_what_a_share_of_copy_bandwidth_is_of() -> None:
    run = a_run()
    assert "copy bandwidth" not in tables.markdown(run).split("Milliseconds")[0]
    copies = (
        {"way": "copy_", "bytes": 67_112_960, "median_ms": 0.0274, "p20_ms": 0.0273, "p80_ms": 0.028, "gbps": 2451.8,
         "method": "graph, cold L2"},
        {"way": "Triton", "bytes": 67_112_960, "failed": "RuntimeError: no room"},
    )  # fmt: skip
    run.hold(Anchor(16.0, "the fastest of them", 20.0, copies))
    assert run.rows[0].copy_fraction == 0.25 and run.rows[3].copy_fraction is None
    line = "Copy bandwidth 16 GB/s (the fastest of them); 80% of the data sheet's 20 GB/s."
    assert tables.summary(run).splitlines()[2] == line
    text = tables.markdown(run)
    assert line in text
    assert "| copy_ | 67.1 | 0.0274 | 0.0273 | 0.028 | 2451.8 | graph, cold L2 |" in text
    assert "| Triton | 67.1 |  |  |  |  | failed: RuntimeError: no room |" in text


def test_the_summary_shows_the_losses() -> None:
    """vmap is twice as fast in this run, and the summary says so."""
    lines = tables.summary(a_run()).splitlines()
    assert lines[4] == "| min_gru | p12 | float32 | forward | 2 | 5.0x | 0.50x | vmap | 50% | 1.00 |"
