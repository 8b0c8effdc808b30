"""One step at a time: what `RNAM.step` does, from the state that it gives and takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnam import _checks
from rnam.additive import join, share

if TYPE_CHECKING:
    from rnam.model import RNAM

__all__ = ["State", "step"]

# hidden: for each block (members * terms, batch, 1, hidden_dim); contributions: those after the step, (members * terms,
# batch, out_dim); observed: the terms that were so far, (terms, batch); with timing last_visit and visited, (batch,);
# with static terms static and static_observed, as contributions and observed
State = dict[str, Any]


def step(
    model: RNAM,
    input: Tensor,
    state: State | None,
    mask: Tensor | None,
    times: Tensor | None,
    static: Tensor | None,
    static_mask: Tensor | None,
    return_members: bool,
) -> tuple[Tensor, Tensor, State]:
    by_columns = model.columns is not None
    _checks.floating("input", input)
    _checks.rank("input", input, "batch, columns" if by_columns else "terms, batch, in_dim")
    if mask is not None:
        _checks.boolean("mask", mask)
        if by_columns:
            _checks.rank("mask", mask, "batch, columns")
        mask = mask.unsqueeze(1) if by_columns else mask.unsqueeze(-1)
    if times is not None:
        _checks.tensor("times", times)
        _checks.rank("times", times, "batch")
        times = times.unsqueeze(1)
    before = None
    if state is not None:
        _check_state(model, input, state)
        before = (state["last_visit"], state["visited"]) if model.timing else None
    x, observed, visits = model._read(input.unsqueeze(-2), mask, None, times, before)
    seen = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if observed is None else observed.squeeze(-1)
    x, moves = share(x, model.members), None if observed is None else share(observed, model.members)
    hidden = []
    x, embedding = model.emb.before(x)
    for n, block in enumerate(model.blocks):
        x, h = block.step(x, None if state is None else state["hidden"][n], moves, embedding)  # type: ignore[operator]
        embedding = None
        hidden.append(h)
    contributions: Tensor = model.proj(x).squeeze(2)
    if moves is not None:
        held = model._before(contributions) if state is None else state["contributions"]
        contributions = torch.where(moves, contributions, held)
    if state is not None:
        seen = seen | state["observed"]
    after: State = {"hidden": hidden, "contributions": contributions, "observed": seen}
    if visits is not None:
        after |= {"last_visit": visits.last, "visited": visits.any}
    if state is not None and static is None and model.static_columns is not None:
        constant, constant_seen = state["static"], state["static_observed"]
    else:
        constant, constant_seen = model._from_static(static, static_mask, x.shape[1])
    if constant is not None:
        after |= {"static": constant, "static_observed": constant_seen}
    return *model.gam(join(contributions, constant, model.members), return_members), after


def _check_state(model: RNAM, input: Tensor, state: object) -> None:
    keys = {"hidden", "contributions", "observed"}
    if model.timing:
        keys |= {"last_visit", "visited"}
    if model.static_columns is not None:
        keys |= {"static", "static_observed"}
    if not isinstance(state, dict):
        raise TypeError(f"state must be None or a dict that step returned, got {type(state).__name__}")
    if set(state) != keys:
        raise ValueError(f"state must have the entries {sorted(keys)}, got {sorted(state)}")
    if len(state["hidden"]) != len(model.blocks):
        raise ValueError(f"state['hidden'] must have {len(model.blocks)} tensors, got {len(state['hidden'])}")
    (terms, _, hidden), batch, out = model.emb.weight.shape, input.shape[-2], model.gam.bias.shape[-1]
    for n, h in enumerate(state["hidden"]):
        _checks.state(
            f"state['hidden'][{n}]", h, "terms, batch, 1, hidden_dim", (terms, batch, 1, hidden), "input", input
        )
    parts = {
        "contributions": ("terms, batch, out_dim", (terms, batch, out)),
        "observed": ("terms, batch", (terms // model.members, batch)),
        "last_visit": ("batch", (batch,)),
        "visited": ("batch", (batch,)),
    }
    if model.static_columns is not None:
        others = len(model.static_columns.columns)
        parts["static"] = "static terms, batch, out_dim", (model.members * others, batch, out)
        parts["static_observed"] = "static terms, batch", (others, batch)
    for name in (name for name in parts if name in keys):
        label = f"state['{name}']"
        check = _checks.boolean if name in ("observed", "visited", "static_observed") else _checks.tensor
        check(label, state[name])
        _checks.shape(label, state[name], *parts[name])
        _checks.device(label, state[name], "input", input)
