"""What is committed of a run."""

from pathlib import Path

import pytest

from benchmarks import __main__ as cli
from benchmarks.protocol.anchor import Anchor
from benchmarks.reports import plots, publish
from benchmarks.reports.run import UsageError, load
from tests.benchmarks.support import a_run

PNG = b"\x89PNG"


def test_publishing_writes_the_results_and_the_readme(tmp_path: Path) -> None:
    source, readme = tmp_path / "run.json", tmp_path / "README.md"
    a_run().save(source)
    readme.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    made = publish.publish(source, readme, tmp_path / "results")
    folder = tmp_path / "results" / "cpu-of-a-test-1-threads"
    assert {path.name for path in made} == {
        "results.json", "README.md", "speedup.png", "bandwidth.png", "time.png", "error.png"
    }  # fmt: skip
    assert load(folder / "results.json").rows == a_run().rows
    assert not [name for name in plots.PICTURES if not (folder / f"{name}.png").read_bytes().startswith(PNG)]
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| min_gru | p12 |" in text and "(results/cpu-of-a-test-1-threads/README.md)" in text
    publish.publish(source, readme, tmp_path / "results")
    assert readme.read_text() == text


def test_an_anchor_is_given_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stands in the file that is published, and every share is of it; the source keeps what it has."""
    source, readme = tmp_path / "run.json", tmp_path / "README.md"
    a_run().save(source)
    before = source.read_text()
    readme.write_text(f"{publish.BEGIN}\n{publish.END}\n")
    publish.publish(source, readme, tmp_path / "results", (8.0, "one copy was an outlier"))
    run = load(tmp_path / "results" / "cpu-of-a-test-1-threads" / "results.json")
    assert run.anchor == Anchor(8.0, "one copy was an outlier")
    assert {row.copy_fraction for row in run.rows if row.gbps is not None} == {0.5}
    text = (tmp_path / "results" / "cpu-of-a-test-1-threads" / "README.md").read_text()
    assert (
        "Copy bandwidth 8 GB/s (one copy was an outlier); the data sheet" in text
        and "one copy was" in readme.read_text()
    )
    assert source.read_text() == before
    for options in (["--anchor", "8"], ["--because", "no figure"]):
        with pytest.raises(SystemExit):
            cli.main(["publish", str(source), *options])
        assert "--anchor and --because go together" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["publish", str(source), "--anchor", "-1", "--because", "none"])
    assert "must be positive" in capsys.readouterr().err


def test_publishing_without_the_comments_writes_nothing(tmp_path: Path) -> None:
    source, readme = tmp_path / "run.json", tmp_path / "README.md"
    a_run().save(source)
    readme.write_text(f"{publish.BEGIN}\n")
    with pytest.raises(UsageError, match="once each"):
        publish.publish(source, readme, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_readme_has_the_comments() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    assert text.count(publish.BEGIN) == text.count(publish.END) == 1
