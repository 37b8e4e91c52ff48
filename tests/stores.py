"""Stores of a cache with rows that are known, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from headstart.cache import Cache
from headstart.store import Store

SHAPE = (3, 2)
KEY = {"weights": "a1", "path": {"precision": "fp32", "batch_size": 4}}
ROW_BYTES = 24


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def names(numbers: Iterable[int]) -> list[str]:
    return [name(number) for number in numbers]


def values(numbers: Sequence[int]) -> np.ndarray:
    """Make the rows of these images; every bit pattern occurs, NaN with a payload among them."""
    rows = [np.random.default_rng(n).integers(0, 2**32, SHAPE, dtype=np.uint32) for n in numbers]
    return np.array(rows, dtype=np.uint32).reshape(-1, *SHAPE).view(np.float32)


def bits(rows: np.ndarray) -> list[list]:
    return rows.view(np.uint32).tolist()


def open_store(folder: Path, **key: object) -> Store:
    return Cache(folder).store(KEY | key, SHAPE, "float32")


def fill(store: Store, numbers: Sequence[int]) -> Store:
    with store.writer() as writer:
        writer.add(names(numbers), values(numbers))
    return store


def files_of(store: Store) -> list[str]:
    """List the endings of the files of a store, its key aside."""
    return sorted(p.suffix for p in store.folder.iterdir() if p.name != "key.json")
