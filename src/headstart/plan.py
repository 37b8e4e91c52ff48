"""The plan of a run: all that is known and decided before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from headstart.adjust import chosen_strategy, transform_name
from headstart.backbones.base import Backbone
from headstart.cache import Cache, size_limit
from headstart.data.checks.check import Checked, Finding, check
from headstart.data.items import Dataset
from headstart.data.sources import open_dataset
from headstart.data.splits.split import Split
from headstart.division import learnable_classes, planned_split
from headstart.embedding import create_backbone
from headstart.files import digest
from headstart.memory import FileMemory
from headstart.options import Options
from headstart.plan_text import plan_lines
from headstart.sizing import PhaseSize, size_up
from headstart.strategy.phase import Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.device import InferencePath, first_path, pick_device
from headstart.training.heads import HeadSpec
from headstart.training.model import Model
from headstart.training.task import SingleLabel

__all__ = ["MOST_AUDITED", "Plan", "data_spec", "make_plan"]

MOST_AUDITED = 20_000
"""As many images are checked by their features after a fit: 18 s of one core and 200 MB."""

Progress = Callable[[int, int], None]


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
        options = self.options
        return {
            "format": 1,
            "data": data_spec(self.dataset, self.checked),
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
        return self.options.refit and not self.split.limited

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
        """What the check of the files and the split found."""
        return (*self.checked.findings, *self.split.findings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood or assumed on the way, one sentence each."""
        return (
            *self.dataset.notes,
            *self.split.notes,
            *self.backbone.notes,
            *self.remarks,
            *self._unaudited(),
        )

    def _unaudited(self) -> Iterator[str]:
        if self.solves and self.options.audit and not self.audits:
            yield (
                f"Labels and near copies are not looked for in more than {MOST_AUDITED:,} images; "
                "headstart check --deep does it."
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

    @property
    def audits(self) -> bool:
        """Whether the images are checked by their features, once these are there.

        A strategy that solves no head never computes them for all images; and what a network says
        of images it was trained on is no evidence against their labels. Its time grows with the
        square of the number of images, so that many are left to ``headstart check --deep``.
        """
        few = len(self.checked.items) <= MOST_AUDITED
        return self.solves and self.options.audit and few

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        return plan_lines(self)


def data_spec(dataset: Dataset, checked: Checked) -> dict[str, Any]:
    """Return what a data set is, as a spec has it: its name, its digest, how many images.

    The digest is over name, label and content of each image that can be read, and its group and
    weight where it has any.
    """
    lines = []
    for item, image in zip(checked.items, checked.digests, strict=True):
        line = f"{item.name}\0{item.label}\0{image}"
        if item.group is not None or item.weight != 1:
            line += f"\0{item.weight!r}\0{item.group or ''}"
        lines.append(line)
    return {"name": dataset.name, "digest": digest(*lines), "n": len(lines)}


def make_plan(
    data: str | Path, options: Options, *, cache: Cache, progress: Progress | None = None
) -> Plan:
    """List and check the images, split them, load the network and resolve the strategy.

    Args:
        data: A folder, a table, a zip file, or the name of a data set.
        options: What was asked for.
        cache: Where what was learnt of files is remembered.
        progress: Called with (done, total) images checked.

    Raises:
        HeadstartError: Whatever makes the plan impossible, before anything is computed.
    """
    path = first_path(pick_device(options.device), options.precision, options.batch_size)
    HeadSpec.parse(options.head)
    chosen_strategy(options)  # a name that nobody knows is told before files are read
    dataset = open_dataset(data, options.reading, cache=cache)
    memory = FileMemory(cache.files)
    checked = check(dataset, memory, max_bad=options.max_bad, progress=progress)
    split = planned_split(checked, options)
    classes = learnable_classes(dataset, checked, split, options)
    backbone, asked = _network(options)
    task = SingleLabel(classes)
    sized = size_up(
        Model(backbone, task.head(backbone.feature_dim, options.head)),
        asked,
        options,
        path,
        n_train=len(split.train),
        budget=size_limit(cache.folder) // 2,
    )
    return Plan(
        data=str(data),
        dataset=dataset,
        checked=checked,
        split=split,
        backbone=backbone,
        task=task,
        asked=asked,
        strategy=sized.strategy,
        sizes=sized.sizes,
        remarks=sized.remarks,
        path=path,
        weights_digest=backbone.digest(),
        options=options,
    )


def _network(options: Options) -> tuple[Backbone, Strategy]:
    """Load the network, or the one that the strategy brings, with the weights it starts from."""
    first = chosen_strategy(options)
    seed = options.seed if first.weights == "random" else None
    if seed is not None:  # a file of weights is for the strategies that start from it
        options = replace(options, weights=None, allow_partial=False, mean=None, std=None)
    if first.backbone is not None:
        options = replace(options, backbone=first.backbone)
    backbone = create_backbone(options, random=seed)
    return backbone, chosen_strategy(options, stages=len(backbone.stages))
