"""A folder of config.json and model.safetensors that is there as a whole or not at all.

config.json says its format and version, the bytes and the SHA-256 of the weights, and a checksum of its own content. So
a file that was cut, changed or put beside another is refused. Line ends and blanks of config.json may change.

Writing. Both files are written into a folder `.rnam-part-*` inside. It is renamed to `.rnam-new`, and from then on
reading finds the new ones there. Then each takes the place of the old one. A crash leaves the old model or the new one,
and perhaps a `.rnam-part-*` that nothing reads. Other files stay as they are: a model card, those of a repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rnam._files import check_parent, checksum, strict_json

try:
    import safetensors
    import safetensors.torch
except ImportError as error:
    raise ImportError("a saved model takes safetensors, which is not installed: pip install 'rnam[sklearn]'") from error

__all__ = ["CONFIG", "FORMAT", "VERSION", "WEIGHTS", "read", "write"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT, VERSION = "rnam.model", 1

_NEW, _PART = ".rnam-new", ".rnam-part-"
_HEAD = ("format", "version", "rnam", "weights", "check")


def write(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], made_by: str, overwrite: bool) -> None:
    """Write a model. Its former content stays until all of the new is there.

    Args:
        path: of the folder, which is made where there is none; the folder above it must be there.
        config: what JSON holds, without numbers that are not finite.
        tensors: of any device.
        made_by: the version of the package.
        overwrite: replace the two files of a folder that is there.

    Raises:
        FileExistsError: the folder holds something and `overwrite` is False, or one of the files' names is a folder.
        NotADirectoryError: the path is a file, or the folder above it is none.
        FileNotFoundError: there is no folder above it.
    """
    # one key of metadata: safetensors writes several in an order of its own
    weights = safetensors.torch.save({name: _own(tensor) for name, tensor in tensors.items()}, {"format": "pt"})
    told = {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    head = {"format": FORMAT, "version": VERSION, "rnam": made_by}
    whole = head | {"weights": told} | dict(config)
    text = json.dumps(whole | {"check": _check(whole)}, indent=1, allow_nan=False) + "\n"

    made = _make(path, overwrite)
    part = path / f"{_PART}{uuid.uuid4().hex}"
    try:
        part.mkdir()
        for name, content in ((WEIGHTS, weights), (CONFIG, text.encode())):
            with (part / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(part)
        _clear_up(path)
        part.rename(path / _NEW)
    except BaseException:
        shutil.rmtree(path if made else part, ignore_errors=True)
        raise
    _sync(path)
    _clear_up(path)
    if made:
        _sync(path.parent)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config without its head, and the tensors, on the CPU.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks one of the files.
        NotADirectoryError: the path is a file.
        ValueError: the files are none of this format, of a later version, or damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a folder with {CONFIG} and {WEIGHTS}, got none")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} must be a folder with {CONFIG} and {WEIGHTS}, got a file")
    config = _config(path / CONFIG, _bytes(path, CONFIG))
    told, weights = config["weights"], _bytes(path, WEIGHTS)
    if len(weights) != told["bytes"]:
        raise ValueError(f"{path / WEIGHTS} must have {told['bytes']:,} bytes, as {CONFIG} says, got {len(weights):,}")
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != told["sha256"]:
        raise ValueError(
            f"{path / WEIGHTS} must be as it was written, of SHA-256 {told['sha256'][:16]}..., got one of "
            f"{sha256[:16]}..., that was changed or is of another model"
        )
    try:
        tensors = safetensors.torch.load(weights)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path / WEIGHTS} must be a file of safetensors: {error}") from error
    return {name: value for name, value in config.items() if name not in _HEAD}, tensors


def _make(path: Path, overwrite: bool) -> bool:
    """True if the folder was made, False if it was there."""
    check_parent(path)
    try:
        path.mkdir()
        return True
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(f"{path} must be a folder or nothing yet, got a file") from None
    for name, is_other, got in (
        (CONFIG, Path.is_dir, "folder"),
        (WEIGHTS, Path.is_dir, "folder"),
        (_NEW, Path.is_file, "file"),
    ):
        if is_other(path / name):
            raise FileExistsError(f"{path} must be a folder of a model, got one in which {name} is a {got}")
    held = sorted(each.name for each in path.iterdir() if not each.name.startswith(_PART))
    if held and not overwrite:
        raise FileExistsError(
            f"{path} must be a new or an empty folder where overwrite is False, got one with {', '.join(held[:5])}"
        )
    return False


def _clear_up(path: Path) -> None:
    """End a write that came as far as its new folder."""
    new = path / _NEW
    if new.is_dir():
        for name in (WEIGHTS, CONFIG):
            if (new / name).exists():
                os.replace(new / name, path / name)
        _sync(path)
        new.rmdir()


def _bytes(path: Path, name: str) -> bytes:
    """The bytes of a file: of the new one, where a write was cut short after its new folder was there."""
    for place in (path / _NEW / name, path / name):
        try:
            return place.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except IsADirectoryError:
            raise IsADirectoryError(f"{place} must be a file, got a folder") from None
    raise FileNotFoundError(f"{path} must have {CONFIG} and {WEIGHTS}, got no {name}")


def _config(file: Path, content: bytes) -> dict[str, Any]:
    try:
        config = strict_json(content.decode(), twice="a key is there twice", constant="{} is no JSON")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} must be JSON, got a file that was cut or damaged: {error}") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        what = "another program's file" if found is None else f"one of format {found!r}"
        raise ValueError(f"{file} must be of format {FORMAT!r}, got {what}")
    version = config.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{file} must have a version of at least 1, got {version!r}")
    if version > VERSION:
        raise ValueError(
            f"{file} must be of a version up to {VERSION}, got {version}, which rnam {config.get('rnam')} wrote; "
            "a later rnam reads it: pip install -U rnam"
        )
    if config.get("check") != _check(config):
        raise ValueError(f"{file} must be as it was written, got a file that was cut or changed")
    told = config.get("weights")
    if not isinstance(told, dict) or {key: type(value) for key, value in told.items()} != {"bytes": int, "sha256": str}:
        raise ValueError(f"{file} must have the bytes and the sha256 of the weights, got {told!r}")
    return dict(config)


def _check(config: Mapping[str, Any]) -> str:
    """A checksum of what config.json says but for itself."""
    return checksum({name: value for name, value in config.items() if name != "check"})


def _own(tensor: Tensor) -> Tensor:
    """In memory of its own, row by row: safetensors takes no view."""
    return tensor.detach().cpu().contiguous().clone()


def _sync(folder: Path) -> None:
    """Names in a folder, on the disk; Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
