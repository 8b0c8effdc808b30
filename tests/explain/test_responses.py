"""A term's answer is what the model contributes on the written out input, less the held one."""

import numpy as np
import pytest
import torch
from torch import nn

import rnam
from rnam import explain
from rnam.models.rnam import Additive
from tests.support import bounds
from tests.support.assertions import assert_within

ROUNDING = 1000 * 10 * bounds.unit(torch.float64)  # some 1000 roundings of numbers below 10 in two passes


class Average(nn.Module):
    """Term f contributes f + 1 times the exponential average of its input: h = h / 2 + x / 2, from 0."""

    def __init__(self, members: int = 0) -> None:
        super().__init__()
        self.members = members
        self.terms, self.in_dim = 2, 1
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, input, *, return_sequence=False, return_members=False):
        assert return_sequence and return_members == (self.members > 1)
        h, steps = torch.zeros_like(input[:, :, 0]), []
        for x in input.unbind(2):
            h = (h + x) / 2
            steps.append(h * torch.tensor([1.0, 2.0])[:, None, None])
        parts = torch.stack(steps, 2)
        if self.members:
            parts = torch.stack([parts * (m + 1) for m in range(self.members)])
        return Additive(parts.sum(-4), parts)


@pytest.mark.parametrize("members", [0, 2])
def test_step_and_impulse_of_an_average(members: int) -> None:
    """In closed form: 1 - 2^-(k + 1) of a step after k steps, 2^-(k + 1) of an impulse. All are exact in float64."""
    since = np.arange(6) - 2
    answers = {
        "step": np.where(since < 0, 0, 1 - 0.5 ** (since + 1.0)),
        "impulse": np.where(since < 0, 0, 0.5 ** (since + 1.0)),
    }
    for kind, answer in answers.items():
        got = explain.response(
            Average(members), 1, baseline=[8, 16, 24], at=2, steps=6, size=4, spacing=0.5, kind=kind, scale=(16, 2)
        )
        for m in range(max(members, 1)):
            difference = got.difference[m] if members else got.difference
            for b in range(3):
                np.testing.assert_array_equal(difference[b, :, 0], (m + 1) * 2 * (4 / 2) * answer)
        np.testing.assert_array_equal(got.time, since * 0.5)
        np.testing.assert_array_equal(got.input[0], [8, 8, 12, *([12] * 3 if kind == "step" else [8] * 3)])
        assert got.data_range is None and not got.outside.any()


def test_of_a_recurrent_model_against_two_forward_passes() -> None:
    model = rnam.RNAM(terms=3, hidden_dim=4, out_dim=2, blocks=1, dtype=torch.float64)
    explain.describe(model, ["a", "b", "c"], ["mg", "", "kg"])
    got = explain.response(
        model, "c", baseline=[0.5, 1.0, 2.0], at=3, steps=8, size=-0.25, scale=lambda v: np.log(v) / 2
    )
    assert (got.term, got.unit, got.size, got.kind) == ("c", "kg", -0.25, "step")
    for i, value in enumerate([0.5, 1.0, 2.0]):
        for changed, found in ((False, got.held), (True, got.contribution)):
            sequence = [value - 0.25 * (changed and t >= 3) for t in range(8)]
            input = torch.zeros(3, 1, 8, 1, dtype=torch.float64)  # what the others see plays no part
            input[2, 0, :, 0] = torch.tensor(sequence, dtype=torch.float64).log() / 2
            expected = model(input, return_sequence=True).contributions[2, 0].detach()
            np.testing.assert_allclose(found[i], expected, rtol=0, atol=ROUNDING)
    assert_within("before the step", got.difference[:, :3], 0.0, 2 * ROUNDING)
    assert np.abs(got.difference[:, 3:]).min() > 2 * ROUNDING


def test_marks_what_lies_outside_the_data() -> None:
    data = np.r_[np.arange(101.0), np.nan]  # 1 % is 1, 99 % is 99
    got = explain.response(Average(), 0, data=data, at=1, steps=3, size=9.5, kind="impulse")
    np.testing.assert_allclose(got.baseline, [10, 50, 90])
    np.testing.assert_allclose(got.data_range, (1, 99))
    np.testing.assert_array_equal(got.outside, [[False] * 3, [False] * 3, [False, True, False]])
    given = explain.response(Average(), 0, baseline=[0.5, 2, 99.5], data=data, at=1, steps=3, size=1)
    np.testing.assert_array_equal(given.outside, [[True, False, False], [False] * 3, [True] * 3])


def test_encode_makes_the_whole_input() -> None:
    model = rnam.RNAM(terms=2, hidden_dim=4, out_dim=1, blocks=1, in_dim=2)
    seen = []

    def encode(values, time):
        seen.append((values.copy(), time.copy()))
        input = torch.zeros(2, *values.shape, 2)
        input[1, :, :, 0] = torch.tensor(values)
        input[1, :, :, 1] = torch.tensor(np.diff(time, prepend=time[0]))
        return input

    got = explain.response(model, 1, baseline=[1, 2, 3], at=1, steps=4, spacing=2, encode=encode)
    ((values, time),) = seen
    np.testing.assert_array_equal(values[:3], np.repeat([[1], [2], [3]], 4, 1))
    np.testing.assert_array_equal(values[3:], got.input)
    np.testing.assert_array_equal(time, [-2, 0, 2, 4])
    assert got.difference.shape == (3, 4, 1)


def test_columns_times_and_static_terms_need_no_encode() -> None:
    """Of a model with columns, a term that reads one of them answers as it does alone."""
    model = rnam.RNAM(2, 4, 1, 1, columns=[[3], [0, 1]], static_columns=[[1]], timing=True).double()
    plain = rnam.RNAM(1, 4, 1, 1).double()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            shared = name == "gam.bias" or ".ff.0." in name
            parameter.copy_(parameters[name] if shared else parameters[name][:1, : parameter.shape[1]])
    arguments = {"baseline": [1, 2, 3], "at": 2, "steps": 5, "size": 2.0, "scale": (2, 0.5)}
    expected = explain.response(plain, 0, **arguments)
    got = explain.response(model, 0, **arguments)
    np.testing.assert_allclose(got.contribution, expected.contribution, rtol=0, atol=ROUNDING)
    for term, words in (
        (1, "encode must be given for term 1, which reads more than one value"),
        (2, "term must be one that reads a sequence of values, got 'term 2', the timing term"),
        (3, "term must be one that reads a sequence of values, got 'term 3', a static term"),
    ):
        with pytest.raises(ValueError, match=words):
            explain.response(model, term, **arguments)

    model = rnam.RNAM(1, 4, 1, 1, columns=[[0]], memoryless_columns=[[1]], static_columns=[[0]], timing=True).double()
    got = explain.response(model, 2, **arguments)
    own = model.memoryless(torch.tensor((got.input[..., None] - 2) / 0.5)[None])[0].detach().numpy()
    np.testing.assert_allclose(got.contribution, own, rtol=0, atol=ROUNDING)
    for term, kind in ((1, "the timing term"), (3, "a static term")):
        with pytest.raises(ValueError, match=kind):
            explain.response(model, term, **arguments)


def test_a_pair_needs_encode() -> None:
    model = rnam.RNAM(2, 4, 1, 1, columns=[[3], [0, 1]], static_columns=[[1]], timing=True).double()
    arguments = {"baseline": [1, 2, 3], "at": 2, "steps": 5, "size": 2.0}

    def encode(values, time):
        one = torch.tensor(values)
        pair = torch.stack([one, 0 * one, 0 * one, 0 * one], -1)
        return {
            "input": pair,
            "times": torch.tensor(time).expand(len(one), -1),
            "static": torch.zeros(len(one), 2).double(),
        }

    assert np.abs(explain.response(model, 1, encode=encode, **arguments).difference[:, 2:]).min() > 0
    with pytest.raises(ValueError, match="model must be recurrent"):
        explain.response(rnam.NAM(2), 0, **arguments)


@pytest.mark.parametrize("options", [{}, {"columns": [[1], [0]]}, {"timing": True}])
def test_the_members_of_an_ensemble_answer_each(options: dict) -> None:
    model = rnam.RNAM(2, 4, 1, 1, members=3, **options).double()
    got = explain.response(model, 1, baseline=[1, 2, 3], at=2, steps=5)
    assert got.difference.shape == (3, 3, 5, 1)
    assert np.abs(np.diff(got.difference[:, :, 2:], axis=0)).min() > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"baseline": [1, 2]}, ValueError, r"baseline must be three values or more, got shape \(2,\)"),
        ({"baseline": None}, ValueError, "baseline must be given where data is not"),
        ({"baseline": [1, 2, np.nan]}, ValueError, "baseline must be finite"),
        ({"at": 20}, ValueError, "at must be below steps, 20, got 20"),
        ({"at": 0}, ValueError, "at must be at least 1"),
        ({"spacing": 0}, ValueError, "spacing must be finite and greater than 0"),
        ({"kind": "ramp"}, ValueError, "kind must be one of 'step', 'impulse', got 'ramp'"),
        ({"term": "x"}, ValueError, "term must be one of term 0, term 1, got 'x'"),
        ({"term": 2}, ValueError, "term must be from 0 to 1, got 2"),
        ({"scale": (0, 0)}, ValueError, "sd of scale must be greater than 0"),
        ({"scale": 3}, TypeError, "scale must be None, a pair"),
        ({"scale": (0, 1), "encode": lambda v, t: None}, ValueError, "scale must be None where encode is given"),
        ({"data": [np.nan], "baseline": None}, ValueError, "data must hold at least one finite number"),
        ({"model": rnam.RNAM(2, 4, 1, 1, in_dim=2)}, ValueError, "encode must be given for a model"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], message: str) -> None:
    arguments = {"model": Average(), "term": 0, "baseline": [1, 2, 3]} | change
    with pytest.raises(error, match=message):
        explain.response(**arguments)
