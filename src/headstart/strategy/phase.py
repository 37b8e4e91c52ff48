"""Rates and phases: who learns how fast, on what, and how.

A phase gives learning rates to parts of the network by an ordered list of patterns, of which the
first match wins; what has no rate is frozen. The idea of the ordered list is that of big_vision's
``optax.py``. Nothing here imports torch: a network is seen as a list of ``Parameter`` names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.errors import UsageError
from headstart.strategy.patterns import HEAD, Parameter, matcher

__all__ = ["HEAD", "Parameter", "Phase", "Rate", "Rates", "Solve", "Train"]

Rates = dict[str, float | None]
OPTIMIZERS = ("adamw", "adam", "sgd")
WARMING = ("one-cycle", "cosine")  # schedules that begin with a warm-up
SCHEDULES = (*WARMING, "constant", "step", "plateau")
OPTIONAL = ("clip", "ema", "patience", "views")  # fields of Train that may be None
AUGMENTATIONS = ("none", "light", "standard", "strong", "shear-zoom", "custom")
SYMMETRIES = ("none", "flip", "square")
KEEPS = ("always", "better")
MONITORS = ("log_loss", "accuracy", "balanced_accuracy", "macro_f1", "none")


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate for the parameters that ``pattern`` matches; None freezes them.

    A pattern is ``head``; ``stage:2``, ``stage:-1`` or ``stage:0..2`` (both ends included, counted
    over the stages with parameters); ``layer:0..99`` (leaf layers, as Keras counts them);
    ``@norm`` or ``@bias``; or a dotted prefix of the backbone's block or parameter names.
    """

    pattern: str
    rate: float | None

    def problems(self) -> Iterator[str]:
        """Yield what is out of range."""
        if self.rate is not None and not 0 < self.rate < math.inf:
            yield (
                f"the rate of {self.pattern!r} must be above 0, or none to freeze, not {self.rate}"
            )


@dataclass(frozen=True, slots=True)
class Solve:
    """Fit the head directly on the cached features, at each L2 penalty; val chooses one.

    Attributes:
        penalties: L2 penalties of the multinomial logistic regression on standardised features:
            ``sum of losses + penalty / 2 * |weights|^2``, as 1 / C in scikit-learn.
    """

    penalties: tuple[float, ...]

    def problems(self) -> Iterator[str]:
        """Yield what is out of range."""
        if not self.penalties or not all(0 < value < math.inf for value in self.penalties):
            yield f"solve needs one or more penalties, all above 0, not {list(self.penalties)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Mini-batch training of everything that has a rate.

    Attributes:
        epochs: How often each training image is seen.
        batch_size: Images a step.
        optimizer: ``adamw``, ``adam`` or ``sgd`` (momentum 0.9, Nesterov).
        schedule: How rates move over the phase, each from its own maximum: ``one-cycle`` (warm-up
            over ``warmup`` of all steps, then a cosine to almost nothing; Smith 2018,
            arXiv:1803.09820), ``cosine`` (linear warm-up, then a cosine to 0), ``constant``,
            ``step`` (a tenth after each third of the epochs), ``plateau`` (a tenth whenever
            ``monitor`` has not improved for two epochs).
        warmup: Share of all steps in which the rates of ``one-cycle`` and ``cosine`` rise.
        weight_decay: Decoupled for AdamW, L2 for the others; biases and norms have none.
        clip: Largest L2 norm of all gradients together; None does not clip.
        label_smoothing: Share of each label that is spread over all classes.
        mixup: Alpha of mixup (Zhang 2018, arXiv:1710.09412); 0 is without.
        cutmix: Alpha of cutmix (Yun 2019, arXiv:1905.04899); 0 is without.
        l1: Weight of the head's absolute weights in the loss.
        l2: Weight of the head's squared weights in the loss.
        ema: Decay of an exponential moving average of the weights, which is then what is judged
            and kept; None is without.
        monitor: The val metric that early stopping and the choice of the best epoch go by, log
            loss deciding between equals; ``none`` keeps the last epoch.
        patience: Stop after this many epochs without improvement; None runs them all.
        batch_norm: What the statistics of batch norms in trained blocks do: ``hold`` those of the
            pre-training, which small batches and small data would only blur; ``train``; or
            ``adapt``: they are estimated anew on the training images before the first step, the
            head is solved again on what the network then gives, and both train from there.
        sampling: ``shuffle``, or ``balanced``: each class is drawn as often as any other.
        views: How many augmented views of each image there are, beside the plain one. None is a
            fresh view for every epoch, or as many as the cache's budget allows where the views'
            boundary is remembered.
    """

    epochs: int
    batch_size: int = 32
    optimizer: str = "adamw"
    schedule: str = "one-cycle"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float | None = 1.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    ema: float | None = None
    monitor: str = "accuracy"
    patience: int | None = None
    batch_norm: Literal["hold", "train", "adapt"] = "hold"
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    views: int | None = None

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that nothing behind them can be remembered."""
        return bool(self.mixup or self.cutmix)

    def problems(self) -> Iterator[str]:
        """Yield what is out of range."""
        for name, value, choices in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("monitor", self.monitor, MONITORS),
            ("batch_norm", self.batch_norm, ("hold", "train", "adapt")),
            ("sampling", self.sampling, ("shuffle", "balanced")),
        ):
            if value not in choices:
                yield f"{name} must be one of {', '.join(choices)}, not {value!r}"
        for name, count, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("patience", 1 if self.patience is None else self.patience, 1),
            ("views", 0 if self.views is None else self.views, 0),
        ):
            if not _is_whole(count, least):
                yield f"{name} must be a whole number of at least {least}, not {count!r}"
        for name, share, below in (
            ("warmup", self.warmup, 1.0),
            ("label_smoothing", self.label_smoothing, 1.0),
            ("ema", 0.0 if self.ema is None else self.ema, 1.0),
            ("weight_decay", self.weight_decay, math.inf),
            ("mixup", self.mixup, math.inf),
            ("cutmix", self.cutmix, math.inf),
            ("l1", self.l1, math.inf),
            ("l2", self.l2, math.inf),
        ):
            if not (_is_number(share) and 0 <= share < below):
                limit = "" if below == math.inf else f" and below {below:g}"
                yield f"{name} must be a number of at least 0{limit}, not {share!r}"
        if self.clip is not None and not (_is_number(self.clip) and self.clip > 0):
            yield f"clip must be above 0, or none not to clip, not {self.clip!r}"
        if self.monitor == "none":
            needing = ["the schedule plateau"] if self.schedule == "plateau" else []
            needing += ["patience"] if self.patience is not None else []
            yield from (f"{name} needs a monitor" for name in needing)
        if self.batch_norm != "hold" and self.batch_size == 1:
            yield "batch_norm can't be trained on batches of one image (batch_size)"


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of training: who learns how fast, on what, and how.

    Attributes:
        rates: In order; the first that matches a parameter decides.
        fit: How.
        augment: What is done to the training images: ``none``, ``light``, ``standard``,
            ``strong``, ``shear-zoom``, or ``custom`` for a transform given from Python.
        symmetry: Which mirror images mean the same: ``none``, ``flip`` (left and right) or
            ``square`` (all eight).
        keep: Whether the weights of a Train phase stay: ``always``, or only where they are
            ``better`` on val than those it started from, by more than val's noise
            (``headstart.training.keeping``); else it ends with those it started from.
    """

    rates: tuple[Rate, ...]
    fit: Solve | Train
    augment: str = "none"
    symmetry: str = "flip"
    keep: str = "always"

    def problems(self, parameters: Sequence[Parameter]) -> Iterator[str]:
        """Yield all that keeps the phase from running on a network of these parameters."""
        for rate in self.rates:
            yield from rate.problems()
        yield from self.fit.problems()
        for name, value, choices in (
            ("augment", self.augment, AUGMENTATIONS),
            ("symmetry", self.symmetry, SYMMETRIES),
            ("keep", self.keep, KEEPS),
        ):
            if value not in choices:
                yield f"{name} must be one of {', '.join(choices)}, not {value!r}"
        resolved, unmatched = self._match(parameters)
        for pattern in unmatched:
            yield f"the pattern {pattern!r} matches no parameter"
        uncovered = [parameter.name for parameter in parameters if parameter.name not in resolved]
        if uncovered:
            yield f"no pattern covers {_some(uncovered)}"
        awake = [p for p in parameters if resolved.get(p.name) is not None]
        of_backbone = [parameter.name for parameter in awake if parameter.block != HEAD]
        if isinstance(self.fit, Solve):
            if of_backbone:
                yield (
                    f"a head is solved only behind a frozen backbone, and {_some(of_backbone)} "
                    "would be trained"
                )
            if self.augment != "none":
                yield "a head is solved on the plain images: augment must be none"
        if not awake:
            yield "every parameter is frozen: nothing would be trained"
        yield from self._undecided()

    def _undecided(self) -> Iterator[str]:
        """Yield why val could not tell whether the phase is better."""
        if self.keep != "better":
            return
        if isinstance(self.fit, Solve):
            yield "a solved head stays: keep = better is for phases that train"
        elif self.fit.monitor == "none":
            yield "keep = better needs a monitor"

    def _match(self, parameters: Sequence[Parameter]) -> tuple[Rates, list[str]]:
        """Return the rate of each parameter that a pattern matches, and the idle patterns."""
        resolved: Rates = {}
        unmatched = []
        for rate in self.rates:
            matches = matcher(rate.pattern, parameters)
            hits = [parameter.name for parameter in parameters if matches(parameter)]
            if not hits:
                unmatched.append(rate.pattern)
            for name in hits:
                resolved.setdefault(name, rate.rate)
        return resolved, unmatched

    def resolve(self, parameters: Sequence[Parameter]) -> Rates:
        """Give every parameter its rate.

        Args:
            parameters: All parameters, the backbone's in the order of its blocks, then the head's.

        Returns:
            Rate by parameter name; None is frozen.

        Raises:
            UsageError: A pattern matches nothing, a parameter is not covered, the phase solves
                the head while a backbone parameter has a rate, a number is out of range; all of
                these together.
        """
        problems = list(self.problems(parameters))
        if problems:
            raise UsageError(
                f"This phase can't run: {'; '.join(problems)}.",
                field="rates",
                hint="Patterns and fields are explained at headstart.Rate and headstart.Train.",
            )
        return self._match(parameters)[0]


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
