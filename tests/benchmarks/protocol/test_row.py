"""A row has the fields of the plan."""

from benchmarks.protocol.row import FIELDS, Row, compare_with


def test_a_row_has_the_fields_of_the_plan() -> None:
    assert FIELDS == (
        "op", "shape", "dtype", "pass", "provider", "median_ms", "p20_ms", "p80_ms", "gbps", "copy_fraction",
        "peak_mb", "max_error", "speedup",
    )  # fmt: skip
    row = Row("min_gru", "p12", "float32", "both", "rnam", median_ms=1.5)
    assert row.as_json()["pass"] == "both"


def test_speed_ups_are_over_the_base_by_wall_and_by_cpu_time() -> None:
    row = lambda name, ms, cpu: Row("op", "s", "t", "p", name, median_ms=ms, detail={"cpu_ms": cpu})
    rows = [row("base", 4.0, 3.0), row("fast", 1.0, 1.5), Row("op", "s", "t", "p", "untimed")]
    compare_with("base", rows)
    assert [r.speedup for r in rows] == [1.0, 4.0, None] and rows[1].detail["cpu_speedup"] == 2.0
    compare_with("untimed", rows[1:])
    assert rows[1].speedup == 4.0
