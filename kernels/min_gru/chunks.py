"""A long T cut into chunks that run at once: what each chunk does to the state, then the state that enters it."""

from typing import Any

import torch
import triton.language as tl

from ..common.arithmetic import in_elements
from ..common.call import Recurrence
from ..common.config import Chunks, LaunchConfig, cut_time
from ..common.device import kernel
from ..common.elapsed import load_elapsed
from ..common.flags import is_masked, load_words, step_flags, word_rows
from ..common.launch import Launch
from ..common.operands import as_states, shared_operands, stride_arguments
from ..common.scans import complement, multiplier, tile_map
from ..scan.forward import forward_launches as scan_launches
from .config import table_config
from .states import step_map
from .tiles import input_pointers, load_bias, load_input, load_rows, load_weight, project


@kernel
def _min_gru_totals_kernel(
    x_ptr, w_ptr, elapsed_ptr, flags_ptr, dh_ptr,  # inputs
    total_a_ptr, total_b_ptr,  # outputs
    B, T, chunk_steps, num_chunks,
    stride_x_f: tl.int64, stride_x_b: tl.int64, stride_x_t: tl.int64,  # in units of UNIT elements, as stride_dh
    stride_dh_f: tl.int64, stride_dh_b: tl.int64, stride_dh_t: tl.int64,
    stride_elapsed_f: tl.int64, stride_elapsed_b: tl.int64, stride_elapsed_t: tl.int64,
    stride_flags_f: tl.int64, stride_flags_b: tl.int64,
    D: tl.constexpr, H: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_DH: tl.constexpr, HAS_ELAPSED: tl.constexpr, HAS_FLAGS: tl.constexpr, ADJOINT: tl.constexpr,
    EVEN: tl.constexpr, PACKED: tl.constexpr, UNIT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, STEPS: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_H: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The affine map of each chunk: of the state h -> a h + z v, or of its adjoint s -> a s + a dh, backwards in time.

    Layout    x [F, B, T, D], dh [F, B, T, H], innermost stride 1; W, its bias and elapsed times as in
              `_min_gru_fwd_kernel`; total_a, total_b [F, B, num_chunks, H] float32, with ADJOINT the last chunk first,
              so that the scan over chunks runs forwards both ways.
    Grid      F * B * num_chunks; a program owns steps [chunk * chunk_steps, (chunk + 1) * chunk_steps).
    Scan      Rows and steps as in `_min_gru_fwd_kernel`, with ADJOINT in reverse order. Identity (1, 0).
    Numerics  float32, linear: a chunk whose product of a underflows has forgotten its entry state. Products keep the
              digits of what they lack of 1: see scans.py.
    """
    TILE: tl.constexpr = ROWS * STEPS
    r = tl.arange(0, ROWS)
    pid = tl.program_id(0).to(tl.int64)
    chunk = (pid % num_chunks).to(tl.int32)
    f = pid // num_chunks // B
    b = pid // num_chunks % B
    begin = chunk * chunk_steps
    end = tl.minimum(begin + chunk_steps, T)
    t_row = (ROWS - 1 - r) * STEPS if ADJOINT else r * STEPS

    step_x = D if PACKED else in_elements(stride_x_t, UNIT)
    x_ptrs = input_pointers(x_ptr + (f * stride_x_f + b * stride_x_b) * UNIT + t_row.to(tl.int64) * step_x, D, BLOCK_D)
    step_dh = H if PACKED else in_elements(stride_dh_t, UNIT)
    dh_ptrs = dh_ptr
    if HAS_DH:
        dh_ptrs = dh_ptr + (f * stride_dh_f + b * stride_dh_b) * UNIT + t_row.to(tl.int64) * step_dh
        dh_ptrs = dh_ptrs[:, None] + tl.arange(0, BLOCK_H)[None, :]
    elapsed_ptrs = elapsed_ptr
    if HAS_ELAPSED:
        elapsed_ptrs = elapsed_ptr + f * stride_elapsed_f + b * stride_elapsed_b + t_row.to(tl.int64) * stride_elapsed_t
    ahead = ()
    w_ptr += f * (2 * (D + HAS_BIAS) * H)
    w = load_weight(w_ptr, D, H, BLOCK_D, BLOCK_H, x_ptr.dtype.element_ty)
    bias = load_bias(w_ptr, D, H, BLOCK_H, HAS_BIAS)

    total_a = tl.full((BLOCK_H,), 1.0, tl.float32)
    total_c = tl.zeros((BLOCK_H,), tl.float32)
    total_b = tl.zeros((BLOCK_H,), tl.float32)
    tiles = tl.cdiv(end - begin, TILE)
    if HAS_FLAGS:
        flags_ptr, flags_rows = word_rows(flags_ptr, f, b, t_row, stride_flags_f, stride_flags_b, False)
        last = begin + (tiles - 1) * TILE
        t_first = last if ADJOINT else begin
        ahead = load_words(flags_ptr, t_first, flags_rows, t_row, r < ROWS, end, STEPS, not EVEN)
    for i in tl.range(0, tiles, num_stages=STAGES):
        t0 = begin + (tiles - 1 - i if ADJOINT else i) * TILE
        t_tile = tl.full((), t0, tl.int64)
        if HAS_FLAGS:
            words = ahead
            t_next = tl.maximum(t0 - TILE, begin) if ADJOINT else tl.minimum(t0 + TILE, last)
            ahead = load_words(flags_ptr, t_next, flags_rows, t_row, r < ROWS, end, STEPS, not EVEN)
        row_a = tl.full((ROWS, BLOCK_H), 1.0, tl.float32)
        row_b = tl.zeros((ROWS, BLOCK_H), tl.float32)
        for s in tl.static_range(STEPS - 1 if ADJOINT else 0, -1 if ADJOINT else STEPS, -1 if ADJOINT else 1):
            t = t_tile + s
            exists = t_row + (t0 + s) < end
            read = exists
            flags = exists
            if HAS_FLAGS:
                flags = step_flags(words, t_row, t0, s, STEPS)
                read = exists & ~is_masked(flags)
            x = load_input(x_ptrs + t * step_x, read, D, BLOCK_D, HAS_FLAGS or not EVEN)
            u, k = project(x, w, bias, D, ROWS, BLOCK_H, PRECISION)
            times = ()
            if HAS_ELAPSED:
                times = (load_elapsed(elapsed_ptrs + t * stride_elapsed_t, read),)
            a, b_t = step_map(u, k, times, flags, read, HAS_FLAGS, not EVEN, False, False)
            if ADJOINT:
                if HAS_DH:
                    row_b += load_rows(dh_ptrs + t * step_dh, exists, H, BLOCK_H, not EVEN)
                row_b = a * row_b
            else:
                row_b = tl.fma(a, row_b, b_t)
            row_a = row_a * a
        tile_a, tile_b = tile_map(row_a, row_b, ROWS, False)
        total_b = tl.fma(tile_a, total_b, tile_b)
        total_a = tile_a * total_a
        total_c = tl.fma(tile_a, total_c, complement(tile_a))

    h = tl.arange(0, BLOCK_H)
    position = num_chunks - 1 - chunk if ADJOINT else chunk
    total = ((f * B + b) * num_chunks + position) * H + h
    tl.store(total_a_ptr + total, multiplier(total_a, total_c), mask=h < H)
    tl.store(total_b_ptr + total, total_b, mask=h < H)


# About 1000 warps fill the memory pipeline of an H100 (design budget: 132 SMs, 8 warps each).
SATURATING_WARPS = 1000

# A cut reads x a second time. It pays where fewer than half of those warps would run, and a chunk needs some tiles for
# its totals (2 float32 per channel) to weigh little: 4 tiles of 64 steps are 1/128 of x at D = H.
SPLIT_BELOW = SATURATING_WARPS // 2
MIN_CHUNK_TILES = 4


def plan_chunks(F: int, B: int, T: int, config: LaunchConfig, min_steps: int = 0, whole: int = 1) -> Chunks:
    """The chunks of each batch row: one, unless too few warps would run. A chunk has at least `min_steps` steps, and is
    whole tiles of `whole` steps too (a power of two, as the tile of config)."""
    if config.batch_rows:
        return Chunks(T, 1)
    tile = max(config.tile, whole)
    least_tiles = max(MIN_CHUNK_TILES, -(-min_steps // tile))
    return cut_time(T, tile, config.grid(F, B, 1)[0] * config.num_warps, SPLIT_BELOW, SATURATING_WARPS, least_tiles)


def entry_launches(
    shared: dict[str, Any], constants: dict[str, Any], first: torch.Tensor | None, F: int, config: LaunchConfig,
    *, dh: torch.Tensor | None = None, adjoint: bool = False,
) -> tuple[list[Launch], torch.Tensor]:  # fmt: skip
    """The launches before a kernel whose T is cut, and what they fill: the state after each chunk from `first` or zero,
    [F * B, num_chunks, H]. With `adjoint` that of the adjoint, whose first chunk is the last in time.

    `shared` and `constants` are those of `shared_operands` for the tiles of `config`, with the chunks.
    """
    sizes = F * shared["B"], shared["num_chunks"], constants["H"]
    total_a, total_b, entry = (
        torch.empty(sizes, dtype=torch.float32, device=shared["x_ptr"].device) for _ in range(3)
    )  # fmt: skip
    arguments = shared | stride_arguments("fbt", constants["UNIT"], dh=dh)
    arguments |= dict(dh_ptr=dh, total_a_ptr=total_a, total_b_ptr=total_b)
    grid = config.grid(F, shared["B"], shared["num_chunks"])
    constants = constants | dict(HAS_DH=dh is not None, ADJOINT=adjoint)
    totals = Launch(_min_gru_totals_kernel, grid, arguments, constants, config.num_warps)
    return [totals, *scan_launches(total_a, total_b, as_states(first), entry, log=False)], entry


def cut_launches(
    call: Recurrence, precision: str, config: LaunchConfig
) -> tuple[Chunks, list[Launch], torch.Tensor | None]:
    """The chunks of a linear forward in tiles of its own, the launches before it, and the states after each chunk, None
    where there is one: `entry_launches` in tiles of the minGRU's kernel. Chunks are whole tiles of both."""
    (F, B, T, D), H = call.input.shape, call.weight.shape[2] // 2
    totals_config = table_config("forward", False, D, H, call.input.dtype)
    chunks = plan_chunks(F, B, T, config, whole=totals_config.tile)
    if chunks.num_chunks == 1:
        return chunks, [], None
    contiguous = call._replace(weight=call.weight.contiguous())
    arguments, constants = shared_operands(contiguous, precision, totals_config)
    return chunks, *entry_launches(arguments | chunks._asdict(), constants, call.h0, F, totals_config)
