"""Launch numbers of the scan kernels: pure functions of shape and layout.

Nothing here depends on T or the batch except how a long sequence is cut into chunks, and a cut compiles nothing new.
Every number below is static (counted, or from a stated model); a measurement on a GPU overrules it.
"""

from dataclasses import dataclass

import torch

from ..common.config import Chunks, cut_time
from ..common.operands import vector_unit

# Elements of one step that a lane holds: 4 float32 are one 16-byte access, and so are 8 of half precision where the
# layout has them.
LANE_ELEMENTS = 4

# Steps that a row keeps in registers. More steps share one scan over the rows; the limit is registers per lane. As
# compiled for sm_90 8 steps of the forward take 96 (float32) to 255 (half precision), 4 of the backward 116 to 181, and
# 8 would spill.
FORWARD_STEPS = 8
BACKWARD_STEPS = 4

# Instructions that touch local memory in a backward, at most. ptxas leaves 2 to 4 in the log scan where the width
# allows no wide access, with 168 registers: at H = 65 in float32 for sm_80 and at H = 3 in half precision for sm_120.
# It leaves 2 outside the loop of a minLSTM with flags in float32 for sm_100. No forward has any.
BACKWARD_SPILLS = 4

# And in the forward of the gates of half precision with flags, outside of its loop, on sm_80.
FLAGS_SPILLS = 4

# The backward of the gates keeps 4 float32 per element and step, 5 of a minLSTM: 16 elements of a lane take 104 to 168
# registers, 128 to 246 of a minLSTM, 32 spill.
GATES_BACKWARD_ELEMENTS = 16

# Below 8 channels one step of a row is less than a 32-byte sector, which then comes from L1 once per step. A row is
# kept to 16 bytes of a channel: a load of 32 lanes touches 4 lines of 128 bytes, 0.4 of what L1 delivers at full memory
# bandwidth.
NARROW_CHANNELS = 8

NARROW_ROW_BYTES = 16

# Channels of a tile. 32 of float32 are the 128 bytes of a cache line, 32 of half precision are two sectors; more
# channels would leave a warp fewer than 4 rows of time and so fewer independent pieces of the sequence.
MAX_BLOCK_H = 32

# A forward pass over a and b has 128 elements * 8 steps * 2 * 4 B = 8 KiB in flight per warp. 3 TB/s times 0.7 us of
# latency is 2 MB in flight: 260 warps, twice that because a warp loads and computes in turn, twice again for tiles of 4
# steps or of half precision. Cutting T reads the inputs twice, 20 bytes per element instead of 12: it pays below
# 12 / 20 of the warps that fill the memory.
SATURATING_WARPS = 1000
SPLIT_BELOW = SATURATING_WARPS * 12 // 20

# A chunk has at least this many tiles: its map (two float32 per channel) is then at most 1 / 32 of the bytes it stands
# for.
MIN_CHUNK_TILES = 2


@dataclass(frozen=True)
class ScanConfig:
    """A tile is ROWS rows of STEPS consecutive steps each, times BLOCK_H channels; a program is one warp."""

    ROWS: int
    STEPS: int
    BLOCK_H: int
    UNIT: int
    num_warps: int = 1

    @property
    def tile(self) -> int:
        """Steps of time per tile."""
        return self.ROWS * self.STEPS


def select_scan(H: int, itemsize: int, unit: int, steps: int) -> ScanConfig:
    """Tile of a scan over [N, T, H] whose elements take `itemsize` bytes, with `unit` from `channel_unit` and `steps`
    one of the above."""
    block_h = block_of(H)
    if block_h < NARROW_CHANNELS:
        steps = min(steps, NARROW_ROW_BYTES // itemsize)
    return ScanConfig(ROWS=32 * max(LANE_ELEMENTS, unit) // block_h, STEPS=steps, BLOCK_H=block_h, UNIT=unit)


def block_of(H: int) -> int:
    """Channels of a tile of H."""
    return min(MAX_BLOCK_H, 1 << max(H - 1, 0).bit_length())


def gates_backward_steps(unit: int) -> int:
    """Steps of a row in the backward of the gates, where `unit` elements are one access."""
    return GATES_BACKWARD_ELEMENTS // max(LANE_ELEMENTS, unit)


def gates_forward_steps(unit: int, flags: bool) -> int:
    """Steps of a row in the forward of the gates. Those of 8 channels per lane with flags spill with 8, 18 numbers in
    linear space on sm_90. They have 4, the next that is whole words of flags. On sm_80 the log gates spill 4 numbers
    outside of the loop."""
    return 4 if flags and unit > LANE_ELEMENTS else FORWARD_STEPS


def plan_chunks(T: int, channel_blocks: int, config: ScanConfig) -> Chunks:
    """The chunks of each sequence: one, unless too few programs would run to fill the memory."""
    return cut_time(
        T, config.tile, channel_blocks * config.num_warps, SPLIT_BELOW, SATURATING_WARPS, MIN_CHUNK_TILES
    )  # fmt: skip


def channel_unit(H: int, *tensors: torch.Tensor | None) -> int:
    """`vector_unit` of the tensors that also divides H: what one access covers, and the unit of every size and
    stride."""
    n = vector_unit(*tensors)
    while H % n:
        n //= 2
    return n
