"""The two measurements that are no shape: the host's microseconds per call, and the error against the length."""

from __future__ import annotations

import time

import torch

from benchmarks.protocol import measure, work
from benchmarks.protocol.provider import Bound
from benchmarks.protocol.shapes import Shape
from benchmarks.providers import registry
from benchmarks.reports.run import Row
from tests.support import oracle

# One number in and out: what is left is the host's work. On a GPU 50 calls of up to 20 kernels fit the launch queue of
# 1024, so that the host does not wait for the device.
TINY = Shape("tiny", 1, 1, 1, 1, 1)
HOST_CALLS = 50
HOST_PROVIDERS = ("rnam", "rnam-reference", "published")

LENGTHS = (100, 1000, 10_000, 100_000, 1_000_000)
QUICK_LENGTH = 10_000
GATE_MEANS = (0, 6)
WIDTH = 8
ACCURACY = {"rnam": "linear", "rnam-log": "log", "published": None}


def overhead(device: torch.device, rounds: int) -> list[Row]:
    """Milliseconds of one eager call of the forward, without a gradient and with one."""
    job = work.make("min_gru", TINY, "float32", device)
    timers: dict[str, measure.Timer] = {}
    for name in HOST_PROVIDERS:
        bound = registry.REGISTRY["min_gru"][name].bind(job)
        timers[f"forward/{name}"] = _host_timer(bound, False)
        timers[f"with gradient/{name}"] = _host_timer(bound, True)
    samples = measure.measure(timers, max(rounds, 5), dict.fromkeys(timers, "host"))
    rows = []
    for key, sample in samples.items():
        pass_, name = key.split("/")
        base = samples[f"{pass_}/published"].percentile(50)
        median, p20, p80 = (sample.percentile(p) for p in (50, 20, 80))
        rows.append(Row("overhead", TINY.name, "float32", pass_, name, median, p20, p80, speedup=base / median))
    return rows


def _host_timer(bound: Bound, gradient: bool) -> measure.Timer:
    """Of the bare call: what the suite puts around it is outside of the loop."""
    call, leaves = bound.call, bound.leaves

    def sample() -> tuple[float, float | None]:
        if leaves[0].is_cuda:
            torch.cuda.synchronize()
        with bound.context(), torch.set_grad_enabled(gradient):
            start = time.perf_counter()
            for _ in range(HOST_CALLS):
                call(*leaves)
            return (time.perf_counter() - start) / HOST_CALLS, None

    sample()
    return sample


def accuracy(device: torch.device, steps: int) -> list[Row]:
    """The largest relative error of an element of h in float32, for gates of mean 0 and 6 (k ~ N(mean, 1))."""
    rows = []
    for mean in GATE_MEANS:
        generator = torch.Generator(device).manual_seed(0)
        # x is (u, k) and W picks them out, so that k has the mean that is asked for
        p = torch.randn(1, 1, steps, 2 * WIDTH, generator=generator, device=device)
        p[..., WIDTH:] += mean
        weight = torch.eye(2 * WIDTH, device=device)[None]
        exact, _ = oracle.min_gru(p, weight, long=True)
        for name in ACCURACY:
            call = registry.REGISTRY["min_gru"][name].bind
            job = work.Work("min_gru", TINY, "float32", device, (p, weight), p[..., :WIDTH])
            h = call(job).forward().double()
            error = float(((h - exact).abs() / exact.abs()).max())
            shape = f"T={steps} k~N({mean},1)"
            rows.append(Row("accuracy", shape, "float32", "forward", name, max_error=error))
    return rows
