"""Who does the work: the registry, op -> name -> provider."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rnam
from benchmarks.protocol import compare, work
from benchmarks.protocol.compare import Settings
from benchmarks.protocol.provider import Bound, Provider, Unavailable, few_terms, leaves_of, plain
from benchmarks.protocol.row import Row
from benchmarks.protocol.work import Expected, Work, chain
from benchmarks.providers import compiled, model, peers, published
from rnam import functional


def base(op: str, state: bool) -> str:
    """The provider that speed-ups are over: the published eager form; for linear layers torch.baddbmm.

    A single step from a state is `published-step`, as the original computes it.
    """
    if op == "linear":
        return "baddbmm"
    return "published-step" if state else "published"


def expected(job: Work, masked: bool = False) -> Expected:
    return model.expected(job) if job.op == "model" else work.expected(job, masked)


def compare_all(job: Work, settings: Settings, only: Collection[str] = ()) -> list[Row]:
    """Rows of all providers of a piece of work, or of those with these names."""
    chosen = [p for p in REGISTRY[job.op].values() if not only or p.name in only]
    return compare.run(job, chosen, base(job.op, job.shape.state), functools.partial(expected, job), settings)


def _rnam(call: Callable[..., Tensor]) -> list[Provider]:
    """As it is set ("auto", unless RNAM_BACKEND says otherwise), and the readable specification."""
    reference = functools.partial(rnam.set_backend, "reference")
    return [Provider("rnam", plain(call)), Provider("rnam-reference", plain(call, context=reference))]


def _min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None, space: str = "linear") -> Tensor:
    return functional.min_gru(x, weight, h0, space=space)[0]


def _masked(work: Work) -> Bound:
    call = lambda x, weight, h0=None: functional.min_gru(x, weight, h0, mask=work.mask)[0]
    return Bound(call, leaves_of(*work.leaves), work.incoming)


def _published_step(work: Work) -> Bound:
    if not (work.shape.state and work.shape.steps == 1):
        raise Unavailable("it is the form of one step from a state")
    return plain(published.step)(work)


def _vmap(work: Work) -> Bound:
    if work.shape.state:
        raise Unavailable("not written for a state")
    term = lambda x, weight: published.min_gru(x[None], weight[None])[0]
    return plain(torch.vmap(term))(work)


# torch.nn.GRU launches kernels for every step, some 10 us on a GPU: a million steps take half a minute a call.
MOST_GRU_STEPS = 10_000


def _gru(work: Work) -> Bound:
    """torch.nn.GRU, one for each term, in a Python loop: another cell of the same sizes, so nothing is compared."""
    if work.shape.state:
        raise Unavailable("not written for a state")
    if work.shape.steps > MOST_GRU_STEPS:
        raise Unavailable(f"{work.shape.steps} steps are not run one by one, {MOST_GRU_STEPS} at most")
    terms, factor, note = few_terms(work)
    shape = work.shape
    make = lambda: nn.GRU(shape.dim, shape.hidden, batch_first=True, device=work.device, dtype=work.dtype)
    layers = [make() for _ in range(terms)]
    (x,) = leaves_of(work.leaves[0][:terms])
    weights = tuple(p for layer in layers for p in layer.parameters())

    def call(x: Tensor, *_: Tensor) -> Tensor:
        return torch.stack([layer(term)[0] for layer, term in zip(layers, x.unbind(), strict=True)])

    note = "; ".join(filter(None, ("another cell, not compared", note)))
    return Bound(call, (x, *weights), work.incoming[:terms], terms=terms, factor=factor, note=note, moving=1)


class _Products(torch.autograd.Function):
    """x W and its adjoint, at the price of nothing but the products."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x.flatten(1, 2), weight)

    @staticmethod
    def backward(ctx, dp: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return torch.bmm(dp, weight.mT).view_as(x), torch.bmm(x.flatten(1, 2).mT, dp)


def _products(work: Work) -> Bound:
    x, weight = leaves_of(*work.leaves[:2])
    incoming = torch.zeros(x.shape[0], x[0, ..., 0].numel(), weight.shape[2], dtype=x.dtype, device=x.device)
    return Bound(_Products.apply, (x, weight), incoming, note="x W alone, for comparison")


def _rnam_chain(x: Tensor, *parameters: Tensor) -> Tensor:
    for i in range(0, len(parameters), 2):
        x = functional.grouped_linear(x, *parameters[i : i + 2], "relu" if i + 2 < len(parameters) else None)
    return x


def _conv1d(work: Work) -> Bound:
    """One convolution of width 1 with a group for each term, on x (1, terms * dim, rows)."""
    terms = work.shape.terms
    into = lambda t: t.transpose(1, 2).reshape(1, -1, t.shape[1]).contiguous()
    x, parameters = into(work.leaves[0]), []
    for weight, bias in zip(work.leaves[1::2], work.leaves[2::2], strict=True):
        parameters += [weight.transpose(1, 2).reshape(-1, weight.shape[1], 1).contiguous(), bias.flatten()]

    def common(results: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        y, dx, *rest = results
        back = lambda t: t.view(terms, -1, t.shape[2]).transpose(1, 2)
        weights = [dw.view(terms, -1, dw.shape[1]).transpose(1, 2) for dw in rest[::2]]
        biases = [db.view(terms, 1, -1) for db in rest[1::2]]
        return back(y), back(dx), *(t for pair in zip(weights, biases, strict=True) for t in pair)

    call = chain(lambda x, weight, bias: F.conv1d(x, weight, bias, groups=terms))
    return Bound(call, leaves_of(x, *parameters), into(work.incoming), common)


_LINEAR = {
    "baddbmm": lambda x, w, b: torch.baddbmm(b, x, w),
    "bmm": lambda x, w, b: torch.bmm(x, w) + b,
    "einsum": lambda x, w, b: torch.einsum("fnd,fdh->fnh", x, w) + b,
    "vmap": lambda x, w, b: torch.vmap(F.linear)(x, w.mT, b[:, 0]),
}

_ALL: dict[str, list[Provider]] = {
    "min_gru": [
        *_rnam(_min_gru),
        Provider("rnam-log", plain(functools.partial(_min_gru, space="log"))),
        Provider("rnam-masked", _masked, masked=True),
        Provider("published", plain(published.min_gru), log_sums=True),
        Provider("published-step", _published_step),
        *compiled.PROVIDERS["min_gru"],
        Provider("vmap", _vmap, log_sums=True),
        Provider("nn.GRU", _gru, checked=False),
        *peers.PROVIDERS["min_gru"],
        Provider("products", _products, checked=False),
    ],
    "linear": [
        *_rnam(_rnam_chain),
        *(Provider(name, plain(chain(layer))) for name, layer in _LINEAR.items()),
        Provider("conv1d", _conv1d),
    ],
    **{
        op: [
            *_rnam(getattr(functional, op)),
            Provider("published", plain(getattr(published, op)), log_sums=True),
            *compiled.PROVIDERS[op],
            *peers.PROVIDERS[op],
        ]
        for op in ("linear_scan", "log_scan")
    },
    "model": model.PROVIDERS,
}

REGISTRY = {op: {provider.name: provider for provider in providers} for op, providers in _ALL.items()}
