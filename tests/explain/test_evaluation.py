"""Contributions as arrays and frames are those of the model."""

import sys

import numpy as np
import pytest
import torch

import rnam
from rnam import explain
from tests.explain.support import Given
from tests.support import bounds
from tests.support.assertions import assert_within


def _model(dtype: torch.dtype = torch.float32) -> rnam.RNAM:
    model = rnam.RNAM(terms=3, hidden_dim=4, out_dim=2, blocks=1, dtype=dtype)
    torch.nn.init.normal_(model.gam.bias)
    return model


@pytest.mark.parametrize("over_time", [False, True])
def test_are_the_models_and_add_up(over_time: bool) -> None:
    model, input, mask = _model(), torch.randn(3, 5, 7, 1), torch.rand(3, 5, 7) > 0.3
    lengths = torch.tensor([7, 6, 5, 1, 0])
    prediction, parts = model(input, mask, lengths=lengths, return_sequence=over_time)
    got = explain.contributions(model, input, mask, lengths=lengths, over_time=over_time)
    assert got.dtype == np.float32
    for b, f in np.ndindex(5, 3):
        np.testing.assert_array_equal(got[b, f], parts[f, b].detach())
    total = got.astype(np.float64).sum(1) + explain.intercept(model)
    # each of the two additions of terms and that of the bias rounds once, of numbers below the sum of absolutes
    size = np.abs(got).astype(np.float64).sum(1) + np.abs(explain.intercept(model))
    assert_within("sum", total, prediction.double(), 3 * bounds.unit(torch.float32) * size)


def test_halves_come_as_float32() -> None:
    model, input = _model(torch.bfloat16), torch.randn(3, 5, 7, 1).bfloat16()
    got = explain.contributions(model, input)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, model(input).contributions.detach().float().transpose(0, 1))


@pytest.mark.parametrize("over_time", [False, True])
def test_members_lead(over_time: bool) -> None:
    parts = torch.randn(2, 3, 5, 7, 1) if over_time else torch.randn(2, 3, 5, 1)
    got = explain.contributions(Given(parts, torch.zeros(2, 1)), torch.zeros(1), over_time=over_time)
    np.testing.assert_array_equal(got, parts.transpose(1, 2))


def test_runs_in_evaluation_mode_without_a_graph_and_puts_modes_back() -> None:
    seen = []

    class Watched(rnam.RNAM):
        def forward(self, *args, **options):
            seen.append((torch.is_grad_enabled(), [m.training for m in self.modules()]))
            if len(seen) == 2:
                raise RuntimeError("in the middle")
            return super().forward(*args, **options)

    model = Watched(terms=3, hidden_dim=4, out_dim=2, blocks=1)
    model.proj.eval()
    before = [m.training for m in model.modules()]
    explain.contributions(model, torch.randn(3, 5, 7, 1))
    with pytest.raises(RuntimeError, match="in the middle"):
        explain.contributions(model, torch.randn(3, 5, 7, 1))
    assert not [(grad, training) for grad, training in seen if grad or any(training)]
    assert [m.training for m in model.modules()] == before
    assert torch.is_grad_enabled()


def test_intercept_is_a_copy() -> None:
    model = _model()
    explain.intercept(model)[:] = 99
    assert (model.gam.bias != 99).all()


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("members", [False, True])
@pytest.mark.parametrize("outs", [1, 2])
def test_frames_hold_the_same_numbers(over_time: bool, members: bool, outs: int) -> None:
    pytest.importorskip("pandas")
    shape = (*((2,) if members else ()), 3, 5, *((7,) if over_time else ()), outs)
    model = Given(torch.randn(shape), torch.zeros(outs))
    explain.describe(model, ["a", "b", "c"], ["mg", "", "y"], [f"k{i}" for i in range(outs)])
    frame = explain.contributions(model, torch.zeros(1), over_time=over_time, as_frame=True)
    array = explain.contributions(model, torch.zeros(1), over_time=over_time)
    levels = ["member"] * members + ["sample"] + ["step"] * over_time
    assert list(frame.index.names) == levels
    assert frame.attrs["units"] == {"a": "mg", "b": "", "c": "y"}
    for f, k in np.ndindex(3, outs):
        column = frame[("abc"[f], f"k{k}")] if outs > 1 else frame["abc"[f]]
        for row, value in column.items():
            m, b, t = _place(row, members, over_time)
            lead = (m,) if members else ()
            rest = (t,) if over_time else ()
            assert value == array[(*lead, b, f, *rest, k)]


def _place(row: object, members: bool, over_time: bool) -> tuple:
    parts = list(row) if isinstance(row, tuple) else [row]
    member = parts.pop(0) if members else None
    return member, parts[0], parts[1] if over_time else None


def test_a_frame_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="a frame needs pandas"):
        explain.contributions(_model(), torch.randn(3, 5, 7, 1), as_frame=True)


def test_names_must_fit() -> None:
    with pytest.raises(ValueError, match="names must be 3, one for each term, got 2"):
        explain.contributions(_model(), torch.randn(3, 5, 7, 1), names=["a", "b"])


def test_observed_by_hand() -> None:
    """A term counts as observed from its first observed step on, and no step of the padding is observed."""
    model = rnam.RNAM(2, hidden_dim=4, out_dim=1, blocks=1)
    input, mask = torch.zeros(2, 2, 3, 1), torch.tensor([[[1, 0, 1], [0, 0, 1]], [[0, 1, 0], [1, 1, 1]]]).bool()
    lengths = torch.tensor([2, 1])
    so_far = [[[1, 1, 1], [0, 1, 1]], [[0, 0, 0], [1, 1, 1]]]  # (batch, terms, seq)
    got = explain.observed(model, input, mask, lengths=lengths, over_time=True)
    np.testing.assert_array_equal(got, np.bool_(so_far))
    np.testing.assert_array_equal(explain.observed(model, input, mask, lengths=lengths), [[True, True], [False, True]])
    assert explain.observed(model, input).all()


@pytest.mark.parametrize("over_time", [False, True])
def test_observed_goes_with_the_contributions_of_every_model(over_time: bool) -> None:
    """Of columns, visit pattern and static terms too: at the other places a contribution is `missing`, exactly."""
    model = rnam.RNAM(
        2, hidden_dim=4, out_dim=1, blocks=1, columns=[[0], [1, 2]], missing=True, timing=True, members=2,
        static_columns=[[0]],
    )  # fmt: skip
    torch.nn.init.normal_(model.missing)
    mask = torch.rand(6, 5, 3) < 0.4
    mask[0], mask[1, :2] = False, False
    given = {
        "mask": mask, "times": torch.arange(5.0).expand(6, 5), "static": torch.randn(6, 1),
        "static_mask": torch.arange(6)[:, None] > 2,
    }  # fmt: skip
    parts = explain.contributions(model, torch.randn(6, 5, 3), **given, over_time=over_time, return_members=True)
    seen = explain.observed(model, torch.randn(6, 5, 3), **given, over_time=over_time)
    assert seen.shape == parts.shape[1:-1] and not seen.all() and seen.any()
    missing = model.missing.detach().numpy().reshape(2, 1, 4, *[1] * over_time)
    np.testing.assert_array_equal(parts[..., 0] == missing, np.broadcast_to(~seen, parts.shape[:-1]))


def test_observed_of_a_network_for_one_point_in_time() -> None:
    model, mask = rnam.NAM(2, (4,)), torch.tensor([[True, False], [True, True]])
    np.testing.assert_array_equal(explain.observed(model, torch.zeros(2, 2), mask), mask.numpy())
    with pytest.raises(TypeError, match=r"model must have a method observed, as .*RNAM has, got Given"):
        explain.observed(Given(torch.zeros(2, 3, 1), torch.zeros(1)), torch.zeros(1))
