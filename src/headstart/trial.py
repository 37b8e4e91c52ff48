"""A trial of a few seconds: what a plan's parts cost on this machine.

What is timed are the very parts that a run is made of, on a copy of the network: the decoder, the
boundary, the training loop with its optimizer and precision, the judge, the checkpoint, the solver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.cache import Cache
from headstart.costs import Costs, PhaseCosts
from headstart.data.augment import Augment
from headstart.data.loader import load
from headstart.data.read import Failure, Source
from headstart.sizing import PhaseSize
from headstart.store import Rows
from headstart.strategy.phase import Phase, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import Boundary
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import Forward, InferencePath
from headstart.training.engine import Engine
from headstart.training.examples import Examples
from headstart.training.judge import judge
from headstart.training.model import Model
from headstart.training.pixels import Custom, Pixels
from headstart.training.precision import depthwise_in_fp32
from headstart.training.solve import TINY_VAL, solve
from headstart.training.task import SingleLabel

__all__ = ["Timer", "measure_costs"]

Timer = Callable[[], float]

_REPEATS = 3  # of each part at least, after one to warm up
_STEPS = 30  # at most
_DECODED = 48  # images at most, and 8 at least whatever they take
_SOLVED = 1000  # rows of noise for the solver: as many as leave a core's own cache


class _Enough(Exception):
    """Leaves the training loop when there are steps enough."""


def measure_costs(
    model: Model,
    task: SingleLabel,
    strategy: Strategy,
    sizes: Sequence[PhaseSize],
    path: InferencePath,
    images: Sequence[Source] = (),
    *,
    seconds: float = 3.0,
    seed: int = 0,
    custom: Custom | None = None,
    timer: Timer = time.perf_counter,
) -> Costs:
    """Measure what each part of a plan costs on this machine.

    Args:
        model: The network and its head; a copy of them is trained.
        task: The classes.
        strategy: Its phases.
        sizes: The size of each.
        path: Device and precision.
        images: Some of the images, from which up to 48 are taken evenly; without any that can be
            read the pixels are noise and decoding costs nothing.
        seconds: What the trial may take as a whole, as far as it is up to it: each part is
            repeated three times at least, after one to warm up.
        seed: Of the noise and the views.
        custom: The transform of phases whose augmentation is ``custom``.
        timer: Gives the time in seconds.
    """
    start = timer()
    parts = 2 + sum(1 if isinstance(phase.fit, Solve) else 4 for phase in strategy.phases)
    watch = _Watch(timer, seconds / parts)
    with TemporaryDirectory() as folder:
        trial = _Trial(deepcopy(model), task, path, Path(folder), watch, seed, custom)
        decode = trial.read(images)
        forward = trial.forward()
        phases = tuple(
            trial.phase(phase, size) for phase, size in zip(strategy.phases, sizes, strict=True)
        )
    return Costs(decode, forward, phases, took=timer() - start)


class _Watch:
    """Times work again and again, for so many seconds."""

    def __init__(self, timer: Timer, seconds: float) -> None:
        self.now = timer
        self.seconds = seconds

    def over(self, start: float) -> bool:
        return self.now() - start >= self.seconds

    def time(self, work: Callable[[int], object]) -> float:
        """Return the median seconds of ``work(1)``, ``work(2)``, …, after ``work(0)``."""
        work(0)
        taken: list[float] = []
        start = self.now()
        for number in count(1):
            before = self.now()
            work(number)
            taken.append(self.now() - before)
            if len(taken) >= _REPEATS and self.over(start):
                break
        return median(taken)


class _Trial:
    """The parts of a run, timed on a few images."""

    def __init__(
        self,
        model: Model,
        task: SingleLabel,
        path: InferencePath,
        folder: Path,
        watch: _Watch,
        seed: int,
        custom: Custom | None,
    ) -> None:
        self.model = model
        self.task = task
        self.path = path
        self.folder = folder
        self.cache = Cache(folder / "cache")
        self.watch = watch
        self.seed = seed
        self.custom = custom
        self.n = max(path.batch_size, 32)
        self.names = [f"{number:064x}" for number in range(self.n)]
        self.rows: Rows

    @property
    def every(self) -> npt.NDArray[np.int64]:
        return np.arange(self.n)

    def read(self, images: Sequence[Source]) -> float:
        """Keep the pixels of some images, or noise; return the seconds of decoding one."""
        spec = self.model.input_spec
        seconds, pixels = self._decoded(images) if images else (0.0, [])
        if not pixels:
            shape = (self.n, spec.height, spec.width, 3)
            noise = np.random.default_rng(self.seed).integers(0, 256, shape, dtype=np.uint8)
            seconds, pixels = 0.0, [noise]
        store = self.cache.store({"what": "trial"}, (spec.height, spec.width, 3), "uint8")
        found = np.concatenate(pixels)
        with store.writer() as writer:
            writer.add(self.names, found[self.every % len(found)])
        self.rows = store.rows(self.names)
        return seconds

    def _decoded(self, images: Sequence[Source]) -> tuple[float, list[npt.NDArray[np.uint8]]]:
        """Decode images; return the seconds of one, and the pixels."""
        chosen = np.unique(np.linspace(0, len(images) - 1, _DECODED).astype(int))
        taken = [images[index] for index in chosen.tolist()]
        found: list[npt.NDArray[np.uint8]] = []
        with closing(load(taken, self.model.input_spec, 8)) as batches:
            start, done = self.watch.now(), 0
            for batch in batches:
                if isinstance(batch, Failure):
                    continue
                found.append(batch.pixels)
                done += len(batch.pixels)
                if self.watch.over(start):
                    break
            return (self.watch.now() - start) / max(done, 1), found

    def forward(self) -> float:
        """Return the seconds of an image's features."""
        pixels = self.rows.take(self.every[: self.path.batch_size])
        forward = Forward(self.model.backbone, self.path)
        return self.watch.time(lambda _: forward(pixels)) / len(pixels)

    def phase(self, phase: Phase, size: PhaseSize) -> PhaseCosts:
        """Return the costs of a phase."""
        if isinstance(phase.fit, Solve):
            return PhaseCosts(solve=self._solve())
        start = size.prefix if size.remembered else 0
        prefix = augment = 0.0
        if start:
            prefix = self._views(start, Augment())
            if phase.augment != "none":
                shown = Augment(phase.augment, phase.symmetry)
                augment = max(self._views(start, shown) - prefix, 0.0)
        train, solved = phase.fit, 0.0
        if train.batch_norm == "adapt":  # which is done once: its parts are judging and solving
            train, solved = replace(train, batch_norm="train"), self._solve()
        loop = self._loop(replace(phase, fit=train), train, start)
        return replace(loop, prefix=prefix, augment=augment, solve=solved)

    def _views(self, start: int, augment: Augment) -> float:
        """Return the seconds of computing and storing an image's view before block ``start``."""
        pixels = Pixels(self.rows, self.names, augment, self.seed)
        boundary = Boundary(self.model.backbone, start, pixels, self.cache, self.path)
        # From view 1 on: view 0 is the plain image, whatever the augmentation.
        return self.watch.time(lambda view: boundary.prepare(view + 1, self.every)) / self.n

    def _loop(self, phase: Phase, train: Train, start: int) -> PhaseCosts:
        """Return the costs of the training loop: steps, judging and saving."""
        custom = self.custom if phase.augment == "custom" else None
        augment = Augment() if custom else Augment(phase.augment, phase.symmetry)
        pixels = Pixels(self.rows, self.names, augment, self.seed, custom)
        examples = Examples(
            stream=Boundary(self.model.backbone, start, pixels, self.cache, self.path)
            if start
            else pixels,
            labels=self.every % len(self.task.classes),
            names=self.names,
            train=np.resize(self.every, train.batch_size * _STEPS),
            val=np.resize(self.every, train.batch_size),
            views=0 if phase.augment == "none" else 1,
        )
        marks: list[float] = []

        def listen(event: str, **_: Any) -> None:
            if event in ("step", "stopped"):
                marks.append(self.watch.now())
                if len(marks) > _REPEATS and self.watch.over(marks[0]):
                    raise _Enough

        engine = Engine(
            self.model, self.task, phase, examples, self.path, seed=self.seed, emit=listen
        )
        begun = self.watch.now()
        with suppress(_Enough):
            engine.run()
        # Between two steps lies one; the first is the warm-up, unless there is no other.
        between = np.diff(marks) if len(marks) > 1 else np.array([marks[0] - begun])
        with depthwise_in_fp32(self.path, engine.tail.trained()):
            return PhaseCosts(
                step=float(np.median(between)) / train.batch_size,
                judge=self._judge(engine, examples) / len(examples.val),
                save=self._save(engine),
            )

    def _judge(self, engine: Engine, examples: Examples) -> float:
        at_once = max(1, len(examples.val) // engine.position.parts)
        return self.watch.time(
            lambda _: judge(engine.tail, examples, self.task, self.path, at_once=at_once)
        )

    def _save(self, engine: Engine) -> float:
        checkpoints = Checkpoints(self.folder / "checkpoints")
        before = self.watch.now()
        position, tensors = engine.state()
        checkpoints.save(State({"position": position}, tensors))
        return self.watch.now() - before

    def _solve(self) -> float:
        """Return the seconds of an image in an iteration of the solver, on noise of its size."""
        noise = np.random.default_rng(self.seed)
        classes = len(self.task.classes)
        shape = (_SOLVED + TINY_VAL, self.model.backbone.feature_dim)
        features = noise.standard_normal(shape, dtype=np.float32)
        labels = np.arange(len(features)) % classes
        train, val = (
            (features[some], labels[some]) for some in (slice(_SOLVED), slice(_SOLVED, None))
        )
        few = (features[: 4 * classes], labels[: 4 * classes])
        solve(few, val, Solve((1e3,)), refit=False)  # loads what it is made of
        before = self.watch.now()
        solved = solve(train, val, Solve((1e2,)), refit=False)
        taken = self.watch.now() - before
        return taken / (_SOLVED * max(solved.steps[0].iterations, 1))
