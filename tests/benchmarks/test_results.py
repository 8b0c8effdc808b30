"""The JSON file, the tables and what is published."""

import json
from pathlib import Path

import pytest

from benchmarks import plots, publish, report, results_file
from benchmarks.results_file import FIELDS, Mismatch, Row, Run, about, resume
from tests.benchmarks.support import ABOUT, CPU, a_run

PNG = b"\x89PNG"


def test_a_row_has_the_fields_of_the_plan() -> None:
    assert FIELDS == (
        "op", "shape", "dtype", "pass", "provider", "median_ms", "p20_ms", "p80_ms", "gbps", "copy_fraction",
        "peak_mb", "max_error", "speedup",
    )  # fmt: skip
    row = Row("min_gru", "p12", "float32", "both", "rnam", median_ms=1.5)
    assert Row.from_json(row.as_json()) == row


def test_a_file_says_what_machine_it_is_of(tmp_path: Path) -> None:
    here = about(CPU, quick=True, rounds=3)
    run = Run(here, tmp_path / "deep" / "run.json")
    run.add("unit", [Row("min_gru", "p12", "float32", "forward", "rnam")], {}, {})
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
    assert again.done == first.done and again.rows == first.rows and again.details == first.details
    for key, other in (("commit", "fedc"), ("threads", 2), ("quick", False), ("device", "GPU")):
        with pytest.raises(Mismatch, match=f"made with {key} .* choose another file"):
            resume(path, ABOUT | {key: other})
    assert resume(tmp_path / "new.json", ABOUT).done == []
    assert resume(None, ABOUT).path is None


def test_a_shape_that_is_run_again_replaces_its_rows() -> None:
    """All of them: a ratio to a row of another run would be none."""
    run = a_run()
    run.add("min_gru/p12/float32", [Row("min_gru", "p12", "float32", "forward", "rnam", median_ms=7.0)], {}, {})
    assert [row.median_ms for row in run.rows if row.op == "min_gru"] == [7.0]
    assert len(run.done) == 2 and {row.op for row in run.rows} == {"min_gru", "accuracy", "linear_scan"}
    assert not run.details


def test_a_shape_is_through_for_the_providers_that_ran() -> None:
    run = a_run()
    asked = {"passes": [], "providers": ["rnam"]}
    run.add("min_gru/p12/float32", [], {}, {"asked": asked})
    assert run.has("min_gru/p12/float32", asked) and not run.has("min_gru/mid/float32", asked)
    assert not run.has("min_gru/p12/float32", {"passes": [], "providers": []})


def test_the_tables_show_the_wrong_and_the_missing() -> None:
    run = a_run()
    lines = report.terminal(run.rows, run.details).splitlines()
    assert "5.00x" in lines[1] and "50%" in lines[1]
    assert " wrong " in lines[4] and "5.0e-01" in lines[4]
    assert lines[5].endswith("peer is not installed")
    text = report.markdown(run)
    assert text.startswith("# CPU of a test") and "commit 0123456789ab" in text and "a quick run" in text
    assert "## min_gru" in text and "| p12 | 37 x 32 x 48 x 16 | scaled down: batch 512 -> 32 |" in text
    assert "peer is not installed" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(report.HEAD) + 2, 4}


def test_the_summary_shows_the_losses() -> None:
    """vmap is twice as fast in this run, and the summary says so."""
    lines = report.summary(a_run()).splitlines()
    assert lines[4] == "| min_gru | p12 | float32 | forward | 2 | 5.0x | 0.50x | vmap | 50% | 1.00 |"


def test_publishing_writes_the_results_and_the_readme(tmp_path: Path) -> None:
    source, readme = tmp_path / "run.json", tmp_path / "README.md"
    a_run().save(source)
    readme.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    made = publish.publish(source, readme, tmp_path / "results")
    folder = tmp_path / "results" / "cpu-of-a-test-1-threads"
    assert {path.name for path in made} == {
        "results.json", "README.md", "speedup.png", "bandwidth.png", "time.png", "error.png"
    }  # fmt: skip
    assert Run.load(folder / "results.json").rows == a_run().rows
    for name in plots.names():
        assert (folder / f"{name}.png").read_bytes().startswith(PNG), name
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| min_gru | p12 |" in text and "(results/cpu-of-a-test-1-threads/README.md)" in text
    publish.publish(source, readme, tmp_path / "results")
    assert readme.read_text() == text


def test_publishing_without_the_comments_writes_nothing(tmp_path: Path) -> None:
    source, readme = tmp_path / "run.json", tmp_path / "README.md"
    a_run().save(source)
    readme.write_text(f"{publish.BEGIN}\n")
    with pytest.raises(publish.NoMarkers, match="once each"):
        publish.publish(source, readme, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_readme_has_the_comments() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    assert text.count(publish.BEGIN) == text.count(publish.END) == 1


@pytest.mark.parametrize("git", ["", "of an older commit"])
def test_a_copy_is_told_its_commit(git: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "_output", lambda *command: git)
    monkeypatch.delenv("RNAM_COMMIT", raising=False)
    assert about(CPU, quick=True, rounds=3)["commit"] == (f"{git} changed" if git else "unknown")
    monkeypatch.setenv("RNAM_COMMIT", "abcdef")
    assert about(CPU, quick=True, rounds=3)["commit"] == "abcdef"


def test_what_broke_off_is_written_and_read(tmp_path: Path) -> None:
    run = a_run()
    run.path = tmp_path / "run.json"
    run.fail("min_gru/long/float32", "RuntimeError: no room")
    again = Run.load(run.path)
    assert again.failed == {"min_gru/long/float32": "RuntimeError: no room"} and "failed" not in again.about
    assert "- min_gru/long/float32: RuntimeError: no room" in report.markdown(again)
    again.add("min_gru/long/float32", [], {}, {})
    assert not Run.load(run.path).failed
