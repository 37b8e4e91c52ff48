"""The learning-rate range test: a few steps at rates that grow, to see where the loss falls.

Smith 2015 (arXiv:1506.01186), with exponential growth and smoothing as in fastai's ``lr_find``. A
copy of the model takes the first steps of a phase, from its own batches with its own optimizer,
while the rate rises from one step to the next; where the loss falls fastest, where it rises again
and where it diverges says which rates are of use.

Pre-trained networks start low, so that what a batch happens to hold moves the loss more than
learning does. Each loss is therefore compared with that of the same batch, augmented, mixed and
dropped out alike, before anything was learnt; what is smoothed is the difference.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.errors import ResourceError, UnknownName, UsageError
from headstart.strategy.phase import Phase, Rate, Train
from headstart.training.accelerator import make_accelerator
from headstart.training.adaptation import adapt
from headstart.training.chance import chance
from headstart.training.device import InferencePath, keep_freed_memory, memory_format, out_of_memory
from headstart.training.examples import Examples
from headstart.training.gradients import Gradients
from headstart.training.model import Model
from headstart.training.optim import apply, make_optimizer, parameter_groups
from headstart.training.pixels import Progress
from headstart.training.precision import depthwise_in_fp32
from headstart.training.range_batches import (
    Batch,
    first_batches,
    guessing_loss,
    planned_steps,
)
from headstart.training.range_record import RangeTest
from headstart.training.suggestion import diverged, smooth, suggest
from headstart.training.tail import Tail
from headstart.training.task import SingleLabel

__all__ = ["ALL", "RangeTester"]

ALL = "all"
"""The name of the test that moves all rates of a phase together."""

_LEAST = 10
_RANGES = {"adamw": (1e-6, 1.0), "adam": (1e-6, 1.0), "sgd": (1e-5, 10.0)}


class RangeTester:
    """Range tests of one phase, from one start; the model that is given stays as it is.

    Args:
        model: The network and its head, as the phase finds them. A copy is trained.
        task: What labels mean.
        phase: Its ``fit`` is a ``Train``. Schedule and averaging of weights have no part in it.
        examples: What to train on; val is not looked at.
        path: Device, precision and layout.
        seed: Of all that is drawn: the batches are those that the phase begins with.
        number: The phase's number, from 1.
        class_weights: (C,) weight of each class in the loss, or None.
        steps: How many rates are tried; by default ``planned_steps``.
        between: The lowest and the highest rate; by default by the optimizer.
        deadline: All tests together end after so many seconds; None takes as long as it takes.
        progress: Called with (done, total) steps of all tests.

    Raises:
        UsageError: There are fewer than ten steps, or the lowest rate is not above 0 and below
            the highest.
    """

    def __init__(
        self,
        model: Model,
        task: SingleLabel,
        phase: Phase,
        examples: Examples,
        path: InferencePath,
        *,
        seed: int = 0,
        number: int = 1,
        class_weights: torch.Tensor | None = None,
        steps: int | None = None,
        between: tuple[float, float] | None = None,
        deadline: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        assert isinstance(phase.fit, Train)
        steps = planned_steps(examples, phase.fit) if steps is None else steps
        low, high = _RANGES[phase.fit.optimizer] if between is None else between
        _check(steps, low, high)
        self.phase = phase
        self.train: Train = phase.fit
        self.examples = examples
        self.path = path
        self.rates: npt.NDArray[np.float64] = np.geomspace(low, high, steps)
        self._chance, self._weighted = chance(seed, number, "adapt"), class_weights is not None
        self._parts = 1
        self._progress = progress or _unseen
        self._passed = 0
        self._end = math.inf if deadline is None else time.monotonic() + deadline
        self.guessing = guessing_loss(examples, task, self.train, class_weights)
        self._batches = first_batches(examples, self.train, steps + 1, seed, number)
        self._set_up(model, task, class_weights)

    def _set_up(self, model: Model, task: SingleLabel, class_weights: torch.Tensor | None) -> None:
        """Copy, freeze, move and prepare by accelerate, as the engine does."""
        keep_freed_memory(self.path)
        self._accelerator = make_accelerator(self.path)
        self._model = copy.deepcopy(model)
        apply(self._model, self.phase)
        self._model.to(self._accelerator.device).to(memory_format=memory_format(self.path))
        self._tail = Tail(self._model, self.examples.stream.start)
        self._start = {n: value.detach().clone() for n, value in self._tail.state_dict().items()}
        runner = self._accelerator.prepare(self._tail)
        self._gradients = Gradients(
            self._model, runner, self._accelerator, task, self.train, self.path, class_weights
        )
        self._trainable = [p for p in self._tail.parameters() if p.requires_grad]

    @property
    def groups(self) -> tuple[str, ...]:
        """What can be tested: ``all`` rates together; then, of several, each pattern alone."""
        marked = {int(group["lr"]) for group in self._marked()}
        alone = [
            rate.pattern for number, rate in enumerate(self.phase.rates, 1) if number in marked
        ]
        return (ALL, *(alone if len(alone) > 1 else ()))

    def _marked(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups, each with the number of its pattern for a rate.

        ``parameter_groups`` puts patterns of equal rates together, which are to be moved apart.
        """
        rates = enumerate(self.phase.rates, start=1)
        numbered = (Rate(r.pattern, None if r.rate is None else float(n)) for n, r in rates)
        return parameter_groups(self._model, replace(self.phase, rates=tuple(numbered)))

    def run(self, groups: Sequence[str] | None = None) -> tuple[RangeTest, ...]:
        """Let the rates of some groups grow, one test after the other.

        A test for which the time is too short, going by the first, is not begun.

        Args:
            groups: Of ``groups``, by default all of them.

        Raises:
            UnknownName: There is no such group.
        """
        groups = self.groups if groups is None else groups
        for group in groups:
            if group not in self.groups:
                raise UnknownName("group of rates", group, self.groups, field="find-rate")
        self._total = len(self._batches) * (len(groups) + 1)
        with depthwise_in_fp32(self.path, self._tail.trained()):
            self._adapt()
            before = self._losses_before()
            found: list[RangeTest] = []
            for group in groups:
                if found and time.monotonic() + found[0].seconds > self._end:
                    break
                found.append(self._test(group, before))
        return tuple(found)

    def _adapt(self) -> None:
        """Begin where the phase would: with batch norms and a head that fit the images."""
        if self.train.batch_norm != "adapt":
            return
        view = self._batches[0].view
        self.examples.stream.prepare(view, self.examples.train)
        self._tail.load_state_dict(self._start)
        self._model.train()
        adapt(
            self._tail,
            self.examples,
            self.path,
            self.train,
            view=view,
            seed=self._chance,
            weighted=self._weighted,
        )
        self._start = {n: value.detach().clone() for n, value in self._tail.state_dict().items()}

    def _losses_before(self) -> list[float]:
        """Return the loss of each batch before anything is learnt; of fewer if time is short."""
        awake = [parameter for parameter in self._tail.parameters() if parameter.requires_grad]
        for parameter in awake:
            parameter.requires_grad_(False)
        heads = list(self._model.head.parameters())
        for parameter in heads:
            parameter.requires_grad_(True)  # no graph but the head's: it costs a forward pass
        found = [loss for loss, _ in self._passes()]
        for parameter in heads:
            parameter.requires_grad_(False)
        for parameter in awake:
            parameter.requires_grad_(True)
        return found[1:]  # the first batch is only learnt from

    def _test(self, group: str, before: Sequence[float]) -> RangeTest:
        """Let the rate of a group grow, all others being 0, and say what comes of it."""
        begun = time.monotonic()
        planned, losses, stopped = self._sweep(group, before)
        n = len(losses)
        rates = self.rates[:n].tolist()
        advice = suggest(rates, losses, before, stopped=stopped, guessing=self.guessing)
        return RangeTest(
            group=group,
            planned=planned,
            rates=tuple(rates),
            losses=tuple(losses),
            before=tuple(before[:n]),
            guessing=self.guessing,
            smoothed=tuple(smooth(losses, before)),
            suggestion=advice.rate,
            highest_good_rate=advice.highest_good_rate,
            reason=advice.reason,
            rules=advice.rules,
            stopped=stopped,
            seconds=round(time.monotonic() - begun, 3),
        )

    def _sweep(self, group: str, before: Sequence[float]) -> tuple[float, list[float], str | None]:
        """Return the group's rate in the phase, the loss after each step, and what ended it."""
        self._tail.load_state_dict(self._start)
        groups = self._marked()
        rates = [self.phase.rates[int(marked["lr"]) - 1] for marked in groups]
        theirs = [(rate.rate or 0.0) * (group in (ALL, rate.pattern)) for rate in rates]
        planned = max(theirs)
        optimizer = make_optimizer(groups, self.train)
        stepper = self._accelerator.prepare(optimizer)
        losses: list[float] = []
        for step, (loss, norm) in enumerate(self._passes()):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return planned, losses, "not-finite"
            losses += [loss] * (step > 0)
            if diverged(losses, before):
                return planned, losses, "diverged"
            if step == len(before):
                break
            for torch_group, rate in zip(optimizer.param_groups, theirs, strict=True):
                torch_group["lr"] = float(self.rates[step]) * rate / planned
            stepper.step()
        return planned, losses, None if len(losses) == len(self.rates) else "deadline"

    # -- passes ------------------------------------------------------------------------------

    def _passes(self) -> Iterator[tuple[float, float]]:
        """Yield the loss and the gradients' norm of each batch, the gradients being in place.

        It ends with the batches, or when the time is up.
        """
        self._model.train()
        done, self._passed = self._passed * len(self._batches), self._passed + 1
        for step, (batch, values) in enumerate(zip(self._batches, self._values(), strict=True), 1):
            if time.monotonic() >= self._end:
                break
            yield self._backward(values, batch)
            self._progress(done + step, self._total)

    def _values(self) -> Iterator[torch.Tensor]:
        """Yield what the batches hold; images that come with the same view are had together."""
        stream = self.examples.stream
        for view, some in groupby(self._batches, key=lambda batch: batch.view):
            order = [batch.positions for batch in some]
            stream.prepare(view, np.unique(np.concatenate(order)))
            yield from stream.batches(view, order)

    def _backward(self, values: torch.Tensor, batch: Batch) -> tuple[float, float]:
        """Compute a batch's gradients, in parts where memory is short; clip them."""
        labels = torch.from_numpy(self.examples.labels[batch.positions])
        given = self.examples.weights
        weights = None if given is None else torch.from_numpy(given[batch.positions])
        while True:
            self._tail.zero_grad()
            try:
                loss = self._gradients.compute(
                    values, labels, weights=weights, parts=self._parts, seed=batch.seed
                )
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._halve(len(labels))
                continue
            return loss, self._gradients.clip(self._trainable)

    def _halve(self, size: int) -> None:
        if self._parts >= size:
            raise ResourceError(
                "There is not enough memory to train on a single image at a time.",
                field="batch-size",
                hint="Take smaller images (--size) or a smaller network "
                "(--backbone bundled:efficientnet_lite0).",
            )
        self._parts *= 2
        if self.path.device.startswith("cuda"):
            torch.cuda.empty_cache()


def _check(steps: int, low: float, high: float) -> None:
    if steps < _LEAST or not 0 < low < high < math.inf:
        raise UsageError(
            f"A range test needs at least {_LEAST} steps and a lowest rate that is above 0 and "
            f"below the highest, not {steps} steps from {low:g} to {high:g}.",
            field="find-rate",
            hint="Leave them out: both are chosen by the optimizer and the number of images.",
        )


def _unseen(done: int, total: int) -> None:
    """Show nobody how far it is."""
