"""Small image files on disk, their cache, and streams of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tiny import SPEC, pixels

from headstart.cache import Cache
from headstart.data.augment import Augment
from headstart.data.read import source_digest
from headstart.training.pixels import Decoded, Pixels, decode_all

LIGHT = Augment("light", "flip")
N = 11


def write_files(folder: Path) -> list[Path]:
    """Write N pictures of 16 x 16 pixels."""
    paths = [folder / f"{number}.png" for number in range(N)]
    for number, path in enumerate(paths):
        Image.fromarray(np.kron(pixels(1, number)[0], np.ones((2, 2, 1), np.uint8))).save(path)
    return paths


def decoded(files: Sequence[Path], cache: Cache, **options) -> Decoded:
    return decode_all(SPEC, files, [source_digest(file) for file in files], cache, **options)


def stream_of(files, cache, augment=LIGHT, seed=3, custom=None) -> Pixels:
    digests = [source_digest(file) for file in files]
    return Pixels(decoded(files, cache).rows, digests, augment, seed, custom)
