"""Parts and folds of a panel, by id and by time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnam
from tests.panel.support import people, people_panel, series
from tests.support.assertions import assert_equal

pandas = pytest.importorskip("pandas")


def of_ids(**columns: Any) -> rnam.Panel:
    """One visit an id."""
    df = pandas.DataFrame({"t": 0.0, "x": 1.0, **columns})
    df.insert(0, "id", range(len(df)))
    roles = {name: name for name in ("target", "group") if name in columns}
    return rnam.Panel.from_frame(df, id="id", time="t", values=["x"], **roles)


def labels_by_id(p: rnam.Panel) -> dict[Any, Any]:
    """The labels that a panel shows, by id and time."""
    df = p.to_frame()
    return {(row.person, row.day): row.label for row in df[df["label"].notna()].itertuples()}


# by id


@given(st.integers(10, 60), st.integers(0, 5))
def test_parts_by_id_are_a_partition_of_the_shares(count: int, seed: int) -> None:
    p = of_ids(target=np.arange(count))
    parts = p.split([0.6, 0.2, 0.2], by="id", seed=seed)
    assert sorted(id for part in parts for id in part) == list(range(count))
    # an id goes where its middle lies, so each limit errs by half an id, and a part by one
    assert [abs(len(part) - share * count) <= 1 for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True)] == [
        True
    ] * 3
    again = p.split([0.6, 0.2, 0.2], seed=seed)
    assert [part.equals(other) for part, other in zip(parts, again, strict=True)] == [True] * 3


def test_another_seed_draws_other_parts_and_ids_keep_their_order() -> None:
    p = of_ids(target=np.arange(40))
    first, other = (list(p.split([0.5, 0.5], seed=seed)[0]) for seed in (0, 1))
    assert first != other and first == sorted(first)
    assert list(p.split([0.5, 0.5])[0]) != first or list(p.split([0.5, 0.5])[0]) != first


def test_groups_are_never_divided() -> None:
    group = np.repeat([f"g{n}" for n in range(10)], np.arange(1, 11))
    p = of_ids(group=group)
    own = [set(part.groups) for part in p.split([0.5, 0.3, 0.2], seed=3)]
    assert sum(map(len, own)) == 10 and set.union(*own) == set(group)
    for train, test in p.folds(4, seed=1):
        assert not set(train.groups) & set(test.groups)
    halves = np.arange(len(p)) % 2
    assert {tuple(set(halves[list(test)])) for _, test in p.folds(2, seed=1, groups=halves)} == {(0,), (1,)}


def test_strata_have_their_shares_in_each_part() -> None:
    target = np.array(["a"] * 30 + ["b"] * 10)
    p = of_ids(target=target)
    for part, share in zip(p.split([0.6, 0.2, 0.2], seed=0, stratify=True), (0.6, 0.2, 0.2), strict=True):
        for label, count in (("a", 30), ("b", 10)):
            assert abs(int((part.target == label).sum()) - share * count) <= 1
    for given_strata in (True, target):
        for _, test in p.folds(5, seed=0, stratify=given_strata):
            assert ((test.target == "a").sum(), (test.target == "b").sum()) == (6, 2)
    sex = people_panel().split([0.5, 0.5], seed=0, stratify=np.arange(12) % 2)
    assert [int(part.static.sum()) for part in sex] == [3, 3]


def test_many_small_strata_fill_all_parts() -> None:
    p, shares = of_ids(target=np.arange(200)), (0.6, 0.2, 0.2)
    parts = p.split(shares, seed=0, stratify=np.arange(200))
    # a binomial count of 200 draws errs by less than five standard deviations
    far = [
        abs(len(part) - 200 * share) / np.sqrt(200 * share * (1 - share))
        for part, share in zip(parts, shares, strict=True)
    ]
    assert [z for z in far if z > 5] == []


def test_a_static_category_may_be_the_stratum() -> None:
    df = pandas.DataFrame({"id": range(8), "t": 0, "x": 1.0, "sex": list("ffffmmmm")})
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["x"], static=["sex"])
    for _, test in p.folds(4, seed=0, stratify="sex"):
        assert sorted(test.static_codes[:, 0]) == [0, 1]
    with pytest.raises(ValueError, match=r"stratify must be a static category, one of \['sex'\], got 'x'"):
        p.split([0.5, 0.5], stratify="x")


def test_folds_hold_each_id_out_once_and_can_be_folded_again() -> None:
    p = people_panel()
    folds = p.folds(4, seed=0, nested=3)
    assert sorted(id for _, test, _ in folds for id in test) == list(range(12))
    for train, test, inner in folds:
        assert sorted([*train, *test]) == list(range(12)) and len(inner) == 3
        assert sorted(id for _, held in inner for id in held) == list(train)
    groups = np.arange(12) // 2
    for train, _, inner in p.folds(3, seed=0, groups=groups, stratify=np.arange(12) // 6, nested=2):
        own = dict(zip(range(12), groups, strict=True))
        for again, held in inner:
            assert not {own[id] for id in again} & {own[id] for id in held} and sorted([*again, *held]) == list(train)
    same = [test.equals(other) for (_, test, _), (_, other) in zip(folds, p.folds(4, seed=0), strict=True)]
    assert same == [True] * 4


def test_splits_that_cannot_be_are_refused() -> None:
    p, grouped = people_panel(), of_ids(group=[0, 0, 1, 1], target=[0, 1, 0, 0])
    for call, message in (
        (lambda: p.split(), "split must have either parts or until, got none"),
        (lambda: p.split([0.5, 0.5], until=[3]), "split must have either parts or until, got both"),
        (lambda: p.split(until=[3], seed=0), "seed and stratify must be left out where until is given"),
        (lambda: p.split([0.5, 0.6]), "parts must sum to 1, got 1.1"),
        (lambda: p.split([0.5, 0.500000125]), "parts must sum to 1, got 1.000000125"),
        (lambda: p.split([1.0]), "parts must be two shares or more, got 1"),
        (lambda: p.split([1.5, -0.5]), r"parts\[1\] must be finite and greater than 0, got -0.5"),
        (lambda: p.split([0.98, 0.02]), "split must leave an id for each part, got none for part 1 of share 0.02"),
        (lambda: p.split([0.5, 0.5], by="time"), "by must be one of None, 'id', got 'time'"),
        (lambda: p.split(until=[3], by="id"), "by must be one of None, 'time', got 'id'"),
        (lambda: p.split([0.5, 0.5], seed=0.5), "seed must be an int"),
        (lambda: p.split([0.5, 0.5], stratify=True), "must have one target of ids, got 1 targets of visits"),
        (lambda: p.split([0.5, 0.5], stratify=[1, 2]), r"stratify must have shape \(12,\)"),
        (lambda: p.split([0.5, 0.5], stratify=[None] * 12), "must have an item for each id, got none at position 0"),
        (lambda: grouped.split([0.5, 0.5], stratify=True), "the same for all ids of a group, got .* in group 0"),
        (lambda: p.folds(13), "folds must be at most the 12 ids, got 13"),
        (lambda: grouped.folds(3), "folds must be at most the 2 groups, got 3"),
        (lambda: p.folds(1), "n must be at least 2"),
        (lambda: p.folds(2, by="block"), "by must be one of 'id', 'time'"),
        (lambda: p.folds(2, purge=3), "purge must be left out with by='id'"),
        (lambda: p.folds(2, by="time", seed=3), "seed must be left out with by='time'"),
        (lambda: p.folds(2, by="time", purge=-1), "purge must be at least 0"),
        (lambda: p.folds(2, by="time", purge=40), "purge must leave labels to train on, got 40 around block 0 of 2"),
        (lambda: p.folds(99, by="time"), "folds must be at most the .* times of labels, got 99"),
        (lambda: p.folds(3, stratify=[0] * 11 + [1]), "stratify must have at least 3 ids of each kind"),
        (lambda: of_ids(x=[1.0, 2, 3]).folds(2, by="time"), "must have labels to hold out, got a panel without"),
        (lambda: p.split(until=71), "until must be a list of times, got 71"),
        (lambda: p.split(until="2013-02-01"), "until must be a list of times, got '2013-02-01'"),
        (lambda: p.split(0.8), "parts must be a list of shares, got 0.8"),
        (lambda: p[[]].split([0.5, 0.5]), "a panel that is split must have ids, got none"),
        (lambda: p[[]].windows(2), "windows must be cut from ids, got a panel of none"),
        (lambda: p[[]].folds(2, by="time"), "a panel that is split must have ids, got none"),
        (lambda: of_ids(target=[0, 0, 1, 1, np.nan]).folds(2, stratify=True), "without a label, or 2 for .* got 1"),
        (lambda: p.split(until=[]), "until must have at least one time"),
        (lambda: p.split(until=[5, 5]), r"until must rise, got \[5, 5\]"),
        (lambda: p.split(until=[99]), r"until must leave labels for each part, got none for part 1 of \[99\]"),
        (lambda: p.split(until=[-1]), r"until must leave labels for each part, got none for part 0 of \[-1\]"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_kinds_of_a_series_are_read_by_its_index() -> None:
    """pandas gives ids sorted, and a panel has them in the order of their first rows."""
    ids, household = [7, 3, 5, 1, 8, 2], [0, 1, 0, 1, 2, 2]
    df = pandas.DataFrame({"id": ids, "t": 0, "x": 1.0, "house": household})
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["x"])
    own = df.groupby("id")["house"].first()
    assert list(own.index) == sorted(ids)
    for train, test, inner in p.folds(3, seed=0, groups=own, nested=2):
        for first, second in [(train, test), *inner]:
            assert not set(own[list(first)]) & set(own[list(second)])
    kinds = pandas.Series([0, 1, 0, 1, 1, 0], index=ids).sort_index()
    parts = [p.split([0.5, 0.5], seed=1, stratify=given) for given in (kinds, kinds[ids].to_numpy())]
    assert [part.equals(other) for part, other in zip(*parts, strict=True)] == [True] * 2
    for _, test in p.folds(3, seed=0, stratify=kinds):
        assert sorted(kinds[list(test)]) == [0, 1]
    with pytest.raises(ValueError, match="the index of groups must hold the ids, got none that is 7; an array is read"):
        p.folds(2, groups=pandas.Series(household))
    with pytest.raises(ValueError, match="the index of stratify must hold each id once, got 7 twice"):
        p.split([0.5, 0.5], stratify=pandas.Series(0, index=[*ids, 7]))


# by time


def test_parts_by_time_have_the_visits_up_to_their_limit_and_the_labels_of_their_own_time() -> None:
    p, df = people_panel(), people()
    parts = p.split(until=[10, 25], by="time")
    for n, part in enumerate(parts):
        low, high = (-1, 10, 25, 99)[n : n + 2]
        own = df[(df["day"] > low) & (df["day"] <= high) & df["label"].notna()]
        assert labels_by_id(part) == {(row.person, row.day): row.label for row in own.itertuples()}
        seen = df[(df["day"] <= high) & df["person"].isin(own["person"])]
        got = part.to_frame()
        pandas.testing.assert_frame_equal(got.drop(columns="label"), seen.drop(columns="label").reset_index(drop=True))
        batch = part.padded()
        shown = batch["target"][..., 0][np.arange(batch["values"].shape[1]) < batch["lengths"][:, None]]
        assert_equal("padded", shown, part.target, nan=True)
    again = [part.take(np.arange(len(part))[::-1]) for part in parts]
    assert [labels_by_id(part) == labels_by_id(other) for part, other in zip(parts, again, strict=True)] == [True] * 3


def test_an_id_with_a_label_is_in_the_part_of_its_last_visit() -> None:
    df = people().assign(label=lambda df: df["person"] % 2)
    p = rnam.Panel.from_frame(df, id="person", time="day", values=["x"], target="label")
    last = df.groupby("person")["day"].max()
    first, second = p.split(until=[30])
    assert list(first) == list(last.index[last <= 30]) and list(second) == list(last.index[last > 30])
    assert first.to_frame()["x"].tolist() == df[df["person"].isin(list(first))]["x"].tolist()


def test_parts_without_labels_have_the_visits_up_to_their_limit() -> None:
    df = people()
    p = rnam.Panel.from_frame(df, id="person", time="day", values=["x"])
    first, second = p.split(until=[10])
    assert first.to_frame()["day"].tolist() == df[df["day"] <= 10]["day"].tolist()
    assert second.equals(p)


@pytest.mark.parametrize("purge", [0, 3.5])
def test_blocks_of_time_are_purged(purge: float) -> None:
    p = people_panel()
    every = labels_by_id(p)
    held: list[Any] = []
    for train, test in p.folds(4, by="time", purge=purge):
        learned, out = labels_by_id(train), labels_by_id(test)
        days = [day for _, day in out]
        far = {key: label for key, label in every.items() if key[1] < min(days) - purge or key[1] > max(days) + purge}
        assert learned == far and test.to_frame()["day"].max() == max(days)
        assert train.lengths.tolist() == p[list(train)].lengths.tolist()
        held += out.items()
    assert dict(held) == every and len(held) == len(every)
    times = [sorted(day for _, day in labels_by_id(test)) for _, test in p.folds(4, by="time")]
    assert [own[-1] < later[0] for own, later in pairwise(times)] == [True] * 3


def test_blocks_are_nested_with_their_purge() -> None:
    for train, _, inner in people_panel().folds(3, by="time", purge=1, nested=2):
        labels = labels_by_id(train)
        for learned, held in inner:
            assert labels_by_id(learned).items() <= labels.items() and labels_by_id(held).items() <= labels.items()
            distance = [abs(own - other) for _, own in labels_by_id(learned) for _, other in labels_by_id(held)]
            assert min(distance) > 1
        assert {key for _, held in inner for key in labels_by_id(held)} == set(labels)


def test_windows_are_split_by_the_times_of_their_labels() -> None:
    df = series(hours=48)
    p = rnam.Panel.from_series(df, group="origin", time="ts", values=["temp"], target="temp", horizon=6, window=4)
    train, test = p.split(until=["2013-01-02"])
    hours = [part.target % 100 for part in (train, test)]
    assert (hours[0].max(), hours[1].min(), len(train) + len(test)) == (24, 25, len(p))
    for learned, held in p.folds(3, by="time", purge=10 / 24):
        own, other = learned.target % 100, held.target % 100
        assert np.abs(own[:, None] - other).min() == 11


def test_labels_that_look_over_a_limit_are_purged() -> None:
    p, every = people_panel(), labels_by_id(people_panel())
    for purge, last in ((0, 20), (5, 15), (5.5, 14)):
        early, late = (labels_by_id(part) for part in p.split(until=[20], purge=purge))
        assert early == {key: label for key, label in every.items() if key[1] <= last}
        assert late == {key: label for key, label in every.items() if key[1] > 20}
    middle = labels_by_id(p.split(until=[10, 25], purge=3)[1])
    assert middle == {key: label for key, label in every.items() if 10 < key[1] <= 22}
    options = dict(group="origin", time="ts", values=["temp"], target="temp", horizon=6, window=4, time_unit="hour")
    train, test = rnam.Panel.from_series(series(hours=48), **options).split(until=["2013-01-02"], purge=6)
    assert ((train.target % 100).max(), (test.target % 100).min()) == (18, 25)
    for call, message in (
        (lambda: p.split([0.5, 0.5], purge=1), "purge must be left out where parts are given, got 1"),
        (lambda: p.split(until=[20], purge=-1), "purge must be at least 0, got -1"),
        (lambda: p.split(until=[20], purge=21), r"got none for part 0 of \[20\] and purge 21"),
        (lambda: of_ids(x=[1.0, 2]).split(until=[0], purge=1), "left out for a panel without a target, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_static_value_is_known_from_the_first_visit_that_holds_it() -> None:
    nan = np.nan
    df = pandas.DataFrame(
        {
            "id": [1, 1, 1, 1, 2, 2],
            "t": [0, 1, 2, 3, 0, 3],
            "x": 1.0,
            "dx": [nan, nan, nan, 5, 6, nan],
            "sex": [None, "f", None, "f", None, "m"],
        }
    )
    roles = dict(id="id", time="t", values=["x"], static=["dx", "sex"])
    p = rnam.Panel.from_frame(df, **roles)
    early, late = p.split(until=[1])
    assert_equal("early", early.static[:, 0], np.array([nan, 6]), nan=True)
    assert early.static_codes[:, 0].tolist() == [0, -1]
    assert_equal("padded", early.padded()["static"], early.static, nan=True)
    assert late.equals(p) and p.static[:, 0].tolist() == [5, 6]
    cut = p.windows(2)
    assert_equal("windows", cut.static[:, 0], np.array([nan, nan, 5, 6]), nan=True)
    assert cut.static_codes[:, 0].tolist() == [0, 0, 0, 1]
    frame = p.to_frame()
    assert frame["sex"].fillna("").tolist() == ["", "f", "f", "f", "", "m"]
    assert_equal("frame", frame["dx"].to_numpy(), np.array([nan, nan, nan, 5, 6, 6]), nan=True)
    for again in (
        rnam.Panel.from_frame(frame, **roles),
        rnam.Panel.from_frame(frame.iloc[::-1], sort=True, **roles)[[1, 2]],
        rnam.Panel.concat([p[1], p[2]]),
        p.copy(),
        p.reindex(p),
    ):
        assert again.equals(p) and again.split(until=[1])[0].equals(early)
    assert rnam.Panel.from_frame(early.to_frame(), like=p).equals(early)


def test_ids_without_a_label_are_in_no_part_by_time() -> None:
    df = pandas.DataFrame({"id": range(6), "t": range(6), "x": 1.0, "y": [0, np.nan, 1, 1, np.nan, 0]})
    p = rnam.Panel.from_frame(df, id="id", time="t", values=["x"], target="y")
    assert [list(part) for part in p.split(until=[2])] == [[0, 2], [3, 5]]
    assert [(list(train), list(test)) for train, test in p.folds(2, by="time")] == [([3, 5], [0, 2]), ([0, 2], [3, 5])]
    hours = series(groups=1).assign(temp=lambda df: df["temp"].where(df["hour"] % 2 == 0))
    cut = rnam.Panel.from_series(hours, time="ts", values=["hour"], target="temp", horizon=1, window=2)
    parts = cut.split(until=["2013-01-01 12:00"])
    assert [bool(part.labelled.all()) for part in parts] == [True, True]
    assert sum(map(len, parts)) == cut.labelled.sum() < len(cut)


def test_windows_that_a_limit_would_cut_are_refused() -> None:
    for cut in (people_panel().windows(2, step=2), people_panel(target=None).windows(2)):
        for call in (lambda cut=cut: cut.split(until=[9]), lambda cut=cut: cut.folds(2, by="time")):
            with pytest.raises(
                ValueError, match="must not be cut by time: split or fold the panel first, and then make"
            ):
                call()
    early, _ = people_panel().split(until=[20])
    assert [time for time in early.windows(2, step=2).times.tolist() if time > 20] == []
