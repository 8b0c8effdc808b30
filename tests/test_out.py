"""`out=` of grouped_linear has memory of its own: what it shares with an argument would be read after it is written."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rnam._memory import overlap, overlaps_itself
from rnam.functional import grouped_linear

TERMS, ROWS, DIM = 3, 7, 4


def _arguments() -> dict[str, Tensor]:
    x, weight, bias = torch.randn(TERMS, ROWS, DIM), torch.randn(TERMS, DIM, DIM), torch.randn(TERMS, 1, DIM)
    return {"input": x, "weight": weight, "bias": bias}


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("name", ["input", "weight", "bias"])
@pytest.mark.usefixtures("backend")
def test_is_refused_where_it_overlaps(name: str, contiguous: bool) -> None:
    """By one element, in the middle of other memory, or as a whole."""
    given = _arguments()
    # (terms, rows, dim) of `out`, and behind it, one element earlier than its end, the argument
    memory = torch.zeros(2 * TERMS * ROWS * DIM + given[name].numel() + 1)
    if contiguous:
        out = memory[: TERMS * ROWS * DIM].view(TERMS, ROWS, DIM)
        start = out.numel() - 1
    else:
        out = memory[: 2 * TERMS * ROWS * DIM].view(TERMS, ROWS, 2 * DIM)[..., ::2]
        start = 2 * out.numel() - 2
    place = memory[start : start + given[name].numel()].view(given[name].shape)
    given[name] = place.copy_(given[name])
    with pytest.raises(ValueError, match=f"out must not overlap {name}, got memory that both use"):
        grouped_linear(**given, out=out)
    behind = memory[start + 1 :][: given[name].numel()].view(given[name].shape)
    right = grouped_linear(**given | {name: place.clone()})
    given[name] = behind.copy_(place.clone())
    assert torch.equal(grouped_linear(**given, out=out), right)


@pytest.mark.usefixtures("backend")
def test_the_input_itself() -> None:
    given = _arguments()
    with pytest.raises(ValueError, match="out must not overlap input"):
        grouped_linear(**given, out=given["input"])


@pytest.mark.usefixtures("backend")
def test_views_that_lie_between_each_other_are_taken() -> None:
    given, memory = _arguments(), torch.randn(TERMS, 2 * ROWS, 2 * DIM)
    right = memory[:, ::2, ::2].clone()
    got = grouped_linear(memory[:, ::2, ::2], given["weight"], given["bias"], out=memory[:, 1::2, :DIM])
    assert torch.equal(got, grouped_linear(right, given["weight"], given["bias"]))


@pytest.mark.usefixtures("backend")
def test_out_that_overlaps_itself() -> None:
    given = _arguments()
    with pytest.raises(ValueError, match=r"out must not overlap itself, got strides \(0, 4, 1\)"):
        grouped_linear(**given, out=torch.zeros(1, ROWS, DIM).expand(TERMS, -1, -1))


@pytest.mark.usefixtures("backend")
def test_out_whose_rows_lie_in_each_other() -> None:
    given = _arguments()
    memory = torch.zeros(TERMS, ROWS + DIM)
    with pytest.raises(ValueError, match=r"out must not overlap itself, got strides \(11, 1, 1\)"):
        grouped_linear(**given, out=memory.unfold(1, DIM, 1)[:, :ROWS])


def test_memory_of_two_storages_is_found() -> None:
    """An array of numpy gives a storage for each tensor that is made of it."""
    array = np.zeros((TERMS, ROWS, DIM), np.float32)
    a, b = torch.from_numpy(array), torch.from_numpy(array)
    assert a.untyped_storage()._cdata != b.untyped_storage()._cdata
    with pytest.raises(ValueError, match="out must not overlap input"):
        grouped_linear(a, torch.zeros(TERMS, DIM, DIM), out=b)


def places(t: Tensor) -> set[int]:
    return {t.storage_offset() + sum(i * s for i, s in zip(at, t.stride(), strict=True))
            for at in np.ndindex(tuple(t.shape))}  # fmt: skip


def test_overlap_with_itself_is_that_of_elements() -> None:
    """Against the number of addresses."""
    memory, found = torch.zeros(100), set()
    for _ in range(400):
        shape, stride = torch.randint(0, 5, (3,)).tolist(), torch.randint(0, 9, (3,)).tolist()
        t = memory.as_strided(shape, stride)
        assert overlaps_itself(t) == (len(places(t)) < t.numel()), (shape, stride)
        found.add(overlaps_itself(t))
    assert found == {True, False}


def test_overlap_is_that_of_elements() -> None:
    """Against sets of addresses."""
    memory, found = torch.zeros(60), set()
    for _ in range(400):
        pair = []
        for _ in range(2):
            shape = torch.randint(0, 4, (3,)).tolist()
            stride = torch.randint(0, 7, (3,)).tolist()
            pair.append(memory.as_strided(shape, stride, int(torch.randint(0, 12, ()))))
        a, b = pair
        assert overlap(a, b) == bool(places(a) & places(b)), (a.shape, a.stride(), b.shape, b.stride())
        found.add(overlap(a, b))
    assert found == {False, True}


def test_in_a_graph() -> None:
    """Where tensors have no memory yet, nothing is compared."""
    given = _arguments()
    right = grouped_linear(**given)

    def into(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return grouped_linear(x, weight, bias, out=torch.empty(TERMS, ROWS, DIM))

    compiled = torch.compile(into, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(*given.values()), right)
    on_meta = {name: value.to("meta") for name, value in given.items()}
    assert grouped_linear(**on_meta, out=torch.empty(TERMS, ROWS, DIM, device="meta")).is_meta
    with torch._subclasses.FakeTensorMode() as mode:
        fake = {name: mode.from_tensor(value) for name, value in given.items()}
        assert grouped_linear(**fake, out=torch.empty(TERMS, ROWS, DIM)).shape == right.shape


@pytest.mark.usefixtures("backend")
def test_writing_is_seen_by_a_graph_that_kept_it() -> None:
    """As in torch: a backward that would read what was written over it raises."""
    given, out, factor = _arguments(), torch.empty(TERMS, ROWS, DIM), torch.rand(DIM, requires_grad=True)
    with torch.no_grad():
        grouped_linear(**given, out=out)
    loss = (factor * out).sum()
    with torch.no_grad():
        grouped_linear(**given, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
