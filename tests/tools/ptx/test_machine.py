"""The PTX executor itself: instructions on hand-written code, then whole kernels that triton compiles."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from rnam.kernels.common.launch import Launch
from tools.ptx import arithmetic
from tools.ptx.executor import execute
from tools.ptx.machine import Machine

HEADER = """.visible .entry f(
	.param .u64 .ptr .global .align 1 p0,
	.param .u64 .ptr .global .align 1 p1
)
.reqntid 32
{
"""
LOAD = """
    ld.param.b64 %rd1, [p0];
    ld.param.b64 %rd2, [p1];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    ld.global.b32 { %r2 }, [ %rd4 + 0 ];
"""
STORE = "    st.global.b32 [ %rd5 + 0 ], { %r3 };\n    ret;\n}\n"


def run(body, x, threads=32, shared=0):
    """Executes a body that makes %r3 of %r2, one 32-bit word per thread."""
    machine = Machine(HEADER + LOAD + body + STORE, threads, shared)
    a, b = machine.memory.alloc(x), machine.memory.alloc(np.zeros_like(x))
    machine.run([a, b])
    return machine.memory.read(b, x.dtype, x.shape)


X = np.random.default_rng(0).normal(size=32).astype(np.float32)
N = np.random.default_rng(0).integers(-(2**31), 2**31, 32).astype(np.int32)
BF16 = torch.tensor(X).bfloat16()
HALVES = N.view(np.float16).reshape(-1, 2)


@pytest.mark.parametrize(
    ("code", "x", "wanted"),
    [
        ("fma.rn.f32 %r3, %r2, %r2, %r2;", X, (X.astype(np.float64) ** 2 + X).astype(np.float32)),
        ("ex2.approx.ftz.f32 %r3, %r2;", X, np.exp2(X)),
        ("mul.f32 %r3, %r2, 0f40000000;", X, 2 * X),
        ("max.NaN.f32 %r3, %r2, 0f7fc00000;", X, np.full(32, np.nan, np.float32)),
        ("max.f32 %r3, %r2, 0f7fc00000;", X, X),
        ("setp.lt.f32 %p1, %r2, 0f00000000;\nselp.f32 %r3, %r2, 0f00000000, %p1;", X, np.where(X < 0, X, 0)),
        ("mov.b32 %r3, 0;\nsetp.gt.f32 %p1, %r2, 0f00000000;\n@%p1 mov.b32 %r3, %r2;", X, np.where(X > 0, X, 0)),
        ("cvt.rna.tf32.f32 %r3, %r2;", X, ((X.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)),
        ("cvt.rn.bf16.f32 %rs1, %r2;\nmov.b32 %r3, {0, %rs1};", X, torch.tensor(X).bfloat16().float().numpy()),
        (
            "cvt.rn.bf16.f32 %rs1, %r2;\nfma.rn.bf16 %rs2, %rs1, %rs1, %rs1;\nmov.b32 %r3, {0, %rs2};",
            X,
            (BF16.double() ** 2 + BF16.double()).bfloat16().float().numpy(),
        ),
        (
            "setp.lt.f16x2 %p1|%p2, %r2, 0;\nselp.b32 %r4, 1, 0, %p1;\nselp.b32 %r3, 2, %r4, %p2;",
            N,
            np.where(HALVES[:, 1] < 0, 2, HALVES[:, 0] < 0),
        ),
        ("shfl.sync.bfly.b32 %r3, %r2, 1, 31, -1;", X, X.reshape(-1, 2)[:, ::-1].reshape(-1)),
        ("shfl.sync.up.b32 %r3, %r2, 1, 0, -1;", X, np.concatenate([X[:1], X[:-1]])),
        ("div.s32 %r3, %r2, 7;", N, np.trunc(N / 7).astype(np.int32)),
        ("rem.s32 %r3, %r2, 7;", N, np.fmod(N, 7)),
        ("shr.s32 %r3, %r2, 40;", N, np.where(N < 0, -1, 0).astype(np.int32)),
        ("shl.b32 %r3, %r2, 3;", N, N << 3),
        ("bfe.s32 %r3, %r2, 4, 5;", N, (N << 23) >> 27),
        ("bfe.u32 %r3, %r2, 4, 5;", N, (N >> 4) & 31),
        ("prmt.b32 %r3, %r2, %r2, 0x0123;", N, N.byteswap()),
        ("prmt.b32 %r3, %r2, 0, 0x7772U;", N, (N >> 16) & 255),
        ("prmt.b32 %r3, %r2, 0, 0xBBBB;", N, np.where(N < 0, -1, 0).astype(np.int32)),
        ("mul.hi.s32 %r3, %r2, %r2;", N, ((N.astype(np.int64) ** 2) >> 32).astype(np.int32)),
    ],
)
def test_instruction(code, x, wanted):
    np.testing.assert_array_equal(run(code + "\n", x), wanted.astype(x.dtype))


def test_shared_memory_and_loop():
    """Neighbours through shared memory, five times round."""
    body = """
    shl.b32 %r10, %r1, 2;
    add.s32 %r11, %r1, 1;
    and.b32 %r11, %r11, 31;
    shl.b32 %r11, %r11, 2;
    mov.b32 %r3, %r2;
    mov.b32 %r12, 0;
$L__BB0_1:
    st.shared.b32 [ %r10 + 0 ], %r3;
    bar.sync 0;
    ld.shared.b32 %r3, [%r11];
    bar.sync 0;
    add.s32 %r12, %r12, 1;
    setp.lt.s32 %p1, %r12, 5;
    @%p1 bra $L__BB0_1;
"""
    np.testing.assert_array_equal(run(body, X, shared=128), np.roll(X, -5))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("ld.global.b32 %r3, [%rd4+128];\n", IndexError),
        ("ld.global.b32 %r3, [%rd4+-4];\n", IndexError),
        ("st.global.b32 [%rd5+4], %r2;\n", IndexError),
        ("shl.b32 %r9, %r1, 2;\nld.shared.b32 %r3, [%r9];\n", IndexError),  # 64 bytes are there
        ("ld.shared.b32 %r3, [2];\n", IndexError),  # not aligned
        ("ld.global.v2.b32 {%r3, %r4}, [%rd4];\n", IndexError),  # of 8 bytes, at multiples of 4
        ("add.s32 %r3, %r2, %r99;\n", KeyError),
        ("add.s32 %r3, %r2, elsewhere;\n", NotImplementedError),
        ("setp.lt.u32 %p1, %r1, 5;\n@%p1 bra $L__BB0_1;\n$L__BB0_1:\n", RuntimeError),
        ("mov.b32 %r9, 0;\nst.shared.b32 [%r9], %r1;\n", ValueError),  # by each thread its own number
        ("wgmma.mma_async.sync %r3, %r2, %r2;\n", NotImplementedError),
    ],
)
def test_what_must_not_happen_raises(body, error):
    with pytest.raises(error):
        run(body, X, shared=64)


def test_a_masked_access_may_point_anywhere():
    body = "mov.b32 %r3, 0;\nsetp.lt.u32 %p1, %r1, 31;\n@%p1 ld.global.b32 %r3, [%rd4+4];\n"
    np.testing.assert_array_equal(run(body, X), np.append(X[1:], np.float32(0)))


@pytest.mark.parametrize(("kind", "k"), [("tf32", 8), ("bf16", 16), ("f16", 16)])
def test_mma_against_matmul(kind, k):
    """Fragments built from the manual's formulas, independently of `arithmetic.mma`."""
    rng = np.random.default_rng(1)
    dtype = {"tf32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[kind]
    left, right = (torch.tensor(rng.integers(-8, 8, shape).astype(np.float32)).to(dtype) for shape in ((16, k), (k, 8)))
    c = rng.normal(size=(16, 8)).astype(np.float32)
    g, t = np.arange(32) // 4, np.arange(32) % 4
    bits = lambda x, *at: x.view(torch.int32 if kind == "tf32" else torch.int16).numpy()[at].astype(np.int64)
    word = lambda low, high: ((low & 0xFFFF) | ((high & 0xFFFF) << 16)).astype(np.uint32)
    if kind == "tf32":
        a = [bits(left, g + 8 * (i % 2), t + 4 * (i // 2)).astype(np.uint32) for i in range(4)]
        b = [bits(right, t + 4 * i, g).astype(np.uint32) for i in range(2)]
    else:
        a = [word(*(bits(left, g + 8 * (i % 2), 2 * t + j + 8 * (i // 2)) for j in (0, 1))) for i in range(4)]
        b = [word(*(bits(right, 2 * t + j + 8 * i, g) for j in (0, 1))) for i in range(2)]
    accumulator = [c[g + 8 * (i // 2), 2 * t + i % 2] for i in range(4)]
    out = arithmetic.mma(f"mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32".split("."), a, b, accumulator)
    wanted = (left.double() @ right.double()).numpy() + c
    for i, x in enumerate(out):
        np.testing.assert_array_equal(x, wanted[g + 8 * (i // 2), 2 * t + i % 2].astype(np.float32))


@triton.jit
def _matmul_kernel(a_ptr, b_ptr, out_ptr, M: tl.constexpr, K: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr):
    m, k, n = tl.arange(0, M), tl.arange(0, K), tl.arange(0, N)
    a = tl.load(a_ptr + m[:, None] * K + k[None, :])
    b = tl.load(b_ptr + k[:, None] * N + n[None, :])
    tl.store(out_ptr + m[:, None] * N + n[None, :], tl.dot(a, b, input_precision=PRECISION))


@pytest.mark.compiled
@pytest.mark.parametrize("warps", [1, 4])
@pytest.mark.parametrize(
    ("dtype", "precision", "rel"),
    [
        (torch.float32, "tf32", 1e-3),
        (torch.float32, "tf32x3", 1e-6),
        (torch.float32, "ieee", 1e-6),
        (torch.bfloat16, "ieee", 1e-6),
        (torch.float16, "ieee", 1e-6),
    ],
)
def test_a_compiled_product(dtype, precision, rel, warps):
    a, b = torch.randn(32, 16).to(dtype), torch.randn(16, 64).to(dtype)
    out = torch.empty(32, 64)
    execute(
        Launch(
            _matmul_kernel,
            (1,),
            dict(a_ptr=a, b_ptr=b, out_ptr=out),
            dict(M=32, K=16, N=64, PRECISION=precision),
            warps,
        )
    )
    wanted = a.double() @ b.double()
    assert (out.double() - wanted).norm() <= rel * wanted.norm()


@triton.jit(do_not_specialize=["n"])
def _softmax_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr, SLACK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * n + i, mask=i < n + SLACK, other=float("-inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + tl.program_id(0) * n + i, e / tl.sum(e, 0), mask=i < n)


@pytest.mark.compiled
def test_a_compiled_reduction_and_its_out_of_bounds_read():
    x, out = torch.randn(3, 100), torch.empty(3, 100)
    launch = lambda slack: Launch(
        _softmax_kernel, (3,), dict(x_ptr=x, out_ptr=out, n=100), dict(BLOCK=128, SLACK=slack), 2
    )
    execute(launch(0))
    torch.testing.assert_close(out, x.softmax(1))
    with pytest.raises(IndexError):
        execute(launch(1))
