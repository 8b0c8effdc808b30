"""What is right, the bytes, and what counts as wrong."""

import math

import pytest
import torch

from benchmarks.protocol import work
from benchmarks.protocol.shapes import Shape
from benchmarks.protocol.work import Expected, errors, tolerances
from tests.benchmarks.support import CPU, SMALL, job
from tests.support import oracle

# Sums of float64 in another order.
CLOSE = dict(rtol=1e-10, atol=1e-12)


# Segments of the oracle and a rest, groups of batch rows, one step from a state.
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("min_gru", Shape("s", 2, 3, 21, 3, 2)),
        ("min_gru", Shape("s", 2, 3, 1, 3, 2, state=True)),
        ("linear", Shape("s", 2, 3, 4, 1, 1, widths=(1, 5, 2))),
        ("linear_scan", Shape("s", 1, 3, 21, 5, 5)),
        ("log_scan", Shape("s", 1, 3, 21, 5, 5)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_the_oracle_is_the_step_loop_and_its_gradient(
    op: str, shape: Shape, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(op, shape)
    monkeypatch.setattr(oracle, "SEGMENT", 8)
    monkeypatch.setattr(work, "ELEMENTS", shape.elements)  # p of a minGRU has more: two groups
    loops = {
        "min_gru": lambda x, w, h0=None: oracle.min_gru(x, w, h0, made.mask if masked else None)[0],
        "linear": lambda x, w1, b1, w2, b2: (x @ w1 + b1).relu() @ w2 + b2,
        "linear_scan": oracle.scan,
        "log_scan": lambda a, b: oracle.scan(a, b, log=True),
    }
    leaves = [t.double().requires_grad_() for t in made.leaves]
    output = loops[op](*leaves)
    want = output, *torch.autograd.grad(output, leaves, made.incoming.double())
    for a, b in zip(work.expected(made, masked).tensors, want, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_bytes_of_each_pass() -> None:
    layer = job("min_gru", Shape("s", 3, 4, 20, 4, 5))
    x, w, h = 4 * 3 * 4 * 20 * 4, 4 * 3 * 4 * 10, 4 * 3 * 4 * 20 * 5
    assert layer.bytes("forward") == x + w + h
    assert layer.bytes("backward") == 2 * x + 2 * w + h
    assert layer.bytes("both") == 3 * x + 3 * w + 2 * h
    half = work.make("min_gru", Shape("s", 3, 4, 20, 4, 5), "bfloat16", CPU)
    assert 2 * half.bytes("both") == layer.bytes("both")
    step = job("min_gru", Shape("s", 3, 4, 1, 5, 5, state=True))
    assert step.bytes("forward") == 4 * (3 * 4 * 5 * 3 + 3 * 5 * 10)
    scan = job("linear_scan", Shape("s", 1, 2, 10, 6, 6))
    assert (scan.bytes("forward"), scan.bytes("backward")) == (3 * 4 * 120, 5 * 4 * 120)
    chain = job("linear", Shape("s", 2, 3, 1, 1, 1, widths=(1, 4, 2)))
    forward = 6 * 1 + 6 * 4 + 2 * 4 + 2 * 4 + 6 * 4 + 6 * 2 + 2 * 8 + 2 * 2
    backward = 2 * 6 + 6 * 4 + 2 * 2 * 4 + 2 * 4 + 2 * 6 * 4 + 6 * 2 + 2 * 2 * 8 + 2 * 2
    assert (chain.bytes("forward"), chain.bytes("backward")) == (4 * forward, 4 * backward)
    assert job("model", SMALL).bytes("both") is None


def test_the_oracle_of_a_large_shape_takes_some_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape("s", 10, 2, 6, 3, 3)
    whole = work.expected(job(shape=shape))
    monkeypatch.setattr(work, "ELEMENTS", shape.elements // 3)
    some = work.expected(job(shape=shape))
    assert some.chosen == (0, 3, 6)
    assert some.note == "checked on 3 of 10 terms"
    for a, b in zip(some.tensors, whole.tensors, strict=True):
        torch.testing.assert_close(a, b[list(some.chosen)], **CLOSE)
    monkeypatch.setattr(work, "ELEMENTS", 2 * 6 * 4)
    scan = work.expected(job("log_scan", Shape("s", 1, 2, 6, 10, 10)))
    assert (scan.chosen, scan.note) == ((0, 2, 5, 7), "checked on 4 of 10 channels")


def test_errors_see_what_is_wrong() -> None:
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    want = Expected((y, y), 0, (0, 1), 2)
    assert errors((y, y), want) == (0.0, 0.0)
    assert errors((y + 0.4, None), want) == (pytest.approx(0.1), 0.0)
    assert errors((y, 1.5 * y), want)[1] == pytest.approx(0.5)
    assert errors((y, torch.full_like(y, torch.nan)), want)[1] == math.inf
    assert errors((y[:1], y[:1]), want, terms=1) == (0.0, 0.0)
    with pytest.raises(ValueError, match="expected a result of shape"):
        errors((y[:, :1], y), want)


def test_only_sums_of_logarithms_may_err_with_the_length() -> None:
    state, gradient = tolerances("float32", 1000, log_sums=False)
    assert tolerances("float32", 10, log_sums=False) == (state, gradient)
    assert state < 4e-6 and gradient < 3e-3
    assert tolerances("float32", 1000, log_sums=True)[0] == pytest.approx(state + 20 * 1000 * 2.0**-24)
    assert tolerances("float32", 10**6, log_sums=True) == (state + 0.2, gradient + 0.2)


def test_a_type_sets_all_that_reads_the_precision() -> None:
    """What torch.compile reads raises where it differs from the newer setting."""
    cudnn = torch.backends.cudnn
    read = lambda: (
        torch.backends.cuda.matmul.fp32_precision,
        torch._C._get_cublas_allow_tf32(),
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
        torch.get_float32_matmul_precision(),
    )
    before = read()
    with work.precision("tf32"):
        assert read() == ("tf32", True, "tf32", "tf32", "high")
    for kind in ("float32", "bfloat16"):
        with work.precision(kind):
            assert read() == ("ieee", False, "ieee", "ieee", "highest")
    assert read() == before
