"""What training reads instead of decoding again: pixels, decoded and resized, as uint8.

They are remembered, and read from the store that was written, cold or warm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import PIL
import torch

from headstart.cache import Cache
from headstart.data.augment import Augment, augmented, generator
from headstart.data.loader import in_threads, load
from headstart.data.read import Failure, Source, source_name
from headstart.errors import UsageError
from headstart.inputspec import InputSpec
from headstart.store import Rows
from headstart.training.undecodable import Undecodable

__all__ = ["Decoded", "Pixels", "Progress", "Stream", "decode_all"]

Progress = Callable[[int, int], None]
Custom = Callable[[torch.Tensor], torch.Tensor]
_BATCH = 64


class Stream(Protocol):
    """Where a training loop's batches come from.

    Attributes:
        start: The block that the batches go into; 0 takes pixels (B, H, W, 3) uint8.
    """

    start: int

    def prepare(
        self,
        view: int,
        positions: npt.NDArray[np.int64],
        progress: Progress | None = None,
    ) -> int:
        """Have a view of these images ready; return how many had to be computed for it."""
        ...

    def batches(self, view: int, order: Sequence[npt.NDArray[np.int64]]) -> Iterator[torch.Tensor]:
        """Yield one batch for each array of positions among the images."""
        ...


@dataclass(frozen=True)
class Decoded:
    """The pixels of the images that could be read.

    Attributes:
        rows: One row (H, W, 3) uint8 a readable image.
        positions: (n,) which of the given images each row belongs to.
        failed: The images that could not be decoded; ``index`` is the position given.
        computed: How many images this call decoded; copies count once.
    """

    rows: Rows
    positions: npt.NDArray[np.int64]
    failed: tuple[Failure, ...]
    computed: int


def decode_all(
    spec: InputSpec,
    sources: Sequence[Source],
    digests: Sequence[str],
    cache: Cache,
    *,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Decoded:
    """Decode and resize the images whose pixels are not remembered yet, and return all.

    Args:
        spec: Size, resize rule and decode rule.
        sources: N images.
        digests: Their N digests.
        cache: Where pixels are remembered.
        names: What to call the images where they fail; by default their paths.
        progress: Called with (done, total) images to decode.
    """
    looks = {"height", "width", "decode", "resize", "interpolation", "crop_fraction"}
    if spec.resize == "pad":
        looks |= {"mean", "channels"}  # what the border is filled with
    seen = {name: value for name, value in spec.to_dict().items() if name in looks}
    key = {"what": "pixels", "input": seen, "decoder": f"pillow {PIL.__version__}"}
    store = cache.store(key, (spec.height, spec.width, 3), "uint8")
    first: dict[str, int] = {}
    for index, image in enumerate(digests):
        first.setdefault(image, index)
    undecodable = Undecodable(cache, spec)
    failed = undecodable.among(store.missing(digests))
    missing = [image for image in store.missing(digests) if image not in failed]
    done, known = 0, len(failed)
    batches = load([sources[first[image]] for image in missing], spec, _BATCH, digests=missing)
    with closing(batches), store.writer() as writer:
        for batch in batches:
            if isinstance(batch, Failure):
                failed[missing[batch.index]] = batch.reason
                undecodable.add(missing[batch.index], batch)
            else:
                writer.add([missing[index] for index in batch.indices], batch.pixels)
                done += len(batch.indices)
            if progress is not None:
                progress(done + len(failed) - known, len(missing))
    undecodable.save()
    good = [index for index, image in enumerate(digests) if image not in failed]
    shown = names or [source_name(source) for source in sources]
    return Decoded(
        rows=store.rows([digests[index] for index in good]),
        positions=np.array(good, dtype=np.int64),
        failed=tuple(
            Failure(shown[index], failed[image], index)
            for index, image in enumerate(digests)
            if image in failed
        ),
        computed=done,
    )


class Pixels:
    """Batches of pixels, augmented on the way; what a phase that trains everything reads.

    Args:
        rows: The plain pixels (H, W, 3) of N images.
        digests: Their N digests, by which each view's chance is drawn.
        augment: What view 1 and all later ones are; view 0 is the plain image.
        seed: Of the augmentation.
        custom: A transform of (3, H, W) uint8 tensors to use instead of ``augment``; it may draw
            from torch's global generator, which is set for each image and view and then put back.
    """

    start = 0

    def __init__(
        self,
        rows: Rows,
        digests: Sequence[str],
        augment: Augment,
        seed: int,
        custom: Custom | None = None,
    ) -> None:
        self.rows = rows
        self.digests = digests
        self.augment = augment
        self.seed = seed
        self.custom = custom

    def prepare(
        self,
        view: int,  # noqa: ARG002
        positions: npt.NDArray[np.int64],  # noqa: ARG002
        progress: Progress | None = None,  # noqa: ARG002
    ) -> int:
        """Nothing is to be prepared: views are drawn while they are read."""
        return 0

    def batches(self, view: int, order: Sequence[npt.NDArray[np.int64]]) -> Iterator[torch.Tensor]:
        """Yield pixels (B, H, W, 3) uint8."""
        for batch in self.arrays(view, order):
            yield torch.from_numpy(batch)

    def arrays(
        self, view: int, order: Sequence[npt.NDArray[np.int64]]
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield pixels (B, H, W, 3) uint8; threads prepare the next batch meanwhile."""
        if self.custom is not None and view:
            for positions in order:
                yield np.stack([self._customised(int(index), view) for index in positions])
            return
        images = [int(index) for positions in order for index in positions]
        results = in_threads(
            lambda index: self._one(index, view), images, ahead=2 * max(map(len, order), default=1)
        )
        with closing(results):
            for positions in order:
                yield np.stack([next(results) for _ in positions])

    def _one(self, index: int, view: int) -> npt.NDArray[np.uint8]:
        plain = self.rows.take([index])[0]
        return augmented(plain, self.augment, self.seed, view, self.digests[index])

    def _customised(self, index: int, view: int) -> npt.NDArray[np.uint8]:
        assert self.custom is not None
        chance = int(generator(self.seed, view, self.digests[index]).integers(2**62))
        image = torch.from_numpy(self.rows.take([index])[0]).permute(2, 0, 1)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(chance)
            result = self.custom(image)
        return _checked_custom(result, image).permute(1, 2, 0).numpy()


def _checked_custom(result: Any, image: torch.Tensor) -> torch.Tensor:
    """Return what a user's transform made of an image, if it is pixels of the same shape.

    Raises:
        UsageError: It is not.
    """
    is_tensor = isinstance(result, torch.Tensor)
    if not is_tensor or result.dtype != torch.uint8 or result.shape != image.shape:
        got = f"{tuple(result.shape)} {result.dtype}" if is_tensor else type(result).__name__
        raise UsageError(
            f"The transform must turn a uint8 tensor {tuple(image.shape)} into one of the same "
            f"shape and type, and gave {got}.",
            field="augment",
            hint="Leave out ToDtype and Normalize: the network's own normalisation comes after.",
        )
    checked: torch.Tensor = result
    return checked
