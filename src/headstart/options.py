"""Everything a fit can be asked for, in one place. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from headstart.backbones.earlier import find_earlier
from headstart.data import choosing
from headstart.data.named import as_text
from headstart.data.reading import Reading
from headstart.data.splits.fold import Fold
from headstart.errors import UsageError
from headstart.inputspec import Resize

if TYPE_CHECKING:
    from headstart.strategy.strategy import Strategy

__all__ = [
    "AUTO",
    "DEFAULT_BACKBONE",
    "DEFAULT_BUDGET_S",
    "GATES",
    "Options",
]

AUTO = "auto"
DEFAULT_BACKBONE = "bundled:efficientnet_lite0"
DEFAULT_BUDGET_S = 600.0
"""Nobody who names no budget waits longer for ``auto``: ten minutes."""
GATES = ("accuracy", "balanced_accuracy", "macro_f1")
CLASS_WEIGHTS = ("none", "balanced")
AUGMENTATIONS = ("none", "light", "standard", "strong", "shear-zoom")
SYMMETRIES = ("none", "flip", "square")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``headstart.fit``; those of the command line have the same names.

    Attributes:
        backbone: ``zoo:name`` of the pre-trained network; "" is that of the run in ``weights``, or
            else ``DEFAULT_BACKBONE``.
        weights: A file of weights to load into it instead of the zoo's own, or the folder of an
            earlier run, whose network is then taken without its head.
        allow_partial: Take what of ``weights`` fits the network, and leave the rest random.
        mean: The mean that ``weights`` were trained with, where no file beside them says so: one
            number, or three for red, green and blue, in units of 0..1, or of 0..255 if any is
            above 1. Kept as three.
        std: The standard deviation, likewise.
        strategy: Name of the strategy, its arguments included, or the path of a .toml file;
            ``auto`` chooses, and says why (``docs/plan.md``).
        budget: Seconds that a fit may take, imports not counted; None is ten minutes for ``auto``
            and no limit for others.
        head: ``linear``, ``linear,dropout=0.2``, ``mlp:256,dropout=0.5/0.3`` and the like.
        epochs: Epochs of every phase that trains; a strategy without one then trains its head.
        lr: The highest learning rate of the strategy; its other rates keep their proportion to it.
        augment: ``none``, ``light``, ``standard``, ``strong`` or ``shear-zoom`` in every phase that
            trains; from Python also a torchvision v2 transform of uint8 images (3, H, W).
        symmetry: Which mirror images mean the same: ``none``, ``flip`` or ``square``.
        average: Average predictions over these mirror images: ``none``, ``flip`` or ``square``;
            ``auto`` is for the strategy ``auto`` to choose, and its default.
        views: How many augmented views of each image there are, beside the plain one.
        train: Other fields of ``Train`` for every phase that trains, such as
            ``{"optimizer": "sgd", "mixup": 0.2}``.
        size: Side of the input in pixels, for networks that take another than their own.
        resize: ``crop``, ``squash`` or ``pad``; None is the network's own rule.
        split: Shares of train, val and test, for what the data itself gives no split; or a CSV file
            with the columns name and split, as a run keeps it in split.csv.
        fold: Which fold is test, as ``2/5``: the data is dealt into five by the split's seed.
        limit: Train on this many images at most, stratified; val and test stay whole.
        limit_per_class: Train on this many images a class at most.
        class_weights: ``balanced`` gives rare classes the weight of common ones in training.
        seed: Decides whatever is drawn, and the split unless ``split_seed`` does.
        split_seed: Decides the split; None is ``seed``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto``, ``fp32`` or ``bf16``, of the frozen network's forward pass.
        batch_size: Images a step and a forward pass; None is the strategy's, and the device's.
        refit: Solve a head that is solved last once more, on train and val together, unless the
            training images are limited.
        audit: Check the images by their features once these are there (``docs/audit.md``).
        save_minutes: A run that trains is saved after each epoch, and at least this often.
        max_bad: Share of unreadable images above which the data is refused.
        columns: A table's own names for some of its columns, such as ``{"label": "species"}``;
            this and what follows, as ``headstart.data.reading.Reading`` has it.
        root: The folder that a table's paths lie in, or where a named data set is kept.
        nested: Every folder that holds images directly is a class.
        classes: The classes to use, in this order; None is all, sorted.
        group_by: A regular expression that finds an image's group in its name.
        test: Another source, whose images are the test part.
        minimum: Test metrics that must be reached, such as ``{"accuracy": 0.9}``.
        allow_noncommercial: Take weights whose licence forbids commercial use.
    """

    backbone: str = ""
    weights: Path | None = None
    allow_partial: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    strategy: str | Strategy = AUTO
    budget: float | None = None
    head: str = "linear"
    epochs: int | None = None
    lr: float | None = None
    augment: str | Callable[[Any], Any] | None = None
    symmetry: str | None = None
    average: str = ""
    views: int | None = None
    train: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    resize: str | None = None
    split: tuple[float, float, float] | Path | None = None
    fold: str | None = None
    limit: int | None = None
    limit_per_class: int | None = None
    class_weights: str = "none"
    seed: int = 0
    split_seed: int | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    refit: bool = True
    audit: bool = True
    save_minutes: float = 5.0
    max_bad: float = 0.01
    columns: dict[str, str] = field(default_factory=dict)
    root: Path | None = None
    nested: bool = False
    classes: tuple[str, ...] | None = None
    group_by: str | None = None
    test: str | None = None
    minimum: dict[str, float] = field(default_factory=dict)
    allow_noncommercial: bool = False

    @property
    def reading(self) -> Reading:
        """How the images are read."""
        return Reading(
            columns=self.columns,
            root=self.root,
            nested=self.nested,
            classes=self.classes,
            group_by=self.group_by,
            test=self.test,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back.

        A transform given from Python has none, and is named only.
        """
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}
        for name in ("weights", "root", "split"):
            document[name] = str(path) if isinstance(path := document[name], Path) else path
        if not isinstance(self.strategy, str):
            document["strategy"] = self.strategy.to_dict()
        if callable(self.augment):
            document["augment"] = {"transform": repr(self.augment)}
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Options:
        """Build options from ``to_dict``'s result.

        Raises:
            UsageError: They hold a transform that was given from Python.
        """
        values = dict(document)
        if isinstance(values["augment"], dict):
            raise UsageError(
                "The run was made with a transform given from Python, which no file can hold.",
                field="augment",
                hint="Call headstart.fit with the same arguments again: it goes on.",
            )
        if isinstance(values["strategy"], dict):
            from headstart.strategy.strategy import Strategy

            values["strategy"] = Strategy.from_dict(values["strategy"])
        for name in ("mean", "std", "split"):
            if isinstance(values[name], list):
                values[name] = tuple(values[name])
        return cls(**values)

    def __post_init__(self) -> None:
        """Fill in the name of the backbone, and check everything.

        Raises:
            UsageError: An option can't be used.
            ModelError: ``weights`` is a folder, but not of a finished run.
        """
        kinds: dict[str, Callable[[Any], Any]]
        kinds = {"weights": Path, "root": Path, "test": _source, "classes": _names, "columns": dict}
        for name, kind in kinds.items():
            if (value := getattr(self, name)) is not None:  # of another type, from Python or JSON
                object.__setattr__(self, name, kind(value))
        if isinstance(self.split, str):
            object.__setattr__(self, "split", Path(self.split))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _channels(getattr(self, name)))
        chooses = self.strategy == AUTO
        if self.backbone == "":
            own = AUTO if chooses and self.weights is None else _backbone_of(self.weights)
            object.__setattr__(self, "backbone", own)
        if self.average == "":
            object.__setattr__(self, "average", AUTO if chooses else "none")
        problems = list(self._problems())
        if problems:
            fields = ", ".join(dict.fromkeys(name for name, _ in problems))
            text = "; ".join(f"--{name} {problem}" for name, problem in problems)
            raise UsageError(f"These options can't be used: {text}.", field=fields)

    def _problems(self) -> list[tuple[str, str]]:
        """Collect all that is wrong, as (option, what must hold and what was got)."""
        found = []
        counts = {
            "size": self.size,
            "limit": self.limit,
            "limit-per-class": self.limit_per_class,
            "batch-size": self.batch_size,
            "epochs": self.epochs,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                found.append((name, f"must be at least 1, not {count}"))
        if self.lr is not None and not 0 < self.lr < math.inf:
            found.append(("lr", f"must be above 0, not {self.lr}"))
        if self.budget is not None and not 0 < self.budget < math.inf:
            found.append(("budget", f"must be above 0 seconds, not {self.budget}"))
        if not self.save_minutes > 0:
            found.append(("save-minutes", f"must be above 0, not {self.save_minutes}"))
        if self.views is not None and self.views < 0:
            found.append(("views", f"must be 0 or more, not {self.views}"))
        for name, seed in (("seed", self.seed), ("split-seed", self.split_seed)):
            if seed is not None and seed < 0:
                found.append((name, f"must be 0 or more, not {seed}"))
        if not 0 <= self.max_bad <= 1:
            found.append(("max-bad", f"must be a share from 0 to 1, not {self.max_bad}"))
        chosen = (AUTO,) if self.strategy == AUTO else ()
        for name, choice, choices in (
            ("resize", self.resize, get_args(Resize)),
            ("class-weights", self.class_weights, CLASS_WEIGHTS),
            ("precision", self.precision, ("auto", "fp32", "bf16")),
            ("augment", self.augment if isinstance(self.augment, str) else None, AUGMENTATIONS),
            ("symmetry", self.symmetry, SYMMETRIES),
            ("average", self.average, (*SYMMETRIES, *chosen)),
        ):
            if choice is not None and choice not in choices:
                found.append((name, f"must be one of {', '.join(choices)}, not {choice!r}"))
        for metric, value in self.minimum.items():
            if metric not in GATES:
                found.append(("min", f"knows {', '.join(GATES)}, not {metric!r}"))
            elif not 0 <= value <= 1:
                found.append(("min", f"needs a share from 0 to 1 for {metric}, not {value}"))
        if self.backbone == AUTO and not chosen:
            found.append(("backbone", f"can be {AUTO} only where the strategy is {AUTO}"))
        if self.backbone == AUTO and self.weights is not None:
            found.append(("backbone", f"must be named where --weights are given, not {AUTO}"))
        found += choosing.problems(self.reading)
        if self.fold is not None:
            if not Fold.fits(self.fold):
                found.append(("fold", f"must be one of 2 or more, as 2/5, not {self.fold!r}"))
            if self.split is not None:
                found.append(("fold", "decides the split; leave --split out"))
        if self.allow_partial and self.weights is None:
            found.append(("allow-partial", "is about a file of weights; it needs --weights"))
        for name, triple in (("mean", self.mean), ("std", self.std)):
            if triple is None:
                continue
            if self.weights is None:
                found.append((name, "describes a file of weights; it needs --weights"))
            numbers = all(isinstance(value, Real) and math.isfinite(value) for value in triple)
            if len(triple) != 3 or not numbers:
                found.append((name, f"must be one number or three, not {triple}"))
        return found


def _names(values: Any) -> tuple[str, ...]:
    """Return names as a tuple; one by itself is one name."""
    return (values,) if isinstance(values, str) else tuple(values)


def _source(value: Any) -> str:
    """Return a source of images as text, which the run's files can hold."""
    if not isinstance(value, (str, Path)):
        raise UsageError(
            f"test must be a path or the name of a data set, not {type(value).__name__}.",
            field="test",
            hint='Give Python objects together: data={"train": …, "test": …}.',
        )
    return as_text(value)


def _channels(values: Any) -> tuple[Any, ...] | None:
    """Give each of three channels its number, where there is one number for all."""
    if values is None:
        return None
    given = (values,) if isinstance(values, Real) else tuple(values)
    return given * 3 if len(given) == 1 else given


def _backbone_of(weights: Path | None) -> str:
    """Return the backbone to take where none is named."""
    if weights is None or not weights.is_dir():
        return DEFAULT_BACKBONE
    return find_earlier(weights).backbone
