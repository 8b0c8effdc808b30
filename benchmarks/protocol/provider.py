"""A provider: one way to do a piece of work, bound to its inputs when it can do it."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocol.work import Work

PASSES = ("forward", "backward", "both")
Results = tuple[Tensor | None, ...]


class Unavailable(Exception):  # noqa: N818  it is no fault
    """Why a provider does not do a piece of work."""


@dataclass(frozen=True)
class Bound:
    """`call(*leaves)` gives the output; both in the provider's own contiguous layout, as is `incoming`.

    common   turns (output, *gradients) into the common layout, a gradient it can't give into None.
    terms    how many terms it runs, None for all; times are multiplied by `factor` then.
    context  is entered around every call.
    update   what a training step does with the gradients, if anything.
    moving   how many of the leaves, from the first, may be copies; the rest are parameters that `call` knows itself.
    """

    call: Callable[..., Tensor]
    leaves: tuple[Tensor, ...]
    incoming: Tensor
    common: Callable[[Results], Results] = lambda results: results
    terms: int | None = None
    factor: float = 1.0
    note: str = ""
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    update: Callable[[tuple[Tensor, ...]], None] | None = None
    moving: int | None = None

    def forward(self) -> Tensor:
        with torch.no_grad(), self.context():
            return self.call(*self.leaves)

    def graph(self) -> Tensor:
        """The output with its graph, for `backward`."""
        with self.context():
            return self.call(*self.leaves)

    def backward(self, output: Tensor) -> tuple[Tensor, ...]:
        with self.context():
            gradients = torch.autograd.grad(output, self.leaves, self.incoming)
            if self.update is not None:
                self.update(gradients)
        return gradients

    def both(self) -> tuple[Tensor, ...]:
        output = self.graph()
        return output.detach(), *self.backward(output)


@dataclass(frozen=True)
class Provider:
    """`bind` raises Unavailable, or whatever it fails with, where it can't do the work.

    checked   whether its results are compared: a yardstick or another cell has none to compare.
    masked    whether it does the work with a mask.
    log_sums  whether it sums logarithms over the whole length, as the published form, and errs as that does.
    compiled  whether its first call compiles.
    """

    name: str
    bind: Callable[[Work], Bound]
    checked: bool = True
    masked: bool = False
    log_sums: bool = False
    compiled: bool = False


def leaves_of(*tensors: Tensor) -> tuple[Tensor, ...]:
    """New leaves on the same memory."""
    return tuple(t.detach().requires_grad_() for t in tensors)


def plain(call: Callable[..., Tensor], **options: Any) -> Callable[[Work], Bound]:
    """A provider's `bind` for a function of the common layout."""
    return lambda work: Bound(call, leaves_of(*work.leaves), work.incoming, **options)


def prepared(
    work: Work,
    call: Callable[..., Tensor],
    inputs: Callable[..., Sequence[Tensor]],
    turn: Callable[[Tensor], Tensor] = lambda t: t,
    back: Callable[[Tensor], Tensor] | None = None,
) -> Bound:
    """`call` on `inputs` of the common leaves, which are made outside of the timing; autograd turns gradients back.

    `turn` brings the output's gradient into the layout of the call, and `back`, or `turn` again, its output out of it.
    """
    leaves = leaves_of(*work.leaves)
    own = inputs(*leaves)

    def common(results: Results) -> Results:
        output, *gradients = results
        return (back or turn)(output), *torch.autograd.grad(own, leaves, gradients, retain_graph=True)

    return Bound(call, leaves_of(*own), turn(work.incoming), common)


def few_terms(work: Work) -> dict[str, Any]:
    """What a Bound says of a loop over the terms, which may run some of them alone."""
    of, terms = work.shape.terms, min(work.shape.terms, work.loop_terms)
    note = "" if terms == of else f"{terms} of {of} terms run, extrapolated"
    return {"terms": terms, "factor": of / terms, "note": note}
