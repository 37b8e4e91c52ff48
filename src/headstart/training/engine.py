"""The training loop: one phase of mini-batch training, from any module, task and stream.

Where training stands is a ``Position``, plain JSON; together with the tensors of the model, the
optimizer and the averages it is all that a checkpoint holds, and an interrupted phase goes on bit
by bit. Order is drawn from (seed, phase, epoch), augmentation from (seed, view, image), dropout and
mixing from (seed, phase, epoch, step): no global generator, so nothing depends on what ran before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.errors import ModelError, ResourceError
from headstart.strategy.phase import Phase, Train
from headstart.training.accelerator import make_accelerator
from headstart.training.adaptation import adapt
from headstart.training.chance import chance
from headstart.training.deadline import Deadline, fit_in, pace_of
from headstart.training.device import (
    InferencePath,
    keep_freed_memory,
    memory_format,
    out_of_memory,
)
from headstart.training.examples import Examples, batches_of, epoch_order
from headstart.training.gradients import Gradients
from headstart.training.interrupt import Interruption
from headstart.training.judge import judge, probabilities
from headstart.training.keeping import Verdict, compare
from headstart.training.model import Model
from headstart.training.optim import (
    apply,
    factor,
    make_optimizer,
    parameter_groups,
    plateau_drops,
    rates_by_group,
)
from headstart.training.position import Position
from headstart.training.precision import depthwise_in_fp32
from headstart.training.state import collect, put_back
from headstart.training.tail import Tail
from headstart.training.task import SingleLabel

__all__ = ["Engine", "Saver"]

Emit = Callable[..., None]


class Saver(Protocol):
    """Called with the phase's position and tensors where a checkpoint is due."""

    def __call__(self, position: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Save what ``Engine.state`` returned."""


class Engine:
    """One phase of training.

    Args:
        model: The network and its head, which are trained in place.
        task: What labels mean.
        phase: Its ``fit`` is a ``Train``.
        examples: What to train on.
        path: Device, precision and layout.
        seed: Of all that is drawn.
        number: The phase's number, from 1.
        class_weights: (C,) weight of each class in the loss, or None.
        emit: Called with each event, as ``Log.emit``.
        save: Called after each epoch and every ``save_seconds``; None keeps no checkpoint.
        save_seconds: At most so long between two checkpoints.
        interruption: Holds signals back while steps are taken, and is asked after each whether
            to leave.
        deadline: By when it should be over: epochs that the time has no room for are not begun,
            so that the schedule still comes to its end, and a step beyond it is the last.
        predicted: Seconds that the phase was predicted to take, until its own epochs tell.
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
        emit: Emit | None = None,
        save: Saver | None = None,
        save_seconds: float = 300.0,
        interruption: Interruption | None = None,
        deadline: Deadline | None = None,
        predicted: float | None = None,
    ) -> None:
        assert isinstance(phase.fit, Train)
        self.model = model
        self.task = task
        self.phase = phase
        self.train: Train = phase.fit
        self.examples = examples
        self.path = path
        self.seed = seed
        self.number = number
        self.emit = emit or _nobody
        self.save = save
        self.save_seconds = save_seconds
        self.interruption = interruption
        self.deadline = deadline
        self.predicted = predicted
        self.position = Position(epochs=self.train.epochs)
        self.best: dict[str, torch.Tensor] = {}
        self.first: dict[str, torch.Tensor] = {}  # only where it may have to go back to it
        self._class_weights = class_weights
        self._now = time.monotonic if deadline is None else deadline.now
        self._saved = time.monotonic()
        self._clock = self._now()
        self._set_up()

    def _set_up(self) -> None:
        """Freeze, move and prepare by accelerate."""
        keep_freed_memory(self.path)
        accelerator = make_accelerator(self.path)
        apply(self.model, self.phase)
        # The layout decides the order of sums, and must not depend on what ran before.
        self.model.to(accelerator.device).to(memory_format=memory_format(self.path))
        self.tail = Tail(self.model, self.examples.stream.start)
        self.optimizer = make_optimizer(parameter_groups(self.model, self.phase), self.train)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.average = _average(self.tail, self.train)  # a copy, so before the tail is wrapped
        runner, self._stepper = accelerator.prepare(self.tail, self.optimizer)
        self.gradients = Gradients(
            self.model, runner, accelerator, self.task, self.train, self.path, self._class_weights
        )
        self._trainable = [p for p in self.tail.parameters() if p.requires_grad]
        moving = self.train.batch_norm != "hold"
        self._statistics = list(self.tail.buffers()) if moving else []

    # -- where it stands ---------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the position and all tensors, from which ``restore`` goes on bit by bit."""
        self._tick()
        tensors = collect(self.tail, self.optimizer, self.average, self.best, self.first)
        return asdict(self.position), tensors

    def restore(self, position: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from what ``state`` returned.

        Raises:
            ModelError: It is of another model, or of another way to train it.
        """
        try:
            self.position = Position(**{"epochs": self.train.epochs} | dict(position))
            self.best, self.first = put_back(tensors, self.tail, self.optimizer, self.average)
            if self.best and self._may_go_back and not self.first:
                raise KeyError("the weights that the phase started from are missing")
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"The checkpoint does not fit what is trained: {str(error).splitlines()[0]}",
                field="checkpoints",
                hint="Go on with the versions and the cache size it began with, or fit again with "
                "another --out.",
            ) from error

    def _tick(self) -> None:
        now = self._now()
        self.position.seconds += now - self._clock
        self.position.epoch_seconds += now - self._clock
        self._clock = now

    def _checkpoint(self) -> None:
        if self.save is not None:
            self.save(*self.state())
        self._saved = time.monotonic()

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Train to the end of the phase, keep the best epoch, and return what happened."""
        self._clock, self._saved = self._now(), time.monotonic()
        position, begins = self.position, not self.best
        if begins:
            self.best = self._snapshot()
            self.first = self._snapshot() if self._may_go_back else {}
        judged = [] if self.average is None else [self.average.module]
        with depthwise_in_fp32(self.path, *(t.trained() for t in (self.tail, *judged))):
            compares = self.number > 1 or self._may_go_back
            if not position.history and compares and self._judges:
                self._record(self._judge(), loss=None)
            if begins and self.train.batch_norm == "adapt" and position.stopped is None:
                self._adapt()
            self._plan_epochs()
            while position.epoch < position.epochs and position.stopped is None:
                self._epoch()
                self._plan_epochs()
            verdict = self._verdict() if self._may_go_back else None
        return self._finish(verdict)

    def _adapt(self) -> None:
        """Let batch norms and head fit the images before anything is learnt."""
        view = self._ready_view()
        start = self._now()
        self.model.train()
        self.position.adapted = adapt(
            self.tail,
            self.examples,
            self.path,
            self.train,
            view=view,
            seed=chance(self.seed, self.number, "adapt"),
            weighted=self._class_weights is not None,
        )
        if self.average is not None:
            self.average.module.load_state_dict(self.tail.state_dict())
        self._tick()
        self.position.epoch_seconds -= self._clock - start  # no other epoch will take them

    @property
    def _view(self) -> int:
        """The view of the epoch that runs."""
        # The plain image is the last of each round: one epoch alone sees an augmented view.
        return (self.examples.first_view + self.position.epoch + 1) % (self.examples.views + 1)

    @property
    def _may_go_back(self) -> bool:
        return self.phase.keep == "better"

    @property
    def _judges(self) -> bool:
        return self.train.monitor != "none" and len(self.examples.val) > 0

    def _epoch(self) -> None:
        position, examples = self.position, self.examples
        view = self._ready_view()
        shuffled = epoch_order(
            examples.train,
            examples.labels,
            balanced=self.train.sampling == "balanced",
            seed=chance(self.seed, self.number, position.epoch, "order"),
        )
        order = batches_of(shuffled, self.train.batch_size)
        with self.interruption or nullcontext():
            if self._steps(view, order):
                loss = position.loss / sum(map(len, order))
                position.epoch, position.step, position.loss = position.epoch + 1, 0, 0.0
                self._record(self._judge() if len(examples.val) else None, loss)
                self._checkpoint()

    def _ready_view(self) -> int:
        """Return the view of the epoch that runs, which is ready then."""
        view = self._view
        computed = self._prepare(view, self.examples.train)
        if computed:
            self.emit("views", phase=self.number, view=view, computed=computed)
        return view

    def _prepare(self, view: int, positions: npt.NDArray[np.int64]) -> int:
        """Have a view ready, and count the seconds that this takes."""
        start = self._now()
        computed = self.examples.stream.prepare(view, positions, self._progress("views"))
        self.position.view_seconds += self._now() - start
        return computed

    def _plan_epochs(self) -> None:
        """Cut the epochs to come to those that end before the deadline."""
        position, train = self.position, self.train
        predicted = None if self.predicted is None else self.predicted / train.epochs
        pace = pace_of(position, predicted)
        if self.deadline is None or pace is None or position.stopped is not None:
            return
        steps = len(batches_of(self.examples.train, train.batch_size))
        views = max(0, self.examples.views + 1 - position.epoch)
        done = fit_in(position, self.deadline.left(), pace, steps=steps, views=views)
        if done is not None:
            found = position.shortened if done == "shortened" else position.stopped
            self.emit(done, phase=self.number, **(found or {}))

    def _out_of_time(self, steps: int) -> bool:
        """Return whether the deadline is over in the middle of an epoch, which then is the last."""
        position = self.position
        if self.deadline is None or position.step == steps or self.deadline.left() > 0:
            return False
        # Without anything before it, a part of an epoch is better than a head of random weights.
        partial = self.number == 1 and not position.history
        if partial:
            self.best = self._snapshot()
        position.stopped = {
            "why": "budget",
            "epoch": position.epoch + 1,
            "epochs": position.epochs,
            "step": position.step,
            "steps": steps,
            "partial": partial,
        }
        self.emit("stopped", phase=self.number, **position.stopped)
        self._checkpoint()
        return True

    def _steps(self, view: int, order: list[npt.NDArray[np.int64]]) -> bool:
        """Take the steps that are left of an epoch; False where one can't be taken."""
        left = order[self.position.step :]
        progress = self._progress("epoch")
        self.model.train()
        stream = self.examples.stream.batches(view, left)
        for values, positions in zip(stream, left, strict=True):
            if not self._step(values, positions, len(order)):
                return False
            progress(self.position.step, len(order))
            if self._out_of_time(len(order)):
                return False
            self._pause()
        return True

    def _progress(self, stage: str) -> Callable[[int, int], None]:
        epoch = self.position.epoch + 1
        return lambda done, total: self.emit(
            "progress", stage=stage, done=done, total=total, epoch=epoch, phase=self.number
        )

    def _pause(self) -> None:
        """Save where it is time to, and leave where a signal asked."""
        asked = self.interruption is not None and self.interruption.signal is not None
        if asked or time.monotonic() - self._saved >= self.save_seconds:
            self._checkpoint()
        if asked:
            assert self.interruption is not None
            self.interruption.leave()

    def _step(self, values: torch.Tensor, positions: npt.NDArray[np.int64], steps: int) -> bool:
        """Take one step; False where the loss or a gradient is not finite."""
        position, train = self.position, self.train
        done = position.done(steps)
        drops = (
            plateau_drops(self.position.scores(self.train.monitor))
            if train.schedule == "plateau" and self._judges
            else 0
        )
        scale = factor(train, done, drops)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * scale
        labels = torch.from_numpy(self.examples.labels[positions])
        given = self.examples.weights
        weights = None if given is None else torch.from_numpy(given[positions])
        before = [buffer.clone() for buffer in self._statistics]
        while True:
            try:
                loss, norm = self._backward(values, labels, weights)
                break
            except RuntimeError as error:  # torch.OutOfMemoryError is one, and so is the CPU's
                if not out_of_memory(error):
                    raise
            self._put_back(before)
            self._split(len(labels))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            self._put_back(before)
            what = "gradient" if math.isfinite(loss) else "loss"
            files = [self.examples.names[index] for index in positions[:8]]
            self._not_finite(what, position.epoch + 1, position.step + 1, files)
            self._checkpoint()
            return False
        self._stepper.step()
        self._stepper.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.tail)
        position.loss += loss * len(labels)
        position.step += 1
        position.rates = dict(rates_by_group(self.optimizer))
        self.emit(
            "step",
            phase=self.number,
            epoch=position.epoch + 1,
            step=position.step,
            loss=loss,
            rates=position.rates,
        )
        return True

    def _backward(
        self, values: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[float, float]:
        """Compute a batch's gradients; return its loss, and their norm before they are clipped."""
        position = self.position
        self.optimizer.zero_grad()
        seed = chance(self.seed, self.number, position.epoch, position.step)
        loss = self.gradients.compute(
            values, labels, weights=weights, parts=position.parts, seed=seed
        )
        return loss, self.gradients.clip(self._trainable)

    def _put_back(self, before: list[torch.Tensor]) -> None:
        """Undo what a step that is not taken did to the statistics."""
        for buffer, value in zip(self._statistics, before, strict=True):
            buffer.copy_(value)

    def _split(self, size: int) -> None:
        """Halve what is computed at once; the step still counts the whole batch."""
        self.optimizer.zero_grad()
        if self.position.parts >= size:
            raise ResourceError(
                "There is not enough memory to train on a single image at a time.",
                field="batch-size",
                hint="Train less of the network (--strategy last-blocks:1), take smaller images "
                "(--size) or a smaller network (--backbone bundled:efficientnet_lite0).",
            )
        self.position.parts *= 2
        if self.path.device.startswith("cuda"):
            torch.cuda.empty_cache()
        part = math.ceil(self.train.batch_size / self.position.parts)
        self.emit("memory", phase=self.number, parts=self.position.parts, images=part)

    def _not_finite(self, what: str, epoch: int, step: int, files: list[str]) -> None:
        """Stop; ``_finish`` goes back to weights that are known to be good."""
        stopped = {"why": "not-finite", "what": what, "epoch": epoch, "step": step, "files": files}
        self.position.stopped = stopped
        self.emit("stopped", phase=self.number, **stopped)

    # -- judging -----------------------------------------------------------------------------

    def _judge(self) -> dict[str, float] | None:
        """Return val's metrics of the present weights, or of their average."""
        self._prepare(0, self.examples.val)
        self.model.eval()
        module = self.tail if self.average is None else self.average.module
        return judge(module, self.examples, self.task, self.path, at_once=self._judged_at_once)

    @property
    def _judged_at_once(self) -> int:
        return max(1, 2 * self.train.batch_size // self.position.parts)

    def _verdict(self) -> Verdict:
        """Compare the best epoch with the start; both are judged again, so nothing is carried."""
        said: list[npt.NDArray[np.floating[Any]] | None] = []
        for weights in (self.first, self.best) if len(self.examples.val) else ():
            self.tail.load_state_dict(weights)
            said.append(
                probabilities(
                    self.tail, self.examples, self.task, self.path, at_once=self._judged_at_once
                )
            )
        before, after = said or (None, None)
        return compare(before, after, self.examples.labels[self.examples.val])

    def _record(self, val: dict[str, float] | None, loss: float | None) -> None:
        """Add an epoch to the history, and keep its weights if it is the best so far."""
        self._tick()
        position, train = self.position, self.train
        record = {
            "epoch": position.epoch,
            "loss": loss,
            "val": val,
            "rates": position.rates or dict(rates_by_group(self.optimizer)),
            "seconds": round(position.epoch_seconds, 3),
        }
        position.end_epoch()
        position.history.append(record)
        event = {name: value for name, value in record.items() if name != "seconds"}
        self.emit("epoch", phase=self.number, took=record["seconds"], **event)
        if val is None and len(self.examples.val):
            steps = len(batches_of(self.examples.train, train.batch_size))
            files = [self.examples.names[index] for index in self.examples.val[:8]]
            self._not_finite("output on val", position.epoch, steps, files)
            return
        waited = position.waited(train.monitor) if self._judges else 0
        if not waited:
            self.best = self._snapshot()
        patient = train.patience is None or waited < train.patience
        if self._judges and not patient and position.epoch < position.epochs:
            position.stopped = {"why": "patience", "epoch": position.epoch}
            self.emit("stopped", phase=self.number, **position.stopped)

    def _snapshot(self) -> dict[str, torch.Tensor]:
        source = self.tail if self.average is None else self.average.module
        return {name: value.detach().clone() for name, value in source.state_dict().items()}

    def _finish(self, verdict: Verdict | None) -> dict[str, Any]:
        """Put the weights in place that are kept, and return the phase's record."""
        position = self.position
        best, kept = position.kept(self.train.monitor, len(self.examples.val) > 0)
        decided = {} if verdict is None else {"keep": verdict.to_dict() | {"epoch": best}}
        if verdict is not None and not verdict.kept:
            best, kept = 0, f"the start: {verdict.reason}"
        self.tail.load_state_dict(self.best if verdict is None or verdict.kept else self.first)
        self.model.eval()
        self._tick()
        cut = {} if position.shortened is None else {"shortened": position.shortened}
        if position.adapted is not None:
            cut["adapted"] = position.adapted
        return {
            "phase": self.number,
            "kind": "train",
            "epochs": position.history,
            "kept": kept,
            "best_epoch": best,
            "monitor": self.train.monitor,
            "stopped": position.stopped,
            "parts": position.parts,
            "images_at_once": math.ceil(self.train.batch_size / position.parts),
            "precision": self.path.precision,
            "views": self.examples.views,
            "boundary": self.examples.stream.start,
            "seconds": round(position.seconds, 3),
            **decided,
            **cut,
        }


def _nobody(event: str, **values: Any) -> None:
    """Tell nobody."""


def _average(tail: nn.Module, train: Train) -> Any:
    """Return the exponential moving average of a module's weights, or None."""
    if train.ema is None:
        return None
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    update = get_ema_multi_avg_fn(train.ema)  # type: ignore[no-untyped-call]
    return AveragedModel(tail, multi_avg_fn=update, use_buffers=True)
