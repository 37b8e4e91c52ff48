"""The range test of a phase, from images to a suggestion: ``headstart plan DATA --find-rate``.

What comes before the phase is done as in a fit: images are decoded, a head is solved, earlier
phases are trained. The phase itself is not: nothing of what the test learns is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.cache import Cache
from headstart.data.objects.in_memory import as_source
from headstart.errors import UsageError
from headstart.feeding import class_weights, examples_of
from headstart.files import write_json
from headstart.fitting import Listener
from headstart.images import Images, prepare
from headstart.log import Log
from headstart.options import Options
from headstart.phases import Phases
from headstart.plan import Plan
from headstart.planning import make_plan
from headstart.rate_figure import called, rate_figure
from headstart.strategy.phase import Train
from headstart.training.device import InferencePath
from headstart.training.model import Model
from headstart.training.pixels import Progress
from headstart.training.range_record import RangeTest
from headstart.training.range_test import RangeTester

__all__ = ["RateFinding", "find_phase_rate", "find_rate"]


@dataclass(frozen=True, slots=True)
class RateFinding:
    """What range tests say of a phase's rates.

    Attributes:
        strategy: The strategy's name.
        phase: The phase's number, from 1.
        alone: Whether it is the only one that trains, so that ``--lr`` sets its rate.
        optimizer: Its optimizer.
        batch_size: Its images a step.
        tests: Of all groups together, then of each alone.
        skipped: The groups for which there was no time.
        files: What was written: a figure and the numbers.
    """

    strategy: str
    phase: int
    alone: bool
    optimizer: str
    batch_size: int
    tests: tuple[RangeTest, ...]
    skipped: tuple[str, ...]
    files: tuple[Path, ...] = ()

    @property
    def suggestion(self) -> float | None:
        """The highest rate of the phase to train with, the others in proportion; or None."""
        return self.tests[0].suggestion

    @property
    def highest_good_rate(self) -> float | None:
        """The highest rate of the phase at which the loss is not yet hurt; or None."""
        return self.tests[0].highest_good_rate

    @property
    def notes(self) -> tuple[str, ...]:
        """What to keep in mind of these tests, one sentence each."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        together = self.tests[0]
        start = sum(together.before) / max(1, len(together.before))
        if start > 2 * together.guessing:
            yield (
                f"The phase starts at a loss of {start:.3g}, and guessing would give "
                f"{together.guessing:.2g}: what falls is mostly the repair of that start, and the "
                "test can't tell which rates are too high. A solved head starts so in front of "
                "batch norms that learn new statistics (--train batch_norm=hold keeps them)."
            )
        if self.highest_good_rate is not None and together.planned > self.highest_good_rate:
            yield (
                f"The planned rate, {together.planned:.1e}, is above {self.highest_good_rate:.1e}, "
                "the highest at which the loss was not yet hurt."
            )
        if self.skipped:
            yield f"There was no time to test {', '.join(self.skipped)} alone."

    def lines(self) -> list[str]:
        """Return what was found as lines for people."""
        lines = [
            f"rate      range test of phase {self.phase} of {self.strategy}: {self.optimizer}, "
            f"{self.batch_size} images a step",
            *self._test_lines(),
            *(f"note      {note}" for note in self.notes),
        ]
        if self.suggestion is not None and self.alone:
            lines.append(f"try       --lr {self.suggestion:.1e}")
        elif self.suggestion is not None:
            lines.append(f"try       {self.suggestion:.1e} in a strategy's file (docs/strategy.md)")
        return [*lines, *(f"written   {file}" for file in self.files)]

    def _test_lines(self) -> Iterator[str]:
        names = [called(test.group) for test in self.tests]
        for name, test in zip(names, self.tests, strict=True):
            rate = "none" if test.suggestion is None else f"{test.suggestion:.1e}"
            yield (
                f"  {name:<{max(map(len, names))}}  {rate:<7}  "
                f"(planned {test.planned:.1e}) {test.reason}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "format": 1,
            "strategy": self.strategy,
            "phase": self.phase,
            "optimizer": self.optimizer,
            "batch_size": self.batch_size,
            "suggestion": self.suggestion,
            "highest_good_rate": self.highest_good_rate,
            "tests": [test.to_dict() for test in self.tests],
            "skipped": list(self.skipped),
            "notes": list(self.notes),
            "files": [str(file) for file in self.files],
        }


def find_rate(
    data: object,
    options: Options,
    *,
    phase: int | None = None,
    out: Path | None = None,
    seconds: float | None = None,
    cache: Cache | None = None,
    listener: Listener | None = None,
) -> RateFinding:
    """Run the range test of a phase, for all its rates together and for each alone.

    Args:
        data: What ``headstart.fit`` takes.
        options: The strategy, the network and all else, as for a fit.
        phase: Its number, from 1; by default the first that trains.
        out: A folder for ``rates.png`` and ``rates.json``; None writes neither.
        seconds: How long the tests may take, images and earlier phases not counted.
        cache: Where pixels and features are remembered; by default the user's cache folder.
        listener: Called with each event, as ``headstart.fit`` does.

    Raises:
        UsageError: No phase trains, the one that was asked for does not or is not reached, or an
            option can't be used.
        HeadstartError: Whatever makes a fit impossible.
    """
    cache, log = cache or Cache(), Log(listener)
    log.emit("stage", stage="read")
    source = as_source(data, cache.given, options.reading)
    plan = make_plan(source, options, cache=cache, progress=log.progress("read"))
    number = _chosen(plan, phase)
    log.emit("plan", lines=plan.lines())
    log.emit("stage", stage="features")
    prepared = prepare(plan, cache, log)
    path = prepared.features.path
    features = prepared.features if plan.solves else None
    begun = Phases(_until(plan, number), prepared.images, path, cache, log, features=features)
    if number:
        _require_finite(begun.run().records, number)
    found = find_phase_rate(
        plan,
        prepared.images,
        begun.model,
        number,
        cache,
        path,
        seconds=seconds,
        progress=log.progress("rates"),
    )
    if out is None:
        return found
    found = replace(found, files=(out / "rates.png", out / "rates.json"))
    rate_figure(found.tests, found.files[0])
    write_json(found.files[1], found.to_dict())
    return found


def find_phase_rate(
    plan: Plan,
    images: Images,
    model: Model,
    number: int,
    cache: Cache,
    path: InferencePath,
    *,
    groups: Sequence[str] | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> RateFinding:
    """Run range tests from a model that stands where a phase begins; it stays as it is.

    Args:
        plan: The run's plan.
        images: Its images, with their pixels.
        model: As the phases before left it.
        number: The phase's number, from 0; it trains.
        cache: Where what frozen blocks give is remembered.
        path: How everything is computed.
        groups: What to test, ``all`` first; by default all together, then each alone.
        seconds: How long the tests may take.
        progress: Called with (done, total) steps.
    """
    phase = plan.strategy.phases[number]
    assert isinstance(phase.fit, Train)
    tester = RangeTester(
        model,
        plan.task,
        phase,
        examples_of(plan, images, number, cache, path),
        path,
        seed=plan.options.seed,
        number=number + 1,
        class_weights=class_weights(plan, images),
        deadline=seconds,
        progress=progress,
    )
    wanted = tester.groups if groups is None else tuple(groups)
    tests = tester.run(wanted)
    return RateFinding(
        strategy=plan.strategy.name,
        phase=number + 1,
        alone=sum(isinstance(other.fit, Train) for other in plan.strategy.phases) == 1,
        optimizer=phase.fit.optimizer,
        batch_size=phase.fit.batch_size,
        tests=tests,
        skipped=tuple(group for group in wanted if group not in {t.group for t in tests}),
    )


def _chosen(plan: Plan, phase: int | None) -> int:
    """Return the number, from 0, of the phase that was asked for, or of the first that trains."""
    phases = plan.strategy.phases
    trains = [number for number, one in enumerate(phases) if isinstance(one.fit, Train)]
    if not trains:
        raise UsageError(
            f"The strategy {plan.strategy.name} solves its head and trains nothing by steps: there "
            "is no rate to find.",
            field="find-rate",
            hint="Add --epochs to train the head, or choose another, as --strategy last-blocks:2.",
        )
    if phase is None:
        return trains[0]
    if phase - 1 not in trains:
        number = "phase" if len(trains) == 1 else "phases"
        raise UsageError(
            f"Of the {len(phases)} phases of {plan.strategy.name}, rates can be found for {number} "
            f"{', '.join(str(number + 1) for number in trains)}, not for {phase}.",
            field="phase",
            hint="Leave the phase out for the first that trains.",
        )
    return phase - 1


def _until(plan: Plan, number: int) -> Plan:
    """Return the plan of the phases before a phase; heads that are solved have not seen val."""
    return replace(
        plan,
        strategy=replace(plan.strategy, phases=plan.strategy.phases[:number]),
        sizes=plan.sizes[:number],
        options=replace(plan.options, refit=False),
    )


def _require_finite(records: Sequence[dict[str, Any]], number: int) -> None:
    """Refuse to test a phase that a fit would not reach."""
    if (records[-1].get("stopped") or {}).get("why") == "not-finite":
        raise UsageError(
            f"Phase {number + 1} is never reached: the loss of phase {len(records)} is not finite.",
            field="phase",
            hint=f"Find the rate of phase {len(records)} first.",
        )
