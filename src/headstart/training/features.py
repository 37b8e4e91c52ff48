"""A frozen backbone's features: each image decoded once, one forward pass, remembered for good."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.data.loader import Batch, load
from headstart.data.read import Failure, Source, source_name
from headstart.data.symmetry import symmetry
from headstart.files import digest, read_json, write_json
from headstart.store import Rows, Store
from headstart.training.device import Forward, InferencePath, processor
from headstart.training.undecodable import Undecodable

__all__ = ["PARITY_LIMIT", "Features", "extract", "relative_distance"]

# Measured relative distances that cost no accuracy: 0.064 for EfficientNet-Lite0, 0.144 for
# MobileNetV2.
PARITY_LIMIT = 0.2
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read.

    Attributes:
        rows: One row of (feature_dim,) float32 a readable image.
        positions: (n,) which of the given images each row belongs to.
        failed: The images that could not be decoded; ``index`` is the position given.
        path: The path they were computed on.
        computed: How many images this call decoded and passed forward; copies count once.
        remembered: How many it found in the cache; copies count once.
        reference: Where fp32's features of some of the images are, if the path is not fp32.
    """

    rows: Rows
    positions: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    path: InferencePath
    computed: int
    remembered: int
    reference: Store | None


def relative_distance(values: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    """Return |values - reference| / |reference| over all entries (L2 norms)."""
    return float(np.linalg.norm(values - reference) / max(float(np.linalg.norm(reference)), 1e-12))


def extract(
    backbone: Backbone,
    sources: Sequence[Source],
    digests: Sequence[str],
    cache: Cache,
    path: InferencePath,
    *,
    names: Sequence[str] | None = None,
    pixels: Rows | None = None,
    symmetry: int = 0,
    decide: bool = False,
    progress: Progress | None = None,
) -> Features:
    """Compute the features that the cache lacks, and return all of them.

    Args:
        backbone: The frozen network.
        sources: N images; of those to compute, the first batch goes through fp32 as well.
            Not looked at where ``pixels`` are given.
        digests: Their N digests.
        cache: Where features are remembered.
        path: How to compute.
        names: What to call the images where they fail; by default their paths.
        pixels: The images' pixels (H, W, 3), decoded and resized, instead of ``sources``.
        symmetry: Which mirror image of the pixels is meant, as ``data.symmetry.symmetry`` counts.
        decide: Whether to prefer the path that was chosen before for this network on this machine
            and, if none was, to fall back to fp32 where bf16 strays more than ``PARITY_LIMIT``.
        progress: Called with (done, total) images to compute.
    """
    job = _Job(backbone, cache, path, decide, symmetry)
    failed = job.run(sources, digests, pixels, progress)
    computed = job.computed
    if job.strays:
        job = _Job(backbone, cache, job.path, decide=False, number=symmetry)
        failed = job.run(sources, digests, pixels, progress)
        computed += job.computed
    good = [index for index, image in enumerate(digests) if image not in failed]
    shown = names or ([] if pixels is not None else [source_name(source) for source in sources])
    return Features(
        rows=job.store.rows([digests[index] for index in good]),
        positions=np.array(good, dtype=np.int64),
        failed=tuple(
            Failure(shown[index], failed[image], index)
            for index, image in enumerate(digests)
            if image in failed
        ),
        path=job.path,
        computed=computed,
        remembered=len(set(digests)) - computed - len(failed),
        reference=job.reference,
    )


def _remembered(
    pixels: Rows, wanted: Sequence[int], batch_size: int
) -> Generator[Batch | Failure, None, None]:
    """Yield batches of pixels that are remembered, as ``load`` does of files."""
    for start in range(0, len(wanted), batch_size):
        some = wanted[start : start + batch_size]
        yield Batch(np.arange(start, start + len(some)), pixels.take(some))


class _Job:
    """One pass over the images a store lacks, on one path."""

    def __init__(
        self,
        backbone: Backbone,
        cache: Cache,
        path: InferencePath,
        decide: bool,
        number: int = 0,
    ) -> None:
        self.backbone = backbone
        self.symmetry = number
        self.cache = cache
        self.weights = backbone.digest()
        self.path = self._recall(path) if decide else path
        self.strays = False
        self.computed = 0
        self.store = self._open(self.path)
        exact = self.path.in_fp32()
        self.reference = None if exact.key() == self.path.key() else self._open(exact)
        self.decide = decide and self.reference is not None and self.path.parity is None

    def _open(self, path: InferencePath) -> Store:
        key = {
            "what": "features",
            "backbone": self.backbone.full_name,
            "weights": self.weights,
            "input": self.backbone.input_spec.to_dict(),
            "cut": len(self.backbone.blocks),
            "view": f"symmetry {self.symmetry}" if self.symmetry else "plain",
            "path": path.key(),
            "decoder": f"pillow {PIL.__version__}",
        }
        return self.cache.store(key, (self.backbone.feature_dim,), "float32")

    def run(
        self,
        sources: Sequence[Source],
        digests: Sequence[str],
        pixels: Rows | None,
        progress: Progress | None,
    ) -> dict[str, str]:
        """Decode, pass forward and store what is missing; stop where the first batch strays.

        Returns:
            The reason by digest of each image that could not be decoded.
        """
        first: dict[str, int] = {}
        for index, image in enumerate(digests):
            first.setdefault(image, index)
        undecodable = Undecodable(self.cache, self.backbone.input_spec)
        failed = undecodable.among(self.store.missing(digests))
        missing = [image for image in self.store.missing(digests) if image not in failed]
        if self.decide and not missing:  # computed when bf16 was asked for, and never judged
            missing = [image for image in first if image not in failed][: self.path.batch_size]
        if not missing:
            return failed
        known = len(failed)
        forward = Forward(self.backbone, self.path)
        wanted = [first[image] for image in missing]
        batches = (
            load(
                [sources[index] for index in wanted],
                self.backbone.input_spec,
                self.path.batch_size,
                digests=missing,
            )
            if pixels is None
            else _remembered(pixels, wanted, self.path.batch_size)
        )
        with closing(batches), self.store.writer() as writer:
            for batch in batches:
                if isinstance(batch, Failure):
                    failed[missing[batch.index]] = batch.reason
                    undecodable.add(missing[batch.index], batch)
                else:
                    images = [missing[index] for index in batch.indices]
                    values = forward(symmetry(batch.pixels, self.symmetry))
                    if self.reference is not None and not self.computed:
                        self._compare(images, batch.pixels, values)
                    self.computed += len(images)
                    if self.strays:
                        break  # their features in fp32 are kept
                    writer.add(images, values)
                if progress is not None:
                    progress(self.computed + len(failed) - known, len(missing))
        undecodable.save()
        return failed

    def _compare(
        self, images: list[str], pixels: npt.NDArray[np.uint8], values: npt.NDArray[Any]
    ) -> None:
        """Compute and keep fp32's features of one batch, and judge the path by them."""
        assert self.reference is not None
        exact = Forward(self.backbone, self.path.in_fp32())(symmetry(pixels, self.symmetry))
        unknown = set(self.reference.missing(images))
        new = [row for row, image in enumerate(images) if image in unknown]
        with self.reference.writer() as writer:
            writer.add([images[row] for row in new], exact[new])
        if not self.decide:
            return
        distance = relative_distance(values, exact)
        near = f"{distance:.3f} of fp32's on {len(images)} images (limit {PARITY_LIMIT})"
        if distance <= PARITY_LIMIT:
            reason = f"{self.path.reason}; features within {near}"
            self.path = replace(self.path, parity=distance, reason=reason)
        else:
            self.strays = True
            reason = f"bf16 features are not within {near}"
            self.path = replace(self.path, precision="fp32", parity=distance, reason=reason)
        choice = {"precision": self.path.precision, "parity": distance, "reason": reason}
        write_json(self.cache.paths, self._choices() | {self._choice_key(): choice})

    def _recall(self, path: InferencePath) -> InferencePath:
        """Return the path chosen earlier for this network on this machine, or ``path``."""
        self.path = path
        if path.precision == "fp32":  # a choice only ever leaves bf16 for fp32
            return path
        return replace(path, **self._choices().get(self._choice_key(), {}))

    def _choices(self) -> dict[str, dict[str, Any]]:
        return read_json(self.cache.paths) if self.cache.paths.exists() else {}

    def _choice_key(self) -> str:
        return digest(self.weights, processor(self.path.device), torch.__version__)[:32]
