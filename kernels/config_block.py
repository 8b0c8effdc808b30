"""Launch numbers of the kernel of a residual block: a pure function of the shape, nothing is tuned at run time."""

import torch

from .config import ROWS, LaunchConfig, choose_form, resolve_precision

MAX_WIDTH = 32

# A row is at least two positions of each of its four lanes: see lanes.py.
LEAST_WIDTH = 8

# (seq, padded width, precision of products, "half" for those of halves) -> steps, of one warp.
TABLE: dict[tuple[bool, int, str], int] = {
    (False, 8, "tf32"): 4,
    (False, 8, "tf32x3"): 4,
    (False, 8, "half"): 4,
    (False, 16, "tf32"): 2,
    (False, 16, "tf32x3"): 2,
    (False, 16, "half"): 2,
    (False, 32, "tf32"): 2,
    (False, 32, "tf32x3"): 1,
    (False, 32, "half"): 2,
    (True, 8, "tf32"): 4,
    (True, 8, "tf32x3"): 4,
    (True, 8, "half"): 4,
    (True, 16, "tf32"): 2,
    (True, 16, "tf32x3"): 2,
    (True, 16, "half"): 2,
    (True, 32, "tf32"): 2,
    (True, 32, "tf32x3"): 1,
    (True, 32, "half"): 2,
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
