"""Static features beside sequences, as feed-forward terms."""

import pytest
import torch
from torch import Tensor, nn

import rnam
from tests.support import additive_oracle as oracle
from tests.support import bounds
from tests.support.assertions import assert_equal, assert_within
from tests.support.members import member

TERMS, BATCH, SEQ = 3, 4, 6
STATIC = [[0], [1, 2, 3], [0, 4]]
EXACT = torch.float64


def _model(**options: object) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, static_columns=STATIC, **options)  # type: ignore[arg-type]
    if model.missing is not None:
        nn.init.normal_(model.missing)
    return model


def _inputs() -> dict[str, Tensor]:
    mask, static_mask = torch.rand(TERMS, BATCH, SEQ) > 0.4, torch.rand(BATCH, 5) > 0.3
    static_mask[0] = False
    return {
        "input": torch.randn(TERMS, BATCH, SEQ, 1, dtype=EXACT),
        "mask": mask,
        "times": torch.rand(BATCH, SEQ, dtype=EXACT).cumsum(-1),
        "static": torch.where(static_mask, torch.randn(BATCH, 5, dtype=EXACT), torch.nan),
        "static_mask": static_mask,
    }


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.usefixtures("backend")
def test_is_the_loop_after_the_terms_of_the_sequence(missing: bool) -> None:
    model, inputs = _model(missing=missing, timing=True), _inputs()
    first, parameters = TERMS + 1, oracle.named(model)
    sequence = [*inputs["input"], oracle.visit_pattern(inputs["times"], inputs["mask"])]
    observed = torch.cat([inputs["mask"], inputs["mask"].any(0)[None]])
    exact = list(oracle.sequences(parameters, sequence, observed, 2, model.missing))
    seen = torch.stack([inputs["static_mask"][:, own].all(1) for own in STATIC])
    for f, own in enumerate(STATIC):
        none = torch.zeros(2, dtype=EXACT) if model.missing is None else model.missing[first + f]
        rows = [
            oracle.feed_forward(parameters, f, row[own], "relu", "static") if s else none
            for row, s in zip(inputs["static"], seen[f], strict=True)
        ]
        exact.append(torch.stack(rows)[:, None].expand(BATCH, SEQ, 2))
    exact = torch.stack(exact)
    every, end = model(**inputs, return_sequence=True), model(**inputs)
    bounds.assert_same(every.contributions, exact)
    bounds.assert_same(end.contributions, exact[:, :, -1])
    assert torch.equal(every.prediction, every.contributions.sum(0) + model.gam.bias)
    if missing:
        assert torch.equal(end.contributions[first, 0], model.missing[first])
    weight = torch.randn_like(exact)
    learned = [p for p in model.parameters() if p is not model.gam.bias]
    grads = torch.autograd.grad((every.contributions * weight).sum(), learned)
    bounds.assert_same(grads, torch.autograd.grad((exact * weight).sum(), learned))
    whole = torch.cat([observed.any(-1), seen])
    assert torch.equal(model.observed(**inputs), whole)
    so_far = torch.cat([observed.cumsum(-1) > 0, seen[..., None].expand(-1, -1, SEQ)])
    assert torch.equal(model.observed(**inputs, return_sequence=True), so_far)


def test_the_seed_gives_the_sequence_terms_as_without() -> None:
    model = _model()
    torch.manual_seed(0)
    plain = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT)
    state = model.state_dict()
    for name, value in plain.state_dict().items():
        assert_equal(name, state[name], value)


@pytest.mark.parametrize("members", [1, 3])
def test_steps_and_members(members: int) -> None:
    model, inputs = _model(missing=True, timing=True, members=members), _inputs()
    every = model(**inputs, return_sequence=True, return_members=True)
    assert every.contributions.shape == (members, TERMS + 4, BATCH, SEQ, 2)
    state = None
    for t in range(SEQ):
        now = {"mask": inputs["mask"][..., t], "times": inputs["times"][:, t]}
        if state is None:
            now |= {"static": inputs["static"], "static_mask": inputs["static_mask"]}
        prediction, contributions, state = model.step(inputs["input"][:, :, t], state, **now, return_members=True)
        assert_within("prediction", prediction, every.prediction[:, :, t], 1e-12)
        assert_within("contributions", contributions, every.contributions[:, :, :, t], 1e-12)
    for k in range(members):
        torch.manual_seed(0)
        alone = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, static_columns=STATIC, missing=True, timing=True)
        single = member(model, alone, k)
        bounds.assert_same(every.contributions[k], single(**inputs, return_sequence=True).contributions)


def test_reset_meta_and_compile() -> None:
    model, inputs = _model(missing=True, timing=True), _inputs()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    bounds.assert_same(compiled(**inputs), model(**inputs))
    empty = rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT, static_columns=STATIC, device="meta").to_empty(device="cpu")
    torch.manual_seed(0)
    empty.reset_parameters()
    del inputs["times"]
    assert torch.equal(empty(**inputs).prediction, _model()(**inputs).prediction)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"static": None}, ValueError, "static must be given with static_columns, and only then; the model has some"),
        ({"static": torch.zeros(4, 4)}, TypeError, "static must be float64 to go with the model, got float32"),
        ({"static": torch.zeros(4, 4).double()}, ValueError, r"static must have at least 5 columns in \(batch, col"),
        ({"static": torch.zeros(5, 5).double()}, ValueError, r"static must have the 4 rows of input in .* got \(5, 5"),
        ({"static_mask": torch.ones(5).bool()}, ValueError, r"static_mask must have shape \(batch, columns\), got"),
    ],
)
def test_bad_static(change: dict, error: type[Exception], message: str) -> None:
    inputs = _inputs()
    del inputs["times"]
    with pytest.raises(error, match=message):
        _model()(**inputs | change)
    with pytest.raises(ValueError, match="static must be given with static_columns, and only then; the model has none"):
        rnam.RNAM(TERMS, 6, 2, 2, dtype=EXACT)(**inputs)
