"""The peak of the memory that one call takes beyond what was there before it.

On a GPU that is torch's own count. On a CPU the profiler's record of every allocation and release of torch's allocator
is added up in order: it has what operators in C++, compiled code and Python take, and not what is no tensor (scratch
memory of the matrix library). Memory that comes from numpy (`rnam.backends.blocks.plan.new`) is counted by tracemalloc,
and its peak is added to torch's, which may count too much where the two are not at once. Inputs and incoming gradients
are there before; the output and the gradients count.
"""

import tracemalloc
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """Of one call, whose results are kept until it ends."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        kept = call()
        torch.cuda.synchronize(device)
        del kept
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        tracemalloc.start()
        kept = call()
        _, others = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    del kept
    assert record.profiler is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak + others
