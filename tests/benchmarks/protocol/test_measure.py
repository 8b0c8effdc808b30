"""Who is timed when, and on which copies."""

import dataclasses

import torch

from benchmarks.protocol import measure
from benchmarks.protocol.provider import plain
from benchmarks.providers import published
from tests.benchmarks.support import job


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
    assert [torch.equal(a, b) for a, b in zip(first.leaves, second.leaves, strict=True)] == [True, True]
    assert not [b for a, b in zip(first.leaves, second.leaves, strict=True) if a is b or not b.requires_grad]
    assert len(measure.rotated(dataclasses.replace(bound, moving=0), 5)) == 1
    kept = measure.rotated(dataclasses.replace(bound, moving=1), 2)[1]
    assert kept.leaves[0] is not bound.leaves[0] and kept.leaves[1] is bound.leaves[1]
