"""The kernel of a minGRU and its projection as compiled: the sm_80 code executed on a CPU, and the code of four
architectures read back."""

import pytest
import torch

from rnam.kernels.min_gru.projected import forward_launches
from rnam.kernels.min_gru.projected_config import projected_config
from tests.support.calls import Call
from tests.support.compiled import compiled_code
from tests.support.projected_cases import case, check
from tools.ptx.compile import ARCHITECTURES, compile_launch
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where a NaN or an infinity is meant

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16
# With flags and a tail, outside the loop: (D, H, precision, batch_rows).
SPILLS_OUTSIDE = {(16, 32, "tf32x3", False): 10, (32, 32, "tf32x3", False): 4}

# exp2 of two sigmoids of a state, and their reciprocals, in half precision one; by bytes of a number
GATE_MUFU = {4: 4, 2: 3}


def launch(D, H, dtype, precision, batch_rows, T=64, flags=False):
    """One term with rows side by side; T = 65 leaves a tail."""
    x, state = torch.empty(1, 16, T, D, dtype=dtype), torch.empty(1, 16, 1, H)
    weight, out_weight = torch.empty(1, D, 2 * H), torch.empty(1, H, D)
    call = Call(x, weight, state, torch.empty(1, 16, T, dtype=torch.uint8) if flags else None)
    config = projected_config(batch_rows, D, H, precision)
    return forward_launches(call, out_weight, x, state, precision=precision, config=config)[-1]


@pytest.mark.parametrize(
    ("D", "H", "dtype", "precision", "batch_rows"),
    [
        (16, 32, BFLOAT16, "ieee", False),
        *(
            pytest.param(*key, batch_rows, marks=pytest.mark.slow)
            for key in ((8, 16, FLOAT32, "tf32"), (16, 32, FLOAT32, "tf32x3"), (32, 32, FLOAT32, "tf32x3"))
            for batch_rows in (False, True)
        ),
        pytest.param(16, 32, BFLOAT16, "ieee", True, marks=pytest.mark.slow),
    ],
)
def test_code(D, H, dtype, precision, batch_rows):
    """No spill in the loop, the gates once, products on tensor cores, and loads of 16 bytes or a lane's share of a
    row."""
    plain, everything = (launch(D, H, dtype, precision, batch_rows, T=T, flags=T == 65) for T in (64, 65))
    c = plain.constants
    states = c["ROWS"] * c["STEPS"] * H / 32
    for cc in ARCHITECTURES:
        used = usage(compile_launch(plain, cc))
        assert (used.spills, used.loop_spills) == (0, 0), (cc, used)
        assert used.mufu == GATE_MUFU[dtype.itemsize] * states, (cc, used.mufu)
        assert {op for op, _ in used.mix if "MMA" in op or op.startswith("UTC")} == {"HMMA"}, cc
        least = min(128, 8 * (D // 4) * dtype.itemsize)
        assert min(load_bits(op) for op in used.loads) >= least, (cc, used.loads)
    for cc in (80, 100):  # 100 is where most is spilled
        used = usage(compile_launch(everything, cc))
        assert used.loop_spills == 0 and used.spills <= SPILLS_OUTSIDE.get((D, H, precision, batch_rows), 0), (cc, used)


@pytest.mark.parametrize(
    "case",
    [
        case("time_rows", 1, 70, 8, 16, flags="own"),
        case("time_rows", 1, 33, 16, 32, BFLOAT16, h0=False),
        case("time_rows", 1, 40, 5, 9, FLOAT16, x_layout="sliced"),
        case("batch_rows", 17, 3, 16, 32, flags="own", precision="tf32"),
    ],
    ids=str,
)
def test_results_as_compiled(case):
    with compiled_code() as ran:
        check(case)
    assert len(ran) == 1
