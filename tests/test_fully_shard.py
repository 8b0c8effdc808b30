"""FSDP2 by block: each block gathers its parameters when it is called, in every mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

import rnam
from tests.support import backends, bounds

SEQ = 4


@pytest.fixture(autouse=True, params=backends.EACH[:2])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with rnam.set_backend(request.param):
        yield request.param


@pytest.fixture
def mesh(process_group: None) -> DeviceMesh:
    return init_device_mesh("cpu", (1,))


def make() -> rnam.RNAM:
    torch.manual_seed(0)
    return rnam.RNAM(3, 8, 1, 2)


def run(model: nn.Module, x: torch.Tensor, mode: str) -> torch.Tensor:
    if mode != "step":
        return model(x, return_sequence=mode == "sequence").prediction
    state, every = None, []
    for t in range(SEQ):
        prediction, _, state = model.step(x[:, :, t], state)
        every.append(prediction)
    return torch.stack(every, dim=1)


pytestmark = pytest.mark.filterwarnings(
    "ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning"  # none is changed in place
)
MODES = ("last", "sequence", "step")
WITH_PARAMETERS = [name for name, module in make().named_modules() if name and list(module.parameters())]


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_training_by_block(mesh: DeviceMesh, mode: str, root: bool) -> None:
    if mode == "step" and root:
        pytest.skip("a root gathers its parameters when it is called, and step is a method")
    models = make(), make()
    for block in models[1].blocks:
        fully_shard(block, mesh=mesh)
    if root:
        fully_shard(models[1], mesh=mesh)
    _assert_trained_alike(models, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [n for n in WITH_PARAMETERS if n != "blocks"])
def test_training_by_submodule(mesh: DeviceMesh, name: str, mode: str) -> None:
    """Whatever is sharded is called, since its parameters are there during its call alone."""
    models = make(), make()
    fully_shard(models[1].get_submodule(name), mesh=mesh)
    _assert_trained_alike(models, mode)


def _assert_trained_alike(models: tuple[rnam.RNAM, rnam.RNAM], mode: str) -> None:
    """Losses and parameters of three steps are those of the model that is not sharded, the first."""
    x = torch.randn(3, 6, SEQ, 1)
    losses = []
    for model in models:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = (run(model, x, mode) - 1).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    bounds.assert_same(losses[1], losses[0])
    sharded = {name: getattr(p, "full_tensor", lambda p=p: p)() for name, p in models[1].named_parameters()}
    for name, p in models[0].named_parameters():
        bounds.assert_same(sharded[name], p)
