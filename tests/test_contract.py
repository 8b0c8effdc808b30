"""torch's contract of modules: a layer that is hooked, pruned, normalised, wrapped or replaced is called.

In every mode the model computes what its layers have become.
"""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, prune

import rnam
from rnam.models.block import Block
from rnam.models.inputs import Embedding
from tests.support import backends, bounds, plain_model

TERMS, BATCH, SEQ, DIM = 2, 3, 5, 4
SUBMODULES = (
    "emb",
    *(
        f"blocks.{n}{name}"
        for n in (0, 1)
        for name in ("", ".gru", ".gru.to_hidden_and_gate", ".gru.to_out", ".ff", *(f".ff.{i}" for i in range(4)))
    ),
    "proj",
    "proj.0",
    "proj.1",
    "proj.2",
)
MODES = ("last", "sequence", "step")

# where the kernels take over from a layer in one way or another; the interpreter takes seconds for each
ON_KERNELS = {
    "blocks.0.gru.to_hidden_and_gate": "last",
    "blocks.1.ff.1": "last",
    "emb": "sequence",
    "blocks.0": "sequence",
    "blocks.1": "step",
    "proj.0": "step",
}


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


def each(names: Iterable[str], on_kernels: Mapping[str, str] = ON_KERNELS) -> pytest.MarkDecorator:
    """Every name in every mode on reference and blocks, and a sample of them on the kernels."""
    rows = [(backend, name, mode) for backend in ("reference", "torch") for name in names for mode in MODES]
    for name, mode in on_kernels.items():
        marks = [pytest.mark.interpreter] if mode == "last" else [pytest.mark.interpreter, pytest.mark.long]
        rows += [pytest.param("triton", name, mode, marks=marks)] if name in names else []
    return pytest.mark.parametrize(("backend", "name", "mode"), rows, indirect=["backend"])


class Called:
    """Counts calls, and changes what it sees so that to ignore it would show."""

    def __init__(self) -> None:
        self.count = 0

    def forward(self, module: nn.Module, given: Any, output: Any) -> Any:
        self.count += 1
        if isinstance(output, tuple):
            return (1.25 * output[0], *output[1:])
        return 1.25 * output

    def pre(self, module: nn.Module, given: Any) -> Any:
        self.count += 1
        return (given[0] * 0.75, *given[1:])

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        self.count += 1


class Wrapper(nn.Module):
    """Around a module, as adapters are: its output, and a share of it that has a parameter of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.share, self.count = inner, nn.Parameter(torch.full((1,), 0.25)), 0

    def forward(self, *given: Any, **options: Any) -> Any:
        self.count += 1
        output = self.inner(*given, **options)
        if isinstance(output, tuple):
            return (output[0] * (1 + self.share), *output[1:])
        return output * (1 + self.share)


def make() -> rnam.RNAM:
    torch.manual_seed(3)
    model = rnam.RNAM(TERMS, DIM, 2, 2)
    for block in model.blocks:
        nn.init.normal_(block.ff[0].weight, 1, 0.3)
        nn.init.normal_(block.ff[0].bias, 0, 0.3)
    return model


def inputs() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(5)
    x, mask = torch.randn(TERMS, BATCH, SEQ, 1, generator=rng), torch.rand(TERMS, BATCH, SEQ, generator=rng) > 0.3
    mask[0, 0] = False  # a row that is never observed
    return torch.where(mask[..., None], x, torch.nan), mask


def run(model: rnam.RNAM, x: Tensor, mask: Tensor, mode: str) -> Tensor:
    """Contributions (terms, batch, seq, out), those of the last step alone with "last"."""
    if mode == "last":
        return model(x, mask).contributions[:, :, None]
    if mode == "sequence":
        return model(x, mask, return_sequence=True).contributions
    state, every = None, []
    for t in range(SEQ):
        _, contributions, state = model.step(x[:, :, t], state, mask=mask[:, :, t])
        every.append(contributions)
    return torch.stack(every, dim=2)


def check(model: rnam.RNAM, mode: str, plain: rnam.RNAM | None = None) -> None:
    """Values and gradients are those of the layers called one after the other."""
    x, mask = inputs()
    plain = model if plain is None else plain
    results = []
    for owner, function in (
        (model, functools.partial(run, mode=mode)),
        (plain, plain_model.contributions),
    ):
        parameters = [p for p in owner.parameters() if p.requires_grad]
        out = function(owner, x, mask)
        out = out[:, :, -1:] if mode == "last" else out
        loss = (out * torch.linspace(0.5, 1.5, out.numel()).view_as(out)).sum()
        results.append((out.detach(), *torch.autograd.grad(loss, parameters, materialize_grads=True)))
    bounds.assert_same(*results)


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


@pytest.mark.parametrize("backend", backends.EACH, indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_an_untouched_model_is_its_layers(backend: str, mode: str) -> None:
    check(make(), mode)


@each(SUBMODULES)
def test_a_forward_hook_sees_and_changes_the_output(backend: str, name: str, mode: str) -> None:
    model, called = make(), Called()
    model.get_submodule(name).register_forward_hook(called.forward)
    x, mask = inputs()
    run(model, x, mask, mode)
    assert called.count == (SEQ if mode == "step" else 1)
    check(model, mode)


@each([n for n in SUBMODULES if n not in ("blocks.0", "blocks.1") and not n.endswith("gru")])
def test_a_pre_hook_changes_the_input(backend: str, name: str, mode: str) -> None:
    model, called = make(), Called()
    model.get_submodule(name).register_forward_pre_hook(called.pre)
    x, mask = inputs()
    run(model, x, mask, mode)
    assert called.count == (SEQ if mode == "step" else 1)
    check(model, mode)


@each(SUBMODULES)
def test_a_full_backward_hook_is_called(backend: str, name: str, mode: str) -> None:
    model, called = make(), Called()
    model.get_submodule(name).register_full_backward_hook(called.backward)
    x, mask = inputs()
    run(model, torch.nan_to_num(x).requires_grad_(), mask, mode).sum().backward()
    assert called.count == (SEQ if mode == "step" else 1)


def _old_weight_norm(module: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still used
        torch.nn.utils.weight_norm(module, "weight", dim=0)


TOUCHES: dict[str, Callable[[nn.Module], Any]] = {
    "prune": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight"),
    "old weight_norm": _old_weight_norm,
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight"),
    "old spectral_norm": lambda m: torch.nn.utils.spectral_norm(m, "weight"),
}


@pytest.mark.parametrize("touch", list(TOUCHES))
@each(
    ["emb", "blocks.0.gru.to_hidden_and_gate", "blocks.1.ff.1", "blocks.1.ff.3", "proj.0"],
    {"blocks.0.gru.to_hidden_and_gate": "sequence", "blocks.1.ff.1": "sequence"},
)
def test_weights_that_are_computed(backend: str, name: str, touch: str, mode: str) -> None:
    """Trained for two steps, and used as they are after loading a state dict."""
    model = make()
    TOUCHES[touch](model.get_submodule(name))
    model.eval() if "spectral" in touch else model.train()  # a power iteration in training changes what is compared
    check(model, mode)
    x, mask = inputs()
    model.train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        run(model, x, mask, mode).square().mean().backward()
        optimizer.step()
    trained = [n for n, p in model.named_parameters() if n.startswith(name) and not torch.equal(p, before[n])]
    assert trained, f"no parameter of {name} was trained"
    model.eval()
    other = make()
    TOUCHES[touch](other.get_submodule(name))
    other.eval()
    with torch.no_grad():
        run(other, x, mask, mode)
        other.load_state_dict(model.state_dict())
        bounds.assert_same(run(other, x, mask, mode), run(model, x, mask, mode))


@each(SUBMODULES)
def test_a_wrapper_is_called(backend: str, name: str, mode: str) -> None:
    model = make()
    wrapper = Wrapper(model.get_submodule(name))
    replace(model, name, wrapper)
    x, mask = inputs()
    run(model, x, mask, mode)
    assert wrapper.count == (SEQ if mode == "step" else 1)
    check(model, mode)


@each([n for n in SUBMODULES if not n.endswith("gru.to_out")])
def test_a_checkpoint_wrapper_changes_nothing(backend: str, name: str, mode: str) -> None:
    model = make()
    replace(model, name, checkpoint_wrapper(model.get_submodule(name)))
    check(model, mode, plain=make())


def _others() -> dict[str, Callable[[rnam.RNAM], None]]:
    """Changes of what a block is made of, each of which a fused block would not see."""

    def eps(model: rnam.RNAM) -> None:
        model.blocks[0].ff[0].eps = 0.5

    def activation(model: rnam.RNAM) -> None:
        model.blocks[1].ff[1].activation = "gelu"

    def dropout(model: rnam.RNAM) -> None:
        model.blocks[1].ff[2] = nn.Dropout(1.0)  # leaves the bias of the layer after it

    def longer(model: rnam.RNAM) -> None:
        model.blocks[0].ff.append(nn.Tanh())

    def norm(model: rnam.RNAM) -> None:
        model.blocks[0].ff[0] = nn.RMSNorm(DIM)

    def no_affine(model: rnam.RNAM) -> None:
        model.blocks[0].ff[0] = nn.LayerNorm(DIM, elementwise_affine=False)

    def out(model: rnam.RNAM) -> None:
        model.blocks[0].gru.to_out = rnam.Linear(TERMS, DIM, DIM, activation="silu")

    def projection(model: rnam.RNAM) -> None:
        model.blocks[0].gru.to_hidden_and_gate = rnam.Linear(TERMS, DIM, 2 * DIM)  # with a bias

    def emb(model: rnam.RNAM) -> None:
        model.emb.activation = "relu"

    def forward(model: rnam.RNAM) -> None:
        layer = model.blocks[1].gru.to_hidden_and_gate
        layer.forward = lambda x, own=layer.forward: 0.5 * own(x)

    def shared(model: rnam.RNAM) -> None:
        model.blocks[1].ff[3] = model.blocks[0].ff[3]

    return {
        f.__name__: f
        for f in (eps, activation, dropout, longer, norm, no_affine, out, projection, emb, forward, shared)
    }


@each(list(_others()), {"forward": "sequence", "activation": "last", "norm": "sequence", "emb": "step"})
def test_what_a_block_is_made_of_may_change(backend: str, name: str, mode: str) -> None:
    model = make()
    _others()[name](model)
    check(model, mode)
    assert not torch.equal(run(model, *inputs(), mode), run(make(), *inputs(), mode))


def test_a_hook_for_all_modules_is_called_for_each() -> None:
    """As a counter of FLOPs by layer registers it."""
    model, seen = make(), set()
    names = {module: name for name, module in model.named_modules()}
    handle = torch.nn.modules.module.register_module_forward_hook(lambda m, *_: seen.add(names[m]))
    try:
        model(*inputs())
    finally:
        handle.remove()
    assert seen == set(names.values()) - {"blocks"}  # a list is not called


@pytest.mark.parametrize(
    "kind",
    [rnam.Linear, nn.LayerNorm, nn.Identity, nn.Sequential, rnam.minGRU, Block, Embedding],
    ids=lambda k: k.__name__,
)
def test_a_forward_that_is_put_into_the_class_is_called(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """As tools that trace or time every layer of a kind do."""
    model, seen, own = make(), [], kind.forward

    def forward(module: nn.Module, *given: Any, **options: Any) -> Any:
        seen.append(module)
        return own(module, *given, **options)

    expected = model(*inputs()).prediction
    monkeypatch.setattr(kind, "forward", forward)
    bounds.assert_same(model(*inputs()).prediction, expected)
    # an Embedding inherits its forward
    assert seen == [m for m in model.modules() if type(m) is kind or (kind is rnam.Linear and isinstance(m, kind))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["emb", "blocks.0.ff.0", "blocks.1.ff.1", "blocks.1.ff.3", "blocks.0.gru.to_hidden_and_gate", "proj.0"]
)
def test_a_weight_that_is_no_parameter_is_read(name: str, mode: str) -> None:
    """Frozen as a buffer, or made by another network."""
    model = make()
    layer = model.get_submodule(name)
    weight = layer.weight.detach() * 0.5
    del layer.weight
    layer.register_buffer("weight", weight)
    plain = make()
    with torch.no_grad():
        plain.get_submodule(name).weight.mul_(0.5)
    bounds.assert_same(run(model, *inputs(), mode), run(plain, *inputs(), mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_replica_of_data_parallel_is_the_model(mode: str) -> None:
    """Its layers have no parameters, but attributes of their names."""
    model = make()
    replicas = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in replicas.items():
        for name, child in module._modules.items():
            setattr(replica, name, replicas[child])
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else parameter.clone())
    bounds.assert_same(run(replicas[model], *inputs(), mode), run(model, *inputs(), mode))


def test_a_cell_of_ones_own_has_the_arguments_of_torch() -> None:
    class Own(nn.Module):
        def forward(self, input: Tensor, prev_hidden: Tensor | None = None, *, mask: Tensor | None = None) -> Any:
            return 0.5 * torch.nan_to_num(input), torch.zeros_like(input[:, :, :1])

    model, (x, mask) = make(), inputs()
    model.blocks[0].gru = Own()
    for mode in MODES:
        assert run(model, x, mask, mode).isfinite().all()


def test_a_model_whose_layers_were_replaced_has_a_text() -> None:
    model = make()
    model.blocks[0].gru.to_hidden_and_gate = nn.Sequential(model.blocks[0].gru.to_hidden_and_gate)
    assert "minGRU" in repr(model)


EVERY = {"columns": [[0], [1, 2]], "missing": True, "timing": True, "static_columns": [[0], [1]], "members": 2}
VISITS = {"input": torch.zeros(3, 5, 3), "times": torch.zeros(3, 5), "static": torch.zeros(3, 2)}


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (rnam.RNAM(2, 4, 1, 2, cell="minlstm"), {"input": torch.zeros(2, 3, 5, 1)}),
        (rnam.RNAM(2, 4, 1, 2, **EVERY), VISITS),
        (rnam.NAM(2, (4, 3), missing=True, members=2), {"input": torch.zeros(3, 2)}),
    ],
    ids=("minLSTM", "every option", "NAM"),
)
def test_every_layer_of_other_models_is_called_once(model: nn.Module, given: dict[str, Tensor]) -> None:
    hooked, expected = copy.deepcopy(model), model(**given)
    called: dict[str, int] = dict.fromkeys(dict(hooked.named_modules()), 0)

    def hook(name: str, *_: Any) -> None:
        called[name] += 1

    for name, module in hooked.named_modules():
        module.register_forward_hook(functools.partial(hook, name))
    bounds.assert_same(hooked(**given).prediction, expected.prediction)
    assert {name for name, count in called.items() if count != 1} <= {"blocks"}  # a list is not called


def test_a_block_that_is_compiled_is_called_as_such() -> None:
    model, called = make(), []
    cell = model.blocks[0].gru

    def compiled(*given: Any, **options: Any) -> Any:
        called.append(1)
        return cell._call_impl(*given, **options)

    cell._compiled_call_impl = compiled
    model(*inputs())
    assert called == [1]


def test_a_block_of_another_kind_says_what_it_must_give() -> None:
    model = make()
    model.blocks[0] = nn.Bilinear(1, 1, 1)
    model.blocks[0].forward = lambda x, mask: x
    with pytest.raises(TypeError, match=r"blocks\[0\] must give a pair \(output, state\), got Tensor"):
        model(*inputs())


@pytest.mark.parametrize("name", ["blocks.0.ff.1", "blocks.0.gru.to_hidden_and_gate"])
def test_a_norm_that_was_removed_leaves_the_layer_as_it_was(name: str) -> None:
    """torch then registers the weight again, after the bias."""
    model, x = make(), inputs()
    expected = model(*x).prediction
    _old_weight_norm(model.get_submodule(name))
    torch.nn.utils.remove_weight_norm(model.get_submodule(name))
    bounds.assert_same(model(*x).prediction, expected)


def test_hooks_may_come_and_go() -> None:
    """Nothing is remembered from call to call."""
    model, (x, mask) = make(), inputs()
    expected = model(x, mask).prediction
    handle = model.blocks[0].ff[1].register_forward_hook(lambda module, given, output: 0 * output)
    changed = model(x, mask).prediction
    handle.remove()
    assert torch.equal(model(x, mask).prediction, expected) and not torch.equal(changed, expected)


def test_copies_and_state_dicts_are_those_of_an_untouched_model() -> None:
    assert list(make().state_dict()) == list(copy.deepcopy(make()).state_dict())
    assert len(list(itertools.chain(*(b.parameters() for b in make().blocks)))) == 2 * 7
