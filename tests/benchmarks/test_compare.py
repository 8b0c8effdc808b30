"""What is wrong gets no time, what is missing is listed with the reason."""

import dataclasses

import pytest
import torch

from benchmarks import compare, measure, memory, peers, providers, published, report
from benchmarks.provider import Bound, Provider, Unavailable, few_terms, leaves_of, plain
from benchmarks.shapes import Shape
from benchmarks.work import MOST_TERMS
from rnam.blocked import plan
from tests.benchmarks.support import BOTH, CPU, SMALL, job, use
from tests.support.assertions import assert_equal


def test_a_wrong_provider_gets_its_error_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tripled = lambda x, w: 3 * (h := published.min_gru(x, w)) - 2 * h.detach()
    off = lambda x, w: published.min_gru(x, w) * 1.001
    use(monkeypatch, "min_gru", published=published.min_gru, tripled=tripled, off=off)
    rows, details = compare.run(job(), BOTH)
    timed = {(row.provider, row.pass_) for row in rows if row.median_ms is not None}
    assert timed == {("published", "forward"), ("published", "both"), ("tripled", "forward")} | {
        ("copy", pass_) for pass_ in BOTH.passes
    }
    by_name = {(row.provider, row.pass_): row for row in rows}
    wrong = by_name["off", "forward"]
    assert wrong.max_error == pytest.approx(1e-3, rel=0.1)
    assert details[wrong.key]["reason"] == "wrong"
    assert wrong.speedup is None and wrong.gbps is None and wrong.peak_mb is None
    assert by_name["tripled", "both"].max_error == pytest.approx(2, rel=0.1)


def test_the_base_is_one_and_the_copy_fraction_follows_from_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "min_gru", published=published.min_gru, other=published.min_gru)
    rows, details = compare.run(job(), BOTH)
    named = {(row.provider, row.pass_): row for row in rows}
    for pass_ in BOTH.passes:
        base, other, copy = (named[name, pass_] for name in ("published", "other", "copy"))
        assert base.speedup == 1 and copy.speedup is None and copy.copy_fraction == 1
        assert other.speedup == pytest.approx(base.median_ms / other.median_ms)
        assert other.copy_fraction == pytest.approx(copy.median_ms / other.median_ms)
        assert other.gbps == pytest.approx(job().bytes(pass_) / other.median_ms / 1e6)
        assert other.p20_ms <= other.median_ms <= other.p80_ms
        assert details[other.key]["cpu_ms"] > 0


def test_missing_and_failing_providers_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x, w):
        raise RuntimeError("no such luck\nand more")

    missing = Provider("missing", lambda work: peers.load("no_such_module", "no-such-package"))
    use(monkeypatch, "min_gru", missing=missing, fails=fails, narrow=lambda x, w: published.min_gru(x, w)[:, :1])
    rows, details = compare.run(job(), BOTH)
    reasons = {row.provider: details[row.key].get("reason") for row in rows if row.provider != "copy"}
    assert reasons["missing"].startswith("no-such-package is not installed, or does not import")
    assert reasons["fails"] == "failed: RuntimeError: no such luck"
    assert reasons["narrow"].startswith("failed:")
    assert {row.median_ms for row in rows if row.provider != "copy"} == {None}


def test_every_provider_of_every_op_is_right_or_says_why_not() -> None:
    for op, shape in {
        "min_gru": SMALL,
        "linear": Shape("nam-ens", 3, 7, 1, 1, 1, widths=(1, 6, 5, 1)),
        "linear_scan": Shape("scan-128", 1, 2, 20, 6, 6),
        "log_scan": Shape("scan-128", 1, 2, 20, 6, 6),
        "model": Shape("notebook", 2, 3, 10, 4, 4),
    }.items():
        rows, details = compare.run(job(op, shape), dataclasses.replace(BOTH, timed=False))
        assert {row.provider for row in rows} == set(providers.REGISTRY[op])
        for row in rows:
            reason = details[row.key].get("reason", "")
            assert reason != "wrong" and not reason.startswith("failed"), f"{row.key}: {reason} {row.max_error}"
            assert (row.peak_mb is None) == bool(reason)
    stepwise = job("min_gru", Shape("stream-1", 3, 2, 1, 4, 4, state=True))
    rows, details = compare.run(stepwise, dataclasses.replace(BOTH, timed=False, only=("published-step", "rnam")))
    assert [details[row.key].get("reason") for row in rows] == [None] * 4
    assert providers.base("min_gru", state=True) == "published-step"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("op", ["min_gru", "linear_scan", "log_scan"])
def test_what_is_compiled_is_right(op: str) -> None:
    shape = Shape("p12", 2, 3, 9, 4, 4)
    only = tuple(name for name in providers.REGISTRY[op] if name.endswith("compiled"))
    settings = dataclasses.replace(BOTH, timed=False, only=only, left_out={}, next_length=True)
    rows, details = compare.run(job(op, shape), settings)
    for row in rows:
        assert "reason" not in details[row.key], details[row.key]
        assert details[row.key]["compile_s"] > 0 and details[row.key]["graphs"] >= 2


def test_a_loop_over_many_terms_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    many = job("min_gru", Shape("wide", 2 * MOST_TERMS, 2, 3, 2, 2))
    assert few_terms(many) == (MOST_TERMS, 2.0, "64 of 128 terms run, extrapolated")

    def half(work):
        leaves = leaves_of(*(t[:MOST_TERMS] for t in work.leaves))
        return Bound(published.min_gru, leaves, work.incoming[:MOST_TERMS], terms=MOST_TERMS, factor=2.0)

    use(monkeypatch, "min_gru", published=published.min_gru, half=Provider("half", half))
    monkeypatch.setattr(measure, "timer", lambda *_: (lambda: (1e-3, 1e-3), "as told"))
    rows, _ = compare.run(many, BOTH)
    times = {row.provider: row.median_ms for row in rows if row.pass_ == "forward"}
    assert times == {"published": 1.0, "half": 2.0, "copy": 1.0}


def test_providers_take_turns() -> None:
    order: list[str] = []
    timers = {name: lambda name=name: (order.append(name), (0.001, 0.002))[1] for name in ("a", "b")}
    found = measure.measure(timers, 3, {"a": "", "b": ""})
    assert order == ["a", "b"] * 3
    assert found["a"].wall == [1.0] * 3 and found["b"].cpu_median == 2.0


def test_percentiles_are_interpolated() -> None:
    samples = measure.Samples(wall=[4.0, 1.0, 2.0, 3.0, 5.0])
    assert [samples.percentile(p) for p in (0, 20, 50, 80, 100)] == [1.0, 1.8, 3.0, 4.2, 5.0]


def test_copies_of_the_inputs_are_leaves_of_their_own() -> None:
    bound = plain(published.min_gru)(job())
    first, second = measure.rotated(bound, 2)
    assert first is bound
    assert_equal("leaves", second.leaves, first.leaves)
    assert not [b for a, b in zip(first.leaves, second.leaves, strict=True) if a is b or not b.requires_grad]
    assert len(measure.rotated(dataclasses.replace(bound, moving=0), 5)) == 1
    kept = measure.rotated(dataclasses.replace(bound, moving=1), 2)[1]
    assert kept.leaves[0] is not bound.leaves[0] and kept.leaves[1] is bound.leaves[1]


def test_the_peak_of_memory_is_counted() -> None:
    """Of 4 MiB tensors: two live at once, then three, one being a temporary."""
    x = torch.ones(1 << 20)
    near = dict(abs=1 << 12)  # scalars
    assert memory.peak_bytes(lambda: (x * 2) + 1, CPU) == pytest.approx(8 << 20, **near)

    def three():
        a = x * 2
        b = a + 1
        c = a * b
        del a, b
        return c

    assert memory.peak_bytes(three, CPU) == pytest.approx(12 << 20, **near)


def test_memory_from_numpy_counts() -> None:
    """Of which the results of the backend "torch" are, from 4 MiB on, with a page more each to align them."""
    size = torch.Size((1 << 20,))
    pages = dict(abs=1 << 16)  # what Python itself takes, which tracemalloc counts too
    got = memory.peak_bytes(lambda: [plan.new(size, torch.ones(1)) for _ in range(2)], CPU)
    assert got == pytest.approx(2 * ((4 << 20) + plan.PAGE), **pages)


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
    rows, details = compare.run(job(), dataclasses.replace(BOTH, passes=("forward",), rounds=3))
    named = {row.provider: row for row in rows}
    assert named["later"].median_ms is None and named["published"].median_ms is not None
    assert details[named["later"].key]["reason"] == "failed: RuntimeError: out of memory"
    assert len(calls) == 6  # and it is not called again


def test_samples_and_warm_up_stand_beside_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "min_gru", published=published.min_gru)
    monkeypatch.setattr(compare, "clocks", lambda device: "1980 MHz, 2619 MHz, 1980 MHz")
    rows, details = compare.run(job(), dataclasses.replace(BOTH, rounds=2))
    for row in rows:
        detail = details[row.key]
        assert (detail["samples"], detail["warm_up"]) == (2, measure.WARM_UP)
        *cells, remark = report.cells(row, detail)
        assert cells[report.HEAD.index("samples")] == "2"
        assert remark.endswith("clocks 1980 MHz, 2619 MHz, 1980 MHz")


def test_a_loop_over_a_million_steps_is_not_run() -> None:
    long = job("min_gru", Shape("long", 1, 1, providers.MOST_GRU_STEPS + 1, 1, 1))
    with pytest.raises(Unavailable, match="10001 steps are not run one by one, 10000 at most"):
        providers.REGISTRY["min_gru"]["nn.GRU"].bind(long)
