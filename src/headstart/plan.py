"""The plan of a run: all that is known and decided before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.data.check import Checked, Finding, check
from headstart.data.items import Dataset
from headstart.data.sources import open_dataset
from headstart.data.split import Split, limit, make_split
from headstart.embedding import create_backbone
from headstart.errors import DataError
from headstart.files import digest
from headstart.memory import FileMemory
from headstart.options import Options
from headstart.strategy import presets
from headstart.strategy.phase import Strategy
from headstart.training.device import InferencePath, first_path, pick_device
from headstart.training.model import Model
from headstart.training.solve import TINY_VAL
from headstart.training.task import SingleLabel

__all__ = ["PhaseSize", "Plan", "make_plan"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PhaseSize:
    """How many parameters a phase trains, of how many."""

    trainable: int
    total: int


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
        strategy: The phases.
        sizes: Trained and total parameters of each phase.
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
    strategy: Strategy
    sizes: tuple[PhaseSize, ...]
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
            "strategy": self.strategy.to_dict(),
            "class_weights": options.class_weights,
            "seed": options.seed,
            "path": {
                "device": options.device,
                "precision": options.precision,
                "batch_size": options.batch_size,
            },
        }

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
        sizes = [{"trainable": size.trainable, "total": size.total} for size in self.sizes]
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
        return (*self.dataset.notes, *self.split.notes, *self.backbone.notes)

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
            penalties = phase.fit.penalties
            choice = f"{len(penalties)} penalties from {max(penalties):g} to {min(penalties):g}"
            trained = f"{size.trainable:,} of {size.total:,} parameters"
            chooser = "val" if len(self.split.val) >= TINY_VAL else "cross-validation on train"
            lines.append(
                f"  phase {number} solve the head: {trained}; {chooser} chooses of {choice}"
            )
        lines += [f"note      {note}" for note in self.notes]
        lines += [f"{finding.severity:<9} {finding.message}" for finding in self.findings]
        return lines


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
    strategy = presets.create(options.strategy)
    dataset = open_dataset(data)
    memory = FileMemory(cache.files)
    checked = check(dataset, memory, max_bad=options.max_bad, progress=progress)
    split = _split(checked, options)
    classes = _classes(dataset, checked, split)
    backbone = create_backbone(options)
    task = SingleLabel(classes)
    return Plan(
        data=str(data),
        dataset=dataset,
        checked=checked,
        split=split,
        backbone=backbone,
        task=task,
        strategy=strategy,
        sizes=_sizes(backbone, task, strategy),
        path=path,
        weights_digest=backbone.digest(),
        options=options,
    )


def _split(checked: Checked, options: Options) -> Split:
    """Split the images, then thin the training part as asked."""
    items = checked.items
    split = make_split(items, checked.digests, fractions=options.split, seed=options.seed)
    if options.limit is not None or options.limit_per_class is not None:
        split = limit(
            split,
            [item.label for item in items],
            checked.digests,
            seed=options.seed,
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


def _sizes(backbone: Backbone, task: SingleLabel, strategy: Strategy) -> tuple[PhaseSize, ...]:
    """Resolve each phase against the network and count what it trains."""
    parameters = Model(backbone, task.head(backbone.feature_dim)).describe()
    total = sum(parameter.size for parameter in parameters)
    sizes = []
    for phase in strategy.phases:
        rates = phase.resolve(parameters)
        trainable = sum(p.size for p in parameters if rates[p.name] is not None)
        sizes.append(PhaseSize(trainable, total))
    return tuple(sizes)
