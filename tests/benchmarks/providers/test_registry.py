"""Every provider is right, or says why it does not do a piece of work."""

import dataclasses

import pytest

from benchmarks.protocol import measure
from benchmarks.protocol.provider import Bound, Provider, Unavailable, few_terms, leaves_of
from benchmarks.protocol.shapes import Shape
from benchmarks.protocol.work import MOST_TERMS
from benchmarks.providers import peers, published, registry
from benchmarks.providers.registry import compare_all
from tests.benchmarks.support import BOTH, SMALL, job, use


def test_every_provider_of_every_op_is_right_or_says_why_not() -> None:
    for op, shape in {
        "min_gru": SMALL,
        "linear": Shape("nam-ens", 3, 7, 1, 1, 1, widths=(1, 6, 5, 1)),
        "linear_scan": Shape("scan-128", 1, 2, 20, 6, 6),
        "log_scan": Shape("scan-128", 1, 2, 20, 6, 6),
        "model": Shape("notebook", 2, 3, 10, 4, 4),
    }.items():
        rows = compare_all(job(op, shape), dataclasses.replace(BOTH, timed=False))
        assert {row.provider for row in rows} == set(registry.REGISTRY[op])
        for row in rows:
            reason = row.detail.get("reason", "")
            assert reason != "wrong" and not reason.startswith("failed"), f"{row.key}: {reason} {row.max_error}"
            assert (row.peak_mb is None) == bool(reason)
    stepwise = job("min_gru", Shape("stream-1", 3, 2, 1, 4, 4, state=True))
    rows = compare_all(stepwise, dataclasses.replace(BOTH, timed=False), ("published-step", "rnam"))
    assert [row.detail.get("reason") for row in rows] == [None] * 4
    assert registry.base("min_gru", state=True) == "published-step"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("op", ["min_gru", "linear_scan", "log_scan"])
def test_what_is_compiled_is_right(op: str) -> None:
    shape = Shape("p12", 2, 3, 9, 4, 4)
    only = tuple(name for name in registry.REGISTRY[op] if name.endswith("compiled"))
    settings = dataclasses.replace(BOTH, timed=False, left_out={})
    rows = compare_all(job(op, shape), settings, only)
    for row in rows:
        assert "reason" not in row.detail, row.detail
        assert row.detail["compile_s"] > 0 and row.detail["graphs"] >= 2


def test_a_loop_over_many_terms_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    many = job("min_gru", Shape("wide", 2 * MOST_TERMS, 2, 3, 2, 2))
    assert few_terms(many) == {"terms": 64, "factor": 2.0, "note": "64 of 128 terms run, extrapolated"}

    def half(work):
        leaves = leaves_of(*(t[:MOST_TERMS] for t in work.leaves))
        return Bound(published.min_gru, leaves, work.incoming[:MOST_TERMS], terms=MOST_TERMS, factor=2.0)

    use(monkeypatch, "min_gru", published=published.min_gru, half=Provider("half", half))
    monkeypatch.setattr(measure, "timer", lambda *_: (lambda: (1e-3, 1e-3), "as told"))
    rows = compare_all(many, BOTH)
    times = {row.provider: row.median_ms for row in rows if row.pass_ == "forward"}
    assert times == {"published": 1.0, "half": 2.0}


def test_a_loop_over_a_million_steps_is_not_run() -> None:
    long = job("min_gru", Shape("long", 1, 1, peers.MOST_GRU_STEPS + 1, 1, 1))
    with pytest.raises(Unavailable, match="10001 steps are not run one by one, 10000 at most"):
        registry.REGISTRY["min_gru"]["nn.GRU"].bind(long)
