"""The guard of a fit: each phase is looked at as it is, right before it runs.

What the engine promises (frozen is frozen, every trainable parameter in one group, modes as they
should be) is looked at for real, on the very objects it will step with. What would spoil the
result stops the fit; the rest is told in the phase's record, and so in report.json.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from headstart.backbones.earlier import find_earlier
from headstart.backbones.preprocess import beside
from headstart.data.checks.findings import Finding, by_severity
from headstart.errors import DataError, ModelError, UsageError
from headstart.images import Images
from headstart.inputspec import InputSpec
from headstart.normalisation import Scaling
from headstart.plan import Plan
from headstart.training.anatomy import named
from headstart.training.batch_guard import label_findings
from headstart.training.engine import Engine
from headstart.training.guard import mode_findings, optimizer_findings
from headstart.training.heads import last_linear
from headstart.training.model import Model
from headstart.training.pixels import Pixels
from headstart.training.rate_guard import rate_findings

__all__ = ["guard", "guard_training", "normalisation_of_own_weights"]

_TRIED = 4  # images that a transform of the user's is tried on
_FEW, _MANY = 8, 32  # different values of pixels: after a mistake in types, and in any photograph


def guard(plan: Plan, images: Images, model: Model, number: int) -> tuple[Finding, ...]:
    """Look at what a phase of any kind starts from.

    Args:
        plan: The run's plan.
        images: The images that could be read.
        model: The network and its head, as earlier phases left them.
        number: Of the phase, from 0.

    Raises:
        ModelError: A weight of the network is not finite.
        DataError: A label is not among the network's outputs.
    """
    broken = [
        name
        for name, value in model.parameters_by_name().items()
        if not bool(torch.isfinite(value.detach()).all())
    ]
    if broken:
        raise ModelError(
            f"Phase {number + 1} would start from weights that are not finite: {named(broken)}.",
            field="weights",
            hint="Take other weights, or lower the rate of the phase before.",
        )
    learnt = np.concatenate([images.parts["train"], images.parts["val"]])
    labels = torch.from_numpy(images.labels[learnt])
    outputs = last_linear(model.head).out_features
    for finding in label_findings(labels, outputs, what="train and val"):
        raise DataError(finding.message, field="label", hint=finding.hint)
    return tuple(normalisation_of_own_weights(plan)) if number == 0 else ()


def guard_training(
    plan: Plan,
    engine: Engine,
    class_weights: torch.Tensor | None = None,
    highest_good_rate: float | None = None,
) -> tuple[Finding, ...]:
    """Look at a phase that trains, as its engine has set it up.

    Args:
        plan: The run's plan.
        engine: Ready to run. Its model's mode is put back.
        class_weights: (C,) weight of each class in the loss, or None.
        highest_good_rate: Of a range test of this phase.

    Raises:
        ModelError: The optimizer does not hold what is to be trained.
        DataError: The weight of a class is not finite.
        UsageError: The transform that the user gave destroys the images, or gives no pixels.
    """
    model, number = engine.model, engine.number
    parameters = model.parameters_by_name()
    head = {id(value) for value in model.head.parameters()}
    if class_weights is not None and not bool(torch.isfinite(class_weights).all()):
        raise DataError(
            "The weight of each class must be finite, and one is not: a class has no weight in "
            "train.",
            field="class-weights",
            hint="Give each class training images of a weight above 0, or leave "
            "--class-weights away.",
        )
    mode = model.training
    found = [
        *optimizer_findings(parameters, engine.optimizer, head=head),
        *mode_findings(model.train()),
    ]
    model.train(mode)
    for finding in found:
        if finding.severity == "error":
            message = f"Phase {number} can't train: {finding.message}"
            raise ModelError(message, field="strategy", hint=finding.hint)
    if plan.strategy.weights == "pretrained":
        found += rate_findings(
            parameters, engine.optimizer, head=head, highest_good_rate=highest_good_rate
        )
    return by_severity([*found, *_transform_findings(engine)])


def normalisation_of_own_weights(plan: Plan) -> Iterator[Finding]:
    """Yield where the mean and std that were given are unlikely to be those of the weights."""
    options, spec = plan.options, plan.backbone.input_spec
    if options.weights is None or options.mean is None:
        return
    file = options.weights
    if file.is_dir():
        file = find_earlier(file).file
    architecture = plan.backbone.architecture["architecture"]
    told = beside(file, architecture)
    given = Scaling.of(spec.mean, spec.std)
    if told is not None and given.distance(Scaling.of(told[0].mean, told[0].std)) > 0.05:
        yield Finding(
            "normalisation",
            "warning",
            (),
            f"--mean and --std say {given}, and {told[1]} beside the weights says "
            f"{Scaling.of(told[0].mean, told[0].std)}.",
            f"Leave --mean and --std away, unless {told[1]} is wrong.",
        )
    elif _mixes_units(spec):
        yield Finding(
            "normalisation",
            "warning",
            (),
            f"--mean and --std were taken for units of 0..255, mean {_listed(spec.mean)} and std "
            f"{_listed(spec.std)}, since one of them is above 1: the network's input would go from "
            f"{given.range[0]:.3g} to {given.range[1]:.3g}.",
            "Give both in units of 0..1, or both in units of 0..255.",
        )


def _mixes_units(spec: InputSpec) -> bool:
    """Whether mean or std look as if they were in units of 0..1, and the other in 0..255."""
    low, high = min(spec.mean), max(spec.mean)
    return (low > 1 and max(spec.std) < 1) or (0 < high <= 1 and min(spec.std) > 1)


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _transform_findings(engine: Engine) -> Iterator[Finding]:
    """Yield what a transform of the user's does to the first few training images.

    Raises:
        UsageError: It makes pixels of 0 to 1, of which nothing is left but black; or no pixels.
    """
    pixels = getattr(engine.examples.stream, "pixels", engine.examples.stream)
    if not isinstance(pixels, Pixels) or pixels.custom is None:
        return
    some = engine.examples.train[:_TRIED]
    plain, seen = (next(pixels.arrays(view, [some])) for view in (0, 1))
    if seen.max() <= 1 < plain.max():
        raise UsageError(
            "The transform turns pixels of 0 to 255 into 0 and 1: it scales them, and what is left "
            "as uint8 is black.",
            field="augment",
            hint="Leave scaling and Normalize to the network: return uint8 pixels of 0 to 255.",
        )
    blank = _blank(seen) & ~_blank(plain)
    if blank.any() or (_values(seen) <= _FEW and _values(plain) >= _MANY):
        what = f"leaves nothing but one colour of {blank.sum()} of the first {len(some)} images"
        few = f"leaves {_values(seen)} different values of {_values(plain)} in the first images"
        names = [engine.examples.names[index] for index in some]
        yield Finding(
            "transform",
            "warning",
            tuple(names),
            f"The transform {what if blank.any() else few}.",
            "Look at what it gives for one image; a cast to uint8 after a normalisation does this.",
        )


def _blank(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    flat = images.reshape(len(images), -1)
    same: npt.NDArray[np.bool_] = flat.min(axis=1) == flat.max(axis=1)
    return same


def _values(images: npt.NDArray[np.uint8]) -> int:
    return len(np.unique(images))
