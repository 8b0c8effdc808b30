"""The JSON file of a run."""

import json
from pathlib import Path

import pytest

from benchmarks.protocol.anchor import Anchor
from benchmarks.protocol.machine import about
from benchmarks.protocol.row import FIELDS, Row
from benchmarks.reports import tables
from benchmarks.reports.run import Run, UsageError, load, resume
from tests.benchmarks.support import ABOUT, CPU, a_run


def test_a_file_says_what_machine_it_is_of(tmp_path: Path) -> None:
    here = about(CPU, quick=True, rounds=3)
    run = Run(here, tmp_path / "deep" / "run.json")
    run.add("unit", [Row("min_gru", "p12", "float32", "forward", "rnam")], {})
    body = json.loads((tmp_path / "deep" / "run.json").read_text())
    assert {"device", "versions", "threads", "commit", "quick", "rounds", "rows", "details", "shapes", "done"} <= set(
        body
    )
    assert body["versions"]["torch"] and body["threads"] >= 1 and body["device"].startswith("CPU")
    assert [tuple(row) for row in body["rows"]] == [FIELDS]


def test_a_run_goes_on_in_its_file_and_no_other_does(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    first = a_run()
    first.path = path
    first.save(path)
    again = resume(path, ABOUT)
    assert again.done == first.done and again.rows == first.rows
    for key, other in (("commit", "fedc"), ("threads", 2), ("quick", False), ("device", "GPU")):
        with pytest.raises(UsageError, match=f"made with {key} .* choose another file"):
            resume(path, ABOUT | {key: other})
    assert resume(tmp_path / "new.json", ABOUT).done == []
    assert resume(None, ABOUT).path is None


def test_a_shape_that_is_run_again_replaces_its_rows() -> None:
    """All of them: a ratio to a row of another run would be none."""
    run = a_run()
    run.add("min_gru/p12/float32", [Row("min_gru", "p12", "float32", "forward", "rnam", median_ms=7.0)], {})
    assert [row.median_ms for row in run.rows if row.op == "min_gru"] == [7.0]
    assert len(run.done) == 2 and {row.op for row in run.rows} == {"min_gru", "accuracy", "linear_scan"}


def test_a_shape_is_through_for_the_providers_that_ran() -> None:
    run = a_run()
    asked = {"passes": [], "providers": ["rnam"]}
    run.add("min_gru/p12/float32", [], {"asked": asked})
    assert run.has("min_gru/p12/float32", asked) and not run.has("min_gru/mid/float32", asked)
    assert not run.has("min_gru/p12/float32", {"passes": [], "providers": []})


def test_the_anchor_is_kept_and_rates_what_comes() -> None:
    run = a_run()
    run.hold(Anchor(16.0, "a copy"))
    run.add("unit", [Row("min_gru", "mid", "float32", "forward", "rnam", gbps=8.0)], {})
    assert run.rows[-1].copy_fraction == 0.5 and run.rows[0].copy_fraction == 0.25


def test_what_broke_off_is_written_and_read(tmp_path: Path) -> None:
    run = a_run()
    run.path = tmp_path / "run.json"
    run.fail("min_gru/long/float32", "RuntimeError: no room")
    again = load(run.path)
    assert again.failed == {"min_gru/long/float32": "RuntimeError: no room"} and "failed" not in again.about
    assert "- min_gru/long/float32: RuntimeError: no room" in tables.markdown(again)
    again.add("min_gru/long/float32", [], {})
    assert not load(run.path).failed
