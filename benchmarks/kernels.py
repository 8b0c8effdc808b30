"""Every kernel and configuration of the table as a launch that can be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from rnam.kernels import MIN_GRU, MIN_LSTM
from rnam.kernels.block import backward as block_backward
from rnam.kernels.block import forward as block_forward
from rnam.kernels.block.config import MAX_BACKWARD_WIDTH, block_backward_config, block_config
from rnam.kernels.common.launch import Launch
from rnam.kernels.feed_forward import backward as feed_forward_backward
from rnam.kernels.feed_forward import forward as feed_forward_forward
from rnam.kernels.feed_forward.config import MAX_WIDTH, num_parameters
from rnam.kernels.linear import backward as linear_backward
from rnam.kernels.linear import forward as linear_forward
from rnam.kernels.min_gru import backward as min_gru_backward
from rnam.kernels.min_gru import forward as min_gru_forward
from rnam.kernels.min_gru import projected
from rnam.kernels.min_gru.config import TABLE, is_fused, table_config
from rnam.kernels.min_gru.projected_config import projected_config
from rnam.kernels.scan import backward as scan_backward
from rnam.kernels.scan import forward as scan_forward
from rnam.kernels.scan import gates_backward, gates_forward
from tests.support.calls import Call

FLOAT32, BF16 = torch.float32, torch.bfloat16
PRECISIONS = {FLOAT32: ("tf32", "tf32x3"), BF16: ("ieee",)}
DTYPES = {4: FLOAT32, 2: BF16}

# Both divide by every tile of the table; 64 steps are too few for a launch to be cut.
BATCH, STEPS = 16, 64
# With one channel block per row, enough rows that a scan is not cut.
ROWS = 1200

# exp2 and reciprocal for each of z and sigmoid(u), and one exp2 more for the second gate of a minLSTM; the log space
# has 1 exp2 and 1 log2 for k, 2 log2 and 1 exp2 for u, 2 per logaddexp2 of the chain and of the second pass, and the
# exp2 of h. A kernel that takes twice that works twice.
GATE_MUFU = {"forward": 4, "backward": 4, "log": 10, "lstm forward": 5, "lstm backward": 5}


@dataclass(frozen=True)
class Entry:
    """One kernel at one width.

    lanes   elements of output (h; y of a linear layer) that one lane makes in a pass of the steady loop.
    moved   bytes per element that the kernel reads and writes, `ideal` those of inputs and outputs alone.
    mufu    special functions per element that the formula needs, None where that is not counted.
    wide    whether rows are whole 16-byte accesses, so that a narrower load is a fault.
    """

    name: str
    build: Callable[[], Launch]
    lanes: float
    moved: float
    ideal: float
    mufu: int | None
    wide: bool


def form_name(batch_rows: bool) -> str:
    return "batch_rows" if batch_rows else "time_rows"


def min_gru_name(pass_: str, batch_rows: bool, dim: int, hidden: int, dtype: torch.dtype, precision: str) -> str:
    kind = "bfloat16" if dtype == BF16 else precision
    return f"min_gru {pass_} {form_name(batch_rows)} D={dim} H={hidden} {kind}"


def min_gru_entry(
    pass_: str, batch_rows: bool, dim: int, hidden: int, dtype: torch.dtype, precision: str,
    *, in_block: bool = False, flags: bool = False,
) -> Entry:  # fmt: skip
    """`pass_` in "forward", "log", "backward". `in_block`, a backward adds what reaches x directly."""
    config = table_config(pass_, batch_rows, dim, hidden, dtype, precision)
    size, ratio = dtype.itemsize, dim / hidden
    backward = pass_ == "backward"
    # x and h; or x, dx and dh, and h where a row starts
    ideal = size * (2 * ratio + 1 + in_block if backward else ratio + 1)

    def build() -> Launch:
        x = torch.empty(1, BATCH, STEPS, dim, dtype=dtype)
        h, state = torch.empty(1, BATCH, STEPS, hidden, dtype=dtype), torch.empty(1, BATCH, 1, hidden)
        space = "log" if pass_ == "log" else "linear"
        call = Call(x, torch.empty(1, dim, 2 * hidden), state, _flags(flags, x), space=space)
        options = dict(precision=precision, config=config)
        if not backward:
            return min_gru_forward.forward_launches(call, h, state, **options)[-1]
        dy = x if in_block else None
        launches, _ = min_gru_backward.backward_launches(call, h, h, state, x, state, True, dy, **options)
        return launches[-1]

    return Entry(
        min_gru_name("backward in a block" if in_block else pass_, batch_rows, dim, hidden, dtype, precision),
        build,
        lanes=config.ROWS * config.STEPS * hidden / (32 * config.num_warps),
        moved=ideal + (size / config.STEPS if backward else 0),
        ideal=ideal,
        mufu=GATE_MUFU[pass_],
        wide=dim * size % 16 == 0 and dim * size >= 32,
    )


def _scan_entry(log: bool, backward: bool, width: int, dtype: torch.dtype) -> Entry:
    x, state = torch.empty(ROWS, 40, width, dtype=dtype), torch.empty(ROWS, width)

    def build() -> Launch:
        if backward:
            return scan_backward.backward_launches(x, x if log else None, state, x, x, x, x, state, log=log)[0]
        return scan_forward.forward_launches(x, x, state, x, log=log)[0]

    tensors = (6 if log else 5) if backward else 3
    name = f"{'log' if log else 'linear'}_scan {'backward' if backward else 'forward'} H={width} {_kind(dtype)}"
    return _scanned(name, build, tensors * dtype.itemsize, 5 * dtype.itemsize if backward else None)


def _gates_entry(pass_: str, width: int, dtype: torch.dtype, flags: bool = False) -> Entry:
    """A minLSTM ("lstm forward", "lstm backward") reads p in float32 whatever `dtype` is."""
    lstm, backward = pass_.startswith("lstm"), pass_.endswith("backward")
    gates, inner = (MIN_LSTM, FLOAT32) if lstm else (MIN_GRU, dtype)
    h, state = torch.empty(1, ROWS, 40, width, dtype=dtype), torch.empty(1, ROWS, 1, width)
    p, dp = (torch.empty(1, ROWS, 40, gates.num_preacts * width, dtype=d) for d in (inner, dtype))
    call = Call(h, h, state, _flags(flags, h), space="log" if pass_ == "log" else "linear")

    def build() -> Launch:
        if backward:
            return gates_backward.backward_launches(p, call, gates, h, h, state, dp, state)[0]
        return gates_forward.forward_launches(p, call, gates, h, state)[0]

    # p and h; or p, dp and dh, and h where a row starts
    n = gates.num_preacts
    ideal = n * inner.itemsize + (n + 1 if backward else 1) * dtype.itemsize
    again = dtype.itemsize / build().constants["STEPS"] if backward else 0
    return _scanned(f"gates_scan {pass_} H={width} {_kind(dtype)}", build, ideal + again, ideal, GATE_MUFU[pass_])


def _scanned(
    name: str, build: Callable[[], Launch], moved: float, ideal: float | None, mufu: int | None = None
) -> Entry:
    constants = build().constants
    lanes = constants["ROWS"] * constants["STEPS"] * constants["BLOCK_H"] / 32
    return Entry(name, build, lanes, moved, moved if ideal is None else ideal, mufu, constants["BLOCK_H"] >= 8)


def _linear_entry(dim: int, hidden: int, backward: bool, dtype: torch.dtype, precision: str) -> Entry:
    x, weight = torch.empty(2, 4096, dim, dtype=dtype), torch.empty(2, dim, hidden, dtype=dtype)
    bias, y = torch.empty(2, 1, hidden, dtype=dtype), torch.empty(2, 4096, hidden, dtype=dtype)

    def build() -> Launch:
        if not backward:
            return linear_forward.forward_launch(x, weight, bias, "relu", y, precision)
        return linear_backward.backward_launch(x, weight, bias, "relu", y, precision, needs=(True, True, True))

    launch = build()
    bytes_ = dtype.itemsize * (2 * dim / hidden + 1 if backward else dim / hidden + 1)
    name = f"grouped_linear {'backward' if backward else 'forward'} {dim}x{hidden} relu "
    name += "bfloat16" if dtype == BF16 else precision
    lanes = launch.constants["BLOCK_N"] * hidden / (32 * launch.num_warps)
    return Entry(name, build, lanes, bytes_, bytes_, None, dim * dtype.itemsize % 16 == 0 and dim >= 8)


def _feed_forward_entry(dim: int, backward: bool, dtype: torch.dtype, precision: str, embedded: int = 0) -> Entry:
    """With `embedded` numbers a row in the place of x, and no dx, as in the first block of a model."""
    h = torch.empty(2, 4096, dim, dtype=dtype)
    x = torch.empty(2, 4096, embedded, dtype=dtype) if embedded else h
    params = torch.empty(2, num_parameters(dim, embedded), dtype=dtype)

    def build() -> Launch:
        if not backward:
            return feed_forward_forward.forward_launch(x, params, h, h, precision=precision)
        needs = (not embedded, True, True)
        return feed_forward_backward.backward_launch(x, params, h, h, needs=needs, precision=precision)

    constants = build().constants
    # h and y, or h, dy and dh; and x, in the backward with dx
    tensors = (3 if backward else 2) + (embedded / dim or (2 if backward else 1))
    bytes_ = dtype.itemsize * tensors
    lanes = constants["BLOCK_N"] * (constants["BLOCK_D"] // constants["WIDTH"]) * dim / 32
    kind = "bfloat16" if dtype == BF16 else precision
    of = f"D={dim} K={embedded}" if embedded else f"D={dim}"
    name = f"feed_forward {'backward' if backward else 'forward'} {of} {kind}"
    return Entry(name, build, lanes, bytes_, bytes_, None, not embedded)


def _block_entry(
    dim: int, batch_rows: bool, backward: bool, dtype: torch.dtype, precision: str, embedded: int = 0,
    flags: bool = False,
) -> Entry:  # fmt: skip
    """Forwards without h, as they run where no gradient is recorded. With `embedded` numbers a row in the place of x,
    and no dx, as in the first block of a model."""
    config = (block_backward_config if backward else block_config)(batch_rows, dim, dtype, precision)
    h, state = torch.empty(1, BATCH, STEPS, dim, dtype=dtype), torch.empty(1, BATCH, 1, dim)
    x = torch.empty(1, BATCH, STEPS, embedded, dtype=dtype) if embedded else h
    weight = torch.empty(1, embedded + 1 if embedded else dim, 2 * dim, dtype=dtype)
    params = torch.empty(1, num_parameters(dim, embedded), dtype=dtype)
    call = Call(x, weight, state, _flags(flags, x))

    def build() -> Launch:
        options = dict(precision=precision, config=config)
        if backward:
            needs = (not embedded, True, True, True)
            return block_backward.backward_launch(call, params, h, h, state, needs=needs, **options)
        return block_forward.forward_launches(call, params, h, None, state, **options)[-1]

    # y; or dy, and dx unless the rows are embedded
    tensors = (embedded / dim or 1) + (1 if not backward or embedded else 2)
    ideal = dtype.itemsize * tensors
    kind = "bfloat16" if dtype == BF16 else precision
    of = f"D={dim} K={embedded}" if embedded else f"D={dim}"
    name = f"block {'backward' if backward else 'forward'} {form_name(batch_rows)} {of} {kind}"
    return Entry(
        name,
        build,
        lanes=config.ROWS * config.STEPS * dim / 32,
        moved=ideal + (dtype.itemsize / config.STEPS if backward else 0),  # h where a row starts
        ideal=ideal,
        mufu=GATE_MUFU["forward"],
        wide=dim // 4 * dtype.itemsize % 16 == 0 and not embedded,  # a thread's share of a row
    )


def _projected_entry(
    dim: int, hidden: int, batch_rows: bool, dtype: torch.dtype, precision: str, flags: bool = False
) -> Entry:
    """Elements are those of y."""
    config = projected_config(batch_rows, dim, hidden, precision)
    x, state = torch.empty(1, BATCH, STEPS, dim, dtype=dtype), torch.empty(1, BATCH, 1, hidden)
    call = Call(x, torch.empty(1, dim, 2 * hidden), state, _flags(flags, x))
    out_weight = torch.empty(1, hidden, dim)

    def build() -> Launch:
        return projected.forward_launches(call, out_weight, x, state, precision=precision, config=config)[-1]

    kind = "bfloat16" if dtype == BF16 else precision
    name = f"min_gru projected {form_name(batch_rows)} D={dim} H={hidden} {kind}"
    bytes_ = 2 * dtype.itemsize  # x and y
    mufu = GATE_MUFU["forward"] * hidden // dim
    wide = dim // 4 * dtype.itemsize % 16 == 0  # a thread's share of a row
    return Entry(name, build, config.ROWS * config.STEPS * dim / 32, bytes_, bytes_, mufu, wide)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _flags(given: bool, x: torch.Tensor) -> torch.Tensor | None:
    return torch.empty(x.shape[:3], dtype=torch.uint8) if given else None


def entries(flags: bool = False) -> Iterator[Entry]:
    """Every form of the table at its width (and 8, which it pads to 16), the scans, the gates, the linear layer, the
    feed-forward, the block and the minGRU with its projection; those that read flags with `flags`."""
    for pass_, batch_rows, width, size in TABLE:
        dtype = DTYPES[size]
        for each in (8, 16) if width == 16 else (width,):
            for precision in PRECISIONS[dtype]:
                if is_fused(each, each, dtype, pass_, precision):
                    yield min_gru_entry(pass_, batch_rows, each, each, dtype, precision, flags=flags)
                    if pass_ == "backward" and each == MAX_WIDTH:
                        yield min_gru_entry(pass_, batch_rows, each, each, dtype, precision, in_block=True, flags=flags)
    for dtype in PRECISIONS:
        for backward in (False, True):
            for log in (False, True):
                for width in (32, 1):
                    yield _scan_entry(log, backward, width, dtype)
        for pass_ in ("forward", "log", "backward", "lstm forward", "lstm backward"):
            yield _gates_entry(pass_, 128, dtype, flags)
        for dim, hidden in ((1, 16), (8, 8), (16, 16), (32, 32)):
            for backward in (False, True):
                for precision in PRECISIONS[dtype] if dim > 2 else PRECISIONS[dtype][:1]:
                    yield _linear_entry(dim, hidden, backward, dtype, precision)
        for dim in (8, 16, 32):
            for backward in (False, True):
                for precision in PRECISIONS[dtype]:
                    yield _feed_forward_entry(dim, backward, dtype, precision)
                    yield _feed_forward_entry(dim, backward, dtype, precision, embedded=1)
            for batch_rows in (False, True):
                for precision in PRECISIONS[dtype]:
                    for backward in (False, True) if dim <= MAX_BACKWARD_WIDTH else (False,):
                        yield _block_entry(dim, batch_rows, backward, dtype, precision, flags=flags)
                        yield _block_entry(dim, batch_rows, backward, dtype, precision, embedded=1, flags=flags)
        for dim, hidden in ((8, 16), (16, 32), (32, 32)):
            for batch_rows in (False, True):
                for precision in PRECISIONS[dtype]:
                    yield _projected_entry(dim, hidden, batch_rows, dtype, precision, flags)
