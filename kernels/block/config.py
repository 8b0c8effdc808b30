"""Launch numbers of the kernels of a residual block: a pure function of the shape, nothing is tuned at run time."""

import torch

from ..common.config import ROWS, LaunchConfig, choose_form, resolve_precision
from ..common.lanes import padded_width
from ..feed_forward.config import MAX_WIDTH

# Narrower rows are padded to 8 columns: by the bounds, 2 wide is 215 cycles in tf32 and 213 in bfloat16 where two
# kernels take 254 and 193, and 1 wide is 461 and 472. At 3 it is 166 and 169, where the two take 222 and 160.
MIN_WIDTH = 3

MAX_BACKWARD_WIDTH = 16

# (batch_rows, padded width, precision of products, "half" for half precision) -> steps, of one warp.
#
# Behind each entry its static cost in sm_90 code without h, with one stage of loads: bound in cycles per element and
# registers, then what the neighbours cost; none spills where rows are whole 16-byte pieces. The budget of x and y is 79
# in float32 and 40 in half precision. Two kernels move 5 tensors: 198 and 99.
TABLE: dict[tuple[bool, int, str], int] = {
    (False, 8, "tf32"): 2,  # 60; 4 steps 51, 136 registers, 1 step 92
    (False, 8, "tf32x3"): 4,  # 76, 141; 2 steps 85
    (False, 8, "half"): 4,  # 51, over, 119; 2 steps 57, 1 step 88
    (False, 16, "tf32"): 2,  # 42, 130; 4 steps 39, 193 registers; 1 step 68
    (False, 16, "tf32x3"): 2,  # 58, 145; 4 steps 54, 221 registers; 1 step 88
    (False, 16, "half"): 2,  # 37, 112; 4 steps 36, 179 registers; 1 step 54
    (False, 32, "tf32"): 2,  # 43, 209; 4 steps 42, 114 spills; 1 step 70
    (False, 32, "tf32x3"): 1,  # 106, over, 172; 2 steps 64, 12 spills
    (False, 32, "half"): 2,  # 37, 201; 4 steps 36, 8 spills; 1 step 48
    (True, 8, "tf32"): 4,  # 44, 110; 2 steps 46, 1 step 53
    (True, 8, "tf32x3"): 4,  # 71, 125; 2 steps 73
    (True, 8, "half"): 4,  # 44, over, 96; 2 steps 45, 1 step 49
    (True, 16, "tf32"): 2,  # 34, 117; 4 steps 34, 189 registers; 1 step 37
    (True, 16, "tf32x3"): 2,  # 46, 132; 4 steps 44, 187 registers; 1 step 53
    (True, 16, "half"): 2,  # 34, 111; 1 step 34, 70 registers
    (True, 32, "tf32"): 2,  # 38, 214; 4 steps 36, 74 spills; 1 step 42, 137 registers
    (True, 32, "tf32x3"): 1,  # 74, 186; 2 steps 60, 52 spills
    (True, 32, "half"): 2,  # 33, 206; 1 step 34, 146 registers
}

# Tiles of which loads are in flight, at width 8. On an H200 the forward of 8 x 128 x 1024 x 8 takes 62 us with three
# and 72 with one in tf32, 42 and 47 in bfloat16, the backward 114 and 130, 84 and 94 (with a partial gradient for each
# batch row); tf32x3 was not run. The forward at width 16 was measured in bfloat16 at 37 x 512 x 48 alone: batch_rows 76
# and 79, time_rows 111 and 99. Its backward spills more with two or three.
STAGES_OF_8 = 3


def block_is_fused(D: int, dtype: torch.dtype, precision: str | None = None) -> bool:
    """True if one kernel computes a block of this width: 3 to 32, but for float32 products in "ieee"."""
    return MIN_WIDTH <= D <= MAX_WIDTH and (dtype.itemsize == 2 or resolve_precision(precision, dtype) != "ieee")


def block_config(batch_rows: bool, D: int, dtype: torch.dtype, precision: str) -> LaunchConfig:
    """The table's entry for one form; `precision` is resolved."""
    return _config(batch_rows, D, dtype, precision, TABLE)


def select_block(D: int, dtype: torch.dtype, precision: str, F: int, B: int, T: int) -> LaunchConfig:
    """Config for F terms of B batch rows of T steps, whose form is chosen as that of the minGRU."""
    return choose_form(lambda batch_rows: block_config(batch_rows, D, dtype, precision), F, B, T, D)


# The same of the backward. Behind each entry its bound and registers, then with rows of one number that are embedded
# (and no dx) in the place of x. Its budgets are those of x, dx, dy and h once a row: at 4, 2 and 1 steps 128, 138 and
# 158 in float32, half of that in half precision, and with embedded rows 54 to 64, 62 to 72 and 82 to 87.
#
# The two kernels in its place, of the minGRU and of the feed-forward, take, each by the larger of bound and budget, 326
# in float32, 163 in half precision and with embedded rows 181 to 193 and 103 to 127. Wider than 16 the weights and sums
# alone, 9 D^2 numbers, are more than the registers of a warp.
BACKWARD: dict[tuple[bool, int, str], int] = {
    (False, 8, "tf32"): 2,  # 143; 4 steps 125, 255 registers; 1 step 178; embedded 101 with 4
    (False, 8, "tf32x3"): 2,  # 221, over, 255; 4 steps 212, 22 spills; embedded 177
    (False, 8, "half"): 2,  # 108, over; 4 steps 99, 255; embedded 99 with 4
    (False, 16, "tf32"): 2,  # 122, 255; 1 step 152, 4 steps 107 with 226 spills in the loop; embedded 85
    (False, 16, "tf32x3"): 1,  # 228, over, 255; 2 steps 195, 160 spills in the loop; embedded 149
    (False, 16, "half"): 2,  # 82, over, 255; 1 step 100; embedded 77
    (True, 8, "tf32"): 2,  # 115; 4 steps 112, 255, 19 spills in the loop with three stages; embedded 93 with 4
    (True, 8, "tf32x3"): 2,  # 210, over, 255; 4 steps 205, 13 spills in the loop; embedded 165
    (True, 8, "half"): 4,  # 92, over, 255; 2 steps 96; embedded 92
    (True, 16, "tf32"): 1,  # 116, 255; 2 steps 104, 13 spills in the loop; embedded 84
    (True, 16, "tf32x3"): 1,  # 192, over, 255; 2 steps 190, 169 spills in the loop; embedded 137
    (True, 16, "half"): 1,  # 79, 246; 2 steps 78, 15 spills; embedded 74
}


def backward_is_fused(D: int, dtype: torch.dtype, precision: str | None = None) -> bool:
    """True if one kernel computes the backward of a block of this width: `block_is_fused`, up to 16."""
    return block_is_fused(D, dtype, precision) and padded_width(D) <= MAX_BACKWARD_WIDTH


def block_backward_config(batch_rows: bool, D: int, dtype: torch.dtype, precision: str) -> LaunchConfig:
    """The entry of the backward's table for one form; `precision` is resolved."""
    return _config(batch_rows, D, dtype, precision, BACKWARD)


def select_block_backward(D: int, dtype: torch.dtype, precision: str, F: int, B: int, T: int) -> LaunchConfig:
    """`select_block` of the backward."""
    return choose_form(lambda batch_rows: block_backward_config(batch_rows, D, dtype, precision), F, B, T, D)


def _config(
    batch_rows: bool, D: int, dtype: torch.dtype, precision: str, table: dict[tuple[bool, int, str], int]
) -> LaunchConfig:
    kind, width = "half" if dtype.itemsize == 2 else precision, padded_width(D)
    stages = STAGES_OF_8 if width == 8 else 1
    return LaunchConfig(batch_rows, ROWS, table[batch_rows, width, kind], num_warps=1, STAGES=stages)
