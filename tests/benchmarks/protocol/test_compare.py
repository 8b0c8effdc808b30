"""What is wrong gets no time, what is missing is listed with the reason."""

import dataclasses

import pytest

from benchmarks.protocol import compare, measure
from benchmarks.protocol.provider import Provider
from benchmarks.providers import peers, published
from benchmarks.providers.registry import compare_all
from benchmarks.reports import tables
from tests.benchmarks.support import BOTH, job, use


def test_a_wrong_provider_gets_its_error_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tripled = lambda x, w: 3 * (h := published.min_gru(x, w)) - 2 * h.detach()
    off = lambda x, w: published.min_gru(x, w) * 1.001
    use(monkeypatch, "min_gru", published=published.min_gru, tripled=tripled, off=off)
    rows = compare_all(job(), BOTH)
    timed = {(row.provider, row.pass_) for row in rows if row.median_ms is not None}
    assert timed == {("published", "forward"), ("published", "both"), ("tripled", "forward")}
    by_name = {(row.provider, row.pass_): row for row in rows}
    wrong = by_name["off", "forward"]
    assert wrong.max_error == pytest.approx(1e-3, rel=0.1)
    assert wrong.detail["reason"] == "wrong"
    assert wrong.speedup is None and wrong.gbps is None and wrong.peak_mb is None
    assert by_name["tripled", "both"].max_error == pytest.approx(2, rel=0.1)


def test_the_base_is_one_and_the_bandwidth_follows_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "min_gru", published=published.min_gru, other=published.min_gru)
    rows = compare_all(job(), BOTH)
    named = {(row.provider, row.pass_): row for row in rows}
    for pass_ in BOTH.passes:
        base, other = (named[name, pass_] for name in ("published", "other"))
        assert base.speedup == 1 and base.copy_fraction is None  # of a run, whose anchor is not known here
        assert other.speedup == pytest.approx(base.median_ms / other.median_ms)
        assert other.gbps == pytest.approx(job().bytes(pass_) / other.median_ms / 1e6)
        assert other.p20_ms <= other.median_ms <= other.p80_ms
        assert other.detail["cpu_ms"] > 0


def test_missing_and_failing_providers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x, w):
        raise RuntimeError("no such luck\nand more")

    missing = Provider("missing", lambda work: peers.load("no_such_module", "no-such-package"))
    use(monkeypatch, "min_gru", missing=missing, fails=fails, narrow=lambda x, w: published.min_gru(x, w)[:, :1])
    rows = compare_all(job(), BOTH)
    reasons = {row.provider: row.detail.get("reason") for row in rows}
    assert reasons["missing"].startswith("no-such-package is not installed, or does not import")
    assert reasons["fails"] == "failed: RuntimeError: no such luck"
    assert reasons["narrow"].startswith("failed:")
    assert {row.median_ms for row in rows} == {None}


def test_a_provider_that_fails_while_it_is_timed_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right when it is compared, and out of memory, say, in a later call; the others are timed."""
    calls = []

    def fails_later(x, w):
        calls.append(0)
        if len(calls) > 5:
            raise RuntimeError("out of memory")
        return published.min_gru(x, w)

    use(monkeypatch, "min_gru", published=published.min_gru, later=fails_later)
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0.0)  # a call a sample
    rows = compare_all(job(), dataclasses.replace(BOTH, passes=("forward",), rounds=3))
    named = {row.provider: row for row in rows}
    assert named["later"].median_ms is None and named["published"].median_ms is not None
    assert named["later"].detail["reason"] == "failed: RuntimeError: out of memory"
    assert len(calls) == 6  # and it is not called again


def test_samples_and_warm_up_stand_beside_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "min_gru", published=published.min_gru)
    monkeypatch.setattr(compare, "clocks", lambda device: "1980 MHz, 2619 MHz, 1980 MHz")
    rows = compare_all(job(), dataclasses.replace(BOTH, rounds=2))
    for row in rows:
        detail = row.detail
        assert (detail["samples"], detail["warm_up"]) == (2, measure.WARM_UP)
        *cells, remark = tables.cells(row)
        assert cells[list(tables.COLUMNS).index("samples")] == "2"
        assert remark.endswith("clocks 1980 MHz, 2619 MHz, 1980 MHz")
