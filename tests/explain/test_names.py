"""Names stay with a model, and a model without names is as it was."""

import copy
import io
import pickle

import pytest
import torch

import rnam
from rnam.explain import names
from tests.support.assertions import assert_equal

NAMES, UNITS = ("bilirubin", "albumin", "Alter"), ("mg/dl", "g/dl", "")


def _model() -> rnam.RNAM:
    return rnam.RNAM(terms=3, hidden_dim=4, out_dim=2, blocks=1)


def _described() -> rnam.RNAM:
    return rnam.explain.describe(_model(), NAMES, UNITS, ["alive", "µ"])


def _is_described(model: torch.nn.Module) -> None:
    assert names.labels(model, 3, 2) == (NAMES, UNITS, ("alive", "µ"))


def test_without_names_the_state_dict_is_that_of_the_layers() -> None:
    assert not [key for key in _model().state_dict() if "description" in key]
    assert set(_described().state_dict()) - set(_model().state_dict()) == {"description._extra_state"}


def test_copies_and_pickles_keep_them() -> None:
    model = _described()
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.double()):
        _is_described(same)


@pytest.mark.parametrize("before", [False, True], ids=["fresh", "described otherwise"])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "as a child"])
def test_a_state_dict_carries_them_into_another_model(before: bool, inside: bool) -> None:
    model, other = _described(), _model()
    if before:
        rnam.explain.describe(other, ["a", "b", "c"])
    file = io.BytesIO()
    source, target = (torch.nn.ModuleDict({"net": m}) if inside else m for m in (model, other))
    torch.save(source.state_dict(), file)
    file.seek(0)
    target.load_state_dict({key: value.clone() for key, value in torch.load(file, weights_only=True).items()})
    _is_described(other)
    assert_equal("parameters", list(other.parameters()), list(model.parameters()))


def test_a_checkpoint_without_names_leaves_those_that_are_there() -> None:
    model = _described()
    model.load_state_dict(_model().state_dict())
    _is_described(model)


def test_any_module_can_be_described() -> None:
    _is_described(rnam.explain.describe(torch.nn.Linear(1, 1), NAMES, UNITS, ["alive", "µ"]))


def test_by_number_where_there_are_none() -> None:
    assert names.labels(_model(), 2, 1) == (("term 0", "term 1"), ("", ""), ("output 0",))


def test_given_names_go_before_the_stored_ones_and_take_their_units_along() -> None:
    assert names.labels(_described(), 3, 2, names=["a", "b", "c"]).units == ("", "", "")
    assert names.labels(_described(), 3, 2, units=["x", "y", "z"])[:2] == (NAMES, ("x", "y", "z"))


@pytest.mark.parametrize(
    ("given", "units", "error", "message"),
    [
        ("abc", None, TypeError, "names must be a sequence of str, got one str"),
        (["a", 1], None, TypeError, "names must be str, got int"),
        (["a", ""], None, ValueError, "names must be neither empty nor"),
        (["a", "(intercept)"], None, ValueError, r"got '\(intercept\)'"),
        (["a", "b", "a"], None, ValueError, "names must differ from each other, got 'a' twice"),
        (["a", "b"], ["mg"], ValueError, "units must be 2, one for each name, got 1"),
        (["a", "b"], [None, "mg"], TypeError, "units must be str, got NoneType"),
    ],
)
def test_bad_names(given: list[str], units: list[str] | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rnam.explain.describe(_model(), given, units)


def test_as_many_as_the_model_reports() -> None:
    with pytest.raises(ValueError, match="names must be 4, one for each term, got 3"):
        names.labels(_described(), 4, 2)
    with pytest.raises(ValueError, match="the model's description must have 1 outputs, got 2"):
        names.labels(_described(), 3, 1)


def test_positions() -> None:
    assert names.position("term", "b", ("a", "b")) == names.position("term", 1, ("a", "b")) == 1
    for value, error in (("c", ValueError), (2, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="term must be"):
            names.position("term", value, ("a", "b"))
    assert names.only_output(None, ("a",)) == 0
    with pytest.raises(ValueError, match="output must be one of a, b, got None"):
        names.only_output(None, ("a", "b"))
