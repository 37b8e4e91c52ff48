"""Safetensors files written a tensor at a time, however large they are.

The library's own writers want all tensors on the CPU, contiguous and apart from each other, or in
one piece of memory, and hide why a disk refuses them. Reading is the library's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open

from headstart.errors import ModelError

__all__ = ["TensorFile", "read_tensors"]

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class TensorFile:
    """Tensors by name, about to be written as a safetensors file.

    The format, of https://github.com/huggingface/safetensors: the length of a JSON object in
    8 bytes, the object, which tells each tensor's type, shape and place, then their bytes.

    Args:
        tensors: Dense tensors of any layout, on any device; they may share memory, and are
            written as if they did not.

    Raises:
        ValueError: A type that safetensors doesn't know, or the one name that it keeps to itself.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        # Large elements first, as the library does it: each tensor then starts at a multiple of
        # its element's size, and can be read in place.
        names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
        self._tensors = {name: tensors[name] for name in names}
        self._header, self._end = self._layout()

    @property
    def nbytes(self) -> int:
        """The size of the file in bytes."""
        return len(self._header) + self._end

    def _layout(self) -> tuple[bytes, int]:
        """Return all that comes before the tensors' bytes, and how many these are."""
        entries, start = {}, 0
        for name, tensor in self._tensors.items():
            if tensor.dtype not in _DTYPES or name == "__metadata__":
                raise ValueError(f"{name} of type {tensor.dtype} can't be kept in safetensors")
            kind, stop = _DTYPES[tensor.dtype], start + tensor.nbytes
            entries[name] = {"dtype": kind, "shape": [*tensor.shape], "data_offsets": [start, stop]}
            start = stop
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text, start

    def write(self, file: IO[bytes]) -> str:
        """Write the file's bytes, and return their SHA-256 as hexadecimal digits."""
        state = hashlib.sha256(self._header)
        file.write(self._header)
        for tensor in self._tensors.values():
            # What is transposed or on a GPU is copied here, and let go again.
            values = tensor.detach().cpu().resolve_neg().contiguous()
            # A contiguous tensor of one element may keep a stride that view takes exception to.
            values = values.as_strided((values.numel(),), (1,))
            content = values.view(torch.uint8).numpy().data
            state.update(content)
            file.write(content)
        return state.hexdigest()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file into memory that doesn't depend on the file any more.

    Raises:
        ModelError: The file is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a valid safetensors file: {error}.",
            field=str(path),
            hint="Start again in another folder: name it with --out.",
        ) from error
