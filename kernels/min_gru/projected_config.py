"""Launch numbers of the kernel of a minGRU and its projection: a pure function of the shape, nothing is tuned at run
time."""

from ..common.config import ROWS, LaunchConfig, choose_form
from ..common.lanes import padded_width

# Narrower rows are padded to 8 columns. By the bounds a row of 1 with 2 states is 435 cycles in tf32x3, where two
# kernels take 375; one of 2 with 4 is 201 in tf32x3 and 141 in tf32 and bfloat16, where the two take 311, 298 and 229.
MIN_WIDTH = 2

# With 64 states one warp has 255 registers and one step a row: at D = 32 time_rows is 112 cycles in bfloat16, where two
# kernels take 125, and two steps spill up to 447 instructions in the loop.
MAX_WIDTH = 32

# padded H -> steps, of one warp.
#
# Behind each entry its static cost in sm_90 code: bound in cycles per element of y and registers of time_rows, then of
# batch_rows, then what the neighbours cost. The budget of x and y is 79 in float32 and 40 in half precision. Two
# kernels move 2 D + 2 H numbers: 237 and 119 at H = 2 D. The special functions alone are 32 H / D cycles, 24 in half
# precision.
TABLE: dict[int, int] = {
    8: 4,  # D = 8: 34 and 32 in tf32, 48 and 42 in tf32x3, up to 124 registers; 2 steps of time_rows 47, 57
    16: 4,  # D = 8: 64 and 64 in tf32, 82 and 64 in tf32x3, up to 176 registers; 2 steps of time_rows 66, 84
    32: 2,  # D = 16: 64 and 64 in tf32, 78 and 64 in tf32x3, up to 209 registers; 1 step 88, 120; 4 steps spill
    # in half precision 58 and 48 at D = 8, 55 and 48 at 16; 4 steps 49 and 48, up to 7 spills in the loop on sm_100
}

# In tf32x3 batch_rows of D and H from 17 to 32 is 45 with two steps and 56 with one. With flags and a tail two spill 83
# instructions on sm_100, 26 of them in the loop, and one none.
WIDE_STEPS = 1


def is_projected(D: int, H: int) -> bool:
    """True if one kernel computes y = h W_out of these widths."""
    return MIN_WIDTH <= D <= MAX_WIDTH and H <= MAX_WIDTH


def projected_config(batch_rows: bool, D: int, H: int, precision: str) -> LaunchConfig:
    """The entry for one form; `precision` is resolved."""
    wide = batch_rows and precision == "tf32x3" and padded_width(D) == padded_width(H) == MAX_WIDTH
    steps = WIDE_STEPS if wide else TABLE[padded_width(H)]
    return LaunchConfig(batch_rows, ROWS, steps, num_warps=1, STAGES=1)


def select_projected(D: int, H: int, precision: str, F: int, B: int, T: int) -> LaunchConfig:
    """Config for F layers of B batch rows of T steps, whose form is chosen as that of the minGRU."""
    return choose_form(lambda batch_rows: projected_config(batch_rows, D, H, precision), F, B, T, H)
