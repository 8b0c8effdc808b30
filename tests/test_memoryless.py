"""Terms that read a step and forget it, such as the hour of the day, beside recurrent and static ones."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import rnam
from rnam.models.visits import read_visits
from tests.support import additive_oracle as oracle
from tests.support import bounds
from tests.support.assertions import assert_equal, assert_within
from tests.support.members import member

TERMS, BATCH, SEQ = 2, 4, 6
COLUMNS, MEMORYLESS, STATIC = [[0], [1, 2]], [[3], [0, 4]], [[1], [0, 2]]
EXACT = torch.float64


def _model(**options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    given = {"columns": COLUMNS, "memoryless_columns": MEMORYLESS, "static_columns": STATIC, "timing": True}
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, **(given | options))  # type: ignore[arg-type]
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> dict[str, Tensor]:
    mask, static_mask = torch.rand(BATCH, SEQ, 5) > 0.4, torch.rand(BATCH, 3) > 0.3
    mask[0, :, 3] = mask[1, :3] = False  # a term that is never observed, and a row that is late
    return {
        "input": torch.where(mask, torch.randn(BATCH, SEQ, 5, dtype=EXACT), torch.nan),
        "mask": mask,
        "times": torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(-1),
        "static": torch.where(static_mask, torch.randn(BATCH, 3, dtype=EXACT), torch.nan),
        "static_mask": static_mask,
    }


def _observed(mask: Tensor, columns: list[list[int]]) -> Tensor:
    return torch.stack([mask[..., own].all(-1) for own in columns])


def _exact(model: rnam.RNAM, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Contributions (terms, batch, seq, out_dim) as loops, and the terms that are observed so far."""
    parameters = oracle.named(model)
    zero = torch.zeros(2, dtype=EXACT)
    before = [
        zero if model.missing is None else row for row in (model.missing if model.missing is not None else [zero] * 7)
    ]
    recurrent = _observed(inputs["mask"], COLUMNS)
    read = [inputs["input"][..., own] for own in COLUMNS] + [oracle.visit_pattern(inputs["times"], recurrent)]
    seen = torch.cat([recurrent, recurrent.any(0)[None]])
    missing = None if model.missing is None else model.missing[:3]
    parts = list(oracle.sequences(parameters, read, seen, 2, missing))
    own_seen = _observed(inputs["mask"], MEMORYLESS)
    for f, own in enumerate(MEMORYLESS):
        rows = []
        for x, there in zip(inputs["input"][..., own], own_seen[f], strict=True):
            outputs = [oracle.feed_forward(parameters, f, step, "relu", "memoryless") for step in x[there]]
            rows.append(oracle.held(outputs, there, before[3 + f]))
        parts.append(torch.stack(rows))
    static_seen = _observed(inputs["static_mask"], STATIC)
    for f, own in enumerate(STATIC):
        rows = [
            oracle.feed_forward(parameters, f, row[own], "relu", "static") if there else before[5 + f]
            for row, there in zip(inputs["static"], static_seen[f], strict=True)
        ]
        parts.append(torch.stack(rows)[:, None].expand(BATCH, SEQ, 2))
    so_far = torch.cat([seen, own_seen]).cumsum(-1) > 0
    return torch.stack(parts), torch.cat([so_far, static_seen[..., None].expand(-1, -1, SEQ)])


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.usefixtures("backend")
def test_is_the_loop_between_the_timing_term_and_the_static_terms(missing: bool) -> None:
    model, inputs = _model(missing=missing), _inputs()
    assert model.sizes() == (7, 2)
    exact, seen = _exact(model, inputs)
    every, end = model(**inputs, return_sequence=True), model(**inputs)
    bounds.assert_same(every.contributions, exact)
    bounds.assert_same(end.contributions, exact[:, :, -1])
    assert torch.equal(every.prediction, every.contributions.sum(0) + model.gam.bias)
    weight = torch.randn_like(exact)
    learned = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((every.contributions * weight).sum(), learned)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), learned))
    assert_equal("observed", model.observed(**inputs, return_sequence=True), seen)
    assert_equal("observed", model.observed(**inputs), seen[:, :, -1])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.usefixtures("backend")
def test_steps_and_members(members: int) -> None:
    model, inputs = _model(missing=True, members=members), _inputs()
    every = model(**inputs, return_sequence=True, return_members=True)
    assert every.contributions.shape == (members, 7, BATCH, SEQ, 2)
    end = model(**inputs, return_members=True)
    assert_within("end", end.contributions, every.contributions[..., -1, :], 1e-12)
    state = None
    for t in range(SEQ):
        now = {name: inputs[name][:, t] for name in ("input", "mask", "times")}
        if state is None:
            now |= {"static": inputs["static"], "static_mask": inputs["static_mask"]}
        prediction, contributions, state = model.step(state=state, **now, return_members=True)
        assert_within("prediction", prediction, every.prediction[:, :, t], 1e-12)
        assert_within("contributions", contributions, every.contributions[:, :, :, t], 1e-12)
    for k in range(members):
        single = member(model, _model(missing=True), k)
        bounds.assert_same(every.contributions[k], single(**inputs, return_sequence=True).contributions)


def test_the_past_is_forgotten() -> None:
    """And a recurrent term that reads the same column is not."""
    model = rnam.RNAM(1, 6, 1, 1, columns=[[0]], memoryless_columns=[[0]])
    x = torch.randn(1, 5, 1)
    other = torch.cat([torch.randn(1, 4, 1), x[:, 4:]], 1)
    ours, theirs = model(x).contributions, model(other).contributions
    assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(ours[0], theirs[0])


def test_a_calendar_is_no_visit() -> None:
    """It is known at every step, and the pattern of the visits is that of the other terms."""
    model, inputs = _model(), _inputs()
    inputs["mask"][..., 3] = True
    inputs["input"][..., 3] = 1.0
    right = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, columns=COLUMNS, timing=True)
    right.load_state_dict(model.state_dict(), strict=False)
    given = {name: inputs[name] for name in ("input", "mask", "times")}
    expected = right(**given, return_sequence=True).contributions
    assert torch.equal(model(**inputs, return_sequence=True).contributions[:3], expected)
    observed = _observed(inputs["mask"], COLUMNS)
    assert not read_visits(inputs["times"], observed, expected).happened.all()


def test_the_seed_gives_the_sequence_terms_as_without() -> None:
    model = _model(static_columns=None)
    torch.manual_seed(0)
    plain = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, columns=COLUMNS, timing=True)
    state = model.state_dict()
    for name, value in plain.state_dict().items():
        assert_equal(name, state[name], value)


def test_reset_meta_and_names() -> None:
    options = {"missing": True, "timescales": (1.0, 50.0)}
    model, inputs = _model(**options), _inputs()
    empty = _model(**options, device="meta").to_empty(device="cpu")
    torch.manual_seed(0)
    empty.reset_parameters()
    nn.init.zeros_(model.missing)
    assert torch.equal(empty(**inputs).prediction, model(**inputs).prediction)
    assert "(memoryless_columns): Columns(terms=2, widest=2, gathered)" in repr(model)
    names = [*"abcdefg"]
    assert rnam.explain.describe(model, names).description.names == tuple(names)


def test_copies_and_pickles() -> None:
    model, inputs = _model(continuous=True, time_unit=2.0), _inputs()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.sizes() == model.sizes()
        assert torch.equal(copied(**inputs).prediction, model(**inputs).prediction)


def test_a_pickle_of_0_2_has_none_of_what_came_later() -> None:
    model, inputs = _model(memoryless_columns=None), _inputs()
    old = copy.deepcopy(model)
    state = old.__dict__.copy()
    for name in ("memoryless_columns", "memoryless", "continuous", "time_unit"):
        del state[name]
    made = rnam.RNAM.__new__(rnam.RNAM)
    made.__setstate__(state)
    assert torch.equal(made(**inputs).prediction, model(**inputs).prediction)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"columns": None}, ValueError, "memoryless_columns must be None where columns is, .*, got some"),
        ({"memoryless_columns": []}, ValueError, "memoryless_columns must have at least one term, got none"),
        ({"memoryless_columns": [[]]}, ValueError, r"memoryless_columns\[0\] must have at least one column, got none"),
        ({"memoryless_columns": [["a"]]}, TypeError, r"memoryless_columns\[0\] must be an int, got str"),
    ],
)
def test_bad_columns(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _model(**options)


def test_too_few_columns() -> None:
    inputs = _inputs()
    del inputs["mask"]
    with pytest.raises(
        ValueError, match=r"input must have at least 5 columns in \(batch, seq, columns\), got \(4, 6, 4"
    ):
        _model()(**inputs | {"input": inputs["input"][..., :4]})
