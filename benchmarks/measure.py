"""Times: every provider of a piece of work in turn, round after round, so that what disturbs one disturbs all.

On a CPU a sample is wall time, with the process's CPU time beside it, and caches are as the round leaves them. On a GPU
the calls are captured in a CUDA graph over as many copies of the inputs as exceed twice the L2 cache, so that a call
finds its inputs cold, and a sample is a replay; what can't be captured is timed call by call, and the method says so.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.provider import Bound

# A sample lasts at least this long, by repeating the call: 5 ms are 50000 times the resolution of the clocks.
SAMPLE_SECONDS = 5e-3
# A provider slower than this in all gets no further rounds, but LEAST of them.
MOST_SECONDS = 20.0
LEAST = 3
# Of the L2 cache, the bytes of all copies of the inputs.
COLD = 2
MOST_COPIES = 64


@dataclass
class Samples:
    """Milliseconds of a call in each round; `cpu` is empty on a GPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    method: str = ""

    def percentile(self, percent: int) -> float:
        """By linear interpolation between the sorted samples."""
        ordered = sorted(self.wall)
        place = (len(ordered) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    @property
    def cpu_median(self) -> float | None:
        return statistics.median(self.cpu) if self.cpu else None


Timer = Callable[[], tuple[float, float | None]]


def measure(timers: dict[str, Timer], rounds: int, methods: dict[str, str]) -> dict[str, Samples]:
    """Samples of each timer, which gives (wall, CPU or None) seconds of one call."""
    found = {name: Samples(method=methods[name]) for name in timers}
    spent = dict.fromkeys(timers, 0.0)
    for _ in range(rounds):
        for name, timer in timers.items():
            samples = found[name]
            if spent[name] > MOST_SECONDS and len(samples.wall) >= LEAST:
                continue
            start = time.perf_counter()
            wall, cpu = timer()
            spent[name] += time.perf_counter() - start
            samples.wall.append(1e3 * wall)
            if cpu is not None:
                samples.cpu.append(1e3 * cpu)
    return found


def calls(bound: Bound, pass_: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """(what is made ready before a call, the call): the graph before a backward, nothing before the others."""
    if pass_ == "forward":
        return (lambda: None), (lambda _: bound.forward())
    if pass_ == "both":
        return (lambda: None), (lambda _: bound.both())
    return bound.graph, bound.backward


def timer(bounds: list[Bound], pass_: str, device: torch.device) -> tuple[Timer, str]:
    """A timer of a pass and its method; `bounds` are one provider on copies of the inputs."""
    if device.type == "cuda":
        return _gpu_timer(bounds, pass_)
    return _cpu_timer(*calls(bounds[0], pass_)), "warm caches"


def copy_timer(count: int, copies: int, device: torch.device) -> tuple[Timer, str]:
    """Of a copy that reads and writes `count` bytes in all, with the same rotation."""

    def buffers() -> Bound:
        source, target = (torch.zeros(max(1, count // 2), dtype=torch.uint8, device=device) for _ in range(2))
        return Bound(target.copy_, (source,), source)

    return timer([buffers() for _ in range(copies)], "forward", device)


def whole_timer(call: Callable[[], Any], device: torch.device) -> Timer:
    """Of a call as it stands, the device's work included; it has been made once when this returns."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def sample() -> tuple[float, float | None]:
        wait()
        start, start_cpu = time.perf_counter(), time.process_time()
        kept = call()
        wait()
        cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
        del kept
        return wall, None if device.type == "cuda" else cpu

    sample()
    return sample


def _cpu_timer(ready: Callable[[], Any], call: Callable[[Any], Any]) -> Timer:
    start = time.perf_counter()
    call(ready())
    repeats = max(1, min(10_000, round(SAMPLE_SECONDS / (time.perf_counter() - start))))

    def sample() -> tuple[float, float]:
        wall = cpu = 0.0
        for _ in range(repeats):
            made = ready()
            start, start_cpu = time.perf_counter(), time.process_time()
            call(made)
            cpu += time.process_time() - start_cpu
            wall += time.perf_counter() - start
            del made
        return wall / repeats, cpu / repeats

    return sample


def _gpu_timer(bounds: list[Bound], pass_: str) -> tuple[Timer, str]:
    pairs = [calls(bound, pass_) for bound in bounds]
    try:
        replay = _captured(pairs)
        method = f"graph, {'cold L2' if len(bounds) > 1 else 'one copy'}"
    except RuntimeError as error:
        replay = None
        method = f"calls, {'cold L2' if len(bounds) > 1 else 'one copy'}: no graph ({str(error).splitlines()[0]})"

    def sample() -> tuple[float, None]:
        made = [] if replay else [ready() for ready, _ in pairs]
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        if replay:
            replay()
        else:
            for (_, call), one in zip(pairs, made, strict=True):
                call(one)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / len(pairs), None

    sample()
    return sample, method


def _captured(pairs: list[tuple[Callable[[], Any], Callable[[Any], Any]]]) -> Callable[[], None]:
    """A replay of all calls, captured on a side stream after two calls of each, as CUDA graphs ask for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for ready, call in pairs:
            for _ in range(2):
                call(ready())
        made = [ready() for ready, _ in pairs]
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for (_, call), one in zip(pairs, made, strict=True):
            call(one)
    return graph.replay


def copies(bytes_: int, device: torch.device) -> int:
    """How many copies of inputs of `bytes_` are rotated: 1 on a CPU, and where one copy exceeds the cache by far."""
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(1, min(MOST_COPIES, -(-COLD * cache // max(1, bytes_)) + 1)) if bytes_ < 8 * cache else 1


def rotated(bound: Bound, count: int) -> list[Bound]:
    """`bound` and count - 1 more on copies of the leaves that may be copied; `bound` alone where none may."""
    if bound.moving == 0:
        return [bound]
    moving, fixed = bound.leaves[: bound.moving], () if bound.moving is None else bound.leaves[bound.moving :]
    more = []
    for _ in range(count - 1):
        copied = tuple(t.detach().clone().requires_grad_(t.requires_grad) for t in moving)
        more.append(dataclasses.replace(bound, leaves=(*copied, *fixed), incoming=bound.incoming.clone()))
    return [bound, *more]
