"""A long T cut into chunks that run at once: what each chunk does to the state, then the state that enters it."""

import torch
import triton
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.config import LaunchConfig
from ..common.flags import coded_input, coded_multiplier, is_masked, is_reset, load_codes
from ..common.gates import min_gru_gates
from ..common.launch import Launch
from ..scan.forward import forward_launches as scan_launches
from ..scan.tiles import tile_map
from .operands import gradient_strides
from .tiles import input_pointers, load_input, load_rows, load_weight, project

_NUMBERS = [
    "B", "T", "length", "count", "stride_x_f", "stride_x_b", "stride_x_t", "stride_g_f", "stride_g_b", "stride_g_t",
    "stride_c_f", "stride_c_b", "stride_c_t",
]  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def _min_gru_totals_kernel(
    x_ptr, w_ptr, code_ptr, dh_ptr,  # inputs
    total_a_ptr, total_b_ptr,  # outputs
    B, T, length, count,
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_g
    stride_g_f: tl.int64, stride_g_b: tl.int64, stride_g_t: tl.int64,
    stride_c_f: tl.int64, stride_c_b: tl.int64, stride_c_t: tl.int64,
    D: tl.constexpr, H: tl.constexpr,
    HAS_DH: tl.constexpr, HAS_CODES: tl.constexpr, ADJOINT: tl.constexpr, EVEN: tl.constexpr, PACKED: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The affine map of each chunk: of the state h -> a h + z v, or of its adjoint s -> a s + a dh, backwards in time.

    Layout    x [F, B, T, D], dh [F, B, T, H], innermost stride 1; total_a, total_b [F, B, count, H] float32, with
              ADJOINT the last chunk first, so that the scan over chunks runs forwards both ways.
    Grid      F * B * count; a program owns steps [g * length, (g + 1) * length).
    Scan      Rows and steps as in `_min_gru_fwd_kernel`, with ADJOINT in reverse order. Identity (1, 0).
    Numerics  float32, linear: a chunk whose product of a underflows has forgotten its entry state.
    """
    TILE: tl.constexpr = ROWS * STEPS
    r = tl.arange(0, ROWS)
    pid = tl.program_id(0).to(tl.int64)
    g = (pid % count).to(tl.int32)
    f = pid // count // B
    b = pid // count % B
    begin = g * length
    end = tl.minimum(begin + length, T)
    t_row = (ROWS - 1 - r) * STEPS if ADJOINT else r * STEPS

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    x_ptrs = input_pointers(x_ptr + (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x, D, BLOCK_D)
    step_g = H if PACKED else in_elements(stride_g_t, UNIT)
    dh_ptrs = dh_ptr
    if HAS_DH:
        dh_ptrs = dh_ptr + (f * stride_g_f + b * stride_g_b) * UNIT + t_row.to(tl.int64) * step_g
        dh_ptrs = dh_ptrs[:, None] + tl.arange(0, BLOCK_H)[None, :]
    code_ptrs = code_ptr
    if HAS_CODES:
        code_ptrs = code_ptr + f * stride_c_f + b * stride_c_b + t_row.to(tl.int64) * stride_c_t
    w = load_weight(w_ptr, f, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)

    total_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    total_b = tl.zeros((BLOCK_H,), tl.float32)
    tiles = tl.cdiv(end - begin, TILE)
    for i in tl.range(0, tiles, num_stages=STAGES):
        t0 = begin + (tiles - 1 - i if ADJOINT else i) * TILE
        t_tile = tl.full((), t0, tl.int64)
        row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
        row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
        for s in tl.static_range(STEPS - 1 if ADJOINT else 0, -1 if ADJOINT else STEPS, -1 if ADJOINT else 1):
            t = t_tile + s
            exists = t_row + (t0 + s) < end
            read = exists
            if HAS_CODES:
                code = load_codes(code_ptrs + t * stride_c_t, exists)
                read = exists & ~is_masked(code)
            x = load_input(x_ptrs + t * step_x, read, D, BLOCK_D, HAS_CODES or not EVEN)
            u, k = project(x, w, D, ROWS, BLOCK_H, PRECISION)
            z, v, a, _ = min_gru_gates(u, k)
            if HAS_CODES:
                a = coded_multiplier(a, ~read[:, None], is_reset(code)[:, None], False)
            elif not EVEN:
                a = coded_multiplier(a, ~read[:, None], False, False)
            if ADJOINT:
                if HAS_DH:
                    row_b += load_rows(dh_ptrs + t * step_g, exists, H, BLOCK_H, not EVEN)
                row_b = a * row_b
            else:
                b_t = z * v
                if HAS_CODES or not EVEN:
                    b_t = coded_input(b_t, ~read[:, None], False)
                row_b = tl.fma(a, row_b, b_t)
            row_a = row_a * a
        tile_a, tile_b = tile_map(row_a, row_b, ROWS, False)
        total_b = tl.fma(tile_a, total_b, tile_b)
        total_a = tile_a * total_a

    h = tl.arange(0, BLOCK_H)
    position = count - 1 - g if ADJOINT else g
    total = ((f * B + b) * count + position) * H + h
    tl.store(total_a_ptr + total, total_a, mask=h < H)
    tl.store(total_b_ptr + total, total_b, mask=h < H)


# About 1000 warps fill the memory pipeline of an H100 (design budget: 132 SMs, 8 warps each).
SATURATING_WARPS = 1000


# A cut reads x a second time. It pays where fewer than half of those warps would run, and a chunk needs some tiles for
# its totals (2 float32 per channel) to weigh little: 4 tiles of 64 steps are 1/128 of x at D = H.
SPLIT_BELOW = SATURATING_WARPS // 2


MIN_CHUNK_TILES = 4


def plan_chunks(F: int, B: int, T: int, config: LaunchConfig, min_steps: int = 0, whole: int = 1) -> tuple[int, int]:
    """(steps per chunk, chunks) of each batch row: (T, 1) unless too few warps would run. A chunk has >= min_steps, and
    is whole tiles of `whole` steps too (a power of two, as the tile of config)."""
    warps = config.grid(F, B, 1)[0] * config.num_warps
    tile = max(config.tile, whole)
    tiles = -(-T // tile)
    smallest = max(MIN_CHUNK_TILES, -(-min_steps // tile))
    if config.seq or not 0 < warps < SPLIT_BELOW or tiles < 2 * smallest:
        return T, 1
    count = min(-(-SATURATING_WARPS // warps), tiles // smallest)
    length = -(-tiles // count) * tile
    return length, -(-T // length)


def totals_launch(
    shared: dict,
    constants: dict,
    totals: list[torch.Tensor],
    dh: torch.Tensor | None,
    F: int,
    config: LaunchConfig,
    *,
    adjoint: bool = False,
) -> Launch:
    """The launch that fills totals (two of [F * B, count, H]) from the arguments that the main kernel shares with
    it."""
    arguments = gradient_strides(None, 1) | shared | dict(dh_ptr=dh, total_a_ptr=totals[0], total_b_ptr=totals[1])
    constants = constants | dict(HAS_DH=dh is not None, ADJOINT=adjoint)
    return Launch(
        _min_gru_totals_kernel, config.grid(F, shared["B"], shared["count"]), arguments, constants, config.num_warps
    )


def forward_entries(
    shared: dict, constants: dict, h0: torch.Tensor | None, F: int, H: int, config: LaunchConfig
) -> tuple[list[Launch], torch.Tensor]:
    """The launches before a forward whose T is cut, and what they fill: the state after each chunk, [F * B, count, H].
    `shared` and `constants` are those of `common` for the tiles of `config`."""
    sizes = F * shared["B"], shared["count"], H
    totals = [torch.empty(sizes, dtype=torch.float32, device=shared["x_ptr"].device) for _ in range(2)]
    entry = torch.empty_like(totals[0])
    return [totals_launch(shared, constants, totals, None, F, config), *entry_launches(totals, h0, entry)], entry


def entry_launches(totals: list[torch.Tensor], first: torch.Tensor | None, entry: torch.Tensor) -> list[Launch]:
    """The launches that fill entry [F * B, count, H] with the state after each chunk, from `first` or zero."""
    first = None if first is None else first.reshape(entry.shape[0], entry.shape[2])
    return scan_launches(totals[0], totals[1], first, entry, log=False)
