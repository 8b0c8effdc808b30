"""Times of the providers of a piece of work.

On a CPU they take turns, round after round, so that what disturbs one disturbs all. A sample is wall time, with the
process's CPU time beside it. A call that is not timed goes before each sample, as in a loop of training steps: the
caches are warm, and the memory that a result goes into is what the call before gave back. (A virtual machine may have
taken that away while others had their turn: to have 55 MB again took 170 ms beside a call of 140.)

On a GPU one follows the other, as a captured call keeps the memory that it takes. The calls are captured in a CUDA
graph over as many copies of the inputs as exceed twice the L2 cache, so that a call finds its inputs cold, and a sample
is a replay; what can't be captured is timed call by call, and the method says so.
"""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.protocol.provider import Bound

# A sample lasts at least this long, by repeating the call: 5 ms are 50000 times the resolution of the clocks.
SAMPLE_SECONDS = 5e-3
# A provider slower than this in all gets no further rounds, but LEAST of them.
MOST_SECONDS = 20.0
LEAST = 3
# In a quick run of so many seconds, one sample is enough of what takes longer.
QUICK_SECONDS, QUICK_LEAST = 2.0, 1
# Calls on each copy of the inputs before the first sample, at least.
WARM_UP = 2
# A call on a GPU that takes longer is timed as it stands, on one copy of its inputs: it takes far more than any cache
# holds, or waits for itself, and a graph of it may have millions of nodes (torch.nn.GRU has some for every step).
SLOW_SECONDS = 0.25
# Of the L2 cache, the bytes of all copies of the inputs.
COLD = 2
MOST_COPIES = 64
# Calls in a row where the host is timed. On a GPU the kernels of so many training steps of a layer fit the launch queue
# of 1024, so that the host does not wait for it.
HOST_CALLS = 20


@dataclass
class Samples:
    """Milliseconds of a call in each round; `cpu` is empty on a GPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    method: str = ""

    def percentile(self, percent: int) -> float:
        return float(np.percentile(self.wall, percent))

    @property
    def cpu_median(self) -> float | None:
        return statistics.median(self.cpu) if self.cpu else None


Timer = Callable[[], tuple[float, float | None]]
# Gives a timer that is warm, and its method.
Maker = Callable[[], tuple[Timer, str]]


def measure(
    timers: dict[str, Timer],
    rounds: int,
    methods: dict[str, str],
    failures: dict[str, Exception] | None = None,
    seconds: float = MOST_SECONDS,
    least: int = LEAST,
) -> dict[str, Samples]:
    """Samples of each timer, which gives (wall, CPU or None) seconds of one call, in turns.

    With `failures`, a timer that fails leaves its error there and gets no samples.
    """
    found = {name: Samples(method=methods[name]) for name in timers}
    spent = dict.fromkeys(timers, 0.0)
    for _ in range(rounds):
        for name, samples in list(found.items()):
            if spent[name] > seconds and len(samples.wall) >= least:
                continue
            start = time.perf_counter()
            try:
                wall, cpu = timers[name]()
            except Exception as error:
                if failures is None:
                    raise
                failures[name] = error
                del found[name]
                continue
            spent[name] += time.perf_counter() - start
            samples.wall.append(1e3 * wall)
            if cpu is not None:
                samples.cpu.append(1e3 * cpu)
    return found


def each(
    makers: dict[str, Maker], rounds: int, device: torch.device, seconds: float = MOST_SECONDS, least: int = LEAST
) -> tuple[dict[str, Samples], dict[str, Exception]]:
    """(samples, errors) by name: on a CPU of all in turns, on a GPU of one after the other."""
    found: dict[str, Samples] = {}
    failures: dict[str, Exception] = {}
    for names in [[name] for name in makers] if device.type == "cuda" else [list(makers)]:
        timers, methods = {}, {}
        for name in names:
            try:
                timers[name], methods[name] = makers[name]()
            except Exception as error:
                failures[name] = error
        found |= measure(timers, rounds, methods, failures, seconds, least)
    return found, failures


# What is made ready before a call, and the call, which takes it.
Pair = tuple[Callable[[], Any], Callable[[Any], Any]]


def calls(bound: Bound, pass_: str) -> Pair:
    """The graph is ready before a backward, nothing before the others."""
    if pass_ == "backward":
        return bound.graph, bound.backward
    call = bound.forward if pass_ == "forward" else bound.both
    return (lambda: None), (lambda _: call())


def timer(bounds: list[Bound], pass_: str, device: torch.device) -> tuple[Timer, str]:
    """A timer of a pass and its method; `bounds` are one provider on copies of the inputs."""
    if device.type == "cuda":
        return _gpu_timer(bounds, pass_)
    return _cpu_timer(calls(bounds[0], pass_)), "warm caches"


# Writes what is in the first tensor to the second, and gives that.
Copy = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def copy_timer(half: int, device: torch.device, copy: Copy) -> tuple[Timer, str]:
    """Of a copy that reads `half` bytes and writes as many, with the rotation of any other work."""

    def buffers() -> Bound:
        source, target = (torch.zeros(max(1, half), dtype=torch.uint8, device=device) for _ in range(2))
        return Bound(lambda source: copy(source, target), (source,), source)

    return timer([buffers() for _ in range(copies(half, device))], "forward", device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def whole_timer(call: Callable[[], Any], device: torch.device) -> Timer:
    """Of a call as it stands, the device's work included; it has been made once when this returns."""

    def sample() -> tuple[float, float | None]:
        wait(device)
        start, start_cpu = time.perf_counter(), time.process_time()
        kept = call()
        wait(device)
        cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
        del kept
        return wall, None if device.type == "cuda" else cpu

    sample()
    return sample


def host_timer(
    call: Callable[[], Any],
    device: torch.device,
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Timer:
    """Of the host's work for a call: HOST_CALLS in a row, after one that is not timed, all inside `context`."""

    def sample() -> tuple[float, float]:
        with context():
            call()
            wait(device)
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(HOST_CALLS):
                call()
            cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
        return wall / HOST_CALLS, cpu / HOST_CALLS

    return sample


def _cpu_timer(pair: Pair) -> Timer:
    ready, call = pair
    repeats = max(1, min(10_000, round(SAMPLE_SECONDS / _seconds(pair, torch.device("cpu")))))

    def sample() -> tuple[float, float]:
        call(ready())
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
    slow = _seconds(pairs[0], torch.device("cuda")) > SLOW_SECONDS
    if slow:
        pairs = pairs[:1]

    def ready() -> list[Any]:
        return [ready() for ready, _ in pairs]

    def call(made: list[Any]) -> None:
        for (_, call), one in zip(pairs, made, strict=True):
            call(one)

    all_, caches = (ready, call), "cold L2" if len(pairs) > 1 else "one copy"
    if slow:
        method = f"calls, {caches}: too long for a graph"
    else:
        try:
            all_, method = _captured(all_, pass_ == "backward"), f"graph, {caches}"
        except RuntimeError as error:
            method = f"calls, {caches}: no graph ({str(error).splitlines()[0]})"

    def sample() -> tuple[float, None]:
        ready, call = all_
        made = ready()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(made)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / len(pairs), None

    if not slow:
        sample()
    return sample, method


def _seconds(pair: Pair, device: torch.device) -> float:
    """Of a call with what is made ready before it, the last of WARM_UP."""
    ready, call = pair
    taken = 0.0
    for _ in range(WARM_UP):
        wait(device)
        start = time.perf_counter()
        call(ready())
        wait(device)
        taken = time.perf_counter() - start
    return taken


def _captured(pair: Pair, backward: bool) -> Pair:
    """Replays of what is made ready (of a backward alone) and of the call, captured on a side stream after WARM_UP
    calls, as CUDA graphs ask for.

    What a backward reads comes from a graph in the same pool of memory: eager tensors would be freed by the backward as
    it is captured, and replays would read what others have written there since.
    """
    ready, call = pair
    current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call(ready())
    current.wait_stream(stream)
    torch.cuda.synchronize()
    before, graph, pool = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    made = None if backward else ready()
    try:
        if backward:
            with torch.cuda.graph(before, pool=pool, stream=stream):
                made = ready()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            call(made)
    except RuntimeError:
        _abandon(pool, current)
        raise
    return before.replay if backward else (lambda: None), lambda _: graph.replay()


def _abandon(pool: Any, stream: torch.cuda.Stream) -> None:
    """Ends a capture that failed.

    torch before 2.12 leaves it half open (pytorch #180395): the stream of the capture stays the current one, the
    allocator frees nothing more and the generator of random numbers refuses to work.
    """
    torch.cuda.set_stream(stream)
    device = torch.cuda.current_device()
    with contextlib.suppress(RuntimeError, AttributeError):  # it was ended after all
        torch._C._cuda_endAllocateToPool(device, pool)
    with contextlib.suppress(RuntimeError):
        generator = torch.cuda.default_generators[device]
        generator.graphsafe_set_state(generator.clone_state())


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
