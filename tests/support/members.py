"""One model of an ensemble."""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def member(whole: Any, single: Any, k: int) -> Any:
    """`single`, a model without members, with the parameters of member k."""
    state = single.state_dict()
    for key, value in whole.state_dict().items():
        if value.shape == state[key].shape:
            state[key] = value
        elif key == "gam.bias":
            state[key] = value[k]
        else:
            state[key] = value.unflatten(0, (whole.members, -1))[k]
    single.load_state_dict(state)
    return single
