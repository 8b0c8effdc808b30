"""Launch configurations and precisions that kernels of several folders share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .arithmetic import ROCM

PRECISIONS = ("tf32", "tf32x3", "ieee")

# Rows per tile. 16 is the least that tl.dot takes. With more, a warp holds more steps than its 255 registers: a
# backward at D = H = 16 with 4 steps has a bound of 70 cycles per element with 16 rows and one warp, and of 108 with 32
# rows and two, where the scan crosses warps.
ROWS = 16

# The number of channels F B H from which batch rows fill the machine without a scan (design budget: 1000 warps of 16
# rows of 16 channels are 2.6e5).
FILLING_CHANNELS = 200_000


@dataclass(frozen=True)
class LaunchConfig:
    """ROWS rows of STEPS steps per tile. The rows are batch rows with `batch_rows`, else consecutive pieces of time."""

    batch_rows: bool
    ROWS: int
    STEPS: int
    num_warps: int
    STAGES: int = 2
    least_input: int = 16  # to which D is padded at least

    @property
    def tile(self) -> int:
        """Steps of time per tile."""
        return self.STEPS if self.batch_rows else self.ROWS * self.STEPS

    def work_items(self, B: int, num_chunks: int) -> int:
        """Independent pieces of work of one layer: groups of batch rows, or `num_chunks` chunks of time of each."""
        return -(-B // self.ROWS) if self.batch_rows else B * num_chunks

    def grid(self, F: int, B: int, num_chunks: int) -> tuple[int]:
        return (F * self.work_items(B, num_chunks),)

    def divides(self, B: int, T: int) -> bool:
        """True if tiles have no tail."""
        return T % self.tile == 0 and not (self.batch_rows and B % self.ROWS)

    def waste(self, B: int, T: int) -> float:
        """Steps in tiles over steps that exist."""
        steps = -(-T // self.tile) * self.tile / T
        return steps * (-(-B // self.ROWS) * self.ROWS / B if self.batch_rows else 1)

    def tiles(self, D: int, H: int) -> dict[str, int]:
        """The constants of a kernel that follow from this and the widths, padded to powers of two."""
        block_d, block_h = padded_input(D, self.least_input), padded_state(H)
        # triton 3.7.1 does not pipeline the backward of width 8 for gfx942: LLVM meets a cast that nothing resolves
        stages = 1 if ROCM.value else self.STAGES
        return dict(ROWS=self.ROWS, STEPS=self.STEPS, BLOCK_D=block_d, BLOCK_H=block_h, STAGES=stages)


def padded_input(D: int, least: int = 16) -> int:
    """D <= 2 is a broadcast multiply; tl.dot wants at least 16."""
    return D if D <= 2 else max(least, 1 << (D - 1).bit_length())


def padded_state(H: int) -> int:
    """The backward multiplies over 2 H, which tl.dot wants to be at least 16."""
    return max(8, 1 << (H - 1).bit_length())


def resolve_precision(precision: str | None, dtype: torch.dtype) -> str:
    """Precision of products of `dtype`. For float32 None follows torch.backends.cuda.matmul.fp32_precision, where
    "ieee" is tf32x3.

    tf32x3 keeps h within 1e-6 of float64, and plain float32 products exceed the time budget of the backward. Products
    in half precision have one precision, so that they are compiled once.
    """
    if precision is None:
        precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    return precision if dtype == torch.float32 else "ieee"


def choose_form(config: Callable[[bool], LaunchConfig], F: int, B: int, T: int, H: int) -> LaunchConfig:
    """`config(True)`, whose rows are batch rows, where these alone fill the machine, or where T is so short that tiles
    of time are mostly padding; else `config(False)`, whose rows are pieces of time."""
    time_rows, batch_rows = config(False), config(True)
    if not B or not T:
        return time_rows
    full = F * B * H >= FILLING_CHANNELS and batch_rows.waste(B, T) <= 1.25 * time_rows.waste(B, T)
    return batch_rows if full or 2 * batch_rows.waste(B, T) <= time_rows.waste(B, T) else time_rows


class Chunks(NamedTuple):
    """Into what the time of a batch row is cut; each chunk but the last has `chunk_steps` steps."""

    chunk_steps: int
    num_chunks: int


def cut_time(T: int, tile: int, warps: int, split_below: int, filling: int, least_tiles: int) -> Chunks:
    """One chunk, or more where fewer than `split_below` warps would run: as many as bring them to `filling`, if each
    has `least_tiles` tiles. A chunk is whole tiles."""
    tiles = -(-T // tile)
    if not 0 < warps < split_below or tiles < 2 * least_tiles:
        return Chunks(T, 1)
    num_chunks = min(-(-filling // warps), tiles // least_tiles)
    chunk_steps = -(-tiles // num_chunks) * tile
    return Chunks(chunk_steps, -(-T // chunk_steps))
