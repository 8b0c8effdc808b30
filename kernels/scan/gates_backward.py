"""minGRU for D or H > 64, and minLSTM: a product makes p = x W, one kernel turns p into h, one turns dh into dp.

The projection has its own launch because above 64 a weight no longer fits the registers of the warps that scan. p has
the dtype of x: at D = H with halves that is 2 + 4 + 4 + 2 = 12 bytes per element of h, a float32 p would make it 20.
The kernels read and write a float32 p just as well, which that of a minLSTM is. `matmul.py` has the projection, and
puts 0 in the masked rows of x before it.
"""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.flags import MASKED, coded_multiplier, is_masked, is_reset
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_states, rows
from ..common.scans import row_scan
from .config import ScanConfig, gates_backward_steps, segments, select_scan, vector_unit
from .forward import cut_buffers, cut_launches
from .gates_forward import _NUMBERS, _code_strides, _strides
from .tiles import compose_adjoint, extend, load_step, place, step_gates, step_slopes, store_totals, unless

_BACKWARD_NUMBERS = _NUMBERS + [f"stride_{x}_{d}" for x in ("h", "dh") for d in "fbt"]


@triton.jit(do_not_specialize=_BACKWARD_NUMBERS)
def _gates_scan_bwd_kernel(
    p_ptr, h0_ptr, h_ptr, code_ptr, dh_ptr, dh_last_ptr, entry_ptr,
    dp_ptr, dh0_ptr, total_a_ptr, total_b_ptr,
    B, T, H, length, count,  # H and the strides, but those of codes, in units of UNIT elements
    stride_p_f: tl.int64, stride_p_b: tl.int64, stride_p_t: tl.int64,
    stride_h_f: tl.int64, stride_h_b: tl.int64, stride_h_t: tl.int64,
    stride_dh_f: tl.int64, stride_dh_b: tl.int64, stride_dh_t: tl.int64,
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    PARTS: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_CODES: tl.constexpr, HAS_DH: tl.constexpr, HAS_DH_LAST: tl.constexpr,
    NEED_P: tl.constexpr, NEED_H0: tl.constexpr, PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """lambda_t = dh_t + s_{t+1}, s_t = a_t lambda_t, s_{T+1} = dh_last or 0; dh0 = s_1, and in dp = (du | dk), or
    (du | dk_f | dk_i) where PARTS is 3,

    du_t = z_t g'(u_t) lambda_t,  dk_t = z_t (1 - z_t) (g(u_t) - h_{t-1}) lambda_t,
    dk_f = -(1 - f_t) dk_t,  dk_i = (1 - i_t) dk_t.

    Layout    p, dp [F, B, T, PARTS * H], h and dh [F, B, T, H], innermost stride 1; h0, dh0, dh_last [F, B, H] and dp
              contiguous.
    Grid      F * B * count * cdiv(H, BLOCK_H) on axis 0; segment 0 is the last in time.
    Scan      As in _scan_bwd_kernel: rows run backwards in time. h enters a row from memory and is computed again
              inside.
    Codes     a_t is 1 at a masked step and 0 at a reset, but dk keeps the gate's own 1 - z_t; h_{t-1} is 0 at a reset;
              dp = 0 by selection at a masked step, whose p is not read.
    Numerics  float32, the same for both spaces of the forward.
    """
    H = H * UNIT
    stride_p_f, stride_p_b, stride_p_t = (
        in_elements(stride_p_f, UNIT),
        in_elements(stride_p_b, UNIT),
        in_elements(stride_p_t, UNIT),
    )
    stride_h_f, stride_h_b, stride_h_t = (
        in_elements(stride_h_f, UNIT),
        in_elements(stride_h_b, UNIT),
        in_elements(stride_h_t, UNIT),
    )
    stride_dh_f, stride_dh_b, stride_dh_t = (
        in_elements(stride_dh_f, UNIT),
        in_elements(stride_dh_b, UNIT),
        in_elements(stride_dh_t, UNIT),
    )
    stride_dp_t = PARTS * H.to(tl.int64)
    WRITE_P: tl.constexpr = NEED_P and PHASE != "totals"
    n, g, h_offs, h_mask = place(H, count, BLOCK_H)
    begin = (count - 1 - g) * length
    end = tl.minimum(begin + length, T)
    tiles = tl.cdiv(end - begin, ROWS * STEPS)

    carry = tl.zeros((BLOCK_H,), tl.float32)
    carry_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    if HAS_DH_LAST and PHASE != "totals":
        carry = tl.load(dh_last_ptr + n * H + h_offs, mask=h_mask & (g == 0), other=0.0).to(tl.float32)
    if PHASE == "resume":
        entry = tl.load(entry_ptr + (n * count + g - 1) * H + h_offs, mask=h_mask & (g > 0), other=0.0)
        carry = tl.where(g == 0, carry, entry)
    h0 = tl.zeros((BLOCK_H,), tl.float32)
    if HAS_H0 and WRITE_P:
        h0 = tl.load(h0_ptr + n * H + h_offs, mask=h_mask, other=0.0).to(tl.float32)

    t_row = begin + (ROWS - 1 - tl.arange(0, ROWS)) * STEPS
    rows = t_row.to(tl.int64)
    p_row = p_ptr + n // B * stride_p_f + n % B * stride_p_b + rows[:, None] * stride_p_t + h_offs[None, :]
    if WRITE_P:
        h_row = h_ptr + n // B * stride_h_f + n % B * stride_h_b + (rows[:, None] - 1) * stride_h_t + h_offs[None, :]
        dp_row = dp_ptr + (n * T + rows[:, None]) * stride_dp_t + h_offs[None, :]
    if HAS_DH:
        dh_row = dh_ptr + n // B * stride_dh_f + n % B * stride_dh_b + rows[:, None] * stride_dh_t + h_offs[None, :]
    if HAS_CODES:
        code_row = code_ptr + n // B * stride_c_f + n % B * stride_c_b + rows * stride_c_t
    for i in range(tiles):
        t = (tiles - 1 - i) * (ROWS * STEPS)
        if WRITE_P:
            first = t_row + t == 0
            mask = ((t_row + t < end) & ~first)[:, None] & h_mask[None, :]
            h = tl.load(h_row + t * stride_h_t, mask=mask, other=0.0).to(tl.float32)
            h = tl.where(first[:, None], h0[None, :], h)
        a = ()
        dh = ()
        slopes = ()
        silent = ()
        for s in tl.static_range(STEPS):
            live = t_row + t + s < end
            mask = live[:, None] & h_mask[None, :]
            if HAS_DH:
                dh += (tl.load(dh_row + (t + s) * stride_dh_t, mask=mask, other=0.0).to(tl.float32),)
            else:
                dh += (tl.zeros((ROWS, BLOCK_H), tl.float32),)
            if HAS_CODES:
                code = tl.load(code_row + (t + s) * stride_c_t, mask=live, other=MASKED)
                masked, reset = is_masked(code)[:, None], is_reset(code)[:, None]
                mask = mask & ~masked
            x = load_step(p_row + (t + s) * stride_p_t, mask, H, PARTS)
            gates = step_gates(x, PARTS)
            a_s = gates[2]
            if HAS_CODES:
                a_s = coded_multiplier(a_s, masked, reset, False)
                silent += (masked,)
            a += (a_s,)
            if WRITE_P:
                if HAS_CODES:
                    h = tl.where(reset, 0.0, h)
                slopes += step_slopes(x, gates, h, PARTS)
                h = tl.fma(a_s, h, gates[0] * gates[1])
        row_a, row_b = compose_adjoint(a, dh, ROWS, STEPS, BLOCK_H)
        if PHASE == "totals":
            carry_a, carry = extend(row_a, row_b, carry_a, carry, ROWS, False)
        else:
            back, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, False)
            if WRITE_P:
                for s in tl.static_range(STEPS - 1, -1, -1):
                    mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                    lam = dh[s] + back
                    back = a[s] * lam
                    dx = ()
                    for j in tl.static_range(PARTS):
                        dx += (slopes[PARTS * s + j] * lam,)
                    if HAS_CODES:
                        dx = unless(silent[s], dx)
                    out = dp_row + (t + s) * stride_dp_t
                    for j in tl.static_range(PARTS):
                        tl.store(out + j * H, dx[j].to(dp_ptr.dtype.element_ty), mask=mask)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * count + g, carry_a, carry, h_offs, H, False)
    elif NEED_H0:
        tl.store(dh0_ptr + n * H + h_offs, carry.to(dh0_ptr.dtype.element_ty), mask=h_mask & (g == count - 1))


def gates_backward_launches(
    p: torch.Tensor,
    h0: torch.Tensor | None,
    h: torch.Tensor,
    codes: torch.Tensor | None,
    dh: torch.Tensor | None,
    dh_last: torch.Tensor | None,
    dp: torch.Tensor | None,
    dh0: torch.Tensor | None,
    *,
    config: ScanConfig | None = None,
) -> list[Launch]:
    """What fills those of dp (as p) and dh0 [F * B, H] that are given; h0 and dh_last are [F * B, H]."""
    F, B, T, H = h.shape
    if config is None:
        n = vector_unit(H, p, h, dh)
        config = select_scan(H, p.element_size(), n, gates_backward_steps(n))
    blocks = F * B * triton.cdiv(H, config.BLOCK_H)
    length, count = segments(T, blocks, config)
    arguments = dict(
        p_ptr=p, h0_ptr=h0, h_ptr=h, code_ptr=codes, dh_ptr=dh, dh_last_ptr=dh_last,
        dp_ptr=dp, dh0_ptr=dh0, **cut_buffers(F * B, count, H, p.device),
        B=B, T=T, H=H // config.UNIT, length=length, count=count,
        **_strides(config.UNIT, p=p, h=h, dh=dh), **_code_strides(codes, p),
    )  # fmt: skip
    constants = dict(
        PARTS=p.shape[3] // H, HAS_H0=h0 is not None, HAS_CODES=codes is not None, HAS_DH=dh is not None,
        HAS_DH_LAST=dh_last is not None, NEED_P=dp is not None, NEED_H0=dh0 is not None,
    )  # fmt: skip
    return cut_launches(_gates_scan_bwd_kernel, blocks, count, config, arguments, constants, dh_last, log=False)


def gates_scan_backward(
    p: torch.Tensor, h0: torch.Tensor | None, h: torch.Tensor, codes: torch.Tensor | None,
    dh: torch.Tensor | None, dh_last: torch.Tensor | None,
    *, out_dtype: torch.dtype | None = None, need_p: bool = True, need_h0: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(dp in p's dtype unless out_dtype is given, dh0 in h0's), None where not needed. A gradient that is None is not
    read. Serves both spaces, and both cells by the width of p."""
    check_dtypes(p=p, h0=h0, h=h, dh=dh, dh_last=dh_last)
    dp = torch.empty(p.shape, dtype=out_dtype or p.dtype, device=p.device) if need_p else None
    dh0 = torch.empty(h0.shape, dtype=h0.dtype, device=h0.device) if need_h0 and h0 is not None else None
    if 0 in h.shape:
        if dh0 is not None:
            dh0.zero_() if dh_last is None else dh0.copy_(dh_last)
        return dp, dh0
    operands = rows(p), as_states(h0), rows(h), codes, None if dh is None else rows(dh), as_states(dh_last)
    for launch in gates_backward_launches(*operands, dp, as_states(dh0)):
        launch.run()
    return dp, dh0
