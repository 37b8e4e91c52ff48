"""What a phase that trains is fed: views of the images, and what each class weighs."""

from __future__ import annotations

import numpy as np
import torch

from headstart.adjust import custom_transform
from headstart.cache import Cache
from headstart.data.augment import Augment
from headstart.images import Images
from headstart.plan import Plan
from headstart.sizing import epochs_before
from headstart.strategy.phase import Phase, Train
from headstart.training.boundary import Boundary
from headstart.training.device import InferencePath
from headstart.training.examples import Examples
from headstart.training.pixels import Pixels, Stream

__all__ = ["class_weights", "examples_of", "stream_of"]


def stream_of(
    plan: Plan, images: Images, phase: Phase, start: int, cache: Cache, path: InferencePath
) -> Stream:
    """Return what a phase reads: views of the pixels, or what the blocks before ``start`` give.

    Args:
        plan: The run's plan.
        images: The images, with their pixels.
        phase: The phase, whose augmentation it is.
        start: How many blocks are computed once a view and remembered; 0 for none.
        cache: Where that is remembered.
        path: How those blocks are computed.
    """
    assert images.pixels is not None
    options = plan.options
    custom = phase.augment == "custom"
    pixels = Pixels(
        images.pixels,
        images.digests,
        Augment() if custom else Augment(phase.augment, phase.symmetry),
        options.seed,
        custom=custom_transform(options) if custom else None,
    )
    return Boundary(plan.backbone, start, pixels, cache, path) if start else pixels


def examples_of(
    plan: Plan, images: Images, number: int, cache: Cache, path: InferencePath
) -> Examples:
    """Return what a phase that trains learns from and is judged by.

    Args:
        plan: The run's plan.
        images: The images, with their pixels.
        number: The phase's number, from 0.
        cache: Where what its frozen blocks give is remembered.
        path: How those blocks are computed.
    """
    phase, size = plan.strategy.phases[number], plan.sizes[number]
    assert isinstance(phase.fit, Train)
    start = size.prefix if size.remembered else 0
    return Examples(
        stream=stream_of(plan, images, phase, start, cache, path),
        labels=images.labels,
        names=images.names,
        train=images.parts["train"],
        val=images.parts["val"],
        views=phase.fit.views or 0,
        first_view=epochs_before(plan.strategy, number),
        weights=images.weights,
    )


def class_weights(plan: Plan, images: Images) -> torch.Tensor | None:
    """Return N / (C * count) of each class, as scikit-learn's ``balanced``; None without.

    Where images have weights, these are counted.
    """
    if plan.options.class_weights != "balanced":
        return None
    train = images.parts["train"]
    weights = None if images.weights is None else images.weights[train]
    counts = np.bincount(images.labels[train], weights, minlength=len(plan.task.classes))
    return torch.from_numpy(counts.sum() / (len(counts) * counts)).float()
