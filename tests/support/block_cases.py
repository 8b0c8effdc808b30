"""Inputs, float64 reference and error bounds of the kernel of a residual block, interpreted and as compiled alike."""

import torch
from torch import Tensor

from rnam.kernels.block import block_forward
from rnam.kernels.config_block import block_config
from tests.support import feed_forward_cases, min_gru_cases
from tests.support.bounds import PRODUCT_ERROR
from tests.support.coded_oracle import min_gru
from tests.support.min_gru_cases import ABS, REL, ROUNDING, Case, Inputs, assert_state


def case(form: str, B: int, T: int, D: int, dtype: torch.dtype = torch.float32, **options) -> Case:
    """A case of the minGRU with a form ("SEG" or "SEQ") of the block's table."""
    options = dict(F=1, precision="tf32x3") | options
    config = block_config(form == "SEQ", D, dtype, options["precision"])
    return Case(B=B, T=T, D=D, H=D, dtype=dtype, config=config, **options)


def inputs(case: Case) -> tuple[Inputs, Tensor]:
    """Those of the minGRU, and the parameters of the feed-forward, gamma near 1."""
    generator, D = torch.Generator().manual_seed(case.seed + 1), case.D
    params = torch.randn(case.F, 2 * D * D + 4 * D, generator=generator) / D**0.5
    params[:, :D] = 1 + 0.1 * params[:, :D]
    return min_gru_cases.inputs(case), params.to(case.dtype)


def exact(given: Inputs, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(y, h, h_last) step by step in float64."""
    h0 = None if given.h0 is None else given.h0.double()
    h, h_last = min_gru(given.x.double(), given.weight.double(), h0, given.codes)
    rows = (t.flatten(1, 2) for t in (given.x.double(), h))
    y = feed_forward_cases.feed_forward(next(rows), params.double(), *rows)
    return y.view(given.x.shape), h, h_last


def state_rounding(given: Inputs, precision: str) -> Tensor | float:
    """What `assert_state` allows a stored h beyond its own share of |h|, [F, B, 1, D] or a number.

    The kernel multiplies float32 by hand (lanes.py). A product that is off by d moves z, and over the memory of the
    state a, by d of themselves, and v = g(u) by 2 d of itself at most.
    """
    if given.x.dtype != torch.float32:
        return ROUNDING[given.x.dtype]
    if precision != "tf32x3":
        return 0.0
    size = torch.einsum("fbtd,fdh->fbth", given.x.nan_to_num().double().abs(), given.weight.double().abs())
    u, k = size.chunk(2, dim=3)
    share: Tensor = PRODUCT_ERROR["tf32x3 cut"] * (2 * k + 2 * u).amax(2, keepdim=True)
    return share


def assert_output(
    y: Tensor, given: Inputs, params: Tensor, wanted: tuple[Tensor, ...], precision: str, *, rounded: bool = False
) -> None:
    """y within the bound of a feed-forward whose h errs as much as states may (`assert_state`), and is `rounded` once
    more or not."""
    x, h = given.x.flatten(1, 2), wanted[1].flatten(1, 2)
    relative = REL + (ROUNDING[x.dtype] if rounded else 0.0)
    if x.dtype == torch.float32:
        relative = relative + state_rounding(given, precision)
    d_h = (relative * wanted[1].abs() + ABS * wanted[1].abs().amax(2, keepdim=True)).flatten(1, 2)
    precision = "tf32x3 cut" if precision == "tf32x3" else precision
    bounds = feed_forward_cases.Bounds(x, params, h, torch.zeros_like(x), precision, d_h)
    feed_forward_cases.assert_within("y", y.flatten(1, 2), wanted[0].flatten(1, 2), bounds.y())


def check(case: Case, need_h: bool = True) -> tuple[Tensor, Tensor | None, Tensor]:
    """One case against float64; gives (y, h, h_last)."""
    given, params = inputs(case)
    wanted = exact(given, params)
    options = dict(need_h=need_h, precision=case.precision, config=case.config)
    y, h, h_last = block_forward(given.x, given.weight, params, given.h0, given.codes, **options)
    assert y.dtype == case.dtype and y.is_contiguous() and h_last.dtype == torch.float32 and (h is not None) == need_h
    assert_output(y, given, params, wanted, case.precision)
    if h is not None:
        assert h.dtype == case.dtype
        assert_state(h, wanted[1], rounding=state_rounding(given, case.precision))
    rounding = state_rounding(given, case.precision) if case.dtype == torch.float32 else 0.0
    assert_state(h_last, wanted[2], rounding=rounding)
    return y, h, h_last
