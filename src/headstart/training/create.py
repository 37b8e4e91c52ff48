"""A model for an own training loop: any backbone of the zoos with a new head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.backbones import zoo
from headstart.errors import UsageError
from headstart.training.heads import HeadSpec
from headstart.training.model import Model

__all__ = ["create"]


def create(
    name: str,
    classes: int,
    *,
    head: str = "linear",
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    random: bool = False,
    seed: int = 0,
    allow_noncommercial: bool = False,
    allow_partial: bool = False,
) -> Model:
    """Create a pre-trained network with a new head, as an nn.Module.

    It takes pixels (B, H, W, 3) uint8, and normalises them as the network was trained to see them;
    or images (B, 3, H, W) that were normalised elsewhere. It gives logits (B, classes).

    Args:
        name: ``zoo:name``, such as ``timm:resnet50``.
        classes: How many logits.
        head: ``linear``, ``linear,dropout=0.2``, ``mlp:256,dropout=0.5/0.3`` and the like.
        weights: A file of weights instead of the zoo's, or the folder of an earlier run.
        mean: Of the images these were trained on; with ``std``.
        std: See ``mean``.
        size: Side of the input in pixels, for networks that take another than their own.
        random: Start from random weights instead of pre-trained ones.
        seed: Of the head's weights, and of the random ones.
        allow_noncommercial: Accept weights whose licence forbids commercial use.
        allow_partial: Take what of ``weights`` fits, and leave the rest random.

    Raises:
        UsageError: Fewer than 2 classes, or an option that can't be used.
        UnknownName: There is no such network.
        MissingWeights: The weights are not on this machine and can't be downloaded.
        ModelError: The weights can't be used.
    """
    if classes < 2:
        raise UsageError(
            f"A classifier needs 2 classes or more, not {classes}.",
            field="classes",
            hint="Give as many as there are labels; for yes or no, 2.",
        )
    form = HeadSpec.parse(head)
    backbone = zoo.create(
        name,
        weights=weights,
        mean=mean,
        std=std,
        size=size,
        allow_noncommercial=allow_noncommercial,
        random=seed if random else None,
        allow_partial=allow_partial,
    )
    return Model(backbone, form.build(backbone.feature_dim, classes, seed))
