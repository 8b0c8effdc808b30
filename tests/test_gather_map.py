"""The gather map is a constant: nothing that averages, casts or moves a module's tensors changes a column's number."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_multi_avg_fn

import rnam
from rnam.models.inputs import Columns

MAPS = {"widths": [[0], [1, 2, 3], [0, 4], [4]], "backwards": [[9], [7], [5]], "view": [[0], [1], [2]]}


def _model(name: str) -> rnam.RNAM:
    return rnam.RNAM(len(MAPS[name]), 4, 1, 1, columns=MAPS[name], static_columns=[[1], [0, 2]])


def _inputs() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return torch.randn(3, 5, 10), {"static": torch.randn(3, 3), "mask": torch.rand(3, 5, 10) > 0.3}


AVERAGES = {
    "swa": {},
    "swa, many at once": {"multi_avg_fn": get_swa_multi_avg_fn()},
    "ema": {"avg_fn": get_ema_avg_fn(0.9)},
    "ema, many at once": {"multi_avg_fn": get_ema_multi_avg_fn(0.9)},
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_with_buffers_reads_the_same_columns(name: str, kind: str) -> None:
    model, (x, given) = _model(name), _inputs()
    average = AveragedModel(model, use_buffers=True, **AVERAGES[kind])
    for _ in range(50):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.01)
        average.update_parameters(model)
    other = _model(name)
    other.load_state_dict(average.module.state_dict())  # the parameters alone, into a model whose map is as it was made
    assert torch.equal(average(x, **given).prediction, other(x, **given).prediction)


@pytest.mark.parametrize("kind", [rnam.RNAM, rnam.NAM])
def test_models_have_no_buffer(kind: type[nn.Module]) -> None:
    model = _model("widths") if kind is rnam.RNAM else rnam.NAM(4, (8,), columns=MAPS["widths"])
    assert not [name for name, _ in model.named_buffers()]


CHANGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "double": lambda m: m.double(),
    "type": lambda m: m.type(torch.float64),
    "to": lambda m: m.to(torch.float64),
    "copy": lambda m: copy.deepcopy(m).double(),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)).double(),
    "share_memory": lambda m: m.share_memory().double(),
    "reset_parameters": lambda m: (m.columns.reset_parameters(), m.double())[1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_map_stays(change: str) -> None:
    model, (x, given) = _model("widths"), _inputs()
    right = copy.deepcopy(model).double()(x.double(), **given | {"static": given["static"].double()}).prediction
    changed = CHANGES[change](model)
    assert changed.columns.index.dtype == torch.int64
    assert torch.equal(changed(x.double(), **given | {"static": given["static"].double()}).prediction, right)


@pytest.mark.parametrize("name", MAPS)
def test_a_model_without_memory_is_filled(name: str) -> None:
    """By `to_empty` and a state dict, or by assigning one, without a word to the map."""
    model, (x, given) = _model(name), _inputs()
    right = model(x, **given).prediction
    with torch.device("meta"):
        empty = _model(name)
    on_meta = {key: value.to("meta") for key, value in given.items()}
    assert empty(x.to("meta"), **on_meta).prediction.is_meta
    assigned = copy.deepcopy(empty)
    assigned.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(assigned(x, **given).prediction, right)
    assert torch.equal(assigned.to("cpu")(x, **given).prediction, right)
    made = empty.to_empty(device="cpu")
    made.load_state_dict(model.state_dict())
    assert torch.equal(made(x, **given).prediction, right)


def test_a_replica_of_another_device_reads_there() -> None:
    """DataParallel copies parameters and buffers of a module, and nothing else."""
    columns = Columns("columns", MAPS["widths"])
    replica = columns._replicate_for_data_parallel()
    assert replica(torch.zeros(3, 5, 10, device="meta")).is_meta


@pytest.mark.parametrize("name", ["widths", "view"])
def test_a_pickle_of_0_2_has_its_map(name: str) -> None:
    """There the indices were a buffer."""
    columns = Columns("columns", MAPS[name])
    state = columns.__getstate__() if hasattr(columns, "__getstate__") else columns.__dict__
    state = copy.deepcopy(dict(state or columns.__dict__))
    index = state.pop("index", None)
    state["_buffers"]["index"] = torch.empty(0, dtype=torch.int64) if index is None else index
    state["_non_persistent_buffers_set"].add("index")
    old = Columns.__new__(Columns)
    old.__setstate__(state)
    assert not list(old.buffers())
    x = torch.randn(3, 5, 10)
    assert torch.equal(old(x), columns(x))


def test_the_state_dict_has_no_map() -> None:
    file = io.BytesIO()
    torch.save(_model("widths").state_dict(), file)
    file.seek(0)
    assert not [name for name in torch.load(file, weights_only=True) if "index" in name]


@pytest.mark.parametrize("name", ["widths", "backwards"])
def test_it_is_exported_and_compiled(name: str) -> None:
    model, (x, given) = _model(name).eval(), _inputs()
    right = model(x, **given).prediction
    assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(x, **given).prediction, right)
    program = torch.export.export(model, (x,), given)
    torch.testing.assert_close(program.module()(x, **given).prediction, right)
