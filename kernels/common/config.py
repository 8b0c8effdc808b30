"""Launch configurations and precisions that kernels of several folders share."""

from dataclasses import dataclass

import torch

PRECISIONS = ("tf32", "tf32x3", "ieee")


@dataclass(frozen=True)
class LaunchConfig:
    """ROWS rows of STEPS steps per tile; `seq` says that rows are batch rows and not pieces of time."""

    seq: bool
    ROWS: int
    STEPS: int
    num_warps: int
    STAGES: int = 2
    least_input: int = 16  # to which D is padded at least

    @property
    def tile(self) -> int:
        """Steps of time per tile."""
        return self.STEPS if self.seq else self.ROWS * self.STEPS

    def items(self, B: int, count: int) -> int:
        """Independent pieces of work of one layer: groups of batch rows, or `count` chunks of time of each."""
        return -(-B // self.ROWS) if self.seq else B * count

    def grid(self, F: int, B: int, count: int) -> tuple[int]:
        return (F * self.items(B, count),)

    def divides(self, B: int, T: int) -> bool:
        """Whether tiles have no tail."""
        return T % self.tile == 0 and not (self.seq and B % self.ROWS)

    def waste(self, B: int, T: int) -> float:
        """Steps in tiles over steps that exist."""
        steps = -(-T // self.tile) * self.tile / T
        return steps * (-(-B // self.ROWS) * self.ROWS / B if self.seq else 1)

    def tiles(self, D: int, H: int) -> dict[str, int]:
        """The constants of a kernel that follow from this and the widths, padded to powers of two."""
        block_d, block_h = padded_input(D, self.least_input), padded_state(H)
        return dict(ROWS=self.ROWS, STEPS=self.STEPS, BLOCK_D=block_d, BLOCK_H=block_h, STAGES=self.STAGES)


def padded_input(D: int, least: int = 16) -> int:
    """D <= 2 is a broadcast multiply; tl.dot wants at least 16."""
    return D if D <= 2 else max(least, 1 << (D - 1).bit_length())


def padded_state(H: int) -> int:
    """The backward multiplies over 2 H, which tl.dot wants to be at least 16."""
    return max(8, 1 << (H - 1).bit_length())


def resolve_precision(precision: str | None, dtype: torch.dtype) -> str:
    """Precision of products of `dtype`; of float32 None follows torch.backends.cuda.matmul.fp32_precision, where "ieee"
    is tf32x3.

    tf32x3 keeps h within 1e-6 of float64, and plain float32 products exceed the time budget of the backward.
    Products of halves do not depend on it: one value, so that they are compiled once.
    """
    if precision is None:
        precision = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, got {precision!r}")
    return precision if dtype == torch.float32 else "ieee"


# Rows per tile. 16 is the least tl.dot takes; with more, a warp holds more steps than its 255 registers (backward at D
# = H = 16, 4 steps: bound 70 cycles per element with 16 rows and one warp, 108 with 32 rows and two: the scan crosses
# warps).
ROWS = 16


# The number of channels F B H from which batch rows fill the machine without a scan (design budget: 1000 warps of 16
# rows of 16 channels are 2.6e5).
SEQ_CHANNELS = 200_000


def choose_form(seg: LaunchConfig, seq: LaunchConfig, F: int, B: int, T: int, H: int) -> LaunchConfig:
    """Rows are batch rows (`seq`) where these alone fill the machine, or where T is so short that tiles of time are
    mostly padding; else pieces of time (`seg`)."""
    if not B or not T:
        return seg
    full = F * B * H >= SEQ_CHANNELS and seq.waste(B, T) <= 1.25 * seg.waste(B, T)
    return seq if full or 2 * seq.waste(B, T) <= seg.waste(B, T) else seg
