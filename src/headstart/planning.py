"""How a plan is made: images listed, checked, split; the network loaded, the strategy resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.adjust import before_choice, chosen_strategy
from headstart.backbones.base import Backbone
from headstart.cache import Cache, size_limit
from headstart.data.checks.check import Checked, check
from headstart.data.items import Dataset
from headstart.data.sources import open_dataset
from headstart.data.splits.split import Split
from headstart.decided import Decided
from headstart.division import learnable_classes, planned_split
from headstart.embedding import create_backbone
from headstart.memory import FileMemory
from headstart.options import AUTO, Options
from headstart.plan import Plan
from headstart.sizing import size_up
from headstart.strategy.strategy import Strategy
from headstart.training.device import InferencePath, first_path, pick_device
from headstart.training.heads import HeadSpec
from headstart.training.model import Model
from headstart.training.task import SingleLabel

__all__ = ["make_plan", "replanned", "with_choices"]

Progress = Callable[[int, int], None]


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
    given = options if options.strategy == AUTO else None
    if given is not None:
        options = before_choice(given)
    path = first_path(pick_device(options.device), options.precision, options.batch_size)
    HeadSpec.parse(options.head)
    chosen_strategy(given or options)  # a name that nobody knows is told before files are read
    dataset = open_dataset(data, options.reading, cache=cache)
    memory = FileMemory(cache.files)
    checked = check(dataset, memory, max_bad=options.max_bad, progress=progress)
    split = planned_split(checked.items, checked.digests, options)
    classes = learnable_classes(dataset.classes, checked.items, split, options)
    known = _Known(str(data), dataset, checked, split, SingleLabel(classes), path)
    return _plan(known, options, cache, given=given)


def replanned(plan: Plan, options: Options, *, cache: Cache) -> Plan:
    """Return the plan of the same images with other options of the network and the training.

    Raises:
        HeadstartError: The network can't be loaded, or the strategy not run.
    """
    known = _Known(plan.data, plan.dataset, plan.checked, plan.split, plan.task, plan.path)
    return _plan(known, options, cache, given=plan.given)


def with_choices(plan: Plan, decided: Decided, *, cache: Cache) -> Plan:
    """Return the plan of what was decided; it is the same run, and has its spec.

    Raises:
        HeadstartError: The network that was chosen can't be loaded, or the strategy not run.
    """
    chosen = replanned(plan, decided.options, cache=cache)
    return replace(chosen, decided=decided, begun=plan.spec)


@dataclass(frozen=True)
class _Known:
    """What a plan has of its images, whatever the network and the strategy."""

    data: str
    dataset: Dataset
    checked: Checked
    split: Split
    task: SingleLabel
    path: InferencePath


def _plan(known: _Known, options: Options, cache: Cache, *, given: Options | None) -> Plan:
    """Load the network and resolve the strategy."""
    backbone, asked = _network(options, len(known.split.train))
    sized = size_up(
        Model(backbone, known.task.head(backbone.feature_dim, options.head)),
        asked,
        options,
        known.path,
        n_train=len(known.split.train),
        budget=size_limit(cache.folder) // 2,
    )
    return Plan(
        data=known.data,
        dataset=known.dataset,
        checked=known.checked,
        split=known.split,
        backbone=backbone,
        task=known.task,
        asked=asked,
        strategy=sized.strategy,
        sizes=sized.sizes,
        remarks=sized.remarks,
        path=known.path,
        weights_digest=backbone.digest(),
        options=options,
        given=given,
    )


def _network(options: Options, images: int) -> tuple[Backbone, Strategy]:
    """Load the network, or the one that the strategy brings, with the weights it starts from."""
    first = chosen_strategy(options, images=images)
    seed = options.seed if first.weights == "random" else None
    if seed is not None:  # a file of weights is for the strategies that start from it
        options = replace(options, weights=None, allow_partial=False, mean=None, std=None)
    if first.backbone is not None:
        options = replace(options, backbone=first.backbone)
    backbone = create_backbone(options, random=seed)
    return backbone, chosen_strategy(options, len(backbone.stages), images)
