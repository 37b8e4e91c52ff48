"""One batch of a loader, and one pass of a copy of the network over some of it.

Nothing of the user's is changed: the network is copied, and all generators of random numbers are
put back, the loader's own ones included.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Batch", "Rehearsal", "first_batch", "rehearse", "untouched"]

MOST_IMAGES = 4
"""As many images go through the network: enough for batch norms, and cheap."""

_IMAGES = ("image", "images", "pixel_values", "pixels", "input", "inputs", "x")
_LABELS = ("label", "labels", "target", "targets", "y")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True, slots=True)
class Batch:
    """The first batch of a loader: images (B, ...) and labels, where they were told apart."""

    images: torch.Tensor
    labels: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a pass of a copy of the network gave.

    Attributes:
        outputs: (B, C) on the CPU, detached; None where there is no such tensor.
        unreached: Trainable parameters that get no gradient.
        error: The first line of what went wrong, if something did.
    """

    outputs: torch.Tensor | None = None
    unreached: tuple[str, ...] = ()
    error: str | None = None


def first_batch(loader: Iterable[Any]) -> Batch | None:
    """Take the first batch of a loader, and end the workers that were started for it.

    Returns:
        It; or None where it is not a pair of images and labels, nor a dict of them.
    """
    persistent = getattr(loader, "_iterator", None)
    batches = iter(loader)
    try:
        batch = next(batches, None)
    finally:
        if hasattr(loader, "_iterator") and persistent is None:  # keeps persistent workers
            loader._iterator = None
        if hasattr(batches, "_shutdown_workers") and batches is not persistent:
            batches._shutdown_workers()
    if isinstance(batch, Mapping):
        images = next((batch[name] for name in _IMAGES if name in batch), None)
        labels = next((batch[name] for name in _LABELS if name in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) >= 2:
        images, labels = batch[0], batch[1]
    else:
        images, labels = batch, None
    if not isinstance(images, torch.Tensor) or not images.ndim or not len(images):
        return None
    return Batch(images.detach(), _tensor(labels))


def _tensor(labels: Any) -> torch.Tensor | None:
    if isinstance(labels, torch.Tensor) and labels.ndim:
        return labels.detach()
    numbers = isinstance(labels, list | tuple) and all(type(label) is int for label in labels)
    return torch.tensor(labels) if numbers and labels else None


def rehearse(model: nn.Module, images: torch.Tensor) -> Rehearsal:
    """Pass a few images through a copy of a network, forth and back.

    Hooks that are plain functions are left out of the copy: they might write into what is the
    user's.

    Args:
        model: The network, in the mode it is.
        images: (B, ...) as it takes them; at most ``MOST_IMAGES`` are used.
    """
    try:
        copy = deepcopy(model)
    except Exception as error:  # whatever a user's module says to being copied
        return Rehearsal(error=f"The network can't be copied: {_first_line(error)}")
    for module in copy.modules():
        for name in _HOOKS:
            setattr(module, name, _without_functions(getattr(module, name, None)))
    few = images[:MOST_IMAGES]
    if len(few) < 2:
        copy.eval()  # a batch norm needs two
    copy.requires_grad_(requires_grad=False)
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    values = dict(copy.named_parameters())
    for name in names:
        values[name].requires_grad_()
        values[name].grad = None
    try:
        with torch.enable_grad():
            given = list(_tensors(copy(_placed(few, copy))))
            return _reached(given, {name: values[name] for name in names})
    except Exception as error:  # the same
        return Rehearsal(error=_first_line(error))


def _reached(given: list[torch.Tensor], trainable: Mapping[str, nn.Parameter]) -> Rehearsal:
    """Go back from all outputs, and tell which parameters no gradient reaches."""
    outputs = next((one.detach().float().cpu() for one in given if one.ndim == 2), None)
    if not trainable:
        return Rehearsal(outputs)
    sums = [one.float().sum() for one in given if one.requires_grad]
    if not sums:
        return Rehearsal(outputs, tuple(trainable))
    grads = torch.autograd.grad(
        torch.stack(sums).sum(), list(trainable.values()), allow_unused=True
    )
    pairs = zip(trainable, grads, strict=True)
    return Rehearsal(outputs, tuple(name for name, grad in pairs if grad is None))


def _placed(images: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Put images where the network's weights are, in their precision."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is None:
        return images
    moved = images.to(weight.device)
    half = weight.dtype in (torch.float16, torch.bfloat16)
    return moved.to(weight.dtype) if half and moved.is_floating_point() else moved


def _tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """Yield the float tensors of a network's outputs: a tensor, a tuple, or a dict of them."""
    if isinstance(outputs, torch.Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, tuple | list):
        for value in outputs:
            yield from _tensors(value)


def _without_functions(hooks: Any) -> Any:
    functions = (FunctionType, MethodType, BuiltinFunctionType)
    if not hooks:
        return OrderedDict() if hooks is None else hooks
    return OrderedDict((k, hook) for k, hook in hooks.items() if not isinstance(hook, functions))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@contextmanager
def untouched(*owners: object) -> Iterator[None]:
    """Put all generators of random numbers back: torch's, numpy's, Python's, and the owners' own.

    Args:
        owners: Whose ``generator`` may be drawn from, and those of the samplers they have.
    """
    state, legacy = random.getstate(), np.random.get_state()
    cpu = torch.get_rng_state()
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if started else None
    own = [(generator, generator.get_state()) for generator in _generators(owners)]
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        for generator, before in own:
            generator.set_state(before)


def _generators(owners: Iterable[object]) -> Iterator[torch.Generator]:
    for owner in owners:
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            yield generator
        parts = (getattr(owner, name, None) for name in ("sampler", "batch_sampler"))
        yield from _generators([part for part in parts if part is not None])
