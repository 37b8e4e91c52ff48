"""What a data set says of its labels without reading an image: their range, count and order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import SequentialSampler

from headstart.data.checks.findings import Finding
from headstart.training.batch_guard import label_findings, one_class

__all__ = ["dataset_findings", "shuffling_findings"]


def dataset_findings(loader: Any, outputs: int | None, ignored: int = -100) -> Iterator[Finding]:
    """Yield where the labels of a loader's data set don't fit the network's outputs.

    Args:
        loader: Its data set may have ``targets`` and ``classes``, as torchvision's have.
        outputs: How many logits the network gives; None where that is not known.
        ignored: The label that the loss passes over.
    """
    dataset = getattr(loader, "dataset", None)
    targets, classes = _targets(dataset), _classes(dataset)
    if outputs is None:
        return
    if targets is not None:
        targets = _transformed(targets, dataset)
    found = []
    if targets is not None:
        found = list(label_findings(targets, outputs, ignored=ignored, what="the data set"))
    if not found and classes is not None and len(classes) != outputs:
        yield _count(len(classes), outputs)
    yield from found


def _count(classes: int, outputs: int) -> Finding:
    few = outputs < classes
    return Finding(
        "outputs",
        "error" if few else "warning",
        (),
        f"The network has {outputs} outputs, and the data set {classes} classes"
        f"{'.' if few else ': what is left over takes its part of every probability.'}",
        f"Replace the last layer by one with {classes} outputs, and make the optimizer after that.",
    )


def shuffling_findings(loader: Any, labels: torch.Tensor | None) -> Iterator[Finding]:
    """Yield where the images come class by class.

    Args:
        loader: A loader of training images.
        labels: Of its first batch.
    """
    sampler = getattr(loader, "sampler", None)
    alike = labels is not None and one_class(labels)
    targets = _targets(getattr(loader, "dataset", None))
    several = targets is None or bool((targets != targets[0]).any())
    if isinstance(sampler, SequentialSampler):
        ordered = targets is not None and bool((targets[1:] >= targets[:-1]).all())
        unshuffled = several and (alike or ordered)
    else:  # of a sampler of its own, one batch is no proof
        unshuffled = alike and several and not _draws(sampler)
    if unshuffled:
        told = "The first batch is of one class" if alike else "The labels are in order"
        yield Finding(
            "not-shuffled",
            "warning",
            (),
            f"{told}: images come class by class, so that each step forgets the classes before.",
            "Give the training loader shuffle=True; an iterable data set must shuffle by itself.",
        )


def _draws(sampler: object) -> bool:
    """Whether a loader has a sampler that is not simply the order of the data set."""
    return sampler is not None and type(sampler).__name__ != "_InfiniteConstantSampler"


def _targets(dataset: Any) -> torch.Tensor | None:
    """Return all labels of a data set (N,), where it keeps them."""
    if dataset is None:
        return None
    inner, indices = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and indices is not None:
        whole = _targets(inner)
        return None if whole is None else whole[torch.as_tensor(list(indices), dtype=torch.int64)]
    for name in ("targets", "labels", "_labels"):
        values = getattr(dataset, name, None)
        try:
            labels = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError):
            continue
        whole_numbers = not labels.is_floating_point() and labels.dtype != torch.bool
        if labels.ndim == 1 and len(labels) and whole_numbers:
            return labels.long()
    return None


def _transformed(targets: torch.Tensor, dataset: Any) -> torch.Tensor | None:
    """Return the different labels as the data set's own function makes them; None if it can't."""
    while dataset is not None:
        transform = getattr(dataset, "target_transform", None)
        if transform is not None:
            try:
                different = sorted(set(targets.tolist()))
                return torch.tensor([int(transform(label)) for label in different])
            except Exception:  # whatever a user's function says to a plain number
                return None
        dataset = getattr(dataset, "dataset", None)
    return targets


def _classes(dataset: Any) -> Sequence[str] | None:
    while dataset is not None:
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, list | tuple):
            return classes
        dataset = getattr(dataset, "dataset", None)
    return None
