"""Launch numbers of the fused kernels: a pure function of the shape, nothing is tuned at run time."""

import functools

import torch

from ..common.config import ROWS, LaunchConfig, choose_form, padded_input, padded_state, resolve_precision

# Widest D and H of the fused kernels with "ieee" products of float32. They take no tensor cores and keep both operands
# in registers: a forward of width 16 spills up to 17 instructions and one of 32 thousands; the loop of a backward of 16
# 336, of 8 fewer than SPILLS allows.
IEEE_WIDTH = {"forward": 16, "log": 16, "backward": 8}

# Widest D and H of the fused kernels; beyond, products and gates + scan are separate.
MAX_WIDTH = 64

# And of a backward of float32, but for products in tf32 and H > 32. At 64 tf32x3 has a bound of 249 cycles per element
# (budget 138), 51 spills in the loop, and takes 188 KB of shared memory where sm_86, sm_89 and sm_120 have 99 and sm_80
# 163. With D = 64 and H from 17 to 32 triton 3.7.1 fails on the tf32 product dW for sm_90.
BACKWARD_WIDTH = 32


def fused_precision(precision: str | None, x: torch.Tensor, H: int, pass_: str) -> str:
    """`resolve_precision` for a fused kernel of x [..., D] to H columns; "ieee" beyond IEEE_WIDTH is refused."""
    resolved, D = resolve_precision(precision, x.dtype), x.shape[-1]
    if resolved == "ieee" and x.dtype == torch.float32 and D > 2 and max(D, H) > IEEE_WIDTH[pass_]:
        raise ValueError(
            f"precision: expected 'tf32' or 'tf32x3' for a {pass_} with D = {D} and H = {H}, got 'ieee', which takes "
            f"at most {IEEE_WIDTH[pass_]} in float32"
        )
    return resolved


# (pass, batch_rows, padded width, bytes per element) -> (steps, warps, stages). The pass is "forward", "log" (a forward
# whose state is log2) or "backward", the width the larger of D and H. Stages are tiles of which loads are in flight,
# with the one that is computed on.
#
# Behind each entry its static cost in sm_90 code at D = H: bound in cycles per element of h (float32: with tf32, then
# with tf32x3 products) and registers as ptxas likes them, then what the neighbours cost; benchmarks/results/static has
# those of the code as launched. Budgets: forward 79 in float32 and 40 in half precision, backward 128 and 64.
#
# "us" are medians on an H200 (torch 2.11, triton 3.6; benchmarks/results/nvidia-h200), in float32 with tf32 products
# unless said: N at 8 x 128 x 1024 x 8, L at 64 x 16 x 3000 x 16, P at 37 x 512 x 48 x 16, W at 64 x 16 x 3000 x 32, M
# at 64 x 128 x 48 x 32. The bound is not what these wait for: a program is one warp, 1024 of them leave each scheduler
# two, and with two stages both wait for memory. The rows of a tile in two warps were slower at L and P, and a T cut
# into chunks for more programs at L: kernels/README.md.
TABLE: dict[tuple[str, bool, int, int], tuple[int, int, int]] = {
    ("forward", False, 16, 4): (4, 1, 3),  # 35, 37, 191 registers; with rows joined by a scan
    # N 27 us, 34 with two stages, L 116 and 147; 2 steps N 29 us, L 127
    ("forward", False, 16, 2): (4, 1, 3),  # 26; joined by a scan N 22 us, 30 with two stages, L 86 and
    # 109; four stages L 85
    ("forward", False, 32, 4): (2, 1, 3),  # W 250 us, 311 with tf32x3, where two warps of two stages took 426 and 473
    ("forward", False, 32, 2): (2, 1, 3),  # W 169 us
    ("forward", False, 64, 4): (1, 4, 2),  # 2 steps 75, 91, up to 52 spills with flags at tf32x3; as a scan 79, 95
    ("forward", False, 64, 2): (4, 4, 2),  # 33, 139 registers
    ("forward", True, 16, 4): (4, 1, 3),  # 32, 40, 90 registers; 1, 2 and 8 steps 32 to 34; P 39 us, two stages 44
    ("forward", True, 16, 2): (4, 1, 3),  # 24, the MUFU bound; P 29 us, two stages 32
    ("forward", True, 32, 4): (4, 2, 3),  # 44, 60, 126 registers; M, two stages 45 us, 58 with tf32x3
    # one warp 40 at tf32, three stages M 44 us, 62 with tf32x3; two warps of three stages not run, but in log space
    ("forward", True, 32, 2): (4, 1, 3),  # M 30 us, two warps of two stages 33
    ("forward", True, 64, 4): (2, 4, 2),  # 4 steps 68, 100, with 2 spills on sm_100
    ("forward", True, 64, 2): (4, 2, 2),  # 30, and 32 with two reciprocals
    ("log", False, 16, 4): (2, 1, 3),  # 96, 110; L 226 us, 275 with two stages; N 55, 44 with 4 steps, of which L takes
    # 372 with tf32x3
    ("log", False, 16, 2): (4, 1, 3),  # 81; N 44 us, 55 with 2 steps, L 236 and 219
    ("log", False, 32, 4): (2, 2, 3),  # 99, 121; W 498 us, 633 with tf32x3
    ("log", False, 32, 2): (2, 1, 3),  # 76
    ("log", False, 64, 4): (1, 4, 2),  # 2 steps up to 52 spills with flags and a tail at tf32x3
    ("log", False, 64, 2): (2, 4, 2),  # 99, 135 registers
    ("log", True, 16, 4): (4, 1, 3),  # 53, 68; P 55 us
    ("log", True, 16, 2): (4, 1, 3),  # 51; P 53 us
    ("log", True, 32, 4): (4, 2, 3),  # 57, 81; M 47 us
    ("log", True, 32, 2): (4, 2, 3),  # 52; M 42 us
    ("log", True, 64, 4): (2, 4, 2),  # not counted, as the forward, where 4 steps spill
    ("log", True, 64, 2): (4, 4, 2),  # two warps spill 3 registers with 128, on one architecture
    ("backward", False, 16, 4): (4, 1, 2),  # 64, 98; as a scan of separate steps 71, 110; N 71 us, L 270
    # three stages N 67 us, L 276, and 259 where two took 264 in another run; with tf32x3 and flags L 559 and 502
    ("backward", False, 16, 2): (4, 1, 3),  # 55; N 50 us, 52 with two stages, L 198 and 212; 2 steps N 58, L 211
    ("backward", False, 32, 4): (1, 1, 2),  # 121, 161; 2 steps 86 with 130 spills; W 757 us, three stages 930
    ("backward", False, 32, 2): (1, 1, 3),  # 85, 255 registers; W 469 us; 2 steps 62 with 90 spills
    ("backward", False, 64, 4): (2, 4, 1),  # 160 at tf32, over, 246 registers; 1 step 228; apart, 600 by the bytes
    # two stages 159, with loads of 4 bytes and 119 KB of shared memory: one program per SM and not two
    ("backward", False, 64, 2): (2, 4, 2),  # 92, 244 registers; 4 steps 72 with 271 spills
    ("backward", True, 16, 4): (4, 1, 3),  # 55, 94, 249 registers; P 94 us, two stages 103, with tf32x3 187 both
    ("backward", True, 16, 2): (2, 1, 3),  # 55; P 82 us, 4 steps 93, 1 step 85, each of three stages
    ("backward", True, 32, 4): (1, 1, 3),  # 97, 137; 2 steps 74 with 87 spills; M 141 us; in a block 32 spills
    ("backward", True, 32, 2): (1, 1, 3),  # 61, 248 registers; 2 steps 49 with 18 spills; M 112 us
    ("backward", True, 64, 4): (2, 4, 1),  # 138 at tf32, 238 registers; 1 step 176; 4 steps 76 with 228 spills
    ("backward", True, 64, 2): (2, 4, 2),  # 70, 205 registers; 4 steps 49 with 189 spills
}

# Steps of float32 at width 64 where products are tf32, by (pass, batch_rows). Bound 55 where the table's one step is
# 113; in log space 106. No spill with flags and a tail on sm_80, sm_90, sm_100 and sm_120, where tf32x3 has up to 52.
TF32_STEPS = {("forward", False): 4, ("log", False): 2}

# Steps of a row in a backward over times, at most: it keeps a slope in the time and the rate beside the rest. At width
# 16 with a bias four steps spill 211 instructions in the loop of time_rows in tf32 on sm_90, 29 in that of batch_rows,
# 202 of time_rows in bfloat16; two none, and the bounds per element are about the same, 97, 91 and 96.
TIMED_STEPS = 2

# Instructions that touch local memory (spills) in the loop over full tiles of a backward kernel, at most, by
# (batch_rows, padded width, bytes per element), on every architecture, with flags and a tail, in any precision. A
# forward kernel has none. A spill of 16 rows is 128 B of L1 per warp and instruction.
#
# Without flags and with tf32 or half-precision products there are at most 12 on sm_90 (36 on sm_100, at width 16 with a
# tail): what is beyond belongs to tf32x3, and 36 and 26 to flags at width 16. Rows that are no whole 16-byte pieces may
# add some: with flags and a tail (True, 64, 2) has 14 at D = 33. Float32 at 64 has none on sm_90 and sm_100; with flags
# and a tail 33 on sm_80 and 84 on sm_120, and 197 and 128 at D = 33 and H = 63.
SPILLS = {
    (False, 16, 4): 180,
    (False, 16, 2): 50,
    (False, 32, 4): 90,
    (False, 32, 2): 20,
    (False, 64, 4): 200,
    (False, 64, 2): 8,
    (True, 16, 4): 180,
    (True, 16, 2): 8,
    (True, 32, 4): 160,
    (True, 32, 2): 12,  # 9 on sm_100 in float16 with a tail
    (True, 64, 4): 160,
    (True, 64, 2): 8,
}


def is_fused(D: int, H: int, dtype: torch.dtype, pass_: str, precision: str | None = None) -> bool:
    """True if the table has a config of `pass_` for these widths, with products in `precision` (`resolve_precision`).

    float32 with D > 32 and H <= 8 is left out: the one warp that 8 columns occupy spills with W (10 instructions at one
    step per row), and u and k, which a separate product would write, are a small part of the bytes of x.
    """
    if dtype.itemsize == 4 and D > 32 and H <= 8:
        return False
    narrow = dtype.itemsize == 4 and pass_ == "backward"
    if narrow and resolve_precision(precision, dtype) == "tf32":
        narrow = H <= BACKWARD_WIDTH
    return max(D, H) <= (BACKWARD_WIDTH if narrow else MAX_WIDTH)


@functools.cache
def table_config(
    pass_: str, batch_rows: bool, D: int, H: int, dtype: torch.dtype, precision: str | None = None, timed: bool = False
) -> LaunchConfig:
    """The table's entry for one form, adapted where H is much narrower than D, to products in `precision`, which is
    resolved, or None for any, and to steps that take times.

    A warp takes at least 8 columns: more warps repeat the gates (counted at D = 64, H = 1: MUFU times 4 with four
    warps). One warp instead of four then holds all of W, and half of the steps keeps it from spilling in float32.
    """
    width = max(16, padded_input(D), padded_state(H))
    steps, most, stages = TABLE[pass_, batch_rows, width, dtype.itemsize]
    if (width, dtype.itemsize, precision) == (64, 4, "tf32"):
        steps = TF32_STEPS.get((pass_, batch_rows), steps)
    warps = min(most, padded_state(H) // 8)
    if steps == 1 and D <= 2 and pass_ != "backward":
        steps = 2  # four warps repeat the gates of 16 rows of one step behind a broadcast product (MUFU times 2)
    steps = steps if 2 * warps >= most else max(1, steps // 2)
    if D <= 2 and pass_ == "backward" and warps == 4 and dtype.itemsize == 4:
        steps = 1  # D = 1, H = 64: MUFU 48 in time_rows and 32 in batch_rows, with two steps 80 and 64
    if timed and pass_ == "backward":
        steps = min(steps, TIMED_STEPS)
    # A product dx narrower than its four warps is computed twice: D = 8, H = 64 in bfloat16 has a bound of 159 with 126
    # spills in the loop where D is padded to 16, and 92 with none at 64.
    least = 64 if pass_ == "backward" and padded_state(H) == 64 else 16
    return LaunchConfig(batch_rows, ROWS, steps, warps, stages, least)


def select_config(
    D: int, H: int, dtype: torch.dtype, F: int, B: int, T: int, pass_: str, precision: str | None = None,
    timed: bool = False,
) -> LaunchConfig:  # fmt: skip
    """Config of `pass_` in "forward", "log", "backward" for F layers of B batch rows of T steps, which take times or
    not.

    T and B choose the form and are in no other number.
    """
    if not is_fused(D, H, dtype, pass_, precision):
        products = f" with {resolve_precision(precision, dtype)!r} products" if dtype.itemsize == 4 else ""
        raise ValueError(f"no fused {pass_} for D = {D} and H = {H} in {dtype}{products}")
    precision = resolve_precision(precision, dtype)
    return choose_form(lambda batch_rows: table_config(pass_, batch_rows, D, H, dtype, precision, timed), F, B, T, H)
