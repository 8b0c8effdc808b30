"""The minGRU kernels as compiled: the sm_80 code executed on a CPU, and the code of four architectures read back."""

import dataclasses
import re

import pytest
import torch

from rnam.kernels import MIN_GRU, recurrence_backward, recurrence_forward
from rnam.kernels.common.launch import Launch
from rnam.kernels.min_gru import backward, chunks
from rnam.kernels.min_gru.config import IEEE_WIDTH, SPILLS, is_fused, table_config
from tests.support.compiled import compiled_code
from tests.support.min_gru_cases import FORMS, Case, check, inputs
from tools.ptx.compile import ARCHITECTURES, compile_launch, signature
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where float32 overflows

LARGEST_SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}  # bytes a program may ask for

# exp2 and reciprocal for each of z and sigmoid(u); the log space has 1 exp2 and 1 log2 for k, 2 log2 and 1 exp2 for u,
# 2 per logaddexp2 of the chain and of the second pass, and the exp2 of h.
MUFU_PER_ELEMENT = {"linear": 4, "log": 10}

# Spills of a forward whose float32 products are plain ones: 17 at 8 x 8 with flags on sm_90, 2 at 16 x 16 with
# batch_rows in the log space, none otherwise up to that width. They are no part of the table: only a caller who names
# "ieee" gets them, and past IEEE_WIDTH nobody does.
IEEE_FORWARD_SPILLS = 17

WORD_BITS = 32  # of a load of flags
MOST_WORDS = 16  # of these in a loop; rows that fell apart would be more

BF16, HALF = torch.bfloat16, torch.float16


def case(
    pass_: str, form: str, D: int, H: int, T: int, dtype: torch.dtype = torch.float32, **options
) -> tuple[str, Case]:
    F, B = (1, 1) if form == "time_rows" else (1, 16)
    options = dict(F=F, B=B, space="log" if pass_ == "log" else "linear") | options
    config = table_config(pass_, FORMS[form], D, H, dtype, options.get("precision"))
    return pass_, Case(D=D, H=H, T=T, dtype=dtype, config=config, **options)


# T = 64 and B = 16 divide into the tiles of every entry; the others have a tail.
CASES = [
    case("forward", "time_rows", 16, 16, 64),
    case("forward", "time_rows", 8, 8, 64, BF16, flags="shared"),
    case("forward", "time_rows", 32, 32, 70, HALF, h0=False),
    case("forward", "time_rows", 1, 16, 64, BF16),
    case("forward", "batch_rows", 16, 16, 4, BF16, h0=False),
    case("forward", "batch_rows", 8, 8, 6, flags="own", B=3),
    case("forward", "batch_rows", 32, 32, 4, precision="tf32"),
    case("forward", "time_rows", 16, 16, 64, precision="ieee"),
    case("log", "time_rows", 16, 16, 64),
    case("log", "batch_rows", 8, 8, 8, HALF, flags="shared"),
    case("backward", "time_rows", 16, 16, 64),
    case("backward", "time_rows", 8, 8, 64, BF16),
    case("backward", "time_rows", 5, 3, 70, flags="own", x_layout="sliced", dh_layout="time first"),
    case("backward", "time_rows", 32, 32, 32, BF16, flags="shared"),
    case("backward", "time_rows", 1, 16, 64),
    case("backward", "batch_rows", 16, 16, 4, BF16, flags="own"),
    case("backward", "batch_rows", 8, 8, 4, precision="tf32"),
    case("backward", "batch_rows", 32, 32, 3, HALF, B=3),
    case("backward", "batch_rows", 2, 8, 4),
    case("backward", "time_rows", 8, 8, 64, precision="ieee"),
    case("backward", "time_rows", 64, 64, 33, precision="tf32", flags="own"),
    case("forward", "time_rows", 16, 16, 64, bias=True),
    case("forward", "batch_rows", 2, 8, 6, BF16, bias=True, B=3),
    case("log", "time_rows", 8, 8, 64, HALF, bias=True),
    case("backward", "time_rows", 16, 16, 64, bias=True),
]  # fmt: skip

SLOW = (
    [
        case(pass_, form, D, H, T, dtype, flags=flags)
        for pass_ in ("forward", "log", "backward")
        for form, T in (("time_rows", 64), ("batch_rows", 5))
        for D, H in ((16, 16), (32, 32), (64, 64), (2, 64), (64, 1))
        for dtype, flags in ((torch.float32, "own"), (BF16, None))
        if is_fused(D, H, dtype, pass_)
    ]
    + [
        case(pass_, form, D, D, T, precision="ieee", flags=flags)
        for pass_ in ("forward", "log", "backward")
        for form, T in (("time_rows", 64), ("batch_rows", 5))
        for D, flags in ((8, "own"), (16, "shared"))
        if IEEE_WIDTH[pass_] >= D
    ]
    + [
        # a tail without flags, where a forward of float32 is closest to the 255 registers of a thread
        case(pass_, "time_rows", D, D, 70)
        for pass_ in ("forward", "log")
        for D in (32, 64)
    ]
    + [
        # float32 with tf32 products, whole rows and odd ones
        case("backward", form, D, H, T, precision="tf32", flags=flags)
        for D, H in ((64, 64), (33, 63), (2, 64))
        for form, T, flags in (("time_rows", 32, None), ("batch_rows", 5, "own"))
    ]
    + [
        case(pass_, "time_rows", D, H, 65, precision="tf32", flags=flags)
        for pass_ in ("forward", "log")
        for D, H, flags in ((64, 64, "own"), (33, 63, "own"), (64, 16, "own"), (64, 64, None), (2, 64, None))
    ]
    + [
        case("backward", form, D, 64, T, BF16, flags=flags)
        for D in (8, 32)
        for form, T, flags in (("time_rows", 32, None), ("batch_rows", 5, "own"))
    ]
)


def names(cases):
    return [f"{pass_} {c}" for pass_, c in cases]


def check_products(launch: Launch, ttgir: str) -> None:
    """No operand of a product has threads that hold more consecutive k than there are: see kernels/common/flags.py."""
    for k, width in re.findall(
        r"tensor<\d+x(\d+)x\w+, #ttg.dot_op<\{opIdx = 0, parent = #\w+, kWidth = (\d+)\}>>", ttgir
    ):
        assert 4 * int(width) <= int(k), f"{launch.kernel.__name__}: kWidth {width} with K = {k}"


def check_code(launch: Launch, cc: int) -> bool:
    """Checks the code of one architecture; returns whether it has the instructions that the executor ran."""
    compiled = compile_launch(launch, cc)
    check_products(launch, compiled.asm["ttgir"])
    used, c = usage(compiled), launch.constants
    batch_rows = c.get("BATCH_ROWS", False)
    width = max(16, c["BLOCK_D"], c["BLOCK_H"])
    x = launch.arguments["x_ptr"]
    backward = launch.kernel.__name__ == "_min_gru_bwd_kernel"
    ieee = x.dtype == torch.float32 and c["PRECISION"] == "ieee" and c["D"] > 2
    if backward:
        assert used.loop_spills <= SPILLS[batch_rows, width, x.element_size()], used
    else:
        assert used.spills <= (IEEE_FORWARD_SPILLS if ieee else 0), used
    assert used.shared <= LARGEST_SHARED[cc], used
    elements = c["ROWS"] * c["STEPS"] * c["BLOCK_H"] // (32 * launch.num_warps)
    mufu = MUFU_PER_ELEMENT["log" if c.get("LOG") else "linear"] * elements
    assert used.mufu < 2 * mufu, f"a tile is computed twice: {used.mufu} MUFU, expected {mufu}"
    executed = not {op for op, _ in used.mix if "GMMA" in op or op.startswith("UTC")}
    assert executed or (backward and width == 64), "only the widest dW product has the 64 rows that wgmma takes"
    words = MOST_WORDS if c.get("HAS_FLAGS") else 0
    narrow = [load_bits(op) for op in used.loads if load_bits(op) < least_load(launch)]
    assert set(narrow) <= {WORD_BITS} and len(narrow) <= words, (
        f"loads of fewer than {least_load(launch)}: {used.loads}"
    )
    return executed


def least_load(launch: Launch) -> int:
    """Bits of the narrowest global load that a kernel may have.

    128 where the rows of x and h are whole 16-byte pieces, side by side, and a tile of one step has one for each thread
    (it has not in half precision with 8 columns in one warp, and 16 in two). The exception are dh and h in half
    precision in a backward with a width of 32: 64, for the reason in kernels/README.md.
    """
    c, x = launch.constants, launch.arguments["x_ptr"]
    size = x.element_size()
    for n, block in ((c["D"], c["BLOCK_D"]), (c["H"], c["BLOCK_H"])):
        whole = c["PACKED"] and n > 2 and n * size % 16 == 0
        if not whole or c["ROWS"] * block * size < 16 * 32 * launch.num_warps:
            return 0
    backward = launch.kernel.__name__ == "_min_gru_bwd_kernel"
    return 64 if backward and size == 2 and 32 in (c["BLOCK_D"], c["BLOCK_H"]) else 128


@pytest.mark.parametrize(("pass_", "case"), CASES, ids=names(CASES))
def test_compiled(pass_, case, record_property):
    run_and_read_back(pass_, case, record_property)


@pytest.mark.slow
@pytest.mark.parametrize(("pass_", "case"), SLOW, ids=names(SLOW))
def test_compiled_more(pass_, case, record_property):
    run_and_read_back(pass_, case, record_property)


def run_and_read_back(pass_: str, case: Case, record_property) -> None:
    """Executes a case; the report names what uses wgmma or tcgen05 on a newer architecture, and so was not executed as
    it is there."""
    with compiled_code() as launches:
        check(case, forward=pass_ != "backward", backward=pass_ == "backward")
    for launch in launches:
        for cc in ARCHITECTURES:
            if not check_code(launch, cc):
                record_property("not executed", f"sm_{cc} {launch.kernel.__name__} {case}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [BF16, HALF])
@pytest.mark.parametrize(
    ("form", "D", "T"), [("time_rows", 16, 70), ("time_rows", 32, 32), ("batch_rows", 16, 5), ("time_rows", 64, 32)]
)
def test_one_stage(form, D, T, dtype):
    """The table has two everywhere; earlier code with loops of one stage once gave a wrong dx in half precision."""
    _, chosen = case("backward", form, D, D, T, dtype, flags="own")
    config = dataclasses.replace(chosen.config, STAGES=1)
    with compiled_code():
        check(dataclasses.replace(chosen, config=config), forward=False)


@pytest.mark.parametrize("flags", [None, "own"])
def test_a_long_sequence_is_cut(flags, monkeypatch):
    """Totals, scan of the totals, and the main kernel from the entry states, forward and backward, as compiled."""
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    monkeypatch.setattr(backward, "PARTIALS_SHARE", 10.0)
    with compiled_code() as launches:
        check(Case(F=1, B=1, T=150, D=8, H=8, config=table_config("forward", False, 8, 8, torch.float32), flags=flags))
    assert [x.kernel.__name__ for x in launches].count("_min_gru_totals_kernel") == 2
    for launch in launches:
        if launch.kernel.__name__ == "_min_gru_totals_kernel":
            for cc in ARCHITECTURES:
                check_code(launch, cc)


def test_nothing_is_compiled_per_size(monkeypatch):
    """Another T, B and F with the same divisibility is the same kernel."""

    def launches(**sizes):
        given, found = inputs(Case(D=8, H=8, **sizes)), []
        monkeypatch.setattr(Launch, "run", lambda self: found.append(self))
        h, _ = recurrence_forward(given.call(), MIN_GRU)
        recurrence_backward(given.call(), MIN_GRU, h, given.dh, given.dh_last)
        return [(x.kernel, *signature(x)) for x in found]

    assert launches(F=1, B=2, T=128) == launches(F=3, B=1, T=64)
    assert launches(F=1, B=2, T=65) == launches(F=2, B=3, T=77)
