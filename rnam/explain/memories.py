"""How long each term remembers, and what its memory is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnam import _checks
from rnam.backends.cells import CELLS
from rnam.explain import _arrays
from rnam.explain._arrays import Floats
from rnam.explain.centring import Spread
from rnam.explain.evaluation import evaluate, intercept, observed
from rnam.explain.names import labels
from rnam.gru import Cell
from rnam.models.block import Block
from rnam.models.rnam import RNAM

__all__ = ["Memory", "memory"]

Loss = Callable[[Tensor, Tensor], Tensor | float]


@dataclass(frozen=True, eq=False)
class Memory:
    """The memory of each recurrent term and of the timing term, on given data.

    Args:
        term: their names.
        timescale: ([members,] terms, blocks, channels), the e-folding time of each channel of each block's state: in
            steps or, of a model of continuous time, in the unit of `times`. NaN where no time passed.
        steps: (terms,) the observed steps that it is of: all but the first of each sequence, and but those after an
            infinite time.
        change: ([members,] terms, out), the root mean square of what the contribution changes by, where the term is
            observed, when the term sees its last value only.
        loss: ([members]), the loss of the model; None without a target.
        cut_loss: ([members,] terms), the loss when that term alone sees its last value only; None without a target.
    """

    term: tuple[str, ...]
    timescale: Floats
    steps: NDArray[np.int64]
    change: Floats
    loss: Floats | None
    cut_loss: Floats | None

    def quantiles(self, shares: Sequence[float] = (0.1, 0.5, 0.9)) -> Floats:
        """([members,] terms, blocks, shares): the quantiles of the time scales over the channels."""
        # of the rates, which are finite where a state is kept for ever
        with np.errstate(divide="ignore"):
            rates = np.quantile(1 / self.timescale, [1 - share for share in shares], axis=-1)
            return np.asarray(1 / np.moveaxis(rates, 0, -1))

    @property
    def spread(self) -> Spread:
        """Mean and standard deviation (divided by members - 1) over members of the median time scale, each (terms,
        blocks).

        Raises:
            ValueError: there are no members.
        """
        if self.timescale.ndim != 4:
            raise ValueError("model must be of at least 2 members to have a spread, got one")
        median = self.quantiles((0.5,))[..., 0]
        return Spread(np.asarray(median.mean(0)), np.asarray(median.std(0, ddof=1)))


def memory(
    model: nn.Module,
    input: Tensor,
    *arguments: Any,
    target: Tensor | None = None,
    loss: Loss = F.mse_loss,
    over_time: bool = False,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Memory:
    """How long each term remembers, and what is lost when it remembers nothing.

    The states of a block decay by a factor a at each step, so that a channel forgets at the rate -log a: its time scale
    is 1 over the mean rate, over all observed steps of the data at which there was something to forget. It tells how
    long a state lasts, and not whether the network reads it: a channel that nothing reads may last for ever, and what
    a later block keeps of an earlier one may last longer than either. Time scales of different models compare; those of
    two channels of one model say little by themselves.

    `change` and `cut_loss` tell whether the memory is read. The states are 0 before each observed step there, so that a
    term sees its last observed value alone (and, in continuous time, how long before it the one before was), and the
    other terms are as they are. The networks were not trained so: a small loss says that the memory is of no use to
    this model on this data; a large one need not be as large once the model is trained again, since other terms or the
    value itself may then tell what the memory told.

    Args:
        model: an `rnam.RNAM`, evaluated as in `contributions`.
        input, *arguments, **options: what the model takes, `mask=` and `lengths=` among them; sequences from their
            start, so no `state=`.
        target: what the loss compares the prediction with.
        loss: a function of prediction and target that gives a number, such as torch's; the prediction is (batch, out),
            or (batch, seq, out) over time, that of each member where there are several. Over time it is given every
            step, padding among them: a loss that leaves out what has no target leaves these out.
        over_time: predict at every step; else after the last.
        names: of the terms, instead of those stored with the model.

    Raises:
        TypeError: the model is no `rnam.RNAM`, or has blocks or cells of another kind.
        TypeError, ValueError: what the model raises; the loss gives no number; a state is given.

    Example:
        >>> model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1, timescales=(2.0, 50.0))
        >>> found = rnam.explain.memory(model, torch.randn(2, 16, 10, 1), target=torch.randn(16, 1))
        >>> found.quantiles().shape, found.change.shape, found.cut_loss.shape
        ((2, 1, 3), (2, 1), (2,))
    """
    own: Any = getattr(model, "_orig_mod", model)  # not the shell that torch.compile puts around it
    cells = _cells(own)
    if options.get("state") is not None:
        raise ValueError("state must be None: the memory is that of sequences from their start")
    terms, members = own.terms + own.timing, own.members
    rates = [_Rates() for _ in cells]
    with _before_each(cells, rates):
        whole = evaluate(own, input, *arguments, over_time=over_time, each_member=True, **options)
    with _before_each(cells, [_forget] * len(cells)):
        cut = evaluate(own, input, *arguments, over_time=over_time, each_member=True, **options)
    axis = int(members > 1) + 1  # of the terms
    known = labels(own, whole.shape[axis], whole.shape[-1], names)
    seen = observed(own, input, *arguments, over_time=over_time, **options)[:, :terms]
    if over_time and (at_step := rates[0].observed) is not None:
        seen = seen & at_step[:terms].swapaxes(0, 1)
    weights = _arrays.places(seen.shape, None, seen)
    total = weights.sum(axis=(0, *range(2, weights.ndim)))[:, None]
    change = cut.astype(np.float64) - whole
    square = np.moveaxis(np.moveaxis(change, axis, 0)[:terms], 0, axis) ** 2

    by_channel = np.stack([part.timescale() for part in rates], axis=1) * (own.time_unit if own.continuous else 1.0)
    if members > 1:
        by_channel = by_channel.reshape(members, terms, *by_channel.shape[1:])
    losses = None
    if target is not None:
        wide = whole.astype(np.float64)
        bias = intercept(own).astype(np.float64)
        prediction = wide.sum(axis) + (bias.reshape(members, *(1,) * (whole.ndim - 3), -1) if members > 1 else bias)
        each = [prediction, *(prediction + change.take(f, axis) for f in range(terms))]
        losses = np.stack([_losses(one.astype(whole.dtype), members, target, loss) for one in each], axis=-1)
    return Memory(
        term=known.names[:terms],
        timescale=by_channel,
        steps=rates[0].steps[:terms],
        change=np.sqrt(_arrays.over_places(weights, square) / np.where(total > 0, total, 1.0)),
        loss=None if losses is None else losses[..., 0],
        cut_loss=None if losses is None else losses[..., 1:],
    )


class _Rates:
    """A hook that sums what a cell forgets, by network and channel."""

    forgotten: Floats
    time: Floats
    steps: NDArray[np.int64]
    observed: NDArray[np.bool_] | None  # at each step; None is everywhere

    def __call__(self, cell: Cell, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        relaxation = CELLS[cell.cell].reference.relaxation
        assert relaxation is not None, cell.cell
        x, mask, elapsed = arguments[0], options.get("mask"), options.get("elapsed")
        self.observed = None if mask is None else np.asarray(_arrays.plain(mask.expand(x.shape[:3])))
        seen = torch.ones(x.shape[:3], dtype=torch.bool, device=x.device) if mask is None else mask
        seen = seen & (seen.cumsum(-1) > 1)  # at the first there is nothing to forget
        passed = torch.ones(1, 1, 1, device=x.device) if elapsed is None else elapsed
        seen = seen & passed.isfinite()  # a gap without end forgets all, at every rate
        passed = torch.where(seen, passed, 0).double()
        preacts = cell.to_hidden_and_gate(x)
        _, gate = relaxation(*preacts.chunk(CELLS[cell.cell].num_preacts, dim=-1))
        # not softplus, which is the identity from 20 on
        rate = -F.logsigmoid(-gate.double() if gate.dtype == torch.float64 else -gate.float())
        self.forgotten = np.asarray(_arrays.plain(torch.einsum("fbt,fbtd->fd", passed.to(rate.dtype), rate).double()))
        self.time = np.asarray(_arrays.plain(passed.sum((1, 2))))[:, None]
        self.steps = np.asarray(_arrays.plain(seen.sum((1, 2))))

    def timescale(self) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.time > 0, self.time / self.forgotten, np.nan)


def _forget(cell: Cell, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The call of a cell whose state is 0 before every step."""
    always = torch.ones(1, 1, 1, dtype=torch.bool, device=arguments[0].device)
    return arguments, options | {"reset": always}


def _cells(model: object) -> list[Cell]:
    if not isinstance(model, RNAM):
        raise TypeError(f"model must be an rnam.RNAM, whose terms have a memory, got {type(model).__name__}")
    cells: list[Cell] = []
    for n, block in enumerate(model.blocks):
        cell = getattr(block, "gru", None)
        if not isinstance(block, Block) or not isinstance(cell, Cell):
            kind = type(block).__name__ if not isinstance(block, Block) else f"one with a {type(cell).__name__}"
            raise TypeError(f"blocks[{n}] must be a block with a cell of rnam.gru, got {kind}")
        cells.append(cell)
    return cells


@contextmanager
def _before_each(cells: list[Cell], hooks: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """Inside, a hook is called before each cell, with its arguments."""
    handles = [cell.register_forward_pre_hook(hook, with_kwargs=True) for cell, hook in zip(cells, hooks, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _losses(prediction: NDArray[Any], members: int, target: Tensor, loss: Loss) -> Floats:
    """([members]): that of each member."""
    given = torch.as_tensor(prediction, device=target.device)
    if members == 1:
        return np.asarray(_number(loss(given, target)))
    return np.asarray([_number(loss(one, target)) for one in given])


def _number(value: Tensor | float) -> float:
    plain = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return _checks.real_number("what loss gives", plain)
