"""The plan of a run: all that is known and decided before anything is computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from headstart.adjust import CUSTOM, chosen_strategy, transform_name
from headstart.backbones.base import Backbone
from headstart.cache import Cache, size_limit
from headstart.data.check import Checked, Finding, check
from headstart.data.items import Dataset
from headstart.data.sources import open_dataset
from headstart.data.split import Split, limit, make_split
from headstart.embedding import create_backbone
from headstart.errors import DataError, UsageError
from headstart.files import digest
from headstart.inputspec import InputSpec
from headstart.memory import FileMemory
from headstart.options import DEFAULT_BACKBONE, Options
from headstart.strategy.phase import Phase, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import boundary_shape
from headstart.training.device import InferencePath, first_path, pick_device
from headstart.training.heads import HeadSpec
from headstart.training.model import Model
from headstart.training.solve import TINY_VAL
from headstart.training.task import SingleLabel

__all__ = ["PhaseSize", "Plan", "epochs_before", "make_plan"]

Progress = Callable[[int, int], None]
MOST_VIEWS = 8
_SHOWN = 3  # findings of a kind that the plan's lines tell


@dataclass(frozen=True, slots=True)
class PhaseSize:
    """How many parameters a phase trains, of how many, and from which block on.

    Attributes:
        trainable: Parameters that it changes.
        total: Parameters of the network and its head.
        prefix: How many blocks before the first that is trained are frozen.
        remembered: Whether what these give is remembered; else each step computes it anew.
    """

    trainable: int
    total: int
    prefix: int
    remembered: bool


@dataclass(frozen=True)
class Plan:
    """What will be done with which images and which network.

    Attributes:
        data: What the user gave.
        dataset: The images as they were found.
        checked: Those that can be used, their digests and what was found about them.
        split: Positions in ``checked.items``.
        backbone: The network, its weights loaded.
        task: The classes.
        asked: The strategy as it was asked for; how many views there are may be open.
        strategy: The same, fitted to the network, the images and the cache.
        sizes: Trained and total parameters of each phase.
        remarks: What was decided for the phases, one sentence each.
        path: Where and how the forward pass runs, unless the parity check changes it.
        weights_digest: Names the network's weights.
        options: What was asked for.
    """

    data: str
    dataset: Dataset
    checked: Checked
    split: Split
    backbone: Backbone
    task: SingleLabel
    asked: Strategy
    strategy: Strategy
    sizes: tuple[PhaseSize, ...]
    remarks: tuple[str, ...]
    path: InferencePath
    weights_digest: str
    options: Options

    @property
    def spec(self) -> dict[str, Any]:
        """What makes this run this run: two runs with the same spec give the same classifier."""
        items = zip(self.checked.items, self.checked.digests, strict=True)
        options = self.options
        return {
            "format": 1,
            "data": {
                "name": self.dataset.name,
                "digest": digest(*(f"{i.name}\0{i.label}\0{image}" for i, image in items)),
                "n": len(self.checked.items),
            },
            "split": {"digest": self.split.digest, **self.counts()},
            "backbone": {
                "name": self.backbone.full_name,
                "weights": self.backbone.weights,
                "weights_digest": self.weights_digest,
                "input_spec": self.backbone.input_spec.to_dict(),
            },
            "task": self.task.to_dict(),
            "strategy": self.asked.to_dict(),
            "transform": transform_name(options),
            "head": HeadSpec.parse(options.head).text,
            "average": options.average,
            "class_weights": options.class_weights,
            "seed": options.seed,
            "path": {
                "device": options.device,
                "precision": options.precision,
                "batch_size": options.batch_size,
            },
            **({"refit": self.refits} if isinstance(self.asked.phases[-1].fit, Solve) else {}),
        }

    @property
    def refits(self) -> bool:
        """Whether a head that is solved last is solved again on train and val together.

        Not where the training images are limited: val's would be more than were allowed.
        """
        options = self.options
        limited = options.limit is not None or options.limit_per_class is not None
        return options.refit and not limited

    def counts(self) -> dict[str, int]:
        """Return the sizes of the split's parts, as report.json names them."""
        return {
            "n_train": len(self.split.train),
            "n_val": len(self.split.val),
            "n_test": len(self.split.test),
        }

    def labels(self, part: Sequence[int]) -> list[str]:
        """Return the labels of the images at these positions."""
        return [self.checked.items[index].label for index in part]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``fit --dry-run --json`` prints."""
        sizes = [asdict(size) for size in self.sizes]
        return {
            "plan": self.spec,
            "phases": sizes,
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
        }

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the check of the files found."""
        return self.checked.findings

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood or assumed on the way, one sentence each."""
        return (
            *self.dataset.notes,
            *self.split.notes,
            *self.backbone.notes,
            *self.remarks,
        )

    @property
    def trains(self) -> bool:
        """Whether any phase trains by steps, so that pixels are needed more than once."""
        return any(isinstance(phase.fit, Train) for phase in self.strategy.phases)

    @property
    def needs_pixels(self) -> bool:
        """Whether decoded images are needed more than once."""
        return self.trains or self.options.average != "none"

    @property
    def solves(self) -> bool:
        """Whether any phase solves its head, so that all features are needed."""
        return any(isinstance(phase.fit, Solve) for phase in self.strategy.phases)

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        spec = self.backbone.input_spec
        counts = Counter(item.label for item in self.checked.items)
        shown = ", ".join(f"{name} {counts[name]:,}" for name in self.task.classes[:6])
        more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
        total = self.sizes[0].total
        lines = [
            f"data      {self.dataset.name}: {len(self.checked.items):,} images in "
            f"{len(self.task.classes)} classes ({shown}{more})",
            f"split     train {len(self.split.train):,}, val {len(self.split.val):,}, test "
            f"{len(self.split.test):,} ({self.split.origin}; digest {self.split.digest[:12]})",
            f"backbone  {self.backbone.full_name}, {total / 1e6:.1f} million parameters, weights "
            f"{self.backbone.weights} ({self.backbone.licence or 'licence not stated'})",
            f"input     {spec.height} x {spec.width}, {spec.resize}, {spec.interpolation}",
            f"strategy  {self.strategy.name}",
        ]
        for number, (phase, size) in enumerate(
            zip(self.strategy.phases, self.sizes, strict=True), start=1
        ):
            trained = f"{size.trainable:,} of {size.total:,} parameters"
            lines.append(f"  phase {number} {self._phase_line(phase, size, trained)}")
        lines += [f"note      {note}" for note in self.notes]
        return lines + _finding_lines(self.findings)

    def _phase_line(self, phase: Phase, size: PhaseSize, trained: str) -> str:
        fit = phase.fit
        if isinstance(fit, Solve):
            choice = (
                f"{len(fit.penalties)} penalties from {max(fit.penalties):g} to "
                f"{min(fit.penalties):g}"
            )
            chooser = "val" if len(self.split.val) >= TINY_VAL else "cross-validation on train"
            return f"solve the head: {trained}; {chooser} chooses of {choice}"
        rates = [rate.rate for rate in phase.rates if rate.rate is not None]
        span = f"{max(rates):g}" if min(rates) == max(rates) else f"{min(rates):g}..{max(rates):g}"
        behind = f" behind {size.prefix} remembered blocks" if size.remembered else ""
        return (
            f"train {trained}{behind}: {fit.epochs} epochs of {len(self.split.train):,} images, "
            f"{fit.optimizer} {span}, {fit.schedule}, augment {phase.augment}"
        )


def make_plan(
    data: str | Path, options: Options, *, cache: Cache, progress: Progress | None = None
) -> Plan:
    """List and check the images, split them, load the network and resolve the strategy.

    Args:
        data: A folder, or the name of a data set.
        options: What was asked for.
        cache: Where what was learnt of files is remembered.
        progress: Called with (done, total) images checked.

    Raises:
        HeadstartError: Whatever makes the plan impossible, before anything is computed.
    """
    path = first_path(pick_device(options.device), options.precision, options.batch_size)
    HeadSpec.parse(options.head)
    chosen_strategy(options)  # a name that nobody knows is told before files are read
    dataset = open_dataset(data)
    memory = FileMemory(cache.files)
    checked = check(dataset, memory, max_bad=options.max_bad, progress=progress)
    split = _split(checked, options)
    classes = _classes(dataset, checked, split)
    backbone, asked = _network(options)
    task = SingleLabel(classes)
    strategy, sizes, remarks = _fitted(
        backbone, task, asked, options, path, n_train=len(split.train), cache=cache
    )
    return Plan(
        data=str(data),
        dataset=dataset,
        checked=checked,
        split=split,
        backbone=backbone,
        task=task,
        asked=asked,
        strategy=strategy,
        sizes=sizes,
        remarks=remarks,
        path=path,
        weights_digest=backbone.digest(),
        options=options,
    )


def _network(options: Options) -> tuple[Backbone, Strategy]:
    """Load the network, or the one that the strategy brings, with the weights it starts from."""
    first = chosen_strategy(options)
    seed = options.seed if first.weights == "random" else None
    if seed is not None:  # a file of weights is for the strategies that start from it
        options = replace(options, weights=None, mean=None, std=None)
    if first.backbone is not None:
        options = replace(options, backbone=first.backbone)
    backbone = create_backbone(options, random=seed)
    return backbone, chosen_strategy(options, stages=len(backbone.stages))


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Say each finding in a line, a few of a kind; report.json has them all."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, some in kinds.items():
        for finding in some[:_SHOWN]:
            names = ", ".join(finding.files[:2]) + (", …" if len(finding.files) > 2 else "")
            known = not names or finding.files[0] in finding.message
            lines.append(
                f"{finding.severity:<9} {finding.message}" + ("" if known else f" ({names})")
            )
        if len(some) > _SHOWN:
            more = f"{len(some) - _SHOWN} more findings of the kind {kind}"
            lines.append(f"{some[0].severity:<9} … and {more}")
    return lines


def _split(checked: Checked, options: Options) -> Split:
    """Split the images, then thin the training part as asked."""
    items = checked.items
    seed = options.seed if options.split_seed is None else options.split_seed
    split = make_split(items, checked.digests, fractions=options.split, seed=seed)
    if options.limit is not None or options.limit_per_class is not None:
        split = limit(
            split,
            [item.label for item in items],
            checked.digests,
            seed=seed,
            n=options.limit,
            per_class=options.limit_per_class,
        )
    if not split.test:
        raise DataError(
            "There are too few images to hold any out for a test.",
            field="split",
            hint="Give at least one class 2 different images, or a test folder beside train.",
        )
    return split


def _classes(dataset: Dataset, checked: Checked, split: Split) -> tuple[str, ...]:
    """Return the classes, each of which must have a training image."""
    train = {checked.items[index].label for index in split.train}
    without = [name for name in dataset.classes if name not in train]
    if without:
        raise DataError(
            f"These classes have no readable training image: {', '.join(without[:10])}.",
            field="classes",
            hint="Repair their images, or remove their folders.",
        )
    return dataset.classes


def _fitted(
    backbone: Backbone,
    task: SingleLabel,
    strategy: Strategy,
    options: Options,
    path: InferencePath,
    *,
    n_train: int,
    cache: Cache,
) -> tuple[Strategy, tuple[PhaseSize, ...], tuple[str, ...]]:
    """Fit a strategy to the network: resolve its rates, and decide what is remembered.

    Returns:
        The strategy with the number of views decided, the size of each phase, and remarks.
    """
    model = Model(backbone, task.head(backbone.feature_dim, options.head))
    parameters = model.describe()
    total = sum(parameter.size for parameter in parameters)
    phases, sizes, remarks = [], [], list(_overlooked(options, strategy))
    _check_square(backbone.input_spec, strategy, options)
    budget = size_limit(cache.folder) // 2
    for number, (phase, rates) in enumerate(
        zip(strategy.phases, strategy.resolve(parameters), strict=True), start=1
    ):
        model.freeze(rates)
        prefix = model.frozen_prefix
        trainable = sum(p.size for p in parameters if rates[p.name] is not None)
        remembered = prefix > 0
        if isinstance(phase.fit, Train):
            room = _views_in(budget, n_train, backbone, prefix, path)
            why = _forgetful(phase, phase.fit, room)
            remembered = prefix > 0 and why is None
            if prefix and why:
                remarks.append(f"Phase {number} computes its frozen blocks in every step: {why}.")
            earlier = epochs_before(strategy, number - 1)
            views = _views(phase, phase.fit, earlier, room if remembered else None)
            phase = replace(phase, fit=replace(phase.fit, views=views))
        phases.append(phase)
        sizes.append(PhaseSize(trainable, total, prefix, remembered))
    return replace(strategy, phases=tuple(phases)), tuple(sizes), tuple(remarks)


def _views_in(
    budget: int, n_train: int, backbone: Backbone, prefix: int, path: InferencePath
) -> int:
    """Return how many views of the training images fit the budget behind ``prefix`` blocks."""
    if not prefix:
        return 0
    values = math.prod(boundary_shape(backbone, prefix, path))
    return budget // (n_train * values * (2 if path.precision == "bf16" else 4))


def _forgetful(phase: Phase, train: Train, room: int) -> str | None:
    """Say why what the frozen blocks give can't be remembered, or None where it can."""
    if train.mixes:
        return "mixup and cutmix mix the images before them"
    if phase.augment == CUSTOM:
        return "a transform given from Python has no name to remember its views by"
    # Where nobody asked for a number, one augmented view is the least that is of use.
    needed = 1 + (0 if phase.augment == "none" else 1 if train.views is None else train.views)
    if room < needed:
        return "the cache has no room for what they give (HEADSTART_CACHE_SIZE)"
    return None


def _views(phase: Phase, train: Train, earlier: int, room: int | None) -> int:
    """Return how many augmented views a phase has: as asked, or as many as are of use and fit."""
    if phase.augment == "none":
        return 0
    if train.views is not None:
        return train.views
    fresh = earlier + train.epochs  # another view in every epoch
    return fresh if room is None else max(1, min(fresh, room - 1, MOST_VIEWS))


def epochs_before(strategy: Strategy, number: int) -> int:
    """Return how many epochs the phases before phase ``number``, from 0, train with views."""
    return sum(
        phase.fit.epochs
        for phase in strategy.phases[:number]
        if isinstance(phase.fit, Train) and phase.augment != "none"
    )


def _overlooked(options: Options, strategy: Strategy) -> Iterator[str]:
    """Yield what was asked for and has no effect, or another than it may seem."""
    if strategy.backbone is not None and options.backbone != DEFAULT_BACKBONE:
        yield f"{strategy.name} brings its own network: {options.backbone} is not used."
    if strategy.weights == "random" and options.weights is not None:
        yield f"{strategy.name} starts from random weights: {options.weights} is not used."
    balanced = any(
        isinstance(phase.fit, Train) and phase.fit.sampling == "balanced"
        for phase in strategy.phases
    )
    if balanced and options.class_weights == "balanced":
        yield "Balanced sampling and balanced class weights together correct the imbalance twice."


def _check_square(spec: InputSpec, strategy: Strategy, options: Options) -> None:
    """Refuse the symmetries of the square for a network whose input is none."""
    asked = {options.average} | {p.symmetry for p in strategy.phases if p.augment != "none"}
    if "square" in asked and spec.height != spec.width:
        raise UsageError(
            f"The symmetries of the square need a square input, and this network's is "
            f"{spec.height} x {spec.width}.",
            field="symmetry",
            hint="Use flip, or give --size.",
        )
