"""`rnam.State`: rows, joins, resets, files; and one that is none of the model's is refused by name."""

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import rnam
from tests.support.assertions import assert_equal, assert_within

GIVEN = {"times": torch.zeros(4), "static": torch.zeros(4, 1)}


def _model() -> rnam.RNAM:
    return rnam.RNAM(3, 6, out_dim=2, blocks=2, timing=True, static_columns=[[0]])


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("hidden", None, TypeError, r"state\['hidden'\] must be a list of tensors, got NoneType"),
        ("hidden", torch.zeros(2, 4, 4, 1, 6), TypeError, r"state\['hidden'\] must be a list of tensors, got Tensor"),
        ("hidden", [], ValueError, r"state\['hidden'\] must have 2 tensors, got 0"),
        # each of these would be computed with
        ("contributions", torch.zeros(4, 4, 2).long(), TypeError, r"state\['contributions'\] must be a float32"),
        ("contributions", torch.zeros(4, 4, 2).bool(), TypeError, r"state\['contributions'\] must be a float32"),
        ("static", torch.zeros(1, 4, 2).long(), TypeError, r"state\['static'\] must be a float32"),
        ("static_observed", torch.zeros(1, 4), TypeError, r"state\['static_observed'\] must be a bool"),
        ("last_visit", torch.zeros(4) > 0, TypeError, r"state\['last_visit'\] must be a tensor of floats or integers"),
        ("last_visit", torch.zeros(4) + 1j, TypeError, r"state\['last_visit'\] must be a tensor of floats or integers"),
        (3, None, ValueError, "state must have the entries .*'visited'], got"),
    ],
)
def test_entries(name: Any, value: object, error: type[Exception], message: str) -> None:
    model = _model()
    _, _, state = model.step(torch.zeros(3, 4, 1), **GIVEN)
    with pytest.raises(error, match=message):
        model.step(torch.zeros(3, 4, 1), {**state, name: value}, times=torch.ones(4))


def _state(rows: int = 4, **options: Any) -> tuple[rnam.RNAM, rnam.State]:
    model = rnam.RNAM(3, 6, 2, 2, timing=True, static_columns=[[0]], missing=True, **options)
    nn.init.normal_(model.missing)
    x, mask = torch.randn(3, rows, 5, 1), torch.rand(3, rows, 5) > 0.6
    _, _, state = model(x, mask, times=torch.rand(rows, 5).cumsum(1), static=torch.randn(rows, 1), return_state=True)
    return model, state


def test_map_gives_each_tensor_with_its_name_and_those_of_other_states() -> None:
    _, state = _state()
    seen = []

    def twice(name: str, value: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        assert other is value
        seen.append(name)
        return value if value.dtype == torch.bool else 2 * value

    doubled = state.map(twice, state)
    assert sorted(seen) == sorted(["hidden", *state])  # hidden once for each of the two blocks
    assert_equal("hidden", doubled.hidden[1], 2 * state.hidden[1])
    assert_equal("contributions", doubled.contributions, 2 * state.contributions)
    assert_equal("observed", doubled.observed, state.observed)


def _assert_rows(got: rnam.State, state: rnam.State, rows: list[int]) -> None:
    """`got` has these rows of `state`, in order."""
    assert got.keys() == state.keys()
    assert got.rows == len(rows)
    for name, value in state.items():
        for n, (a, b) in enumerate(zip(got[name], value, strict=True) if name == "hidden" else [(got[name], value)]):
            dim = 0 if name in ("last_visit", "visited") else 1
            assert_equal(f"{name}[{n}]", a, b.index_select(dim, torch.tensor(rows, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None), [0, 1, 2, 3]),
        (slice(0, 0), []),
        ([3, 0, 3], [3, 0, 3]),
        ([], []),
        (np.array([2, -1]), [2, 3]),
        (torch.tensor([1, 0], dtype=torch.uint8), [1, 0]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        ([False, True, True, False], [1, 2]),
    ],
    ids=str,
)
def test_rows(rows: Any, expected: list[int]) -> None:
    model, state = _state(members=2)
    part = state[rows]
    _assert_rows(part, state, expected)
    part.contributions.zero_()  # in memory of its own
    _assert_rows(state[rows], state, expected)
    given = {"times": torch.full((len(expected),), 9.0), "mask": torch.zeros(3, len(expected)) > 0}
    x = torch.zeros(3, len(expected), 1)
    whole = model.step(torch.zeros(3, 4, 1), state, times=torch.full((4,), 9.0), mask=torch.zeros(3, 4) > 0)
    got = model.step(x, state[rows], **given).prediction
    # the sum over five terms, in another order where there are other rows
    assert_within("prediction", got, whole.prediction[expected], 8 * 5 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (3, TypeError, r"rows must be .* \(of one row, state\[n : n \+ 1\]\), got int"),
        (None, TypeError, "rows must be a slice, a sequence of ints or a tensor .*, got NoneType"),
        (torch.tensor([0.5]), TypeError, "rows must be a tensor of integers, got float32"),
        (torch.tensor([[0]]), ValueError, r"rows must have shape \(rows\), got \(1, 1\)"),
        (torch.tensor([True]), ValueError, r"rows must have shape \(batch\) = \(4,\), got \(1,\)"),
        ([4], IndexError, "out of"),
        ("nothing", KeyError, "nothing"),
    ],
)
def test_bad_rows(rows: Any, error: type[Exception], message: str) -> None:
    _, state = _state()
    with pytest.raises(error, match=message):
        state[rows]
    if error is not KeyError:
        with pytest.raises(error, match=message):
            state.reset(rows)


def test_joined() -> None:
    _, state = _state(rows=5)
    parts = [state[4:], state[:0], state[torch.tensor([2, 0])]]
    _assert_rows(rnam.State.cat(parts), state, [4, 2, 0])


def test_joined_times_keep_their_digits() -> None:
    """float32 has every 128th of these seconds."""
    seconds = 1_700_000_001
    model, states = rnam.RNAM(1, 4, 1, 1, timing=True), []
    for times in (torch.tensor([seconds]), torch.tensor([5.0])):
        states.append(model.step(torch.zeros(1, 1, 1), times=times).state)
    assert rnam.State.cat(states)["last_visit"].tolist() == [seconds, 5]


def test_bad_joins() -> None:
    _, state = _state()
    _, other = _state(members=2)
    _, _, plain = rnam.RNAM(3, 6, 2, 2).step(torch.zeros(3, 4, 1))
    with pytest.raises(ValueError, match="states must have at least one, got none"):
        rnam.State.cat([])
    with pytest.raises(TypeError, match=r"states\[1\] must be a State, got dict"):
        rnam.State.cat([state, dict(state)])  # type: ignore[list-item]
    for wrong in (other, plain):
        with pytest.raises(ValueError, match=r"states\[1\] must be of the model of states\[0\], .*, got "):
            rnam.State.cat([state, wrong])


@pytest.mark.parametrize("rows", [[1, 3], torch.tensor([False, True, False, True]), slice(1, None, 2)], ids=str)
@pytest.mark.parametrize("members", [1, 2])
def test_reset_rows_are_as_before_any_step(rows: Any, members: int) -> None:
    model, state = _state(members=members)
    kept, new = state[:], state.reset(rows)
    _assert_rows(state, kept, [0, 1, 2, 3])
    _assert_rows(new[::2], state, [0, 2])
    x, mask = torch.randn(3, 4, 6, 1), torch.rand(3, 4, 6) > 0.6
    given = {"times": torch.rand(4, 6).cumsum(1) + 5, "static": torch.randn(4, 1), "return_sequence": True}
    got, fresh = model(x, mask, state=new, **given), model(x, mask, **given)
    assert_within("prediction", got.prediction[1::2], fresh.prediction[1::2], 1e-6)
    # without static again, their static terms are not observed
    del given["static"]
    unseen = model.observed(x, mask, state=new, times=given["times"])[-1]
    assert unseen.tolist() == [True, False, True, False]
    parts = model(x, mask, state=new, **given, return_members=True).contributions[:, -1, 1, 0]
    assert_equal("static term", parts, model.missing.detach().unflatten(0, (members, -1))[:, -1])


def test_saved_sent_and_moved(tmp_path: Any) -> None:
    _, state = _state()
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert type(loaded) is rnam.State
    _assert_rows(loaded, state.detach(), [0, 1, 2, 3])
    for copied in (pickle.loads(pickle.dumps(state.detach())), copy.deepcopy(state.detach())):
        _assert_rows(copied, state.detach(), [0, 1, 2, 3])
    assert state.to("meta").contributions.is_meta
    assert state.to("meta").hidden[0].is_meta
    assert [leaf.shape for leaf in pytree.tree_leaves(state) if leaf is not None]
    assert type(pytree.tree_map(lambda x: x, state)) is rnam.State


def test_a_state_reads_as_the_dict_that_it_was() -> None:
    """In version 0.2 a state was a dict, and one of these is still taken."""
    model, state = _state()
    names = ["hidden", "contributions", "observed", "last_visit", "visited", "static", "static_observed"]
    assert list(state) == list(state.keys()) == list(dict(state)) == [name for name, _ in state.items()] == names
    assert "hidden" in state and "nothing" not in state and 0 not in state
    assert state["hidden"] is state.hidden
    assert repr(state) == "State(rows=4, " + ", ".join(names) + ")"
    given = {"times": torch.ones(4) * 9}
    for old in (dict(state), {**state}):
        got = model.step(torch.ones(3, 4, 1), old, **given)
        assert_equal("prediction", got.prediction, model.step(torch.ones(3, 4, 1), state, **given).prediction)
        assert type(got.state) is rnam.State
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.observed = state.observed  # type: ignore[misc]
