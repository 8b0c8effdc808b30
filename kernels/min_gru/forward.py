"""minGRU forward: projection, gates and scan of F independent layers in one pass over memory."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.config import LaunchConfig
from ..common.flags import is_masked, load_codes
from ..common.launch import Launch, check_dtypes
from ..common.operands import rows
from ..common.scans import GROUPS, advance, chain_rows, prolong, row_scan
from .chunks import forward_entries, plan_chunks
from .config import fused_precision, select_config
from .operands import common
from .states import first_state, place_rows, step_map, store_last
from .tiles import input_pointers, load_input, load_weight, project, store_rows

_NUMBERS = [
    "B",
    "T",
    "length",
    "count",
    "stride_x_f",
    "stride_x_b",
    "stride_x_t",
    "stride_c_f",
    "stride_c_b",
    "stride_c_t",
]


# All that a thread can have. Without a word ptxas kept to 72 to 168 for the sake of resident warps, and left 2 to 37
# spills in a dozen of the forward's variants (codes, tails, products of tf32x3); with it there are none.
MAX_REGISTERS = 255


@triton.jit(do_not_specialize=_NUMBERS)
def _min_gru_fwd_kernel(
    x_ptr, w_ptr, h0_ptr, code_ptr, entry_ptr,  # inputs
    h_ptr, h_last_ptr,  # outputs
    B, T, length, count,  # sizes; only these change with the batch and the sequence
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    D: tl.constexpr, H: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, NEED_H: tl.constexpr, SPLIT: tl.constexpr,
    LOG: tl.constexpr, SEQ: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t),   z_t = sigmoid(k_t),   (u_t | k_t) = x_t W,   h_0 = h0 or 0.

    Layout    x [F, B, T, D], innermost stride 1, the stride of T is D if PACKED; W [F, D, 2H], h0 [F, B, H] and
              h [F, B, T, H] contiguous, h_last [F, B, H] float32; codes broadcast to [F, B, T] through their strides.
    Tile      ROWS rows of STEPS consecutive steps each. Every step is one projection and one FMA chain in registers.
    SEQ       The rows are batch rows and time is a loop: no scan. Grid F * cdiv(B, ROWS).
    not SEQ   The rows are consecutive pieces of the time of one batch row, joined by one scan per ROWS * STEPS steps.
              Grid F * B * count: a program owns steps [g * length, (g + 1) * length), and with SPLIT starts from
              entry [F, B, count, H] at g - 1. The grid has one axis: axes 1 and 2 end at 65535.
    Scan      A step is the affine map h -> a h + b. The identity is (1, 0), with LOG (0, -inf): a masked step, and with
              it every step past the end. A reset has a = 0 (-inf).
    NEED_H    Without it h is written nowhere, and h_last alone comes out.
    EVEN      T divides into tiles and, with SEQ, B into ROWS: no load, store or map needs a mask for the tail. Else
              the tiles that do have their own loop after that of the full ones.
    Numerics  float32 from the product on; x and W enter it in the dtype of x. a is sigmoid(-k), not 1 - z. In halves
              both sigmoids come from one reciprocal and are 2^-63 at least. LOG keeps log2 h, h0 >= 0. h is rounded at
              the store and the state is not. A masked row of x is never read.
    Backward  computes the gates again from x and reads h where a row of its tiles starts; nothing else is saved.
    """
    TILE: tl.constexpr = STEPS if SEQ else ROWS * STEPS
    HALVES: tl.constexpr = x_ptr.dtype.element_ty.primitive_bitwidth < 32
    f, b, g, row_exists, state_exists, t_row, begin, end, middle = place_rows(B, T, length, count, ROWS, STEPS, SEQ)
    row = f * B + b
    carry = first_state(
        h0_ptr, entry_ptr, row, g, count, state_exists, H, HAS_H0, SPLIT, SEQ, LOG, ROWS, BLOCK_H
    )  # fmt: skip

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    x_ptrs = input_pointers(x_ptr + (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x, D, BLOCK_D)
    h_ptrs = h_ptr
    if NEED_H:
        h_ptrs = (h_ptr + (row * T + t_row) * H)[:, None] + tl.arange(0, BLOCK_H)[None, :]
    code_ptrs = code_ptr
    if HAS_CODES:
        code_ptrs = code_ptr + f * stride_c_f + b * stride_c_b + t_row.to(tl.int64) * stride_c_t
    w = load_weight(w_ptr, f, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)

    # The full tiles are a loop without masks for a tail.
    for MASKED in tl.static_range(1 if EVEN else 2):
        start = middle if MASKED else begin
        stop = end if MASKED or EVEN else middle
        for t0 in tl.range(start, stop, TILE, num_stages=STAGES):
            t_tile = tl.full((), t0, tl.int64)
            maps_a = ()
            maps_b = ()
            for s in tl.static_range(STEPS):
                t = t_tile + s
                read = tl.arange(0, ROWS) < ROWS
                if MASKED:
                    read = row_exists & (t_row + (t0 + s) < end)
                code = read
                if HAS_CODES:
                    code = load_codes(code_ptrs + t * stride_c_t, read)
                    read = read & ~is_masked(code)
                x = load_input(x_ptrs + t * step_x, read, D, BLOCK_D, HAS_CODES or MASKED)
                u, k = project(x, w, D, ROWS, BLOCK_H, PRECISION)
                a, b_t = step_map(u, k, code, read, HAS_CODES, MASKED, LOG, HALVES)
                if SEQ:
                    carry = advance(a, b_t, carry, LOG)
                    if NEED_H:
                        h = tl.exp2(carry) if LOG else carry
                        store_rows(h_ptrs + t * H, h, row_exists & (t0 + s < end), H, BLOCK_H, MASKED)
                else:
                    if s > 0:
                        b_t = advance(a, b_t, maps_b[s - 1], LOG)
                        a = prolong(a, maps_a[s - 1], LOG)
                    maps_a += (a,)
                    maps_b += (b_t,)
            if not SEQ:
                last_a, last_b = maps_a[STEPS - 1], maps_b[STEPS - 1]
                if LOG or BLOCK_H >= 32:
                    entering, carry = chain_rows(last_a, last_b, carry, ROWS, BLOCK_H, LOG, GROUPS)
                else:
                    entering, carry = row_scan(last_a, last_b, carry, ROWS, BLOCK_H, False)
                for s in tl.static_range(STEPS if NEED_H else 0):
                    h = advance(maps_a[s], maps_b[s], entering, LOG)
                    if LOG:
                        h = tl.exp2(h)
                    store_rows(h_ptrs + (t_tile + s) * H, h, t_row + (t0 + s) < end, H, BLOCK_H, MASKED)

    store_last(h_last_ptr, carry, row, g, count, state_exists, H, SEQ, LOG, BLOCK_H)


def forward_launches(
    x: torch.Tensor, weight: torch.Tensor, h0: torch.Tensor | None, codes: torch.Tensor | None,
    h: torch.Tensor | None, h_last: torch.Tensor,
    *, space: str, precision: str | None = None, config: LaunchConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill h [F, B, T, H], unless it is None, and h_last [F, B, 1, H]: one, or three and more where a
    long T is cut."""
    F, B, T, D = x.shape
    H = weight.shape[2] // 2
    if space not in ("linear", "log"):
        raise ValueError(f"space: expected 'linear' or 'log', got {space!r}")
    log = space == "log"
    what = "log" if log else "forward"
    precision = fused_precision(precision, x, H, what)
    config = config or select_config(D, H, x.dtype, F, B, T, what, precision)
    x, weight = rows(x), weight.contiguous()
    h0 = None if h0 is None else h0.contiguous()
    length, count = plan_chunks(F, B, T, config)
    shared, constants = common(x, weight, codes, None, length, count, precision, config)
    launches = []
    entry = None
    if count > 1:
        launches, entry = forward_entries(shared, constants, h0, F, H, config)
    arguments = dict(shared, h0_ptr=h0, entry_ptr=entry, h_ptr=h, h_last_ptr=h_last)
    constants |= dict(HAS_H0=h0 is not None, NEED_H=h is not None, SPLIT=count > 1, LOG=log, SEQ=config.seq)
    grid = config.grid(F, B, count)
    launches.append(Launch(_min_gru_fwd_kernel, grid, arguments, constants, config.num_warps, MAX_REGISTERS))
    return launches


def min_gru_forward(
    x: torch.Tensor, weight: torch.Tensor, h0: torch.Tensor | None = None, codes: torch.Tensor | None = None,
    *, space: str = "linear", need_h: bool = True, precision: str | None = None, config: LaunchConfig | None = None,
) -> tuple[torch.Tensor | None, torch.Tensor]:  # fmt: skip
    """(h, h_last) of F independent minGRU layers.

    x          [F, B, T, D] float32, bfloat16 or float16, T >= 1; any strides, copied unless the innermost is 1.
    weight     [F, D, 2H], hidden columns first; rounded to the dtype of x where it is loaded; D and H as
               `is_fused` in config.py allows.
    h0         [F, B, 1, H] or None for zeros; space="log" needs it >= 0.
    codes      uint8, broadcasts to [F, B, T]: bit 0 keeps the state (the row of x is not read), bit 1 zeroes the state
               before the step and acts first, so that both give h = 0.
    space      "linear", or "log" for the log-space scan; the same function with different rounding.
    need_h     without it h is None: only the state after the last step is written.
    precision  of float32 products, as `fused_precision` in config.py takes it.
    h          [F, B, T, H] in the dtype of x; h_last [F, B, 1, H] float32, the state before it is rounded.
    """
    check_dtypes(x=x, weight=weight, h0=h0)
    F, B, T, _ = x.shape
    H = weight.shape[2] // 2
    h = torch.empty(F, B, T, H, dtype=x.dtype, device=x.device) if need_h else None
    h_last = torch.empty(F, B, 1, H, dtype=torch.float32, device=x.device)
    for launch in forward_launches(x, weight, h0, codes, h, h_last, space=space, precision=precision, config=config):
        launch.run()
    return h, h_last
