"""A piece of work: its inputs, the bytes it must move, what is right, and how far from that a provider may be.

Bytes are ideal: each input read once, each output written once. With n the bytes of h (y),

    min_gru    forward x, W, h0, h                  backward x, W, h0, dh, dx, dW, dh0
    linear     forward x, W, bias, y                backward x, W, dy, dx, dW, dbias       summed over a chain's layers
    scan       forward a, b, h                      backward a, h, dh, da, db

"both" is their sum. A model has no formula.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocol.shapes import Shape
from tests.support import oracle

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Half a unit in the last place of what enters a product.
ROUNDOFF = {"float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-9, "float16": 2.0**-11}

# h, relative to its largest: 16 roundings in the type of the products. In float32 sums of up to a million steps and of
# 512 products come on top (6e-7 to 2e-6 were seen), 64 roundings.
STATE_ROUNDINGS = {"float32": 64, "tf32": 16, "bfloat16": 16, "float16": 16}

# A gradient, relative to its norm. The slope of g and of relu jumps at 0, and a rounded u lands on the other side of it
# with a probability of about 0.8 r, r being the rounding, which is worth 0.75 of the element: 0.75 sqrt(0.8 r) of the
# norm, 1.6e-4, 1.5e-2, 3e-2 and 1.5e-2. Twice that, as one element may weigh more than the mean, and the roundings.
GRADIENT = {"float32": 2e-3, "tf32": 4e-2, "bfloat16": 8e-2, "float16": 4e-2}

# The published form sums logarithms of size 1 to 20 over the whole length, each sum rounded: 20 T r at most, and ten
# times that in a gradient, where its backward takes differences of such sums (3.4 times were seen at 1500 steps). It
# counts as right up to a fifth, whatever T, so that its time can be named beside its error.
LOG_SUM, LOG_SUM_GRADIENT, LOG_SUM_MOST = 20, 10, 0.2

# A Python loop over terms runs this many, in a quick run that many, and its time is extrapolated to the rest.
MOST_TERMS, QUICK_TERMS = 64, 2

# Numbers of h that an oracle is computed for: 2^23 in float64 take 64 MiB a tensor and some seconds on a core.
ELEMENTS = 1 << 23

MASKED_SHARE = 0.2
MODEL_BLOCKS = 2


@dataclass(frozen=True)
class Work:
    """`leaves` are the differentiable inputs in the common layout, `incoming` the gradient of the output.

    op           leaves                                            output
    min_gru      x [F, B, T, D], W [F, D, 2H], h0 [F, B, 1, H]     h [F, B, T, H]; h0 where the shape has a state
    linear       x [F, N, D], and W [F, D, H], bias [F, 1, H]      y [F, N, H], relu between layers
    linear_scan  a, b [B, T, C], positive                          h [B, T, C]
    log_scan     their logarithms                                  log h
    model        x [F, B, T, 1], target [B, 1]: no leaves          the loss of a training step
    """

    op: str
    shape: Shape
    kind: str
    device: torch.device
    leaves: tuple[Tensor, ...]
    incoming: Tensor
    mask: Tensor | None = None
    loop_terms: int = MOST_TERMS

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.kind]

    def bytes(self, pass_: str) -> int | None:
        read, out = sum(map(nbytes, self.leaves)), nbytes(self.incoming)
        if self.op == "model":
            return None
        if self.op.endswith("scan"):
            forward, backward = 3 * out, 5 * out
        elif self.op == "min_gru":
            forward, backward = read + out, 2 * read + out
        else:
            forward = backward = 0
            column = nbytes(self.leaves[0]) // self.shape.layers[0][0]
            for weight, bias in zip(self.leaves[1::2], self.leaves[2::2], strict=True):
                _, dim, hidden = weight.shape
                forward += column * (dim + hidden) + nbytes(weight) + nbytes(bias)
                backward += column * (2 * dim + hidden) + 2 * nbytes(weight) + nbytes(bias)
        return {"forward": forward, "backward": backward, "both": forward + backward}[pass_]


@contextlib.contextmanager
def precision(kind: str) -> Iterator[None]:
    """The precision of float32 products that a type names, in matrix products, convolutions and torch.nn.GRU.

    The function for products sets what torch.compile reads, too, which raises where the two differ (pytorch #166387).
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    own = torch.backends.cuda.matmul.fp32_precision
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32" if kind == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cuda.matmul.fp32_precision = own
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before[1:]


def nbytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def make(op: str, shape: Shape, kind: str, device: torch.device, loop_terms: int = MOST_TERMS) -> Work:
    """The inputs, the same every time."""
    options = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    randn, uniform = functools.partial(torch.randn, **options), functools.partial(torch.rand, **options)
    F, B, T, D, H = shape.terms, shape.batch, shape.steps, shape.dim, shape.hidden
    mask = None
    if op == "min_gru":
        leaves = [randn(F, B, T, D), randn(F, D, 2 * H) / D**0.5]
        if shape.state:
            leaves.append(0.1 + uniform(F, B, 1, H))
        incoming = randn(F, B, T, H)
        mask = uniform(1, B, T) >= MASKED_SHARE
    elif op == "linear":
        leaves = [randn(F, B * T, shape.layers[0][0])]
        for dim, hidden in shape.layers:
            leaves += [randn(F, dim, hidden) / dim**0.5, randn(F, 1, hidden)]
        incoming = randn(F, B * T, shape.layers[-1][1])
    elif op == "model":
        leaves, incoming = [randn(F, B, T, 1), randn(B, 1)], torch.ones((), device=device)
    else:
        leaves = [torch.sigmoid(randn(B, T, D)), 0.1 + uniform(B, T, D)]
        leaves = [t.log() for t in leaves] if op == "log_scan" else leaves
        incoming = randn(B, T, D)
    tensors = [t.to(DTYPES[kind]) for t in (*leaves, incoming)]
    return Work(op, shape, kind, device, tuple(tensors[:-1]), tensors[-1], mask, loop_terms)


@dataclass(frozen=True)
class Expected:
    """The oracle's output and gradients at `chosen` indices of dimension `dim`."""

    tensors: tuple[Tensor, ...]
    dim: int
    chosen: tuple[int, ...]
    of: int

    @property
    def note(self) -> str:
        what = "terms" if self.dim == 0 else "channels"
        return "" if len(self.chosen) == self.of else f"checked on {len(self.chosen)} of {self.of} {what}"


def exact(function: Callable[..., Tensor], leaves: Iterable[Tensor], incoming: Tensor) -> tuple[Tensor, ...]:
    """(output, *gradients of the leaves) in float64."""
    doubles = [t.detach().double().requires_grad_() for t in leaves]
    output = function(*doubles)
    return output.detach(), *torch.autograd.grad(output, doubles, incoming.double())


def expected(work: Work, masked: bool = False) -> Expected:
    """The oracle for as many terms (channels of a scan) as ELEMENTS allows, at least one, spread evenly."""
    dim = -1 if work.op.endswith("scan") else 0
    of = work.leaves[0].shape[dim]
    count = max(1, min(of, int(ELEMENTS * of // work.shape.elements)))
    chosen = tuple(sorted({i * of // count for i in range(count)}))
    index = torch.tensor(chosen, device=work.device)
    *leaves, incoming = (t.index_select(dim, index) for t in (*work.leaves, work.incoming))
    mask = work.mask if masked else None
    functions: dict[str, Callable[..., Tensor]] = {
        "min_gru": lambda x, weight, h0=None: oracle.min_gru(x, weight, h0, mask, long=True)[0],
        "linear": chain(lambda x, weight, bias: x @ weight + bias),
        "linear_scan": oracle.long_scan,
        "log_scan": lambda a, b: oracle.long_scan(a.exp(), b.exp()).log(),  # numbers that float64 holds
    }
    return Expected(exact(functions[work.op], leaves, incoming), dim, chosen, of)


def chain(layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A chain of layers (x, weight, bias) with relu between them."""

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        for i in range(0, len(parameters), 2):
            x = layer(x, *parameters[i : i + 2])
            x = torch.relu(x) if i + 2 < len(parameters) else x
        return x

    return call


def errors(got: tuple[Tensor | None, ...], want: Expected, terms: int | None = None) -> tuple[float, float]:
    """(of the output, relative to its largest; the largest of the gradients, relative to their norm).

    `terms` is the number of terms that a provider ran, if not all. A gradient that is None is not compared. NaN and
    infinities are an infinite error.
    """
    chosen = [i for i in want.chosen if terms is None or i < terms]
    here, there = (torch.tensor(x, device=want.tensors[0].device) for x in (chosen, range(len(chosen))))
    found = []
    for i, (x, y) in enumerate(zip(got, want.tensors, strict=True)):
        if x is None:
            continue
        x, y = x.detach().index_select(want.dim, here).double(), y.index_select(want.dim, there)
        if x.shape != y.shape:
            raise ValueError(f"expected a result of shape {tuple(y.shape)}, got {tuple(x.shape)}")
        size = (x - y).abs().max() / y.abs().max() if i == 0 else (x - y).norm() / y.norm().clamp(min=1e-300)
        found.append(float(size) if math.isfinite(size) else math.inf)
    return found[0], max(found[1:], default=0.0)


def tolerances(kind: str, steps: int, log_sums: bool) -> tuple[float, float]:
    """What `errors` may be at most, derived above."""
    state, gradient = STATE_ROUNDINGS[kind] * ROUNDOFF[kind], GRADIENT[kind]
    if log_sums:
        extra = LOG_SUM * steps * ROUNDOFF["float32"]  # half precision is widened before it is summed
        state, gradient = (a + min(LOG_SUM_MOST, b) for a, b in ((state, extra), (gradient, LOG_SUM_GRADIENT * extra)))
    return state, gradient


def describe(work: Work) -> dict[str, Any]:
    """What stands in the file for a shape."""
    shape = work.shape
    moved = {pass_: work.bytes(pass_) for pass_ in ("forward", "backward", "both")}
    return {"sizes": shape.sizes, "steps": shape.steps, "note": shape.note, "bytes": moved}
