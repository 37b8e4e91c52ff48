"""Half precision where it pays: on a CPU, depthwise convolutions are trained in fp32.

Their backward pass has no fast bf16 path on a CPU; with them in fp32 a step in bf16 is faster than
one in fp32 (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from headstart.training.device import InferencePath

__all__ = ["depthwise_in_fp32"]


@contextmanager
def depthwise_in_fp32(path: InferencePath, *modules: nn.Module) -> Iterator[None]:
    """Run the depthwise convolutions of ``modules`` in fp32 meanwhile, where bf16 is slow.

    Their names and parameters stay what they are; on leaving, so is their forward.
    """
    slow = path.device == "cpu" and path.precision == "bf16"
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if slow and _is_depthwise(layer) and "forward" not in vars(layer)
    ]
    for layer in layers:
        layer.forward = MethodType(_in_fp32, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_depthwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == layer.in_channels > 1
    return bool(getattr(layer, "is_depthwise", False))  # Keras's layers, as the adapter says it


def _in_fp32(layer: nn.Module, values: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        result: torch.Tensor = type(layer).forward(layer, values.float(), *rest, **options)
    return result
