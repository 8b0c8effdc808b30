"""The order of what is captured, replayed and timed on a GPU, on a torch.cuda that only writes down what is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks.protocol import measure
from benchmarks.protocol.provider import Bound, leaves_of

CUDA = torch.device("cuda")


class Fake:
    """Of torch.cuda. `log` has what was done, and calls between the ends of a graph's capture inside its brackets."""

    def __init__(self, refuse: bool = False, milliseconds: float = 1.0) -> None:
        self.log: list[str] = []
        self.refuse = refuse
        self.milliseconds = milliseconds
        self.graphs = 0
        self.current: Any = self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Fake:
        fake = self

        class Graph:
            def __init__(self) -> None:
                fake.graphs += 1
                self.name = f"graph {fake.graphs}"

            def replay(self) -> None:
                fake.log.append(f"replay {self.name}")

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                fake.log.append("event")

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, _: Any) -> float:
                return fake.milliseconds

        class Stream:
            def wait_stream(self, _: Any) -> None:
                pass

        @contextlib.contextmanager
        def on_stream(stream: Any) -> Iterator[None]:
            before, fake.current = fake.current, stream
            yield
            fake.current = before

        @contextlib.contextmanager
        def graph(graph: Graph, pool: str, stream: Any) -> Iterator[None]:
            """As that of torch: an error leaves the stream of the capture the current one."""
            assert pool == "pool"
            before, fake.current = fake.current, stream
            fake.log.append(f"[{graph.name}")
            yield
            if fake.refuse:
                raise RuntimeError("operation not permitted when stream is capturing\nand more")
            fake.log.append("]")
            fake.current = before

        class Generator:
            def clone_state(self) -> str:
                return "fresh"

            def graphsafe_set_state(self, state: str) -> None:
                fake.log.append(f"{state} generator")

        for name, value in {
            "CUDAGraph": Graph,
            "Event": Event,
            "Stream": Stream,
            "stream": on_stream,
            "graph": graph,
            "current_stream": lambda: fake.current,
            "set_stream": lambda stream: setattr(fake, "current", stream),
            "synchronize": lambda *_: None,
            "graph_pool_handle": lambda: "pool",
            "current_device": lambda: 0,
            "default_generators": (Generator(),),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        end = lambda device, pool: fake.log.append(f"end {pool} of {device}")
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
        fake.current = Stream()
        return fake


class Noted(torch.autograd.Function):
    """A function that says when it is called, forward and backward."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, log: list[str]) -> torch.Tensor:
        ctx.log = log
        log.append("forward")
        return 2 * x

    @staticmethod
    def backward(ctx, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        ctx.log.append("backward")
        return 2 * dy, None


def bounds(log: list[str], count: int = 2) -> list[Bound]:
    return measure.rotated(Bound(lambda x: Noted.apply(x, log), leaves_of(torch.ones(3)), torch.ones(3)), count)


def test_calls_on_all_copies_are_captured_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake().install(monkeypatch)
    timer, method = measure.timer(bounds(fake.log), "forward", CUDA)
    assert method == "graph, cold L2"
    start = fake.log.index("[graph 2")
    assert fake.log[:start] == ["forward"] * 3 * measure.WARM_UP  # the first copy twice as often, to see what it takes
    assert fake.log[start:] == ["[graph 2", "forward", "forward", "]", "event", "replay graph 2", "event"]
    assert timer() == (1e-3 / 2, None)


def test_what_a_backward_reads_is_made_again_before_each_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake().install(monkeypatch)
    timer, method = measure.timer(bounds(fake.log), "backward", CUDA)
    assert method == "graph, cold L2"
    captured = ["[graph 1", "forward", "forward", "]", "[graph 2", "backward", "backward", "]"]
    start = fake.log.index("[graph 1")
    assert fake.log[start : start + 8] == captured
    fake.log.clear()
    timer()
    assert fake.log == ["replay graph 1", "event", "replay graph 2", "event"]


def test_a_capture_that_fails_is_ended_and_calls_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(refuse=True).install(monkeypatch)
    before = fake.current
    timer, method = measure.timer(bounds(fake.log), "both", CUDA)
    assert method == "calls, cold L2: no graph (operation not permitted when stream is capturing)"
    assert fake.current is before
    assert "end pool of 0" in fake.log and "fresh generator" in fake.log
    fake.log.clear()
    timer()
    assert fake.log == ["event", *["forward", "backward"] * 2, "event"]


def test_a_long_call_is_timed_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake().install(monkeypatch)
    monkeypatch.setattr(measure, "SLOW_SECONDS", 0.0)
    timer, method = measure.timer(bounds(fake.log), "forward", CUDA)
    assert method == "calls, one copy: too long for a graph"
    assert fake.log == ["forward"] * measure.WARM_UP
    timer()
    assert fake.log[measure.WARM_UP :] == ["event", "forward", "event"]


@pytest.mark.parametrize(("device", "turns"), [(CUDA, ["a", "a", "b", "b"]), (torch.device("cpu"), ["a", "b"] * 2)])
def test_who_is_timed_when(device: torch.device, turns: list[str]) -> None:
    """On a GPU the next is made when the one before is through, so that one graph holds memory at a time."""
    order: list[str] = []

    def maker(name: str) -> Callable[[], tuple[measure.Timer, str]]:
        def make() -> tuple[measure.Timer, str]:
            order.append(f"make {name}")
            return (lambda: (order.append(name), (1.0, None))[1]), "as told"

        return make

    found, failures = measure.each({name: maker(name) for name in "ab"}, 2, device)
    assert [name for name in order if not name.startswith("make")] == turns
    assert order.index("make b") == (3 if device == CUDA else 1)
    assert not failures and found["b"].wall == [1e3, 1e3] and found["a"].method == "as told"


def test_one_sample_is_enough_of_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = {"slow": lambda: ((lambda: (5.0, None)), "")}
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(clock)))
    found, _ = measure.each(makers, 7, CUDA, measure.QUICK_SECONDS, measure.QUICK_LEAST)
    assert found["slow"].wall == [5e3]
    found, _ = measure.each(makers, 7, CUDA)
    assert len(found["slow"].wall) == 5  # of 5 s each, until more than MOST_SECONDS are spent
