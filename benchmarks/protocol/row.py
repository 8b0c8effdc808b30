"""One provider's result at one piece of work."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.protocol.measure import Samples, Timer, measure


@dataclass
class Row:
    """None where there is no result. `shape` is a name of `shapes`.

    `detail` has what a file keeps beside the row: the method, CPU time, compile time, or why there is no time.
    """

    op: str
    shape: str
    dtype: str
    pass_: str
    provider: str
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    gbps: float | None = None
    copy_fraction: float | None = None
    peak_mb: float | None = None
    max_error: float | None = None
    speedup: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return "/".join((self.op, self.shape, self.dtype, self.pass_, self.provider))

    def as_json(self) -> dict[str, Any]:
        return {name.rstrip("_"): value for name, value in vars(self).items() if name != "detail"}

    def add(self, samples: Samples, factor: float = 1.0) -> None:
        """The times of `samples`, multiplied by `factor`."""
        self.median_ms, self.p20_ms, self.p80_ms = (factor * samples.percentile(p) for p in (50, 20, 80))
        self.detail |= {"method": samples.method, "samples": len(samples.wall)}
        if samples.cpu_median is not None:
            self.detail["cpu_ms"] = factor * samples.cpu_median


FIELDS = tuple(Row("", "", "", "", "").as_json())


def compare_with(base: str, rows: Iterable[Row]) -> None:
    """Fills in how many times faster than the base each row is, by wall time and by CPU time."""
    timed = {row.provider: row for row in rows if row.median_ms is not None}
    if base not in timed:
        return
    for row in timed.values():
        row.speedup = timed[base].median_ms / row.median_ms
        if "cpu_ms" in row.detail:
            row.detail["cpu_speedup"] = timed[base].detail["cpu_ms"] / row.detail["cpu_ms"]


def time_all(
    op: str, shape: str, pass_: str, timers: dict[str, Timer], rounds: int, base: str = "", note: str = ""
) -> list[Row]:
    """A row of each timer by name, in turns; speed-ups are over `base`."""
    rows = []
    for name, samples in measure(timers, rounds, dict.fromkeys(timers, "calls")).items():
        row = Row(op, shape, "float32", pass_, name, detail={"note": note})
        row.add(samples)
        rows.append(row)
    compare_with(base, rows)
    return rows
