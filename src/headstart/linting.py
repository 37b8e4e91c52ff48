"""The usual mistakes of a training set-up in PyTorch, found before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from headstart.data.checks.findings import Finding, by_severity
from headstart.errors import UsageError
from headstart.label_lint import dataset_findings, shuffling_findings
from headstart.lint_result import LintResult
from headstart.normalisation import Expected, expected
from headstart.preparation import normalisation_findings, prepared, value_findings
from headstart.rehearsal import Batch, Rehearsal, first_batch, rehearse, untouched
from headstart.training.anatomy import head_of, is_pretrained, named
from headstart.training.batch_guard import (
    UNSCALED,
    image_findings,
    judges_each_output,
    label_findings,
    output_findings,
    wanted_by,
)
from headstart.training.guard import mode_findings, optimizer_findings
from headstart.training.rate_guard import rate_findings

__all__ = ["lint"]

_ZOOS = ("torchvision.models.", "timm.")


def lint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    transform: object | None = None,
    loader: Iterable[Any] | None = None,
    *,
    loss: object | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pretrained: bool | None = None,
    highest_good_rate: float | None = None,
) -> LintResult:
    """Look for the usual mistakes in a training set-up, as it is right before the first step.

    Call it after ``model.train()``, with what the loop will use. Any network will do:
    torchvision's, timm's, headstart's, your own. Nothing of it is changed: not its modes,
    gradients or statistics, nor any state of random numbers. Of the loader one batch is taken, by
    an iterator of its own, and up to four of its images pass through a copy of the network.

    Args:
        model: The network that is trained; ``DataParallel`` and ``torch.compile`` may be around it.
        optimizer: What trains it.
        transform: What turns an image into its input: torchvision's, timm's or Albumentations'. By
            default that of the loader's data set.
        loader: Of the training images: batches of images (B, 3, H, W) and labels (B,).
        loss: A module or function; by default cross-entropy is assumed.
        mean: What the network's weights were trained with, in units of 0..1 or of 0..255; where
            it is not given, timm's networks and headstart's say so themselves, and of
            torchvision's it is known.
        std: The same; with ``mean``.
        pretrained: Whether the network's weights, but for the head, come from pre-training; by
            default that is told from its normalisation layers.
        highest_good_rate: The highest learning rate at which the loss still falls, by a range
            test; without it, rates are judged by what is usual for the optimizer.

    Raises:
        UsageError: An argument is not what it should be; or the loader is an iterator, whose batch
            would be lost to the training.
    """
    optimizer = _checked(model, optimizer, loader, mean, std)
    network = _unwrapped(model)
    with untouched(loader):
        setup = _Setup(network, optimizer, loss, pretrained, expected(network, mean, std))
        found = [
            *setup.training_findings(highest_good_rate),
            *setup.data_findings(transform, loader),
        ]
    return LintResult(by_severity(found), tuple(setup.notes))


def _checked(
    model: object,
    optimizer: object | None,
    loader: object | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> torch.optim.Optimizer | None:
    """Return torch's own optimizer, out of what may be around it."""
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model must be a torch.nn.Module, not {type(model).__name__}.", field="model"
        )
    while optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        inner = getattr(optimizer, "optimizer", None)  # as in a scheduler
        if inner is None:
            raise UsageError(
                f"The optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}.",
                field="optimizer",
            )
        optimizer = inner
    if (mean is None) != (std is None):
        raise UsageError(
            "mean and std belong together: give both.", field="mean" if mean is None else "std"
        )
    if isinstance(loader, Iterator):
        raise UsageError(
            "The loader is an iterator: the batch that is looked at would be lost to the training.",
            field="loader",
            hint="Give what the iterator is made from, a DataLoader.",
        )
    return optimizer


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


class _Setup:
    """A training set-up, as far as it was given."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        loss: object | None,
        pretrained: bool | None,
        wanted: Expected | None,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.loss = loss
        self.head = head_of(network)
        self.notes: list[str] = []
        self.pretrained = self._is_pretrained() if pretrained is None else pretrained
        self.wanted = wanted if self.pretrained or (wanted and wanted.source == "you say") else None

    def _is_pretrained(self) -> bool:
        told = is_pretrained(self.network)
        if told is None:  # no norm to tell by: AlexNet, VGG
            told = any(type(part).__module__.startswith(_ZOOS) for part in self.network.modules())
        if not told:
            self.notes.append(
                "The network's weights look as if they were never trained, so normalisation and "
                "rates were not compared with a pre-training's. If they were: pretrained=True."
            )
        return told

    def training_findings(self, highest_good_rate: float | None) -> Iterator[Finding]:
        """Yield what is wrong with the network and its optimizer."""
        yield from mode_findings(self.network)
        if self.optimizer is None:
            return
        values = dict(self.network.named_parameters())
        others = set(map(id, self.loss.parameters() if isinstance(self.loss, nn.Module) else ()))
        yield from optimizer_findings(values, self.optimizer, head=self.head, others=others)
        if self.pretrained:
            yield from rate_findings(
                values, self.optimizer, head=self.head, highest_good_rate=highest_good_rate
            )

    def data_findings(self, transform: object | None, loader: Any | None) -> Iterator[Finding]:
        """Yield what is wrong with what the network is fed, and what it makes of it."""
        given = transform if transform is not None else _transform_of(loader)
        found = list(self._normalisation(given))
        yield from found
        batch = None if loader is None else first_batch(loader)
        if loader is not None and batch is None:
            self.notes.append(
                "The loader's batches are not pairs of images and labels, so they were not looked "
                "at."
            )
        if batch is None:
            yield from self._ending()
            return
        self.notes.append(
            f"One batch of {len(batch.images)} images was taken from the loader, by an iterator of "
            "its own."
        )
        images = [] if found else list(self._image_findings(batch.images))
        yield from images
        ran = Rehearsal() if any(it.kind == "image-type" for it in images) else self._run(batch)
        yield from self._outputs(ran)
        yield from self._labels(batch, loader, self._count(ran))

    def _normalisation(self, transform: object | None) -> Iterator[Finding]:
        if transform is None:
            return
        told = prepared(transform, self.network)
        if told.unknown:
            self.notes.append(
                f"The transform has steps that can't be looked into ({named(told.unknown)}): its "
                "normalisation was judged by the batch alone."
            )
        elif told.floats and self.wanted is None and self.pretrained:
            self.notes.append(
                "Nothing says how the network's images were normalised, so it was not compared; "
                "mean= and std= tell."
            )
        yield from normalisation_findings(told, self.wanted)

    def _image_findings(self, images: torch.Tensor) -> Iterator[Finding]:
        wanted = self.wanted
        pixels = not images.is_floating_point() or images.shape[1] != 3
        if wanted is not None and wanted.takes_pixels and images.ndim == 4 and pixels:
            return
        inside = prepared(None, self.network)
        if inside.normalisations:  # the network's own first step
            return
        limit = UNSCALED if wanted is None else max(UNSCALED, *map(abs, wanted.scaling.range))
        found = list(image_findings(images, limit))
        if not found and wanted is not None and images.ndim == 4 and images.shape[1] == 3:
            found += value_findings(images, wanted)
        yield from found

    def _run(self, batch: Batch) -> Rehearsal:
        ran = rehearse(self.network, batch.images)
        if ran.error is not None:
            self.notes.append(f"The network was not tried on the batch. {ran.error}")
        return ran

    def _outputs(self, ran: Rehearsal) -> Iterator[Finding]:
        if ran.outputs is not None:
            yield from output_findings(ran.outputs, wanted_by(self.loss))
        if not ran.unreached:
            return
        names = {id(value): name for name, value in self.network.named_parameters()}
        head = {names[one] for one in self.head if one in names}
        grave = ran.outputs is not None and bool(head & set(ran.unreached))
        yield Finding(
            "no-gradient",
            "error" if grave else "warning",
            (),
            f"No gradient reaches {len(ran.unreached)} trainable parameter tensors "
            f"({named(ran.unreached)}): they would never change.",
            "Look for detach(), torch.no_grad() or .data between them and the output. If they are "
            "not used, or not to be trained: p.requires_grad_(False).",
        )

    def _ending(self) -> Iterator[Finding]:
        """Yield what can be told of the network's outputs without any image."""
        layer, count = _last_layer(self.network), self._count(Rehearsal())
        if isinstance(layer, nn.Softmax | nn.LogSoftmax) and count:
            yield from output_findings(
                layer(torch.zeros(2, count)), wanted_by(self.loss), [type(layer).__name__]
            )

    def _count(self, ran: Rehearsal) -> int | None:
        """Return how many outputs the network has."""
        if ran.outputs is not None:
            return int(ran.outputs.shape[1])
        layers = [
            module
            for module in self.network.modules()
            if isinstance(module, nn.Linear) and id(module.weight) in self.head
        ]
        return layers[-1].out_features if layers else None

    def _labels(self, batch: Batch, loader: Any, outputs: int | None) -> Iterator[Finding]:
        labels, loss = batch.labels, self.loss
        yield from shuffling_findings(loader, labels)
        if wanted_by(loss) is None or judges_each_output(loss):
            return
        ignored = int(getattr(loss, "ignore_index", -100))
        found = [] if labels is None else list(label_findings(labels, outputs, ignored=ignored))
        yield from found or dataset_findings(loader, outputs, ignored)


def _transform_of(loader: Any) -> object | None:
    """Return the transform of a loader's data set, through subsets of it."""
    dataset = getattr(loader, "dataset", None)
    while dataset is not None:
        transform: object | None = getattr(dataset, "transform", None)
        if transform is not None:
            return transform
        dataset = getattr(dataset, "dataset", None)
    return None


def _last_layer(network: nn.Module) -> nn.Module:
    """Return the layer that ends a network for certain: that of a chain at its end."""
    while True:
        children = list(network.children())
        if not children or not (
            isinstance(network, nn.Sequential) or isinstance(children[-1], nn.Sequential)
        ):
            return network
        network = children[-1]
