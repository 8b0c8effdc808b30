"""Calls that follow a plan give the bits of calls that are made from scratch, whatever changes from call to call."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rnam import kernels
from rnam.kernels.common import plan
from rnam.kernels.common.launch import Launch, watched
from rnam.kernels.feed_forward.config import num_parameters
from rnam.kernels.min_gru import chunks
from rnam.kernels.scan import config as scan_config
from tests.support.assertions import assert_equal
from tests.support.calls import Call
from tests.support.oracle import MASKED, RESET

pytestmark = pytest.mark.interpreter

F, B, T, D, H = 2, 3, 5, 4, 4


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[plan.Plan]:
    """The plans that were made, and those of before are gone."""
    found: list[plan.Plan] = []

    class Counted(plan.Plan):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self)

    monkeypatch.setattr(plan, "Plan", Counted)
    monkeypatch.setattr(plan, "_plans", {})
    return found


def scratch(launcher: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with watched(Launch.execute):
        return launcher(*arguments, **options)


def agree(launcher: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of a call, which is that of one made from scratch."""
    got, expected = launcher(*arguments, **options), scratch(launcher, *arguments, **options)
    assert_equal(launcher.__name__, got, expected)
    return got


def drawn(like: Any) -> Any:
    """Other numbers of the same layout, in memory of their own."""
    if isinstance(like, torch.Tensor):
        size = 1 + sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True)) if like.numel() else 0
        offset = like.data_ptr() % 16 // like.element_size()
        memory = torch.rand(size + offset)[offset:]
        if like.dtype == torch.uint8:
            memory = torch.tensor([0, MASKED, RESET])[torch.randint(3, memory.shape)]
        memory = torch.cat([memory.new_zeros(offset), memory]).to(like.dtype)[offset:]
        return memory.as_strided(like.shape, like.stride())
    if isinstance(like, tuple):
        parts = [drawn(part) for part in like]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return like


def thrice(launcher: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls of one kind on other memory: as written, watched, by the plan. The result of the last."""
    launcher(*drawn(arguments), **options)
    agree(launcher, *drawn(arguments), **options)
    return agree(launcher, *drawn(arguments), **options)


def a_call(**changes: Any) -> Call:
    call = Call(torch.rand(F, B, T, D), torch.rand(F, D, 2 * H), torch.rand(F, B, 1, H))
    return call._replace(**changes)


def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """h, dh, dh_last"""
    return torch.rand(F, B, T, H), torch.rand(F, B, T, H), torch.rand(F, B, 1, H)


def flags() -> torch.Tensor:
    return torch.tensor([0, MASKED, RESET], dtype=torch.uint8)[torch.randint(3, (F, B, T))]


def rows(width: int = D) -> torch.Tensor:
    return torch.rand(F, 7, width)


def packed(K: int = 0) -> torch.Tensor:
    return torch.rand(F, num_parameters(D, K))


CALLS: dict[str, tuple[Any, ...]] = {
    "minGRU": (kernels.recurrence_forward, a_call(), kernels.MIN_GRU),
    "minGRU in logs": (kernels.recurrence_forward, a_call(space="log"), kernels.MIN_GRU),
    "minGRU, last state": (kernels.recurrence_forward, a_call(need_h=False), kernels.MIN_GRU),
    "minGRU backward": (kernels.recurrence_backward, a_call(), kernels.MIN_GRU, *states()),
    "minGRU of width 70": (
        kernels.recurrence_forward, a_call(weight=torch.rand(F, D, 140), h0=None, flags=flags()), kernels.MIN_GRU
    ),
    "minGRU of width 70, backward": (
        kernels.recurrence_backward, a_call(weight=torch.rand(F, D, 140), h0=None, flags=flags()), kernels.MIN_GRU,
        torch.rand(F, B, T, 70), torch.rand(F, B, T, 70), None,
    ),
    "minLSTM": (kernels.recurrence_forward, a_call(weight=torch.rand(F, D, 3 * H)), kernels.MIN_LSTM),
    "minLSTM backward": (
        kernels.recurrence_backward, a_call(weight=torch.rand(F, D, 3 * H)), kernels.MIN_LSTM, *states()
    ),
    "block": (kernels.block_forward, a_call(), packed()),
    "block backward": (kernels.block_backward, a_call(), packed(), *states()),
    "block backward, two kernels": (kernels.block_backward, a_call(), packed(), states()[0], None, states()[2]),
    "feed-forward": (kernels.feed_forward_forward, rows(), packed(), rows()),
    "feed-forward of one number": (kernels.feed_forward_forward, rows(1), packed(1), rows()),
    "feed-forward backward": (kernels.feed_forward_backward, rows(), packed(), rows(), rows()),
    "linear": (kernels.grouped_linear_forward, rows(), torch.rand(F, D, H), torch.rand(F, 1, H), "gelu"),
    "linear backward": (
        kernels.grouped_linear_backward, rows(), torch.rand(F, D, H), torch.rand(F, 1, H), "gelu", rows(H)
    ),
    "linear of width 70": (kernels.grouped_linear_forward, rows(), torch.rand(F, D, 70), None, "relu"),
    "projected": (kernels.projected_forward, a_call(), torch.rand(F, H, D)),
}  # fmt: skip


QUICK = ("minGRU", "block backward", "block backward, two kernels", "linear backward")
LONG = pytest.mark.long_in_interpreter


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=LONG) for n in CALLS])
def test_a_plan_gives_what_the_launcher_gives(name: str, made: list[plan.Plan]) -> None:
    thrice(*CALLS[name])
    assert len(made) == 1


@pytest.mark.parametrize("log", [False, pytest.param(True, marks=LONG)])
def test_scans(log: bool, made: list[plan.Plan]) -> None:
    a, b, h0 = torch.rand(2, 3, 5, 4), torch.rand(2, 3, 5, 4), torch.rand(2, 3, 1, 4)
    thrice(kernels.scan_forward, a, b, h0, log=log)
    thrice(kernels.scan_backward, a, b if log else None, h0, torch.rand_like(a), torch.rand_like(a), log=log)
    assert len(made) == 2


@pytest.mark.long_in_interpreter
def test_a_sequence_that_is_cut(made: list[plan.Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan has the buffers between the launches, and the logarithm of the first state."""
    monkeypatch.setattr(chunks, "MIN_CHUNK_TILES", 1)
    monkeypatch.setattr(scan_config, "MIN_CHUNK_TILES", 1)
    cut = a_call(input=torch.rand(1, 1, 300, 1), weight=torch.rand(1, 1, 2), h0=torch.rand(1, 1, 1, 1))
    thrice(kernels.recurrence_forward, cut, kernels.MIN_GRU)
    assert len(made[0].steps) > 4
    preacts = Call(torch.rand(1, 1, 600, 2), None, torch.rand(1, 1, 1, 1), space="log")
    thrice(kernels.recurrence_forward, preacts, kernels.MIN_GRU)
    assert len(made[1].steps) > 4


def test_two_tensors_that_were_one(made: list[plan.Plan]) -> None:
    """Where h was dh too when the plan was made, it may be another one later."""
    call, (h, dh, dh_last) = a_call(), states()
    for _ in range(2):
        kernels.recurrence_backward(call, kernels.MIN_GRU, h, h, dh_last)
    agree(kernels.recurrence_backward, call, kernels.MIN_GRU, h, dh, dh_last)
    assert len(made) == 1


def test_the_tensor_that_is_given_is_written(made: list[plan.Plan]) -> None:
    x, weight = rows(), torch.rand(F, D, H)
    for _ in range(3):
        out = torch.empty(F, 7, H)
        got = kernels.grouped_linear_forward(x, weight, out=out)
        assert got.data_ptr() == out.data_ptr()
        assert_equal("out", out, scratch(kernels.grouped_linear_forward, x, weight))
    assert len(made) == 1


def unaligned(x: torch.Tensor) -> torch.Tensor:
    """The same numbers, from an address that is no multiple of 16."""
    moved = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)
    assert moved.data_ptr() % 16
    return moved


CHANGES: dict[str, Callable[[Call], Call]] = {
    "strides": lambda c: c._replace(input=c.input.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3)),
    "a copy": lambda c: c._replace(input=c.input.mT.contiguous().mT),
    "a copy of the weight": lambda c: c._replace(weight=c.weight.mT.contiguous().mT),
    "alignment": lambda c: c._replace(input=unaligned(c.input)),
    "alignment of h0": lambda c: c._replace(h0=unaligned(c.h0)),
    "dtype": lambda c: c._replace(input=c.input.half(), weight=c.weight.half()),
    "dtype of the weight": lambda c: c._replace(input=c.input.half()),
    "flags": lambda c: c._replace(flags=flags()),
    "flags of all terms": lambda c: c._replace(flags=flags()[:1, :, :1]),
    "no h0": lambda c: c._replace(h0=None),
    "space": lambda c: c._replace(space="log"),
    "no h": lambda c: c._replace(need_h=False),
    "steps": lambda c: c._replace(input=torch.rand(F, B, T + 1, D)),
    "batch": lambda c: c._replace(input=torch.rand(F, B + 1, T, D), h0=torch.rand(F, B + 1, 1, H)),
}


OTHERS = (
    "strides", "a copy of the weight", "dtype of the weight", "flags of all terms", "space", "no h", "batch", "steps",
    "alignment of h0",
)  # fmt: skip


@pytest.mark.parametrize(
    "change", [pytest.param(c, id=name, marks=LONG if name in OTHERS else ()) for name, c in CHANGES.items()]
)
def test_what_changes_is_planned_apart(change: Callable[[Call], Call], made: list[plan.Plan]) -> None:
    """And what was there before is found again."""
    plain, changed = a_call(), change(a_call())
    expected = [scratch(kernels.recurrence_forward, call, kernels.MIN_GRU) for call in (plain, changed)]
    for n in (0, 0, 1, 1, 0, 1):
        got = kernels.recurrence_forward((plain, changed)[n], kernels.MIN_GRU)
        assert_equal(("plain", "changed")[n], got, expected[n])
    assert len(made) == 2


def test_what_is_copied_is_copied_each_time(made: list[plan.Plan]) -> None:
    call = CHANGES["a copy"](a_call())
    for _ in range(2):
        kernels.recurrence_forward(call, kernels.MIN_GRU)
    for _ in range(2):
        call.input.uniform_()
        agree(kernels.recurrence_forward, call, kernels.MIN_GRU)
    assert len(made) == 1


def test_needs(made: list[plan.Plan]) -> None:
    call, given = a_call(), states()
    for needs in ((True, True, True, False), (True, False, True, False), (False, True, False, False)):
        got = thrice(kernels.recurrence_backward, call, kernels.MIN_GRU, *given, needs=needs)
        assert [g is not None for g in got] == list(needs)
    assert len(made) == 3


@LONG
def test_gradients_that_come_and_go(made: list[plan.Plan]) -> None:
    call, (h, dh, dh_last) = a_call(), states()
    for given in ((dh, dh_last), (dh, None), (None, dh_last), (dh.expand(F, B, T, H).mT.contiguous().mT, dh_last)):
        thrice(kernels.recurrence_backward, call, kernels.MIN_GRU, h, *given)
    assert len(made) == 4


def test_settings_and_options(made: list[plan.Plan]) -> None:
    """The setting of float32 products is read at each call, and launch numbers are a call's own."""
    call, before = a_call(), torch.backends.cuda.matmul.fp32_precision
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Launch, "execute", lambda self, run=Launch.execute: (seen.append(self), run(self))[1])
        try:
            for setting in ("ieee", "tf32", "ieee", "tf32", "ieee", "tf32"):
                torch.backends.cuda.matmul.fp32_precision = setting
                kernels.recurrence_forward(call, kernels.MIN_GRU)
                assert seen[-1].constants["PRECISION"] == ("tf32" if setting == "tf32" else "tf32x3")
        finally:
            torch.backends.cuda.matmul.fp32_precision = before
        for _ in range(3):
            kernels.recurrence_forward(call, kernels.MIN_GRU, precision="ieee")
            assert seen[-1].constants["PRECISION"] == "ieee"
    assert len(made) == 3


def test_autocast_has_no_plan(made: list[plan.Plan]) -> None:
    """The backends switch it off; its casts would be part of the plan."""
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            kernels.grouped_linear_forward(rows(), torch.rand(F, D, 70))
    assert not made
    thrice(kernels.grouped_linear_forward, rows(), torch.rand(F, D, 70))


def test_an_error_is_raised_each_time(made: list[plan.Plan]) -> None:
    for _ in range(4):
        with pytest.raises(TypeError, match="flags: expected uint8"):
            kernels.recurrence_forward(a_call(flags=torch.zeros(F, B, T)), kernels.MIN_GRU)
    assert not made


def test_threads(made: list[plan.Plan]) -> None:
    """One makes a plan, or each its own; the results are right, and nobody's launches are another one's."""
    calls = [a_call() for _ in range(4)]
    expected = [scratch(kernels.recurrence_forward, call, kernels.MIN_GRU) for call in calls]
    got: dict[int, list[Any]] = {n: [] for n in range(4)}
    together = threading.Barrier(4)

    def work(n: int) -> None:
        together.wait()
        for _ in range(3):
            got[n].append(kernels.recurrence_forward(calls[n], kernels.MIN_GRU))

    # the programs of launches at once would be confused by the interpreter, which keeps one grid for all threads
    lock, execute = threading.Lock(), Launch.execute
    with pytest.MonkeyPatch.context() as patch:

        def one_by_one(self: Launch) -> None:
            with lock:
                execute(self)

        patch.setattr(Launch, "execute", one_by_one)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(4):
        assert len(got[n]) == 3
        for result in got[n]:
            assert_equal(f"of thread {n}", result, expected[n])
    assert 1 <= len(made) <= 4


def test_no_more_are_kept_than_the_bound(made: list[plan.Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_PLANS", 2)
    for _ in range(2):
        for size in (3, 4, 5):
            thrice(kernels.grouped_linear_forward, torch.rand(F, size, D), torch.rand(F, D, H))
            assert len(plan._plans) <= 2
    assert len(made) == 6


def test_a_plan_holds_no_tensor(made: list[plan.Plan]) -> None:
    call = a_call()
    for _ in range(3):
        h, _ = kernels.recurrence_forward(call, kernels.MIN_GRU)
    gone = [weakref.ref(x) for x in (*call[:3], h)]
    del call, h
    gc.collect()
    assert len(made) == 1
    assert [ref() for ref in gone] == [None] * 4


def test_what_launches_in_the_place_of_run_sees_every_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    call, seen = a_call(), []
    for _ in range(3):
        kernels.recurrence_forward(call, kernels.MIN_GRU)
    monkeypatch.setattr(Launch, "run", lambda self: seen.append(self))
    for _ in range(3):
        kernels.recurrence_forward(call, kernels.MIN_GRU)
    assert len(seen) == 3


def test_a_launcher_that_looks_at_values_is_refused() -> None:
    @plan.planned
    def looks(x: torch.Tensor) -> torch.Tensor | None:
        return x.clone() if x.sum() > 0 else None

    looks(torch.ones(2))
    with pytest.raises(RuntimeError, match="may not look at values"):
        looks(torch.ones(2))


def test_a_tensor_from_elsewhere_is_refused() -> None:
    elsewhere = torch.ones(2)

    @plan.planned
    def adds(x: torch.Tensor) -> torch.Tensor:
        return x + elsewhere

    adds(torch.ones(2))
    with pytest.raises(RuntimeError, match="neither an operand nor made"):
        adds(torch.ones(2))


def test_a_plan_drops_what_no_later_step_reads(made: list[plan.Plan]) -> None:
    """In the backward of a wide layer the pre-activations are not needed to the end."""
    launcher, *arguments = drawn(CALLS["minGRU of width 70, backward"])
    _ = thrice(launcher, *arguments)
    (one,) = made
    values: list[torch.Tensor] = []
    plan._describe(arguments, [], values)
    operands = len(values)
    for step in one.steps:
        step(values)
    dropped = [n for n, value in enumerate(values) if value is plan._GONE]
    assert len(dropped) > 1 and min(dropped) >= operands
    assert_equal("gradients", plan._filled(one.result, values), scratch(launcher, *arguments))


def test_a_weight_that_learns_is_watched_by_nobody(made: list[plan.Plan]) -> None:
    weight = torch.rand(F, D, 70, requires_grad=True)
    got = [kernels.grouped_linear_forward(rows(), weight).requires_grad for _ in range(4)]
    assert got == [True] * 4 and not made
