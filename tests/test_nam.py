"""`rnam.NAM` against loops over rows and terms."""

import copy

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds

BATCH, COLUMNS = 5, 6
MAPS = {"features": [[n] for n in range(COLUMNS)], "widths": [[0], [1, 2, 3], [0, 4]], "pairs": [[0, 1], [3, 4]]}


def _model(columns: list[list[int]] | None, **options: object) -> rnam.NAM:
    torch.manual_seed(0)
    terms = COLUMNS if columns is None else len(columns)
    options = {"hidden": (5, 4), "out_dim": 2, "dtype": torch.float64} | options
    model = rnam.NAM(terms, columns=columns, **options)  # type: ignore[arg-type]
    nn.init.normal_(model.gam.bias)
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _loop(model: rnam.NAM, columns: list[list[int]], x: Tensor, mask: Tensor, activation: str) -> Tensor:
    parameters, terms = oracle.named(model), []
    for f, own in enumerate(columns):
        none = torch.zeros(2, dtype=torch.float64) if model.missing is None else model.missing[f]
        rows = [
            oracle.feed_forward(parameters, f, row[own], activation) if seen[own].all() else none
            for row, seen in zip(x, mask, strict=True)
        ]
        terms.append(torch.stack(rows))
    return torch.stack(terms)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("backend")
def test_is_the_loop_over_rows_and_terms(name: str, activation: str, missing: bool) -> None:
    model = _model(MAPS[name], activation=activation, missing=missing)
    x, mask = torch.randn(BATCH, COLUMNS, dtype=torch.float64), torch.rand(BATCH, COLUMNS) > 0.3
    exact = _loop(model, MAPS[name], x, mask, activation)
    got = model(torch.where(mask, x, torch.nan), mask)
    bounds.assert_same(got.contributions, exact)
    assert torch.equal(got.prediction, got.contributions.sum(0) + model.gam.bias)
    parameters = [p for p in model.parameters() if p is not model.gam.bias]
    weight = torch.randn_like(exact)
    grads = torch.autograd.grad((got.contributions * weight).sum(), parameters)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), parameters))
    full = torch.ones_like(mask)
    bounds.assert_same(model(x).contributions, _loop(model, MAPS[name], x, full, activation))
    expected = torch.stack([mask[:, own].all(1) for own in MAPS[name]])
    assert torch.equal(model.observed(x, mask), expected) and model.observed(x).all()


def test_default_is_one_column_each_and_the_published_network() -> None:
    model, x = rnam.NAM(COLUMNS), torch.randn(BATCH, COLUMNS)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes == {
        "networks.layers.0.weight": (6, 1, 64),
        "networks.layers.0.bias": (6, 1, 64),
        "networks.layers.2.weight": (6, 64, 64),
        "networks.layers.2.bias": (6, 1, 64),
        "networks.layers.4.weight": (6, 64, 32),
        "networks.layers.4.bias": (6, 1, 32),
        "networks.layers.6.weight": (6, 32, 1),
        "networks.layers.6.bias": (6, 1, 1),
        "gam.bias": (1,),
    }
    read = model.columns(x)
    assert read.shape == (6, BATCH, 1)
    assert read.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_is_one_torch_network_per_term() -> None:
    """The same parameters in torch.nn.Sequential."""
    model, x = _model(None), torch.randn(BATCH, COLUMNS, dtype=torch.float64)
    for f in range(COLUMNS):
        network = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).double()
        with torch.no_grad():
            for mine, own in zip(model.networks.layers[::2], network[::2], strict=True):
                own.weight.copy_(mine.weight[f].T)
                own.bias.copy_(mine.bias[f, 0])
        bounds.assert_same(model(x).contributions[f], network(x[:, f : f + 1]))


def test_dropout_acts_in_training_alone() -> None:
    model, x = _model(None, dropout=0.5), torch.randn(BATCH, COLUMNS, dtype=torch.float64)
    assert (model(x).prediction != model(x).prediction).any()
    model.eval()
    assert torch.equal(model(x).prediction, model(x).prediction)
    assert torch.equal(model(x).prediction, _model(None)(x).prediction)


def test_reset_meta_copies_and_compile() -> None:
    model = _model(MAPS["widths"], missing=True)
    x, mask = torch.randn(BATCH, COLUMNS, dtype=torch.float64), torch.rand(BATCH, COLUMNS) > 0.3
    assert torch.equal(copy.deepcopy(model)(x, mask).prediction, model(x, mask).prediction)
    bounds.assert_same(torch.compile(model, fullgraph=True, backend="aot_eager")(x, mask), model(x, mask))
    empty = rnam.NAM(3, columns=MAPS["widths"], missing=True, device="meta").to_empty(device="cpu")
    torch.manual_seed(0)
    empty.reset_parameters()
    torch.manual_seed(0)
    made = rnam.NAM(3, columns=MAPS["widths"], missing=True)
    assert torch.equal(empty(x.float()).prediction, made(x.float()).prediction)
    assert (empty.missing == 0).all()


def test_no_rows() -> None:
    model = _model(None, missing=True)
    out = model(torch.zeros(0, COLUMNS, dtype=torch.float64), torch.zeros(0, COLUMNS).bool())
    assert (out.prediction.shape, out.contributions.shape) == ((0, 2), (COLUMNS, 0, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"terms": 0}, ValueError, "terms must be at least 1, got 0"),
        ({"hidden": ()}, ValueError, "hidden must have one width or more, got none"),
        ({"hidden": 3}, TypeError, "hidden must be a sequence of ints, got int"),
        ({"hidden": (3, 0)}, ValueError, r"hidden\[1\] must be at least 1, got 0"),
        ({"activation": None}, ValueError, "activation must be one of 'relu', 'gelu', 'silu', got None"),
        ({"dropout": 1.0}, ValueError, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"dropout": "a"}, TypeError, "dropout must be a number, got str"),
        ({"columns": [[0]]}, ValueError, "columns must have one entry for each of 3 terms, got 1"),
        ({"missing": None}, TypeError, "missing must be True or False, got NoneType"),
        ({"members": 0}, ValueError, "members must be at least 1, got 0"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.NAM(**{"terms": 3} | change)


@pytest.mark.parametrize(
    ("input", "mask", "error", "message"),
    [
        (torch.zeros(4, 3, 1), None, ValueError, r"input must have shape \(batch, columns\), got \(4, 3, 1\)"),
        (torch.zeros(4, 2), None, ValueError, r"input must have at least 3 columns in \(batch, columns\), got \(4, 2"),
        (torch.zeros(4, 3).double(), None, TypeError, "input must be float32 to go with the model, got float64"),
        (torch.zeros(4, 3), torch.ones(3).bool(), ValueError, r"mask must have shape \(batch, columns\), got \(3,\)"),
        (torch.zeros(4, 3), torch.ones(4, 3), TypeError, "mask must be a bool tensor, got float32"),
    ],
)
def test_bad_input(input: Tensor, mask: Tensor | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.NAM(3)(input, mask)
