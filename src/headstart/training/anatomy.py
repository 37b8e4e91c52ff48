"""What can be read off a network's layers: which is its head, what trained before, what drops.

Nothing is run. It holds for networks of any origin, so that names and kinds of layers decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["drops", "head_of", "is_batch_norm", "is_pretrained", "named"]

_NAMED = 3  # names that a message gives


def named(names: Sequence[str]) -> str:
    """Name the first few parameters or layers and say how many more there are."""
    shown = ", ".join(name or "the network itself" for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module keeps statistics of batches that move while it is in training mode.

    torch's own kind and what is derived from it (timm's), and Keras's, by its name. Those that
    are called frozen never move.
    """
    name = type(module).__name__.lower()
    if "frozen" in name:
        return False
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.running_mean is not None
    return name == "batchnormalization"


def head_of(model: nn.Module) -> frozenset[int]:
    """Return the ids of the parameters of a network's head: what is new in transfer learning.

    timm says which they are. Elsewhere it is all that comes after the part with most of the
    parameters, or the last part, as in torchvision's networks and in most that people write; where
    that does not end in a linear layer or a convolution, the last linear layer there is. Empty
    where there is none.
    """
    says = getattr(model, "get_classifier", None)
    if callable(says):
        told = says()
        heads = [head for head in (told if isinstance(told, tuple) else (told,)) if head]
        ids = {id(value) for head in heads for value in head.parameters()}
        if ids:
            return frozenset(ids)
    parts = [child for child in model.children() if any(True for _ in child.parameters())]
    if len(parts) == 1 and not any(True for _ in model.parameters(recurse=False)):
        return head_of(parts[0])  # a wrapper
    if parts and _gives_logits(parts[-1]):
        return _ids(_after_the_body(parts))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return _ids([model] if _gives_logits(model) and not parts else linear[-1:])


def _after_the_body(parts: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return the parts behind the one with half of all parameters, or the last one."""
    sizes = [sum(value.numel() for value in part.parameters()) for part in parts]
    body = sizes.index(max(sizes))
    return parts[body + 1 :] if 2 * sizes[body] >= sum(sizes) and parts[body + 1 :] else parts[-1:]


def _ids(modules: Sequence[nn.Module]) -> frozenset[int]:
    return frozenset(id(value) for module in modules for value in module.parameters())


def _gives_logits(module: nn.Module) -> bool:
    """Whether the last layer with parameters is linear, or a convolution."""
    layers = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]
    return bool(layers) and isinstance(layers[-1], nn.Linear | nn.Conv2d)


def is_pretrained(model: nn.Module) -> bool | None:
    """Tell from the weights whether a network was trained before; None where they don't tell.

    A fresh normalisation layer scales by one number, 1 (or 0 at the end of a residual branch), and
    a trained one by many.
    """
    scales = [
        weight.detach()
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        and isinstance(weight := getattr(module, "weight", None), torch.Tensor)
        and weight.numel() > 1
        and not weight.is_meta
    ]
    if not scales:
        return None
    return any(bool((scale != scale.flatten()[0]).any()) for scale in scales)


def drops(module: nn.Module) -> bool:
    """Whether a layer leaves something out at random while it is in training mode."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if type(module).__name__ in ("DropPath", "StochasticDepth"):
        return bool(getattr(module, "drop_prob", getattr(module, "p", 0)))
    return False
