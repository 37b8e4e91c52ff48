"""The features of a folder of images, as arrays."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.backbones import zoo
from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.data.checks.check import check, judge_failures
from headstart.data.objects.in_memory import as_source
from headstart.data.read import Failure
from headstart.data.sources import open_dataset
from headstart.files import write_bytes
from headstart.memory import FileMemory
from headstart.options import AUTO, DEFAULT_BACKBONE, Options
from headstart.training.device import first_path, pick_device
from headstart.training.features import extract

__all__ = ["Embedding", "create_backbone", "embed"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedding:
    """Features of the images that could be read.

    Attributes:
        features: (n, D) float32.
        names: Path of each, relative to the data.
        labels: Class of each; "" where the data has none.
        failed: The images that could not be read.
        notes: What was understood or left out when the data was listed.
    """

    features: npt.NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    failed: tuple[Failure, ...]
    notes: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write a .npz file with ``features``, ``paths`` and ``labels``, atomically."""
        content = io.BytesIO()
        np.savez(
            content,
            features=self.features,
            paths=np.array(self.names),
            labels=np.array(self.labels),
        )
        write_bytes(path, content.getvalue())

    def to_dict(self) -> dict[str, Any]:
        """Return what was embedded, without the features, as plain JSON types."""
        failed = [{"path": failure.name, "reason": failure.reason} for failure in self.failed]
        n, dim = self.features.shape
        return {"n": n, "feature_dim": dim, "failed": failed}


def create_backbone(options: Options, *, random: int | None = None) -> Backbone:
    """Load the network that the options ask for, with their resize rule.

    Args:
        options: What was asked for.
        random: A seed to draw the weights from, instead of loading any.

    Raises:
        UsageError: The name is unknown, or the licence forbids commercial use.
        ModelError: The weights can't be used.
        MissingWeights: They are not on this machine and can't be downloaded.
    """
    backbone = zoo.create(
        DEFAULT_BACKBONE if options.backbone == AUTO else options.backbone,
        weights=options.weights,
        mean=options.mean,
        std=options.std,
        size=options.size,
        allow_noncommercial=options.allow_noncommercial,
        random=random,
        allow_partial=options.allow_partial,
    )
    if options.resize is None:
        return backbone
    return replace(backbone, input_spec=backbone.input_spec.with_resize(options.resize))


def embed(
    data: object,
    options: Options,
    *,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> Embedding:
    """Compute, or remember, the features of every image of a data set.

    Args:
        data: A folder of class folders or of plain images, a table, a zip file, the name of a
            data set, or labelled images as Python objects.
        options: The network, the input, the device and how the images are read; the rest is not
            used.
        cache: Where features are remembered; the user's cache by default.
        progress: Called with (done, total) images to compute.

    Raises:
        HeadstartError: The data or the network can't be used.
    """
    cache = cache or Cache()
    path = first_path(pick_device(options.device), options.precision, options.batch_size)
    source = as_source(data, cache.given, options.reading)
    dataset = open_dataset(source, options.reading, min_classes=0, cache=cache)
    checked = check(dataset, FileMemory(cache.files), max_bad=options.max_bad, progress=None)
    items = checked.items
    features = extract(
        create_backbone(options),
        [item.path for item in items],
        checked.digests,
        cache,
        path,
        names=[item.name for item in items],
        decide=options.precision == "auto",
        progress=progress,
    )
    failed = (*checked.failed, *features.failed)
    judge_failures(len(items) + len(checked.failed), failed, options.max_bad)
    kept = [items[index] for index in features.positions]
    return Embedding(
        features=features.rows.all(),
        names=tuple(item.name for item in kept),
        labels=tuple(item.label for item in kept),
        failed=failed,
        notes=dataset.notes,
    )
