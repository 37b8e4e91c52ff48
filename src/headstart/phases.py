"""The phases of a plan, one after the other: what is solved, what is trained, what is kept.

Before a phase that trains, images are decoded once to pixels; a frozen prefix is computed once a
view; a head is solved on features. A checkpoint holds the phase's own state and all that earlier
phases left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.cache import Cache
from headstart.checkpointing import (
    describe,
    earlier_tensors,
    phase_of,
    restore,
    tensors_of_phase,
)
from headstart.clock import Clock
from headstart.feeding import class_weights, stream_of
from headstart.images import Images, Labels
from headstart.log import Log
from headstart.plan import Plan
from headstart.sizing import epochs_before
from headstart.strategy.phase import Phase, Solve, Train
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import InferencePath
from headstart.training.engine import Engine, Saver
from headstart.training.examples import Examples
from headstart.training.features import Features, extract
from headstart.training.heads import last_linear
from headstart.training.interrupt import Interruption
from headstart.training.model import Model
from headstart.training.optim import apply
from headstart.training.pixels import Stream
from headstart.training.solve import Solved, solve

__all__ = ["Phases", "Trained"]


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
        clock: Counts the seconds of the run; by default they begin now.
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
        clock: Clock | None = None,
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
        self.clock = clock or Clock("train")
        seed = plan.options.seed
        head = plan.task.head(plan.backbone.feature_dim, plan.options.head, seed)
        self.model = Model(plan.backbone, head)
        self.records: list[dict[str, Any]] = []
        self.stream: Stream | None = None

    def run(self, state: State | None = None) -> Trained:
        """Run all phases, or those that are left of an interrupted run.

        Args:
            state: A checkpoint of the same plan.

        Raises:
            ModelError: The checkpoint is of another strategy, or of another network.
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
        weights = None
        if images.weights is not None:
            weights = (images.weights[images.parts["train"]], images.weights[images.parts["val"]])
        solved = solve(train, val, fit, balanced=balanced, refit=self.plan.refits, weights=weights)
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
        images = self.images
        start = size.prefix if size.remembered else 0
        stream = stream_of(self.plan, images, phase, start, self.cache, self.path)
        self.stream = stream
        examples = Examples(
            stream=stream,
            labels=images.labels,
            names=images.names,
            train=images.parts["train"],
            val=images.parts["val"],
            views=fit.views or 0,
            first_view=epochs_before(self.plan.strategy, number),
            weights=images.weights,
        )
        engine = Engine(
            self.model,
            self.plan.task,
            phase,
            examples,
            self.path,
            seed=self.plan.options.seed,
            number=number + 1,
            class_weights=class_weights(self.plan, images),
            emit=self.log.emit,
            save=self._saver(number, stream.start),
            save_seconds=self.save_seconds,
            interruption=self.interruption,
        )
        if state is not None:
            engine.restore(state.position["position"], tensors_of_phase(state))
        self.records.append(engine.run())

    # -- checkpoints -------------------------------------------------------------------------

    def _saver(self, number: int, start: int) -> Saver | None:
        """Return what saves phase ``number``, whose own blocks begin at ``start``."""
        if self.checkpoints is None:
            return None
        checkpoints = self.checkpoints

        def save(position: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
            document = describe(
                self.plan,
                number,
                position=position,
                records=self.records,
                path=self.path,
                timings=self.clock.timings(),
            )
            earlier = earlier_tensors(self.plan, self.model, number, start)
            checkpoints.save(State(document, tensors | earlier))
            self.log.emit("checkpoint", phase=number + 1, epoch=position["epoch"])

        return save

    def _take_up(self, state: State) -> int:
        """Load what earlier phases left; return the number of the phase that was interrupted."""
        self.records = list(state.position["records"])
        self.path = InferencePath.from_dict(state.position["path"])
        restore(self.model, state)
        return phase_of(self.plan, state)


def _kind(phase: Phase) -> str:
    return "solve" if isinstance(phase.fit, Solve) else "train"


def _val_accuracy(solved: Solved, val: tuple[Any, Labels]) -> dict[str, float] | None:
    """Return the accuracy on val of the head that has not seen it."""
    features, labels = val
    if not len(labels):
        return None
    said = (features @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
    return {"accuracy": round(float((said == labels).mean()), 6)}
