"""A training step of the whole model, with the same parameters, on RNAM's layers and on the published forms.

The step is forward, the mean squared error, backward and Adam; its rate is 0, so that every repetition does the same.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import rnam
from benchmarks.protocol.provider import Bound, Provider, Results
from benchmarks.protocol.work import MODEL_BLOCKS, Expected, Work, exact
from benchmarks.providers import compiled, published
from tests.support import oracle

Parameters = dict[str, Tensor]


def build(work: Work) -> rnam.RNAM:
    """The model of a shape, with the same parameters every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rnam.RNAM(work.shape.terms, work.shape.hidden, 1, MODEL_BLOCKS).to(work.device, work.dtype)


def predict(p: Parameters, x: Tensor, min_gru: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """RNAM's prediction from its parameters by name, with torch.baddbmm and the given minGRU; (batch, 1)."""

    def linear(x: Tensor, name: str) -> Tensor:
        y = torch.baddbmm(p[f"{name}.bias"], x.flatten(1, -2), p[f"{name}.weight"])
        return y.unflatten(1, x.shape[1:-1])

    x = linear(x, "emb")
    for i in range(MODEL_BLOCKS):
        name = f"blocks.{i}"
        y = x + min_gru(x, p[f"{name}.gru.to_hidden_and_gate.weight"])
        y = F.layer_norm(y, y.shape[-1:], p[f"{name}.ff.0.weight"], p[f"{name}.ff.0.bias"])
        x = x + linear(torch.relu(linear(y, f"{name}.ff.1")), f"{name}.ff.3")
    last = linear(torch.relu(linear(x[:, :, -1:], "proj.0")), "proj.2")
    return last[:, :, 0].sum(0) + p["gam.bias"]


def expected(work: Work) -> Expected:
    """The loss and every parameter's gradient in float64."""
    names, parameters = zip(*build(work).named_parameters(), strict=True)
    x, target = (t.double() for t in work.leaves)
    min_gru = lambda x, weight: oracle.min_gru(x, weight, long=True)[0]
    loss = lambda *p: F.mse_loss(predict(dict(zip(names, p, strict=True)), x, min_gru), target)
    return Expected(_common(exact(loss, parameters, work.incoming)), 0, (0,), 1)


def _common(results: Results) -> Results:
    """The loss, and all gradients as one vector: one parameter's may be near 0."""
    loss, *gradients = results
    return loss.reshape(1, 1), torch.cat([g.flatten() for g in gradients]).reshape(1, -1)


def _provider(
    name: str,
    forward: Callable[[rnam.RNAM], Callable[[Tensor], Tensor]],
    *,
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    compiled: bool = False,
    log_sums: bool = False,
) -> Provider:
    def bind(work: Work) -> Bound:
        model = build(work)
        x, target = work.leaves
        prediction = forward(model)
        loss = lambda *_: F.mse_loss(prediction(x), target)
        call = torch.compile(loss, dynamic=False) if compiled else loss
        parameters = tuple(model.parameters())
        optimizer = torch.optim.Adam(parameters, lr=0.0, capturable=work.device.type == "cuda")

        def update(gradients: tuple[Tensor, ...]) -> None:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad()

        return Bound(call, parameters, work.incoming, _common, context=context, update=update, moving=0)

    return Provider(name, bind, compiled=compiled, log_sums=log_sums)


_module = lambda model: lambda x: model(x)[0]
_on = lambda min_gru: lambda model: functools.partial(predict, dict(model.named_parameters()), min_gru=min_gru)

PROVIDERS = [
    _provider("rnam", _module),
    _provider("rnam-reference", _module, context=functools.partial(rnam.set_backend, "reference")),
    _provider("published", _on(published.min_gru), log_sums=True),
    _provider("published-compiled", _on(published.min_gru), log_sums=True, compiled=True),
    _provider("associative-compiled", _on(compiled.min_gru), compiled=True),
]
