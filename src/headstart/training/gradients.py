"""The gradients of one batch: loss, penalties, mixing, and parts where memory is short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from headstart.strategy.phase import Train
from headstart.training.chance import drawing
from headstart.training.device import InferencePath
from headstart.training.model import Model
from headstart.training.optim import head_penalty
from headstart.training.task import SingleLabel

__all__ = ["Gradients"]


class Gradients:
    """Computes what an optimizer steps along.

    Args:
        model: The network and its head.
        runner: What turns a batch of the stream into logits; as accelerate prepared it.
        accelerator: accelerate's, as ``make_accelerator`` makes it.
        task: What labels mean.
        train: Smoothing, mixing, penalties and clipping.
        path: Device and precision.
        class_weights: (C,) weight of each class in the loss, or None.
    """

    def __init__(
        self,
        model: Model,
        runner: Any,
        accelerator: Any,
        task: SingleLabel,
        train: Train,
        path: InferencePath,
        class_weights: torch.Tensor | None = None,
    ) -> None:
        self.model = model
        self.runner = runner
        self.accelerator = accelerator
        self.task = task
        self.train = train
        self.path = path
        self._weights = None if class_weights is None else class_weights.to(path.device)

    def compute(
        self,
        values: torch.Tensor,
        labels: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        parts: int = 1,
        seed: int,
    ) -> float:
        """Add a batch's gradients to those of the parameters, and return its loss.

        Args:
            values: A batch of the stream.
            labels: (B,) class of each image.
            weights: (B,) how much each image counts, all above 0; None is all alike.
            parts: In how many parts the batch is computed; the gradients are those of the whole.
            seed: Of dropout and mixing.
        """
        total = 0.0
        if weights is not None:  # the weight is carried by the label, also where labels are mixed
            labels = F.one_hot(labels, len(self.task.classes)) * weights[:, None].float()
        with drawing(self.path.device, seed):
            if self.train.mixes:  # the whole batch, whatever parts it is computed in
                values, labels = self.mix(self.on_device(values), labels)
            parts = min(parts, len(labels))
            for some, theirs in zip(values.chunk(parts), labels.chunk(parts), strict=True):
                loss = self.loss(some, theirs) * self._share(theirs, labels)
                self.accelerator.backward(loss)
                total += float(loss.detach())
        return total

    def clip(self, parameters: Sequence[torch.Tensor]) -> float:
        """Clip the gradients together, and return their norm before."""
        limit = self.train.clip if self.train.clip is not None else math.inf
        return float(self.accelerator.clip_grad_norm_(parameters, limit))

    def loss(self, values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of some images with all penalties, as a scalar.

        Args:
            values: A batch of the stream, or a part of it.
            labels: (B,) classes; or (B, C) the share of each, a row's sum being its weight.
        """
        values, labels = self.on_device(values), labels.to(self.accelerator.device)
        logits = self.runner(values).float()
        smoothing = self.train.label_smoothing
        if labels.ndim == 1:
            loss = F.cross_entropy(logits, labels, weight=self._weights, label_smoothing=smoothing)
        else:
            loss = _shared_cross_entropy(logits, labels, self._weights, smoothing)
        penalty = head_penalty(self.model.head, self.train)
        return loss if penalty is None else loss + penalty

    def on_device(self, values: torch.Tensor) -> torch.Tensor:
        """Move a batch to where it is trained on."""
        moved: torch.Tensor = values.to(self.accelerator.device, non_blocking=True)
        return moved

    def mix(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix the images of a batch and their labels, by mixup or by cutmix."""
        from torchvision.transforms import v2

        kinds = [(v2.MixUp, self.train.mixup), (v2.CutMix, self.train.cutmix)]
        chosen = [(kind, alpha) for kind, alpha in kinds if alpha]
        kind, alpha = chosen[int(torch.randint(len(chosen), ()))]
        mix = kind(alpha=alpha, num_classes=len(self.task.classes))
        images, shares = mix(pixels.permute(0, 3, 1, 2).float(), labels.to(pixels.device))
        return images.permute(0, 2, 3, 1), shares

    def _share(self, some: torch.Tensor, labels: torch.Tensor) -> float:
        """Return a part's share in the mean over the batch, which is by weight where there is."""
        return float(self._mass(some) / self._mass(labels))

    def _mass(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the weight of some images in the mean: that of each times that of its class."""
        if self._weights is None:
            return torch.tensor(len(labels)) if labels.ndim == 1 else labels.sum()
        weights = self._weights.to(labels.device)
        return weights[labels].sum() if labels.ndim == 1 else (labels * weights).sum()


def _shared_cross_entropy(
    logits: torch.Tensor, shares: torch.Tensor, class_weights: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Return the mean cross-entropy by weight; for one class an image it is torch's.

    ``F.cross_entropy`` divides by the number of images where labels are shares, so that neither
    the weight of an image nor that of its class would be in the denominator.

    Args:
        logits: (B, C).
        shares: (B, C) of each class in each image, a row's sum being the image's weight.
        class_weights: (C,) or None.
        smoothing: How much of each row is spread over all classes.
    """
    weights = torch.ones_like(logits[0]) if class_weights is None else class_weights
    spread = shares.sum(dim=1, keepdim=True) / shares.shape[1]
    targets = (1 - smoothing) * shares + smoothing * spread
    losses = -(targets * weights * logits.log_softmax(dim=1))
    return losses.sum() / (shares * weights).sum()
