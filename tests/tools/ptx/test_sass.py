"""Reading SASS: on lines written here, and on a kernel whose cost is known."""

import pytest
import torch
import triton
import triton.language as tl

from rnam.kernels.common.launch import Launch
from tools.ptx.compile import ARCHITECTURES, compile_launch, signature
from tools.ptx.sass import load_bits, parse, steady_loop, usage, wavefronts


def listing(*lines: str) -> str:
    """Lines as cuobjdump prints them, 16 bytes an instruction."""
    return "\n".join(f"        /*{16 * i:04x}*/                   {line} ;" for i, line in enumerate(lines))


def test_instructions_are_parsed_without_their_predicate() -> None:
    found = parse(listing("LDG.E.128 R4, [R2.64]", "@!P0 MUFU.EX2 R5, R4", "@!UP1 UIADD3 UR4, UR4, 0x1, URZ"))
    assert [(i.address, i.op, i.name) for i in found] == [
        (0, "LDG.E.128", "LDG"),
        (16, "MUFU.EX2", "MUFU"),
        (32, "UIADD3", "UIADD3"),
    ]


def test_code_without_a_loop_is_taken_whole() -> None:
    found = parse(listing("FADD R0, R1, R2", "BRA 0x20", "EXIT"))
    assert steady_loop(found) == found


def test_the_longest_innermost_loop_is_taken() -> None:
    outer = ["FADD R0, R1, R2", "FMUL R0, R1, R2", "BRA 0x10", *["FFMA R0, R1, R2, R3"] * 3, "BRA 0x30", "BRA 0x0"]
    loop = steady_loop(parse(listing(*outer)))
    assert [i.name for i in loop] == ["FFMA", "FFMA", "FFMA", "BRA"]


def test_of_two_copies_the_one_without_masks_is_taken() -> None:
    work = ["HMMA.1688.F32.TF32 R0, R4, R8, R0", *["MUFU.EX2 R5, R4"] * 4]
    masked = [*work, "ISETP.GE.AND P0, PT, R1, R2, PT", "BRA 0x0"]
    plain = [*work, f"BRA 0x{16 * len(masked):x}"]
    loop = steady_loop(parse(listing(*masked, *plain)))
    assert [i.name for i in loop] == ["HMMA", *["MUFU"] * 4, "BRA"]


def test_a_loop_of_other_work_is_no_copy() -> None:
    long = [*["MUFU.EX2 R5, R4"] * 8, "BRA 0x0"]
    short = [*["MUFU.EX2 R5, R4"] * 6, "FADD R0, R1, R2", f"BRA 0x{16 * len(long):x}"]
    assert len(steady_loop(parse(listing(*long, *short)))) == len(long)


@pytest.mark.parametrize(
    ("op", "bits"),
    [
        ("LDG.E.128", 128),
        ("LDG.E.64.CONSTANT", 64),
        ("LDGSTS.E.BYPASS.128", 128),
        ("LDG.E", 32),
        ("LDG.E.U16", 16),
        ("LDG.E.U8", 8),
    ],
)
def test_width_of_a_load(op: str, bits: int) -> None:
    assert load_bits(op) == bits


@pytest.mark.parametrize(
    ("op", "passes"),
    [
        ("LDS.128", 4),
        ("STS.64", 2),
        ("LDG.E", 1),
        ("SHFL.IDX", 1),
        ("LDSM.16.M88.4", 4),
        ("LDGSTS.E.128", 8),
        ("FFMA", 0),
    ],
)
def test_wavefronts(op: str, passes: int) -> None:
    assert wavefronts(op) == passes


@triton.jit(do_not_specialize=["n"])
def _exp2_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    for start in range(0, n, BLOCK):
        tl.store(out_ptr + start + i, tl.exp2(tl.load(x_ptr + start + i)))


def launch(x: torch.Tensor, n: int = 1024, **options: int) -> Launch:
    return Launch(_exp2_kernel, (1,), dict(x_ptr=x, out_ptr=x, n=n), dict(BLOCK=128), 1, **options)


@pytest.mark.compiled
def test_cost_of_a_kernel() -> None:
    """128 numbers are 4 a lane: one load of 16 bytes and 4 exponentials, which the loop may do for several blocks."""
    for cc in ARCHITECTURES:
        found = usage(compile_launch(launch(torch.empty(1024)), cc))
        assert (found.spills, found.loop_spills, found.stack) == (0, 0, 0)
        assert {load_bits(op) for op in found.loads} == {128} and found.mufu == 4 * len(found.loads)
        assert dict(found.mix)["MUFU"] == found.mufu and 8 <= found.registers <= 255


@pytest.mark.compiled
def test_alignment_and_constants_decide_what_is_compiled() -> None:
    aligned, shifted = torch.empty(1024), torch.empty(1025)[1:]
    types, constants, attributes = signature(launch(aligned))
    assert types == dict(x_ptr="*fp32", out_ptr="*fp32", n="i32", BLOCK="constexpr") and constants == dict(BLOCK=128)
    assert signature(launch(aligned, n=5)) == (types, constants, attributes)
    assert signature(launch(shifted))[2] == {} and len(attributes) == 2
    assert compile_launch(launch(aligned), 80) is compile_launch(launch(aligned, n=5), 80)
    assert compile_launch(launch(aligned, max_registers=32), 80) is not compile_launch(launch(aligned), 80)


@triton.jit
def _fill_kernel(out_ptr, n):
    tl.store(out_ptr + tl.program_id(0), n)


def test_a_number_that_would_be_compiled_per_value_is_refused() -> None:
    with pytest.raises(ValueError, match="_fill_kernel: n would be compiled per value"):
        signature(Launch(_fill_kernel, (1,), dict(out_ptr=torch.empty(1), n=3), {}, 1))
