"""Tables of shape functions: their rows against single forward passes, and files that give the same numbers back."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import rnam
from rnam import explain
from rnam.explain.tables import Table
from rnam.models.rnam import Additive
from tests.support import bounds

U = bounds.unit(torch.float64)
NAN = float("nan")


def _model(out: int = 1) -> rnam.RNAM:
    model = rnam.RNAM(terms=3, hidden_dim=4, out_dim=out, blocks=1, dtype=torch.float64)
    nn.init.normal_(model.gam.bias)
    return explain.describe(model, ["age", "lab, µ", 'say "x"'], ["years", "mg/dl", ""])


def _data() -> np.ndarray:
    data = np.random.default_rng(0).normal(size=(300, 3)) * [10, 1, 1] + [50, 0, 0]
    data[:, 2] = np.round(data[:, 2])
    data[::3, 1] = np.nan
    return data


SCALE = (np.array([50.0, 0, 0]), np.array([10.0, 1, 2]))


class Members(nn.Module):
    """Several models in one, as one that was made with members gives them."""

    def __init__(self, *models: rnam.RNAM) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.terms, self.in_dim = models[0].terms, 1
        self.gam = nn.Module()
        self.gam.bias = nn.Parameter(torch.stack([m.gam.bias.detach() for m in models]))

    def forward(self, input, mask):
        outs = [m(input, mask) for m in self.models]
        return Additive(*(torch.stack(part) for part in zip(*outs, strict=True)))


def _alone(model: rnam.RNAM, term: int, x: float) -> torch.Tensor:
    """The contribution (out,) of one term at one value, from a pass of its own."""
    input = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    input[term] = (x - SCALE[0][term]) / SCALE[1][term]
    mask = torch.full((3, 1, 1), not math.isnan(x))
    return model(input, mask).contributions[term, 0].detach()


def _constant(model: rnam.RNAM, data: np.ndarray, weight: np.ndarray, term: int) -> np.ndarray:
    total, mass = 0.0, 0.0
    for row, w in zip(data, weight, strict=True):
        if not math.isnan(row[term]):
            total, mass = total + w * _alone(model, term, row[term]).numpy(), mass + w
    return total / mass


@pytest.mark.parametrize("out", [1, 2])
def test_rows_are_centred_contributions(out: int) -> None:
    model, data = _model(out), _data()[:60]
    weight = np.random.default_rng(1).uniform(0.5, 2, 60)
    got = explain.table(model, data, sample_weight=weight, points=7, scale=SCALE, output=out - 1)
    constants = [_constant(model, data, weight, f)[out - 1] for f in range(3)]
    # a network of some 300 roundings of numbers below 10, twice, and a mean of 60
    error = 2 * 1000 * U * 10
    intercept = got.rows("(intercept)")
    assert abs(intercept.contribution[0] - (float(model.gam.bias.detach()[out - 1]) + sum(constants))) <= error
    assert intercept.n[0] == 60 and math.isnan(intercept.x[0])
    for f, (name, unit) in enumerate(zip(model.description.names, model.description.units, strict=True)):
        rows = got.rows(name)
        assert set(rows.unit) == {unit}
        for x, y, n in zip(rows.x, rows.contribution, rows.n, strict=True):
            assert abs(y - (float(_alone(model, f, x)[out - 1]) - constants[f])) <= error
            column, grid = data[:, f], rows.x[~np.isnan(rows.x)]
            if math.isnan(x):
                assert n == np.isnan(column).sum() > 0
            else:
                nearest = [grid[np.abs(grid - v).argmin()] for v in column if not math.isnan(v)]
                assert n == nearest.count(x)
        assert rows.n.sum() == 60
        assert math.isnan(rows.x[-1]) == (f == 1), "the missing have a row, last, where there are any"
    assert np.isnan(got.low).all() and np.isnan(got.high).all()


def test_a_row_of_each_term_sums_to_a_prediction() -> None:
    model, data = _model(), _data()
    got = explain.table(model, data, scale=SCALE, points=1000)  # every value has its row
    scaled = torch.tensor((data - SCALE[0]) / SCALE[1])
    mask = ~scaled.isnan()
    prediction = model(scaled.T[:, :, None, None], mask.T[:, :, None]).prediction[:, 0].detach()
    for row, expected in zip(data, prediction, strict=True):
        total = got.contribution[0]
        for name, value in zip(model.description.names, row, strict=True):
            rows = got.rows(name)
            total += rows.contribution[np.isnan(rows.x) if math.isnan(value) else rows.x == value].item()
        assert abs(total - float(expected)) <= 2000 * U * 10  # as above


def test_the_grid_is_of_values_or_quantiles() -> None:
    data = _data()
    got = explain.table(_model(), data, points=9, scale=SCALE)
    np.testing.assert_array_equal(got.rows('say "x"').x, np.unique(data[:, 2]))
    age = data[:, 0]
    quantiles, even = np.quantile(age, np.linspace(0, 1, 5)), np.linspace(age.min(), age.max(), 4)
    # the ends are in both
    np.testing.assert_allclose(got.rows("age").x, sorted([*quantiles, *even[1:-1]]), rtol=4 * U)


def test_two_points_are_the_ends() -> None:
    data = _data()
    got = explain.table(_model(), data, points=2, scale=SCALE).rows("age")
    np.testing.assert_array_equal(got.x, [data[:, 0].min(), data[:, 0].max()])
    assert got.n.sum() == len(data)


def test_members_give_mean_and_spread() -> None:
    models, data = [_model() for _ in range(3)], _data()
    got = explain.table(explain.describe(Members(*models), models[0].description.names), data, scale=SCALE)
    each = np.stack([explain.table(model, data, scale=SCALE).contribution for model in models])
    np.testing.assert_allclose(got.contribution, each.mean(0), rtol=0, atol=1000 * U)
    sd = each.std(0, ddof=1)[1:]
    np.testing.assert_allclose(got.high[1:], (each.mean(0)[1:] + sd), rtol=0, atol=1000 * U)
    np.testing.assert_allclose(got.low[1:], (each.mean(0)[1:] - sd), rtol=0, atol=1000 * U)
    assert math.isnan(got.low[0])


def test_classes_sum_to_zero() -> None:
    model, data = _model(2), _data()
    a, b = (explain.table(model, data, scale=SCALE, classes=True, output=k) for k in range(2))
    np.testing.assert_allclose(a.contribution, -b.contribution, rtol=0, atol=100 * U)


def test_columns_and_nam_need_no_encode() -> None:
    """Each value goes to the column that its term reads: contributions of the table's rows are those of the model."""
    data, order = _data(), [[2], [0], [1]]
    for model, steps in ((rnam.RNAM(3, 4, 1, 1, columns=order), True), (rnam.NAM(3, [4], columns=order), False)):
        model = model.double()
        got = explain.table(model, data, points=len(data))
        rows = np.isfinite(data).all(1)
        values = np.empty_like(data[rows])
        values[:, [2, 0, 1]] = data[rows]
        input = torch.tensor(values)[:, None] if steps else torch.tensor(values)
        parts = explain.contributions(model, input)[:, :, 0]
        for term in range(3):
            own = got.rows(f"term {term}")
            shape = dict(zip(own.x, own.contribution, strict=True))
            shift = [shape[x] - part for x, part in zip(data[rows][:, term], parts[:, term], strict=True)]
            np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1000 * U)  # a constant: the centre
    with pytest.raises(ValueError, match="encode must be given for term 1, which reads more than one value"):
        explain.table(rnam.NAM(2, [4], columns=[[0], [0, 1]]), data[:, :2])


@pytest.mark.parametrize("kind", ["RNAM", "columns", "NAM"])
def test_an_ensemble_has_a_spread(kind: str) -> None:
    """That of its members, each centred by itself."""
    model = {
        "RNAM": lambda: rnam.RNAM(3, 4, 1, 1, members=4),
        "columns": lambda: rnam.RNAM(3, 4, 1, 1, members=4, columns=[[2], [0], [1]], missing=True),
        "NAM": lambda: rnam.NAM(3, [4], members=4),
    }[kind]().double()
    data = _data()[np.isfinite(_data()).all(1)]
    got = explain.table(model, data, points=len(data), names=["a", "b", "c"])
    values = torch.tensor(data[:, [1, 2, 0]] if kind == "columns" else data)
    input = {"RNAM": values.T[:, :, None, None], "columns": values[:, None], "NAM": values}[kind]
    parts = explain.contributions(model, input, return_members=True)[..., 0]  # (members, samples, terms)
    parts = parts - parts.mean(1, keepdims=True)
    for term, name in enumerate("abc"):
        rows = got.rows(name)
        order = [list(data[:, term]).index(x) for x in rows.x]
        mean, sd = parts[:, order, term].mean(0), parts[:, order, term].std(0, ddof=1)
        np.testing.assert_allclose(rows.contribution, mean, rtol=0, atol=1000 * U)
        np.testing.assert_allclose(rows.high - rows.low, 2 * sd, rtol=0, atol=1000 * U)
        assert sd.max() > 0


def test_static_terms_come_after_the_others() -> None:
    model = rnam.RNAM(2, 4, 1, 1, static_columns=[[1]]).double()
    data = _data()
    got = explain.table(model, data, points=len(data))
    seen = torch.tensor(np.isfinite(data))
    given = torch.tensor(np.nan_to_num(data))
    parts = model(
        given[:, :2].T[:, :, None, None], seen[:, :2].T[:, :, None],
        static=given[:, [0, 2]], static_mask=seen[:, [0, 2]],
    ).contributions[2, :, 0].detach().numpy()  # fmt: skip
    there = np.isfinite(data[:, 2])
    shape = got.rows("term 2")
    own = dict(zip(shape.x, shape.contribution, strict=True))
    shift = [own[x] - part for x, part in zip(data[there, 2], parts[there], strict=True)]
    np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1000 * U)
    with pytest.raises(ValueError, match="encode must be given for a model with timing"):
        explain.table(rnam.RNAM(2, 4, 1, 1, timing=True), data[:, :2])


def test_memoryless_terms_are_read_from_the_input() -> None:
    model = rnam.RNAM(2, 4, 1, 1, columns=[[2], [0]], memoryless_columns=[[1]]).double()
    data = _data()
    got = explain.table(model, data, points=len(data))
    seen = torch.tensor(np.isfinite(data))[:, None, [1, 2, 0]]
    given = torch.tensor(np.nan_to_num(data))[:, None, [1, 2, 0]]
    parts = model(given, seen).contributions[:, :, 0].detach().numpy()
    for term in range(3):
        shape, there = got.rows(f"term {term}"), np.isfinite(data[:, term])
        own = dict(zip(shape.x, shape.contribution, strict=True))
        shift = [own[x] - part for x, part in zip(data[there, term], parts[term, there], strict=True)]
        np.testing.assert_allclose(shift, shift[0], rtol=0, atol=1000 * U)


def test_encode_gives_input_and_mask() -> None:
    model = rnam.RNAM(terms=3, hidden_dim=4, out_dim=1, blocks=1, in_dim=2)

    def encode(values):
        there = torch.tensor(np.isfinite(values)).T[:, :, None]
        one = torch.tensor(values, dtype=torch.float32).T[:, :, None]
        return torch.stack([one, one**2], -1), there

    assert explain.table(model, _data(), encode=encode).term[0] == "(intercept)"
    with pytest.raises(ValueError, match="data must have a column for each of the model's 3 terms, got 2"):
        explain.table(model, _data()[:, :2], encode=lambda values: encode(values[:, [0, 1, 1]]))
    with pytest.raises(ValueError, match="encode must be given"):
        explain.table(model, _data())


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_files_round_trip_to_the_last_bit(tmp_path, ending: str) -> None:
    rng = np.random.default_rng(2)
    odd = np.array([0.1, 1e-310, -0.0, 1e300, NAN, 2 / 3])
    names = ("(intercept)", "a, b", 'say "x"', "µ\nline", "d", "d")
    before = Table(names, odd, ("", "mg", "%", "", "a,b", "x"), rng.normal(size=6), odd[::-1], odd * 3, np.arange(6))
    path = tmp_path / f"table.{ending}"
    before.write(path)
    after = Table.read(path)
    assert (after.term, after.unit) == (before.term, before.unit)
    for name in ("x", "contribution", "low", "high"):
        one, other = getattr(before, name), getattr(after, name)
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes(), name
    np.testing.assert_array_equal(after.n, before.n)
    assert after.n.dtype == np.int64
    after.write(tmp_path / f"again.{ending}")
    assert (tmp_path / f"again.{ending}").read_bytes() == path.read_bytes()


def test_other_files_are_refused(tmp_path) -> None:
    got = explain.table(_model(), _data(), scale=SCALE)
    with pytest.raises(ValueError, match=r"path must end in .csv or .json, got table.txt"):
        got.write(tmp_path / "table.txt")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv must have the columns term, x, unit"):
        Table.read(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="term must be one of"):
        got.rows("no such term")


HEAD = "term,x,unit,contribution,low,high,n\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.csv", "", "must end in a line end"),
        ("short.csv", HEAD + "a,1,mg,2\n", "must have 7 cells in every row"),
        ("long.csv", HEAD + "a,1,mg,2,,,3,4\n", "must have 7 cells in every row"),
        ("number.csv", HEAD + "a,one,mg,2,,,3\n", "must have numbers in x, got 'one'"),
        ("cut.json", '{"term": [', "Expecting value"),
        ("list.json", "[]", "must have the columns"),
        (
            "uneven.json",
            '{"term": ["a"], "x": [1], "unit": [""], "contribution": [1], "low": [], "high": [null], "n": [1]}',
            "must have columns of one length",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        Table.read(tmp_path / name)


def test_frame() -> None:
    pytest.importorskip("pandas")
    got = explain.table(_model(), _data(), scale=SCALE)
    frame = got.to_frame()
    assert list(frame) == ["term", "x", "unit", "contribution", "low", "high", "n"]
    np.testing.assert_array_equal(frame["contribution"], got.contribution)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": np.zeros(3)}, ValueError, r"data must have shape \(samples, terms\)"),
        ({"data": np.zeros((0, 3))}, ValueError, "of at least one sample"),
        ({"data": np.zeros((4, 2))}, ValueError, "data must have 3 terms as the model has, got 2"),
        ({"data": np.full((4, 3), np.inf)}, ValueError, "data must be finite or NaN"),
        ({"data": np.full((4, 3), np.nan)}, ValueError, "data must hold at least one value of each term"),
        ({"points": 1}, ValueError, "points must be at least 2"),
        ({"output": 1}, ValueError, "output must be from 0 to 0, got 1"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight must have shape \(4,\)"),
        ({"classes": True}, ValueError, "classes must be False"),
        ({"scale": (0, 1), "encode": lambda v: None}, ValueError, "scale must be None where encode is given"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        explain.table(**{"model": _model(), "data": np.zeros((4, 3))} | change)
