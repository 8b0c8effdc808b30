"""Parts and folds of a panel: of whole groups of ids, or of times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from rnam import _checks
from rnam._checks import shown
from rnam.panel.columns import plain
from rnam.panel.roles import is_list
from rnam.panel.storage import Bools, Integers, Parts

__all__ = ["fold_ids", "fold_times", "split_ids", "split_times"]

Array = NDArray[Any]


def split_ids(parts: Parts, fractions: Sequence[float], seed: int | None, stratify: Any) -> list[Integers]:
    """The positions of the ids of each part, in rising order. A group is in one part."""
    shares = _shares(fractions)
    generator = np.random.default_rng(_seed(seed))
    owners, names = _groups(parts, None)
    sizes = np.bincount(owners)
    strata = np.zeros(len(sizes), np.int64) if stratify is None else _by_group(parts, stratify, owners, names)
    part = np.empty(len(sizes), np.int64)
    for stratum in range(strata.max() + 1):
        order = generator.permutation(np.flatnonzero(strata == stratum))
        ends = np.cumsum(sizes[order])
        # a group goes where a point of it lies: its middle, so that parts err by half a group at most; of several kinds
        # a random point, or all kinds of one id would go to one part
        inside = 0.5 if stratify is None else generator.random()
        point = (ends - sizes[order] * inside) / ends[-1]
        part[order] = np.minimum(np.searchsorted(np.cumsum(shares), point, side="right"), len(shares) - 1)
    found = [np.flatnonzero(part[owners] == n) for n in range(len(shares))]
    for n, positions in enumerate(found):
        if not len(positions):
            raise ValueError(
                f"split must leave an id for each part, got none for part {n} of share {shown(shares[n])} "
                f"of {len(sizes)} {'ids' if parts.facts.groups is None else 'groups'}"
            )
    return found


def fold_ids(parts: Parts, n: int, seed: int | None, groups: Any, stratify: Any) -> list[tuple[Integers, Integers]]:
    """The positions of the training and the held-out ids of each fold."""
    _checks.whole_number("n", n, least=2)
    seed = _seed(seed)
    owners, _ = _groups(parts, groups)
    count = int(owners.max()) + 1
    grouped = count < len(owners)
    if count < n:
        raise ValueError(f"folds must be at most the {count} {'groups' if grouped else 'ids'}, got {n}")
    strata = None if stratify is None else _strata(parts, stratify)
    if strata is None:
        folder: Any = GroupKFold if grouped else KFold
    else:
        if stratify is True and parts.facts.labels is not None:
            gone = int(np.isnan(parts.facts.labels[:, 0]).sum())
            if 0 < gone < n:
                raise ValueError(f"stratify=True must have no id without a label, or {n} for {n} folds, got {gone}")
        _refuse_rare(strata, n)
        folder = StratifiedGroupKFold if grouped else StratifiedKFold
    dealt = folder(n, shuffle=True, random_state=seed).split(np.zeros(len(owners)), strata, owners if grouped else None)
    found = [(np.sort(train), np.sort(test)) for train, test in dealt]
    if not all(len(test) for _, test in found):
        raise ValueError(f"folds must hold an id out each, which {n} folds of {count} groups with these kinds do not")
    return found


def split_times(parts: Parts, limits: Sequence[Any], purge: float | None) -> list[Parts]:
    """One part up to each limit, and one of what is after the last. Labels that reach over a limit are in none."""
    _refuse_cut_windows(parts)
    if purge is not None and parts.labels() is None:
        raise ValueError(f"purge must be left out for a panel without a target, got {purge}")
    purge = _purge(0.0 if purge is None else purge)
    clock = parts.schema.clock
    if not is_list(limits):
        raise TypeError(f"until must be a list of times, got {limits!r}")
    times = [clock.limit("until", value) for value in limits]
    if not times:
        raise ValueError("until must have at least one time, got none")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"until must rise, got {list(limits)}")
    stamps = parts.stamps() if parts.facts.known is None else parts.facts.known
    number = np.sum([stamps > time for time in times], axis=0)  # of the part that a visit or a label is in
    at, ends = clock.numbers(stamps), clock.numbers(np.array(times))
    reach = purge - (0.0 if not purge else _rounding(at, purge))  # what reaches the limit but for rounding is before it
    found = []
    for n in range(len(times) + 1):
        own = number == n
        if n < len(times) and purge:
            own &= ends[n] - at >= reach
        part = _seen(parts, number <= n, own)
        if part is None:
            told = f" and purge {shown(purge)}" if purge else ""
            raise ValueError(
                f"until must leave {_what(parts)} for each part, got none for part {n} of {list(limits)}{told}"
            )
        found.append(part)
    return found


def fold_times(parts: Parts, n: int, purge: float) -> list[tuple[Parts, Parts]]:
    """The training and the held-out part of each block of times."""
    _checks.whole_number("n", n, least=2)
    purge = _purge(purge)
    _refuse_cut_windows(parts)
    labels = parts.labels()
    if labels is None:
        raise ValueError('folds by="time" must have labels to hold out, got a panel without a target')
    stamps = parts.stamps() if parts.facts.known is None else parts.facts.known
    times = parts.schema.clock.numbers(stamps)
    distinct, counts = np.unique(times[~np.isnan(labels).all(1)], return_counts=True)
    if len(distinct) < n:
        raise ValueError(f"folds must be at most the {len(distinct)} times of labels, got {n}")
    # times are rounded, and what lies at the purge but for that is within it
    near = purge + _rounding(distinct, purge)
    blocks = np.minimum((np.cumsum(counts) - counts / 2) * n // counts.sum(), n - 1)
    found = []
    for n_block in range(n):
        own = distinct[blocks == n_block]
        if not len(own):
            raise ValueError(f"folds must have times of labels each, got none in block {n_block} of {n}")
        first, last = own[0], own[-1]
        train = _seen(parts, np.ones(len(times), np.bool_), (first - times > near) | (times - last > near))
        test = _seen(parts, times <= last, (times >= first) & (times <= last))
        if train is None or test is None:
            raise ValueError(f"purge must leave labels to train on, got {shown(purge)} around block {n_block} of {n}")
        found.append((train, test))
    return found


def _seen(parts: Parts, within: Bools, shown: Bools) -> Parts | None:
    """Labels of visits: the visits `within`, the first ones of each id, with the labels `shown`, of the ids that have
    any; labels of ids: the labelled ids `shown`. None where nothing is left."""
    labels = parts.labels()
    if parts.facts.known is not None:
        positions = np.flatnonzero(shown if labels is None else shown & ~np.isnan(labels).all(1))
        return parts.take(positions) if len(positions) else None
    owners, count = parts.sequences.owners(), len(parts.facts.ids)
    counts = np.bincount(owners[within], minlength=count)
    kept = counts > 0
    if labels is not None:
        shown = shown & ~np.isnan(labels).all(1)
        kept = np.bincount(owners[shown], minlength=count) > 0
    positions = np.flatnonzero(kept)
    if not len(positions):
        return None
    chosen = parts.take(positions)
    return chosen._replace(
        sequences=chosen.sequences.first(counts[positions], shown[kept[owners]] if labels is not None else None)
    ).of_its_time()


def _refuse_cut_windows(parts: Parts) -> None:
    """Raises ValueError for windows with labels at visits, or without a target, which a limit would cut."""
    if len(parts.schema.id) > 1 and parts.facts.known is None:
        raise ValueError(
            "windows with labels at visits, or without a target, must not be cut by time: split or fold the panel "
            "first, and then make windows of each part"
        )


def _purge(value: float) -> float:
    purge = _checks.finite_number("purge", value)
    if purge < 0:
        raise ValueError(f"purge must be at least 0, got {purge}")
    return purge


def _rounding(times: Array, purge: float) -> Any:
    """How far the difference of two rounded times and the purge may be off."""
    return 4 * np.spacing(max(np.abs(times).max(), purge))


def _what(parts: Parts) -> str:
    return "visits" if parts.labels() is None else "labels"


def _shares(fractions: Sequence[float]) -> NDArray[np.float64]:
    if not is_list(fractions):
        raise TypeError(f"parts must be a list of shares, got {fractions!r}")
    shares = np.array([_checks.positive_number(f"parts[{n}]", share) for n, share in enumerate(fractions)])
    if len(shares) < 2:
        raise ValueError(f"parts must be two shares or more, got {len(shares)}")
    if abs(shares.sum() - 1) > 1e-9:
        raise ValueError(f"parts must sum to 1, got {shown(shares.sum())}")
    return shares


def _seed(seed: int | None) -> int | None:
    return None if seed is None else _checks.whole_number("seed", seed)


def _groups(parts: Parts, groups: Any) -> tuple[Integers, Any]:
    """The number of the group that each id is in, and the names of the groups; each id is one where there are none."""
    ids = parts.facts.ids
    groups = parts.facts.groups if groups is None else groups
    if groups is None:
        return np.arange(len(ids)), ids
    return _kinds("groups", groups, ids)


def _kinds(argument: str, value: Any, ids: Any) -> tuple[Integers, Any]:
    """`value`, one item for each id, as numbers from 0, and the items that these stand for. A Series is read by its
    index, anything else by position."""
    if isinstance(value, pandas.Series):
        value = _by_index(argument, value, ids)
    array = value if isinstance(value, pandas.Index) else np.asarray(value)
    if array.shape != (len(ids),):
        raise ValueError(f"{argument} must have shape {(len(ids),)}, one item for each id, got {array.shape}")
    owners, names = pandas.factorize(array)
    if (owners < 0).any():
        raise ValueError(f"{argument} must have an item for each id, got none at position {int((owners < 0).argmax())}")
    return owners.astype(np.int64), names


def _by_index(argument: str, series: Any, ids: Any) -> Array:
    """The items of a Series in the order of the ids, which its index holds.

    Raises:
        ValueError: the index holds an item twice, or lacks an id.
    """
    if not series.index.is_unique:
        twice = plain(series.index[series.index.duplicated()][0])
        raise ValueError(f"the index of {argument} must hold each id once, got {twice!r} twice")
    positions = series.index.get_indexer(ids)
    if (positions < 0).any():
        lost = plain(ids[int((positions < 0).argmax())])
        raise ValueError(
            f"the index of {argument} must hold the ids, got none that is {lost!r}; an array is read by position"
        )
    return np.asarray(series.to_numpy()[positions])


def _strata(parts: Parts, stratify: Any) -> Integers:
    """The number of the kind of each id, after its label, a static category, or what is given."""
    schema, facts = parts.schema, parts.facts
    if stratify is True:
        if facts.labels is None or len(schema.targets) != 1:
            raise ValueError("stratify=True must have one target of ids, got " + (
                "none" if not schema.targets else f"{len(schema.targets)} targets of {schema.at}s"
            ))  # fmt: skip
        return _kinds("stratify", np.where(np.isnan(facts.labels[:, 0]), np.inf, facts.labels[:, 0]), facts.ids)[0]
    if isinstance(stratify, str):
        names = [column.name for column in schema.static_categories]
        if stratify not in names:
            raise ValueError(f"stratify must be a static category, one of {names}, got {stratify!r}")
        return _kinds("stratify", facts.codes[:, names.index(stratify)], facts.ids)[0]
    return _kinds("stratify", stratify, facts.ids)[0]


def _by_group(parts: Parts, stratify: Any, owners: Integers, names: Any) -> Integers:
    """The kind of each group, of whose ids all have it."""
    strata = _strata(parts, stratify)
    kinds = np.empty(len(names), np.int64)
    kinds[owners] = strata
    mixed = kinds[owners] != strata
    if mixed.any():
        group = plain(names[owners[mixed.argmax()]])
        raise ValueError(f"stratify must be the same for all ids of a group, got several in group {group!r}")
    return kinds


def _refuse_rare(strata: Integers, n: int) -> None:
    fewest = np.bincount(strata).min()
    if fewest < n:
        raise ValueError(f"stratify must have at least {n} ids of each kind, one for each fold, got {fewest}")
