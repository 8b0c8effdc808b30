"""The backward of a residual block as compiled: the sm_80 code executed on a CPU, and the code of four architectures
read back."""

import pytest
import torch

from rnam.kernels.block.backward import backward_launch
from rnam.kernels.block.config import block_backward_config
from rnam.kernels.feed_forward.config import num_parameters
from tests.kernels.test_block_bwd_interpreter import case
from tests.support import block_cases
from tests.support.block_cases import check_backward
from tests.support.calls import Call
from tests.support.compiled import compiled_code
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where a NaN or an infinity is meant

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16

# exp2 and reciprocal for each of two sigmoids; the row's rsqrt is one in two numbers of a lane at most.
GATE_MUFU, ROW_MUFU = 4, 0.5

# In the loop over full tiles, plain and with flags and a tail.
SPILLS, SPILLS_WITH_CODES = 16, 40


def launch(D, dtype, precision, batch_rows, K=0, T=64, flags=False):
    """One term with rows side by side; T = 65 leaves a tail."""
    x, state = torch.empty(1, 16, T, K or D, dtype=dtype), torch.empty(1, 16, 1, D)
    h = torch.empty(1, 16, T, D, dtype=dtype)
    weight, params = torch.empty(1, K + 1 if K else D, 2 * D), torch.empty(1, num_parameters(D, K))
    call = Call(x, weight, state, torch.empty(1, 16, T, dtype=torch.uint8) if flags else None)
    config = block_backward_config(batch_rows, D, dtype, precision)
    needs = (not K, True, True, True)
    return backward_launch(call, params, h, h, state, needs=needs, precision=precision, config=config)


@pytest.mark.parametrize("batch_rows", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("D", "dtype", "precision", "K"),
    [
        (16, FLOAT32, "tf32", 0),
        pytest.param(8, FLOAT32, "tf32", 0, marks=pytest.mark.slow),
        pytest.param(8, FLOAT32, "tf32x3", 0, marks=pytest.mark.slow),
        pytest.param(16, FLOAT32, "tf32x3", 0, marks=pytest.mark.slow),
        pytest.param(16, BFLOAT16, "ieee", 0, marks=pytest.mark.slow),
        pytest.param(8, BFLOAT16, "ieee", 0, marks=pytest.mark.slow),
        pytest.param(8, FLOAT32, "tf32", 1, marks=pytest.mark.slow),
        pytest.param(16, BFLOAT16, "ieee", 1, marks=pytest.mark.slow),
    ],
)
def test_code(D, dtype, precision, K, batch_rows):
    """Few spills in the loop, the gates once, products on tensor cores, and loads of 16 bytes or a lane's share of a
    row."""
    plain, everything = (launch(D, dtype, precision, batch_rows, K, T, T > 64) for T in (64, 65))
    c = plain.constants
    elements = c["ROWS"] * c["STEPS"] * D / 32
    for cc in ARCHITECTURES:
        used = usage(compile_launch(plain, cc))
        assert used.loop_spills <= SPILLS, (cc, used)
        assert GATE_MUFU * elements <= used.mufu <= (GATE_MUFU + ROW_MUFU) * elements, (cc, used.mufu)
        assert {op for op, _ in used.mix if "MMA" in op or op.startswith("UTC")} == {"HMMA"}, cc
        if not K:
            least = min(128, 8 * (D // 4) * dtype.itemsize)
            assert min(load_bits(op) for op in used.loads) >= least, (cc, used.loads)
    for cc in (80, 100):  # 100 is where most is spilled
        used = usage(compile_launch(everything, cc))
        assert used.loop_spills <= SPILLS_WITH_CODES, (cc, used)


@pytest.mark.parametrize(
    ("K", "case"),
    [
        (0, case("time_rows", 1, 66, 8, flags="own")),
        (0, case("time_rows", 2, 33, 16, BFLOAT16, h0=False)),
        pytest.param(0, case("time_rows", 1, 17, 13, FLOAT16, x_layout="sliced", flags="rows"), marks=pytest.mark.slow),
        (0, case("batch_rows", 17, 3, 16, flags="own", F=2)),
        pytest.param(0, case("batch_rows", 3, 5, 3, precision="tf32x3"), marks=pytest.mark.slow),
        pytest.param(0, case("time_rows", 1, 17, 16, precision="tf32x3"), marks=pytest.mark.slow),
        (1, case("time_rows", 1, 40, 16, flags="own")),
        pytest.param(2, case("batch_rows", 17, 2, 8, FLOAT16), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_results_as_compiled(K, case):
    with compiled_code() as ran:
        check_backward(case, K)
    assert len(ran) == 1


@pytest.mark.parametrize(
    "case",
    [
        block_cases.case("time_rows", 1, 40, 20, flags="own"),
        pytest.param(block_cases.case("batch_rows", 17, 2, 32, BFLOAT16), marks=pytest.mark.slow),
        pytest.param(block_cases.case("time_rows", 1, 30, 1), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_results_of_two_kernels(case):
    with compiled_code() as ran:
        check_backward(case)
    assert [x.constants.get("HAS_DY") for x in ran] == [None, True]
