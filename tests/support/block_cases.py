"""Inputs, float64 reference and error bounds of the kernel of a residual block, interpreted and as compiled alike."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam.kernels.block.backward import block_backward
from rnam.kernels.block.config import block_config
from rnam.kernels.block.forward import block_forward
from tests.support import feed_forward_cases, min_gru_cases
from tests.support.assertions import assert_within
from tests.support.bounds import PRODUCT_ERROR
from tests.support.min_gru_cases import (
    ABS,
    FORMS,
    NEAREST_U,
    REL,
    ROUNDING,
    TF32,
    Case,
    Inputs,
    assert_gradient,
    assert_state,
    with_one,
)
from tests.support.oracle import decode, min_gru


def case(form: str, B: int, T: int, D: int, dtype: torch.dtype = torch.float32, **options) -> Case:
    """A case of the minGRU with a form ("time_rows" or "batch_rows") of the block's table."""
    options = dict(F=1, precision="tf32x3") | options
    config = block_config(FORMS[form], D, dtype, options["precision"])
    return Case(B=B, T=T, D=D, H=D, dtype=dtype, config=config, **options)


def inputs(case: Case) -> tuple[Inputs, Tensor]:
    """Those of the minGRU, and the parameters of the feed-forward, gamma near 1."""
    generator, D = torch.Generator().manual_seed(case.seed + 1), case.D
    params = torch.randn(case.F, 2 * D * D + 4 * D, generator=generator) / D**0.5
    params[:, :D] = 1 + 0.1 * params[:, :D]
    return min_gru_cases.inputs(case), params.to(case.dtype)


def embedded_inputs(case: Case, K: int) -> tuple[Inputs, Tensor]:
    """`gradient_inputs` with K numbers a row in the place of x, no u nearer to the kink of g than NEAREST_U."""
    given, params = gradient_inputs(case)
    generator, (F, B, T, D) = torch.Generator().manual_seed(case.seed + 2), given.x.shape
    normal = lambda *shape: torch.randn(shape, generator=generator).to(case.dtype)
    weight, x = normal(F, K + 1, 2 * D), normal(F, B, T, K)
    for _ in range(200):
        u = pad(x.double(), (0, 1), value=1.0) @ weight.double()[:, None, :, :D]
        near = (u.abs() < NEAREST_U).any(3, keepdim=True)
        if not near.any():
            given.x, given.weight = x, weight.float()
            return given, torch.cat([params, normal(F, (K + 1) * D)], 1)
        x = torch.where(near, normal(F, B, T, K), x)
    raise AssertionError("no x keeps |u| away from 0")


def steps(
    x: Tensor, weight: Tensor, params: Tensor, h0: Tensor | None, flags: Tensor | None, elapsed: Tensor | None
) -> tuple[Tensor, ...]:
    """(y, h, h_last) step by step in the dtype of x; x is embedded if it is narrower than the block."""
    h, h_last = min_gru(with_one(x, weight), weight, h0, *decode(flags), dtype=x.dtype, elapsed=elapsed)
    y = feed_forward_cases.feed_forward(x.flatten(1, 2), params, h.flatten(1, 2))
    return y.view(h.shape), h, h_last


def exact(given: Inputs, params: Tensor) -> tuple[Tensor, ...]:
    """`steps` in float64."""
    h0 = None if given.h0 is None else given.h0.double()
    return steps(given.x.double(), given.weight.double(), params.double(), h0, given.flags, given.elapsed)


def state_rounding(given: Inputs, precision: str) -> Tensor | float:
    """The error that `assert_state` allows a stored h beyond its own share of |h|, [F, B, 1, D] or a number.

    The kernel multiplies float32 by hand (lanes.py). A product that is off by d moves z, and over the memory of the
    state a, by d of themselves, and v = g(u) by 2 d of itself at most.
    """
    if given.x.dtype != torch.float32:
        return ROUNDING[given.x.dtype]
    if precision != "tf32x3":
        return 0.0
    x = with_one(given.x.nan_to_num().double().abs(), given.weight)
    size = torch.einsum("fbtd,fdh->fbth", x, given.weight.double().abs())
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
    assert_within("y", y.flatten(1, 2), wanted[0].flatten(1, 2), bounds.y())


def check(case: Case, need_h: bool = True) -> tuple[Tensor, Tensor | None, Tensor]:
    """One case against float64; gives (y, h, h_last)."""
    given, params = inputs(case)
    wanted = exact(given, params)
    options = dict(precision=case.precision, config=case.config)
    y, h, h_last = block_forward(given.call(need_h=need_h), params, **options)
    assert y.dtype == case.dtype and y.is_contiguous() and h_last.dtype == torch.float32 and (h is not None) == need_h
    assert_output(y, given, params, wanted, case.precision)
    if h is not None:
        assert h.dtype == case.dtype
        assert_state(h, wanted[1], rounding=state_rounding(given, case.precision))
    rounding = state_rounding(given, case.precision) if case.dtype == torch.float32 else 0.0
    assert_state(h_last, wanted[2], rounding=rounding)
    return y, h, h_last


def gradient_inputs(case: Case) -> tuple[Inputs, Tensor]:
    """`inputs` with b1 at 6 and -6 in turn: rows of LN have norm sqrt(D) at most and columns of gamma W1 about 1, so
    no pre-activation is near 0, where relu changes its slope."""
    given, params = inputs(case)
    D = case.D
    params[:, 2 * D + D * D : 3 * D + D * D] = torch.where(torch.arange(D) % 2 == 0, 6.0, -6.0)
    return given, params


def exact_gradients(given: Inputs, params: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(dx, dpacked, dh0, d_elapsed) of the steps as PyTorch computes them in `dtype`, as float64; no gradient of what
    is not given."""
    packed = torch.cat([given.weight.double().flatten(1), params.double()], 1)
    elapsed = None if given.elapsed is None else given.elapsed.expand(given.x.shape[:3])
    tensors = given.x, packed, given.h0, elapsed
    leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in tensors]
    x, whole, h0, elapsed = leaves
    weight, rest = whole.tensor_split([given.weight[0].numel()], 1)
    y, _, h_last = steps(x, weight.unflatten(1, given.weight.shape[1:]), rest, h0, given.flags, elapsed)
    used = [t for t in leaves if t is not None]
    incoming = given.dh.to(dtype), given.dh_last.to(dtype)
    return tuple(g.double() for g in torch.autograd.grad((y, h_last), used, incoming))


def check_embedded(case: Case, K: int) -> tuple[Tensor, ...]:
    """The forward of K numbers a row against float64, by `check_backward`'s rule; gives (y, h, h_last)."""
    given, params = embedded_inputs(case, K)
    wanted = exact(given, params)
    plain = steps(
        *(None if t is None else t.to(case.dtype) for t in (given.x, given.weight, params, given.h0)),
        given.flags, given.elapsed,
    )  # fmt: skip
    got = block_forward(given.call(), params, precision=case.precision, config=case.config)
    band = REL + 4 * (0.0 if case.dtype == torch.float32 else ROUNDING[case.dtype])  # W, n, W2 and the result
    for name, g, w, p in zip(("y", "h", "h_last"), got, wanted, plain, strict=True):
        assert_gradient(name, g, w, p.double(), band)
    return got


# The products that a gradient passes through at most: W, W1, W2 back, W1 back, W back and the sum over steps.
PRODUCTS = 6


def check_backward(case: Case, K: int = 0) -> tuple[Tensor | None, ...]:
    """The backward of one case against float64, from the h of the steps; gives what it returned.

    A norm may err twice as much as that of PyTorch's steps in the dtype of the case, and by one rounding for each
    product on the way, whose first factor is rounded, h and the result.
    """
    given, params = embedded_inputs(case, K) if K else gradient_inputs(case)
    h = exact(given, params)[1].to(case.dtype)
    wanted, plain = (exact_gradients(given, params, dtype) for dtype in (torch.float64, case.dtype))
    tf32 = case.precision == "tf32" and case.dtype == torch.float32
    rounding = TF32 if tf32 else 0.0 if case.dtype == torch.float32 else ROUNDING[case.dtype]
    options = dict(precision=case.precision, config=case.config)
    got = block_backward(given.call(), params, h, given.dh, given.dh_last, **options)
    assert (got[2] is None) == (given.h0 is None) and (got[3] is None) == (given.elapsed is None)
    D = case.D
    sizes = [given.weight[0].numel(), D, D, D * D, D, D * D, D, *((K * D, D) if K else ())]
    names = ["dw", "dgamma", "dbeta", "dw1", "db1", "dw2", "db2", *(("dw_e", "db_e") if K else ())]
    band = REL + (PRODUCTS + 2) * rounding
    found = [g for g in got if g is not None]
    kinds = [
        "dx",
        "dpacked",
        *(["dh0"] if given.h0 is not None else []),
        *(["d_elapsed"] if given.elapsed is not None else []),
    ]
    for index, kind in enumerate(kinds):
        assert found[index].dtype == (case.dtype if kind == "dx" else torch.float32), kind
        pieces = [t[index].split(sizes, 1) if index == 1 else [t[index]] for t in (found, wanted, plain)]
        for piece, *tensors in zip(names if index == 1 else [kind], *pieces, strict=True):
            assert_gradient(piece, *tensors, band)
    return got
