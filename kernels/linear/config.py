"""Launch numbers of the grouped linear kernels: a pure function of the shape, nothing is tuned at run time."""

from dataclasses import dataclass

# Inputs up to this many are a broadcast multiply: tl.dot would pad them to 16, and their loads to 16 lanes per number.
BROADCAST_MAX_D = 2

# 32 x 32 float32 are 32 registers per lane of one warp, and the backward holds five such tiles: W, its gradient, and
# one each of x, the product and its gradient at 16 to 32 rows. 64 x 64 would be 128 registers each.
KERNEL_MAX = 32
BROADCAST_MAX_H = 128

# Elements or bytes of a tile of one warp, from registers per lane as compiled for sm_90 (no spill at any of them): 64
# elements per lane forward and 16 backward where W is broadcast, which keeps D + 1 accumulators of that size; 16 of
# float32 or 32 of half precision per lane around tl.dot (84 to 128 and 76 to 240 registers). The backward above 16
# columns would spill on one warp, 17 instructions in float32 with 16 rows: two warps take 32 rows.
BROADCAST_TILE = 2048
BROADCAST_BACKWARD_TILE = 512
DOT_TILE_BYTES = 2048
WIDE_BACKWARD = (32, 2)

# Rows that are no whole 16-byte pieces take a 64-bit address per element: at D = 3, H = 5 the backward spilled 3 to
# 26 instructions with 255 registers, and with half of the rows takes 125 to 180.
ACCESS_BYTES = 16

# Instructions that touch local memory in a backward, at most. Where ptxas settles for fewer registers (80 to 168), it
# leaves 2 or 3 at several widths on one architecture, and 6 at 32 x 32 in bfloat16 on sm_100. No forward has any.
BACKWARD_SPILLS = 6

# 132 SMs times 16 warps of up to 128 registers; twice that so that the last wave is short.
PROGRAMS = 4096

# All partial dW together stay under 1 / 20 of the bytes of x.
PARTIAL_SHARE = 20


@dataclass(frozen=True)
class LinearConfig:
    """A program owns `span` rows of one layer, BLOCK_N at a time."""

    span: int
    BLOCK_N: int
    BLOCK_D: int
    BLOCK_H: int
    num_warps: int


def uses_kernel(D: int, H: int) -> bool:
    """True if the kernels of this folder run, and not torch.bmm.

    Kernel: a small layer is bound by memory, its bias and activation would be two more passes over y, and the tiles of
    a batched matmul (64 to 128 wide) are mostly padding. cuBLAS: above 32 the operands leave a warp's registers, and
    from about there its tiles fill up.
    """
    return (D <= KERNEL_MAX and H <= KERNEL_MAX) or (D <= BROADCAST_MAX_D and H <= BROADCAST_MAX_H)


def select_linear(F: int, N: int, D: int, H: int, itemsize: int, *, backward: bool) -> LinearConfig:
    """Tile and rows per program; neither depends on the device."""
    block_d = D if D <= BROADCAST_MAX_D else max(16, 1 << (D - 1).bit_length())
    block_h = max(16, 1 << (H - 1).bit_length())
    warps = 1
    if D <= BROADCAST_MAX_D:
        block_n = max(4, min(64, (BROADCAST_BACKWARD_TILE if backward else BROADCAST_TILE) // block_h))
    else:
        width = max(block_d, block_h)
        block_n = max(16, min(64, DOT_TILE_BYTES // itemsize // width))
        if backward and width > 16:
            block_n, warps = WIDE_BACKWARD
        if backward and any(n * itemsize % ACCESS_BYTES for n in (D, H)):
            block_n = max(16, block_n // 2)
    span = -(-F * N // PROGRAMS)
    if backward:  # partials of one layer have 4 D H bytes each, its x has N D itemsize
        most = max(1, N * itemsize // (4 * PARTIAL_SHARE * H))
        span = max(span, -(-N // most))
    return LinearConfig(
        span=-(-span // block_n) * block_n, BLOCK_N=block_n, BLOCK_D=block_d, BLOCK_H=block_h, num_warps=warps
    )
