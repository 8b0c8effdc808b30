"""Batches and their loss: an epoch is the weighted mean over all labels, whatever the sizes of the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnam
from rnam.estimators.batches import Batches, Part
from rnam.estimators.losses import Loss
from rnam.estimators.objective import Objective
from rnam.regularizers import concurvity, output_penalty
from tests.estimators.plain import Line, rows, sequences
from tests.support.assertions import assert_equal, assert_norm_within, assert_within

CPU = torch.device("cpu")
SQUARED = Loss("squared", 1, 0, (), 1, (0.0,), (0.0,), (1.0,))
RNG = np.random.default_rng(0)
UNIT = np.finfo(np.float32).eps


def part(batches: Batches, size: int, members: int = 1, seed: int | None = None) -> Part:
    return Part(batches, SQUARED, size, CPU, members, None if seed is None else np.random.default_rng(seed))


def table(n: int, **options: Any) -> Batches:
    values = np.random.default_rng(n).normal(size=(n, 3))
    return Batches(rows(values), values.sum(1) + np.arange(n) % 2, **options)


def epoch(model: Any, of: Part, members: int = 1, training: bool = True, **asked: Any) -> tuple[Any, Any]:
    """The mean loss of the batches, and the gradient of it."""
    model.zero_grad()
    objective, losses = Objective(SQUARED, members), []
    for inputs, labels in of:
        value = objective(model(**inputs, **asked), model.gam.bias, labels, training)
        (value.total / len(of)).backward()
        losses.append(float(value.loss))
    return np.mean(losses), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("size", [1, 4, 7, 10, 23, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_of_any_size_have_the_gradient_of_the_whole(size: int, weighted: bool) -> None:
    weight = RNG.integers(0, 5, 23).astype(float) if weighted else None
    batches, line = table(23, weight=weight), Line(3)
    x, y = torch.from_numpy(batches.inputs.values), torch.from_numpy(batches.target).float()[:, None]
    w = torch.ones(23) if weight is None else torch.from_numpy(weight).float()
    loss, gradient = epoch(line, part(batches, size, seed=0))
    line.zero_grad()
    exact = (w[:, None] * (line(x).prediction - y) ** 2).sum() / w.sum()
    exact.backward()
    whole = torch.cat([p.grad.flatten() for p in line.parameters()])
    assert_within("loss", loss, exact.item(), 50 * UNIT * exact.item())  # two sums of 23 float32
    assert_norm_within("gradient", gradient, whole, 50 * UNIT * float(whole.norm()))


@pytest.mark.parametrize("size", [1, 5, 7, 22, 23])
def test_no_batch_is_short(size: int) -> None:
    sizes = [len(labels.target) for _, labels in part(table(23), size, seed=0)]
    assert sum(sizes) == 23 and max(sizes) <= size and max(sizes) - min(sizes) <= 1


def test_an_epoch_reads_each_row_once_in_an_order_of_the_seed() -> None:
    def order(seed: int | None) -> list[Any]:
        of = part(table(23), 5, seed=seed)
        return [float(v) for _ in range(2) for inputs, _ in of for v in inputs["input"][:, 0]]

    first, second = order(0)[:23], order(0)[23:]
    assert first != second and sorted(first) == sorted(second)
    assert order(0) == order(0) != order(1)
    assert order(None)[:23] == order(None)[23:] == table(23).inputs.values[:, 0].tolist()


def visits() -> Batches:
    """Six sequences of 1 to 6 visits; some visits and the whole of a sequence have no label."""
    lengths, rng = [3, 1, 6, 2, 4, 5], np.random.default_rng(0)
    inputs = sequences([rng.normal(size=(n, 2)) for n in lengths], masked=0.2)
    labelled = rng.random(sum(lengths)) < 0.6
    labelled[4:10] = False
    labelled[:4] = True
    target, weight = rng.normal(size=sum(lengths)), rng.random(sum(lengths))
    return Batches(inputs, np.where(labelled, target, np.nan), "visit", np.where(labelled, weight, np.nan), labelled)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_labels_at_visits_have_the_loss_of_each_alone(size: int) -> None:
    batches = visits()
    torch.manual_seed(0)
    model = rnam.RNAM(2, 4, 1, 1, columns=[[0], [1]])
    loss, gradient = epoch(model, part(batches, size, seed=0), return_sequence=True)
    model.zero_grad()
    inputs, total, weights = batches.inputs, torch.zeros(()), 0.0
    for n in range(inputs.sequences):
        for visit in range(inputs.offsets[n], inputs.offsets[n + 1]):
            if batches.labelled is not None and batches.weight is not None and batches.labelled[visit]:
                until = slice(inputs.offsets[n], visit + 1)
                given = torch.from_numpy(inputs.values[until])[None], torch.from_numpy(inputs.mask[until])[None]
                error = model(*given).prediction[0, 0] - float(batches.target[visit])
                total, weights = total + batches.weight[visit] * error**2, weights + batches.weight[visit]
    (total / weights).backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters()])
    # the recurrence runs over 6 steps and the sums over 12 labels: a few hundred roundings
    mean = (total / weights).item()
    assert_within("loss", loss, mean, 500 * UNIT * mean)
    assert_norm_within("gradient", gradient, exact, 500 * UNIT * float(exact.norm()))


def test_sequences_without_a_label_are_not_read() -> None:
    of = part(visits(), 2, seed=0)
    assert sorted(of.sequences) == [0, 1, 3, 4, 5]
    for _, labels in of:
        for told, values in (("target", labels.target), ("share", labels.share)):
            assert_equal(told, torch.isnan(values), torch.zeros_like(values, dtype=torch.bool))


def test_each_member_has_the_gradient_of_its_own_sample() -> None:
    ids = np.repeat(np.arange(10), 2)
    batches = table(20, groups=ids, weight=RNG.random(20))
    torch.manual_seed(0)
    ensemble = rnam.NAM(3, (4,), members=3)
    whole = part(batches, 20, members=3, seed=5)
    labels = whole._labels(whole.sequences)
    assert labels.share.shape == (3, 20)
    times = labels.share / torch.from_numpy(batches.weight).float()  # up to a factor of the member
    assert_within("rows of a group", times[:, ::2], times[:, 1::2], 4 * UNIT * times[:, ::2])
    assert len({tuple(own.tolist()) for own in labels.share}) == 3
    assert_within("mean", labels.share.sum(1), np.ones(3), 50 * UNIT)
    _, gradient = epoch(ensemble, part(batches, 6, members=3, seed=5), members=3, return_members=True)
    ensemble.zero_grad()
    x, y = torch.from_numpy(batches.inputs.values), torch.from_numpy(batches.target).float()
    error = (ensemble(x, return_members=True).prediction[..., 0] - y) ** 2
    (labels.share * error).sum().backward()
    exact = torch.cat([p.grad.flatten() for p in ensemble.parameters()])
    assert_norm_within("gradient", gradient, exact, 200 * UNIT * float(exact.norm()))


def test_members_without_bootstrap_have_the_sample_of_one() -> None:
    batches = table(20, groups=np.repeat(np.arange(10), 2), weight=RNG.random(20))
    alone, together = (
        Part(batches, SQUARED, 6, CPU, members, np.random.default_rng(5), bootstrap=False) for members in (1, 3)
    )
    for (_, one), (_, three) in zip(alone, together, strict=True):
        assert_equal("target", three.target, one.target)
        assert_equal("share", three.share, one.share.expand(3, -1))


def test_penalties_are_those_of_the_regularizers() -> None:
    batches = visits()
    torch.manual_seed(0)
    model = rnam.RNAM(2, 4, 1, 1, columns=[[0], [1]])
    inputs, labels = next(iter(part(batches, 6)))
    output = model(**inputs, return_sequence=True)
    objective = Objective(SQUARED, 1, {"contributions": 0.5, "concurvity": 2.0})
    value = objective(output, model.gam.bias, labels, training=True)
    weight = torch.zeros(output.contributions.shape[1:3])
    weight[labels.row, labels.step] = labels.weight  # type: ignore[index, assignment]
    exact = 0.5 * output_penalty(output.contributions, weight) + 2 * concurvity(output.contributions, weight)
    assert_equal("penalty", value.penalty, exact.detach())
    assert_equal("total", value.total.detach(), value.loss + exact.detach())
    assert objective(output, model.gam.bias, labels, training=False).penalty is None


def test_members_are_penalised_as_each_alone() -> None:
    batches = table(20)
    torch.manual_seed(0)
    ensemble = rnam.NAM(3, (4,), members=2)
    inputs, labels = next(iter(part(batches, 20, members=2, seed=0)))
    output = ensemble(**inputs, return_members=True)
    value = Objective(SQUARED, 2, {"contributions": 1.0})(output, ensemble.gam.bias, labels, training=True)
    each = torch.stack([output_penalty(own) for own in output.contributions])
    assert_within("penalty", value.penalty, each.mean().detach(), 4 * UNIT * each.max().detach())
    exact = 2 * (value.loss + each.mean().detach())
    assert_within("total", value.total.detach(), exact, 8 * UNIT * exact)


def test_terms_that_are_left_out_are_left_out_of_the_prediction() -> None:
    batches, line = table(20), Line(3)
    with torch.no_grad():
        line.weight.fill_(1.0)
        line.gam.bias.fill_(3.0)
    inputs, labels = next(iter(part(batches, 20)))
    objective = Objective(SQUARED, 1, {"term_dropout": 0.9})
    dropped = objective(line(**inputs), line.gam.bias, labels, training=True)
    kept = objective(line(**inputs), line.gam.bias, labels, training=False)
    assert dropped.loss != kept.loss
    assert_within("kept", kept.loss.detach(), np.mean((inputs["input"].numpy().sum(1) + 3 - batches.target) ** 2), 1e-4)


@pytest.mark.parametrize(
    ("regularizer", "error", "message"),
    [
        ({"ridge": 1.0}, ValueError, "regularizer must be one of 'contributions', 'concurvity', 'term_dropout'"),
        ({"concurvity": -1.0}, ValueError, r"regularizer\['concurvity'\] must be at least 0, got -1"),
        ({"term_dropout": 1.0}, ValueError, r"regularizer\['term_dropout'\] must be at least 0 and less than 1"),
        (0.1, TypeError, "regularizer must be None or a dict of strengths by name, got float"),
    ],
)
def test_a_regularizer_that_is_none_is_refused(regularizer: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Objective(SQUARED, 1, regularizer)


def test_parts_without_labels_or_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="y must have a label, got none"):
        part(table(5, labelled=np.zeros(5, bool)), 2)
    with pytest.raises(ValueError, match="sample_weight must not be zero for all labels"):
        part(table(5, weight=np.zeros(5)), 2)
