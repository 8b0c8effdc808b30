"""The feed-forward kernels as compiled: the sm_80 code executed on a CPU, and the code of four architectures read
back."""

import pytest
import torch

from rnam.kernels import feed_forward_backward, feed_forward_forward
from rnam.kernels.feed_forward.backward import backward_launch
from rnam.kernels.feed_forward.config import EMBEDDED_SPILLS, SPILLS, num_parameters
from rnam.kernels.feed_forward.forward import forward_launch
from tests.support.compiled import compiled_code
from tests.support.feed_forward_cases import check, inputs
from tools.ptx.compile import ARCHITECTURES, compile_launch, signature
from tools.ptx.sass import load_bits, usage

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:.* encountered in .*:RuntimeWarning"),
]  # numpy, where a NaN or an infinity is meant

FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16

# In half precision at 32 columns ptxas leaves 15 to 18 instructions outside the loop on sm_100 and sm_120.
SPILLS_OUTSIDE = 18

VARIANTS = [
    (8, FLOAT32, "tf32"),
    (16, FLOAT32, "tf32x3"),
    (32, FLOAT32, "tf32"),
    (32, BFLOAT16, "ieee"),
]
SLOW_VARIANTS = [
    (D, dtype, precision)
    for D in (1, 2, 3, 4, 8, 16, 17, 31, 32)
    for dtype, precision in ((FLOAT32, "tf32"), (FLOAT32, "tf32x3"), (BFLOAT16, "ieee"), (FLOAT16, "ieee"))
]


def launches(D, dtype, precision, strided=False, N=100_000, K=0):
    """(forward, backward) of one term, with rows side by side or between others; with K > 0 embedded, without dx."""
    h = torch.empty(1, N, 2 * D if strided else D, dtype=dtype)[..., :D]
    x = torch.empty(1, N, K, dtype=dtype) if K else h
    params = torch.empty(1, num_parameters(D, K))
    backward = backward_launch(x, params, h, h, needs=(not K, True, True), precision=precision)
    return forward_launch(x, params, h, h, precision=precision), backward


def check_code(launch, cc):
    """Spills, work done once, and the instructions that the executor ran."""
    used, c = usage(compile_launch(launch, cc)), launch.constants
    backward = launch.kernel.__name__ == "_feed_forward_bwd_kernel"
    wide = backward and c["BLOCK_D"] == 32
    allowed = EMBEDDED_SPILLS if c["K"] else SPILLS
    assert used.loop_spills <= (allowed.get(c["PRECISION"], 0) if wide else 0), used
    whole = c["PACKED"] and c["D"] == c["WIDTH"] >= 8  # pieces of 16 bytes: else addresses take registers as well
    if whole and not (wide and c["PRECISION"] in allowed):
        assert used.spills <= (SPILLS_OUTSIDE if wide else 0), used
    products = [op for op, _ in used.mix if "MMA" in op or op.startswith("UTC")]
    assert products == ["HMMA"], products
    if c["PACKED"] and c["D"] == c["WIDTH"]:
        if whole:  # one rsqrt per row and lane that holds 4 numbers of it
            limit = c["BLOCK_N"] * c["BLOCK_D"] // 32 // 4
            assert 0 < used.mufu <= limit, f"a row is normalized twice: {used.mufu} MUFU"
        least = min(128, 8 * c["D"] * launch.arguments["x_ptr"].element_size())
        found = [load_bits(op) for op in used.loads]
        narrow = [n for n in found if n < least]
        assert len(found) > len(narrow), used.loads
        # of an embedded tile each lane reads K numbers of a row, or of two, again in each of up to three layouts that
        # they are used in
        rows = c["BLOCK_N"] * c["BLOCK_D"] // c["WIDTH"]
        assert len(narrow) <= 3 * c["K"] * max(1, rows // 32), used.loads


@pytest.mark.parametrize(("D", "dtype", "precision"), VARIANTS)
def test_code(D, dtype, precision):
    for launch in launches(D, dtype, precision):
        for cc in ARCHITECTURES:
            check_code(launch, cc)


@pytest.mark.slow
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(("D", "dtype", "precision"), SLOW_VARIANTS)
def test_code_slow(D, dtype, precision, strided):
    for launch in launches(D, dtype, precision, strided):
        for cc in ARCHITECTURES:
            check_code(launch, cc)


@pytest.mark.parametrize(("D", "K", "dtype", "precision"), [(8, 1, FLOAT32, "tf32"), (16, 2, BFLOAT16, "ieee")])
def test_code_with_an_embedding(D, K, dtype, precision):
    for launch in launches(D, dtype, precision, K=K):
        for cc in ARCHITECTURES:
            check_code(launch, cc)


@pytest.mark.slow
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize(("D", "dtype", "precision"), [v for v in SLOW_VARIANTS if v[0] >= 8])
def test_code_with_an_embedding_slow(D, dtype, precision, K, strided):
    for launch in launches(D, dtype, precision, strided, K=K):
        for cc in ARCHITECTURES:
            check_code(launch, cc)


def run(D, N, dtype, precision, K=0):
    with compiled_code() as ran:
        check(*inputs(2, N, D, dtype, precision, K=K), precision)
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("D", "K", "N", "dtype", "precision"),
    [(8, 1, 65, FLOAT32, "tf32x3"), (7, 2, 40, BFLOAT16, "ieee"), (32, 3, 17, FLOAT32, "tf32")],
)
def test_results_with_an_embedding_as_compiled(D, K, N, dtype, precision):
    run(D, N, dtype, precision, K)


@pytest.mark.parametrize(
    ("D", "N", "dtype", "precision"),
    [
        (1, 300, FLOAT32, "tf32x3"),
        (3, 75, BFLOAT16, "ieee"),
        (7, 200, FLOAT32, "tf32x3"),  # a number of a row in each lane: racecheck found its sums to differ by lane
        (8, 65, FLOAT32, "tf32"),
        (8, 64, FLOAT16, "ieee"),
        (16, 33, BFLOAT16, "ieee"),
        (17, 17, FLOAT32, "tf32x3"),
        (32, 33, FLOAT32, "tf32"),
        (32, 32, BFLOAT16, "ieee"),
    ],
)
def test_results_as_compiled(D, N, dtype, precision):
    run(D, N, dtype, precision)


@pytest.mark.slow
@pytest.mark.parametrize("N", [1, 70])
@pytest.mark.parametrize(("D", "dtype", "precision"), SLOW_VARIANTS)
def test_results_as_compiled_slow(D, N, dtype, precision):
    run(D, N, dtype, precision)


def test_layouts_as_compiled():
    """Rows between others, a term that is repeated, and a gradient that is one number."""
    x, params, h, dy = inputs(2, 40, 8, FLOAT32, "tf32x3")
    x = torch.stack([x, torch.full_like(x, torch.nan)], 2).flatten(1, 2)[:, ::2]
    with compiled_code():
        check(x, params, h, dy, "tf32x3")
        check(
            x[:1].expand(x.shape),
            params[:1].expand(params.shape),
            h[:1].expand(h.shape),
            dy[:1, :1, :1].expand(dy.shape),
            "tf32x3",
        )


@pytest.mark.parametrize("D", [4, 16])
def test_what_is_not_finite_stays_in_its_row(D):
    """The compiler keeps the products with 0 that carry a NaN around the block-diagonal ones."""
    x, params, h, dy = inputs(1, 40, D, FLOAT32, "tf32x3")
    x[0, 5, 1], dy[0, 9, 2] = torch.nan, torch.inf
    with compiled_code():
        y = feed_forward_forward(x, params, h)
        dx, dparams, dh = feed_forward_backward(x, params, h, dy)
    lost = torch.zeros(40, dtype=torch.bool)
    lost[5] = True
    assert torch.equal(y[0].isnan(), lost[:, None].expand(-1, D))
    lost[9] = True
    assert torch.equal(~dh[0].isfinite(), lost[:, None].expand(-1, D)) and not dx[0, lost].isfinite().any()
    assert dx[0, ~lost].isfinite().all() and dparams[0, 2 * D : 2 * D + D * D].isnan().all()


def test_nothing_is_compiled_per_size():
    kinds = [[(x.kernel, *signature(x)) for x in launches(8, FLOAT32, "tf32", N=N)] for N in (64, 65, 1001)]
    assert kinds[0] == kinds[1] == kinds[2]
