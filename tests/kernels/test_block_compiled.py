"""The kernel of a residual block as compiled: the sm_80 code executed on a CPU, and the code of four architectures read
back."""

import pytest
import torch

from rnam.kernels.block.config import block_config
from rnam.kernels.block.forward import forward_launches
from rnam.kernels.feed_forward.config import num_parameters
from tests.support.block_cases import case, check
from tests.support.calls import Call
from tests.support.compiled import compiled_code
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where a NaN or an infinity is meant

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16

# exp2 and reciprocal for each of two sigmoids; the row's rsqrt is one in four numbers of a lane at most.
GATE_MUFU, ROW_MUFU = 4, 0.5

# tf32x3 keeps a second copy of three weights: with flags, a tail and h, 12 to 22 instructions outside the loop.
SPILLS_OUTSIDE = {(32, "tf32x3"): 22}


def launch(D, dtype, precision, batch_rows, T=64, flags=False, need_h=False):
    """One term with rows side by side; T = 65 leaves a tail."""
    x, state = torch.empty(1, 16, T, D, dtype=dtype), torch.empty(1, 16, 1, D)
    weight, params = torch.empty(1, D, 2 * D), torch.empty(1, num_parameters(D))
    call = Call(x, weight, state, torch.empty(1, 16, T, dtype=torch.uint8) if flags else None)
    config = block_config(batch_rows, D, dtype, precision)
    h = x if need_h else None
    return forward_launches(call, params, x, h, state, precision=precision, config=config)[-1]


@pytest.mark.parametrize("batch_rows", [False, True])
@pytest.mark.parametrize(
    ("D", "dtype", "precision"),
    [
        (16, BFLOAT16, "ieee"),
        pytest.param(8, FLOAT32, "tf32", marks=pytest.mark.slow),
        pytest.param(32, FLOAT32, "tf32x3", marks=pytest.mark.slow),
    ],
)
def test_code(D, dtype, precision, batch_rows):
    """No spill in the loop, the gates once, products on tensor cores, and loads of 16 bytes or a lane's share of a
    row."""
    plain = launch(D, dtype, precision, batch_rows)
    everything = launch(D, dtype, precision, batch_rows, T=65, flags=True, need_h=True)
    c = plain.constants
    elements = c["ROWS"] * c["STEPS"] * D / 32
    for cc in ARCHITECTURES:
        used = usage(compile_launch(plain, cc))
        assert (used.spills, used.loop_spills) == (0, 0), (cc, used)
        assert GATE_MUFU * elements <= used.mufu <= (GATE_MUFU + ROW_MUFU) * elements, (cc, used.mufu)
        assert {op for op, _ in used.mix if "MMA" in op or op.startswith("UTC")} == {"HMMA"}, cc
        least = min(128, 8 * (D // 4) * dtype.itemsize)
        assert min(load_bits(op) for op in used.loads) >= least, (cc, used.loads)
    for cc in (80, 100):  # 100 is where most is spilled
        used = usage(compile_launch(everything, cc))
        assert used.loop_spills == 0 and used.spills <= SPILLS_OUTSIDE.get((D, precision), 0), (cc, used)


@pytest.mark.parametrize(
    "case",
    [
        case("time_rows", 1, 70, 8, flags="own"),
        case("time_rows", 2, 33, 16, BFLOAT16, h0=False),
        case("time_rows", 1, 34, 32, precision="tf32"),
        case("time_rows", 1, 17, 32, flags="rows"),
        case("time_rows", 1, 40, 5, FLOAT16, x_layout="sliced"),
        case("batch_rows", 17, 3, 16, flags="own", F=2),
        case("batch_rows", 16, 4, 32, FLOAT16),
        case("batch_rows", 3, 5, 3, precision="tf32"),
    ],
    ids=str,
)
def test_results_as_compiled(case):
    with compiled_code() as ran:
        check(case)
    assert len(ran) == 1
