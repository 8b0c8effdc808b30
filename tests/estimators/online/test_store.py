"""The store of states: rows of ids, growth, and what is left of an id that was forgotten."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rnam
from rnam.estimators.online.store import Known, Store
from tests.support.assertions import assert_equal


def _state(rows: int) -> rnam.State:
    """With static terms and times, so that every entry is there."""
    model = rnam.RNAM(2, 4, 1, 2, columns=[[0], [1]], static_columns=[[0]], timing=True, continuous=True)
    given = {"times": torch.rand(rows, 3).cumsum(1), "static": torch.randn(rows, 1)}
    with torch.no_grad():
        return model(torch.randn(rows, 3, 2), **given, return_state=True).state


def _known(rows: int) -> Known:
    rng = np.random.default_rng(0)
    return Known(rng.random(rows), rng.random((rows, 2)), rng.integers(0, 3, (rows, 1)).astype(np.int32))


def _store() -> Store:
    return Store(_state(1), (2, 1))


def _assert_held(store: Store, ids: list[object], state: rnam.State, known: Known) -> None:
    rows = store.rows(ids)
    assert len(set(rows)) == len(ids) and 0 not in rows
    got = store.state(rows)
    assert got.keys() == state.keys()
    state.map(lambda name, own, other: assert_equal(name, other, own) or own, got)
    for name, own, other in zip(Known._fields, known, store.known(rows), strict=True):
        assert_equal(name, other, own)


def test_states_come_back_by_id_in_any_order() -> None:
    torch.manual_seed(0)
    store, state, known = _store(), _state(5), _known(5)
    store.put(["a", "b", 3, 4.5, ("x", 1)], state, known)
    assert store.ids == ("a", "b", 3, 4.5, ("x", 1)) and len(store) == 5 and 3 in store and 5 not in store
    order = [3, 0, 4, 1, 2]
    chosen = Known(*(array[order] for array in known))
    _assert_held(store, [4.5, "a", ("x", 1), "b", 3], state[order], chosen)
    later = _state(2)
    store.put([3, "c"], later, Known(*(array[:2] for array in _known(2))))
    _assert_held(store, [3, "c"], later, Known(*(array[:2] for array in _known(2))))
    _assert_held(store, ["a", "b"], state[:2], Known(*(array[:2] for array in known)))


def test_an_id_that_is_not_there_is_as_before_any_step() -> None:
    store = _store()
    store.put(["a"], _state(1), _known(1))
    state, known = store.state(store.rows(["b"])), store.known(store.rows(["b"]))
    state.map(lambda name, value: assert_equal(name, value, torch.zeros_like(value)) or value)
    assert known.times[0] == -np.inf and np.isnan(known.values).all() and (known.codes == -1).all()


def test_what_is_given_and_what_comes_back_share_no_memory_with_the_store() -> None:
    store, state, known = _store(), _state(1), _known(1)
    kept = state.map(lambda name, value: value.clone())
    before = Known(*(array.copy() for array in known))
    store.put(["a"], state, known)
    for given in (state, store.state(store.rows(["a"]))):
        given.map(lambda name, value: value.zero_())
    for arrays in (known, store.known(store.rows(["a"]))):
        for array in arrays:
            array[:] = 0
    _assert_held(store, ["a"], kept, before)


def test_a_forgotten_id_leaves_nothing_and_its_row_is_used_again() -> None:
    store, state, known = _store(), _state(3), _known(3)
    store.put([1, 2, 3], state, known)
    (row,) = store.rows([2])
    store.forget(2)
    assert store.ids == (1, 3)
    for each in (store.rows([2]), np.array([row])):
        store.state(each).map(lambda name, value: assert_equal(name, value, torch.zeros_like(value)) or value)
    assert store.known(np.array([row])).times[0] == -np.inf
    with pytest.raises(KeyError):
        store.forget(2)
    new = _state(2)
    store.put([8, 9], new, _known(2))
    assert store.rows([8]) == row
    _assert_held(store, [8, 9], new, _known(2))
    _assert_held(store, [1, 3], state[[0, 2]], Known(*(array[[0, 2]] for array in known)))


def test_growth_is_amortised(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 ids one at a time: memory is made a few times, and rows are copied twice each at most."""
    copied = []
    grown = Store._grow

    def counted(store: Store, size: int) -> None:
        copied.append(len(store))
        grown(store, size)

    monkeypatch.setattr(Store, "_grow", counted)
    store, state, known = _store(), _state(1), _known(1)
    for id in range(1000):
        store.put([id], state, known)
    assert len(copied) <= 8 and sum(copied) <= 2 * 1000
    _assert_held(store, [0, 517, 999], state[[0, 0, 0]], Known(*(array[[0, 0, 0]] for array in known)))
