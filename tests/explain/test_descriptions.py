"""A description has as many names as its model reports terms, and comes from a file as a whole or not at all."""

import copy
import io
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rnam
from rnam.explain import describe
from rnam.models.description import Description

KEY = "description._extra_state"
ODD = ["a\r", "\ufeffb", "=c", '"', "\n", "\0", "µ", "😀", "x" * 200_000, " ", "'"]


def _of(terms: int) -> list[str]:
    return [f"n{i}" for i in range(terms)]


MODELS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "RNAM": (lambda: rnam.RNAM(3, 4, 2, 1), 3, 2),
    "members": (lambda: rnam.RNAM(3, 4, 2, 1, members=2), 3, 2),
    "columns, timing, static": (
        lambda: rnam.RNAM(3, 4, 1, 1, columns=[[0], [1], [0, 1]], timing=True, static_columns=[[0], [1]], members=2),
        6, 1,
    ),
    "NAM": (lambda: rnam.NAM(4, (4,), out_dim=3, members=2), 4, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_as_many_names_as_terms_at_once(kind: str) -> None:
    make, terms, outs = MODELS[kind]
    assert make().sizes() == (terms, outs)
    for wrong in (0, terms - 1, terms + 1):
        model = make()
        with pytest.raises(ValueError, match=f"names must be {terms}, one for each term, got {wrong}"):
            describe(model, _of(wrong))
        assert not hasattr(model, "description")
    for wrong in (outs + 1, outs + 2):
        with pytest.raises(ValueError, match=f"outputs must be {outs}, one for each output, got {wrong}"):
            describe(make(), _of(terms), outputs=[f"k{i}" for i in range(wrong)])
    described = describe(make(), _of(terms), outputs=[f"k{i}" for i in range(outs)])
    with pytest.raises(ValueError, match="names must be"):
        describe(described, _of(terms + 1))
    assert described.description.names == tuple(_of(terms))


def test_names_in_any_iterable() -> None:
    """A generator is read once."""
    for names in ((n for n in ["a", "b"]), {"a": 1, "b": 2}, np.array(["a", "b"]), ("a", "b")):
        model = describe(rnam.NAM(2, (4,)), names)
        assert model.description.names == ("a", "b")
        assert {type(name) for name in model.description.names} == {str}
    for names, kind in ((None, "NoneType"), (3, "int"), ("ab", "str")):
        with pytest.raises(TypeError, match=f"names must be a sequence of str, got one {kind}"):
            describe(rnam.NAM(2, (4,)), names)


def test_text_is_what_utf8_holds() -> None:
    for half in ("\ud800", "a\udfff"):
        with pytest.raises(ValueError, match="names must be text, got"):
            describe(rnam.NAM(2, (4,)), ["a", half])
        with pytest.raises(ValueError, match="units must be text, got"):
            describe(rnam.NAM(2, (4,)), ["a", "b"], ["", half])


@pytest.mark.parametrize("first", range(0, len(ODD) - 1, 2))
def test_any_legal_name_comes_back(first: int) -> None:
    names = ODD[first : first + 2]
    model, file = describe(rnam.NAM(2, (4,)), names, names[::-1], names[:1]), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = rnam.NAM(2, (4,))
    other.load_state_dict(torch.load(file, weights_only=True))
    kept = other.description
    assert (kept.names, kept.units, kept.outputs) == (tuple(names), tuple(names[::-1]), tuple(names[:1]))


def _entry(**change: Any) -> Tensor:
    fields = {"names": ["a", "b", "c"], "units": ["", "", ""], "outputs": []} | change
    return _bytes(json.dumps({key: value for key, value in fields.items() if value is not None}).encode())


def _bytes(text: bytes) -> Tensor:
    return torch.tensor(list(text), dtype=torch.uint8)


DAMAGED = {
    "empty": _bytes(b""),
    "no text": _bytes(b"\xff\xfe"),
    "no json": _bytes(b"{"),
    "deep": _bytes(b"[" * 100_000),
    "a list": _bytes(b"[]"),
    "a number": _bytes(b"1"),
    "a field less": _entry(units=None),
    "a field more": _entry(other=[]),
    "words for a list": _entry(names="abc"),
    "numbers": _entry(names=[1, 2, 3]),
    "null": _bytes(b'{"names": null, "units": [], "outputs": []}'),
    "a name twice": _entry(names=["a", "a", "b"]),
    "a name is empty": _entry(names=["a", "", "b"]),
    "a unit less": _entry(units=["", ""]),
    "half of a pair": _entry(names=["a", "\ud800", "b"]),
    "a term less": _entry(names=["a", "b"], units=["", ""]),
    "a term more": _entry(names=["a", "b", "c", "d"], units=[""] * 4),
    "an output more": _entry(outputs=["x", "y"]),
    "floats": _entry().float(),
    "two rows": _entry()[None].expand(2, -1),
    "no tensor": b"{}",
}


def _tensors(module: nn.Module) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


WAYS: dict[str, Callable[[], nn.Module]] = {
    "fresh": lambda: rnam.RNAM(3, 4, 1, 1, missing=True),
    "described": lambda: describe(rnam.RNAM(3, 4, 1, 1, missing=True), ["x", "y", "z"]),
    "NAM": lambda: rnam.NAM(3, (4,), missing=True),
    "compiled": lambda: torch.compile(rnam.NAM(3, (4,)), backend="aot_eager"),
    "another module": lambda: describe(nn.Linear(2, 2), ["x", "y", "z"]),
    "a copy of another module": lambda: copy.deepcopy(describe(nn.Linear(2, 2), ["x", "y", "z"])),
    "a pickle of another module": lambda: pickle.loads(pickle.dumps(describe(nn.Linear(2, 2), ["x", "y", "z"]))),
}


COUNTED = ("a term less", "a term more", "an output more")  # which a module that is not RNAM's can't tell


@pytest.mark.parametrize(
    ("way", "damage"), [(w, d) for w in WAYS for d in DAMAGED if d not in COUNTED or "another" not in w]
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_damaged_description_changes_nothing(way: str, damage: str, strict: bool) -> None:
    model, other = WAYS[way](), WAYS[way]()
    before, described = _tensors(model), copy.deepcopy(getattr(model, "description", None))
    key = next((k for k in other.state_dict() if k.endswith(KEY)), None)
    key = key or ("_orig_mod." if way == "compiled" else "") + KEY
    with pytest.raises(ValueError, match="must be the description of a model, got one that is damaged"):
        model.load_state_dict(other.state_dict() | {key: DAMAGED[damage]}, strict=strict)
    after = _tensors(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    now = getattr(model, "description", None)
    assert (now is None) == (described is None)
    if described is not None and now is not None:
        assert (now.names, now.units, now.outputs) == (described.names, described.units, described.outputs)
    model.load_state_dict(other.state_dict(), strict=strict)  # and is loaded afterwards


def test_in_a_larger_model_its_own_parameters_stay() -> None:
    net, other = nn.ModuleDict({"net": rnam.NAM(3, (4,))}), nn.ModuleDict({"net": rnam.NAM(3, (4,))})
    before = _tensors(net)
    with pytest.raises(ValueError, match=r"net\.description\._extra_state must be the description of a model"):
        net.load_state_dict(other.state_dict() | {f"net.{KEY}": DAMAGED["no json"]})
    assert [name for name, p in net.named_parameters() if not torch.equal(before[name], p)] == []


def _valid() -> Iterator[bytes]:
    model = describe(rnam.NAM(2, (2,)), ["a", "µ"], ["mg", ""], ["x"])
    yield model.state_dict()[KEY].numpy().tobytes()


@given(data=st.data())
def test_any_bytes_are_a_description_or_refused(data: st.DataObject) -> None:
    """Cut anywhere, or any byte changed: another description of two terms, or a ValueError, and nothing between."""
    (valid,) = _valid()
    if data.draw(st.booleans()):
        text = valid[: data.draw(st.integers(0, len(valid) - 1))]
    else:
        at = data.draw(st.integers(0, len(valid) - 1))
        text = valid[:at] + data.draw(st.binary(min_size=0, max_size=3)) + valid[at + 1 :]
    model = rnam.NAM(2, (2,))
    before = _tensors(model)
    try:
        model.load_state_dict(rnam.NAM(2, (2,)).state_dict() | {KEY: _bytes(text)})
    except ValueError:
        assert not hasattr(model, "description")
        assert [name for name, p in model.named_parameters() if not torch.equal(before[name], p)] == []
    else:
        assert len(model.description.names) == len(model.description.units) == 2


def test_a_description_alone_refuses_damage_too() -> None:
    kept = Description(["a"], ["mg"])
    for damage in set(DAMAGED).difference(COUNTED):
        with pytest.raises(ValueError, match="damaged"):
            kept.set_extra_state(DAMAGED[damage])
    assert (kept.names, kept.units, kept.outputs) == (("a",), ("mg",), ())


def test_a_compiled_model_has_as_many_terms_as_the_model() -> None:
    compiled = torch.compile(rnam.NAM(2, (4,)), backend="aot_eager")
    with pytest.raises(ValueError, match="names must be 2, one for each term, got 1"):
        describe(compiled, ["a"])
    assert describe(compiled, ["a", "b"]) is compiled
    assert compiled.description.names == ("a", "b")
    assert "description" in dict(compiled._orig_mod.named_children())
