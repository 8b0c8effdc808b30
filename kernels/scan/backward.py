"""The backward of forward.py: the adjoint of a scan is one that runs backwards in time. README.md derives it."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import LOG2E, NEG_INF, in_elements
from ..common.call import Gradients, Needs
from ..common.device import kernel
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_sequences, as_states, stride_arguments
from ..common.plan import planned
from ..common.scans import row_scan
from .config import BACKWARD_STEPS, ScanConfig, channel_unit, plan_chunks, select_scan
from .forward import chunk_buffers, phase_launches
from .tiles import compose_adjoint, extend, log_shares, place_program, store_totals


@kernel
def _scan_bwd_kernel(
    a_ptr, b_ptr, h0_ptr, h_ptr, dh_ptr, entry_ptr,
    da_ptr, db_ptr, dh0_ptr, total_a_ptr, total_b_ptr,
    T, H, chunk_steps, num_chunks,  # H and the strides in units of UNIT elements
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
    Grid      N * num_chunks * cdiv(H, BLOCK_H) on axis 0; chunk 0 is the last in time.
    Scan      s is a scan that runs backwards in time, and so do the rows: row 0 is the latest, and the scan over rows
              is the forward's. Steps past the end load (c, dh) = (1, 0), the identity.
    PHASE     as in the forward: "totals" writes the map s -> total_a s + total_b of each chunk.
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
    n, chunk, h_offs, h_mask = place_program(H, num_chunks, BLOCK_H)
    begin = (num_chunks - 1 - chunk) * chunk_steps
    end = tl.minimum(begin + chunk_steps, T)
    tiles = tl.cdiv(end - begin, ROWS * STEPS)

    carry = tl.zeros((BLOCK_H,), tl.float32)
    if PHASE == "resume":
        carry = tl.load(entry_ptr + (n * num_chunks + chunk - 1) * H + h_offs, mask=h_mask & (chunk > 0), other=0.0)
    carry_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    carry_c = tl.zeros((BLOCK_H,), tl.float32)
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
            carry_a, carry_c, carry = extend(row_a, row_b, carry_a, carry_c, carry, ROWS, False)
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
        store_totals(total_a_ptr, total_b_ptr, n * num_chunks + chunk, carry_a, carry_c, carry, h_offs, H, False)
    elif NEED_H0:
        tl.store(dh0_ptr + n * H + h_offs, carry.to(dh0_ptr.dtype.element_ty), mask=h_mask & (chunk == num_chunks - 1))


def backward_launches(
    a: torch.Tensor, b: torch.Tensor | None, h0: torch.Tensor | None, h: torch.Tensor | None, dh: torch.Tensor,
    da: torch.Tensor | None, db: torch.Tensor | None, dh0: torch.Tensor | None,
    *, log: bool, config: ScanConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill those of da, db [N, T, H] and dh0 [N, H] that are given. b is read with log, h and h0 with
    log or for da."""
    N, T, H = a.shape
    if 0 in (N, T, H):
        return []
    config = config or select_scan(H, a.element_size(), channel_unit(H, a, b, h, dh), BACKWARD_STEPS)
    blocks = N * triton.cdiv(H, config.BLOCK_H)
    chunks = plan_chunks(T, blocks, config)
    arguments = dict(
        a_ptr=a, b_ptr=b, h0_ptr=h0, h_ptr=h, dh_ptr=dh, da_ptr=da, db_ptr=db, dh0_ptr=dh0,
        **chunk_buffers(N, chunks.num_chunks, H, a.device),
        T=T, H=H // config.UNIT, **chunks._asdict(), **stride_arguments("nt", config.UNIT, a=a, b=b, h=h, dh=dh),
    )  # fmt: skip
    constants = dict(
        LOG=log, HAS_H0=h0 is not None, NEED_A=da is not None, NEED_B=db is not None, NEED_H0=dh0 is not None
    )
    return phase_launches(_scan_bwd_kernel, blocks, config, arguments, constants, None, log=False)


@planned
def scan_backward(
    a: torch.Tensor, b: torch.Tensor | None, h0: torch.Tensor | None, h: torch.Tensor | None, dh: torch.Tensor,
    *, log: bool, needs: Needs = (True, True, True),
) -> Gradients:  # fmt: skip
    """(da, db, dh0) from the arguments of `scan_forward`, its h and the gradient of that; None where `needs` says so or
    there is no h0.

    b may be None without log, and h where it is not read: without log and da. With log the gradients are 0 where h is
    -inf.
    """
    check_dtypes(a=a, b=b, h0=h0, h=h, dh=dh)
    da = a.new_empty(a.shape) if needs[0] else None
    db = dh.new_empty(dh.shape) if needs[1] else None
    dh0 = h0.new_zeros(h0.shape) if needs[2] and h0 is not None else None
    b, h, out_a, out_b = (None if x is None else as_sequences(x) for x in (b, h, da, db))
    for launch in backward_launches(
        as_sequences(a), b, as_states(h0), h, as_sequences(dh), out_a, out_b, as_states(dh0), log=log
    ):
        launch.run()
    return da, db, dh0
