"""First-order scans over dim -2 of [..., T, H]: the kernels of both spaces, and the launchers of the linear one.

`log_scan.py` launches the same kernels with LOG. README.md derives the adjoints and the cut of a long T.
"""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import LOG2E, NEG_INF, in_elements
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_rows, as_states
from ..common.scans import row_scan
from .config import BACKWARD_STEPS, ScanConfig, segments, select_scan, vector_unit
from .forward import _FORWARD_NUMBERS, _strides, cut_buffers, cut_launches
from .tiles import compose_adjoint, extend, log_shares, place, store_totals

_BACKWARD_NUMBERS = [*_FORWARD_NUMBERS, "stride_h_n", "stride_h_t", "stride_dh_n", "stride_dh_t"]


@triton.jit(do_not_specialize=_BACKWARD_NUMBERS)
def _scan_bwd_kernel(
    a_ptr, b_ptr, h0_ptr, h_ptr, dh_ptr, entry_ptr,
    da_ptr, db_ptr, dh0_ptr, total_a_ptr, total_b_ptr,
    T, H, length, count,  # H and the strides in units of UNIT elements
    stride_a_n: tl.int64, stride_a_t: tl.int64,
    stride_b_n: tl.int64, stride_b_t: tl.int64,
    stride_h_n: tl.int64, stride_h_t: tl.int64,
    stride_dh_n: tl.int64, stride_dh_t: tl.int64,
    LOG: tl.constexpr, HAS_H0: tl.constexpr, NEED_A: tl.constexpr, NEED_B: tl.constexpr, NEED_H0: tl.constexpr,
    PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Adjoint lambda_t = dh_t + s_{t+1}, s_t = c_t lambda_t: c_t = a_t, or with LOG the share p_t of a_t h_{t-1} in
    h_t.

    da_t = lambda_t h_{t-1}, db_t = lambda_t, dh0 = s_1; with LOG da_t = p_t lambda_t, db_t = q_t lambda_t, q_t = 1 -
    p_t, and p_t = q_t = 0 where h_t = -inf.

    Layout    a, b, h, dh [N, T, H], innermost stride 1; h0, dh0 [N, H], da, db [N, T, H] contiguous.
    Grid      N * count * cdiv(H, BLOCK_H) on axis 0; segment 0 is the last in time.
    Scan      s is a scan that runs backwards in time, and so do the rows: row 0 is the latest, and the scan over rows
              is the forward's. Steps past the end load (c, dh) = (1, 0), the identity.
    PHASE     as in the forward: "totals" writes the map s -> total_a s + total_b of each segment.
    Numerics  float32. With LOG only the h that enters a row is read, and the rest computed again from a and b.
    """
    H = H * UNIT
    stride_a_n, stride_a_t = in_elements(stride_a_n, UNIT), in_elements(stride_a_t, UNIT)
    stride_b_n, stride_b_t = in_elements(stride_b_n, UNIT), in_elements(stride_b_t, UNIT)
    stride_h_n, stride_h_t = in_elements(stride_h_n, UNIT), in_elements(stride_h_t, UNIT)
    stride_dh_n, stride_dh_t = in_elements(stride_dh_n, UNIT), in_elements(stride_dh_t, UNIT)
    stride_o_t = H.to(tl.int64)
    ZERO: tl.constexpr = NEG_INF if LOG else 0.0
    READ_H: tl.constexpr = NEED_A and PHASE != "totals" and not LOG
    n, g, h_offs, h_mask = place(H, count, BLOCK_H)
    begin = (count - 1 - g) * length
    end = tl.minimum(begin + length, T)
    tiles = tl.cdiv(end - begin, ROWS * STEPS)

    carry = tl.zeros((BLOCK_H,), tl.float32)
    if PHASE == "resume":
        carry = tl.load(entry_ptr + (n * count + g - 1) * H + h_offs, mask=h_mask & (g > 0), other=0.0)
    carry_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    h0 = tl.full((BLOCK_H,), ZERO, tl.float32)
    if HAS_H0 and (READ_H or LOG):
        h0 = tl.load(h0_ptr + n * H + h_offs, mask=h_mask, other=ZERO).to(tl.float32)

    t_row = begin + (ROWS - 1 - tl.arange(0, ROWS)) * STEPS
    rows = t_row.to(tl.int64)[:, None]
    a_row = a_ptr + n * stride_a_n + rows * stride_a_t + h_offs[None, :]
    if LOG:
        b_row = b_ptr + n * stride_b_n + rows * stride_b_t + h_offs[None, :]
    if LOG or READ_H:
        h_row = h_ptr + n * stride_h_n + (rows - 1) * stride_h_t + h_offs[None, :]
    dh_row = dh_ptr + n * stride_dh_n + rows * stride_dh_t + h_offs[None, :]
    out_row = (n * T + rows) * H + h_offs[None, :]
    for i in range(tiles):
        t = (tiles - 1 - i) * (ROWS * STEPS)
        if LOG:
            first = t_row + t == 0
            mask = ((t_row + t < end) & ~first)[:, None] & h_mask[None, :]
            m = tl.load(h_row + t * stride_h_t, mask=mask, other=ZERO).to(tl.float32)
            m = tl.where(first[:, None], h0[None, :], m) * LOG2E
        c = ()
        dh = ()
        rest = ()
        for s in tl.static_range(STEPS):
            mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
            dh += (tl.load(dh_row + (t + s) * stride_dh_t, mask=mask, other=0.0).to(tl.float32),)
            if LOG:
                a_s = tl.load(a_row + (t + s) * stride_a_t, mask=mask, other=0.0).to(tl.float32) * LOG2E
                b_s = tl.load(b_row + (t + s) * stride_b_t, mask=mask, other=ZERO).to(tl.float32) * LOG2E
                p, q, m = log_shares(a_s + m, b_s)
                c += (p,)
                rest += (q,)
            else:
                c += (tl.load(a_row + (t + s) * stride_a_t, mask=mask, other=1.0).to(tl.float32),)
                if READ_H:
                    first = t_row + t + s == 0
                    h = tl.load(h_row + (t + s) * stride_h_t, mask=mask & ~first[:, None], other=0.0).to(tl.float32)
                    rest += (tl.where(first[:, None], h0[None, :], h),)
        row_a, row_b = compose_adjoint(c, dh, ROWS, STEPS, BLOCK_H)
        if PHASE == "totals":
            carry_a, carry = extend(row_a, row_b, carry_a, carry, ROWS, False)
        else:
            back, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, False)
            for s in tl.static_range(STEPS - 1, -1, -1):
                mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                out = out_row + (t + s) * stride_o_t
                lam = dh[s] + back
                back = c[s] * lam
                if NEED_A:
                    da = back if LOG else lam * rest[s]
                    tl.store(da_ptr + out, da.to(da_ptr.dtype.element_ty), mask=mask)
                if NEED_B:
                    db = rest[s] * lam if LOG else lam
                    tl.store(db_ptr + out, db.to(db_ptr.dtype.element_ty), mask=mask)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * count + g, carry_a, carry, h_offs, H, False)
    elif NEED_H0:
        tl.store(dh0_ptr + n * H + h_offs, carry.to(dh0_ptr.dtype.element_ty), mask=h_mask & (g == count - 1))


def backward_launches(
    a: torch.Tensor,
    b: torch.Tensor | None,
    h0: torch.Tensor | None,
    h: torch.Tensor | None,
    dh: torch.Tensor,
    da: torch.Tensor | None,
    db: torch.Tensor | None,
    dh0: torch.Tensor | None,
    *,
    log: bool,
    config: ScanConfig | None = None,
) -> list[Launch]:
    """What fills those of da, db [N, T, H] and dh0 [N, H] that are given. b is read with log, h and h0 with log or for
    da."""
    N, T, H = a.shape
    if 0 in (N, T, H):
        return []
    config = config or select_scan(H, a.element_size(), vector_unit(H, a, b, h, dh), BACKWARD_STEPS)
    blocks = N * triton.cdiv(H, config.BLOCK_H)
    length, count = segments(T, blocks, config)
    arguments = dict(
        a_ptr=a, b_ptr=b, h0_ptr=h0, h_ptr=h, dh_ptr=dh, da_ptr=da, db_ptr=db, dh0_ptr=dh0,
        **cut_buffers(N, count, H, a.device),
        T=T, H=H // config.UNIT, length=length, count=count, **_strides(config.UNIT, a=a, b=b, h=h, dh=dh),
    )  # fmt: skip
    constants = dict(
        LOG=log, HAS_H0=h0 is not None, NEED_A=da is not None, NEED_B=db is not None, NEED_H0=dh0 is not None
    )
    return cut_launches(_scan_bwd_kernel, blocks, count, config, arguments, constants, None, log=False)


def scan_backward(
    a: torch.Tensor, b: torch.Tensor | None, h0: torch.Tensor | None, h: torch.Tensor | None, dh: torch.Tensor,
    *, log: bool, needs: tuple[bool, bool, bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(da, db, dh0), None where `needs` says so or there is no h0. b is None without log; h is None where nothing reads
    it."""
    check_dtypes(a=a, b=b, h0=h0, h=h, dh=dh)
    da = torch.empty(a.shape, dtype=a.dtype, device=a.device) if needs[0] else None
    db = torch.empty(dh.shape, dtype=dh.dtype, device=dh.device) if needs[1] else None
    dh0 = torch.zeros(h0.shape, dtype=h0.dtype, device=h0.device) if needs[2] and h0 is not None else None
    b, h, out_a, out_b = (None if x is None else as_rows(x) for x in (b, h, da, db))
    for launch in backward_launches(
        as_rows(a), b, as_states(h0), h, as_rows(dh), out_a, out_b, as_states(dh0), log=log
    ):
        launch.run()
    return da, db, dh0


def linear_scan_backward(
    coeffs: torch.Tensor, h: torch.Tensor | None, h0: torch.Tensor | None, dh: torch.Tensor,
    *, need_coeffs: bool = True, need_values: bool = True, need_h0: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(d coeffs, d values, d h0) from the forward's output h, which may be None when the first is not needed."""
    return scan_backward(coeffs, None, h0, h, dh, log=False, needs=(need_coeffs, need_values, need_h0))


def log_scan_backward(
    log_coeffs: torch.Tensor, log_values: torch.Tensor, log_h: torch.Tensor, log_h0: torch.Tensor | None,
    dlog_h: torch.Tensor,
    *, need_coeffs: bool = True, need_values: bool = True, need_h0: bool = True,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(d log_coeffs, d log_values, d log_h0) from the forward's output log_h; all 0 where log_h = -inf."""
    needs = (need_coeffs, need_values, need_h0)
    return scan_backward(log_coeffs, log_values, log_h0, log_h, dlog_h, log=True, needs=needs)
