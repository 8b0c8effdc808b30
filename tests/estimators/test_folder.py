"""A folder of a model is there as a whole or not at all, and a file that is none is refused by its path."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("safetensors")

from rnam.estimators import folder
from rnam.estimators.folder import CONFIG, WEIGHTS

OLD = {"class": "old"}, {"w": torch.arange(3.0)}
NEW = {"class": "new", "more": [1, None]}, {"w": torch.arange(4.0), "b": torch.ones(2, dtype=torch.bfloat16)}


class Crash(BaseException):
    """No code handles it, as none handles a machine that stops."""


def write(path: Path, what: Any, overwrite: bool = False) -> None:
    folder.write(path, *what, "0.2.0", overwrite)


def holds(path: Path, what: Any) -> bool:
    config, tensors = folder.read(path)
    same = tensors.keys() == what[1].keys() and all(torch.equal(tensors[name], what[1][name]) for name in tensors)
    return config == what[0] and same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.rnam"


def test_a_folder_holds_two_files(path: Path) -> None:
    write(path, NEW)
    assert sorted(os.listdir(path)) == [CONFIG, WEIGHTS]
    assert holds(path, NEW)


def test_the_same_is_written_alike(path: Path, tmp_path: Path) -> None:
    write(path, NEW)
    write(tmp_path / "other", NEW)
    for name in (CONFIG, WEIGHTS):
        assert (path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_views_and_shared_memory_are_written_row_by_row(path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    write(path, ({}, {"whole": whole, "turned": whole.T, "part": whole[:, 1], "wide": whole[:1].expand(4, 3)}))
    found = folder.read(path)[1]
    assert torch.equal(found["turned"], whole.T) and torch.equal(found["wide"], whole[:1].expand(4, 3))


def test_line_ends_and_blanks_may_change(path: Path) -> None:
    write(path, NEW)
    text = (path / CONFIG).read_text()
    (path / CONFIG).write_bytes(text.replace("\n", "\r\n").encode())
    assert holds(path, NEW)
    (path / CONFIG).write_text(json.dumps(json.loads(text)))
    assert holds(path, NEW)


def test_files_may_be_links_as_in_the_cache_of_a_hub(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "blobs", NEW)
    path.mkdir()
    for name in (CONFIG, WEIGHTS):
        (path / name).symlink_to(tmp_path / "blobs" / name)
    assert holds(path, NEW)
    write(path, OLD, overwrite=True)  # replaces the links, not what they lead to
    assert holds(path, OLD) and holds(tmp_path / "blobs", NEW)


# what is there before


def test_a_folder_that_holds_something_is_refused(path: Path) -> None:
    write(path, OLD)
    with pytest.raises(FileExistsError, match=rf"{path} must be a new or an empty folder .* got one with {CONFIG}, "):
        write(path, NEW)
    assert holds(path, OLD)


def test_an_empty_folder_is_taken(path: Path) -> None:
    path.mkdir()
    write(path, NEW)
    assert holds(path, NEW)


def test_overwriting_leaves_other_files(path: Path) -> None:
    write(path, OLD)
    (path / "README.md").write_text("a card")
    (path / ".git").mkdir()
    write(path, NEW, overwrite=True)
    assert holds(path, NEW)
    assert (path / "README.md").read_text() == "a card" and (path / ".git").is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_never_replaced_by_a_folder(path: Path, overwrite: bool) -> None:
    path.write_text("data")
    with pytest.raises(NotADirectoryError, match=f"{path} must be a folder or nothing yet, got a file"):
        write(path, NEW, overwrite)
    assert path.read_text() == "data"


def test_the_folder_above_must_be_there(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{path} must be a folder, in which below is made, got none"):
        write(path / "below", NEW)
    assert not path.exists()


# what breaks off


def calls_of_a_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls by which a write changes the disk, in order."""
    made: list[str] = []
    with monkeypatch.context() as patch:
        for module, name in STEPS:
            real = getattr(module, name)
            patch.setattr(module, name, lambda *a, n=name, r=real, **k: (made.append(n), r(*a, **k))[1])
        write(path, NEW, overwrite=True)
    return made


STEPS = ((Path, "mkdir"), (Path, "open"), (os, "fsync"), (Path, "rename"), (os, "replace"), (Path, "rmdir"))


@pytest.mark.parametrize("there", [True, False], ids=["replaced", "made"])
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "raised"])
def test_a_write_that_breaks_off_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, kill: bool
) -> None:
    """Before each call that changes the disk; nothing clears up after it if the process is killed."""
    write(tmp_path / "counted", OLD)
    steps = len(calls_of_a_write(tmp_path / "counted", monkeypatch))
    assert steps >= 10
    seen = set()
    for stop in range(steps + (0 if there else 1)):
        path = tmp_path / f"{stop}"
        if there:
            write(path, OLD)
        left = stop
        with monkeypatch.context() as patch:

            def counted(real: Any) -> Any:
                def call(*args: Any, **options: Any) -> Any:
                    nonlocal left
                    if left == 0:
                        raise Crash
                    left -= 1
                    return real(*args, **options)

                return call

            for module, name in STEPS:
                patch.setattr(module, name, counted(getattr(module, name)))
            if kill:
                patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(Crash):
                write(path, NEW, overwrite=True)
        if there or (path / ".rnam-new").exists() or (path / CONFIG).exists():
            found = "new" if holds(path, NEW) else "old"
            assert found == "new" or holds(path, OLD)
        else:
            found = "none"
            with pytest.raises(FileNotFoundError, match=str(path)):
                folder.read(path)
            assert kill or not path.exists()
        seen.add(found)
        write(path, OLD, overwrite=True)  # and nothing is in the way of the next one
        assert holds(path, OLD) and not (path / ".rnam-new").exists()
    assert seen == {"old" if there else "none", "new"}


def test_a_failure_before_the_files_leaves_nothing(path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write(path, ({"a": float("nan")}, {}))
    assert not path.exists()


# what is no model


@pytest.fixture
def model(path: Path) -> Path:
    write(path, NEW)
    return path


def changed(path: Path, **changes: Any) -> None:
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps(config | changes))


def test_there_must_be_a_folder(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{path} must be a folder with {CONFIG} and {WEIGHTS}, got none"):
        folder.read(path)
    path.write_text("a file")
    with pytest.raises(NotADirectoryError, match=f"{path} must be a folder with {CONFIG} and {WEIGHTS}, got a file"):
        folder.read(path)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_both_files_must_be_there(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{model} must have {CONFIG} and {WEIGHTS}, got no {name}"):
        folder.read(model)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_was_cut_anywhere_is_refused(model: Path, name: str) -> None:
    content = (model / name).read_bytes()
    whole = content.rstrip()  # without its last line end the JSON is whole
    for length in {*range(0, len(whole), 7), len(whole) - 1}:
        (model / name).write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"{model / name} must"):
            folder.read(model)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_byte_that_was_changed_is_refused(model: Path, name: str) -> None:
    content = (model / name).read_bytes()
    for place in range(0, len(content), 5):
        if content[place : place + 1].isspace():
            continue
        (model / name).write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(ValueError, match=f"{model / name} must"):
            folder.read(model)


def test_weights_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    config, tensors = NEW
    write(tmp_path / "other", (config, {**tensors, "w": tensors["w"] + 1}))  # of as many bytes
    shutil.copy(tmp_path / "other" / WEIGHTS, model / WEIGHTS)
    with pytest.raises(
        ValueError, match=f"{model / WEIGHTS} must be as it was written, .* that was changed or is of another model"
    ):
        folder.read(model)


def test_a_later_version_is_refused_by_its_number(model: Path) -> None:
    changed(model, version=2, rnam="9.1")
    with pytest.raises(ValueError, match=r"config.json must be of a version up to 1, got 2, which rnam 9.1 wrote"):
        folder.read(model)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"model_type": "bert"}', "must be of format 'rnam.model', got another program's file"),
        ('{"format": "rnam.explain.Table"}', "must be of format 'rnam.model', got one of format 'rnam.explain.Table'"),
        ("[1]", "must be of format 'rnam.model', got another program's file"),
        ('{"format": "rnam.model", "version": 0}', "must have a version of at least 1, got 0"),
        ('{"format": "rnam.model", "version": true}', "must have a version of at least 1, got True"),
        ('{"format": "rnam.model", "format": "rnam.model"}', "must be JSON, .* a key is there twice"),
        ('{"format": NaN}', "must be JSON, .* NaN is no JSON"),
        ("\x80", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_a_config_of_something_else_is_refused(model: Path, content: str, told: str) -> None:
    (model / CONFIG).write_bytes(content.encode("latin1"))
    with pytest.raises(ValueError, match=f"{model / CONFIG} {told}"):
        folder.read(model)


def test_a_config_that_was_edited_is_refused(model: Path) -> None:
    changed(model, more=[2, None])
    with pytest.raises(ValueError, match=r"config.json must be as it was written, got a file that was cut or changed"):
        folder.read(model)
