"""Every kernel and configuration of the table as a launch that can be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from rnam.kernels.block import backward as block_bwd
from rnam.kernels.block import forward as block
from rnam.kernels.block.config import MAX_BACKWARD_WIDTH, block_backward_config, block_config
from rnam.kernels.common.launch import Launch
from rnam.kernels.feed_forward import backward as feed_forward_bwd
from rnam.kernels.feed_forward import forward as feed_forward
from rnam.kernels.feed_forward.config import MAX_WIDTH, parameters
from rnam.kernels.linear.backward import linear_backward_launch
from rnam.kernels.linear.forward import linear_forward_launch
from rnam.kernels.min_gru import backward as min_gru_bwd
from rnam.kernels.min_gru import forward as min_gru_fwd
from rnam.kernels.min_gru import projected
from rnam.kernels.min_gru.config import TABLE, is_fused, table_config
from rnam.kernels.min_gru.projected_config import projected_config
from rnam.kernels.scan import backward as scan_backward
from rnam.kernels.scan import forward as scan_forward
from rnam.kernels.scan.gates_backward import gates_backward_launches
from rnam.kernels.scan.gates_forward import gates_forward_launches

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


def min_gru_name(what: str, seq: bool, dim: int, hidden: int, dtype: torch.dtype, precision: str) -> str:
    kind = "bfloat16" if dtype == BF16 else precision
    return f"min_gru {what} {'SEQ' if seq else 'SEG'} D={dim} H={hidden} {kind}"


def min_gru_entry(
    what: str, seq: bool, dim: int, hidden: int, dtype: torch.dtype, precision: str, *, in_block: bool = False
) -> Entry:
    """`what` in "forward", "log", "backward"; the form with rows of time (SEG) or of the batch (SEQ). `in_block`, a
    backward adds what reaches x directly."""
    config = table_config(what, seq, dim, hidden, dtype, precision)
    size, ratio = dtype.itemsize, dim / hidden
    backward = what == "backward"
    # x and h; or x, dx and dh, and h where a row starts
    ideal = size * (2 * ratio + 1 + in_block if backward else ratio + 1)

    def build() -> Launch:
        x = torch.empty(1, BATCH, STEPS, dim, dtype=dtype)
        weight = torch.empty(1, dim, 2 * hidden)
        h, state = torch.empty(1, BATCH, STEPS, hidden, dtype=dtype), torch.empty(1, BATCH, 1, hidden)
        options = dict(precision=precision, config=config)
        if backward:
            dy = x if in_block else None
            launches, _ = min_gru_bwd.backward_launches(
                x, weight, state, h, None, h, state, x, state, True, dy, **options
            )  # fmt: skip
        else:
            space = "log" if what == "log" else "linear"
            launches = min_gru_fwd.forward_launches(x, weight, state, None, h, state, space=space, **options)
        return launches[-1]

    return Entry(
        min_gru_name("backward in a block" if in_block else what, seq, dim, hidden, dtype, precision),
        build,
        lanes=config.ROWS * config.STEPS * hidden / (32 * config.num_warps),
        moved=ideal + (size / config.STEPS if backward else 0),
        ideal=ideal,
        mufu=GATE_MUFU[what],
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


def _gates_entry(what: str, width: int, dtype: torch.dtype) -> Entry:
    """A minLSTM ("lstm forward", "lstm backward") reads p in float32 whatever `dtype` is."""
    lstm, backward = what.startswith("lstm"), what.endswith("backward")
    parts, inner = (3, FLOAT32) if lstm else (2, dtype)
    h, state = torch.empty(1, ROWS, 40, width, dtype=dtype), torch.empty(ROWS, width)
    p, dp = (torch.empty(1, ROWS, 40, parts * width, dtype=d) for d in (inner, dtype))

    def build() -> Launch:
        if backward:
            return gates_backward_launches(p, state, h, None, h, state, dp, state)[0]
        return gates_forward_launches(p, state, None, h, state, log=what == "log", parts=parts)[0]

    # p and h; or p, dp and dh, and h where a row starts
    ideal = parts * inner.itemsize + (parts + 1 if backward else 1) * dtype.itemsize
    again = dtype.itemsize / build().constants["STEPS"] if backward else 0
    return _scanned(f"gates_scan {what} H={width} {_kind(dtype)}", build, ideal + again, ideal, GATE_MUFU[what])


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
            return linear_forward_launch(x, weight, bias, y, "relu", precision)
        return linear_backward_launch(
            x, weight, bias, y, "relu", precision, need_x=True, need_weight=True, need_bias=True
        )

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
    params = torch.empty(2, parameters(dim, embedded), dtype=dtype)

    def build() -> Launch:
        if not backward:
            return feed_forward.forward_launch(x, params, h, h, precision=precision)
        needs = (not embedded, True, True)
        return feed_forward_bwd.backward_launch(x, params, h, h, needs=needs, precision=precision)

    constants = build().constants
    # h and y, or h, dy and dh; and x, in the backward with dx
    tensors = (3 if backward else 2) + (embedded / dim or (2 if backward else 1))
    bytes_ = dtype.itemsize * tensors
    lanes = constants["BLOCK_N"] * (constants["BLOCK_D"] // constants["WIDTH"]) * dim / 32
    kind = "bfloat16" if dtype == BF16 else precision
    of = f"D={dim} K={embedded}" if embedded else f"D={dim}"
    name = f"feed_forward {'backward' if backward else 'forward'} {of} {kind}"
    return Entry(name, build, lanes, bytes_, bytes_, None, not embedded)


def _block_entry(dim: int, seq: bool, backward: bool, dtype: torch.dtype, precision: str, embedded: int = 0) -> Entry:
    """Forwards without h, as they run where no gradient is recorded. With `embedded` numbers a row in the place of x,
    and no dx, as in the first block of a model."""
    config = (block_backward_config if backward else block_config)(seq, dim, dtype, precision)
    h, state = torch.empty(1, BATCH, STEPS, dim, dtype=dtype), torch.empty(1, BATCH, 1, dim)
    x = torch.empty(1, BATCH, STEPS, embedded, dtype=dtype) if embedded else h
    weight = torch.empty(1, embedded + 1 if embedded else dim, 2 * dim, dtype=dtype)
    params = torch.empty(1, parameters(dim, embedded), dtype=dtype)

    def build() -> Launch:
        options = dict(precision=precision, config=config)
        if backward:
            needs = (not embedded, True, True)
            return block_bwd.backward_launch(x, weight, params, state, h, None, h, state, needs=needs, **options)
        return block.forward_launches(x, weight, params, state, None, h, None, state, **options)[-1]

    # y; or dy, and dx unless the rows are embedded
    tensors = (embedded / dim or 1) + (1 if not backward or embedded else 2)
    ideal = dtype.itemsize * tensors
    kind = "bfloat16" if dtype == BF16 else precision
    of = f"D={dim} K={embedded}" if embedded else f"D={dim}"
    name = f"block {'backward' if backward else 'forward'} {'SEQ' if seq else 'SEG'} {of} {kind}"
    return Entry(
        name,
        build,
        lanes=config.ROWS * config.STEPS * dim / 32,
        moved=ideal + (dtype.itemsize / config.STEPS if backward else 0),  # h where a row starts
        ideal=ideal,
        mufu=GATE_MUFU["forward"],
        wide=dim // 4 * dtype.itemsize % 16 == 0 and not embedded,  # a thread's share of a row
    )


def _projected_entry(dim: int, hidden: int, seq: bool, dtype: torch.dtype, precision: str) -> Entry:
    """Elements are those of y."""
    config = projected_config(seq, dim, hidden, precision)
    x, state = torch.empty(1, BATCH, STEPS, dim, dtype=dtype), torch.empty(1, BATCH, 1, hidden)
    weight, out_weight = torch.empty(1, dim, 2 * hidden), torch.empty(1, hidden, dim)

    def build() -> Launch:
        options = dict(precision=precision, config=config)
        return projected.forward_launches(x, weight, out_weight, state, None, x, state, **options)[-1]

    kind = "bfloat16" if dtype == BF16 else precision
    name = f"min_gru projected {'SEQ' if seq else 'SEG'} D={dim} H={hidden} {kind}"
    bytes_ = 2 * dtype.itemsize  # x and y
    mufu = GATE_MUFU["forward"] * hidden // dim
    wide = dim // 4 * dtype.itemsize % 16 == 0  # a thread's share of a row
    return Entry(name, build, config.ROWS * config.STEPS * dim / 32, bytes_, bytes_, mufu, wide)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def entries() -> Iterator[Entry]:
    """Every form of the table at its width (and 8, which it pads to 16), the scans, the gates, the linear layer, the
    feed-forward, the block and the minGRU with its projection."""
    for what, seq, width, size in TABLE:
        dtype = DTYPES[size]
        for each in (8, 16) if width == 16 else (width,):
            for precision in PRECISIONS[dtype]:
                if is_fused(each, each, dtype, what, precision):
                    yield min_gru_entry(what, seq, each, each, dtype, precision)
                    if what == "backward" and each == MAX_WIDTH:
                        yield min_gru_entry(what, seq, each, each, dtype, precision, in_block=True)
    for dtype in PRECISIONS:
        for backward in (False, True):
            for log in (False, True):
                for width in (32, 1):
                    yield _scan_entry(log, backward, width, dtype)
        for what in ("forward", "log", "backward", "lstm forward", "lstm backward"):
            yield _gates_entry(what, 128, dtype)
        for dim, hidden in ((1, 16), (8, 8), (16, 16), (32, 32)):
            for backward in (False, True):
                for precision in PRECISIONS[dtype] if dim > 2 else PRECISIONS[dtype][:1]:
                    yield _linear_entry(dim, hidden, backward, dtype, precision)
        for dim in (8, 16, 32):
            for backward in (False, True):
                for precision in PRECISIONS[dtype]:
                    yield _feed_forward_entry(dim, backward, dtype, precision)
                    yield _feed_forward_entry(dim, backward, dtype, precision, embedded=1)
            for seq in (False, True):
                for precision in PRECISIONS[dtype]:
                    for backward in (False, True) if dim <= MAX_BACKWARD_WIDTH else (False,):
                        yield _block_entry(dim, seq, backward, dtype, precision)
                        yield _block_entry(dim, seq, backward, dtype, precision, embedded=1)
        for dim, hidden in ((8, 16), (16, 32), (32, 32)):
            for seq in (False, True):
                for precision in PRECISIONS[dtype]:
                    yield _projected_entry(dim, hidden, seq, dtype, precision)
