"""The results of the kernels on a device, against the float64 reference there: inputs, references and budgets."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import rnam
from rnam import functional, kernels, reference
from rnam.backends.calls import Recurrence
from rnam.backends.cells import CELLS
from rnam.kernels import MASKED, MIN_GRU, RESET
from rnam.kernels.min_gru.config import table_config
from tests.gpu.shapes import DEVICE, LayerCase, LinearCase, ScanCase
from tests.support import min_gru_cases, scan_bounds
from tests.support.assertions import assert_norm_within, assert_within
from tests.support.min_gru_cases import ABS, LAYOUTS, REL, ROUNDING, TF32, Inputs, assert_gradient, tf32_exact

# tf32 keeps 10 bits behind the leading one: cut off there, a factor is wrong by up to 2^-10 of itself, a product by
# twice that.
TF32_PRODUCT = 2.0**-9

# tf32x3 writes a factor as two tf32 numbers and drops the product of the two remainders, and each remainder is rounded:
# three errors of 2^-22 of a product.
TF32X3_PRODUCT = 3 * 2.0**-22

# The bound of tf32 is of first order in an error of k of up to 0.05; the second order is half of that.
SECOND_ORDER = 1.05

# The largest slope of an activation (gelu) and the elements of relu that are left out, because two roundings of a
# number nearer to 0 than this may fall on different sides of it.
STEEPEST, NEAR_ZERO = 1.13, 1e-4


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """For references: PyTorch may use what it has no deterministic form of, and needs no NaN in its buffers."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def on_kernels(precision: str = "tf32x3") -> Iterator[None]:
    """The kernels compute, and nothing else; float32 products have this precision ("tf32" or "tf32x3")."""
    setting = torch.backends.cuda.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        with rnam.set_backend("triton"):
            yield
    finally:
        setting.fp32_precision = before


def layer_inputs(case: LayerCase) -> Inputs:
    """Random inputs, exact in the dtype of the case and (unless generic) in tf32, with |u| >= NEAREST_U."""
    generator = torch.Generator(DEVICE).manual_seed(case.seed)
    normal = lambda *shape: torch.randn(shape, generator=generator, device=DEVICE)
    exact = case.dtype == torch.float32 and case.precision == "tf32" and not case.generic
    round_: Callable[[Tensor], Tensor] = tf32_exact if exact else lambda x: x.to(case.dtype)
    F, B, T, D, H = case.F, case.B, case.T, case.D, case.H
    shift = min_gru_cases.SHIFTS.get(case.gate)
    weight = round_(normal(F, D, 2 * H) / D**0.5)
    if case.gate == "saturated":
        weight[:, 0, H:] = 60 * weight[:, 0, H:].sign()
        weight[:, 1:, H:] = 0
    elif shift is not None:
        weight[:, 0, H:] += shift
        weight = round_(weight.float())

    def draw() -> Tensor:
        x = round_(normal(F, B, T, D))
        if shift is not None:
            x[..., 0] = 1
        return x

    lay_out = LAYOUTS[case.x_layout]
    x = lay_out(draw())
    for _ in range(200):
        u = x.double() @ weight.double()[:, None, :, :H]
        near = (u.abs() < min_gru_cases.NEAREST_U).any(3, keepdim=True)
        if not near.any():
            break
        x = lay_out(torch.where(near, draw(), x.contiguous()))
    else:
        raise AssertionError("no x keeps |u| away from 0")
    flags = None
    if case.flags:
        shape = {"shared": (1, B, T), "own": (F, B, T), "rows": (1, 1, T)}[case.flags]
        flags = torch.randint(0, 8, shape, generator=generator, dtype=torch.uint8, device=DEVICE)
        flags = flags * (flags <= MASKED | RESET)
    dh = LAYOUTS[case.dh_layout](round_(normal(F, B, T, H)))
    return Inputs(x, weight, normal(F, B, 1, H).abs() if case.h0 else None, flags, dh, normal(F, B, 1, H))


def mask_and_reset(flags: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if flags is None else ((flags & MASKED) == 0, (flags & RESET) != 0)


def _in_half_precision(
    x: Tensor, weight: Tensor, h0: Tensor | None, mask: Tensor | None, reset: Tensor | None
) -> Tensor:
    """minGRU as a PyTorch program in half precision: products and gates are rounded to it, the scan is float32."""
    x = x if mask is None else torch.where(mask[..., None], x, 0)
    u, k = (x @ weight[:, None]).chunk(2, -1)
    a, b = torch.sigmoid(-k), torch.sigmoid(k) * torch.where(u >= 0, u + 0.5, torch.sigmoid(u))
    if mask is not None:
        a, b = torch.where(mask[..., None], a, 1), torch.where(mask[..., None], b, 0)
    if reset is not None:
        a = torch.where(reset[..., None], 0, a)
    return reference.linear_scan(a, b, h0)


def layer_reference(given: Inputs, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(h, h_last, dx, dw[, dh0]) in plain PyTorch of a dtype, as float64: in float64 it is what is right."""
    half_precision = dtype in (torch.bfloat16, torch.float16)
    leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in (given.x, given.weight, given.h0)]
    x, weight, h0 = leaves
    flags = mask_and_reset(given.flags)
    with plain_torch():
        if half_precision:
            h = _in_half_precision(x, weight, h0, *flags)
            h_last = h[:, :, -1:]
        else:
            h, h_last = reference.recurrence(Recurrence(x, weight, h0, flags=given.flags), CELLS["mingru"])
        used = [t for t in leaves if t is not None]
        gradients = torch.autograd.grad((h, h_last), used, (given.dh.to(dtype), given.dh_last.to(h_last.dtype)))
    return tuple(t.detach().double() for t in (h, h_last, *gradients))


def layer_on_kernels(case: LayerCase, given: Inputs) -> tuple[Tensor, ...]:
    """(h, h_last, dx, dw[, dh0]): by the launchers in the form of the case, or through autograd in the table's."""
    if case.config is None:
        leaves = [t if t is None else t.detach().requires_grad_() for t in (given.x, given.weight, given.h0)]
        mask, reset = mask_and_reset(given.flags)
        with on_kernels(case.precision):
            h, h_last = functional.min_gru(*leaves, mask=mask, reset=reset, space=case.space)
            used = [t for t in leaves if t is not None]
            return h, h_last, *torch.autograd.grad((h, h_last), used, (given.dh, given.dh_last))
    form, widths = case.config.batch_rows, (case.D, case.H, case.dtype, case.precision)
    config = table_config("log" if case.space == "log" else "forward", form, *widths)
    call, precision = given.call(space=case.space), case.precision
    h, h_last = kernels.recurrence_forward(call, MIN_GRU, precision=precision, config=config)
    config = table_config("backward", form, *widths)
    got = kernels.recurrence_backward(call, MIN_GRU, h, given.dh, given.dh_last, precision=precision, config=config)
    assert (got[2] is None) == (given.h0 is None)
    return h, h_last, *(g for g in got if g is not None)


def tf32_bound(given: Inputs) -> Tensor:
    """|h - exact h| that tf32 products may cause, element by element, for inputs without flags.

    To first order an error e_u of u and e_k of k adds z g'(u) e_u + z a (v - h_{t-1}) e_k to a step, and the
    recurrence carries it on.
    """
    x, weight = given.x.double(), given.weight.double()
    u, k = (x @ weight[:, None]).chunk(2, -1)
    e_u, e_k = (TF32_PRODUCT * (x.abs() @ weight.abs()[:, None])).chunk(2, -1)
    z, a, low = torch.sigmoid(k), torch.sigmoid(-k), torch.sigmoid(u)
    v, slope = torch.where(u >= 0, u + 0.5, low), torch.where(u >= 0, 1.0, low * (1 - low))
    start = torch.zeros_like(u[:, :, :1]) if given.h0 is None else given.h0.double()
    before = torch.cat([start, reference.linear_scan(a, z * v, start)[:, :, :-1]], 2)
    added = z * slope * e_u + z * a * (v - before).abs() * e_k
    return SECOND_ORDER * reference.linear_scan(a, added, None)


def check_layer(case: LayerCase) -> None:
    """Forward and backward of a minGRU against the float64 reference."""
    given = layer_inputs(case)
    exact, plain = layer_reference(given, torch.float64), layer_reference(given, case.dtype)
    h, h_last, *gradients = layer_on_kernels(case, given)
    assert h.dtype == case.dtype and h_last.dtype == torch.float32 and h.is_contiguous()
    assert h_last.untyped_storage().data_ptr() != h.untyped_storage().data_ptr()
    largest = exact[0].abs().amax(2, keepdim=True)
    if given.h0 is not None:
        largest = torch.maximum(largest, given.h0.double().abs())
    rounding = 0.0 if case.dtype == torch.float32 else ROUNDING[case.dtype]
    budget = ABS * largest + REL * exact[0].abs()
    apart = case.config is None and not kernels.min_gru_is_fused(case.D, case.H, case.dtype, _pass(case))
    if apart or case.gate == "closed":
        # apart: a product by cuBLAS, which rounds to the dtype before the gates; closed: z is 1e-9 and 1 - z rounds to
        # 1, so what thousands of steps take from the state is lost in any float32 program
        budget = budget + 2 * (plain[0] - exact[0]).abs().amax(2, keepdim=True)
    if case.generic:
        assert_norm_within("h", h, exact[0], TF32 * exact[0].norm())
        budget = budget + tf32_bound(given)
    assert_within("h", h, exact[0], budget + rounding * exact[0].abs())
    assert_within("h_last", h_last, exact[1], budget[:, :, -1:])
    # du, dk and the result are rounded once each; REL is for the sums
    band = REL + 2 * rounding + (TF32 if case.precision == "tf32" and case.dtype == torch.float32 else 0.0)
    names, likes = ("dx", "dw", "dh0"), (given.x, given.weight, given.h0)
    assert len(gradients) == len(exact) - 2
    for name, got, like, want, same in zip(names, gradients, likes, exact[2:], plain[2:], strict=False):
        assert got.dtype == like.dtype, name
        assert_gradient(name, got, want, same, band + ROUNDING[got.dtype])
    if given.flags is not None:
        masked = ((given.flags & MASKED) != 0).expand(h.shape[:3])
        assert (gradients[0][masked] == 0).all(), "dx at masked steps"


def _pass(case: LayerCase) -> str:
    return "log" if case.space == "log" else "forward"


def scan_inputs(case: ScanCase) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Coefficients, values, start and the gradient of the states, in the layout of the case."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    draw = lambda kind, *shape: kind(shape, generator=generator, device=DEVICE)
    shape, lay_out = (case.F, case.B, case.T, case.H), LAYOUTS[case.layout]
    a, b, dh = draw(torch.rand, *shape).clamp(1e-3), draw(torch.randn, *shape), draw(torch.randn, *shape)
    h0 = draw(torch.randn, case.F, case.B, 1, case.H) if case.h0 else None
    a = a.log() if case.log else torch.where(draw(torch.rand, *shape) < 0.5, a, -a)
    if case.empty:
        begin = case.T // 8
        a[:, :, case.T // 3] = -torch.inf
        b[:, :, case.T // 4 :: 2] = -torch.inf
        b[:, :, :begin] = -torch.inf
        a[:, :, :2] = -torch.inf
    a, b, dh = (lay_out(t.to(case.dtype)) for t in (a, b, dh))
    return a, b, None if h0 is None else h0.to(case.dtype), dh


def scan_adjoint(a: Tensor, b: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, log: bool) -> tuple[Tensor, ...]:
    """(da, db, dh0) by the formulas, from stored states, in the dtype of the arguments but for the scan in them."""
    start = torch.full_like(b[..., :1, :], -torch.inf if log else 0.0) if h0 is None else h0
    before = torch.cat([start, h[..., :-1, :]], -2)
    share_a, share_b = a, torch.ones_like(b)
    if log:
        empty = h == -torch.inf
        shift = torch.where(empty, 0, h)
        share_a, share_b = (torch.where(empty, 0, (t - shift).exp()) for t in (a + before, b))
    carried = reference.linear_scan(share_a.flip(-2), (share_a * dh).flip(-2), None).flip(-2)
    total = dh + torch.cat([carried[..., 1:, :], torch.zeros_like(start)], -2)
    return share_a * total if log else before * total, share_b * total, carried[..., :1, :]


def check_scan(case: ScanCase) -> None:
    """linear_scan or log_scan and its gradients against the float64 reference."""
    a, b, h0, dh = scan_inputs(case)
    wide = [None if t is None else t.double() for t in (a, b, h0)]
    leaves = [t if t is None else t.requires_grad_() for t in wide]
    name = "log_scan" if case.log else "linear_scan"
    with plain_torch():
        exact = getattr(reference, name)(*leaves)
        want = torch.autograd.grad(exact, [t for t in leaves if t is not None], dh.double())
        exact = exact.detach()
        size = None
        if not case.log:  # a sum of mixed signs has the error of the sum of the sizes
            size = reference.linear_scan(*(None if t is None else t.detach().abs() for t in wide))
        same = scan_adjoint(a, b, h0, exact.to(case.dtype), dh, case.log)
    leaves = [t if t is None else t.detach().requires_grad_() for t in (a, b, h0)]
    with on_kernels():
        h = getattr(functional, name)(*leaves)
        got = torch.autograd.grad(h, [t for t in leaves if t is not None], dh)
    assert h.dtype == b.dtype and h.is_contiguous()
    scan_bounds.assert_states(h.detach(), exact, size)
    for gradient, ours, wanted, other in zip(("da", "db", "dh0"), got, want, same, strict=False):
        scan_bounds.assert_gradient(gradient, ours, wanted, other)


def check_linear(case: LinearCase) -> None:
    """grouped_linear and its gradients against float64."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=generator, device=DEVICE)
    # two middle dimensions, as a sequence has them
    lay_out = lambda t: LAYOUTS[case.layout](t.to(case.dtype))
    x, dy = lay_out(normal(case.F, 1, case.N, case.D)), normal(case.F, 1, case.N, case.H)
    weight = (normal(case.F, case.D, case.H) / case.D**0.5).to(case.dtype)
    bias = normal(case.F, 1, case.H).to(case.dtype) if case.bias else None
    if case.activation == "relu":
        u = reference.grouped_linear(x.double(), weight.double(), None if bias is None else bias.double(), None)
        dy = torch.where(u.abs() < NEAR_ZERO, 0, dy)
    dy = lay_out(dy)

    def in_dtype(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in (x, weight, bias)]
        y = function(*leaves, case.activation)
        used = [t for t in leaves if t is not None]
        return [y.detach(), *torch.autograd.grad(y, used, dy.to(dtype))]

    with plain_torch():
        exact, same = in_dtype(reference.grouped_linear, torch.float64), in_dtype(_linear_in_dtype, case.dtype)
    with on_kernels():
        y, *gradients = in_dtype(functional.grouped_linear, case.dtype)
    assert y.dtype == case.dtype
    # Each of D products and sums rounds once, or is cut off, in float32, relative to the sum of the sizes.
    size = reference.grouped_linear(
        x.double().abs(), weight.double().abs(), None if bias is None else bias.double().abs(), None
    )
    product = 2 * (case.D + 4) * ROUNDING[torch.float32] + TF32X3_PRODUCT
    budget = STEEPEST * product * size + scan_bounds.ROUNDOFF[case.dtype] * exact[0].abs()
    budget = budget + scan_bounds.SMALLEST[case.dtype]
    if not kernels.linear_is_fused(case.D, case.H):
        budget = budget + 2 * (same[0].double() - exact[0]).abs()
    assert_within("y", y, exact[0], budget)
    for name, got, want, other in zip(("dx", "dw", "db"), gradients, exact[1:], same[1:], strict=False):
        scan_bounds.assert_gradient(name, got, want, other)


def _linear_in_dtype(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """The layer as a PyTorch program in the dtype of x, rounded after every operation."""
    y = x @ weight[:, None] if bias is None else x @ weight[:, None] + bias[:, None]
    return y if activation is None else getattr(torch.nn.functional, activation)(y)
