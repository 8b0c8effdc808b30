"""A launch takes the code that was compiled for its arguments, and finds it again without Triton's help. A plan does so
with addresses in the place of tensors.

A driver that launches nothing takes the place of CUDA's and writes down what it is given.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import driver

from rnam.kernels.common import launch, plan
from rnam.kernels.common.device import kernel
from rnam.kernels.common.launch import Launch
from tests.gpu import cache


@kernel
def scale(x_ptr, y_ptr, bias_ptr, n, stride: tl.int64, factor: tl.constexpr):
    i = tl.arange(0, 16)
    tl.store(y_ptr + i * stride, tl.load(x_ptr + i, i < n) * factor)


class Recorder(list):
    """In the place of Triton's C launcher."""

    def __call__(self, source: Any, metadata: Any) -> Any:
        return lambda *given: self.append((source, given))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Recorder]:
    """What is launched, (source, what the launcher was given); and no compiled code is kept from before."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "_kept", {})
    monkeypatch.setattr(scale, "device_caches", type(scale.device_caches)(scale.create_binder))
    found = Recorder()
    before = driver._active
    driver.set_active(cache.Driver(found))
    yield found
    driver._active = before


def a_launch(**changes: Any) -> Launch:
    x = torch.zeros(64)
    arguments = {"x_ptr": x, "y_ptr": torch.zeros(64), "bias_ptr": None, "n": 16, "stride": 1}
    constants = {"factor": 2.0, **{k: changes.pop(k) for k in list(changes) if k == "factor"}}
    options = {k: changes.pop(k) for k in list(changes) if k in ("num_warps", "max_registers", "grid")}
    return dataclasses.replace(Launch(scale, (3,), {**arguments, **changes}, constants, num_warps=1), **options)


def test_a_second_launch_has_the_arguments_of_its_own(launched: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    a_launch().run()
    monkeypatch.setattr(scale, "run", lambda *_, **__: pytest.fail("Triton looked it up again"))  # warmup is by it too
    second = a_launch(n=17, stride=5, grid=(7,))
    second.run()
    (first_source, _), (source, given) = launched
    assert source is first_source
    assert given[:3] == (7, 1, 1)
    assert given[-6:] == (second.arguments["x_ptr"], second.arguments["y_ptr"], None, 17, 5, 2.0)


def test_a_hook_is_told_of_each_launch(launched: Recorder) -> None:
    """As a profiler is that counts them."""
    hook, told = triton.knobs.runtime.launch_enter_hook, []
    a_launch().run()
    assert launched[-1][1][6:9] == (None, None, None)
    hook.add(told.append)
    try:
        a_launch(n=17).run()
    finally:
        hook.remove(told.append)
    *_, metadata, enter, leave = launched[-1][1][:9]
    assert metadata is not None
    assert (enter, leave) == (hook, triton.knobs.runtime.launch_exit_hook)
    assert launched[-1][1][-3] == 17


@pytest.mark.parametrize(
    "change",
    [
        {"x_ptr": torch.zeros(64)[1:]},
        {"x_ptr": torch.zeros(64, dtype=torch.bfloat16)},
        {"y_ptr": torch.zeros(64)[2:]},
        {"bias_ptr": torch.zeros(1)},
        {"n": 1 << 31},
        {"n": -(1 << 31) - 1},
        {"factor": 3.0},
        {"num_warps": 2},
        {"max_registers": 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_compiles_apart_is_found_apart(launched: Recorder, change: dict[str, Any]) -> None:
    """As Triton would: the code that it takes itself is that of a fresh launch."""
    plain, changed = a_launch(), a_launch(**change)
    for one in (plain, changed, plain, changed):
        one.run()
    sources = [source for source, _ in launched]
    # Triton makes a launcher once for each code that it compiles
    assert sources[0] is sources[2]
    assert sources[1] is sources[3]
    assert sources[0] is not sources[1]


@pytest.mark.parametrize(
    "change", [{"n": 1}, {"n": 16}, {"n": (1 << 31) - 1}, {"stride": 1 << 40}, {"grid": (2, 3)}], ids=str
)
def test_numbers_do_not_compile_apart(launched: Recorder, change: dict[str, Any]) -> None:
    a_launch().run()
    a_launch(**change).run()
    (first, _), (second, _) = launched
    assert first is second
    assert len(scale.device_caches[0][0]) == 1


def test_no_more_are_kept_than_the_bound(launched: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MOST_KEPT", 2)
    for factor in (2.0, 3.0, 4.0, 2.0):
        a_launch(factor=factor).run()
        assert len(launch._kept) <= 2
    assert [given[-1] for _, given in launched] == [2.0, 3.0, 4.0, 2.0]


@plan.planned
def scaled(x: torch.Tensor, bias: torch.Tensor | None = None, factor: float = 2.0) -> torch.Tensor:
    y = x.new_empty(x.shape)
    arguments = {"x_ptr": x, "y_ptr": y, "bias_ptr": bias, "n": x.shape[0], "stride": 1}
    Launch(scale, (3,), arguments, {"factor": factor}, num_warps=1).run()
    return y


@pytest.fixture
def no_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_plans", {})


@pytest.mark.usefixtures("no_plans")
def test_a_plan_launches_the_same_code_with_addresses(launched: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    x, bias = torch.zeros(64), torch.zeros(1)
    for _ in range(2):
        scaled(torch.zeros(64), bias)
    with monkeypatch.context() as patch:
        patch.setattr(scale, "run", lambda *_, **__: pytest.fail("Triton looked it up again"))
        y = scaled(x, bias)
    (first, _), (second, _), (third, given) = launched
    assert first is second is third
    assert given[:3] == (3, 1, 1)
    assert given[-6:] == (x.data_ptr(), y.data_ptr(), bias.data_ptr(), 64, 1, 2.0)
    scaled(x)  # without the bias it is another kind
    assert launched[-1][0] is not third


@pytest.mark.usefixtures("no_plans")
def test_memory_that_is_aligned_otherwise_takes_other_code(launched: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocator may give any address."""
    for _ in range(3):
        scaled(torch.zeros(64))
    monkeypatch.setattr(torch, "empty_strided", lambda *_, **__: torch.zeros(65)[1:])
    y = scaled(torch.zeros(64))
    assert y.data_ptr() % 16
    first, second, third, odd = (source for source, _ in launched)
    assert first is second is third
    assert odd is not first
    assert launched[-1][1][-5] is y


@pytest.mark.usefixtures("no_plans")
def test_a_plan_launches_on_the_device_of_its_tensors(launched: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[torch.device] = []
    second = torch.device("cuda", 1)
    monkeypatch.setattr(Launch, "device", second)
    monkeypatch.setattr(scale, "device_caches", {0: scale.device_caches[0]})
    for module in (launch, plan):
        monkeypatch.setattr(module, "on_device", lambda x: contextlib.nullcontext(entered.append(x)))
    for _ in range(2):
        scaled(torch.zeros(64))
    del entered[:]
    scaled(torch.zeros(64))
    assert entered == [second]
    assert len(launched) == 3


def test_another_device_is_another_kind() -> None:
    kinds = []
    for device in ("cpu", "meta"):
        key: list[Any] = []
        plan._describe((torch.empty(16, device=device),), key, [])
        kinds.append(tuple(key))
    assert kinds[0] != kinds[1]


def test_the_current_device_changes_where_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda x: contextlib.nullcontext(entered.append(x)))
    for device in (torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cpu")):
        with launch.on_device(device):
            pass
    assert entered == [torch.device("cuda", 1)]
