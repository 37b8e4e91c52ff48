"""Backbones in the order of what their frozen features are worth on these images.

Two examiners, a logistic regression and the nearest neighbours, each rank the backbones, and the
mean of the two ranks decides. In over 42,000 experiments plain neighbours foretold the result of
transfer learning better than 23 scores that were made for it, LogME and LEEP among them (Sorkhei et
al., "k-NN as a Simple and Effective Estimator of Transferability", 2025, arXiv:2503.18528). Where
such examiners err, accuracy on ImageNet is often right, and the other way round, so that the best
of both stay in the final (Renggli et al., "Which Model to Transfer?", CVPR 2022, the hybrid).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.candidates import Candidate
from headstart.embedding import create_backbone
from headstart.errors import HeadstartError
from headstart.plan import Plan
from headstart.probe_sample import Sample
from headstart.probe_score import ProbeScore, score
from headstart.probing import Progress, features_of

__all__ = ["Ranked", "finalists", "rank"]

Clock = Callable[[], float]

_CHUNK = 4  # batches between two looks at the clock
_WARM_UP = 1  # batches: the first makes the network's plans and buffers


@dataclass(frozen=True, eq=False)
class Ranked:
    """A candidate and its place.

    Attributes:
        candidate: The backbone.
        score: What probes make of its features; None where it was skipped.
        place: 1 is the best; None where it was skipped.
        probe_rank: Its place by the logistic regression's log loss; equals share the mean place.
        knn_rank: Its place by the nearest neighbours' accuracy, likewise.
        skipped: Why it was not scored, a sentence; None where it was.
    """

    candidate: Candidate
    score: ProbeScore | None = None
    place: int | None = None
    probe_rank: float | None = None
    knn_rank: float | None = None
    skipped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            **self.candidate.to_dict(),
            "score": None if self.score is None else self.score.to_dict(),
            "place": self.place,
            "probe_rank": self.probe_rank,
            "knn_rank": self.knn_rank,
            "skipped": self.skipped,
        }


def rank(
    plan: Plan,
    sample: Sample,
    candidates: Sequence[Candidate],
    cache: Cache,
    *,
    seconds: float,
    resize: str | None = None,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> tuple[Ranked, ...]:
    """Rank backbones by cross-validated probes on a sample, within a limit of time.

    The plan's own network is tried first, then the others in the order given. What the first
    batches take is held against the seconds that are left, and a network that would need more is
    skipped; its features so far stay remembered. A network that can't be used is skipped as well.

    Args:
        plan: Whose path and options it is; the weights and the size that these ask for are of its
            own network, and are not used for others.
        sample: The images to score on.
        candidates: What to choose among.
        cache: Where features are remembered.
        seconds: How long it may take.
        resize: The resize rule for all of them; by default what the options ask for, or else each
            network's own.
        progress: Told of each chunk of images, under the candidate's name.
        clock: Tells the seconds.

    Returns:
        All candidates: those that were scored, the best first, then those that were skipped.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    end = clock() + seconds
    own = [each for each in candidates if each.name == plan.backbone.full_name]
    tried = [
        _try(plan, sample, each, cache, resize, _Watch(end, clock), progress)
        for each in (*own, *(each for each in candidates if each not in own))
    ]
    return _placed(tried)


def finalists(ranked: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """Return the two to decide between: the first, and the best of all on ImageNet.

    Where these are one, the second comes after it; where only one was scored, there is only one.

    Args:
        ranked: What ``rank`` returned.
    """
    scored = [each for each in ranked if each.place is not None]
    if len(scored) < 2:
        return tuple(scored)
    best = max(scored, key=lambda each: each.candidate.top1 or 0.0)
    known = best.candidate.top1 is not None and best is not scored[0]
    return (scored[0], best if known else scored[1])


class _Watch:
    """Tells after each chunk whether the rest still fits the time."""

    def __init__(self, end: float, clock: Clock) -> None:
        self.end, self.clock = end, clock
        self.started = clock()
        self.computed = 0
        self.seconds = 0.0

    def time(self, computed: int, since: float, *, counts: bool) -> None:
        """Note how many images were computed since a moment."""
        if counts:
            self.computed += computed
            self.seconds += self.clock() - since

    def refuses(self, left: int) -> str | None:
        """Say why so many more images do not fit, or return None where they may."""
        room = self.end - self.clock()
        needed = self.seconds / self.computed * left if self.computed else 0.0
        if not left or (room > 0 and needed <= room):
            return None
        if not self.computed:
            return "no time was left"
        return f"it needs about {needed:.0f} s more, and {max(room, 0):.0f} s are left"


def _try(
    plan: Plan,
    sample: Sample,
    candidate: Candidate,
    cache: Cache,
    resize: str | None,
    watch: _Watch,
    progress: Progress | None,
) -> Ranked:
    if (refusal := watch.refuses(len(sample))) is not None:
        return Ranked(candidate, skipped=refusal)
    try:
        backbone = _network(plan, candidate, resize)
    except HeadstartError as error:
        return Ranked(candidate, skipped=f"it can't be used: {error}")
    found = _features(plan, sample, backbone, cache, watch, candidate.name, progress)
    if isinstance(found, str):
        return Ranked(candidate, skipped=found)
    features, rows = found
    return Ranked(candidate, score(features, sample.labels[rows], sample.groups[rows], images=rows))


def _network(plan: Plan, candidate: Candidate, resize: str | None) -> Backbone:
    if candidate.name == plan.backbone.full_name:
        spec = plan.backbone.input_spec
        return replace(
            plan.backbone, input_spec=spec if resize is None else spec.with_resize(resize)
        )
    options = replace(
        plan.options,
        backbone=candidate.name,
        weights=None,
        allow_partial=False,
        mean=None,
        std=None,
        size=None,
        resize=resize or plan.options.resize,
    )
    return create_backbone(options)


def _features(
    plan: Plan,
    sample: Sample,
    backbone: Backbone,
    cache: Cache,
    watch: _Watch,
    name: str,
    progress: Progress | None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | str:
    """Return features and the rows of the sample that they are of, or why there was no time."""
    features, positions = [], []
    for number, rows in enumerate(_chunks(len(sample), plan.path.batch_size)):
        since = watch.clock()
        found = features_of(plan, sample.take(rows), backbone, cache)
        watch.time(found.computed, since, counts=found.computed > 0 and number >= _WARM_UP)
        features.append(found.rows.all())
        positions.append(rows[found.positions])
        done = int(rows[-1]) + 1
        if progress is not None:
            progress(name, done, len(sample))
        if (refusal := watch.refuses(len(sample) - done)) is not None:
            return refusal
    return np.concatenate(features), np.concatenate(positions)


def _chunks(n: int, batch_size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield positions: a batch to warm up, a batch to time, then several at once."""
    start = 0
    while start < n:
        size = batch_size if start < 2 * batch_size else _CHUNK * batch_size
        yield np.arange(start, min(start + size, n))
        start += size


def _placed(tried: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """Order what was scored by the mean of the two ranks, equals by log loss."""
    scored = [(each, each.score) for each in tried if each.score is not None]
    by_probe = _ranks([score.log_loss for _, score in scored])
    by_knn = _ranks([-score.knn_accuracy for _, score in scored])
    order = sorted(
        range(len(scored)),
        key=lambda i: (by_probe[i] + by_knn[i], scored[i][1].log_loss, scored[i][0].candidate.name),
    )
    placed = [
        replace(scored[i][0], place=place, probe_rank=by_probe[i], knn_rank=by_knn[i])
        for place, i in enumerate(order, start=1)
    ]
    return (*placed, *(each for each in tried if each.score is None))


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value, the least first from 1; equals share the mean rank."""
    below = [sum(other < value for other in values) for value in values]
    equal = [sum(other == value for other in values) for value in values]
    return [b + (e + 1) / 2 for b, e in zip(below, equal, strict=True)]
