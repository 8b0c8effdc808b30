"""Launch numbers of the kernel of a residual block: a pure function of the shape, nothing is tuned at run time."""

import torch

from .config import ROWS, LaunchConfig, choose_form, resolve_precision

MAX_WIDTH = 32

# A row is at least two positions of each of its four lanes: see lanes.py.
LEAST_WIDTH = 8

# (seq, padded width, precision of products, "half" for those of halves) -> steps, of one warp.
#
# Behind each entry its static cost in sm_90 code without h: bound in cycles per element and registers; none spills. The
# budget of x and y is 79 in float32 and 40 in halves, and what is over it says so. Two kernels move 5 tensors: 198, 99.
TABLE: dict[tuple[bool, int, str], int] = {
    (False, 8, "tf32"): 4,  # 52, 132 registers
    (False, 8, "tf32x3"): 4,  # 76, 141
    (False, 8, "half"): 4,  # 51, over, 119
    (False, 16, "tf32"): 2,  # 42, 130
    (False, 16, "tf32x3"): 2,  # 58, 145
    (False, 16, "half"): 2,  # 37, 112
    (False, 32, "tf32"): 2,  # 43, 209
    (False, 32, "tf32x3"): 1,  # 106, over, 172
    (False, 32, "half"): 2,  # 37, 199
    (True, 8, "tf32"): 4,  # 44, 109
    (True, 8, "tf32x3"): 4,  # 71, 125
    (True, 8, "half"): 4,  # 44, over, 96
    (True, 16, "tf32"): 2,  # 34, 117
    (True, 16, "tf32x3"): 2,  # 46, 132
    (True, 16, "half"): 2,  # 34, 111
    (True, 32, "tf32"): 2,  # 38, 214
    (True, 32, "tf32x3"): 1,  # 74, 186
    (True, 32, "half"): 2,  # 33, 204
}


def block_is_fused(D: int, dtype: torch.dtype, precision: str | None = None) -> bool:
    """Whether one kernel computes a block of this width: all up to 32 wide, but for float32 products in "ieee"."""
    return 0 < D <= MAX_WIDTH and (dtype.itemsize == 2 or resolve_precision(precision, dtype) != "ieee")


def padded_width(D: int) -> int:
    """The columns of a tile."""
    return max(LEAST_WIDTH, 1 << (D - 1).bit_length())


def vector(D: int, itemsize: int) -> int:
    """Numbers that a thread loads at once: 16 bytes, or its share of a row."""
    return min(16 // itemsize, padded_width(D) // 4)


def block_config(seq: bool, D: int, dtype: torch.dtype, precision: str) -> LaunchConfig:
    """The table's entry for one form; `precision` is resolved."""
    kind = "half" if dtype.itemsize == 2 else precision
    return LaunchConfig(seq, ROWS, TABLE[seq, padded_width(D), kind], num_warps=1, STAGES=1)


def select_block(D: int, dtype: torch.dtype, precision: str, F: int, B: int, T: int) -> LaunchConfig:
    """Config for F terms of B batch rows of T steps, whose form is chosen as that of the minGRU."""
    return choose_form(*(block_config(seq, D, dtype, precision) for seq in (False, True)), F, B, T, D)
