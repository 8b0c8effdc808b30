"""The kernels that a model will launch are compiled before, and nothing else happens."""

import contextlib
import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import rnam
from rnam import warm_up
from rnam.backends import choice
from tests.support.assertions import assert_equal

pytestmark = pytest.mark.skipif(not choice.triton_installed(), reason="there is no Triton")


@pytest.fixture
def on_a_device() -> Iterator[None]:
    """CPU tensors take the kernels, and Triton's driver says that it is an sm_90 device; it launches nothing."""
    from tests.gpu import cache, launchers

    with cache.installed(), launchers.on_cpu_tensors():
        yield


@pytest.fixture
def collected(on_a_device: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The codes that would be compiled."""
    from rnam.kernels.common import ahead

    found: list[Any] = []
    monkeypatch.setattr(ahead, "compile_codes", lambda codes, **_: found.extend(codes))
    return found


def keys(codes: list[Any]) -> list[tuple[Any, ...]]:
    """The codes, with the dtype and alignment of each address."""

    def key(value: Any) -> Any:
        return (value.dtype, value.data_ptr() == 0) if hasattr(value, "data_ptr") else type(value)

    launches = [code.launch for code in codes]
    return [(x.kernel.__name__, x.num_warps, *map(key, x.arguments.values()), *x.constants.items()) for x in launches]


def launched(call: Callable[[], object]) -> list[tuple[Any, ...]]:
    from rnam.kernels.common import ahead

    with torch.autograd.set_multithreading_enabled(False):
        return keys(ahead.needed(call))


# ---- what is compiled ----


def a_model(**changes: Any) -> rnam.RNAM:
    return rnam.RNAM(**{"terms": 2, "hidden_dim": 4, "out_dim": 1, "blocks": 2} | changes)


MODELS: dict[str, tuple[Callable[[], torch.nn.Module], Callable[[], tuple[torch.Tensor, ...]]]] = {
    "RNAM": (a_model, lambda: (torch.randn(2, 3, 20, 1),)),
    "RNAM of columns": (lambda: a_model(columns=[[0], [2, 1]]), lambda: (torch.randn(3, 20, 3),)),
    "RNAM of minLSTM": (lambda: a_model(cell="minlstm"), lambda: (torch.randn(2, 3, 20, 1),)),
    "NAM": (lambda: rnam.NAM(2, (4, 4)), lambda: (torch.randn(3, 2),)),
    "minGRU": (lambda: rnam.minGRU(2, 4), lambda: (torch.randn(2, 3, 20, 4, requires_grad=True),)),
    "minLSTM": (lambda: rnam.minLSTM(2, 4, 2.0), lambda: (torch.randn(2, 3, 20, 4, requires_grad=True),)),
    "Linear": (lambda: rnam.Linear(2, 4, 5), lambda: (torch.randn(2, 3, 20, 4, requires_grad=True),)),
}


@pytest.mark.parametrize(
    ("name", "mask"), [(n, m) for n, m in itertools.product(MODELS, (False, True)) if (n, m) != ("Linear", True)]
)
def test_a_step_launches_what_was_compiled(name: str, mask: bool, collected: list[Any]) -> None:
    make, inputs = MODELS[name]
    model, arguments = make(), inputs()
    if mask:
        by_columns = getattr(model, "columns", None) is not None
        arguments += (torch.ones(arguments[0].shape[: None if by_columns else 3], dtype=torch.bool),)
    given = {"mask": arguments[1]} if mask else {}

    def step() -> None:
        output = model(arguments[0], **given)
        (output if isinstance(output, torch.Tensor) else output[0]).square().sum().backward()
        with torch.no_grad():
            model(arguments[0], **given)

    done = rnam.compile_ahead(model, 3, 20, mask=mask)
    assert done.reason == ""
    assert list(done.kernels) == [code.launch.kernel.__name__ for code in collected] != []
    missing = [key[0] for key in launched(step) if key not in keys(collected)]
    assert missing == []


def test_training_alone_and_inference_alone(collected: list[Any]) -> None:
    model = rnam.minGRU(2, 4)
    rnam.compile_ahead(model, 3, 20, inference=False)
    trained, collected[:] = keys(collected), []
    rnam.compile_ahead(model, 3, 20, training=False)
    evaluated = keys(collected)
    assert {key[0] for key in trained} == {"_min_gru_fwd_kernel", "_min_gru_bwd_kernel"}
    assert {key[0] for key in evaluated} == {"_min_gru_fwd_kernel"}


def test_autocast_and_options_are_those_of_the_call(collected: list[Any]) -> None:
    model, x = a_model(timing=True, static_columns=[[0]]), torch.randn(2, 3, 20, 1)
    given = {"times": torch.zeros(3, 20), "static": torch.zeros(3, 1), "return_sequence": True}
    with torch.autocast("cpu", torch.bfloat16):
        rnam.compile_ahead(model, 3, 20, return_sequence=True)
        needed = launched(lambda: model(x, **given).prediction.square().sum().backward())
    assert [key[0] for key in needed if key not in keys(collected)] == []
    dtypes = {x.dtype for code in collected for name, x in code.launch.arguments.items() if name == "x_ptr"}
    assert dtypes == {torch.bfloat16}


def test_no_code_comes_twice(collected: list[Any]) -> None:
    rnam.compile_ahead(a_model(), 3, 20)
    found = keys(collected)
    assert len(found) == len(set(found))


def test_the_codes_hold_no_memory(collected: list[Any]) -> None:
    rnam.compile_ahead(a_model(), 3, 20)
    held = [x for code in collected for x in code.launch.arguments.values() if isinstance(x, torch.Tensor)]
    assert held == []


# ---- compiling ----


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """As in a process and a cache where no linear kernel was compiled."""
    from rnam.kernels.common import launch, plan
    from rnam.kernels.linear import backward, forward

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "_kept", {})
    monkeypatch.setattr(plan, "_plans", {})
    for kernel in (forward._grouped_linear_fwd_kernel, backward._grouped_linear_bwd_kernel):
        monkeypatch.setattr(kernel, "device_caches", type(kernel.device_caches)(kernel.create_binder))


def test_the_first_step_compiles_nothing(on_a_device: None, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a driver without a device, with a cache of its own."""
    from triton.runtime.jit import JITFunction

    layer = rnam.Linear(2, 4, 5)
    assert rnam.compile_ahead(layer, 3, 20, threads=2, progress=False).kernels == (
        "_grouped_linear_fwd_kernel", "_grouped_linear_bwd_kernel", "_grouped_linear_bwd_kernel",
    )  # fmt: skip
    monkeypatch.setattr(JITFunction, "_do_compile", lambda *_, **__: pytest.fail("it was compiled again"))
    for learns in (False, True):  # the input of the first layer, and of a later one
        layer(torch.randn(2, 3, 20, 4, requires_grad=learns)).sum().backward()


def test_threads_may_collect_garbage_while_they_parse(on_a_device: None, fresh: None) -> None:
    """CPython 3.11.7 raised SystemError where one thread collected, and another went on, in a syntax tree."""
    from triton.runtime.jit import JITFunction

    def let_others_go_on(*_: Any) -> None:
        time.sleep(0)

    parse, threshold = JITFunction.parse, gc.get_threshold()
    gc.callbacks.append(let_others_go_on)
    gc.set_threshold(100)
    try:
        assert len(rnam.compile_ahead(rnam.Linear(2, 4, 5), 3, 20, threads=4, progress=False).kernels) == 3
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(let_others_go_on)
    assert JITFunction.parse is parse


def test_an_error_of_the_compiler_is_raised_and_leaves_nothing(
    on_a_device: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import triton
    from triton.runtime import _async_compile

    from rnam.kernels.linear import forward

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, layer = forward._grouped_linear_fwd_kernel, rnam.Linear(2, 4, 5)

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("of the compiler")

    for _ in range(2):
        monkeypatch.setattr(kernel, "device_caches", type(kernel.device_caches)(kernel.create_binder))
        kernel.device_caches[0]
        monkeypatch.setattr(kernel, "compile", fails)
        with pytest.raises(ValueError, match="of the compiler"):
            rnam.compile_ahead(layer, 3, 20, training=False, progress=False)
        assert _async_compile.active_mode.get() is None
    assert triton.AsyncCompileMode is _async_compile.AsyncCompileMode
    monkeypatch.undo()


class Bar:
    def __init__(self, **given: Any) -> None:
        self.given, self.totals, self.steps = given, [], 0

    def reset(self, total: int) -> None:
        self.totals.append(total)

    def update(self) -> None:
        self.steps += 1

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("progress", "disable"), [(True, None), (False, True)])
def test_the_bar_counts_the_kernels(
    progress: bool, disable: bool | None, on_a_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnam.kernels.common import ahead

    bars: list[Bar] = []
    tqdm = lambda **given: bars.append(Bar(**given)) or bars[0]
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=tqdm))

    def compile_codes(codes: list[Any], started: Callable[[int], None], finished: Callable[[], None], **_: Any) -> None:
        started(len(codes))
        for _ in codes:
            finished()

    monkeypatch.setattr(ahead, "compile_codes", compile_codes)
    done = rnam.compile_ahead(rnam.minGRU(2, 4), 3, 20, progress=progress)
    assert bars[0].totals == [len(done.kernels)]
    assert bars[0].steps == len(done.kernels)
    assert bars[0].given["disable"] is disable


def test_there_is_no_bar_without_tqdm(collected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert rnam.compile_ahead(rnam.Linear(2, 4, 5), 3, 20).kernels


# ---- what stays as it was ----


def test_nothing_of_the_model_changes(collected: list[Any]) -> None:
    model, called = rnam.NAM(2, (4, 4), dropout=0.5), []
    model.register_buffer("counted", torch.zeros(1))
    model.networks.layers.add_module("counter", Counter(model))
    layer = model.networks.layers[2]
    hooks = [
        layer.register_forward_pre_hook(lambda *_: called.append("before")),
        layer.register_forward_hook(lambda *_: called.append("after")),
        layer.register_full_backward_pre_hook(lambda *_: called.append("before backward")),
        layer.register_full_backward_hook(lambda *_: called.append("after backward")),
        layer.weight.register_hook(lambda *_: called.append("gradient")),
        layer.weight.register_post_accumulate_grad_hook(lambda *_: called.append("accumulated")),
    ]
    model.train()
    layer.eval()
    layer.bias.requires_grad_(False)
    model.gam.bias.grad = torch.full_like(model.gam.bias, 7.0)
    before = dict(model.named_parameters()), dict(model.named_buffers()), [m.training for m in model.modules()]
    values = {name: x.clone() for name, x in model.state_dict().items()}
    versions = {name: x._version for name, x in model.state_dict(keep_vars=True).items()}
    grads = {name: p.grad for name, p in model.named_parameters()}
    torch.manual_seed(3)
    random = torch.get_rng_state()
    rnam.compile_ahead(model, 3)
    assert collected
    assert called == []
    assert_equal("the random state", torch.get_rng_state(), random)
    after = dict(model.named_parameters()), dict(model.named_buffers()), [m.training for m in model.modules()]
    assert [list(x) for x in after] == [list(x) for x in before]
    for kind in (0, 1):
        for name, x in before[kind].items():
            assert after[kind][name] is x
    assert_equal("the parameters", dict(model.state_dict()), values)
    assert {name: x._version for name, x in model.state_dict(keep_vars=True).items()} == versions
    for name, p in model.named_parameters():
        assert p.grad is grads[name]
    model(torch.zeros(3, 2)).prediction.sum().backward()
    assert set(called) == {"before", "after", "before backward", "after backward", "gradient", "accumulated"}
    for hook in hooks:
        hook.remove()


class Counter(torch.nn.Module):
    """Counts its calls in a buffer of another module."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = [model]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.model[0].counted.add_(1)
        return x


def test_an_error_leaves_the_model_as_it_was(collected: list[Any]) -> None:
    model = rnam.NAM(2, (4, 4))
    model.networks.layers.add_module("breaks", Breaks())
    before = dict(model.named_parameters())
    with pytest.raises(ZeroDivisionError):
        rnam.compile_ahead(model, 3)
    for name, p in model.named_parameters():
        assert p is before[name]
    assert torch.is_grad_enabled()
    from rnam.kernels.common.launch import is_watched

    assert not is_watched()


class Breaks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError


def test_a_module_with_hooks_goes_its_own_way(collected: list[Any]) -> None:
    """A block whose cell is hooked is not one kernel, and that is what is compiled."""
    model = a_model()
    rnam.compile_ahead(model, 3, 20)
    assert "_block_fwd_kernel" in {key[0] for key in keys(collected)}
    collected.clear()
    for block in model.blocks:
        block.gru.register_forward_hook(lambda *_: None)
    rnam.compile_ahead(model, 3, 20)
    assert "_block_fwd_kernel" not in {key[0] for key in keys(collected)}


def test_parameters_that_are_one_stay_one(collected: list[Any]) -> None:
    model = a_model()
    model.blocks[1].gru.to_hidden_and_gate.weight = model.blocks[0].gru.to_hidden_and_gate.weight
    rnam.compile_ahead(model, 3, 20)
    assert model.blocks[1].gru.to_hidden_and_gate.weight is model.blocks[0].gru.to_hidden_and_gate.weight


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_around_it(context: Callable[[], Any], collected: list[Any]) -> None:
    model = rnam.minGRU(2, 4)
    with context():
        rnam.compile_ahead(model, 3, 20)
    assert "_min_gru_bwd_kernel" in {key[0] for key in keys(collected)}


# ---- where there is nothing to compile, and what is refused ----


@pytest.mark.kernels
def test_a_model_on_a_cpu_has_nothing_to_compile() -> None:
    done = rnam.compile_ahead(a_model(), 3, 20)
    if choice.interpreted():
        assert done == warm_up.Compiled((), "Triton's interpreter compiles nothing")
    else:
        assert done == warm_up.Compiled((), "backend 'auto' takes 'torch' for CPU tensors")


def test_the_reference_has_nothing_to_compile() -> None:
    with rnam.set_backend("reference"):
        assert rnam.compile_ahead(a_model(), 3, 20) == warm_up.Compiled((), "backend 'reference' is set")


@pytest.mark.kernels
def test_a_backend_that_cannot_run_raises() -> None:
    context = pytest.raises(RuntimeError, match="TRITON_INTERPRET=1")
    with rnam.set_backend("triton"), contextlib.nullcontext() if choice.interpreted() else context:
        rnam.compile_ahead(a_model(), 3, 20)


@pytest.mark.kernels
def test_the_interpreter_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    from rnam.kernels.common import ahead

    if not choice.interpreted():
        monkeypatch.setattr(ahead, "INTERPRETED", type("Yes", (), {"value": True}))
    with pytest.raises(RuntimeError, match="compiles nothing"):
        ahead.compile_codes([], threads=1, started=print, finished=print)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": torch.nn.ReLU()}, TypeError, "an RNAM, NAM, minGRU, minLSTM or Linear, got ReLU; in another module"),
        ({"batch": 0}, ValueError, "batch must be"),
        ({"batch": 2.0}, TypeError, "batch must be"),
        ({"seq": -1}, ValueError, "seq must be"),
        ({"threads": 0}, ValueError, "threads must be"),
        ({"mask": None}, TypeError, "mask must be True or False"),
        ({"training": False, "inference": False}, ValueError, "training or inference must be True"),
        ({"model": rnam.Linear(2, 4, 5), "mask": True}, ValueError, "mask must be False for a Linear"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.compile_ahead(**{"model": rnam.minGRU(2, 4), "batch": 3, "seq": 20} | changes)
