"""Where the suite runs, and every shape in it.

One switch, TRITON_INTERPRET, makes all of it tiny and puts it on the CPU.
"""

import dataclasses
import os
from dataclasses import dataclass
from typing import TypeVar

import torch

from tests.support.min_gru_cases import BATCH_ROWS, TIME_ROWS, Case

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
# where kernels are compiled ahead of time (cache.py) the shapes are those of a GPU, and the tensors lie on the CPU
AHEAD = os.environ.get("RNAM_GPU_AHEAD", "0") == "1"
DEVICE = torch.device("cpu" if INTERPRETED or AHEAD else "cuda")

FLOAT32, BF16, HALF = torch.float32, torch.bfloat16, torch.float16

_Size = TypeVar("_Size")


def size(full: _Size, tiny: _Size) -> _Size:
    """`full` on a GPU, `tiny` in the interpreter."""
    return tiny if INTERPRETED else full


@dataclass(frozen=True)
class LayerCase(Case):
    """A minGRU. `config` names the form (time_rows, batch_rows), whose numbers are the table's; None leaves the form to
    it as well and goes through `rnam.functional`. With `generic` the inputs of precision "tf32" have more bits than it
    keeps."""

    generic: bool = False

    def __str__(self) -> str:
        return super().__str__() + (" generic" if self.generic else "")


@dataclass(frozen=True)
class ScanCase:
    F: int
    B: int
    T: int
    H: int
    log: bool
    dtype: torch.dtype = FLOAT32
    h0: bool = True
    layout: str = "contiguous"
    empty: bool = False  # -inf among the coefficients, values and start of log_scan

    def __str__(self) -> str:
        kind = ("log" if self.log else "linear") + (" empty" if self.empty else "")
        return f"F{self.F} B{self.B} T{self.T} H{self.H} {kind} {str(self.dtype)[6:]} {self.layout} h0={self.h0}"


@dataclass(frozen=True)
class LinearCase:
    F: int
    N: int
    D: int
    H: int
    activation: str | None
    dtype: torch.dtype = FLOAT32
    bias: bool = True
    layout: str = "contiguous"

    def __str__(self) -> str:
        flags = f"{self.activation} {str(self.dtype)[6:]} {self.layout} bias={self.bias}"
        return f"F{self.F} N{self.N} D{self.D} H{self.H} {flags}"


_LAYERS = [
    # both forms, odd widths and lengths, flags and layouts
    LayerCase(F=3, B=5, T=1000, D=16, H=16, config=TIME_ROWS, flags="own"),
    LayerCase(F=3, B=37, T=1000, D=16, H=16, config=BATCH_ROWS, flags="shared", dh_layout="sliced"),
    LayerCase(F=2, B=3, T=4099, D=5, H=3, config=TIME_ROWS, space="log", gate="closed"),
    LayerCase(F=2, B=33, T=777, D=7, H=11, config=BATCH_ROWS, space="log", h0=False, dtype=BF16),
    LayerCase(F=2, B=4, T=2048, D=1, H=1, config=TIME_ROWS, gate="saturated", flags="rows"),
    LayerCase(F=2, B=20, T=500, D=2, H=31, config=BATCH_ROWS, gate="open", x_layout="every second step"),
    LayerCase(
        F=2, B=4, T=1025, D=31, H=32, config=TIME_ROWS, dtype=HALF, x_layout="time first", dh_layout="transposed"
    ),
    LayerCase(F=2, B=17, T=333, D=32, H=17, config=BATCH_ROWS, x_layout="sliced", flags="own"),
    LayerCase(F=2, B=4, T=600, D=64, H=64, config=TIME_ROWS, dtype=BF16, flags="own", dh_layout="expanded"),
    LayerCase(F=2, B=16, T=600, D=33, H=63, config=BATCH_ROWS, dtype=HALF),
    LayerCase(F=2, B=4, T=512, D=8, H=8, config=TIME_ROWS, x_layout="transposed", dh_layout="broadcast", h0=False),
    LayerCase(
        F=2, B=4, T=512, D=16, H=16, config=TIME_ROWS, x_layout="broadcast", space="log", dtype=HALF, flags="shared"
    ),
    # precisions of float32 products
    LayerCase(F=2, B=4, T=1000, D=8, H=8, config=TIME_ROWS, precision="ieee"),
    LayerCase(F=2, B=16, T=1000, D=8, H=8, config=BATCH_ROWS, precision="ieee", space="log", flags="own"),
    LayerCase(F=2, B=4, T=1000, config=TIME_ROWS, precision="tf32", flags="own"),
    LayerCase(F=2, B=16, T=1000, D=32, H=32, config=BATCH_ROWS, precision="tf32"),
    LayerCase(F=2, B=4, T=1000, D=64, H=64, config=TIME_ROWS, precision="tf32", flags="own"),
    LayerCase(F=2, B=17, T=501, D=33, H=63, config=BATCH_ROWS, precision="tf32"),
    LayerCase(F=2, B=4, T=1000, config=TIME_ROWS, precision="tf32", generic=True),
    LayerCase(F=2, B=16, T=1000, D=32, H=32, config=BATCH_ROWS, precision="tf32", generic=True),
    # what the table chooses: a long T is cut, a wide layer is a product and a scan
    LayerCase(F=1, B=1, T=100_000, D=16, H=16, config=None, flags="own"),
    LayerCase(F=1, B=1, T=100_000, D=1, H=1, config=None, space="log"),
    LayerCase(F=2, B=3, T=99_999, D=5, H=8, config=None, dtype=BF16),
    LayerCase(F=2, B=300, T=100, D=16, H=16, config=None, h0=False),
    LayerCase(F=2, B=4, T=500, D=48, H=40, config=None, flags="shared"),
    LayerCase(F=2, B=4, T=1000, D=65, H=67, config=None, flags="own"),
    LayerCase(F=2, B=8, T=512, D=128, H=96, config=None, dtype=BF16, space="log"),
    LayerCase(F=1, B=1, T=100_000, D=3, H=100, config=None, dtype=HALF, flags="rows"),
]

_SCANS = [
    ScanCase(F=3, B=5, T=1000, H=33, log=False),
    ScanCase(F=3, B=5, T=1000, H=33, log=True, empty=True),
    ScanCase(F=2, B=3, T=4099, H=5, log=False, dtype=BF16, h0=False, layout="every second step"),
    ScanCase(F=2, B=3, T=4099, H=64, log=True, dtype=HALF, layout="time first"),
    ScanCase(F=2, B=3, T=777, H=40, log=False, layout="transposed"),
    ScanCase(F=2, B=3, T=777, H=8, log=True, h0=False, layout="sliced", dtype=BF16),
    ScanCase(F=2, B=3, T=777, H=3, log=True, layout="broadcast"),
    ScanCase(F=1, B=1, T=100_000, H=1, log=False),
    ScanCase(F=1, B=1, T=100_000, H=1, log=True),
    ScanCase(F=1, B=2, T=99_999, H=17, log=True, empty=True),
    ScanCase(F=1, B=1, T=1_000_000, H=1, log=False),
]

_LINEARS = [
    LinearCase(F=3, N=10_001, D=1, H=16, activation="relu"),
    LinearCase(F=3, N=10_001, D=2, H=128, activation="gelu", dtype=BF16),
    LinearCase(F=3, N=10_001, D=8, H=8, activation="gelu", layout="sliced"),
    LinearCase(F=3, N=10_001, D=17, H=31, activation="silu", dtype=HALF, bias=False),
    LinearCase(F=2, N=100_000, D=32, H=32, activation="relu", dtype=BF16),
    LinearCase(F=2, N=100_000, D=32, H=1, activation=None),
    LinearCase(F=2, N=5000, D=5, H=3, activation="silu", layout="transposed"),
    LinearCase(F=2, N=5000, D=16, H=16, activation=None, dtype=HALF, layout="time first"),
    LinearCase(F=2, N=5000, D=100, H=70, activation="gelu"),
    LinearCase(F=2, N=5000, D=33, H=7, activation="relu", dtype=BF16),
]


def _tiny_layer(case: LayerCase) -> LayerCase:
    long = 600 if case.T >= 99_999 and max(case.D, case.H) == 1 else 37
    narrow = lambda n: min(n, 17) if max(case.D, case.H) <= 64 else n
    small = {"F": min(case.F, 2), "B": min(case.B, 2), "T": min(case.T, long)}
    return dataclasses.replace(case, **small, D=narrow(case.D), H=narrow(case.H))


def layers() -> list[LayerCase]:
    return size(_LAYERS, [_tiny_layer(c) for c in _LAYERS])


def scans() -> list[ScanCase]:
    tiny = [dataclasses.replace(c, F=min(c.F, 2), B=min(c.B, 2), T=300 if c.T > 5000 else 37) for c in _SCANS[:-1]]
    return size(_SCANS, tiny)


def linears() -> list[LinearCase]:
    return size(_LINEARS, [dataclasses.replace(c, F=2, N=35) for c in _LINEARS])


# Elements of the tensors that need 64-bit offsets: a row of steps past 2^31.
FAR = size(2**31, 2**9)

# (terms, batch, steps, width) of the tests of streams, graphs and repeats, where the result matters and not the size.
SMALL = size((4, 8, 512, 16), (2, 2, 9, 4))
