"""The phases of a plan, one after the other: what is solved, what is trained, what is kept.

Before a phase that trains, images are decoded once to pixels; a frozen prefix is computed once a
view; a head is solved on features. A checkpoint holds the phase's own state and all that earlier
phases left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
from headstart.data.checks.findings import Finding
from headstart.feeding import class_weights, examples_of
from headstart.images import Images
from headstart.log import Log
from headstart.phase_guard import guard, guard_training
from headstart.plan import Plan
from headstart.solving import put_in, solution, val_accuracy
from headstart.strategy.phase import Phase, Solve, Train
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.deadline import Deadline
from headstart.training.device import InferencePath
from headstart.training.engine import Engine, Saver
from headstart.training.features import Features, extract
from headstart.training.interrupt import Interruption
from headstart.training.keeping import LEAST_PUT_RIGHT
from headstart.training.model import Model
from headstart.training.optim import apply
from headstart.training.pixels import Stream
from headstart.training.record import gone_back, skipped
from headstart.training.solve import Solved

__all__ = ["Phases", "Trained"]


@dataclass(frozen=True)
class Trained:
    """What the phases left.

    Attributes:
        head: The head.
        path: The inference path for predictions.
        records: What happened in each phase, plain JSON.
        solved: The solution of the head, if nothing was trained since that stayed.
        features: The features it was solved on.
        stream: What the last phase that trained has read, where the head was not solved.
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
        deadline: By when training should be over. A phase that has no time for an epoch is left
            out, unless it is the first; a head is solved in any case.
        predicted: Seconds that each phase was predicted to take; None where nobody knows.
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
        deadline: Deadline | None = None,
        predicted: Sequence[float | None] | None = None,
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
        self.deadline = deadline
        self.predicted = predicted or [None] * len(plan.strategy.phases)
        seed = plan.options.seed
        head = plan.task.head(plan.backbone.feature_dim, plan.options.head, seed)
        self.model = Model(plan.backbone, head)
        self.records: list[dict[str, Any]] = []
        self._solved: Solved | None = None
        self.stream: Stream | None = None
        self._found: list[dict[str, Any]] = []

    def run(self, state: State | None = None) -> Trained:
        """Run all phases, or those that are left of an interrupted run.

        Args:
            state: A checkpoint of the same plan.

        Raises:
            ModelError: The checkpoint is of another strategy, or of another network.
        """
        first = self._take_up(state) if state is not None else 0
        for number in range(first, len(self.plan.strategy.phases)):
            self._phase(number, state if number == first else None)
            if (self.records[-1].get("stopped") or {}).get("why") == "not-finite":
                break  # what comes after would start from weights that nobody meant
        solved = self._solution_that_stayed()
        self.model.eval()
        return Trained(
            head=self.model.head,
            path=self.path,
            records=tuple(self.records),
            solved=solved,
            features=None if solved is None else self.features,
            stream=None if solved is not None else self.stream,
        )

    def _phase(self, number: int, state: State | None) -> None:
        """Run a phase, go on with it from ``state``, or leave it out."""
        phase = self.plan.strategy.phases[number]
        self._found = []
        reason = None if state is not None else self._why_not(number, phase)
        if reason is not None:
            self.records.append(skipped(number + 1, phase, reason))
            self._conclude(number)
            return
        predicted = self.predicted[number]
        if predicted is not None:
            self.log.emit("predicted", phase=number + 1, took=round(predicted, 3))
        self.log.emit("phase-start", phase=number + 1, kind=_kind(phase))
        self._tell(number, guard(self.plan, self.images, self.model, number))
        if isinstance(phase.fit, Solve):
            self._solve(number, phase, phase.fit)
        else:
            self._train(number, phase, state)
        self._conclude(number)

    def _why_not(self, number: int, phase: Phase) -> str | None:
        """Say why a phase that trains is left out; None where it runs."""
        if isinstance(phase.fit, Solve):
            return None
        if phase.keep == "better" and (reason := self._unprovable()) is not None:
            return reason
        if self.deadline is None or number == 0:
            return None
        left, whole = self.deadline.left(), self.predicted[number]
        if whole is not None and left < whole / phase.fit.epochs:
            epoch = f"an epoch would take about {whole / phase.fit.epochs:.0f} s"
            return f"no time for an epoch of it: {epoch}, and {max(0.0, left):.0f} s were left"
        return "the time is over" if left <= 0 else None

    def _unprovable(self) -> str | None:
        """Say why val could not tell whether another phase helps; None where it may."""
        n = len(self.images.parts["val"])
        if not n:
            return "there are no val images to tell whether it helps"
        before = next((it for it in reversed(self.records) if not gone_back(it)), None)
        if before is None or before["kind"] != "solve" or before["val"] is None:
            return None
        wrong = round((1 - before["val"]["accuracy"]) * n)
        if wrong >= LEAST_PUT_RIGHT:
            return None
        if wrong:
            return f"of {n} val images 1 is wrong, and one more that is right could be luck"
        return f"of {n} val images none is wrong, so that none could be put right"

    def _conclude(self, number: int) -> None:
        """Complete a phase's record, and tell of it."""
        record = self.records[-1]
        record["trainable"] = self.plan.sizes[number].trainable
        if self._found:
            record["findings"] = self._found
        event = {name: value for name, value in record.items() if name != "seconds"}
        self.log.emit("phase", took=record["seconds"], **event)

    def _tell(self, number: int, findings: Sequence[Finding]) -> None:
        """Keep what the guard found for the phase's record, and tell of it at once."""
        told = [finding.to_dict() for finding in findings]
        for finding in told:
            self.log.emit("finding", phase=number + 1, **finding)
        self._found += told

    # -- solving -----------------------------------------------------------------------------

    def _solve(self, number: int, phase: Phase, fit: Solve) -> None:
        start = time.monotonic()
        apply(self.model, phase)
        features = self._features_now(number)
        self._solved = solved = solution(self.plan, self.images, features, fit)
        # val may choose in phases to come, so until the end the head has not seen it.
        put_in(self.model.head, solved.val_weight, solved.val_bias)
        val = {"val": val_accuracy(self.images, features, solved)}
        took = {"seconds": round(time.monotonic() - start, 3)}
        record = {"phase": number + 1, "kind": "solve", **val, **solved.to_dict(), **took}
        self.records.append(record)

    def _solution_that_stayed(self) -> Solved | None:
        """Return the solution that the head is, its last step now taken; None where it trained.

        What comes after a solved head may not have been kept. All is decided then, and the head
        becomes what it would have been without: solved on val too, where that is wanted.
        """
        number = next(
            (n for n in reversed(range(len(self.records))) if not gone_back(self.records[n])), None
        )
        phase = None if number is None else self.plan.strategy.phases[number]
        if number is None or phase is None or not isinstance(phase.fit, Solve):
            return None
        if self._solved is None:  # by an earlier session: the same features, so the same again
            features = self._features_now(number)
            self._solved = solution(self.plan, self.images, features, phase.fit)
        put_in(self.model.head, self._solved.weight, self._solved.bias)
        return self._solved

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

    def _train(self, number: int, phase: Phase, state: State | None) -> None:
        apply(self.model, phase)
        images = self.images
        examples = examples_of(self.plan, images, number, self.cache, self.path)
        self.stream = stream = examples.stream
        weights = class_weights(self.plan, images)
        engine = Engine(
            self.model,
            self.plan.task,
            phase,
            examples,
            self.path,
            seed=self.plan.options.seed,
            number=number + 1,
            class_weights=weights,
            emit=self.log.emit,
            save=self._saver(number, stream.start),
            save_seconds=self.save_seconds,
            interruption=self.interruption,
            deadline=self.deadline,
            predicted=self.predicted[number],
        )
        if state is not None:
            engine.restore(state.position["position"], tensors_of_phase(state))
        self._tell(number, guard_training(self.plan, engine, weights))
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
