"""Which mirror images of the pictures mean the same, as far as a probe can tell.

Two questions are asked of each view. Is it recognised: by a probe that has learnt from plain images
alone, as well as plain images are? And is it harmless: if a probe learns from the view too, under
the same labels, does it tell plain images as well as before? A mirror image that means something
else (b and d, 6 and 9) is neither, as its label is wrong. One that means the same and merely looks
unlike all others, as a street that hangs from the sky, is not recognised and harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.plan import Plan
from headstart.probe_difference import Difference, compare
from headstart.probe_sample import Sample
from headstart.probe_score import Dealt, ProbeScore
from headstart.probe_views import Probes, score_together
from headstart.probing import Progress, named
from headstart.strategy.decision import percent, points
from headstart.training.features import extract
from headstart.training.pixels import decode_all

__all__ = ["LEAST", "VIEWS", "Symmetries", "View", "symmetries"]

VIEWS: Mapping[str, int] = {"flip": 1, "upside-down": 5, "half turn": 4, "quarter turn": 2}
"""The views that are looked at, and their numbers as ``data.symmetry.symmetry`` counts.

``flip`` is the horizontal mirror image, ``upside-down`` the vertical one; with the turns they give
all eight symmetries of the square.
"""

LEAST = 50
"""On fewer images a probe misses much: only the mirror image is tried, which most pictures bear."""

_SURE = 2.0  # standard errors: a view is taken for the same until it is shown not to be
_MOST_LOST = 0.3  # of what is recognised of a class; of two that are swapped half is lost
_CERTAIN = 3.0  # standard deviations, as there may be a hundred classes


@dataclass(frozen=True, eq=False)
class View:
    """What is known of one mirror image or turn.

    Attributes:
        seen: The score of images in this view, by probes of the plain images.
        learnt: The score of plain images, by probes that learnt from both.
        seen_change: ``seen`` less the plain score.
        learnt_change: ``learnt`` less the plain score.
        recognised: Whether ``seen`` is not worse than plain, on the whole and in each class.
        harmless: Whether ``learnt`` is not worse than plain, on the whole and in each class.
    """

    seen: ProbeScore
    learnt: ProbeScore
    seen_change: Difference
    learnt_change: Difference
    recognised: bool
    harmless: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "seen": self.seen.to_dict(),
            "learnt": self.learnt.to_dict(),
            "seen_change": self.seen_change.to_dict(),
            "learnt_change": self.learnt_change.to_dict(),
            "recognised": self.recognised,
            "harmless": self.harmless,
        }


@dataclass(frozen=True, eq=False)
class Symmetries:
    """Which symmetries keep the classes.

    Attributes:
        name: The most of ``none``, ``flip`` and ``square``, as ``data.symmetry.symmetries`` knows
            them, whose views are recognised and harmless.
        harmless: The most of them whose views are harmless, recognised or not.
        plain: The score of the plain images.
        views: What is known of each view that was looked at, by its name in ``VIEWS``.
        reason: Why it is so, in a sentence with its numbers.
    """

    name: str
    harmless: str
    plain: ProbeScore
    views: Mapping[str, View]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "name": self.name,
            "harmless": self.harmless,
            "plain": self.plain.to_dict(),
            "views": {name: view.to_dict() for name, view in self.views.items()},
            "reason": self.reason,
        }


def symmetries(
    plan: Plan,
    sample: Sample,
    backbone: Backbone,
    cache: Cache,
    *,
    progress: Progress | None = None,
) -> Symmetries:
    """Tell which symmetries keep the classes, by a network's features of a sample.

    The horizontal mirror image is looked at first, and the others one by one while all before them
    are harmless, the input is square and 50 images or more are judged; each costs one forward pass
    of the sample.

    Args:
        plan: Whose path it is.
        sample: The images; those that can't be decoded are left out.
        backbone: The network.
        cache: Where pixels and features are remembered.
        progress: Told of each batch.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    seen = _Seen(plan, sample, backbone, cache, progress)
    plain = seen.probes.score(seen.plain)
    if (reason := _no_witness(plain, seen.labels)) is not None:
        return Symmetries("none", "none", plain, {}, reason)
    spec = backbone.input_spec
    views: dict[str, View] = {}
    for name in VIEWS if spec.height == spec.width and plain.n >= LEAST else ("flip",):
        views[name] = _view(seen, name, plain)
        if not views[name].harmless:
            break
    return Symmetries(
        name=_most(view.recognised and view.harmless for view in views.values()),
        harmless=_most(view.harmless for view in views.values()),
        plain=plain,
        views=views,
        reason=_reason(plain, views),
    )


class _Seen:
    """The sample's pixels, and its features in each view."""

    def __init__(
        self,
        plan: Plan,
        sample: Sample,
        backbone: Backbone,
        cache: Cache,
        progress: Progress | None,
    ) -> None:
        self.sample, self.backbone, self.cache, self.progress = sample, backbone, cache, progress
        decoded = decode_all(
            backbone.input_spec,
            sample.paths,
            sample.digests,
            cache,
            names=sample.names,
            progress=named(progress, "symmetry: decoding"),
        )
        self.pixels, self.images = decoded.rows, decoded.positions
        self.digests = [sample.digests[row] for row in self.images]
        self.labels = sample.labels[self.images]
        self.path = plan.path
        self.plain = self.features("plain", 0, decide=plan.options.precision == "auto")
        self.dealt = Dealt.of(self.labels, sample.groups[self.images], images=self.images)
        self.probes = Probes(self.plain, self.dealt)

    def features(self, name: str, number: int, *, decide: bool = False) -> npt.NDArray[np.float32]:
        """Return the features (n, D) of a view; all views go the path that the plain one took."""
        found = extract(
            self.backbone,
            [],
            self.digests,
            self.cache,
            self.path,
            pixels=self.pixels,
            symmetry=number,
            decide=decide,
            progress=named(self.progress, f"symmetry: {name}"),
        )
        self.path = found.path
        return found.rows.all()


def _no_witness(plain: ProbeScore, labels: npt.NDArray[np.int64]) -> str | None:
    """Say why the probe can't tell, or return None where it can."""
    guessed = float(np.bincount(labels).max()) / len(labels)
    if plain.accuracy > guessed + _SURE * plain.accuracy_noise:
        return None
    return (
        f"the probe is right about {plain.accuracy:.3f} of {plain.n} plain images, and who always "
        f"names the most frequent class about {guessed:.3f}: it can't tell"
    )


def _view(seen: _Seen, name: str, plain: ProbeScore) -> View:
    features = seen.features(name, VIEWS[name])
    labels = seen.sample.labels[plain.images]
    turned = seen.probes.score(features)
    learnt = score_together(seen.plain, features, seen.dealt)
    seen_change, learnt_change = compare(turned, plain), compare(learnt, plain)
    return View(
        seen=turned,
        learnt=learnt,
        seen_change=seen_change,
        learnt_change=learnt_change,
        recognised=not (seen_change.worse(_SURE) or _loses_a_class(plain, turned, labels)),
        harmless=not (learnt_change.worse(_SURE) or _loses_a_class(plain, learnt, labels)),
    )


def _loses_a_class(plain: ProbeScore, other: ProbeScore, labels: npt.NDArray[np.int64]) -> bool:
    """Tell whether a class loses much of what was recognised of it, and that is no chance.

    A view that swaps two classes of a hundred changes little on the whole, and much for these.

    Args:
        plain: The score of the plain images.
        other: Another score of the same images.
        labels: (n,) the classes of these images.
    """
    for label in np.unique(labels):
        before, after = plain.right[labels == label], other.right[labels == label]
        gone, come = int((before & ~after).sum()), int((after & ~before).sum())
        # McNemar's test: of images that change sides as many would come as go.
        certain = gone - come > _CERTAIN * np.sqrt(gone + come)
        if certain and gone - come >= _MOST_LOST * int(before.sum()):
            return True
    return False


def _most(holds: Iterable[bool]) -> str:
    """Name the most symmetries of which every view holds, in the order of ``VIEWS``."""
    held = list(takewhile(bool, holds))
    return "square" if len(held) == len(VIEWS) else "flip" if held else "none"


def _reason(plain: ProbeScore, views: Mapping[str, View]) -> str:
    told = [
        f"{name} {percent(view.seen.accuracy)} ({_change(view)})" for name, view in views.items()
    ]
    return (
        f"of {plain.n} training images a probe has {percent(plain.accuracy)} right, and of their "
        f"mirror images and turns, which it never saw: {'; '.join(told)}"
    )


def _change(view: View) -> str:
    seen = view.seen_change
    return f"{points(seen.accuracy)}, noise {points(seen.accuracy_noise, sign=False)}"
