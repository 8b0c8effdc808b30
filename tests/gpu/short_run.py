"""`python -m tests.gpu.short_run`: each kernel once, forward and backward, on small shapes, for compute-sanitizer.

With `--processes N` N of them share the calls, which fills the compiler's cache before the sanitizer watches. Nothing
is compared here but that every result is finite; test_parity.py compares.
"""

import argparse
import functools
import multiprocessing
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnam import functional
from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.min_gru.config import table_config
from tests.gpu import parity, shapes
from tests.gpu.shapes import BF16, DEVICE, FLOAT32
from tests.support.assertions import assert_finite
from tests.support.calls import Call

STEPS = shapes.size(200, 20)
# as many steps of one channel as make the table cut the sequence
LONG = shapes.size(2500, 600)


def _rand(*shape: int, dtype: torch.dtype = FLOAT32) -> Tensor:
    return (0.1 + torch.rand(shape)).to(dtype).to(DEVICE).requires_grad_()


def _backward(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> None:
    gradients = torch.autograd.grad([t.float().sum() for t in outputs], inputs)
    assert_finite("outputs and gradients", (*outputs, *gradients))


def min_gru(dim: int, hidden: int, batch: int, steps: int, dtype: torch.dtype, space: str, flagged: bool) -> None:
    """Through autograd, in the form of the table."""
    inputs = [_rand(2, batch, steps, dim, dtype=dtype), _rand(2, dim, 2 * hidden, dtype=dtype)]
    inputs.append(_rand(2, batch, 1, hidden))
    flags = {}
    if flagged:
        flags = {n: torch.rand(1, batch, steps).to(DEVICE) < p for n, p in (("mask", 0.8), ("reset", 0.1))}
    _backward(functional.min_gru(*inputs, space=space, **flags), inputs)


def min_gru_form(batch_rows: bool, dim: int, hidden: int, dtype: torch.dtype, space: str) -> None:
    """By the launchers, in one form, with a tail in time and in the batch."""
    x, weight = (t.detach() for t in (_rand(2, 17, 21, dim, dtype=dtype), _rand(2, dim, 2 * hidden)))
    h0, widths = _rand(2, 17, 1, hidden).detach(), (dim, hidden, dtype)
    config = table_config("log" if space == "log" else "forward", batch_rows, *widths)
    call = Call(x, weight, h0, space=space)
    h, h_last = recurrence_forward(call, MIN_GRU, config=config)
    config = table_config("backward", batch_rows, *widths)
    dx, dw, dh0, _ = recurrence_backward(call, MIN_GRU, h, torch.ones_like(h), h_last, config=config)
    assert_finite("h and gradients", (h, dx, dw, dh0))


def scans(steps: int, width: int, dtype: torch.dtype) -> None:
    inputs = [_rand(2, steps, width, dtype=dtype), _rand(2, steps, width, dtype=dtype), _rand(2, 1, width)]
    inputs = [t.detach().clamp(max=0.9).requires_grad_() for t in inputs]
    _backward((functional.linear_scan(*inputs),), inputs)
    _backward((functional.log_scan(*inputs),), inputs)


def linear(dim: int, hidden: int, dtype: torch.dtype) -> None:
    inputs = [_rand(2, 301, dim, dtype=dtype), _rand(2, dim, hidden, dtype=dtype), _rand(2, 1, hidden, dtype=dtype)]
    _backward((functional.grouped_linear(*inputs, "gelu"),), inputs)


def _layers(dim: int, dtype: torch.dtype) -> list[Tensor]:
    """The parameters of a feed-forward."""
    return [*(_rand(dim, dtype=dtype) for _ in range(2)), *(_rand(2, n, dim, dtype=dtype) for n in (dim, 1, dim, 1))]


def feed_forward(dim: int, dtype: torch.dtype) -> None:
    inputs = [*(_rand(2, 3, STEPS, dim, dtype=dtype) for _ in range(2)), *_layers(dim, dtype)]
    _backward((functional.feed_forward(*inputs),), inputs)


def block(dim: int, inputs: int, dtype: torch.dtype) -> None:
    """A residual block, whose rows of `inputs` numbers are embedded where those are fewer than `dim`."""
    weights = [_rand(2, dim, 2 * dim, dtype=dtype), *_layers(dim, dtype)]
    embedding = [_rand(2, n, dim, dtype=dtype) for n in (inputs, 1)] if inputs < dim else []
    x, h0 = _rand(2, 3, STEPS, inputs, dtype=dtype), _rand(2, 3, 1, dim)
    run = lambda: functional.min_gru_block(x, *weights, h0, embedding=tuple(embedding) or None)
    _backward(run(), [x, h0, *weights, *embedding])
    with torch.no_grad():  # writes no h
        run()


def min_lstm(dim: int, dtype: torch.dtype) -> None:
    inputs = [_rand(2, 3, STEPS, dim, dtype=dtype), _rand(2, dim, 3 * dim, dtype=dtype), _rand(2, 3, 1, dim)]
    _backward(functional.min_lstm(*inputs), inputs)


def projected(dim: int, hidden: int, dtype: torch.dtype) -> None:
    """One kernel where no gradient is recorded."""
    x, weight = _rand(2, 3, STEPS, dim, dtype=dtype), _rand(2, dim, 2 * hidden, dtype=dtype)
    with torch.no_grad():
        y, _ = functional.min_gru_projected(x, weight, _rand(2, hidden, dim, dtype=dtype))
    assert_finite("y", y)


def calls() -> list[Callable[[], None]]:
    """The calls, the longest to compile first."""
    call = functools.partial
    found: list[Callable[[], None]] = []
    for dtype in (FLOAT32, BF16):
        found += [call(block, 13, 13, dtype), call(block, 8, 1, dtype)]
        found += [call(block, 20, 20, dtype), call(feed_forward, 7, dtype)]  # two kernels back
        found += [call(min_lstm, 13, dtype), call(projected, 8, 16, dtype)]
    for batch_rows in (False, True):
        found += [
            call(min_gru_form, batch_rows, 16, 16, FLOAT32, "linear"),
            call(min_gru_form, batch_rows, 5, 3, BF16, "log"),
        ]
    return [
        *found,
        call(min_gru, 16, 16, 2, STEPS, FLOAT32, "linear", True),
        call(min_gru, 2, 2, 1, LONG, FLOAT32, "linear", False),  # cut into chunks
        call(min_gru, 5, 70, 2, STEPS, FLOAT32, "linear", True),  # products and gates
        call(min_gru, 5, 70, 2, STEPS, BF16, "log", False),
        call(scans, STEPS, 33, FLOAT32),
        call(scans, LONG, 1, BF16),
        call(linear, 8, 5, FLOAT32),
        call(linear, 2, 40, BF16),
    ]


def run(number: int) -> None:
    """One of `calls`."""
    torch.manual_seed(number)
    with parity.on_kernels():
        calls()[number]()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.short_run", description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    processes = parser.parse_args(arguments).processes
    numbers = range(len(calls()))
    if processes == 1:
        for number in numbers:
            run(number)
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.map(run, numbers, chunksize=1)
    print("each kernel ran forward and backward")


if __name__ == "__main__":
    main()
