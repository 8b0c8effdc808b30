"""The kernels that join a minGRU to its neighbours, its bias and elapsed times, and the minLSTM, against the float64
reference: inputs, references and budgets."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import rnam
from rnam import functional
from tests.gpu import parity
from tests.gpu.shapes import BF16, DEVICE, FLOAT32, HALF, TIME_ROWS, LayerCase, size
from tests.support.min_gru_cases import REL, ROUNDING, TF32, assert_gradient

# Products that a number goes through at most, forward and backward: W, W1, W2 and each back.
PRODUCTS = 6

# The sizes that a product of 32 random numbers sums are 0.64 sqrt(32), 3.6 times its result.
SUM = 4


@dataclass(frozen=True)
class JoinedCase:
    """`name` of FUNCTIONS; with K > 0 the input has K numbers a row, which are embedded."""

    name: str
    F: int = 2
    B: int = 4
    T: int = 1000
    D: int = 16
    K: int = 0
    dtype: torch.dtype = FLOAT32
    precision: str = "tf32x3"
    flags: str | None = None

    def __str__(self) -> str:
        sizes = f"F{self.F} B{self.B} T{self.T} D{self.D} K{self.K}"
        return f"{self.name} {sizes} {str(self.dtype)[6:]} {self.precision} flags={self.flags}"


_CASES = [
    JoinedCase("block", B=37, T=333, flags="own"),  # tiles of time, or of the batch with many terms
    JoinedCase("block", F=100, B=128, T=100, D=16, precision="tf32"),
    JoinedCase("block", D=8, T=1025, dtype=BF16, flags="shared"),
    JoinedCase("block", D=13, T=777, dtype=HALF),
    JoinedCase("block", D=32, T=600, precision="tf32"),
    JoinedCase("block", D=31, B=3, T=599, dtype=BF16),
    JoinedCase("block", F=1, B=1, T=50_000, D=5),  # cut in time
    JoinedCase("block", K=1, T=1025, D=8, flags="own"),
    JoinedCase("block", K=2, F=100, B=128, T=64, D=16, precision="tf32"),
    JoinedCase("block", K=3, D=32, T=600),
    JoinedCase("block", K=1, F=1, B=1, T=50_000, D=8),
    JoinedCase("projected", D=8, flags="own"),
    JoinedCase("projected", F=100, B=128, T=100, D=16, dtype=BF16),
    JoinedCase("projected", D=15, dtype=HALF),
    JoinedCase("lstm", flags="own"),
    JoinedCase("lstm", F=1, B=1, T=50_000, D=8),
    JoinedCase("lstm", D=65, T=500, dtype=BF16),
    JoinedCase("timed", B=37, T=333, flags="own"),
    JoinedCase("timed", F=100, B=128, T=100, D=16, precision="tf32"),
    JoinedCase("timed", F=1, B=1, T=50_000, D=5),
    JoinedCase("timed", D=65, T=500, dtype=BF16),
    JoinedCase("timed block", B=37, T=333, flags="own"),
    JoinedCase("timed block", D=32, T=600, precision="tf32"),
    JoinedCase("timed block", D=8, T=1025, dtype=BF16, flags="shared"),
]


def cases() -> list[JoinedCase]:
    small = lambda c: dict(F=min(c.F, 2), B=min(c.B, 2), T=37, D=min(c.D, 17))
    return size(_CASES, [dataclasses.replace(c, **small(c)) for c in _CASES])


def _block(x: Tensor, weights: list[Tensor], h0: Tensor, flags: dict[str, Any]) -> tuple[Tensor, Tensor]:
    embedding = (weights[7], weights[8]) if len(weights) > 7 else None
    return functional.min_gru_block(x, *weights[:7], h0, embedding=embedding, **flags)


def _timed_block(x: Tensor, weights: list[Tensor], h0: Tensor, flags: dict[str, Any]) -> tuple[Tensor, Tensor]:
    *own, bias, elapsed = weights
    return functional.min_gru_block(x, *own, h0, bias=bias, elapsed=elapsed, **flags)


FUNCTIONS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "block": _block,
    "projected": lambda x, w, h0, flags: functional.min_gru_projected(x, *w, h0, **flags),
    "lstm": lambda x, w, h0, flags: functional.min_lstm(x, *w, h0, **flags),
    "timed": lambda x, w, h0, flags: functional.min_gru(x, w[0], h0, bias=w[1], elapsed=w[2], **flags),
    "timed block": _timed_block,
}


def inputs(case: JoinedCase) -> tuple[Tensor, list[Tensor], Tensor, dict[str, Any], tuple[Tensor, Tensor]]:
    """x, the weights, h0, mask and reset, and the gradients of both outputs. No pre-activation of the feed-forward is
    near 0: half of its bias is 6 and half -6."""
    F, D, K, dtype = case.F, case.D, case.K, case.dtype
    hidden = min(2 * D, 32) if case.name == "projected" else D
    layer = LayerCase(
        F=F, B=case.B, T=case.T, D=D, H=hidden, dtype=dtype, config=TIME_ROWS, precision=case.precision,
        flags=case.flags,
    )  # fmt: skip
    given = parity.layer_inputs(layer)
    generator = torch.Generator(DEVICE).manual_seed(1)
    normal = lambda *shape: torch.randn(shape, generator=generator, device=DEVICE).to(dtype)
    square = lambda: normal(F, D, D) / D**0.5
    x, weight = given.x, given.weight.to(dtype)
    if case.name == "lstm":
        weights = [torch.cat([weight, normal(F, D, D) / D**0.5], 2)]
    elif case.name == "projected":
        weights = [weight, normal(F, hidden, D) / hidden**0.5]
    elif case.name == "timed":
        weights = [weight]
    else:
        away = torch.where(torch.arange(D, device=DEVICE) % 2 == 0, 6.0, -6.0).to(dtype).repeat(F, 1, 1)
        weights = [weight, 1 + normal(D) / 8, normal(D) / 8, square(), away, square(), normal(F, 1, D)]
        if K:
            x = normal(F, case.B, case.T, K)
            weights += [normal(F, K, D), normal(F, 1, D)]
    if case.name.startswith("timed"):
        elapsed = normal(F, case.B, case.T).exp()
        weights += [normal(F, 1, 2 * D), torch.where(elapsed < 0.5, 0, elapsed)]
    mask, reset = parity.mask_and_reset(given.flags)
    grads = normal(F, case.B, case.T, D), given.dh_last
    return x, weights, given.h0, {"mask": mask, "reset": reset}, grads


def check_joined(case: JoinedCase) -> None:
    """Outputs and gradients against float64, in the 2-norm: twice the error of the reference in float32, and a rounding
    for each product on the way, h and the result."""
    x, weights, h0, flags, grads = inputs(case)

    def run(dtype: torch.dtype | None) -> list[Tensor]:
        """In the dtypes of the case, or all in `dtype`."""
        leaves = [t.detach().to(dtype or t.dtype).requires_grad_() for t in (x, h0, *weights)]
        y, h_last = FUNCTIONS[case.name](leaves[0], leaves[2:], leaves[1], flags)
        found = torch.autograd.grad(
            (y, h_last), leaves, [g.to(t.dtype) for g, t in zip(grads, (y, h_last), strict=True)]
        )
        return [y.detach(), h_last.detach(), *found]

    with parity.plain_torch(), rnam.set_backend("reference"):
        exact, plain = run(torch.float64), run(torch.float32)
    with parity.on_kernels(case.precision):
        got = run(None)
    if case.dtype != FLOAT32:
        rounding = ROUNDING[case.dtype]
    else:
        rounding = TF32 if case.precision == "tf32" else SUM * parity.TF32X3_PRODUCT
    band = REL + (PRODUCTS + 2) * rounding
    for n, (g, e, p) in enumerate(zip(got, exact, plain, strict=True)):
        name = ("output", "h_last", "dx", "dh0")[n] if n < 4 else f"gradient of weight {n - 4}"
        assert_gradient(name, g, e, p.double(), band)
