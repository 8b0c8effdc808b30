"""The programs of a launch in any order: where time is cut, no segment touches what another one writes.

Runs in the interpreter and, without TRITON_INTERPRET, the small kernels here as compiled code.
"""

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl

from rnam import kernels
from rnam.kernels import MASKED, MIN_GRU, RESET
from rnam.kernels.common.launch import Launch
from rnam.kernels.min_gru import backward, chunks
from tests.kernels.cells import KINDS
from tests.support import block_cases, min_gru_cases, projected_cases
from tests.support.calls import Call
from tests.support.compiled import compiled_code
from tests.support.interpreter import programs
from tools.ptx.programs import RaceError

INTERPRETED = triton.knobs.runtime.interpret
SEEDS = (None, 1, 2)  # None is the order of their numbers

Tensors = tuple[torch.Tensor, ...]


def ordered(seed: int | None, *, check: bool = True):
    """A context in which the programs of each launch run in the order of a seed."""
    return (programs if INTERPRETED else compiled_code)(seed=seed, check=check)


# ---- a kernel with a mistake that the order of its programs hides ----


@triton.jit(do_not_specialize=["T", "length", "count"])
def _adjoint_kernel(a_ptr, dh_ptr, entry_ptr, dh0_ptr, T, length, count, EACH_WRITES: tl.constexpr):
    """s_t = a_t (dh_t + s_{t+1}) of one channel, and dh0 = s_1.

    Grid      count; segment 0 is the last in time, and s enters segment g from entry[g].
    Mistake   With EACH_WRITES every segment writes dh0, not the first in time alone. In turn that one is the last.
    """
    g = tl.program_id(0)
    begin = (count - 1 - g) * length
    s = tl.load(entry_ptr + g)
    for i in range(length):
        t = begin + length - 1 - i
        s = tl.load(a_ptr + t, mask=t < T, other=1.0) * (tl.load(dh_ptr + t, mask=t < T, other=0.0) + s)
    if EACH_WRITES:
        tl.store(dh0_ptr, s)
    else:
        tl.store(dh0_ptr, s, mask=g == count - 1)


def adjoint(each_writes: bool) -> tuple[torch.Tensor, float]:
    """dh0 of the kernel over three segments, and what it should be."""
    T, length, count = 11, 4, 3
    a, dh = torch.rand(T), torch.randn(T)
    s, at = 0.0, {}
    for t in reversed(range(T)):
        s = at[t] = a[t].item() * (dh[t].item() + s)
    entry = torch.tensor([0.0, at[8], at[4]])
    dh0 = torch.empty(1)
    arguments = dict(a_ptr=a, dh_ptr=dh, entry_ptr=entry, dh0_ptr=dh0, T=T, length=length, count=count)
    Launch(_adjoint_kernel, (count,), arguments, dict(EACH_WRITES=each_writes), 1).run()
    return dh0, s


@pytest.mark.parametrize("seed", SEEDS)
def test_one_segment_writes_the_gradient_of_the_state(seed):
    with ordered(seed):
        dh0, wanted = adjoint(False)
    assert dh0.item() == pytest.approx(wanted, rel=1e-6)


def test_in_turn_nobody_sees_that_every_segment_writes_it():
    with ordered(None, check=False):
        dh0, wanted = adjoint(True)
    assert dh0.item() == pytest.approx(wanted, rel=1e-6)


def test_in_another_order_the_result_is_wrong():
    with ordered(1, check=False):
        dh0, wanted = adjoint(True)
    assert dh0.item() != pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_check_names_the_address_that_two_segments_write(seed):
    message = r"^_adjoint_kernel: program \(\d, 0, 0\) writes byte 0 of dh0_ptr, which program \(\d, 0, 0\) writes too$"
    with ordered(seed), pytest.raises(RaceError, match=message):
        adjoint(True)


@triton.jit
def _shift_kernel(x_ptr, BLOCK: tl.constexpr):
    """Moves each block of x to the place of the block before it, which another program reads."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + i, tl.load(x_ptr + i + BLOCK))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_check_names_an_address_that_another_program_reads(seed):
    launch = Launch(_shift_kernel, (2,), dict(x_ptr=torch.arange(48.0)), dict(BLOCK=16), 1)
    message = r"program \(1, 0, 0\) writes byte 64 of x_ptr, which program \(0, 0, 0\) reads too"
    with ordered(seed), pytest.raises(RaceError, match=message):
        launch.run()


# ---- the kernels that cut time ----


def scans(log: bool) -> Tensors:
    a, b, dh = torch.rand(1, 130, 17).clamp(1e-3), torch.randn(1, 130, 17), torch.randn(1, 130, 17)
    a, h0 = a.log() if log else a, torch.randn(1, 1, 17)
    h = kernels.scan_forward(a, b, h0, log=log)
    return h, *kernels.scan_backward(a, b if log else None, h0, h, dh, log=log)


def gates(kind: str) -> Tensors:
    H, cell = 17, KINDS[kind]
    p, h0 = torch.randn(1, 1, 130, cell.num_preacts * H), torch.rand(1, 1, 1, H)
    flags = torch.zeros(1, 1, 130, dtype=torch.uint8)
    flags[..., 40:60], flags[..., 100] = MASKED, RESET
    call = Call(p, None, h0, flags, cell.space)  # the input holds the pre-activations
    h, h_last = kernels.recurrence_forward(call, cell.gates)
    dx, _, dh0, _ = kernels.recurrence_backward(call, cell.gates, h, torch.randn_like(h), torch.randn_like(h_last))
    return h, h_last, dx, dh0


def min_gru(space: str) -> Tensors:
    case = min_gru_cases.Case(F=1, B=2, T=150, D=8, H=8, flags="own", space=space)
    given, options = min_gru_cases.inputs(case), dict(config=case.config)
    call = Call(given.x, given.weight, given.h0, given.flags, space)
    h, h_last = kernels.recurrence_forward(call, MIN_GRU, **options)
    return h, h_last, *kernels.recurrence_backward(call, MIN_GRU, h, given.dh, given.dh_last, **options)[:3]


def a_block() -> Tensors:
    case = block_cases.case("time_rows", 2, 150, 8, flags="own")
    given, params = block_cases.gradient_inputs(case)
    call = Call(given.x, given.weight, given.h0, given.flags)
    y, h, h_last = kernels.block_forward(call, params, precision="tf32x3", config=case.config)
    return y, h, h_last, *kernels.block_backward(call, params, h, given.dh, given.dh_last)[:3]


def projection() -> Tensors:
    case = projected_cases.case("time_rows", 1, 150, 8, 16, flags="own")
    given, out_weight = projected_cases.inputs(case)
    call = Call(given.x, given.weight, given.h0, given.flags)
    return kernels.projected_forward(call, out_weight, precision=case.precision, config=case.config)


# Each with its launches over several segments: totals and the rest, forward and backward.
CUT = {
    "linear scan": (lambda: scans(False), 4),
    "log scan": (lambda: scans(True), 4),
    "gates and scan": (lambda: gates("linear"), 4),
    "gates and scan in log space": (lambda: gates("log"), 4),
    "gates and scan of a minLSTM": (lambda: gates("lstm"), 4),
    "gates and scan of a third cell": (lambda: gates("third"), 4),
    "minGRU": (lambda: min_gru("linear"), 4),
    "minGRU in log space": (lambda: min_gru("log"), 4),
    "block": (a_block, 4),
    "minGRU and projection": (projection, 2),
}


def _long(name: str) -> list[pytest.MarkDecorator]:
    """`make test` has one of each pair that shares its kernels but for the space or the cell."""
    others = ("gates and scan in log space", "gates and scan of a minLSTM", "minGRU in log space")
    return [pytest.mark.long_in_interpreter] if name in others else []


@pytest.mark.interpreter
@pytest.mark.parametrize(("run", "wanted_cuts"), [pytest.param(*CUT[name], id=name, marks=_long(name)) for name in CUT])
def test_the_order_of_programs_changes_no_bit(run: Callable[[], Tensors], wanted_cuts: int, monkeypatch):
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    monkeypatch.setattr(backward, "PARTIALS_SHARE", 10.0)  # chunks of the backward may be short as well
    launched, cuts = Launch.run, []

    def note(launch: Launch) -> None:
        cuts.append(launch.arguments.get("num_chunks", 1) > 1)
        launched(launch)

    monkeypatch.setattr(Launch, "run", note)
    results = []
    for seed in (None, 1):
        torch.manual_seed(0)
        with ordered(seed):
            results.append(run())
    assert sum(cuts) == 2 * wanted_cuts, "time is not cut as often as it should be"
    for i, (in_turn, shuffled) in enumerate(zip(*results, strict=True)):
        assert in_turn.any(), f"result {i} is 0 in any order"
        assert torch.equal(in_turn, shuffled), f"result {i} depends on the order of programs"
