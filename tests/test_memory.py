"""What a call returns is the caller's: it may be changed in place, and nothing that the call was given changes with it,
nor what the next call is given."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import rnam
from rnam import explain, functional
from rnam._memory import overlap

TERMS, BATCH, SEQ = 3, 4, 5
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lstm": {"cell": "minlstm"},
    "missing": {"missing": True},
    "timing": {"timing": True},
    "static": {"static_columns": [[0], [1]]},
    "gathered static": {"static_columns": [[0], [1, 2]], "missing": True},
    "columns": {"columns": [[0], [1], [2]]},
    "gathered": {"columns": [[0], [1, 2], [0, 3]], "timing": True, "static_columns": [[0]]},
    "continuous": {"continuous": True},
    "memoryless": {"columns": [[0], [1], [2]], "memoryless_columns": [[3]]},
}
EVERY = pytest.mark.parametrize(
    ("name", "members", "masked"), list(itertools.product(OPTIONS, (1, 2), (False, True))), ids=str
)


def _named(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in what a call takes or gives, under a name each."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | rnam.State):
        for key, part in value.items():
            yield from _named(f"{name}.{key}", part)
    elif isinstance(value, list | tuple):
        for n, part in enumerate(value):
            yield from _named(f"{name}.{n}", part)


def _shared(returned: Any, given: Any) -> list[tuple[str, str]]:
    """Pairs of a tensor that was returned and one that is another or was given."""
    own, others = list(_named("returned", returned)), list(_named("given", given))
    pairs = [*itertools.combinations(own, 2), *itertools.product(own, others)]
    return [(a, b) for (a, x), (b, y) in pairs if overlap(x, y)]


def _model(name: str, members: int) -> rnam.RNAM:
    return rnam.RNAM(TERMS, 6, 2, 2, members=members, **OPTIONS[name])


def _inputs(name: str, masked: bool) -> dict[str, Tensor]:
    options, given = OPTIONS[name], {}
    by_columns = "columns" in options
    shape = (BATCH, SEQ, 4) if by_columns else (TERMS, BATCH, SEQ)
    given["input"] = torch.randn(shape if by_columns else (*shape, 1))
    if masked:
        given["mask"] = torch.rand(shape) > 0.5
    if "timing" in options or "continuous" in options:
        given["times"] = torch.rand(BATCH, SEQ).cumsum(1)
    if "static_columns" in options:
        given["static"] = torch.randn(BATCH, 3)
        if masked:
            given["static_mask"] = torch.rand(BATCH, 3) > 0.5
    return given


def _at(given: dict[str, Tensor], by_columns: bool, t: int) -> dict[str, Tensor]:
    """Views of one step, as a loop over a sequence has them."""
    return {
        key: value if "static" in key else value[:, t] if by_columns or key == "times" else value[:, :, t]
        for key, value in given.items()
    }


@EVERY
@pytest.mark.parametrize("return_members", [False, True])
@pytest.mark.usefixtures("backend")
def test_a_step_shares_nothing_with_its_state(name: str, members: int, masked: bool, return_members: bool) -> None:
    model, given, state = _model(name, members), _inputs(name, masked), None
    parameters = dict(model.named_parameters())
    for t in range(3):
        step = _at(given, "columns" in OPTIONS[name], t)
        if t == 2 and "static" in step:  # it goes on as it was
            del step["static"]
            step.pop("static_mask", None)
        for recorded in (False, True):
            with torch.set_grad_enabled(recorded):
                returned = model.step(state=state, return_members=return_members, **step)
            assert not _shared(returned, [step, state, parameters])
        state = returned[-1]


@EVERY
@pytest.mark.usefixtures("backend")
def test_changes_in_place_leave_the_next_step(name: str, members: int, masked: bool) -> None:
    """As of contributions that are centred, of a mask that is a buffer for the next, and of a state that is kept."""
    model, given = _model(name, members), _inputs(name, masked)
    by_columns = "columns" in OPTIONS[name]
    unseen = {"mask": torch.zeros(BATCH, 4, dtype=torch.bool) if by_columns else torch.zeros(TERMS, BATCH) > 0}
    with torch.no_grad():
        first = _at(given, by_columns, 0)
        _, _, state = model.step(**first)
        second = {key: value for key, value in _at(given, by_columns, 1).items() if "static" not in key} | unseen
        right = model.step(state=state, **second)
        again = {key: value.clone() for key, value in first.items()}
        prediction, parts, state = model.step(**again)
        for value in (prediction, parts, *again.values()):
            value.zero_()
        got = model.step(state=state, **second)
        for (label, a), (_, b) in zip(_named("step", got), _named("step", right), strict=True):
            assert torch.equal(a, b), label
        for _, value in _named("state", got[2]):
            value.zero_()
        kept = model.step(state=state, **second)
        for (label, a), (_, b) in zip(_named("step", kept), _named("step", right), strict=True):
            assert torch.equal(a, b), label


@EVERY
@pytest.mark.parametrize("return_sequence", [False, True])
@pytest.mark.usefixtures("backend")
def test_whole_sequences(name: str, members: int, masked: bool, return_sequence: bool) -> None:
    model, given = _model(name, members), _inputs(name, masked)
    parameters = dict(model.named_parameters())
    for options in ({}, {"lengths": torch.tensor([0, 3, 5, 9])}):
        for return_members in (False, True):
            returned = model(**given, **options, return_sequence=return_sequence, return_members=return_members)
            assert not _shared(returned, [given, options, parameters])
        assert not _shared(model.observed(**given, **options, return_sequence=return_sequence), [given, options])
    for length in (0, 1):
        at = slice(0, length)
        short = {key: value if "static" in key else
                 value[:, at] if "columns" in OPTIONS[name] or key == "times" else value[:, :, at]
                 for key, value in given.items()}  # fmt: skip
        assert not _shared(model(**short, return_sequence=return_sequence), [short, parameters])
        assert not _shared(model.observed(**short, return_sequence=return_sequence), [short, parameters])


@pytest.mark.parametrize("columns", [None, [[0], [1, 2], [0, 3]], [[0, 1], [1, 2], [2, 3]]], ids=str)
@pytest.mark.parametrize("members", [1, 2])
def test_a_model_of_one_time(columns: Any, members: int) -> None:
    model, x = rnam.NAM(TERMS, (6,), columns=columns, missing=True, members=members), torch.randn(BATCH, 4)
    for mask in (None, torch.rand(BATCH, 4) > 0.5, torch.rand(1, 4) > 0.5, torch.rand(BATCH, 1) > 0.5):
        given = [x, [] if mask is None else mask, dict(model.named_parameters())]
        for return_members in (False, True):
            assert not _shared(model(x, mask, return_members=return_members), given)
        seen = model.observed(x, mask)
        assert not _shared(seen, given)
        seen.logical_not_()  # each place is one of its own


def test_what_explain_gives() -> None:
    """Arrays, of a model that has one term or one sample among them."""
    for terms, batch in ((3, 4), (1, 4), (3, 1), (1, 1)):
        model, x = rnam.NAM(terms, (4,)), torch.randn(batch, terms)
        mask = torch.rand(batch, terms) > 0.5
        seen = explain.observed(model, x, mask)
        assert not overlap(torch.from_numpy(seen), mask)
        parts = torch.randn(terms, batch, 1)
        model.forward = lambda *_, parts=parts: (parts.sum(0), parts)  # one that keeps what it gives
        assert not overlap(torch.from_numpy(explain.contributions(model, x)), parts)
        bias = explain.intercept(model)
        assert not overlap(torch.from_numpy(bias), model.gam.bias)


CELLS = {
    "min_gru": (functional.min_gru, 2),
    "min_lstm": (functional.min_lstm, 3),
    "log space": (lambda *a, **k: functional.min_gru(*a, space="log", **k), 2),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seq", [0, 1, 5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.usefixtures("backend")
def test_states_of_cells(cell: str, seq: int, masked: bool, recorded: bool) -> None:
    function, preacts = CELLS[cell]
    x, weight = torch.randn(TERMS, BATCH, seq, 4), torch.randn(TERMS, 4, preacts * 6, requires_grad=recorded)
    mask = torch.zeros(TERMS, BATCH, seq, dtype=torch.bool) if masked else None
    for h0 in (None, torch.rand(TERMS, BATCH, 1, 6)):
        for reset in (None, torch.zeros(TERMS, BATCH, seq, dtype=torch.bool)):
            for need_h in (True, False):
                for elapsed in (None, torch.zeros(BATCH, seq)):
                    options = {"mask": mask, "reset": reset, "need_h": need_h, "elapsed": elapsed}
                    returned = function(x, weight, h0, **options)
                    assert not _shared(returned, [x, weight, h0, mask, reset, elapsed])
