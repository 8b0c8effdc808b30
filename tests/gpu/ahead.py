"""Every call of the kernels that the stages make, on CPU tensors and without a GPU: for compiling ahead of time.

Nothing is computed by a kernel here, so a comparison with right results fails and is left out; so are the references of
cases that are large.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import rnam
from benchmarks.protocol import copy_kernel, work
from benchmarks.protocol.provider import Unavailable
from benchmarks.providers import model, registry
from tests.gpu import joined, measured, parity, shapes, short_run, test_far, test_runtime

# Elements of a far tensor that select the same kernels as 2^31.
FAR = 1 << 25

Call = Callable[[], Any]


class _Undrawn(TorchDispatchMode):
    """Random numbers are not drawn: their memory is left as it comes, and unused pages of it are never taken."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func.overloadpacket in (torch.ops.aten.randn, torch.ops.aten.rand):
            kwargs.pop("generator", None)
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def _short_run(number: int) -> None:
    """One of its calls, all of it: in the middle it asserts that results are finite, and here they are any numbers."""
    backward = lambda outputs, inputs: torch.autograd.grad([t.float().sum() for t in outputs], inputs)
    with mock.patch.object(short_run, "_backward", backward):
        short_run.run(number)


def _unit(unit: measured.Unit) -> None:
    with work.precision(unit.kind):
        with _Undrawn():
            job = unit.make(torch.device("cpu"))
        for provider in unit.providers:
            with contextlib.suppress(Unavailable):
                bound = provider.bind(job)
                bound.forward()
                bound.both()


def _host(name: str) -> None:
    with _Undrawn():
        job = work.make("min_gru", measured.shape(name), measured.FLOAT32, torch.device("cpu"))
        whole = work.make("model", measured.shape(name), measured.FLOAT32, torch.device("cpu"))
    for bound in (measured.RNAM.bind(job), registry.layer(job), model.PROVIDERS[0].bind(whole)):
        bound.forward()
        bound.both()


def _copy() -> None:
    copy_kernel.copy(*torch.zeros(2, copy_kernel.BLOCK_BYTES, dtype=torch.uint8))


def _joined(case: joined.JoinedCase) -> None:
    x, weights, h0, flags, grads = joined.inputs(case)
    leaves = [t.detach().requires_grad_() for t in (x, h0, *weights)]
    with parity.on_kernels(case.precision):
        outputs = joined.FUNCTIONS[case.name](leaves[0], leaves[2:], leaves[1], flags)
        torch.autograd.grad(outputs, leaves, [g.to(t.dtype) for g, t in zip(grads, outputs, strict=True)])


def _layer(case: shapes.LayerCase) -> None:
    parity.layer_on_kernels(case, parity.layer_inputs(case))


def _far(test: Callable[..., None], *arguments: Any) -> None:
    before, test_far.FAR = test_far.FAR, FAR
    try:
        test(*arguments)
    finally:
        test_far.FAR = before


def _model() -> None:
    """As test_runtime compiles it, by its operators one by one."""
    terms, batch, steps = 3, 4, 64
    net = rnam.RNAM(terms=terms, hidden_dim=test_runtime.WIDTH, out_dim=2, blocks=2)
    x, mask = torch.randn(terms, batch, steps, 1), torch.ones(terms, batch, steps, dtype=torch.bool)
    with parity.on_kernels():
        prediction, contributions = net(x, mask=mask)
        loss: Tensor = prediction.square().sum() + contributions.square().sum()
        torch.autograd.grad(loss, list(net.parameters()))


def _runtime(name: str) -> None:
    test_runtime.run(name, *test_runtime.leaves())


def calls() -> dict[str, Call]:
    """By name, those of long compilations first."""
    call = functools.partial
    found: dict[str, Call] = {"copy": _copy, "model": _model}
    found |= {f"short run {n}": call(_short_run, n) for n in range(len(short_run.calls()))}
    for stage, units in measured.UNITS.items():
        found |= {f"{stage}/{u.shape}/{u.op}/{u.kind}": call(_unit, u) for u in units}
    found |= {f"host/{name}": call(_host, name) for name in measured.HOST_SHAPES}
    found |= {f"joined {case}": call(_joined, case) for case in joined.cases()}
    found |= {f"layer {case}": call(_layer, case) for case in shapes.layers()}
    found |= {f"scan {case}": call(parity.check_scan, case) for case in shapes.scans()}
    found |= {f"linear {case}": call(parity.check_linear, case) for case in shapes.linears()}
    found |= {f"runtime {name}": call(_runtime, name) for name in test_runtime.FUNCTIONS}
    far: dict[str, Call] = {
        "rows": test_far.test_min_gru_of_many_rows,
        "steps": test_far.test_min_gru_of_many_steps,
        "scan": call(test_far.test_scan_of_many_rows, False),
        "log scan": call(test_far.test_scan_of_many_rows, True),
        "linear": test_far.test_linear_of_many_rows,
    }
    return found | {f"far {name}": call(_far, test) for name, test in far.items()}
