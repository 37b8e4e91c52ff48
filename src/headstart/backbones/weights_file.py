"""Files of weights: told apart by their content, and read without running code.

A safetensors file holds nothing but tensors. A PyTorch file is a pickle inside, which is read with
``weights_only=True``: tensors and plain containers, no code. Any other pickle is refused before a
byte of it is interpreted, whatever its name; so is an archive that unpacks to more than it is.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from headstart.errors import HeadstartError, ModelError, UnsafeFile

__all__ = ["read_candidates", "read_weights"]

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# PyTorch before 1.6: a pickle of this number, and only then its content.
_LEGACY = b"\x80\x02\x8a\n" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
_SAFE_WAYS = (
    "Use a .safetensors file, or a PyTorch file that holds only a state dict: "
    "torch.save(model.state_dict(), path)."
)
# Where training scripts put the state dict. As in timm, the average comes before the last step's:
# where somebody computed it, it is the one that was judged and published.
_NESTED = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher"),
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network"),
    *("params", "weights", "backbone", "encoder", "student"),
)
_DEPTH = 4  # of nesting; a pickle can hold a dict that holds itself
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel and torch.compile


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors or PyTorch file that holds one network.

    Returns:
        The largest state dict in it, an average before others.

    Raises:
        UnsafeFile: It is another kind of file, or holds more than tensors and plain containers.
        ModelError: It can't be read, or holds no tensors.
    """
    return max(read_candidates(path).values(), key=len)


def read_candidates(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Read every state dict of a safetensors or PyTorch file.

    A checkpoint can hold several, under the keys that training scripts use (``model``,
    ``model_ema``, ``teacher``, ``student``, …), and other tensors beside them. A prefix that all
    names of one share because the model was wrapped (``module.``, ``_orig_mod.``) is taken off.

    Returns:
        Each that has any tensors, by its keys with dots between ("" for the file's own), averages
        first; at least one.

    Raises:
        UnsafeFile: It is another kind of file, or holds more than tensors and plain containers.
        ModelError: It can't be read, or holds no tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ModelError(
            f"{path} can't be read: {error.strerror}.",
            field="weights",
            hint="--weights takes a file of weights, or the folder of a finished run.",
        ) from error
    if start.startswith((_ZIP, _LEGACY)):
        found = dict(_state_dicts(_read_torch(path, archive=start.startswith(_ZIP))))
        for tensors in found.values():
            _check_sizes(tensors, path)
    elif start[8:9] == b"{":
        tensors = _read_safetensors(path)
        found = {"": tensors} if tensors else {}
    elif start.startswith(_HDF5):
        raise _of_keras(path)
    else:
        raise UnsafeFile(
            f"{path} is neither a safetensors nor a PyTorch file; it was not read further.",
            field=str(path),
            hint=_SAFE_WAYS,
        )
    if not found:
        raise ModelError(f"{path} holds no tensors.", field=str(path), hint=_SAFE_WAYS)
    return found


def _of_keras(path: Path) -> ModelError:
    return ModelError(
        f"{path} is an HDF5 file, as Keras writes it; a network of PyTorch can't take it.",
        field=str(path),
        hint="It goes with the Keras network it was made for: --backbone keras:NAME. To use it "
        "here, first save its arrays as a PyTorch file under this network's names (a convolution's "
        "kernel (H, W, in, out) becomes a weight (out, in, H, W)).",
    )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # its own, and whatever torch raises at a type or size it lacks
        raise ModelError(
            f"{path} is not a valid safetensors file: {error}.", field=str(path)
        ) from error


def _read_torch(path: Path, *, archive: bool) -> Any:
    try:
        if archive:
            _check_archive(path)
        with path.open("rb") as file:  # given a path, torch.load goes by the file's name
            return torch.load(file, map_location="cpu", weights_only=True)
    except HeadstartError:
        raise
    except UnpicklingError as error:
        raise UnsafeFile(
            f"{path} holds more than tensors, and reading that could run code; it was refused.",
            field=str(path),
            hint=_SAFE_WAYS,
        ) from error
    except Exception as error:  # the readers trust what they read: an IndexError, or any other
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged: {reason}.", field=str(path)) from error


def _check_archive(path: Path) -> None:
    """Refuse archives of others, programs, and what would fill the memory."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {member.filename.rpartition("/")[2] for member in members}
    # TorchScript archives hold programs beside their weights.
    if "data.pkl" not in names or "constants.pkl" in names:
        raise UnsafeFile(
            f"{path} is a zip archive, but not one of PyTorch's state dicts; it was not read "
            "further.",
            field=str(path),
            hint=_SAFE_WAYS,
        )
    # PyTorch stores its tensors as they are. Weights hardly shrink where somebody compressed them.
    size, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > 2 * size:
        raise UnsafeFile(
            f"{path} has {size:,} bytes and would unpack to {unpacked:,}; it was not read further.",
            field=str(path),
            hint=_SAFE_WAYS,
        )


def _state_dicts(
    document: Any, keys: tuple[str, ...] = (), seen: tuple[int, ...] = ()
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield the tensors of each state dict with the keys it lies under, the inner ones first."""
    if not isinstance(document, dict) or id(document) in seen:
        return
    for key in _NESTED if len(keys) < _DEPTH else ():
        yield from _state_dicts(document.get(key), (*keys, key), (*seen, id(document)))
    tensors = {str(key): value for key, value in document.items() if _is_plain(value)}
    if tensors:
        yield ".".join(keys), _unwrapped(tensors)


def _unwrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off what wrappers put before every name, in any order."""
    while prefix := next((p for p in _WRAPPERS if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"  # a file can name tensors without any numbers, too
        and not (value.is_quantized or value.is_complex())
    )


def _check_sizes(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors that repeat a few numbers without end, before anybody touches them."""
    size = path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > size:
            raise ModelError(
                f"{path}: {name} claims {tensor.numel():,} numbers, more than the file holds.",
                field=str(path),
                hint=_SAFE_WAYS,
            )
