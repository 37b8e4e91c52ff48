"""The facts of a plan that probes measure on a sample: the resize rule, the size, ImageNet's help.

Each is a question of which of several features a probe prefers, asked of training images only.
What was computed for an answer is remembered like all features, so that a fit which then takes the
same network and the same rule starts with part of its work done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.embedding import create_backbone
from headstart.errors import HeadstartError
from headstart.inputspec import InputSpec, Resize
from headstart.options import Options
from headstart.plan import Plan
from headstart.probe_sample import Sample
from headstart.probe_score import ProbeScore, score
from headstart.training.features import Features, extract

__all__ = [
    "Probed",
    "Progress",
    "features_of",
    "larger_size",
    "probe",
    "random_weights",
    "resize_rules",
    "sizes",
]

Progress = Callable[[str, int, int], None]
"""Called with what is being measured, and with (done, total) images of it."""

_LARGER = 1.3  # of the side: 1.7 times the time
_STEP = 32  # pixels that a side is a multiple of: what networks halve five times


@dataclass(frozen=True)
class Probed:
    """The scores of several ways to do one thing.

    Attributes:
        scores: The score of each way by its name; the plan's own way first.
        skipped: Why another way was not scored, by its name: a sentence.
    """

    scores: Mapping[str, ProbeScore]
    skipped: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        scores = {name: score.to_dict() for name, score in self.scores.items()}
        return {"scores": scores, "skipped": dict(self.skipped)}


def features_of(
    plan: Plan,
    sample: Sample,
    backbone: Backbone,
    cache: Cache,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Compute, or remember, a sample's features by a network, on the plan's path.

    Args:
        plan: Whose path it is.
        sample: N images; those that can't be decoded are left out.
        backbone: The network.
        cache: Where features are remembered.
        progress: Called with (done, total) images to compute.
    """
    return extract(
        backbone,
        sample.paths,
        sample.digests,
        cache,
        plan.path,
        names=sample.names,
        decide=plan.options.precision == "auto",
        progress=progress,
    )


def probe(
    plan: Plan,
    sample: Sample,
    backbone: Backbone,
    cache: Cache,
    *,
    what: str = "probe",
    progress: Progress | None = None,
) -> ProbeScore:
    """Score a network's features of a sample.

    Args:
        plan: Whose path it is.
        sample: The images; those that can't be decoded are left out.
        backbone: The network.
        cache: Where features are remembered.
        what: What to tell ``progress``.
        progress: Told of each batch.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    found = features_of(plan, sample, backbone, cache, named(progress, what))
    rows = found.positions
    return score(found.rows.all(), sample.labels[rows], sample.groups[rows], images=rows)


def named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """Return what tells ``progress`` of images, under the name of what is being measured."""
    if progress is None:
        return None
    return lambda done, total: progress(what, done, total)


def resize_rules(
    plan: Plan, sample: Sample, cache: Cache, *, progress: Progress | None = None
) -> Probed:
    """Score the plan's network with each resize rule, its own first.

    A rule that gives the same pixels for every image of the sample as an earlier one is skipped.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    backbone = plan.backbone
    own = backbone.input_spec.resize
    rules = [own, *(rule for rule in get_args(Resize) if rule != own)]
    same = dict(_same_pixels(backbone.input_spec, _shapes(plan, sample), rules))
    scores = {
        rule: probe(
            plan,
            sample,
            replace(backbone, input_spec=backbone.input_spec.with_resize(rule)),
            cache,
            what=f"resize {rule}",
            progress=progress,
        )
        for rule in rules
        if rule not in same
    }
    return Probed(scores, same)


def _shapes(plan: Plan, sample: Sample) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the upright width and height (n, 2) of the sample's images, in pixels."""
    facts, rows = plan.checked.facts, sample.indices
    stored = np.stack([facts.width[rows], facts.height[rows]], axis=1).astype(np.int64)
    turned = facts.turned[rows]
    stored[turned] = stored[turned, ::-1]
    return stored


def _same_pixels(
    spec: InputSpec, shapes: np.ndarray[Any, np.dtype[np.int64]], rules: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield each rule that gives an earlier one's pixels, and why, for images of these shapes."""
    if not (shapes[:, 0] * spec.height == shapes[:, 1] * spec.width).all():
        return  # where images have another shape than the input, each rule is of its own
    alike = ["squash", "pad"]  # nothing is squashed, and there is nothing to fill
    if spec.crop_fraction == 1:
        alike.append("crop")
    first, *others = (rule for rule in rules if rule in alike)
    for rule in others:
        yield rule, f"gives the same pixels as {first}: all images have the input's shape"


def larger_size(spec: InputSpec, factor: float = _LARGER) -> int:
    """Return the side in pixels of a larger input: a multiple of 32, larger by 32 at least."""
    side = max(spec.height, spec.width)
    return max(round(side * factor / _STEP) * _STEP, (side // _STEP + 1) * _STEP)


def sizes(
    plan: Plan,
    sample: Sample,
    cache: Cache,
    *,
    factor: float = _LARGER,
    progress: Progress | None = None,
) -> Probed:
    """Score the plan's network at its own input size and at a larger one, named by their sides.

    The larger one is skipped where most of the images have fewer pixels along their shorter side,
    and where the network takes no other size. Time goes with the square of the side.

    Args:
        plan: What was planned.
        sample: The images to score on.
        cache: Where features are remembered.
        factor: How much larger.
        progress: Told of each batch.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    spec = plan.backbone.input_spec
    own, larger = str(max(spec.height, spec.width)), larger_size(spec, factor)
    scores = {own: probe(plan, sample, plan.backbone, cache, what=f"size {own}", progress=progress)}
    shorter = int(np.median(_shapes(plan, sample).min(axis=1)))
    if shorter < larger:
        why = f"half of the images have {shorter} pixels or fewer along their shorter side"
        return Probed(scores, {str(larger): why})
    try:
        backbone = create_backbone(replace(_options(plan), size=larger))
    except HeadstartError as error:
        return Probed(scores, {str(larger): f"the network does not take it: {error}"})
    spec = replace(backbone.input_spec, resize=spec.resize)
    scores[str(larger)] = probe(
        plan,
        sample,
        replace(backbone, input_spec=spec),
        cache,
        what=f"size {larger}",
        progress=progress,
    )
    return Probed(scores, {})


def random_weights(
    plan: Plan, sample: Sample, cache: Cache, *, progress: Progress | None = None
) -> ProbeScore:
    """Score the plan's network with random weights: what its shape alone is worth.

    What its own weights score above that is what they bring; what this scores above chance is told
    by colour and coarse texture.

    Raises:
        DataError: The sample is too small, see ``Sample.able``.
    """
    spec = plan.backbone.input_spec
    options = replace(
        _options(plan),
        weights=None,
        allow_partial=False,
        mean=None,
        std=None,
        size=spec.height if spec.height == spec.width else plan.options.size,
    )
    backbone = create_backbone(options, random=plan.options.seed)
    backbone = replace(backbone, input_spec=spec)
    return probe(plan, sample, backbone, cache, what="random weights", progress=progress)


def _options(plan: Plan) -> Options:
    """Return the plan's options with the name of the network that it took."""
    return replace(plan.options, backbone=plan.backbone.full_name)
