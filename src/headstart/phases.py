"""The phases of a plan, one after the other: what is solved, what is trained, what is kept.

Before a phase that trains, images are decoded once to pixels; a frozen prefix is computed once a
view; a head is solved on features. A checkpoint holds the phase's own state and all that earlier
phases left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.adjust import custom_transform
from headstart.backbones.base import Backbone
from headstart.cache import Cache, Rows
from headstart.data.augment import Augment
from headstart.data.split import Split
from headstart.errors import ModelError
from headstart.log import Log
from headstart.plan import PhaseSize, Plan, epochs_before
from headstart.strategy.phase import Phase, Solve, Train
from headstart.training.boundary import Boundary, Pixels, Stream
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import InferencePath, processor
from headstart.training.engine import Engine, Saver
from headstart.training.examples import Examples
from headstart.training.features import Features, extract
from headstart.training.heads import last_linear
from headstart.training.interrupt import Interruption
from headstart.training.model import Model
from headstart.training.optim import apply
from headstart.training.solve import Solved, solve

__all__ = ["Images", "Phases", "Trained", "as_begun", "machine", "training_path"]

PARTS = ("train", "val", "test")
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """The images of a plan that could be read, in one order; parts are positions among them.

    Attributes:
        indices: (n,) their positions in the plan's items.
        digests: Their n digests.
        names: Their n names.
        labels: (n,) encoded.
        parts: Positions of ``train``, ``val`` and ``test`` among the n.
        pixels: Their pixels, where a phase needs them.
    """

    indices: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels
    parts: dict[str, npt.NDArray[np.int64]]
    pixels: Rows | None

    @classmethod
    def of(
        cls, plan: Plan, split: Split, indices: npt.NDArray[np.int64], pixels: Rows | None
    ) -> Images:
        """Collect what is known of the images at ``indices`` of the plan's items."""
        items = [plan.checked.items[index] for index in indices]
        place = {int(index): row for row, index in enumerate(indices)}
        parts = {
            part: np.array([place[index] for index in getattr(split, part)], dtype=np.int64)
            for part in PARTS
        }
        return cls(
            indices=indices,
            digests=tuple(plan.checked.digests[index] for index in indices),
            names=tuple(item.name for item in items),
            labels=plan.task.encode([item.label for item in items]),
            parts=parts,
            pixels=pixels,
        )


@dataclass(frozen=True)
class Trained:
    """What the phases left.

    Attributes:
        head: The head.
        path: The inference path for predictions.
        records: What happened in each phase, plain JSON.
        solved: The last phase's solution, if it was solved.
        features: The features it was solved on.
        stream: What the last phase read, if it trained.
    """

    head: nn.Module
    path: InferencePath
    records: tuple[dict[str, Any], ...]
    solved: Solved | None
    features: Features | None
    stream: Stream | None


class Phases:
    """Runs the phases of a plan.

    Args:
        plan: What to do.
        images: The images that could be read.
        path: The inference path.
        cache: Where features and boundaries are remembered.
        log: Told of everything.
        checkpoints: Where to save; None keeps none.
        interruption: Holds signals back while steps are taken.
        save_seconds: At most so long between two checkpoints.
        features: The features of all images, where they are known already.
    """

    def __init__(
        self,
        plan: Plan,
        images: Images,
        path: InferencePath,
        cache: Cache,
        log: Log,
        *,
        checkpoints: Checkpoints | None = None,
        interruption: Interruption | None = None,
        save_seconds: float = 300.0,
        features: Features | None = None,
    ) -> None:
        self.plan = plan
        self.images = images
        self.path = path
        self.cache = cache
        self.log = log
        self.checkpoints = checkpoints
        self.interruption = interruption
        self.save_seconds = save_seconds
        self.features = features
        seed = plan.options.seed
        head = plan.task.head(plan.backbone.feature_dim, plan.options.head, seed)
        self.model = Model(plan.backbone, head)
        self.records: list[dict[str, Any]] = []
        self.stream: Stream | None = None

    def run(self, state: State | None = None) -> Trained:
        """Run all phases, or those that are left of an interrupted run.

        Args:
            state: A checkpoint of the same plan.
        """
        first = self._take_up(state) if state is not None else 0
        solved = None
        for number in range(first, len(self.plan.strategy.phases)):
            phase = self.plan.strategy.phases[number]
            self.log.emit("phase-start", phase=number + 1, kind=_kind(phase))
            if isinstance(phase.fit, Solve):
                solved = self._solve(number, phase, phase.fit)
            else:
                solved = None
                resumed = state if number == first else None
                self._train(number, phase, phase.fit, resumed)
            self._conclude(number)
            if (self.records[-1].get("stopped") or {}).get("why") == "not-finite":
                break  # what comes after would start from weights that nobody meant
        self.model.eval()
        return Trained(
            head=self.model.head,
            path=self.path,
            records=tuple(self.records),
            solved=solved,
            features=None if solved is None else self.features,
            stream=None if solved is not None else self.stream,
        )

    def _conclude(self, number: int) -> None:
        """Complete a phase's record, and tell of it."""
        record = self.records[-1]
        record["trainable"] = self.plan.sizes[number].trainable
        event = {name: value for name, value in record.items() if name != "seconds"}
        self.log.emit("phase", took=record["seconds"], **event)

    # -- solving -----------------------------------------------------------------------------

    def _solve(self, number: int, phase: Phase, fit: Solve) -> Solved:
        start = time.monotonic()
        apply(self.model, phase)
        features, images = self._features_now(number), self.images
        row_of = {int(position): row for row, position in enumerate(features.positions)}
        train, val = (
            (features.rows.take([row_of[int(p)] for p in images.parts[part]]), labels)
            for part in ("train", "val")
            for labels in (images.labels[images.parts[part]],)
        )
        balanced = self.plan.options.class_weights == "balanced"
        solved = solve(train, val, fit, balanced=balanced, refit=self.plan.refits)
        last = number == len(self.plan.strategy.phases) - 1
        # val chooses in the phases to come, so until the last one the head has not seen it.
        weight, bias = (
            (solved.weight, solved.bias) if last else (solved.val_weight, solved.val_bias)
        )
        with torch.no_grad():
            layer = last_linear(self.model.head)
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        accuracy = _val_accuracy(solved, val)
        took = {"seconds": round(time.monotonic() - start, 3)}
        record = {"phase": number + 1, "kind": "solve", "val": accuracy, **solved.to_dict(), **took}
        self.records.append(record)
        return solved

    def _features_now(self, number: int) -> Features:
        """Return the features of all images by the backbone as it is at this phase."""
        trained_before = any(
            isinstance(phase.fit, Train) for phase in self.plan.strategy.phases[:number]
        )
        if self.features is not None and not trained_before:
            return self.features
        self.log.emit("stage", stage="features")
        self.features = extract(
            self.plan.backbone,
            (),
            self.images.digests,
            self.cache,
            self.path,
            pixels=self.images.pixels,
            progress=self.log.progress("features"),
        )
        return self.features

    # -- training ----------------------------------------------------------------------------

    def _train(self, number: int, phase: Phase, fit: Train, state: State | None) -> None:
        size = self.plan.sizes[number]
        apply(self.model, phase)
        self.stream = stream = self._stream(phase, size.prefix if size.remembered else 0)
        images = self.images
        examples = Examples(
            stream=stream,
            labels=images.labels,
            names=images.names,
            train=images.parts["train"],
            val=images.parts["val"],
            views=fit.views or 0,
            first_view=epochs_before(self.plan.strategy, number),
        )
        path = training_path(self.plan.backbone, size.prefix, self.path)
        lowest = self._lowest(number)
        engine = Engine(
            self.model,
            self.plan.task,
            phase,
            examples,
            path,
            seed=self.plan.options.seed,
            number=number + 1,
            class_weights=self._class_weights(),
            emit=self.log.emit,
            save=self._saver(number, lowest, stream.start),
            save_seconds=self.save_seconds,
            interruption=self.interruption,
        )
        if state is not None:
            engine.restore(state.position["position"], _without(state.tensors, "earlier"))
        self.records.append(engine.run())

    def _stream(self, phase: Phase, start: int) -> Stream:
        assert self.images.pixels is not None
        options = self.plan.options
        augment = Augment() if phase.augment == "custom" else Augment(phase.augment, phase.symmetry)
        pixels = Pixels(
            self.images.pixels,
            self.images.digests,
            augment,
            options.seed,
            custom=custom_transform(options) if phase.augment == "custom" else None,
        )
        if not start:
            return pixels
        return Boundary(self.plan.backbone, start, pixels, self.cache, self.path)

    def _class_weights(self) -> torch.Tensor | None:
        """Return N / (C * count) of each class, as scikit-learn's ``balanced``; None without."""
        if self.plan.options.class_weights != "balanced":
            return None
        labels = self.images.labels[self.images.parts["train"]]
        counts = np.bincount(labels, minlength=len(self.plan.task.classes))
        return torch.from_numpy(len(labels) / (len(counts) * counts)).float()

    # -- checkpoints -------------------------------------------------------------------------

    def _lowest(self, number: int) -> int:
        """Return the first block that any phase up to this one trains."""
        trained = [
            size.prefix
            for phase, size in zip(self.plan.strategy.phases, self.plan.sizes, strict=True)
            if isinstance(phase.fit, Train)
        ][: number + 1]
        return min(trained)

    def _saver(self, number: int, lowest: int, start: int) -> Saver | None:
        if self.checkpoints is None:
            return None
        checkpoints = self.checkpoints

        def save(position: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
            earlier = {
                f"earlier.{block}.{name}": value
                for block in range(lowest, start)
                for name, value in self.model.blocks[block].state_dict().items()
            }
            document = {
                "phase": number,
                "records": self.records,
                "path": self.path.to_dict(),
                "position": position,
                "sizes": [asdict(size) for size in self.plan.sizes],
                "views": [_views_of(phase) for phase in self.plan.strategy.phases],
                "machine": machine(self.path),
                "threads": torch.get_num_threads(),
            }
            checkpoints.save(State(document, tensors | earlier))
            self.log.emit("checkpoint", phase=number + 1, epoch=position["epoch"])

        return save

    def _take_up(self, state: State) -> int:
        """Load what earlier phases left; return the number of the phase that was interrupted.

        Raises:
            ModelError: The checkpoint is of another strategy, or of another network.
        """
        document = state.position
        self.records = list(document["records"])
        self.path = InferencePath.from_dict(document["path"])
        by_block: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in state.tensors.items():
            if name.startswith("earlier."):
                _, block, rest = name.split(".", 2)
                by_block.setdefault(block, {})[rest] = value
        try:
            for block, tensors in by_block.items():
                self.model.blocks[int(block)].load_state_dict(tensors)
        except (IndexError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"The checkpoint does not fit the network: {str(error).splitlines()[0]}",
                field="checkpoints",
                hint="Fit again with another --out.",
            ) from error
        number = int(document["phase"])
        if number >= len(self.plan.strategy.phases):
            raise ModelError("The checkpoint is of another strategy.", field="checkpoints")
        return number


def as_begun(plan: Plan, state: State) -> Plan:
    """Return a plan with what was decided when its run began by the cache's room at that time."""
    sizes = tuple(PhaseSize(**size) for size in state.position["sizes"])
    phases = tuple(
        replace(phase, fit=replace(phase.fit, views=views))
        if isinstance(phase.fit, Train)
        else phase
        for phase, views in zip(plan.strategy.phases, state.position["views"], strict=True)
    )
    return replace(plan, sizes=sizes, strategy=replace(plan.strategy, phases=phases))


def machine(path: InferencePath) -> dict[str, str]:
    """Return all that changes the numbers of a training step, beside the spec and the threads."""
    packages = ("numpy", "pillow", "torch", "torchvision")
    versions = {package: version(package) for package in packages}
    return {"processor": processor(path.device), "layout": path.layout, **versions}


def _views_of(phase: Phase) -> int | None:
    return phase.fit.views if isinstance(phase.fit, Train) else None


def training_path(backbone: Backbone, prefix: int, path: InferencePath) -> InferencePath:
    """Return how to train the blocks behind ``prefix``: as inference runs, but for one case.

    On a CPU, depthwise convolutions train faster in fp32 than in bf16 (docs/benchmarks.md).
    """
    if path.precision != "bf16" or path.device != "cpu":
        return path
    depthwise = any(
        isinstance(module, nn.Conv2d) and module.groups > 1
        for block in backbone.blocks[prefix:]
        for module in block.module.modules()
    )
    return path.in_fp32() if depthwise else path


def _kind(phase: Phase) -> str:
    return "solve" if isinstance(phase.fit, Solve) else "train"


def _without(tensors: Mapping[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(f"{kind}.")}


def _val_accuracy(solved: Solved, val: tuple[Any, Labels]) -> dict[str, float] | None:
    """Return the accuracy on val of the head that has not seen it."""
    features, labels = val
    if not len(labels):
        return None
    said = (features @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
    return {"accuracy": round(float((said == labels).mean()), 6)}
