"""The state that a model carries from step to step and from chunk to chunk: `State`, and its check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Union, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import MappingKey, _register_namedtuple, register_pytree_node

from rnam import _checks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Layout", "State", "Streamed", "check_state", "row_dim"]

Rows = Union[slice, Sequence[int], "NDArray[Any]", Tensor]
Layout = dict[str, tuple[str, tuple[int, ...]]]  # of each entry: the names of the dimensions, and their sizes

_TIMES = ("last_visit", "last_times")  # of any dtype that times may have
_FLAGS = ("observed", "visited", "static_observed")
_ROWS_FIRST = ("last_visit", "visited")  # the rows of the others are the second dimension


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """The memory of an `rnam.RNAM` after some steps. `step` and `forward` return one and take it again.

    A row is a sequence of the batch. The tensors are attributes, and entries by name: `state["hidden"]`. Those that the
    model has no use for are None, and are no entries. torch.save writes a state, and torch.load(weights_only=True)
    reads it where rnam is imported. A state is a pytree: torch.compile and torch.export take and give it.

    Args:
        hidden: for each block (members * terms, batch, 1, hidden_dim), float32 for half precision. The timing term
            counts as a term.
        contributions: those of the last observed step, (members * terms, batch, out_dim), 0 before the first.
        observed: bool (terms, batch), the terms that were observed so far.
        last_visit, visited: (batch,), with `timing`: the time of the last visit, and whether there was one.
        last_times: (terms, batch), with `continuous`: the time of the last observed step of each recurrent term and of
            the timing term.
        static, static_observed: with `static_columns`, as contributions and observed.

    Example:
        >>> model = rnam.RNAM(3, hidden_dim=8, out_dim=1, blocks=2)
        >>> _, _, state = model(torch.randn(3, 4, 10, 1), return_state=True)
        >>> state
        State(rows=4, hidden, contributions, observed)
        >>> both = rnam.State.cat([state[:1], state[torch.tensor([3, 2])]])
        >>> both.reset([0]).observed[0]
        tensor([False,  True,  True])
    """

    hidden: list[Tensor]
    contributions: Tensor
    observed: Tensor
    last_visit: Tensor | None = None
    visited: Tensor | None = None
    last_times: Tensor | None = None
    static: Tensor | None = None
    static_observed: Tensor | None = None

    @property
    def rows(self) -> int:
        """The number of rows, the batch."""
        return self.observed.shape[1]

    @overload
    def __getitem__(self, rows: str) -> Any: ...
    @overload
    def __getitem__(self, rows: Rows) -> State: ...
    def __getitem__(self, rows: str | Rows) -> Any:
        """An entry by its name, or the state of some rows, in memory of its own.

        Args:
            rows: a slice, the numbers of the rows, or bool (batch,).

        Raises:
            KeyError: there is no entry of this name.
            TypeError, ValueError, IndexError: rows are none of these.
        """
        if isinstance(rows, str):
            if rows not in self:
                raise KeyError(rows)
            return getattr(self, rows)
        chosen = _chosen(rows, self.rows, self.observed)
        return self.map(lambda name, value: value[(slice(None),) * row_dim(name) + (chosen,)].clone())

    @staticmethod
    def cat(states: Sequence[State]) -> State:
        """One state of the rows of several, in order.

        Raises:
            TypeError: there is one that is no State.
            ValueError: there is none, or they are not of one model.
        """
        if not isinstance(states, Sequence):
            raise TypeError(f"states must be a sequence of State, got {type(states).__name__}")
        if not states:
            raise ValueError("states must have at least one, got none")
        for n, state in enumerate(states):
            if not isinstance(state, State):
                raise TypeError(f"states[{n}] must be a State, got {type(state).__name__}")
            if (own := state._kind()) != (expected := states[0]._kind()):
                raise ValueError(f"states[{n}] must be of the model of states[0], {expected}, got {own}")

        def join(name: str, *values: Tensor) -> Tensor:
            mixed = len({value.is_floating_point() for value in values}) > 1
            return torch.cat([value.double() if mixed else value for value in values], dim=row_dim(name))

        return states[0].map(join, *states[1:])

    def reset(self, rows: Rows) -> State:
        """The state in which these rows are as before any step; the others are as they were.

        Their static terms, too, are not observed until `static` is given again.

        Args:
            rows: as in `state[rows]`.
        """
        chosen = _chosen(rows, self.rows, self.observed)
        there = torch.zeros(self.rows, dtype=torch.bool, device=self.observed.device)
        there[chosen] = True

        def clear(name: str, value: Tensor) -> Tensor:
            return value.masked_fill(there.view(-1, *(1,) * (value.dim() - 1 - row_dim(name))), 0)

        return self.map(clear)

    def map(self, function: Callable[..., Tensor], *others: State) -> State:
        """The state of what a function makes of each tensor.

        Args:
            function: of the name of an entry and its tensor, and that of each of `others`; called for each tensor of
                `hidden`.
            others: states of the same model.

        Example:
            >>> model = rnam.RNAM(2, hidden_dim=8, out_dim=1, blocks=2)
            >>> _, _, state = model(torch.randn(2, 4, 10, 1), return_state=True)
            >>> state.map(lambda name, value: torch.zeros_like(value)).observed.any()
            tensor(False)
        """
        made: dict[str, Any] = {}
        for name, value in self.items():
            values = [value, *(getattr(other, name) for other in others)]
            if name == "hidden":
                made[name] = [function(name, *each) for each in zip(*values, strict=True)]
            else:
                made[name] = function(name, *values)
        return State(**made)

    def detach(self) -> State:
        """The state without its graph, as for truncated backpropagation through time. It shares its memory."""
        return self.map(lambda name, value: value.detach())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> State:
        """The state on another device, in its dtypes.

        Raises:
            TypeError: `device` is none.
        """
        if not isinstance(device, torch.device | str):
            raise TypeError(f"device must be a device or its name, got {device!r}")
        return self.map(lambda name, value: value.to(device, non_blocking=non_blocking))

    def keys(self) -> tuple[str, ...]:
        """The names of the entries."""
        return tuple(name for name in _NAMES if getattr(self, name) is not None)

    def items(self) -> tuple[tuple[str, Any], ...]:
        """The entries with their names: `dict(state.items())` has tensors and a list of tensors alone."""
        return tuple((name, value) for name in _NAMES if (value := getattr(self, name)) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __repr__(self) -> str:
        return f"State(rows={self.rows}, {', '.join(self.keys())})"

    def _kind(self) -> dict[str, Any]:
        """The same for all states of one model: entries, and their sizes without the rows, dtypes and device."""

        def kind(name: str, value: Tensor) -> Any:
            sizes = tuple(size for dim, size in enumerate(value.shape) if dim != row_dim(name))
            return (*sizes, None if name in _TIMES else value.dtype, value.device)

        return {
            name: [kind(name, each) for each in value] if name == "hidden" else kind(name, value)
            for name, value in self.items()
        }


class Streamed(NamedTuple):
    """The output of an additive model, with its state. contributions.sum(0) + bias is prediction."""

    prediction: Tensor
    contributions: Tensor
    state: State


_NAMES = tuple(field.name for field in fields(State))


def _flatten(state: State) -> tuple[list[Any], list[str]]:
    return [value for _, value in state.items()], list(state.keys())


def _flatten_with_keys(state: State) -> tuple[list[tuple[Any, Any]], list[str]]:
    """By key: in a program of torch.export, state.static would be read in state.static_observed."""
    return [(MappingKey(name), value) for name, value in state.items()], list(state.keys())


def _unflatten(values: Iterable[Any], names: list[str]) -> State:
    return State(**dict(zip(names, values, strict=True)))


# so that torch.export writes a state, under a name that stays, and torch.load takes one without running code
register_pytree_node(
    State, _flatten, _unflatten, serialized_type_name="rnam.State", flatten_with_keys_fn=_flatten_with_keys
)
_register_namedtuple(Streamed, serialized_type_name="rnam.Streamed")
torch.serialization.add_safe_globals([State])


def row_dim(name: str) -> int:
    """The dimension of the rows in an entry of a state, of this name."""
    return 0 if name in _ROWS_FIRST else 1


def _chosen(rows: object, batch: int, like: Tensor) -> slice | Tensor:
    """`rows` as an index of one dimension."""
    if isinstance(rows, slice):
        return rows
    if isinstance(rows, np.ndarray | Sequence) and not isinstance(rows, str):
        given = np.ascontiguousarray(rows)  # torch takes no array that runs backwards
        rows = torch.as_tensor(given, device=like.device) if len(given) else torch.zeros(0, dtype=torch.int64)
    if not isinstance(rows, Tensor):
        expected = "a slice, a sequence of ints or a tensor"
        raise TypeError(f"rows must be {expected} (of one row, state[n : n + 1]), got {type(rows).__name__}")
    _checks.rank("rows", rows, "rows")
    if rows.dtype == torch.bool:
        _checks.shape("rows", rows, "batch", (batch,))
        return rows
    return _checks.integer("rows", rows)


def check_state(state: object, layout: Layout, blocks: int, like: Tensor) -> State:
    """`state` where it fits a model of so many blocks and has the layout, on the device of `like`.

    A dict of these entries, which `step` returned in version 0.2, is a state.

    Raises:
        TypeError, ValueError: it does not.
    """
    if not isinstance(state, State | Mapping):
        raise TypeError(f"state must be None or a State that step or forward returned, got {type(state).__name__}")
    entries: dict[Any, Any] = dict(state.items())
    if entries.keys() != layout.keys():
        raise ValueError(f"state must have the entries {sorted(layout)}, got {sorted(map(str, entries))}")
    hidden = entries["hidden"]
    if not isinstance(hidden, list | tuple):
        raise TypeError(f"state['hidden'] must be a list of tensors, got {type(hidden).__name__}")
    if len(hidden) != blocks:
        raise ValueError(f"state['hidden'] must have {blocks} tensors, got {len(hidden)}")
    for n, h in enumerate(hidden):
        _checks.state(f"state['hidden'][{n}]", h, *layout["hidden"], "input", like)
    for name, shape in layout.items():
        if name != "hidden":
            label, value = f"state['{name}']", entries[name]
            check = _checks.boolean if name in _FLAGS else _checks.tensor if name in _TIMES else _checks.floating
            check(label, value)
            _checks.shape(label, value, *shape)
            _checks.device(label, value, "input", like)
    return state if isinstance(state, State) else State(**entries)
