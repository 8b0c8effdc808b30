"""Launch numbers of the feed-forward kernels: a pure function of the shape, nothing is tuned at run time."""

from dataclasses import dataclass

# The backward keeps five tiles of D x D float32: W and its transpose, W2, and two gradients. At 32 these are 160 of
# a thread's 255 registers, at 64 four times that.
MAX_WIDTH = 32

# An embedding of more numbers than this is a layer of its own: each is one more load per row, and two sums.
MAX_INPUTS = 3

# tl.dot takes at least 16 columns.
LEAST_COLUMNS = 16

# 132 SMs times 16 warps of up to 128 registers; twice that so that the last wave is short.
PROGRAMS = 4096

# All partial gradients of the parameters together stay under 1 / 20 of the bytes of x, or there is one per term.
PARTIAL_SHARE = 20

# (backward, columns of a tile, bytes per element) -> lines of a tile, of one warp.
#
# Behind each entry its static cost in sm_90 code: bound in cycles per element (float32: with tf32, then with tf32x3
# products; at 16 columns D = 8, then D = 16) and registers. Budgets: forward 119 in float32 and 59 in half precision,
# backward 198 and 99. Two warps, which at D = 32 have the registers for tf32x3, exchange more through shared memory
# than they save: backward of 16 lines without a spill 181, 257, of 32 lines 157, 221 and 103 spills in the loop.
TABLE: dict[tuple[bool, int, int], int] = {
    (False, 16, 4): 32,  # 55, 71 and 56, 72, 81 to 127 registers; 16 lines 59, 79 and 60, 80
    (False, 16, 2): 32,  # 29 and 28, 74 registers; 16 lines 32 and 31
    (False, 32, 4): 16,  # 75, 103, 128 to 168 registers; 32 lines 66, 86, up to 234 registers
    (False, 32, 2): 32,  # 30, 138 registers; 16 lines 35
    (True, 16, 4): 16,  # 122, 156 and 122, 156, up to 168 registers; 32 lines 115, 144, up to 255 and 20 spills
    (True, 16, 2): 16,  # 85 and 78, 165 registers; 32 lines 81 and 72, up to 251 registers
    (True, 32, 4): 16,  # 144, 192, 255 registers, see SPILLS; 32 lines 131, 167, 136 and 523 spills
    (True, 32, 2): 16,  # 75, 255 registers; 32 lines 68, 32 spills
}

# Instructions that touch local memory (spills) in the loop over full tiles of a backward of float32 at 32 columns, at
# most, by the precision of its products, on every architecture. With tf32 there are 5 where rows are whole 16-byte
# pieces and 32 where each number has an address (D = 31); tf32x3 keeps a second copy of the three weights. No other
# kernel spills, but for up to 18 instructions outside the loop at 32 columns in half precision.
SPILLS = {"tf32": 32, "tf32x3": 132}

# As SPILLS, of a backward that embeds: its sums are two to four tiles more. With one number a row they are 70, 235 and
# 11. At 16 cycles per element (tf32, one number) they take a part of what reading x and writing dx took: bound 135 and
# not 144, and 1.9 tensors less of traffic, of 40 cycles each.
EMBEDDED_SPILLS = {"tf32": 126, "tf32x3": 325, "ieee": 62}


@dataclass(frozen=True)
class FeedForwardConfig:
    """A program of one warp owns `span` rows of one term, BLOCK_N lines of BLOCK_D / WIDTH rows at a time."""

    span: int
    BLOCK_N: int
    BLOCK_D: int
    WIDTH: int


def uses_kernel(D: int) -> bool:
    """True if the kernels take rows of D numbers; the layers of a wider term run one after the other."""
    return 0 < D <= MAX_WIDTH


def keeps_embedding(K: int, D: int) -> bool:
    """True if the kernels make x of D numbers out of K."""
    return uses_kernel(D) and 0 < K <= MAX_INPUTS and 2 * (K + 1) <= D


def embedded_columns(K: int, itemsize: int) -> int:
    """To how many columns [x, 1] is padded before a minGRU whose weight takes the embedding in.

    Two columns take no product, four are whole words. Forward and backward without dx at D = H = 8, 16, 32, in cycles
    per element with tf32: 118, 112, 136 with two, 137, 109, 131 with four, where tf32x3 costs more; in half precision
    103, 97, 98 and 82, 77, 90. Three columns are read number by number: 34 spills in the loop of the backward at 16.
    """
    return 2 if K == 1 and itemsize == 4 else max(4, K + 1)


def select_feed_forward(F: int, N: int, D: int, itemsize: int, *, backward: bool, K: int = 0) -> FeedForwardConfig:
    """Tile and rows per program; neither depends on the device. K numbers a row are embedded, 0 where x is read."""
    width = 1 << (D - 1).bit_length()
    block_d = max(LEAST_COLUMNS, width)
    block_n = TABLE[backward, block_d, itemsize]
    tile = block_n * (block_d // width)
    span = -(-F * N // PROGRAMS)
    if backward:
        most = max(1, N * D * itemsize // (4 * PARTIAL_SHARE * num_parameters(D, K)))
        span = max(span, -(-N // most))
    return FeedForwardConfig(-(-span // tile) * tile, block_n, block_d, width)


def num_parameters(D: int, K: int = 0) -> int:
    """Numbers of one term: gamma, beta, b1, b2 of D and two weights of D x D; of an embedding K x D and D more."""
    return 2 * D * D + 4 * D + ((K + 1) * D if K else 0)
