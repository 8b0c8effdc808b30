"""Launches over times with a bias, of every kernel that takes both, to be compiled and not run."""

from collections.abc import Iterator

import torch

from rnam.kernels import MIN_GRU
from rnam.kernels.block import backward as block_backward
from rnam.kernels.block import forward as block_forward
from rnam.kernels.block.config import block_backward_config, block_config
from rnam.kernels.common.launch import Launch
from rnam.kernels.min_gru import backward, forward, projected
from rnam.kernels.min_gru.config import table_config
from rnam.kernels.min_gru.projected_config import projected_config
from rnam.kernels.scan import gates_backward, gates_forward
from tests.support.calls import Call

BATCH, STEPS, WIDTH = 16, 64, 16
MANY = 1200  # batch rows of which time is not cut


def timed_launches(dtype: torch.dtype, precision: str) -> Iterator[tuple[str, Launch]]:
    """(name, launch) of each."""
    x, state = torch.empty(1, BATCH, STEPS, WIDTH, dtype=dtype), torch.empty(1, BATCH, 1, WIDTH)
    weight, times = torch.empty(1, WIDTH + 1, 2 * WIDTH), torch.empty(1, BATCH, STEPS)
    params, out_weight = torch.empty(1, 2 * WIDTH * WIDTH + 4 * WIDTH), torch.empty(1, WIDTH, WIDTH)
    call, given = Call(x, weight, state, elapsed=times), dict(precision=precision)
    for form in (False, True):
        widths = form, WIDTH, WIDTH, dtype, precision
        for space, pass_ in (("linear", "forward"), ("log", "log")):
            timed = call._replace(space=space)
            yield pass_, forward.forward_launches(timed, x, state, config=table_config(pass_, *widths), **given)[-1]
        config = table_config("backward", *widths, timed=True)
        launches, _ = backward.backward_launches(
            call, x, x, state, x, state, True, d_elapsed=times, config=config, **given
        )
        yield "backward", launches[-1]
        config = block_config(form, WIDTH, dtype, precision)
        yield "block", block_forward.forward_launches(call, params, x, None, state, config=config, **given)[-1]
        config = block_backward_config(form, WIDTH, dtype, precision)
        needs = (True, True, True, True)
        yield (
            "block backward",
            block_backward.backward_launch(call, params, x, x, state, needs=needs, config=config, **given),
        )
        config = projected_config(form, WIDTH, WIDTH, precision)
        yield "projected", projected.forward_launches(call, out_weight, x, state, config=config, **given)[-1]
    h, preacts = torch.empty(1, MANY, 40, 96, dtype=dtype), torch.empty(1, MANY, 40, 192, dtype=dtype)
    state, partials = torch.empty(1, MANY, 1, 96), torch.empty(1, MANY, 3, 40)
    call = Call(h, None, state, elapsed=torch.empty(1, MANY, 40))
    yield "gates", gates_forward.forward_launches(preacts, call, MIN_GRU, h, state)[0]
    yield (
        "gates backward",
        gates_backward.backward_launches(preacts, call, MIN_GRU, h, h, state, preacts, state, d_elapsed=partials)[0],
    )
