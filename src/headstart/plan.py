"""The plan of a run: all that is known and decided before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headstart.adjust import transform_name
from headstart.backbones.base import Backbone
from headstart.data.checks.check import Checked, Finding
from headstart.data.items import Dataset
from headstart.data.splits.split import Split
from headstart.decided import Decided
from headstart.files import digest
from headstart.options import AUTO, Options
from headstart.plan_text import plan_lines
from headstart.sizing import PhaseSize
from headstart.strategy.phase import Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.device import InferencePath
from headstart.training.heads import HeadSpec
from headstart.training.task import SingleLabel

__all__ = ["MOST_AUDITED", "Plan", "data_spec"]

MOST_AUDITED = 20_000
"""As many images are checked by their features after a fit: 18 s of one core and 200 MB."""

Progress = Callable[[int, int], None]

# What ``auto`` goes by that the details of a plan do not tell before it has chosen.
_CHOSEN_FROM = (
    *("backbone", "size", "resize", "average", "epochs", "lr", "augment", "symmetry", "views"),
    *("train", "allow_noncommercial"),
)


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
        options: What was asked for; where ``auto`` is to choose, what holds until it has.
        given: What was asked for where ``auto`` chooses, else None.
        decided: What ``auto`` chose, once it has.
        begun: The spec of the run that it chose for.
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
    given: Options | None = None
    decided: Decided | None = None
    begun: dict[str, Any] | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """What makes this run this run: two runs with the same spec give the same classifier.

        Where ``auto`` chooses it is what it chooses from: the images, and what was asked for.
        """
        if self.begun is not None:
            return self.begun
        if self.given is None:
            return self.details
        asked = self.given.to_dict()
        chosen = {name: asked[name] for name in _CHOSEN_FROM}
        chosen["transform"] = transform_name(self.given)
        strategy = {"name": AUTO, "budget": self.given.budget}
        return self.details | {"strategy": strategy, "options": chosen}

    @property
    def details(self) -> dict[str, Any]:
        """What is done, with all that was chosen, as plain JSON."""
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
            **({"refit": self.refits} if self._may_end_solved else {}),
        }

    @property
    def _may_end_solved(self) -> bool:
        """Whether the head may be a solved one in the end, because what follows need not stay."""
        sure = [phase for phase in self.asked.phases if phase.keep != "better"]
        return bool(sure) and isinstance(sure[-1].fit, Solve)

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
        chosen = {} if self.decided is None else {"auto": self.decided.explained()}
        return {
            "plan": self.details,
            **chosen,
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
