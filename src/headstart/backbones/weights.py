"""Files of weights: told apart by their content, read without running code, matched by name.

A safetensors file holds nothing but tensors. A PyTorch file is a pickle inside, which is read with
``weights_only=True``: tensors and plain containers, no code. Any other pickle is refused before a
byte of it is interpreted, whatever its name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from headstart.errors import ModelError, UnsafeFile

__all__ = ["load_weights", "read_weights"]

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# PyTorch before 1.6: a pickle of this number, and only then its content.
_LEGACY = b"\x80\x02\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
_ENOUGH = 0.9  # of the network's tensors; with fewer, part of it would be random
_SAFE_WAYS = (
    "Use a .safetensors file, or a PyTorch file that holds only a state dict: "
    "torch.save(model.state_dict(), path)."
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors or PyTorch file.

    A dict under ``state_dict`` or ``model`` is unpacked; a prefix that all names share because
    the model was wrapped (``module.``, ``_orig_mod.``) is taken off.

    Raises:
        UnsafeFile: It is another kind of file, or holds more than tensors and plain containers.
        ModelError: It can't be read, or holds no tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", field=str(path)) from error
    if start.startswith((_ZIP, _LEGACY)):
        tensors = _state_dict(_read_torch(path, archive=start.startswith(_ZIP)))
    elif start[8:9] == b"{":
        tensors = _read_safetensors(path)
    elif start.startswith(_HDF5):
        raise ModelError(
            f"{path} is an HDF5 file, as Keras writes it; it can't be loaded into this network.",
            field=str(path),
            hint=_SAFE_WAYS,
        )
    else:
        raise UnsafeFile(
            f"{path} is neither a safetensors nor a PyTorch file; it was not read further.",
            field=str(path),
            hint=_SAFE_WAYS,
        )
    if not tensors:
        raise ModelError(f"{path} holds no tensors.", field=str(path), hint=_SAFE_WAYS)
    return tensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a valid safetensors file: {error}.", field=str(path)
        ) from error


def _read_torch(path: Path, *, archive: bool) -> Any:
    try:
        if archive and not _is_torch_archive(path):
            raise UnsafeFile(
                f"{path} is a zip archive, but not one of PyTorch's; it was not read further.",
                field=str(path),
                hint=_SAFE_WAYS,
            )
        with path.open("rb") as file:  # given a path, torch.load goes by the file's name
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UnsafeFile(
            f"{path} holds more than tensors, and reading that could run code; it was refused.",
            field=str(path),
            hint=_SAFE_WAYS,
        ) from error
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged: {reason}.", field=str(path)) from error


def _is_torch_archive(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    # TorchScript archives hold programs beside their weights.
    return "data.pkl" in names and "constants.pkl" not in names


def _state_dict(document: Any) -> dict[str, torch.Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(document, dict) and isinstance(document.get(key), dict):
            document = document[key]
    if not isinstance(document, dict):
        return {}
    tensors = {str(key): value for key, value in document.items() if _is_plain(value)}
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized
    )


def load_weights(network: nn.Module, path: Path, heads: Sequence[str] = ()) -> str:
    """Load a file of weights into ``network``, matched by name and shape.

    Args:
        network: Takes the weights, in place.
        path: The file.
        heads: Dotted names of classifier layers: they may miss, or be of another shape.

    Returns:
        What matched, in words.

    Raises:
        UnsafeFile: The file could run code when read.
        ModelError: It can't be read, or does not fit the network.
    """
    tensors = _without(read_weights(path), heads)
    own = _without(network.state_dict(), heads)
    matched = [key for key in own if key in tensors]
    _check_shapes(path, tensors, own, matched)
    # Files from before 2017 have no step counters, and nothing reads them.
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in own]
    if len(missing) > (1 - _ENOUGH) * len(own):
        raise ModelError(
            f"{path} does not fit this network: {len(matched)} of its {len(own)} tensors are "
            f"there; missing are {_some(missing)}; what it has instead is {_some(unexpected)}.",
            field="weights",
            hint="Name the network that the file was made for with --backbone.",
        )
    for key in matched:
        if not torch.isfinite(tensors[key]).all():
            raise ModelError(f"{path}: {key} holds numbers that are not finite.", field="weights")
    network.load_state_dict({key: tensors[key] for key in matched}, strict=False)
    parts = [f"{len(matched)} of {len(own)} tensors matched"]
    parts += [f"{len(missing)} missing, left random ({_some(missing)})"] * bool(missing)
    parts += [f"{len(unexpected)} not used ({_some(unexpected)})"] * bool(unexpected)
    return "; ".join(parts)


def _check_shapes(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    matched: Sequence[str],
) -> None:
    wrong = [key for key in matched if tensors[key].shape != own[key].shape]
    if wrong:
        shapes = [tuple(source[wrong[0]].shape) for source in (tensors, own)]
        raise ModelError(
            f"{path} does not fit this network: {wrong[0]} has the shape {shapes[0]} and should "
            f"have {shapes[1]} ({len(wrong)} of {len(own)} tensors have a wrong shape).",
            field="weights",
            hint="Name the network that the file was made for with --backbone.",
        )


def _without(tensors: Mapping[str, torch.Tensor], heads: Sequence[str]) -> dict[str, torch.Tensor]:
    beginnings = tuple(f"{head}." for head in heads)
    return {key: value for key, value in tensors.items() if not key.startswith(beginnings)}


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:3]) or "nothing"
    return f"{shown}, …" if len(names) > 3 else shown
