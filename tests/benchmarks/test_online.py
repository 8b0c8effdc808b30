"""The measurement of streams runs, in small."""

import pytest

from benchmarks import online


def test_each_way_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    online.main(["--ids", "20", "--single", "4", "--members", "1", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| members | 1 |" and len(lines) == 6
    assert [line.split()[1] for line in lines[2:]] == ["table,", "dicts,", "loop,", "batch,"]
    first, second = online.ticks(20, range(2))
    assert (first["id"] == second["id"]).all() and (second["hour"] == 1).all()
