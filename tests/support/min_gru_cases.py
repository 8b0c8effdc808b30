"""Inputs, references and budgets of the minGRU kernel tests: one case runs in the interpreter and as compiled code
alike."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import triton

from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.common.config import LaunchConfig
from tests.support.assertions import assert_norm_within, assert_within
from tests.support.calls import Call
from tests.support.oracle import MASKED, RESET, decode, min_gru

TIME_ROWS = LaunchConfig(batch_rows=False, ROWS=16, STEPS=4, num_warps=1)
BATCH_ROWS = LaunchConfig(batch_rows=True, ROWS=16, STEPS=4, num_warps=1)
SHORT = LaunchConfig(batch_rows=False, ROWS=16, STEPS=2, num_warps=1)
WIDE = LaunchConfig(batch_rows=False, ROWS=64, STEPS=1, num_warps=4)

# The forms by name, as `batch_rows` of a configuration.
FORMS = {"time_rows": False, "batch_rows": True}

# |h - ref| <= REL |ref| + ABS max|ref| of the channel, in float32. An FMA chain and the gates are 2e-7 to 1e-6, the
# clamp of the exponent at 126 is worth ABS where a gate is nearly closed.
REL, ABS = 2e-6, 2e-7

# The least that a forward in half precision takes for a sigmoid.
FLOOR = 2.0**-63

# A value rounded once is off by at most this share of itself. The interpreter cuts float32 to bfloat16 without
# rounding.
ROUNDING = {
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-7 if triton.knobs.runtime.interpret else 2.0**-8,
    torch.float16: 2.0**-11,
}

# tf32 products of generic float32 numbers are off by this share of the norm.
TF32 = 2e-3

# g(u) has slopes 1/4 and 1 on the sides of u = 0, so two roundings of a u nearer to 0 than this may differ by 0.75 in
# du.
NEAREST_U = 2e-3

# Shifts of k through a first feature that is 1. "saturated" has |k| up to 200 from one product: the rounding of a
# longer sum of that size would alone exceed the bound.
SHIFTS = {"closed": -20.0, "open": 20.0}

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "time first": lambda x: x.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3),
    "sliced": lambda x: torch.cat([x, x, x], 3)[..., 1 : 1 + x.shape[3]],
    "every second step": lambda x: torch.stack([x, x], 3).flatten(2, 3)[:, :, ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "broadcast": lambda x: x[:, :1].expand(x.shape),
    "expanded": lambda x: x[:1, :1, :1, :1].expand(x.shape),
}


@dataclass(frozen=True)
class Case:
    """Shapes, dtype and everything else that a kernel sees."""

    F: int = 2
    B: int = 2
    T: int = 17
    D: int = 16
    H: int = 16
    dtype: torch.dtype = torch.float32
    config: LaunchConfig | None = TIME_ROWS
    space: str = "linear"
    h0: bool = True
    flags: str | None = None  # "shared" [1, B, T], "own" [F, B, T], "rows" [1, 1, T]
    gate: str = "normal"
    x_layout: str = "contiguous"
    dh_layout: str = "contiguous"
    precision: str = "tf32x3"
    weight_dtype: torch.dtype = torch.float32
    bias: bool = False  # the last row of the weight, [F, D + 1, 2H]
    elapsed: str | None = None  # shapes as those of flags, or "terms" [F, 1, 1]
    seed: int = field(default=0, compare=False)

    def __str__(self) -> str:
        config = "table"
        if self.config is not None:
            form = "batch_rows" if self.config.batch_rows else "time_rows"
            config = f"{form} {self.config.ROWS}x{self.config.STEPS}w{self.config.num_warps}"
        given = [
            self.space,
            self.gate,
            self.precision,
            str(self.dtype)[6:],
            self.x_layout,
            self.dh_layout,
            f"flags={self.flags}",
            f"h0={self.h0}",
            *(["bias"] if self.bias else []),
            *([f"elapsed={self.elapsed}"] if self.elapsed else []),
        ]
        return f"F{self.F} B{self.B} T{self.T} D{self.D} H{self.H} {config} " + " ".join(given)


@dataclass
class Inputs:
    x: torch.Tensor
    weight: torch.Tensor
    h0: torch.Tensor | None
    flags: torch.Tensor | None
    dh: torch.Tensor
    dh_last: torch.Tensor
    elapsed: torch.Tensor | None = None

    def call(self, **changes: object) -> Call:
        """The record of a call with these inputs."""
        return Call(self.x, self.weight, self.h0, self.flags, elapsed=self.elapsed)._replace(**changes)


def tf32_exact(x: torch.Tensor) -> torch.Tensor:
    """float32 with the low 13 bits cleared: products of such numbers do not depend on the precision."""
    return (x.contiguous().view(torch.int32) & -8192).view(torch.float32)


def inputs(case: Case) -> Inputs:
    """Random inputs, exact in the dtype of the case and in tf32, with |u| >= NEAREST_U."""
    generator = torch.Generator().manual_seed(case.seed)
    normal = lambda *shape: torch.randn(shape, generator=generator)
    round_ = (
        (lambda x: tf32_exact(x))
        if case.dtype == torch.float32 and case.precision == "tf32"
        else (lambda x: x.to(case.dtype))
    )
    F, B, T, D, H = case.F, case.B, case.T, case.D, case.H
    weight = round_(normal(F, D, 2 * H) / D**0.5)
    x = round_(normal(F, B, T, D))
    if case.gate == "saturated":
        weight[:, 0, H:] = 60 * weight[:, 0, H:].sign()
        weight[:, 1:, H:] = 0
    elif case.gate in SHIFTS:
        weight[:, 0, H:] += SHIFTS[case.gate]
        weight = round_(weight.float())
        x[..., 0] = 1
    if case.bias:  # no operand of a product, and so not rounded
        weight = torch.cat([weight.float(), normal(F, 1, 2 * H).to(case.weight_dtype).float()], 1)
    lay_out = LAYOUTS[case.x_layout]
    x = lay_out(x)
    for _ in range(200):
        u = with_one(x.double(), weight) @ weight.double()[:, None, :, :H]
        bad = (u.abs() < NEAREST_U).any(3, keepdim=True)
        if not bad.any():
            break
        fresh = round_(normal(F, B, T, D))
        if case.gate in SHIFTS:
            fresh[..., 0] = 1
        x = lay_out(torch.where(bad, fresh, x.contiguous()))
    else:
        raise AssertionError("no x keeps |u| away from 0")
    h0 = (
        torch.rand(F, B, 1, H, generator=generator) * (torch.rand(F, B, 1, H, generator=generator) < 0.8)
        if case.h0
        else None
    )
    flags = None
    if case.flags:
        shape = {"shared": (1, B, T), "own": (F, B, T), "rows": (1, 1, T)}[case.flags]
        flags = torch.randint(0, 8, shape, generator=generator, dtype=torch.uint8)
        flags = flags * (flags <= MASKED | RESET)
    dh = LAYOUTS[case.dh_layout](round_(normal(F, B, T, H)))
    shape = {"shared": (1, B, T), "own": (F, B, T), "rows": (1, 1, T), "terms": (F, 1, 1), None: None}[case.elapsed]
    return Inputs(
        x,
        weight.to(case.weight_dtype) if case.dtype == torch.float32 else weight.float(),
        h0,
        flags,
        dh,
        normal(F, B, 1, H),
        None if shape is None else times(shape, case.dtype, flags, generator),
    )


def times(
    shape: tuple[int, ...], dtype: torch.dtype, flags: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """Times from 1e-2 to 1e2 in dtype, one of eight 0, and NaN where no step reads them."""
    elapsed = 10 ** (torch.rand(shape, generator=generator) * 4 - 2)
    elapsed = elapsed * (torch.rand(shape, generator=generator) > 1 / 8)
    if flags is not None and shape == flags.shape:
        elapsed = torch.where((flags & MASKED) != 0, torch.nan, elapsed)
    return elapsed.to(dtype)


def with_one(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x, or (x | 1) where the last row of the weight is a bias."""
    return torch.nn.functional.pad(x, (0, weight.shape[1] - x.shape[3]), value=1.0)


def reference(given: Inputs, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """(h, h_last, dx, dw, dh0, d_elapsed) of the step recurrence in a dtype, as float64; no gradient of what is not
    given, and that of the times before they are broadcast."""
    elapsed = None if given.elapsed is None else given.elapsed.expand(given.x.shape[:3])
    tensors = given.x, given.weight, given.h0, elapsed
    leaves = [None if x is None else x.detach().to(dtype).requires_grad_() for x in tensors]
    x, weight, h0, elapsed = leaves
    h, h_last = min_gru(with_one(x, weight), weight, h0, *decode(given.flags), dtype=dtype, elapsed=elapsed)
    used = [x for x in leaves if x is not None]
    gradients = torch.autograd.grad((h, h_last), used, (given.dh.to(dtype), given.dh_last.to(dtype)))
    return tuple(x.detach().double() for x in (h, h_last, *gradients))


def gate_floor(given: Inputs) -> float:
    """The gates in half precision, which are FLOOR at least, add as much to a state: FLOOR (z + v) a step at most."""
    if given.x.dtype == torch.float32 or given.elapsed is not None:
        return 0.0
    x = with_one(given.x.nan_to_num().double().abs(), given.weight)
    u = (x @ given.weight.double().abs()[:, None]).amax().item()
    return FLOOR * given.x.shape[2] * (u + 1.5)


def assert_state(
    actual: torch.Tensor,
    wanted: torch.Tensor,
    *,
    rounding: float | torch.Tensor = 0.0,
    floor: float = 0.0,
    name: str = "state",
) -> None:
    """The bound of the states, per channel; `rounding` is the share lost by storing in a narrower dtype, `floor` that
    of `gate_floor`."""
    __tracebackhide__ = True
    largest = wanted.abs().amax(2, keepdim=True)
    assert_within(name, actual, wanted, (REL + rounding) * wanted.abs() + ABS * largest + floor)


def assert_gradient(
    name: str, actual: torch.Tensor, wanted: torch.Tensor, torch_value: torch.Tensor, band: float
) -> None:
    """|actual - wanted| <= 2 |torch - wanted| + band |wanted|, in the 2-norm."""
    __tracebackhide__ = True
    assert_norm_within(name, actual, wanted, 2 * (torch_value - wanted).norm() + band * wanted.norm())


def check(case: Case, *, forward: bool = True, backward: bool = True) -> None:
    """Forward and backward of a case against float64; a backward alone reads the h of the oracle."""
    given = inputs(case)
    wanted, plain = reference(given, torch.float64), reference(given, case.dtype)
    rounding = 0.0 if case.dtype == torch.float32 else ROUNDING[case.dtype]
    options = dict(precision=case.precision, config=case.config)
    h = wanted[0].to(case.dtype)
    if forward:
        h, h_last = recurrence_forward(given.call(space=case.space), MIN_GRU, **options)
        assert h.dtype == case.dtype and h_last.dtype == torch.float32 and h.is_contiguous()
        floor = gate_floor(given) if case.space == "linear" else 0.0
        assert_state(h, wanted[0], rounding=rounding, floor=floor, name="h")
        assert_state(h_last, wanted[1], floor=floor, name="h_last")
        assert h_last.untyped_storage().data_ptr() != h.untyped_storage().data_ptr()
    if backward:
        # du, dk and the result are rounded once each, so a band of two roundings, and REL for the sums.
        band = REL + 2 * rounding + (TF32 if case.precision == "tf32" and case.dtype == torch.float32 else 0.0)
        gradients = recurrence_backward(given.call(), MIN_GRU, h, given.dh, given.dh_last, **options)
        likes = given.x, given.weight, given.h0, given.elapsed
        assert [g is None for g in gradients] == [t is None for t in likes]
        present = [i for i, t in enumerate(likes) if t is not None]
        for i, ours, theirs in zip(present, wanted[2:], plain[2:], strict=True):
            name, actual = ("dx", "dw", "dh0", "d_elapsed")[i], gradients[i]
            assert actual.dtype == (torch.float32 if i == 3 else likes[i].dtype), name
            assert_gradient(name, actual, ours, theirs, band + ROUNDING[actual.dtype])
