"""What each term reads: the gather map, its views, and masks by column."""

import pickle

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.models.inputs import Columns
from tests.support import additive_oracle as oracle
from tests.support import bounds
from tests.support.assertions import assert_within

MAPS = {
    "in order": [[0], [1], [2]],
    "spaced": [[1], [3], [5]],
    "overlapping": [[0, 1], [1, 2], [2, 3]],
    "groups": [[0, 1], [2, 3]],
    "backwards": [[2], [1], [0]],
    "apart": [[0, 2], [1, 3]],
    "widths": [[0], [1, 2, 3], [0, 4], [4]],
    "one": [[3, 4]],
}
VIEWS = {"in order", "spaced", "overlapping", "groups", "one"}
BATCH, SEQ, COLUMNS = 4, 7, 6


def _model(columns: list[list[int]], dtype: torch.dtype = torch.float64, **options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    return rnam.RNAM(len(columns), 6, 2, 2, dtype=dtype, columns=columns, **options)  # type: ignore[arg-type]


def _observed(columns: list[list[int]], mask: Tensor) -> Tensor:
    return torch.stack([torch.stack([mask[..., c] for c in own]).all(0) for own in columns])


@pytest.mark.parametrize("name", MAPS)
def test_each_term_reads_its_columns(name: str) -> None:
    columns, x = MAPS[name], torch.randn(BATCH, SEQ, COLUMNS)
    read = Columns("columns", columns)(x)
    widest = max(map(len, columns))
    assert read.shape == (len(columns), BATCH, SEQ, widest)
    for own, got in zip(columns, read, strict=True):
        assert torch.equal(got[..., : len(own)], torch.stack([x[..., c] for c in own], -1))
        assert (got[..., len(own) :] == 0).all()


@pytest.mark.parametrize("name", MAPS)
def test_evenly_spaced_columns_are_not_copied(name: str) -> None:
    x = torch.randn(BATCH, SEQ, COLUMNS)
    read = Columns("columns", MAPS[name])(x)
    assert (read.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()) == (name in VIEWS)


def test_the_model_keeps_a_view_of_the_input() -> None:
    """Nothing of the size of the input is kept for the backward pass but the input."""
    x, model, kept = torch.randn(BATCH, SEQ, COLUMNS), _model(MAPS["in order"], torch.float32), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(x)
    read = [t for t in kept if t.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()]
    assert [t.shape for t in read] == [(3, BATCH * SEQ, 1)]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("backend")
def test_is_the_loop_over_rows_and_terms(name: str, masked: bool) -> None:
    columns, model = MAPS[name], _model(MAPS[name])
    x = torch.randn(BATCH, SEQ, COLUMNS, dtype=torch.float64)
    mask = torch.rand(BATCH, SEQ, COLUMNS) > 0.3 if masked else None
    lengths = torch.tensor([SEQ, 3, 0, 5]) if masked else None
    within = torch.arange(SEQ) < (torch.full((BATCH,), SEQ) if lengths is None else lengths)[:, None]
    seen = within[..., None] & (torch.ones_like(x).bool() if mask is None else mask)
    observed, inputs = _observed(columns, seen), [x[..., own] for own in columns]
    exact = oracle.sequences(oracle.named(model), inputs, observed, 2)
    dirty = torch.where(seen, x, torch.nan)
    every = model(dirty, mask, lengths=lengths, return_sequence=True)
    bounds.assert_same(every.contributions, exact)
    end = model(dirty, mask, lengths=lengths)
    bounds.assert_same(end.contributions, exact[:, :, -1])
    assert torch.equal(end.prediction, end.contributions.sum(0) + model.gam.bias)
    weight = torch.randn_like(exact)
    parameters = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((every.contributions * weight).sum(), parameters)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), parameters))


def test_equal_widths_are_the_layout_by_terms() -> None:
    """One seed gives the parameters of the model without columns, and the same numbers come out."""
    model = _model(MAPS["in order"])
    torch.manual_seed(0)
    plain = rnam.RNAM(3, 6, 2, 2, dtype=torch.float64)
    for got, expected in zip(model.state_dict().items(), plain.state_dict().items(), strict=True):
        assert got[0] == expected[0] and torch.equal(got[1], expected[1])
    x = torch.randn(BATCH, SEQ, 3, dtype=torch.float64)
    bounds.assert_same(model(x), plain(x.movedim(-1, 0)[..., None]))


def test_rows_past_a_width_stay_zero() -> None:
    columns = [[n] for n in range(60)] + [[0, 1, 2, 3]]
    model = _model(columns, torch.float32)
    weight, bias = model.emb.weight, model.emb.bias
    for _ in range(2):
        assert weight.shape == (61, 4, 6)
        assert (weight[:60, 1:] == 0).all() and (weight[60] != 0).all()
        # 360 draws reach 0.9 of their bound but with probability 1e-16; 24 reach 0.5 but with 1e-7
        assert weight[:60].abs().max() > 0.9 and weight[60].abs().max() > 0.25 and bias[:60].abs().max() > 0.5
        for name, p in (("weight", weight), ("bias", bias)):
            assert_within(name, p[:60], 0.0, 1.0)
            assert_within(name, p[60], 0.0, 0.5)
        model.reset_parameters()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(BATCH, SEQ, 60)).prediction.sum().backward()
        assert (weight.grad[:60, 1:] == 0).all() and (weight.grad[:60, 0] != 0).any()
        optimizer.step()
    assert (weight[:60, 1:] == 0).all()


def test_is_observed_where_all_its_columns_are() -> None:
    columns = MAPS["widths"]
    for name, mask in (("full", torch.rand(BATCH, SEQ, COLUMNS) > 0.5), ("steps", torch.rand(BATCH, SEQ, 1) > 0.5)):
        full = mask.expand(BATCH, SEQ, COLUMNS)
        assert torch.equal(Columns("columns", columns).observed(full), _observed(columns, full)), name


def test_copies_meta_and_devices() -> None:
    """The indices are no part of the state, and come back after to_empty."""
    model, x = _model(MAPS["widths"]), torch.randn(BATCH, SEQ, COLUMNS, dtype=torch.float64)
    assert not [name for name in model.state_dict() if "index" in name]
    assert torch.equal(pickle.loads(pickle.dumps(model))(x).prediction, model(x).prediction)
    empty = rnam.RNAM(4, 6, 2, 2, device="meta", dtype=torch.float64, columns=MAPS["widths"])
    assert empty(x.to("meta"), torch.ones(1, 1, COLUMNS, device="meta").bool()).contributions.is_meta
    made = empty.to_empty(device="cpu")
    made.columns.index.fill_(-7)
    torch.manual_seed(0)
    made.reset_parameters()
    assert torch.equal(made(x).prediction, model(x).prediction)


@pytest.mark.parametrize("name", ["in order", "widths"])
def test_compiles_without_graph_breaks(name: str) -> None:
    model = _model(MAPS[name], torch.float32)
    x, mask = torch.randn(BATCH, SEQ, COLUMNS), torch.rand(BATCH, SEQ, COLUMNS) > 0.5
    bounds.assert_same(torch.compile(model, fullgraph=True, backend="aot_eager")(x, mask), model(x, mask))


@pytest.mark.parametrize("name", ["overlapping", "widths"])
@pytest.mark.usefixtures("backend")
def test_gradient_of_the_input(name: str) -> None:
    model, x = _model(MAPS[name]), torch.randn(2, 3, COLUMNS, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, COLUMNS) > 0.3
    nn.init.normal_(model.gam.bias)
    assert torch.autograd.gradcheck(lambda x: model(x, mask, return_sequence=True).prediction, x)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"columns": [[0], [1]]}, ValueError, "columns must have one entry for each of 3 terms, got 2"),
        ({"columns": []}, ValueError, "columns must have at least one term, got none"),
        ({"columns": 3}, TypeError, "columns must be a sequence of sequences of ints, got int"),
        ({"columns": [0, 1, 2]}, TypeError, r"columns\[0\] must be a sequence of ints, got int"),
        ({"columns": [[0], [], [2]]}, ValueError, r"columns\[1\] must have at least one column, got none"),
        ({"columns": [[0], [1.0], [2]]}, TypeError, r"columns\[1\] must be an int, got float"),
        ({"columns": [[0], [1], [-1]]}, ValueError, r"columns\[2\] must be at least 0, got -1"),
        ({"in_dim": 2}, ValueError, "in_dim must be left at 1 where columns gives the inputs of each term, got 2"),
    ],
)
def test_bad_columns(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.RNAM(**{"terms": 3, "hidden_dim": 6, "out_dim": 1, "blocks": 1, "columns": [[0], [1], [2]]} | change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": torch.zeros(3, 4, 9, 1)}, ValueError, r"input must have shape \(batch, seq, columns\), got \(3"),
        ({"input": torch.zeros(4, 9, 2)}, ValueError, "input must have at least 3 columns in .*got"),
        ({"mask": torch.ones(4, 9).bool()}, ValueError, r"mask must have shape \(batch, seq, columns\), got \(4, 9"),
        ({"mask": torch.ones(4, 9, 2).bool()}, ValueError, r"mask must be broadcastable to \(batch, seq, columns\)"),
        ({"mask": torch.ones(4, 9, 3)}, TypeError, "mask must be a bool tensor, got float32"),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    model = _model(MAPS["in order"], torch.float32)
    with pytest.raises(error, match=message):
        model(**{"input": torch.zeros(4, 9, 3), "mask": None} | change)
