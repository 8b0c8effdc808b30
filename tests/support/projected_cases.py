"""Inputs, float64 reference and error bounds of the kernel of a minGRU and its projection, interpreted and as compiled
alike."""

import torch
from torch import Tensor

from rnam.kernels.common.config import resolve_precision
from rnam.kernels.min_gru.projected import projected_forward
from rnam.kernels.min_gru.projected_config import projected_config
from tests.support import min_gru_cases
from tests.support.assertions import assert_within
from tests.support.block_cases import state_rounding
from tests.support.bounds import PRODUCT_ERROR, unit
from tests.support.min_gru_cases import ABS, FORMS, REL, ROUNDING, Case, Inputs, assert_state, gate_floor, with_one
from tests.support.oracle import decode, min_gru


def case(form: str, B: int, T: int, D: int, H: int, dtype: torch.dtype = torch.float32, **options) -> Case:
    """A case of the minGRU with a form ("time_rows" or "batch_rows") of the projection's table."""
    options = dict(F=1, precision="tf32x3") | options
    precision = resolve_precision(options["precision"], dtype)
    config = projected_config(FORMS[form], D, H, precision)
    return Case(B=B, T=T, D=D, H=H, dtype=dtype, config=config, **options)


def inputs(case: Case) -> tuple[Inputs, Tensor]:
    """Those of the minGRU, and W_out [F, H, D], exact in the dtype of the case."""
    generator = torch.Generator().manual_seed(case.seed + 1)
    out_weight = torch.randn(case.F, case.H, case.D, generator=generator) / case.H**0.5
    return min_gru_cases.inputs(case), out_weight.to(case.dtype).to(case.weight_dtype)


def exact(given: Inputs, out_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(y, h, h_last) step by step in float64."""
    h, h_last = min_gru(
        with_one(given.x, given.weight), given.weight, given.h0, *decode(given.flags), elapsed=given.elapsed
    )
    return h @ out_weight.double()[:, None], h, h_last


def output_bound(given: Inputs, out_weight: Tensor, wanted: tuple[Tensor, ...], precision: str) -> Tensor:
    """Of |y - exact y|: h errs as states may (`assert_state`), and is rounded once to enter the product; that is a sum
    of H float32, with the error of its precision, and is rounded once to be stored."""
    _, h, _ = wanted
    precision = "tf32x3 cut" if precision == "tf32x3" else precision
    half = given.x.dtype != torch.float32
    once = ROUNDING[given.x.dtype]
    d_h = (REL + (once if half else state_rounding(given, precision.removesuffix(" cut")))) * h.abs()
    d_h = d_h + ABS * h.abs().amax(2, keepdim=True) + gate_floor(given)
    product = (0.0 if half else PRODUCT_ERROR[precision]) + (h.shape[3] + 2) * unit(torch.float32)
    size = (h.abs() + d_h) @ out_weight.double().abs()[:, None]
    error = d_h @ out_weight.double().abs()[:, None] + product * size
    tiny = torch.finfo(given.x.dtype).smallest_normal * torch.finfo(given.x.dtype).eps  # spacing of the subnormals
    return error + once * (wanted[0].abs() + error) + tiny


def check(case: Case) -> tuple[Tensor, Tensor]:
    """One case against float64; gives (y, h_last)."""
    given, out_weight = inputs(case)
    wanted = exact(given, out_weight)
    options = dict(precision=case.precision, config=case.config)
    y, h_last = projected_forward(given.call(), out_weight, **options)
    assert y.dtype == case.dtype and y.is_contiguous() and h_last.dtype == torch.float32
    assert_within("y", y, wanted[0], output_bound(given, out_weight, wanted, case.precision))
    rounding = state_rounding(given, case.precision) if case.dtype == torch.float32 else 0.0
    assert_state(h_last, wanted[2], rounding=rounding, floor=gate_floor(given))
    return y, h_last
