"""Where and how the forward pass runs: device, layout and precision.

The path is chosen, not assumed: bf16 is taken only where the processor computes it natively, and
``features`` checks on one batch of the user's own images that it stays close to fp32. The path is
recorded in the run and used again by ``predict``.
"""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.backbones.base import Backbone
from headstart.errors import ResourceError, UnknownName, UsageError
from headstart.training.model import Normalise

__all__ = [
    "Forward",
    "InferencePath",
    "Precision",
    "as_memory_allows",
    "autocast",
    "bf16_support",
    "first_path",
    "keep_freed_memory",
    "memory_format",
    "out_of_memory",
    "pick_device",
    "processor",
]

Found = TypeVar("Found")
Precision = Literal["auto", "fp32", "bf16"]
_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of malloc.h
_LARGEST = 2**31 - 1
_BATCH = {"cpu": 32, "mps": 64, "cuda": 256}


@dataclass(frozen=True, slots=True)
class InferencePath:
    """How features are computed; two runs on the same path give the same numbers.

    Attributes:
        device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``bf16`` is torch's autocast; weights and features are float32 either way.
        layout: Memory format of weights and images.
        batch_size: Every batch has this many rows (the last is padded), so that an image's
            features don't depend on its neighbours.
        compiled: Whether torch.compile made the forward pass.
        reason: Why this precision, in a sentence.
        parity: Relative L2 distance of the features from fp32's, if it was measured.
    """

    device: str
    precision: Literal["fp32", "bf16"]
    layout: Literal["channels_last", "contiguous"]
    batch_size: int
    compiled: bool = False
    reason: str = ""
    parity: float | None = None

    def key(self) -> dict[str, Any]:
        """Return all of it that changes the numbers, for a cache's key."""
        return {
            "processor": processor(self.device),
            "precision": self.precision,
            "layout": self.layout,
            "batch_size": self.batch_size,
            "compiled": self.compiled,
            "torch": torch.__version__,
        }

    def in_fp32(self) -> InferencePath:
        """Return the same path in fp32."""
        return replace(self, precision="fp32", parity=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> InferencePath:
        """Build a path from ``to_dict``'s result."""
        return cls(**document)


def pick_device(name: str = "auto") -> str:
    """Turn ``auto`` into the best device here, and check that a named one is here.

    Raises:
        UnknownName: Not a device headstart runs on.
        ResourceError: The device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in _BATCH or (colon and not re.fullmatch("[0-9]+", index)):
        raise UnknownName("device", name, ["auto", *_BATCH], field="device")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[kind]:
        raise ResourceError(
            f"The device {name} is not on this machine.",
            field="device",
            hint="Use --device auto to take the best there is.",
        )
    return name


def processor(device: str) -> str:
    """Name the processor as far as it changes numbers: the GPU, or the CPU's instructions."""
    if device.startswith("cuda"):
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device == "mps":
        return f"mps {platform.machine()}"
    bf16 = bf16_support("cpu") or "no bf16"
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {bf16}"


def bf16_support(device: str) -> str | None:
    """Return what computes bf16 natively on ``device``, or None where it would be emulated."""
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(device) if native else None
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return None
    capabilities = torch.cpu.get_capabilities()
    return next((name for name in _BF16_INSTRUCTIONS if capabilities.get(name)), None)


def first_path(device: str, precision: str, batch_size: int | None) -> InferencePath:
    """Return the path to try: what was asked for, or the fastest the processor has.

    Args:
        device: A present device, from ``pick_device``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        batch_size: Rows a batch, or None for the device's default.

    Raises:
        UnknownName: No such precision.
        UsageError: The batch size is below 1.
    """
    if precision not in get_args(Precision):
        raise UnknownName("precision", precision, get_args(Precision), field="precision")
    if batch_size is not None and batch_size < 1:
        raise UsageError(
            f"The batch size must be at least 1, not {batch_size}.", field="batch-size"
        )
    rows = batch_size or _BATCH[device.partition(":")[0]]
    layout: Literal["channels_last", "contiguous"]
    layout = "contiguous" if device == "mps" else "channels_last"
    support = bf16_support(device)
    if precision == "auto" and support:
        return InferencePath(device, "bf16", layout, rows, reason=f"native bf16 ({support})")
    if precision == "auto":
        return InferencePath(
            device, "fp32", layout, rows, reason="this processor has no native bf16"
        )
    chosen: Literal["fp32", "bf16"] = "bf16" if precision == "bf16" else "fp32"
    return InferencePath(device, chosen, layout, rows, reason="asked for")


class Forward:
    """A backbone's forward pass on a path: uint8 pixels -> values behind a block.

    Args:
        backbone: Its modules are moved to the path's device and layout, and set to eval mode.
        path: Where and how.
        start: Skip so many blocks: the input is then what they gave, in batches of tensors.
        end: Stop before this block; by default run all.
    """

    def __init__(
        self, backbone: Backbone, path: InferencePath, *, start: int = 0, end: int | None = None
    ) -> None:
        keep_freed_memory(path)
        self.path = path
        modules = [block.module for block in backbone.blocks[start:end]]
        if not start:
            modules = [Normalise(backbone.input_spec), *modules]
        chain = nn.Sequential(*modules)
        self._chain = chain.to(path.device).to(memory_format=memory_format(path)).eval()

    def __call__(self, pixels: npt.NDArray[np.uint8], *, pad: bool = True) -> npt.NDArray[Any]:
        """Compute features.

        Args:
            pixels: (n, H, W, 3) uint8 RGB, n at most the path's batch size.
            pad: Fill the batch up to the path's batch size, so that the result is bit-equal to
                that of any other batch; without, a small batch costs only what it is.

        Returns:
            (n, D) float32.
        """
        result: npt.NDArray[Any] = self.run(torch.from_numpy(pixels), pad=pad).float().numpy()
        return result

    def run(self, values: torch.Tensor, *, pad: bool = True) -> torch.Tensor:
        """Pass a batch through the blocks.

        Args:
            values: (n, ...) pixels, or what the block before ``start`` gave.
            pad: As above.

        Returns:
            (n, ...) on the CPU, in the type that came out.
        """
        count = len(values)
        if pad and count < self.path.batch_size:
            filler = values.new_zeros((self.path.batch_size - count, *values.shape[1:]))
            values = torch.cat([values, filler])
        with torch.inference_mode(), autocast(self.path):
            result: torch.Tensor = self._chain(values.to(self.path.device))
        return result.cpu()[:count]


def memory_format(path: InferencePath) -> torch.memory_format:
    """Return torch's name for the path's layout."""
    channels_last = path.layout == "channels_last"
    return torch.channels_last if channels_last else torch.contiguous_format


def autocast(path: InferencePath) -> torch.autocast:
    """Return the context in which the path's precision holds."""
    kind = path.device.partition(":")[0]
    return torch.autocast(kind, torch.bfloat16, enabled=path.precision == "bf16")


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error of torch's says that memory ran out; a CPU's has no type of its own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in text for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def as_memory_allows(compute: Callable[[int], Found], at_once: int, least: int = 1) -> Found:
    """Compute with so many images at once, or with half of that as long as memory is short.

    Args:
        compute: Called with the number of images, anew each time.
        at_once: How many there are to be.
        least: How many there must be.

    Raises:
        RuntimeError: torch's own, where ``least`` are too many too, or of another kind.
    """
    while True:
        try:
            return compute(at_once)
        except RuntimeError as error:
            if at_once <= least or not out_of_memory(error):
                raise
        at_once = max(at_once // 2, least)


def keep_freed_memory(path: InferencePath) -> bool:
    """Let the process keep the memory that a CPU's layers free, for the layers that follow.

    glibc gives every large block back to the system and takes new pages for the next, which
    costs a sixth of a whole feature extraction on a CPU (docs/benchmarks.md) and more of training.
    What the process holds at its peak it then holds until it ends.

    Returns:
        Whether it was asked for: for a path on a CPU, on Linux with glibc.
    """
    if path.device != "cpu" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = {_M_MMAP_THRESHOLD: _LARGEST, _M_TRIM_THRESHOLD: _LARGEST, _M_MMAP_MAX: 0}
    accepted = [library.mallopt(name, value) for name, value in settings.items()]
    return all(accepted)
