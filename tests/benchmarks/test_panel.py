"""The measurement of panels runs, in small."""

import pytest

from benchmarks import panel


def test_each_layout_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    panel.main(["--ids", "20", "--visits", "5", "--columns", "3", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | by id | by time |" and len(lines) == 9
    read = [panel.table(20, 5, 3, layout) for layout in panel.LAYOUTS]
    assert read[1].sort_values(["id", "day"], ignore_index=True).equals(read[0])
