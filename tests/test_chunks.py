"""A sequence in chunks, each from the state of the last one, is the whole sequence and is its steps."""

import itertools
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import rnam
from rnam._memory import overlap
from rnam.models.streaming import Streamed
from tests.support.assertions import assert_equal, assert_within

TERMS, BATCH, SEQ = 3, 4, 11
COLUMNS = [[0], [1, 2], [0, 3]]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lstm": {"cell": "minlstm", "missing": True},
    "members": {"members": 2, "missing": True},
    "timing": {"timing": True},
    "static": {"static_columns": [[0], [1, 2]], "missing": True},
    "memoryless": {"columns": COLUMNS, "memoryless_columns": [[3]]},
    "continuous": {"continuous": True, "timescales": (0.5, 8.0)},
    "all": {
        "continuous": True,
        "timescales": (0.5, 8.0),
        "time_unit": 0.4,
        "columns": COLUMNS,
        "memoryless_columns": [[3], [1, 2]],
        "timing": True,
        "static_columns": [[0], [1, 2]],
        "missing": True,
        "members": 2,
    },
}
MASKS = ("none", "mask", "lengths", "both")
OF_A_ROW = ("static", "static_mask")


def _model(name: str, dtype: torch.dtype = torch.float64) -> rnam.RNAM:
    torch.manual_seed(0)
    model = rnam.RNAM(TERMS, 6, 2, 2, dtype=dtype, **OPTIONS[name])
    for p in (model.gam.bias, model.missing):
        if p is not None:
            nn.init.normal_(p)
    return model


def _inputs(name: str, masked: str, seq: int = SEQ, batch: int = BATCH) -> dict[str, Tensor]:
    """NaN wherever something is masked; a row and a term that are never observed, and ones that are late."""
    options, exact = OPTIONS[name], torch.float64
    shape = (batch, seq, 4) if "columns" in options else (TERMS, batch, seq)
    given: dict[str, Tensor] = {}
    x = torch.randn(shape, dtype=exact)
    if masked in ("mask", "both"):
        mask = torch.rand(shape) > 0.5
        if batch:
            by_row = mask if "columns" in options else mask.movedim(0, -1)
            by_row[0] = by_row[1, :, 0] = by_row[2, :6] = False
        given["mask"], x = mask, torch.where(mask, x, torch.nan)
    if masked in ("lengths", "both"):
        given["lengths"] = torch.arange(batch) * 3
    given["input"] = x if "columns" in options else x[..., None]
    if "timing" in options or "continuous" in options:
        given["times"] = torch.rand(batch, seq, dtype=exact).cumsum(1)
    if "static_columns" in options:
        given["static"] = torch.randn(batch, 3, dtype=exact)
        given["static_mask"] = torch.rand(batch, 3) > 0.4
    return given


def _cut(name: str, given: dict[str, Tensor], at: slice) -> dict[str, Tensor]:
    """The steps of one chunk; static terms are in the state after the first."""
    cut = {}
    for key, value in given.items():
        if key == "lengths":
            cut[key] = value - at.start
        elif key in OF_A_ROW:
            if at.start == 0:
                cut[key] = value
        else:
            cut[key] = value[:, at] if "columns" in OPTIONS[name] or key == "times" else value[:, :, at]
    return cut


def _chunks(lengths: list[int]) -> list[slice]:
    ends = list(itertools.accumulate(lengths))
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _of_chunks(model: rnam.RNAM, name: str, given: dict[str, Tensor], lengths: list[int], **options: Any) -> Streamed:
    """Prediction and contributions of the chunks, one after the other, and the last state."""
    predictions, parts, state = [], [], None
    for at in _chunks(lengths):
        if at.start == 0 and state is not None:  # after a chunk of no steps
            state = None
        cut = _cut(name, given, at)
        prediction, contributions, state = model(**cut, state=state, return_sequence=True, return_state=True, **options)
        predictions.append(prediction)
        parts.append(contributions)
    assert isinstance(state, rnam.State)
    return Streamed(torch.cat(predictions, dim=-2), torch.cat(parts, dim=-2), state)


def _assert_state(got: rnam.State, expected: rnam.State, bound: float) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        for n, (a, b) in enumerate(zip(got[key], value, strict=True) if key == "hidden" else [(got[key], value)]):
            if b.dtype == torch.bool:
                assert_equal(f"{key}[{n}]", a, b)
            else:
                assert_within(f"{key}[{n}]", a, b, bound)


EVERY = pytest.mark.parametrize(("name", "masked"), list(itertools.product(OPTIONS, MASKS)))


@EVERY
@pytest.mark.usefixtures("backend")
@hypothesis.settings(max_examples=5, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_chunks_are_the_whole(name: str, masked: str, lengths: list[int]) -> None:
    model, given = _model(name), _inputs(name, masked, sum(lengths))
    whole = model(**given, return_sequence=True, return_members=True)
    end = model(**given, return_members=True, return_state=True)
    got = _of_chunks(model, name, given, lengths, return_members=True)
    # float64 steps differ by the order of a few sums: some hundred roundings of numbers of size 1
    assert_within("prediction", got.prediction, whole.prediction, 1e-12)
    assert_within("contributions", got.contributions, whole.contributions, 1e-12)
    _assert_state(got.state, end.state, 1e-12)
    seen, state = [], None
    for at in _chunks(lengths):
        cut = _cut(name, given, at)
        if at.start == 0:
            state = None
        seen.append(model.observed(**cut, state=state, return_sequence=True))
        last = model.observed(**cut, state=state)
        output = model(**cut, state=state, return_members=True, return_state=True)
        state = output.state
        assert_equal(
            "observed", last, torch.cat([state.observed, *([state.static_observed] if "static" in state else [])])
        )
        if at.stop:
            assert_within("end", output.prediction, whole.prediction[..., at.stop - 1, :], 1e-12)
    assert_equal("observed", torch.cat(seen, -1), model.observed(**given, return_sequence=True))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("masked", ["none", "mask"])
@pytest.mark.usefixtures("backend")
def test_steps_go_on_from_chunks_and_chunks_from_steps(name: str, masked: str) -> None:
    model, given = _model(name), _inputs(name, masked)
    whole = model(**given, return_sequence=True)
    *_, state = model(**_cut(name, given, slice(0, 4)), return_state=True)
    by_columns = "columns" in OPTIONS[name]
    for t in range(4, 7):
        now = _cut(name, given, slice(t, t + 1))
        now = {k: v.squeeze(1 if by_columns or k == "times" else 2) for k, v in now.items()}
        prediction, _, state = model.step(state=state, **now)
        assert_within("prediction", prediction, whole.prediction[:, t], 1e-12)
    rest = model(**_cut(name, given, slice(7, SEQ)), state=state)
    assert len(rest) == 2
    assert_within("prediction", rest.prediction, whole.prediction[:, -1], 1e-12)


@EVERY
@pytest.mark.usefixtures("backend")
def test_gradients_are_those_of_the_whole(name: str, masked: str) -> None:
    model, given = _model(name), _inputs(name, masked)
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    outputs = (
        model(**given, return_sequence=True),
        _of_chunks(model, name, given, [4, 1, 0, 6]),
    )
    weight = torch.randn_like(outputs[0].contributions)
    grads = [
        torch.autograd.grad((out.contributions * weight).sum() + out.prediction.sum(), [p for _, p in learned])
        for out in outputs
    ]
    for (label, _), exact, got in zip(learned, *grads, strict=True):
        assert_within(label, got, exact, 1e-12 * max(1.0, float(exact.abs().max())))


def test_a_detached_state_ends_the_graph() -> None:
    model, given = _model("all"), _inputs("all", "mask")
    *_, state = model(**_cut("all", given, slice(0, 5)), return_state=True)
    assert state.hidden[0].requires_grad and not state.detach().hidden[0].requires_grad
    output = model(**_cut("all", given, slice(5, SEQ)), state=state.detach())
    output.prediction.sum().backward()  # and again, from the same state
    model(**_cut("all", given, slice(5, SEQ)), state=state.detach()).prediction.sum().backward()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("seq", [0, 1, 3])
@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.usefixtures("backend")
def test_nothing_shares_memory_and_no_state_changes(name: str, seq: int, return_sequence: bool) -> None:
    model, given = _model(name), _inputs(name, "mask")
    at = slice(5, 5 + seq)
    *_, state = model(**_cut(name, given, slice(0, 5)), return_state=True)
    for recorded in (False, True):
        with torch.set_grad_enabled(recorded):
            cut = _cut(name, given, at)
            kept = state[:]
            output = model(**cut, state=state, return_sequence=return_sequence, return_state=True)
        _assert_state(state, kept, 0.0)
        new = [t for _, v in output.state.items() for t in (v if isinstance(v, list) else [v])]
        old = [t for _, v in state.items() for t in (v if isinstance(v, list) else [v])]
        returned, given_tensors = [output.prediction, output.contributions], [*cut.values(), *model.parameters()]
        for a, b in [
            *itertools.combinations([*returned, *new], 2),
            *itertools.product([*returned, *new], [*old, *given_tensors]),
        ]:
            assert not overlap(a, b)


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
@pytest.mark.parametrize("name", OPTIONS)
def test_no_rows_or_no_steps(name: str, shape: tuple[int, int]) -> None:
    batch, seq = shape
    model, given = _model(name), _inputs(name, "mask", seq, batch)
    prediction, contributions, state = model(**given, return_sequence=True, return_state=True)
    assert prediction.shape == (batch, seq, 2)
    if not seq:
        end = model(**given, return_state=True)
        _assert_state(state, end.state, 0.0)
        again = model(**_cut(name, given, slice(0, 0)), state=state)
        assert_equal("prediction", again.prediction, end.prediction)
    assert contributions.isfinite().all()


def test_missing_is_learned_after_a_detached_state() -> None:
    """An unobserved term contributes the parameter as it is now, and not as it was in the state."""
    model = rnam.RNAM(2, 4, 1, 1, missing=True)
    x, none = torch.randn(2, 3, 4, 1), torch.zeros(2, 3, 4, dtype=torch.bool)
    *_, state = model(x, none, return_state=True)
    nn.init.ones_(model.missing)
    output = model(x, none, state=state.detach())
    assert_equal("prediction", output.prediction, torch.full((3, 1), 2.0))
    (gradient,) = torch.autograd.grad(output.prediction.sum(), model.missing)
    assert_equal("gradient", gradient, torch.full((2, 1), 3.0))


@pytest.mark.parametrize("name", ["plain", "all"])
def test_a_compiled_model_takes_and_gives_states(name: str) -> None:
    model, given = _model(name), _inputs(name, "mask")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    state = None
    for at in (slice(0, 4), slice(4, 8)):
        cut = _cut(name, given, at)
        got = compiled(**cut, state=state, return_state=True)
        expected = model(**cut, state=state, return_state=True)
        assert type(got) is Streamed and type(got.state) is rnam.State
        assert_within("prediction", got.prediction, expected.prediction, 1e-12)
        _assert_state(got.state, expected.state, 1e-12)
        state = got.state.detach()


class _Chunk(nn.Module):
    def __init__(self, model: rnam.RNAM) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: dict[str, Tensor], state: rnam.State) -> Any:
        return self.model(**given, state=state, return_state=True)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_an_exported_program_takes_and_gives_states(tmp_path: Any) -> None:
    model, given = _model("all").eval(), _inputs("all", "mask")
    *_, state = model(**_cut("all", given, slice(0, 4)), return_state=True)
    cut = _cut("all", given, slice(4, 8))
    torch.export.save(torch.export.export(_Chunk(model), (cut, state.detach())), tmp_path / "chunk.pt2")
    got = torch.export.load(tmp_path / "chunk.pt2").module()(cut, state.detach())
    expected = model(**cut, state=state, return_state=True)
    assert type(got) is Streamed and type(got.state) is rnam.State
    assert_within("prediction", got.prediction, expected.prediction, 1e-12)
    _assert_state(got.state, expected.state, 1e-12)
