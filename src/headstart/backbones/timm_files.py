"""Files that were not written by timm, or for another size, as timm itself would read them.

For most of its families timm brings a function that renames what the original authors' files hold
(DINOv2, ConvNeXt, Swin, torchvision's VGG and DenseNet), and that resamples the positions and
patches of a vision transformer to the network's size. timm runs it on the files it downloads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from headstart.backbones.weights import Convert

__all__ = ["conversion"]

# What timm's modules call that function.
_NAMES = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def conversion(architecture: str, network: nn.Module) -> Convert | None:
    """Return timm's conversion of files to a network of its own; None where it has none.

    What it gives for a file that it doesn't know is None.

    Args:
        architecture: timm's name of the network.
        network: The network, of the size that is wanted; it is not changed.
    """
    from timm.models import model_entrypoint

    module = sys.modules[model_entrypoint(architecture).__module__]
    name = next((name for name in _NAMES if hasattr(module, name)), None)
    return None if name is None else partial(_converted, getattr(module, name), network)


def _converted(
    convert: Callable[..., dict[str, torch.Tensor]],
    network: nn.Module,
    tensors: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor] | None:
    """Run timm's function, which takes for granted what it looks for, on a file of any content."""
    with torch.no_grad():
        try:
            try:
                return convert(dict(tensors), network)
            except TypeError:  # as timm does: some of these functions want no network
                return convert(dict(tensors))
        except Exception:  # whatever it stumbles over, it does not know the file
            return None
