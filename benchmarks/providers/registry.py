"""Who does the work: the registry, op -> name -> provider."""

import functools
from collections.abc import Callable, Collection

import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from benchmarks.protocol import compare, work
from benchmarks.protocol.compare import Settings
from benchmarks.protocol.provider import Bound, Provider, Unavailable, few_terms, leaves_of, plain, prepared
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


def compare_all(job: Work, settings: Settings, only: Collection[str] = (), over: str = "") -> list[Row]:
    """Rows of all providers of a piece of work, or of those with these names; `over` is another base."""
    chosen = [p for p in REGISTRY[job.op].values() if not only or p.name in only]
    over = over or base(job.op, job.shape.state)
    return compare.run(job, chosen, over, functools.partial(expected, job), settings)


def _rnam(call: Callable[..., Tensor]) -> list[Provider]:
    """As it is set ("auto", unless RNAM_BACKEND says otherwise), and the readable specification."""
    reference = functools.partial(rnam.set_backend, "reference")
    return [Provider("rnam", plain(call)), Provider("rnam-reference", plain(call, context=reference))]


def _min_gru(x: Tensor, weight: Tensor, h0: Tensor | None = None, space: str = "linear") -> Tensor:
    return functional.min_gru(x, weight, h0, space=space)[0]


def layer(work: Work) -> Bound:
    """`rnam.minGRU`, with its parameter in the place of the weight."""
    module = rnam.minGRU(work.shape.terms, work.shape.dim, device=work.device, dtype=work.dtype)
    x, weight, *state = leaves_of(*work.leaves)
    module.to_hidden_and_gate.weight = torch.nn.Parameter(weight.detach())
    leaves = x, module.to_hidden_and_gate.weight, *state
    return Bound(lambda x, _, h0=None: module(x, h0)[0], leaves, work.incoming)


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


def _products(work: Work) -> Bound:
    x, weight = leaves_of(*work.leaves[:2])
    incoming = torch.zeros(x.shape[0], x[0, ..., 0].numel(), weight.shape[2], dtype=x.dtype, device=x.device)
    call = lambda x, weight: torch.bmm(x.flatten(1, 2), weight)
    return Bound(call, (x, weight), incoming, note="x W alone, for comparison")


def _rnam_chain(x: Tensor, *parameters: Tensor) -> Tensor:
    for i in range(0, len(parameters), 2):
        x = functional.grouped_linear(x, *parameters[i : i + 2], "relu" if i + 2 < len(parameters) else None)
    return x


def _loop(work: Work) -> Bound:
    """A network for each term, with parameters of its own, in a Python loop."""
    few = few_terms(work)
    each = zip(*(t[: few["terms"]].unbind() for t in work.leaves), strict=True)
    leaves = leaves_of(*(t for own in each for t in own))
    network, n = chain(lambda x, w, b: F.linear(x, w.T, b[0])), len(work.leaves)
    call = lambda *leaves: torch.stack([network(*leaves[i : i + n]) for i in range(0, len(leaves), n)])
    common = lambda results: (results[0], *(torch.stack(results[1 + i :: n]) for i in range(n)))
    return Bound(call, leaves, work.incoming[: few["terms"]], common, **few)


def _conv1d(work: Work) -> Bound:
    """One convolution of width 1 with a group for each term, on x (1, terms * dim, rows)."""
    terms = work.shape.terms
    turn = lambda t: t.mT.reshape(1, -1, t.shape[1]).contiguous()
    back = lambda t: t.view(terms, -1, t.shape[2]).mT

    def inputs(x: Tensor, *parameters: Tensor) -> list[Tensor]:
        weights = [w.mT.reshape(-1, w.shape[1], 1).contiguous() for w in parameters[::2]]
        biases = [b.flatten() for b in parameters[1::2]]
        return [turn(x), *(t for pair in zip(weights, biases, strict=True) for t in pair)]

    call = chain(lambda x, weight, bias: F.conv1d(x, weight, bias, groups=terms))
    return prepared(work, call, inputs, turn, back)


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
        *peers.PROVIDERS["min_gru"],
        Provider("products", _products, checked=False),
    ],
    "linear": [
        *_rnam(_rnam_chain),
        *(Provider(name, plain(chain(layer))) for name, layer in _LINEAR.items()),
        Provider("conv1d", _conv1d),
        Provider("loop", _loop),
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
