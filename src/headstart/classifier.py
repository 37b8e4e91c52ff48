"""The classifier: what ``fit`` and ``load`` return, and what predicts, embeds and is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from headstart import bundle
from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.card import default_card
from headstart.data.loader import Batch
from headstart.data.loader import load as load_images
from headstart.data.read import Failure, Source, source_name
from headstart.data.symmetry import symmetries, symmetry
from headstart.errors import BadImage, UsageError
from headstart.inputspec import InputSpec
from headstart.prediction import Prediction, Predictions
from headstart.training.device import (
    Forward,
    InferencePath,
    bf16_support,
    first_path,
    pick_device,
)
from headstart.training.task import SingleLabel

if TYPE_CHECKING:
    from headstart.data.reading import Reading
    from headstart.evaluation import Scores

__all__ = ["Classifier", "load"]

Progress = Callable[[int, int], None]
Images = Source | Iterable[Source] | npt.NDArray[np.uint8]
_KINDS = (str, Path, Image.Image, np.ndarray)


class Classifier:
    """A backbone, a linear head and the classes they tell apart.

    Images are given as paths, PIL images or uint8 arrays (H, W, 3): one, or a sequence of them,
    or an array (N, H, W, 3).

    Args:
        backbone: The network.
        head: (feature_dim,) -> (C,), on raw features.
        task: The classes.
        path: Where and how the forward pass runs.
        notes: What a user should know about this copy, such as another precision than at fit.
        average: Over which mirror images of an image predictions are averaged: ``none``, ``flip``
            (2) or ``square`` (8).
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        task: SingleLabel,
        path: InferencePath,
        notes: Sequence[str] = (),
        average: str = "none",
    ) -> None:
        self.backbone = backbone
        self.head = head
        self.task = task
        self.path = path
        self.notes = tuple(notes)
        self.average = average
        self._forward: Forward | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the columns of ``predict_proba``."""
        return self.task.classes

    @property
    def input_spec(self) -> InputSpec:
        """How images are prepared for the network."""
        return self.backbone.input_spec

    def predict(
        self,
        images: Images,
        *,
        errors: Literal["raise", "skip"] = "raise",
        progress: Progress | None = None,
    ) -> Predictions:
        """Classify images.

        Args:
            images: One image or many.
            errors: With ``skip``, unreadable images are left out and listed in ``.failed``.
            progress: Called with (done, total).

        Raises:
            BadImage: An image can't be read, and ``errors`` is ``raise``.
        """
        if errors not in ("raise", "skip"):
            raise UsageError(f"errors must be 'raise' or 'skip', not {errors!r}.", field="errors")
        sources = _sources(images)
        views, kept, failed = self._features(sources, errors, progress, symmetries(self.average))
        rows = self.averaged(views)
        found = [
            Prediction(
                path=source_name(sources[index]),
                label=self.classes[int(row.argmax())],
                probability=float(row.max()),
                probabilities=dict(zip(self.classes, row.tolist(), strict=True)),
            )
            for index, row in zip(kept, rows, strict=True)
        ]
        return Predictions(found, failed)

    def predict_proba(self, images: Images) -> npt.NDArray[np.float64]:
        """Return the probability of every class, (N, C).

        Raises:
            BadImage: An image can't be read.
        """
        sources = _sources(images)
        return self.averaged(self._features(sources, "raise", None, symmetries(self.average))[0])

    def embed(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the backbone's features, (N, feature_dim).

        Raises:
            BadImage: An image can't be read.
        """
        return self._features(_sources(images), "raise", None)[0][0]

    def probabilities(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Apply the head to features (N, feature_dim) and return probabilities (N, C)."""
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(features))
            logits = self.head(values.to(_device_of(self.head))).float().cpu()
            probabilities: npt.NDArray[np.float64] = self.task.probabilities(logits).numpy()
        return probabilities

    def averaged(self, views: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
        """Return the mean of the probabilities (N, C) over the features of each view (N, D)."""
        mean: npt.NDArray[np.float64] = np.mean([self.probabilities(view) for view in views], 0)
        return mean

    def evaluate(
        self,
        data: object,
        *,
        reading: Reading | None = None,
        cache: Cache | None = None,
        max_bad: float = 0.01,
        progress: Progress | None = None,
    ) -> Scores:
        """Score the classifier on labelled data, its test part where it has one, else all of it.

        Args:
            data: A folder, a table, a zip file, the name of a data set, or labelled images as
                Python objects. Classes are matched by name; some may be missing.
            reading: How ``data`` is read, and what is chosen of it.
            cache: Where features are remembered; the user's cache by default.
            max_bad: Share of unreadable images above which the data is refused.
            progress: Called with (done, total) images to compute.

        Raises:
            DataError: The data can't be used, or has classes the classifier does not know.
        """
        from headstart.evaluation import evaluate

        return evaluate(
            self,
            data,
            reading=reading,
            cache=cache or Cache(),
            max_bad=max_bad,
            progress=progress,
        )

    def save(self, folder: str | Path, *, card: str | None = None) -> Path:
        """Write the classifier as a folder that ``headstart.load`` reads, and return it.

        Args:
            folder: Created if need be.
            card: The model card, Markdown; by default a short one.
        """
        text = card if card is not None else default_card(self)
        bundle.save(
            Path(folder),
            bundle.Parts(self.backbone, self.head, self.task, self.path, self.average),
            card=text,
        )
        return Path(folder)

    def _features(
        self,
        sources: list[Source],
        errors: str,
        progress: Progress | None,
        views: Sequence[int] = (0,),
    ) -> tuple[list[npt.NDArray[np.float32]], list[int], list[Failure]]:
        """Decode and pass forward, without the cache.

        Returns:
            Features (n, D) of each view, the positions kept, the failures.
        """
        if self._forward is None:
            self._forward = Forward(self.backbone, self.path)
        # One image alone is answered at once; several give the numbers they would give in a fit.
        pad = len(sources) > 1
        empty = np.empty((0, self.backbone.feature_dim), dtype=np.float32)
        rows: list[list[npt.NDArray[np.float32]]] = [[empty] for _ in views]
        kept, failed = [], []
        for event in self._load(sources):
            if isinstance(event, Failure):
                if errors == "raise":
                    raise BadImage(event.name, event.reason)
                failed.append(event)
            else:
                for some, view in zip(rows, views, strict=True):
                    some.append(self._forward(symmetry(event.pixels, view), pad=pad))
                kept += [int(index) for index in event.indices]
            if progress is not None:
                progress(len(kept) + len(failed), len(sources))
        return [np.concatenate(some) for some in rows], kept, failed

    def _load(self, sources: list[Source]) -> Iterator[Batch | Failure]:
        return load_images(sources, self.input_spec, self.path.batch_size)


def load(location: str | Path, *, device: str = "auto", precision: str = "auto") -> Classifier:
    """Load the classifier of a finished run.

    Args:
        location: A run folder, or a model folder that ``save`` wrote.
        device: ``auto`` is the one it was fitted on, where this machine has it.
        precision: ``auto`` is the one it was fitted in, where this machine computes it natively,
            else fp32, with a note; ``fp32`` or ``bf16`` insist.

    Raises:
        UnsafeFile: A file was given instead of a folder.
        ModelError: There is no finished model, or one of its files was changed.
    """
    parts = bundle.load(bundle.find(Path(location)))
    path, notes = _path_here(parts.path, device, precision)
    return Classifier(parts.backbone, parts.head, parts.task, path, notes, parts.average)


def _device_of(head: nn.Module) -> torch.device:
    return next(head.parameters()).device


def _path_here(
    fitted: InferencePath, device: str, precision: str
) -> tuple[InferencePath, list[str]]:
    """Find the path to use on this machine for a head that was solved on ``fitted``."""
    if device == "auto":
        best = pick_device("auto")
        device = fitted.device if fitted.device in (best, "cpu") else best
    device = pick_device(device)
    # Another device's batch may be far too large for this one, and every batch is filled up.
    batch_size = fitted.batch_size if device == fitted.device else None
    if precision != "auto":
        return first_path(device, precision, batch_size), []
    if fitted.precision == "bf16" and bf16_support(device) is None:
        note = (
            "fitted in bf16, which this machine does not compute natively: fp32 is used, and "
            "probabilities may differ slightly"
        )
        return replace(first_path(device, "fp32", batch_size), reason=note), [note]
    if device == fitted.device:
        return fitted, []
    return replace(first_path(device, fitted.precision, batch_size), reason="as at fit"), []


def _sources(images: Images) -> list[Source]:
    """Turn one image or many into a list.

    Raises:
        UsageError: Something is no path, no PIL image and no array.
    """
    if isinstance(images, np.ndarray) and (images.ndim == 4 or images.dtype.kind in "UO"):
        images = list(images)  # of images, or of paths
    several = isinstance(images, Iterable) and not isinstance(images, _KINDS)
    sources: list[Any] = [*images] if several else [images]  # type: ignore[misc]
    other = next((type(source) for source in sources if not isinstance(source, _KINDS)), None)
    if other is not None:
        raise UsageError(
            f"An image must be a path, a PIL image or a uint8 array, not {other.__name__}.",
            field="images",
            hint="Turn a tensor into an array (H, W, 3): tensor.permute(1, 2, 0).numpy().",
        )
    return sources
