"""minGRU for D or H > 64, and minLSTM: a product makes p = x W, one kernel turns p into h, one turns dh into dp.

The projection has its own launch because above 64 a weight no longer fits the registers of the warps that scan. p has
the dtype of x: at D = H with halves that is 2 + 4 + 4 + 2 = 12 bytes per element of h, a float32 p would make it 20.
The kernels read and write a float32 p just as well, which that of a minLSTM is. `matmul.py` has the projection, and
puts 0 in the masked rows of x before it.
"""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import LOG2E, NEG_INF, in_elements, log2
from ..common.flags import MASKED, code_strides, coded_multiplier, is_masked, is_reset
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_states, rows, strides
from ..common.scans import advance, row_scan
from .config import ScanConfig, gates_forward_steps, segments, select_scan, vector_unit
from .forward import cut_buffers, cut_launches
from .tiles import compose, extend, load_step, place, step_map, store_totals

_NUMBERS = ["B", "T", "H", "length", "count", *(f"stride_{x}_{d}" for x in ("p", "c") for d in "fbt")]


@triton.jit(do_not_specialize=_NUMBERS)
def _gates_scan_fwd_kernel(
    p_ptr, h0_ptr, code_ptr, entry_ptr,
    h_ptr, h_last_ptr, total_a_ptr, total_b_ptr,
    B, T, H, length, count,  # H and the strides, but those of codes, in units of UNIT elements
    stride_p_f: tl.int64, stride_p_b: tl.int64, stride_p_t: tl.int64,
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    PARTS: tl.constexpr, LOG: tl.constexpr, HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, NEED_H: tl.constexpr,
    PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """h_t = (1 - z_t) h_{t-1} + z_t g(u_t), h_0 = h0 or 0; g(u) = u + 1/2 where u >= 0, else sigmoid(u). z_t is
    sigmoid(k_t), or where PARTS is 3 i / (f + i) of f, i = sigmoid(k_f), sigmoid(k_i).

    Layout    p [F, B, T, PARTS * H] holds (u | k) or (u | k_f | k_i), innermost stride 1; codes [F, B, T] bytes, any
              strides; h [F, B, T, H], h0 and h_last [F, B, H] contiguous, h_last float32.
    Grid      F * B * count * cdiv(H, BLOCK_H) on axis 0. A program owns steps [g * length, (g + 1) * length).
    Scan      As in _scan_fwd_kernel, whose totals and entries (natural logarithms with LOG) join the segments.
    Codes     A masked step is not read: `load_step` gives what makes b = 0, and a = 1 is selected. Steps past the end
              are the same. A reset puts 0 into a after the mask has put 1.
    Numerics  float32; LOG keeps log2 h, and h0 < 0 gives NaN there. NaN enters every later step of its channel only.
    Backward  reads p, and h once per STEPS steps.
    """
    H = H * UNIT
    stride_p_f, stride_p_b, stride_p_t = (
        in_elements(stride_p_f, UNIT),
        in_elements(stride_p_b, UNIT),
        in_elements(stride_p_t, UNIT),
    )
    stride_h_t = H.to(tl.int64)
    ONE: tl.constexpr = 0.0 if LOG else 1.0
    ZERO: tl.constexpr = NEG_INF if LOG else 0.0
    n, g, h_offs, h_mask = place(H, count, BLOCK_H)
    begin = g * length
    end = tl.minimum(begin + length, T)

    carry = tl.full((BLOCK_H,), ZERO, tl.float32)
    carry_a = tl.full((BLOCK_H,), ONE, tl.float32)
    if HAS_H0 and PHASE != "totals":
        carry = tl.load(h0_ptr + n * H + h_offs, mask=h_mask & (g == 0), other=0.0).to(tl.float32)
        if LOG:
            carry = log2(carry)
    if PHASE == "resume":
        entry = tl.load(entry_ptr + (n * count + g - 1) * H + h_offs, mask=h_mask & (g > 0), other=ZERO)
        carry = tl.where(g == 0, carry, entry * LOG2E if LOG else entry)

    t_row = begin + tl.arange(0, ROWS) * STEPS
    rows = t_row.to(tl.int64)
    p_row = p_ptr + n // B * stride_p_f + n % B * stride_p_b + rows[:, None] * stride_p_t + h_offs[None, :]
    if NEED_H:
        h_row = h_ptr + (n * T + rows[:, None]) * H + h_offs[None, :]
    if HAS_CODES:
        code_row = code_ptr + n // B * stride_c_f + n % B * stride_c_b + rows * stride_c_t
    for t in range(0, end - begin, ROWS * STEPS):
        a = ()
        b = ()
        for s in tl.static_range(STEPS):
            live = t_row + t + s < end
            if HAS_CODES:
                code = tl.load(code_row + (t + s) * stride_c_t, mask=live, other=MASKED)
                live = live & ~is_masked(code)
            mask = live[:, None] & h_mask[None, :]
            a_s, b_s = step_map(load_step(p_row + (t + s) * stride_p_t, mask, H, PARTS), LOG, PARTS)
            if HAS_CODES:
                a_s = coded_multiplier(a_s, is_masked(code)[:, None], is_reset(code)[:, None], LOG)
            a += (a_s,)
            b += (b_s,)
        row_a, row_b = compose(a, b, STEPS, LOG)
        if PHASE == "totals":
            carry_a, carry = extend(row_a, row_b, carry_a, carry, ROWS, LOG)
        else:
            state, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, LOG)
            for s in tl.static_range(STEPS if NEED_H else 0):
                state = advance(a[s], b[s], state, LOG)
                mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                out = tl.exp2(state) if LOG else state
                tl.store(h_row + (t + s) * stride_h_t, out.to(h_ptr.dtype.element_ty), mask=mask)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * count + g, carry_a, carry, h_offs, H, LOG)
    else:
        tl.store(h_last_ptr + n * H + h_offs, tl.exp2(carry) if LOG else carry, mask=h_mask & (g == count - 1))


def _strides(UNIT: int, **tensors: torch.Tensor | None) -> dict[str, int]:
    """Arguments stride_<name>_f, _b and _t of [F, B, T, n], in units."""
    return {
        f"stride_{k}_{d}": s // UNIT
        for k, x in tensors.items()
        for d, s in zip("fbt", (0, 0, 0) if x is None else strides(x, 3), strict=True)
    }


def _code_strides(codes: torch.Tensor | None, p: torch.Tensor) -> dict[str, int]:
    """Arguments stride_c_f, _b and _t, in bytes."""
    return dict(zip(("stride_c_f", "stride_c_b", "stride_c_t"), code_strides(codes, *p.shape[:3]), strict=True))


def gates_forward_launches(
    p: torch.Tensor,
    h0: torch.Tensor | None,
    codes: torch.Tensor | None,
    h: torch.Tensor | None,
    h_last: torch.Tensor,
    *,
    log: bool,
    parts: int = 2,
    config: ScanConfig | None = None,
) -> list[Launch]:
    """What fills h [F, B, T, H], unless it is None, and h_last [F * B, H]; h0 is [F * B, H]."""
    F, B, T, H = *p.shape[:3], p.shape[3] // parts
    if config is None:
        n = vector_unit(H, p)
        config = select_scan(H, p.element_size(), n, gates_forward_steps(n, log, codes is not None))
    blocks = F * B * triton.cdiv(H, config.BLOCK_H)
    length, count = segments(T, blocks, config)
    arguments = dict(
        p_ptr=p, h0_ptr=h0, code_ptr=codes, h_ptr=h, h_last_ptr=h_last, **cut_buffers(F * B, count, H, p.device),
        B=B, T=T, H=H // config.UNIT, length=length, count=count,
        **_strides(config.UNIT, p=p), **_code_strides(codes, p),
    )  # fmt: skip
    constants = dict(PARTS=parts, LOG=log, HAS_H0=h0 is not None, HAS_CODES=codes is not None, NEED_H=h is not None)
    first = h0.log() if log and h0 is not None and count > 1 else h0
    return cut_launches(_gates_scan_fwd_kernel, blocks, count, config, arguments, constants, first, log=log)


def gates_scan_forward(
    p: torch.Tensor,
    h0: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    *,
    space: str = "linear",
    parts: int = 2,
    out_dtype: torch.dtype | None = None,
    need_h: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(h [F, B, T, H], h_last [F, B, 1, H]) from p [F, B, T, parts * H], h0 [F, B, 1, H] and codes uint8 [F or 1, B,
    T].

    p is (u | k) of a minGRU, or with parts = 3 (u | k_f | k_i) of a minLSTM, in space "linear" alone. h has p's dtype
    unless out_dtype is given, and is None without need_h; h_last is float32, a tensor of its own. A code's bit 0 masks
    its step, bit 1 resets the state before it. space "linear" or "log": the same function, log2 h as the state in the
    second.
    """
    check_dtypes(p=p, h0=h0)
    F, B, T, H = *p.shape[:3], p.shape[3] // parts
    h = torch.empty(F, B, T, H, dtype=out_dtype or p.dtype, device=p.device) if need_h else None
    if 0 in (F, B, T, H):
        zeros = torch.zeros(F, B, 1, H, dtype=torch.float32, device=p.device)
        return h, zeros if h0 is None else zeros + h0
    h_last = torch.empty(F, B, 1, H, dtype=torch.float32, device=p.device)
    operands, cell = (rows(p), as_states(h0), codes, h, h_last.view(F * B, H)), dict(log=space == "log", parts=parts)
    for launch in gates_forward_launches(*operands, **cell):
        launch.run()
    return h, h_last
