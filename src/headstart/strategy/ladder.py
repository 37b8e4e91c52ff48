"""The ladder of ``auto``: the probe, then the last stages, then everything, each kept if it pays.

A step is kept only where val improves by more than its noise (``Phase.keep``), so that nothing is
lost but time where it does not; how many epochs it has is what the time allows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headstart.strategy.decision import Decision, duration, percent
from headstart.strategy.phase import HEAD, Phase, Rate, Solve, Train
from headstart.strategy.presets import PENALTIES
from headstart.strategy.strategy import Strategy

__all__ = [
    "LEAST_EPOCHS",
    "LEAST_VAL",
    "Choice",
    "Step",
    "choose_steps",
    "ladder",
    "possible_steps",
]

LEAST_VAL = 30
"""Below so many val images one image is more than three points: no step could be told from luck."""
LEAST_EPOCHS = 4
"""A step that has fewer epochs is cooled down before it has learnt."""
_ALL = "stage:0..-1"
_LAST = 3 / 7  # of the stages
_TAIL_EPOCHS = 10
_ALL_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Choice:
    """The steps that were chosen.

    Attributes:
        strategy: The ladder of these steps.
        decisions: One for each step.
        seconds: What each phase is predicted to take; the solved head's is not counted here.
    """

    strategy: Strategy
    decisions: tuple[Decision, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that could be taken after the probe.

    Attributes:
        name: What it trains, in words.
        phase: How; its epochs are the most that are of use.
        seconds: What 1, 2, … and that many epochs are predicted to take here.
    """

    name: str
    phase: Phase
    seconds: tuple[float, ...]

    @property
    def most(self) -> int:
        """The most epochs that are of use."""
        return len(self.seconds)

    def within(self, seconds: float) -> int:
        """Return how many epochs fit into so many seconds."""
        return bisect_right(self.seconds, seconds)


def choose_steps(
    steps: Sequence[Step], *, n_val: int, seconds: float, fixed_epochs: bool = False
) -> Choice:
    """Choose the steps of the ladder and their epochs: the cheapest first, as far as time allows.

    The probe always runs. What comes after must have ``LEAST_EPOCHS``, and val images enough to
    tell its improvement from luck.

    Args:
        steps: What could be done after the probe, in order.
        n_val: How many val images judge it.
        seconds: What is left for training, evaluation not counted.
        fixed_epochs: Whether the user has named the epochs, which are then not changed.
    """
    phases: list[Phase] = []
    decisions: list[Decision] = []
    predicted: list[float] = []
    left = seconds
    for step in steps:
        epochs, decision = _choose(step, n_val, left, fixed_epochs=fixed_epochs)
        decisions.append(decision)
        if epochs:
            assert isinstance(step.phase.fit, Train)
            phases.append(replace(step.phase, fit=replace(step.phase.fit, epochs=epochs)))
            predicted.append(step.seconds[epochs - 1])
            left -= predicted[-1]
    return Choice(ladder(phases), tuple(decisions), tuple(predicted))


def _choose(step: Step, n_val: int, left: float, *, fixed_epochs: bool) -> tuple[int, Decision]:
    """Return how many epochs of a step there are to be, 0 for none, and why."""
    least = step.most if fixed_epochs else min(LEAST_EPOCHS, step.most)
    epochs = min(step.most, step.within(left))
    if n_val < LEAST_VAL:
        epochs, otherwise = 0, _MORE_VAL
        reason = (
            f"val has {n_val} images, so that one image is {percent(1 / max(1, n_val))} of "
            "them: no improvement could be told from luck."
        )
    elif epochs < least:
        epochs, otherwise = 0, _MORE_TIME
        why = "as asked for" if fixed_epochs else "the least that are of use"
        reason = (
            f"{_epochs(least)}, {why}, would take about {duration(step.seconds[least - 1])}, and "
            f"{duration(max(0.0, left))} are left."
        )
    else:
        otherwise = _MORE_TIME
        enough = _ASKED if fixed_epochs else _MOST if epochs == step.most else _FIT
        reason = (
            f"{_epochs(epochs)} would take about {duration(step.seconds[epochs - 1])} here, and "
            f"{duration(left)} are left: {enough} Kept only if val improves by more than its noise."
        )
    numbers = {
        "seconds": [round(value, 2) for value in step.seconds],
        "left_s": round(left, 1),
        "epochs": epochs,
    }
    choice = _epochs(epochs) if epochs else "left out"
    return epochs, Decision(step.name, choice, reason, otherwise, numbers)


def _epochs(number: int) -> str:
    return f"{number} epoch{'' if number == 1 else 's'}"


_ASKED = "as many as were asked for."
_MOST = "as many as have been of use."
_FIT = "as many as fit."
_MORE_TIME = "Another --budget: more seconds, more epochs."
_MORE_VAL = f"{LEAST_VAL} val images or more."


def possible_steps(stages: int, symmetry: str = "flip") -> tuple[tuple[str, Phase], ...]:
    """Return what could be trained after the probe, by name, the cheapest first.

    The last stages are the least general ones and may move far, statistics included; what is
    before them is computed once a view. Then everything moves, each stage less than the one
    behind it.

    Args:
        stages: How many stages the network has.
        symmetry: Which mirror images mean the same.
    """
    last = max(1, round(stages * _LAST))
    tail = (Rate(HEAD, 1e-3), Rate(f"stage:-{last}..-1", 1e-3), Rate(_ALL, None))
    found = [(f"last {last} of {stages} stages", _step(tail, _TAIL_EPOCHS, symmetry))]
    if last < stages:
        everything = (Rate(HEAD, 3e-4), Rate(f"stage:-{last}..-1", 3e-4), Rate(_ALL, 1e-4))
        found.append(("everything", _step(everything, _ALL_EPOCHS, symmetry)))
    return tuple(found)


def _step(rates: tuple[Rate, ...], epochs: int, symmetry: str) -> Phase:
    train = Train(epochs=epochs, batch_norm="adapt")
    return Phase(rates, train, "light", symmetry=symmetry, keep="better")


def ladder(phases: Sequence[Phase]) -> Strategy:
    """Return the strategy that solves the head and then takes these steps."""
    probe = Phase((Rate(HEAD, 1e-3), Rate(_ALL, None)), Solve(PENALTIES))
    return Strategy("auto", (probe, *phases))
