"""First-order scans over dim -2 of [..., T, H], in both spaces. README.md derives the adjoints and the cut of a long
T."""

from typing import Any

import torch
import triton
import triton.language as tl

from ..common.arithmetic import LN2, LOG2E, NEG_INF, in_elements
from ..common.device import kernel
from ..common.launch import Launch, check_dtypes
from ..common.operands import as_sequences, as_states, stride_arguments
from ..common.plan import planned
from ..common.scans import advance, compose, row_scan
from .config import FORWARD_STEPS, ScanConfig, channel_unit, plan_chunks, select_scan
from .tiles import extend, place_program, store_totals


@kernel
def _scan_fwd_kernel(
    a_ptr, b_ptr, h0_ptr, entry_ptr,
    h_ptr, total_a_ptr, total_b_ptr,
    T, H, chunk_steps, num_chunks,  # H and the strides in units of UNIT elements
    stride_a_n: tl.int64, stride_a_t: tl.int64,
    stride_b_n: tl.int64, stride_b_t: tl.int64,
    LOG: tl.constexpr, HAS_H0: tl.constexpr, PHASE: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_H: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """h_t = a_t h_{t-1} + b_t, h_0 = h0 or 0; with LOG the logarithms: h_t = logaddexp(a_t + h_{t-1}, b_t), h_0 = h0 or
    -inf.

    Layout    a, b [N, T, H], innermost stride 1; h0 [N, H] and h [N, T, H] contiguous.
    Grid      N * num_chunks * cdiv(H, BLOCK_H) on axis 0. A program owns steps [chunk * chunk_steps, (chunk + 1) *
              chunk_steps) of its channels.
    Scan      Row r of a tile owns STEPS consecutive steps: they are composed in registers, one scan over the rows gives
              the state that enters each row, and the row is run again from it. Steps past the end load the identity,
              (1, 0) or (0, -inf), so the carry needs no mask.
    PHASE     "whole": there is one chunk. "totals": writes only the chunk's map (total_a, total_b) [N, num_chunks, H].
              "resume": a chunk starts from entry [N, num_chunks, H], the scan of the totals, at chunk - 1, and the
              first from h0.
    Numerics  float32; LOG works on log2 (scaled on load and store), -inf legal everywhere. The product of a over a tile
              has to be finite. NaN enters every later step of its channel and no earlier one.
    Backward  reads a and h, and b in place of most of h with LOG.
    """
    H = H * UNIT
    stride_a_n, stride_a_t = in_elements(stride_a_n, UNIT), in_elements(stride_a_t, UNIT)
    stride_b_n, stride_b_t = in_elements(stride_b_n, UNIT), in_elements(stride_b_t, UNIT)
    stride_o_t = H.to(tl.int64)
    ONE: tl.constexpr = 0.0 if LOG else 1.0
    ZERO: tl.constexpr = NEG_INF if LOG else 0.0
    n, chunk, h_offs, h_mask = place_program(H, num_chunks, BLOCK_H)
    begin = chunk * chunk_steps
    end = tl.minimum(begin + chunk_steps, T)

    carry = tl.full((BLOCK_H,), ZERO, tl.float32)
    if HAS_H0 and PHASE != "totals":
        carry = tl.load(h0_ptr + n * H + h_offs, mask=h_mask & (chunk == 0), other=ZERO).to(tl.float32)
    if PHASE == "resume":
        carry = tl.where(
            chunk == 0,
            carry,
            tl.load(entry_ptr + (n * num_chunks + chunk - 1) * H + h_offs, mask=h_mask & (chunk > 0), other=ZERO),
        )
    if LOG:
        carry = carry * LOG2E
    carry_a = tl.full((BLOCK_H,), ONE, tl.float32)
    carry_c = tl.zeros((BLOCK_H,), tl.float32)

    t_row = begin + tl.arange(0, ROWS) * STEPS
    rows = t_row.to(tl.int64)[:, None]
    a_row = a_ptr + n * stride_a_n + rows * stride_a_t + h_offs[None, :]
    b_row = b_ptr + n * stride_b_n + rows * stride_b_t + h_offs[None, :]
    h_row = h_ptr + (n * T + rows) * H + h_offs[None, :]
    for t in range(0, end - begin, ROWS * STEPS):
        a = ()
        b = ()
        for s in tl.static_range(STEPS):
            mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
            a_s = tl.load(a_row + (t + s) * stride_a_t, mask=mask, other=ONE).to(tl.float32)
            b_s = tl.load(b_row + (t + s) * stride_b_t, mask=mask, other=ZERO).to(tl.float32)
            if LOG:
                a_s, b_s = a_s * LOG2E, b_s * LOG2E
            a += (a_s,)
            b += (b_s,)
        row_a, row_b = compose(a, b, STEPS, LOG)
        if PHASE == "totals":
            carry_a, carry_c, carry = extend(row_a, row_b, carry_a, carry_c, carry, ROWS, LOG)
        else:
            state, carry = row_scan(row_a, row_b, carry, ROWS, BLOCK_H, LOG)
            for s in tl.static_range(STEPS):
                state = advance(a[s], b[s], state, LOG)
                mask = (t_row + t + s < end)[:, None] & h_mask[None, :]
                out = state * LN2 if LOG else state
                tl.store(h_row + (t + s) * stride_o_t, out.to(h_ptr.dtype.element_ty), mask=mask)
    if PHASE == "totals":
        store_totals(total_a_ptr, total_b_ptr, n * num_chunks + chunk, carry_a, carry_c, carry, h_offs, H, LOG)


def chunk_buffers(N: int, num_chunks: int, H: int, device: torch.device) -> dict[str, Any]:
    """Arguments of a cut: each chunk's map and the state that enters it, natural units; None where T is whole."""
    return {
        name: torch.empty(N, num_chunks, H, dtype=torch.float32, device=device) if num_chunks > 1 else None
        for name in ("total_a_ptr", "total_b_ptr", "entry_ptr")
    }


def phase_launches(
    kernel: Any, blocks: int, config: ScanConfig, arguments: dict[str, Any], constants: dict[str, Any],
    first: torch.Tensor | None,
    *, log: bool,
) -> list[Launch]:  # fmt: skip
    """One launch, or with more than one chunk three and more: the maps, their scan from the state `first`, the
    chunks."""
    num_chunks = arguments["num_chunks"]
    constants = constants | dict(ROWS=config.ROWS, STEPS=config.STEPS, BLOCK_H=config.BLOCK_H, UNIT=config.UNIT)
    phases = ("whole",) if num_chunks == 1 else ("totals", "resume")
    launches = [
        Launch(kernel, (blocks * num_chunks,), arguments, constants | {"PHASE": x}, config.num_warps) for x in phases
    ]
    if num_chunks > 1:
        launches[1:1] = forward_launches(
            arguments["total_a_ptr"], arguments["total_b_ptr"], first, arguments["entry_ptr"], log=log
        )
    return launches


def forward_launches(
    a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor | None, h: torch.Tensor,
    *, log: bool, config: ScanConfig | None = None,
) -> list[Launch]:  # fmt: skip
    """The launches that fill h [N, T, H] from sequences a, b [N, T, H] and h0 [N, H]: one, or three and more where T is
    cut."""
    N, T, H = a.shape
    if 0 in (N, T, H):
        return []
    config = config or select_scan(H, a.element_size(), channel_unit(H, a, b), FORWARD_STEPS)
    blocks = N * triton.cdiv(H, config.BLOCK_H)
    chunks = plan_chunks(T, blocks, config)
    arguments = dict(
        a_ptr=a, b_ptr=b, h0_ptr=h0, h_ptr=h, **chunk_buffers(N, chunks.num_chunks, H, a.device),
        T=T, H=H // config.UNIT, **chunks._asdict(), **stride_arguments("nt", config.UNIT, a=a, b=b),
    )  # fmt: skip
    constants = dict(LOG=log, HAS_H0=h0 is not None)
    return phase_launches(_scan_fwd_kernel, blocks, config, arguments, constants, h0, log=log)


@planned
def scan_forward(a: torch.Tensor, b: torch.Tensor, h0: torch.Tensor | None = None, *, log: bool) -> torch.Tensor:
    """h_t = a_t h_{t-1} + b_t over dim -2 of [..., T, H], in b's dtype, contiguous; a and b have one shape, h0 is
    [..., 1, H] or None for 0.

    With log all of them are logarithms, and no h0 is -inf; -inf is legal in every argument, +inf in none.
    """
    check_dtypes(a=a, b=b, h0=h0)
    h = b.new_empty(b.shape)
    for launch in forward_launches(as_sequences(a), as_sequences(b), as_states(h0), as_sequences(h), log=log):
        launch.run()
    return h
