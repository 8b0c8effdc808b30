"""Times of steps and a bias as compiled: the sm_80 code executed on a CPU, and what four architectures make of it."""

import dataclasses

import pytest
import torch

from rnam.kernels import MIN_GRU
from rnam.kernels.common.launch import Launch
from rnam.kernels.min_gru import backward, chunks
from rnam.kernels.min_gru.config import table_config
from rnam.kernels.scan import gates_backward, gates_forward
from tests.kernels.test_elapsed_interpreter import gates_alone
from tests.kernels.test_min_gru_compiled import LARGEST_SHARED, check_products
from tests.support import block_cases, projected_cases
from tests.support.compiled import compiled_code
from tests.support.min_gru_cases import FORMS, Case, check, inputs, reference
from tests.support.scan_bounds import assert_gradient, assert_states
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where float32 overflows

BF16, HALF = torch.bfloat16, torch.float16


def case(
    pass_: str, form: str, D: int, H: int, T: int, dtype: torch.dtype = torch.float32, **options
) -> tuple[str, Case]:
    config = table_config(pass_, FORMS[form], D, H, dtype, options.get("precision"), timed=True)
    options = dict(F=1, B=1 if form == "time_rows" else 16, space="log" if pass_ == "log" else "linear") | options
    return pass_, Case(D=D, H=H, T=T, dtype=dtype, config=config, elapsed="own", **options)


CASES = [
    case("forward", "time_rows", 16, 16, 64, bias=True),
    case("forward", "batch_rows", 8, 8, 6, BF16, flags="own", B=3),
    case("log", "time_rows", 8, 8, 64, bias=True),
    case("log", "batch_rows", 16, 16, 4, HALF, flags="shared"),
    case("backward", "time_rows", 16, 16, 33, bias=True),
    case("backward", "batch_rows", 16, 16, 4, BF16, flags="own"),
    case("backward", "batch_rows", 2, 8, 4),
]  # fmt: skip


def check_code(launch: Launch, spills: int | None = 0) -> None:
    """No operand of a product is laid out wrongly, the program fits, and there are at most so many spills, None for any
    number."""
    for cc in ARCHITECTURES:
        compiled = compile_launch(launch, cc)
        check_products(launch, compiled.asm["ttgir"])
        used = usage(compiled)
        assert used.shared <= LARGEST_SHARED[cc], used
        assert spills is None or used.spills <= spills, f"sm_{cc}: {used}"


@pytest.mark.parametrize(("pass_", "case"), CASES, ids=[f"{pass_} {c}" for pass_, c in CASES])
def test_fused(pass_, case):
    with compiled_code() as launches:
        check(case, forward=pass_ != "backward", backward=pass_ == "backward")
    for launch in launches:
        check_code(launch, None if pass_ == "backward" else 0)


def test_a_long_sequence_is_cut(monkeypatch):
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    monkeypatch.setattr(backward, "PARTIALS_SHARE", 10.0)
    config = table_config("forward", False, 8, 8, torch.float32)
    with compiled_code() as launches:
        check(Case(F=1, B=1, T=150, D=8, H=8, config=config, elapsed="own", bias=True, flags="own"))
    assert [x.kernel.__name__ for x in launches].count("_min_gru_totals_kernel") == 2


@pytest.mark.parametrize(("dtype", "T", "space"), [(torch.float32, 37, "linear"), (BF16, 33, "log")])
def test_gates(dtype, T, space):
    """Of two blocks of channels; spills nothing forward."""
    given = inputs(Case(F=1, B=1, T=T, D=5, H=40, dtype=dtype, flags="own", elapsed="own"))
    call = gates_alone(given.call(space=space))
    call = call._replace(input=call.input.to(dtype))
    exact = dataclasses.replace(given, x=call.input, weight=torch.eye(80)[None])
    wanted, plain = (reference(exact, kind) for kind in (torch.float64, dtype))
    with compiled_code() as launches:
        h, h_last = gates_forward.gates_scan_forward(call.input, call, MIN_GRU)
        got = gates_backward.gates_scan_backward(
            call.input, call, MIN_GRU, wanted[0].to(dtype), given.dh, given.dh_last
        )
    assert_states(h, wanted[0])
    assert_states(h_last, wanted[1], wanted[0].abs().amax(2, keepdim=True))
    for name, ours, y, z in zip(
        ("dp", "dh0", "d_elapsed"), got, (wanted[2], *wanted[4:]), (plain[2], *plain[4:]), strict=True
    ):
        assert_gradient(name, ours.to(dtype), y, z)
    for launch in launches:
        check_code(launch, 0 if "fwd" in launch.kernel.__name__ else 4)


@pytest.mark.parametrize("form", ["time_rows", "batch_rows"])
def test_block(form):
    chosen = block_cases.case(form, 16 if form == "batch_rows" else 1, 5, 8, flags="own")
    chosen = dataclasses.replace(chosen, elapsed="own", bias=True)
    with compiled_code() as launches:
        block_cases.check(chosen)
        block_cases.check_backward(chosen)
    for launch in launches:
        check_code(launch, None if "bwd" in launch.kernel.__name__ else 0)


def test_projected():
    chosen = dataclasses.replace(projected_cases.case("time_rows", 1, 70, 8, 16), elapsed="own", bias=True)
    with compiled_code() as launches:
        projected_cases.check(chosen)
    check_code(*launches)
