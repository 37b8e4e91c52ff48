"""Images decoded and resized by threads, ahead of whoever uses them.

Threads and not processes: Pillow works outside Python's lock, nothing is pickled, and there is
nothing to start. Never more than a batch and two images a thread wait, so memory stays bounded.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from headstart.data.read import Failure, Source, decode, source_name
from headstart.data.transforms import least_side, resize
from headstart.errors import BadImage, UsageError
from headstart.inputspec import InputSpec

__all__ = ["Batch", "default_workers", "in_threads", "load"]

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one size.

    Attributes:
        indices: (B,) positions in the sequence that was loaded, ascending.
        pixels: (B, H, W, 3) uint8, RGB.
    """

    indices: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint8]


def load(
    sources: Sequence[Source],
    spec: InputSpec,
    batch_size: int,
    *,
    digests: Sequence[str] | None = None,
    workers: int | None = None,
) -> Generator[Batch | Failure, None, None]:
    """Decode and resize images, in order, in batches.

    An image that can't be read is yielded as a Failure, ahead of the batch it would have been
    in, and the next readable one takes its place: every batch but the last is full.

    Args:
        sources: Paths, PIL images or uint8 arrays.
        spec: The size, the resize rule and the decode rule.
        batch_size: Images in a batch.
        digests: Those of the sources: a file that has become another since is a Failure, so that
            its pixels are never taken for those of the one that was checked.
        workers: Threads; by default one a core, at most 8.

    Raises:
        UsageError: A batch size or number of workers below 1, or an array of another type than
            uint8.
    """
    if batch_size < 1:
        raise UsageError(
            f"The batch size must be at least 1, not {batch_size}.",
            field="batch_size",
            hint="32 is usual; less where memory is short.",
        )
    at_least = least_side(spec)

    def read(index: int) -> tuple[int, Pixels] | Failure:
        source = sources[index]
        expected = None if digests is None else digests[index]
        try:
            return index, resize(decode(source, at_least=at_least, expected=expected), spec)
        except BadImage as error:
            return Failure(source_name(source), error.reason, index, error.lasting)

    results = in_threads(read, range(len(sources)), workers, ahead=batch_size)
    return _batches(results, batch_size)


def default_workers() -> int:
    """Return one thread a core, at most 8."""
    return min(os.cpu_count() or 1, 8)


def in_threads(
    work: Callable[[T], R], things: Sequence[T], workers: int | None = None, *, ahead: int = 0
) -> Generator[R, None, None]:
    """Yield ``work(thing)`` for each thing, in order, computed by threads.

    The threads end with the iterator: when it is exhausted, closed or no longer referred to.

    Args:
        work: Called in the threads; what it raises is raised by the iterator.
        things: What it is called with.
        workers: Number of threads; by default :func:`default_workers`.
        ahead: Results that may wait, besides two a thread.

    Raises:
        UsageError: Less than one worker.
    """
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise UsageError(
            f"There must be at least 1 worker, not {workers}.",
            field="workers",
            hint="One for each core of the processor is usual.",
        )
    return _results(work, things, workers, ahead + 2 * workers)


def _results(
    work: Callable[[T], R], things: Sequence[T], workers: int, ahead: int
) -> Generator[R, None, None]:
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-read")
    try:
        for thing in things:
            pending.append(pool.submit(work, thing))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    results: Generator[tuple[int, Pixels] | Failure, None, None], batch_size: int
) -> Generator[Batch | Failure, None, None]:
    rows: list[tuple[int, Pixels]] = []
    with closing(results):
        for result in results:
            if isinstance(result, Failure):
                yield result
                continue
            rows.append(result)
            if len(rows) == batch_size:
                yield _batch(rows)
                rows = []
    if rows:
        yield _batch(rows)


def _batch(rows: Sequence[tuple[int, Pixels]]) -> Batch:
    indices, pixels = zip(*rows, strict=True)
    return Batch(np.array(indices), np.stack(pixels))
