"""What a frozen prefix gives, remembered for each image and each augmented view.

An epoch behind it costs only the blocks that are trained. Values are read from the store that was
written, cold or warm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.store import Rows, Store
from headstart.training.device import Forward, InferencePath
from headstart.training.pixels import Pixels, Progress

__all__ = ["Boundary", "boundary_shape"]


@dataclass(frozen=True)
class _View:
    """The rows of some images, and (N,) which of them is an image's; -1 for the others."""

    rows: Rows
    row_of: npt.NDArray[np.int64]


class Boundary:
    """Batches of what the first ``start`` blocks give, remembered for each view.

    Args:
        backbone: Its first ``start`` blocks are frozen.
        start: How many.
        pixels: The images.
        cache: Where the values are remembered.
        path: How to compute them.
    """

    def __init__(
        self, backbone: Backbone, start: int, pixels: Pixels, cache: Cache, path: InferencePath
    ) -> None:
        self.backbone = backbone
        self.start = start
        self.pixels = pixels
        self.cache = cache
        self.path = path
        self.shape = boundary_shape(backbone, start, path)
        self._weights = backbone.digest(start)
        self._views: dict[int, _View] = {}

    def _store(self, view: int) -> Store:
        augment = {**self.pixels.augment.key(), "seed": self.pixels.seed, "view": view}
        key = {
            "what": "boundary",
            "backbone": self.backbone.full_name,
            "weights": self._weights,
            "input": self.backbone.input_spec.to_dict(),
            "cut": self.start,
            "view": augment if view else "plain",
            "path": self.path.key(),
            "decoder": f"pillow {PIL.__version__}",
        }
        return self.cache.store(key, self.shape, _stored(self.path))

    def prepare(
        self,
        view: int,
        positions: npt.NDArray[np.int64],
        progress: Progress | None = None,
    ) -> int:
        """Compute what is not remembered of a view of these images; return how many that were."""
        if (known := self._views.get(view)) is not None:
            if (known.row_of[positions] >= 0).all():
                return 0
            positions = np.union1d(np.flatnonzero(known.row_of >= 0), positions)
        digests = [self.pixels.digests[index] for index in positions]
        store = self._store(view)
        place = dict(zip(digests, positions.tolist(), strict=True))
        missing = store.missing(digests)
        if missing:
            self._compute(view, store, [place[image] for image in missing], progress)
        row_of = np.full(len(self.pixels.digests), -1)
        row_of[positions] = np.arange(len(positions))
        self._views[view] = _View(store.rows(digests), row_of)
        return len(missing)

    def _compute(
        self, view: int, store: Store, indices: Sequence[int], progress: Progress | None
    ) -> None:
        size = self.path.batch_size
        order = [np.array(indices[at : at + size]) for at in range(0, len(indices), size)]
        forward = Forward(self.backbone, self.path, end=self.start)
        done = 0
        with store.writer() as writer:
            batches = self.pixels.arrays(view, order)
            for positions, pixels in zip(order, batches, strict=True):
                values = forward.run(torch.from_numpy(pixels))
                images = [self.pixels.digests[index] for index in positions]
                writer.add(images, _encode(values, self.path))
                done += len(images)
                if progress is not None:
                    progress(done, len(indices))

    def batches(self, view: int, order: Sequence[npt.NDArray[np.int64]]) -> Iterator[torch.Tensor]:
        """Yield values (B, ...) as the block ``start`` takes them."""
        known = self._views[view]
        for positions in order:
            yield _decode(known.rows.take(known.row_of[positions]), self.path)


def boundary_shape(backbone: Backbone, start: int, path: InferencePath) -> tuple[int, ...]:
    """Return the shape in which one image's values before block ``start`` are stored."""
    spec = backbone.input_spec
    forward = Forward(backbone, path, end=start)
    pixels = torch.zeros((1, spec.height, spec.width, 3), dtype=torch.uint8)
    return tuple(_encode(forward.run(pixels, pad=False), path).shape[1:])


def _stored(path: InferencePath) -> str:
    return "uint16" if path.precision == "bf16" else "float32"


def _encode(values: torch.Tensor, path: InferencePath) -> npt.NDArray[Any]:
    """Turn a batch into rows as they are stored: bf16 by its bits, which numpy has no name for."""
    if values.ndim == 4:  # channels last, so that a batch of rows is channels-last too
        values = values.permute(0, 2, 3, 1)
    if path.precision == "bf16":
        return values.to(torch.bfloat16).contiguous().view(torch.uint16).numpy()
    return values.float().contiguous().numpy()


def _decode(rows: npt.NDArray[Any], path: InferencePath) -> torch.Tensor:
    values = torch.from_numpy(rows)
    if path.precision == "bf16":
        values = values.view(torch.bfloat16)
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
