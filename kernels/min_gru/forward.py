"""minGRU forward: projection, gates and scan of F independent layers in one pass over memory."""

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence
from ..common.config import LaunchConfig
from ..common.device import kernel
from ..common.elapsed import load_elapsed
from ..common.flags import is_masked, load_words, step_flags, word_rows
from ..common.launch import Launch, check_dtypes
from ..common.operands import is_log, readable, shared_operands
from ..common.scans import advance, chain_rows, prolong, row_scan
from .chunks import entry_launches, plan_chunks
from .config import fused_precision, select_config
from .states import first_state, place_rows, step_map, store_last
from .tiles import input_pointers, load_bias, load_input, load_weight, project, store_rows

# All that a thread can have. Left to itself ptxas kept to 72 to 168 for the sake of resident warps, and left 2 to 37
# spills in a dozen of the forward's variants (flags, tails, products of tf32x3); with this there are none.
MAX_REGISTERS = 255


@kernel
def _min_gru_fwd_kernel(
    x_ptr, w_ptr, h0_ptr, elapsed_ptr, flags_ptr, entry_ptr,  # inputs
    h_ptr, h_last_ptr,  # outputs
    B, T, chunk_steps, num_chunks,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    D: tl.constexpr, H: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, NEED_H: tl.constexpr, SPLIT: tl.constexpr,
    LOG: tl.constexpr, BATCH_ROWS: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W + bias,   h_0 = h0 or 0;

    with elapsed times dt_t   1 - z_t = exp(-dt_t softplus(k_t)).

    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2H], h0 [F, B, H] and
              h [F, B, T, H] contiguous, h_last [F, B, H] float32; elapsed times [F, B, T] and flags
              [F, B, ceil(T / 4)], words of four steps, broadcast through their strides.
    HAS_BIAS  W is [F, D + 1, 2H], and its last row the bias; else there is none.
    Tile      ROWS rows of STEPS consecutive steps each. Every step is one projection and one FMA chain in registers.
    Rows      With BATCH_ROWS they are batch rows and time is a loop: no scan. Grid F * cdiv(B, ROWS).
              Else they are consecutive pieces of the time of one batch row, joined by one scan per ROWS * STEPS steps.
              Grid F * B * num_chunks: a program owns steps [chunk * chunk_steps, (chunk + 1) * chunk_steps), and with
              SPLIT starts from entry [F, B, num_chunks, H] at chunk - 1. The grid has one axis: axes 1 and 2 end at
              65535.
    Scan      A step is the affine map h -> a h + b. The identity is (1, 0), with LOG (0, -inf): a masked step, and with
              it every step past the end. A reset has a = 0 (-inf).
    HAS_ELAPSED  Steps of no time are the identity too. A masked step does not read its time.
    NEED_H    Without it h is written nowhere, and h_last alone comes out.
    EVEN      T divides into tiles and, with BATCH_ROWS, B into ROWS: no load, store or map needs a mask for the tail.
              Else the tiles that do (TAIL) have their own loop after that of the full ones.
    Numerics  float32 from the product on; x and W enter it in the dtype of x. a is sigmoid(-k), not 1 - z. In half
              precision both sigmoids come from one reciprocal and are 2^-63 at least. LOG keeps log2 h, h0 >= 0. h is
              rounded at the store and the state is not. A masked row of x is never read.
    Backward  computes the gates again from x and reads h where a row of its tiles starts; nothing else is saved.
    """
    TILE: tl.constexpr = STEPS if BATCH_ROWS else ROWS * STEPS
    HALF_PRECISION: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth < 32
    f, b, chunk, row_exists, state_exists, t_row, begin, end, middle = place_rows(
        B, T, chunk_steps, num_chunks, ROWS, STEPS, BATCH_ROWS
    )
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, chunk, num_chunks, state_exists, H, HAS_H0, SPLIT, BATCH_ROWS, LOG, ROWS, BLOCK_H
    )  # fmt: skip

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    x_ptrs = input_pointers(x_ptr + (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x, D, BLOCK_D)
    h_ptrs = h_ptr
    if NEED_H:
        h_ptrs = (h_ptr + (row * T + t_row) * H)[:, None] + tl.arange(0, BLOCK_H)[None, :]
    elapsed_ptrs = elapsed_ptr
    if HAS_ELAPSED:
        elapsed_ptrs = elapsed_ptr + f * stride_elapsed_f + b * stride_elapsed_b + t_row.to(tl.int64) * stride_elapsed_t
    ahead = ()
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, f, b, t_row, stride_flags_f, stride_flags_b, BATCH_ROWS)
        ahead = load_words(flags_ptr, begin, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
        last = begin + (end - 1 - begin) // TILE * TILE
    w_ptr += f * (2 * (D + HAS_BIAS) * H)
    w = load_weight(w_ptr, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    bias = load_bias(w_ptr, D, H, BLOCK_H, HAS_BIAS)

    # The full tiles are a loop without masks for a tail.
    for TAIL in tl.static_range(1 if EVEN else 2):
        start = middle if TAIL else begin
        stop = end if TAIL or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            maps_a = ()
            maps_b = ()
            if HAS_FLAGS:
                words = ahead
                t_next = tl.minimum(t0 + TILE, last)
                ahead = load_words(flags_ptr, t_next, flags_rows, t_row, row_exists, end, STEPS, not EVEN)
            for s in tl.static_range(STEPS):
                t = t_tile + s
                read = tl.arange(0, ROWS) < ROWS
                if TAIL:
                    read = row_exists & (t_row + (t0 + s) < end)
                flags = read
                if HAS_FLAGS:
                    flags = step_flags(words, t_row, t0, s, STEPS)
                    read = read & ~is_masked(flags)
                x = load_input(x_ptrs + t * step_x, read, D, BLOCK_D, HAS_FLAGS or TAIL)
                u, k = project(x, w, bias, D, ROWS, BLOCK_H, PRECISION)
                times = ()
                if HAS_ELAPSED:
                    times = (load_elapsed(elapsed_ptrs + t * stride_elapsed_t, read),)
                a, b_t = step_map(u, k, times, flags, read, HAS_FLAGS, TAIL, LOG, HALF_PRECISION)
                if BATCH_ROWS:
                    carry = advance(a, b_t, carry, LOG)
                    if NEED_H:
                        h = tl.exp2(carry) if LOG else carry
                        store_rows(h_ptrs + t * H, h, row_exists & (t0 + s < end), H, BLOCK_H, TAIL)
                else:
                    if s > 0:
                        b_t = advance(a, b_t, maps_b[s - 1], LOG)
                        a = prolong(a, maps_a[s - 1], LOG)
                    maps_a += (a,)
                    maps_b += (b_t,)
            if not BATCH_ROWS:
                last_a, last_b = maps_a[STEPS - 1], maps_b[STEPS - 1]
                if LOG or BLOCK_H >= 16:
                    entering, carry = chain_rows(last_a, last_b, carry, ROWS, BLOCK_H, LOG)
                else:
                    entering, carry = row_scan(last_a, last_b, carry, ROWS, BLOCK_H, False)
                for s in tl.static_range(STEPS if NEED_H else 0):
                    h = advance(maps_a[s], maps_b[s], entering, LOG)
                    if LOG:
                        h = tl.exp2(h)
                    store_rows(h_ptrs + (t_tile + s) * H, h, t_row + (t0 + s) < end, H, BLOCK_H, TAIL)

    store_last(h_last_ptr, carry, row, chunk, num_chunks, state_exists, H, BATCH_ROWS, LOG, BLOCK_H)


def forward_launches(
    call: Recurrence, h: torch.Tensor | None, h_last: torch.Tensor,
    *, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill h [F, B, T, H], unless it is None, and h_last [F, B, 1, H]: one, or three and more where a
    long T is cut."""
    (F, B, T, D), H = call.input.shape, call.weight.shape[2] // 2
    log = is_log(call.space)
    pass_ = "log" if log else "forward"
    precision = fused_precision(precision, call.input, H, pass_)
    config = config or select_config(D, H, call.input.dtype, F, B, T, pass_, precision)
    call = readable(call, call.weight.contiguous())
    chunks = plan_chunks(F, B, T, config)
    arguments, constants = shared_operands(call, precision, config)
    arguments |= chunks._asdict()
    launches: list[Launch] = []
    entry = None
    if chunks.num_chunks > 1:
        launches, entry = entry_launches(arguments, constants, call.h0, F, config)
    arguments |= dict(h0_ptr=call.h0, entry_ptr=entry, h_ptr=h, h_last_ptr=h_last)
    constants |= dict(
        HAS_H0=call.h0 is not None, NEED_H=h is not None, SPLIT=entry is not None, LOG=log,
        BATCH_ROWS=config.batch_rows,
    )  # fmt: skip
    grid = config.grid(F, B, chunks.num_chunks)
    return [*launches, Launch(_min_gru_fwd_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS)]


def min_gru_forward(
    call: Recurrence, *, precision: str | None = None, config: LaunchConfig | None = None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h, h_last) of F independent minGRU layers, with widths that `is_fused` in config.py says yes to.

    call       its weight is [F, D, 2H], hidden columns first, or [F, D + 1, 2H] with a bias. T >= 1.
    precision  of float32 products, as `fused_precision` in config.py takes it.
    config     instead of the one that `select_config` gives.
    h          [F, B, T, H] in the dtype of x, or None without need_h; h_last [F, B, 1, H] float32, the state before it
               is rounded.
    """
    check_dtypes(x=call.input, weight=call.weight, h0=call.h0, elapsed=call.elapsed)
    (F, B, T, _), H = call.input.shape, call.weight.shape[2] // 2
    new = call.input.new_empty
    h = new(F, B, T, H) if call.need_h else None
    h_last = new(F, B, 1, H, dtype=torch.float32)
    for launch in forward_launches(call, h, h_last, precision=precision, config=config):
        launch.run()
    return h, h_last
