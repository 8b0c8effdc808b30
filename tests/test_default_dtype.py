"""torch's default dtype is that of parameters, and has no part in anything else."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import rnam
from rnam.regularizers import concurvity, output_penalty, term_dropout

OTHERS = pytest.mark.parametrize("other", [torch.float64, torch.bfloat16, torch.float16], ids=str)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@OTHERS
@pytest.mark.parametrize("rows", [0, 4000])
def test_bootstrap_weights(other: torch.dtype, rows: int) -> None:
    """float32, in which counts are exact: bfloat16 has no number 257."""
    ids = torch.arange(rows) // 7

    def draw() -> torch.Tensor:
        return rnam.bootstrap_weights(ids, 3, generator=torch.Generator().manual_seed(0))

    expected = draw()
    assert expected.dtype == torch.float32
    with default_dtype(other):
        got = draw()
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


@OTHERS
def test_many_rows_of_one_person_are_counted_in_full(other: torch.dtype) -> None:
    with default_dtype(other):
        weights = rnam.bootstrap_weights(torch.arange(3000), 2)
    assert torch.equal(weights.sum(1), torch.full((2,), 3000.0))


@OTHERS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_regularizers(other: torch.dtype, dtype: torch.dtype) -> None:
    parts, weight = torch.randn(3, 50, 2).to(dtype), torch.rand(50)
    calls = (
        lambda: output_penalty(parts),
        lambda: output_penalty(parts, weight),
        lambda: concurvity(parts, weight),
        lambda: term_dropout(parts, 0.1, generator=torch.Generator().manual_seed(0)),
    )
    expected = [call() for call in calls]
    with default_dtype(other):
        got = [call() for call in calls]
    for one, right in zip(got, expected, strict=True):
        assert one.dtype == right.dtype
        assert torch.equal(one, right)


@OTHERS
@pytest.mark.parametrize("kind", ["RNAM", "NAM"])
def test_parameters_of_a_given_dtype(other: torch.dtype, kind: str) -> None:
    """One seed gives the same parameters, those of terms of different widths among them."""
    columns = [[0], [1, 2, 3], [0, 4]]

    def make() -> torch.nn.Module:
        torch.manual_seed(0)
        if kind == "NAM":
            return rnam.NAM(3, (8,), columns=columns, missing=True, dtype=torch.float32)
        return rnam.RNAM(3, 8, 1, 1, columns=columns, missing=True, static_columns=[[0], [1, 2]], dtype=torch.float32)

    expected = make().state_dict()
    with default_dtype(other):
        got = make().state_dict()
    assert got.keys() == expected.keys()
    differ = [name for name in got if got[name].dtype != torch.float32 or not torch.equal(got[name], expected[name])]
    assert not differ


@OTHERS
def test_what_a_model_gives(other: torch.dtype) -> None:
    model = rnam.RNAM(3, 8, 1, 1, timing=True, missing=True, static_columns=[[0]], members=2)
    x, mask, times, static = torch.randn(3, 4, 6, 1), torch.rand(3, 4, 6) > 0.5, torch.rand(4, 6), torch.randn(4, 1)
    given = {"mask": mask, "times": times, "static": static, "lengths": torch.tensor([6, 0, 3, 1])}
    first = {"times": times[:, 0], "static": static, "mask": mask[..., 0]}

    def outputs() -> list[torch.Tensor]:
        prediction, parts, state = model.step(x[:, :, 0], **first)
        states = [*state.hidden, *(value for name, value in state.items() if name != "hidden")]
        return [*model(x, **given), *model(x, **given, return_sequence=True), prediction, parts, *states]

    with torch.no_grad():
        expected = outputs()
        with default_dtype(other):
            got = outputs()
    for one, right in zip(got, expected, strict=True):
        assert one.dtype == right.dtype
        assert torch.equal(one, right)
