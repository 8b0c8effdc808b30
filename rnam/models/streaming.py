"""The state that `RNAM.step` gives and takes, and its check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rnam import _checks

__all__ = ["Layout", "State", "check_state", "of_its_own"]

# hidden: for each block (members * terms, batch, 1, hidden_dim); contributions: those after the step, (members * terms,
# batch, out_dim); observed: the terms that were so far, (terms, batch); with timing last_visit and visited, (batch,);
# with static terms static and static_observed, as contributions and observed
State = dict[str, Any]

Shape = tuple[str, Sequence[int]]  # the names of the dimensions, and their sizes
Check = Callable[[str, object], None]  # of a dtype


@dataclass
class Layout:
    """The entries of a state that fits a model and an input: `blocks` hidden states, and tensors by name."""

    input: Tensor
    blocks: int
    hidden: Shape
    entries: dict[str, tuple[Shape, Check]] = field(default_factory=dict)

    def entry(self, name: str, names: str, sizes: Sequence[int], check: Check = _checks.floating) -> None:
        self.entries[name] = (names, sizes), check


def check_state(state: object, layout: Layout) -> None:
    """Raises TypeError or ValueError unless `state` has the layout."""
    keys = {"hidden", *layout.entries}
    if not isinstance(state, dict):
        raise TypeError(f"state must be None or a dict that step returned, got {type(state).__name__}")
    if set(state) != keys:
        raise ValueError(f"state must have the entries {sorted(keys)}, got {sorted(map(str, state))}")
    if not isinstance(state["hidden"], list | tuple):
        raise TypeError(f"state['hidden'] must be a list of tensors, got {type(state['hidden']).__name__}")
    if len(state["hidden"]) != layout.blocks:
        raise ValueError(f"state['hidden'] must have {layout.blocks} tensors, got {len(state['hidden'])}")
    for n, h in enumerate(state["hidden"]):
        _checks.state(f"state['hidden'][{n}]", h, *layout.hidden, "input", layout.input)
    for name, (shape, check) in layout.entries.items():
        label = f"state['{name}']"
        check(label, state[name])
        _checks.shape(label, state[name], *shape)
        _checks.device(label, state[name], "input", layout.input)


def of_its_own(state: State) -> State:
    """The state in memory that nothing else has: the caller may change in place what a step was given and returned, and
    so may whoever keeps the state before. Hidden states are made anew by every step."""
    return {name: value if name == "hidden" else value.clone() for name, value in state.items()}
