"""The strategy ``auto``: measure facts, ask the rule, and come to a run that can be read first.

What can be known from frozen features is tried on a sample of the training images, which val and
test have no part in; what training costs is tried for a few seconds on this machine. The rule
(:mod:`headstart.strategy.rule`, :mod:`headstart.strategy.ladder`) turns both into choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from headstart.adjust import UNTRAINED
from headstart.cache import Cache
from headstart.candidates import at_hand
from headstart.decided import Decided
from headstart.forecast import measure, seconds_after, seconds_before, seconds_by_epochs
from headstart.log import Log
from headstart.options import AUTO, DEFAULT_BACKBONE, DEFAULT_BUDGET_S, Options
from headstart.plan import Plan
from headstart.planning import replanned
from headstart.probe_difference import compare
from headstart.probe_sample import Sample, take_sample
from headstart.probe_score import ProbeScore
from headstart.probe_symmetry import VIEWS, symmetries
from headstart.probing import probe, random_weights, resize_rules
from headstart.ranking import Ranked, finalists, rank
from headstart.strategy.decision import Decision, Tried, duration
from headstart.strategy.ladder import LEAST_VAL, Choice, Step, choose_steps, ladder, possible_steps
from headstart.strategy.published import what_tables_say
from headstart.strategy.rule import (
    choose_backbone,
    choose_resize,
    choose_symmetry,
    worth_of_pretraining,
)

__all__ = ["decide"]

_TRYING = 0.2  # of the budget, at most, for what is tried before anything is trained
_RANKING = 0.5  # of that, for other networks
_RESIZING = 0.5  # of what is left of it then, for resize rules
_MOST_RESIZED = 2000  # images
_RESERVED = 0.05  # of the budget, for what no prediction foresees
_SMALL = 200  # images of a sample where the budget is small, so that trying stays cheap
_SHORT_S = 180.0


def decide(plan: Plan, *, cache: Cache, log: Log, spent: Callable[[], float]) -> Decided:
    """Decide all that was left to be chosen.

    Args:
        plan: What was asked for; its ``given`` says what may be chosen.
        cache: Where features are remembered.
        log: Told of each decision, and of the progress.
        spent: Tells the seconds that the run has taken so far.

    Raises:
        HeadstartError: The network can't be loaded, or the images can't be read.
    """
    return _Deciding(plan, cache, log, spent).run()


class _Deciding:
    """The decisions, one after the other; each leaves the plan with what was chosen."""

    def __init__(self, plan: Plan, cache: Cache, log: Log, spent: Callable[[], float]) -> None:
        assert plan.given is not None
        self.plan = plan
        self.given: Options = plan.given
        self.cache = cache
        self.log = log
        self.spent = spent
        self.start = spent()
        self.budget = self.given.budget or DEFAULT_BUDGET_S
        self.decisions: list[Decision] = []
        self.sample = take_sample(plan, _SMALL if self.budget < _SHORT_S else 3 * _SMALL)

    def run(self) -> Decided:
        symmetry = self.given.symmetry or "flip"
        if self.sample.able:
            self._backbone()
            self._time()
            self._leave_time_to_train(symmetry)
            self._resize()
            symmetry = self._symmetry(symmetry)
            self._worth()
        else:
            self._time()
            self._told(_too_few(self.sample))
        full, choice = self._steps(symmetry)
        for decision in choice.decisions:
            self._told(decision)
        return self._decided(full, choice)

    def _told(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self.log.emit("decision", **decision.to_dict())

    def _progress(self, what: str, done: int, total: int) -> None:
        self.log.emit("progress", stage="try", what=what, done=done, total=total)

    def _left_for_trying(self) -> float:
        return _TRYING * self.budget - (self.spent() - self.start)

    def _may_try(self, question: str, kept: str, passes: int) -> bool:
        """Tell whether the sample may be passed forward so often; say so where there is no time."""
        costs = self.costs
        needed = passes * len(self.sample) * (costs.decode + costs.forward)
        left = max(0.0, self._left_for_trying())
        if needed <= left:
            return True
        reason = (
            f"Trying it on {len(self.sample):,} training images would take about "
            f"{duration(needed)}, and {duration(left)} of the budget are left for what is tried "
            "before training."
        )
        self._told(Decision(question, kept, reason, "A larger --budget.", {"needed_s": needed}))
        return False

    def _change(self, **options: object) -> None:
        self.plan = replanned(self.plan, replace(self.plan.options, **options), cache=self.cache)  # type: ignore[arg-type]

    # -- what frozen features tell ------------------------------------------------------------

    def _backbone(self) -> None:
        if self.given.backbone != AUTO or self.given.size is not None:
            return
        candidates = at_hand(allow_noncommercial=self.given.allow_noncommercial)
        ranked = rank(
            self.plan,
            self.sample,
            candidates,
            self.cache,
            seconds=_RANKING * self._left_for_trying(),
            resize=self.given.resize,
            progress=self._progress,
        )
        decision = _of_backbones(ranked, DEFAULT_BACKBONE)
        self._told(decision)
        if decision.choice != DEFAULT_BACKBONE:
            self._change(backbone=decision.choice)

    def _leave_time_to_train(self, symmetry: str) -> None:
        """Go back to the default network where a better one leaves no time for the last stages."""
        chosen = self.plan.backbone.full_name
        if self.given.backbone != AUTO or chosen == DEFAULT_BACKBONE:
            return
        _, choice = self._steps(symmetry)
        if choice.seconds or len(self.plan.split.val) < LEAST_VAL:
            return
        self._change(backbone=DEFAULT_BACKBONE)
        reason = (
            f"{chosen} is better as it is, but there is no time to train its last stages here: "
            f"{choice.decisions[0].reason} Training those of {DEFAULT_BACKBONE} bought 2.0 points "
            "on solar cells and 3.4 on trashnet (docs/strategies.md)."
        )
        self._told(Decision("backbone", DEFAULT_BACKBONE, reason, "A larger --budget.", {}))
        self._time()

    def _resize(self) -> None:
        own_rule = self.plan.backbone.input_spec.resize
        if self.given.resize is not None or not self._may_try("resize", own_rule, 2):
            return
        # The difference between rules is small and lasting, so it is worth more images.
        each = 2 * (self.costs.decode + self.costs.forward)
        most = int(_RESIZING * self._left_for_trying() / each)
        sample = take_sample(self.plan, min(_MOST_RESIZED, max(len(self.sample), most)))
        found = resize_rules(self.plan, sample, self.cache, progress=self._progress)
        own, *others = _tried(found.scores)
        decision = choose_resize(own, others)
        self._told(decision)
        if decision.choice != own_rule:
            self._change(resize=decision.choice)

    def _worth(self) -> None:
        if not self._may_try("weights", "pre-trained", 1):
            return
        own = probe(self.plan, self.sample, self.plan.backbone, self.cache)
        random = random_weights(self.plan, self.sample, self.cache, progress=self._progress)
        first, second = _tried({"pre-trained": own, "random": random})
        self._told(worth_of_pretraining(first, second))

    def _symmetry(self, usual: str) -> str:
        if self.given.symmetry is not None or not self._may_try("symmetry", usual, len(VIEWS)):
            return usual
        found = symmetries(
            self.plan, self.sample, self.plan.backbone, self.cache, progress=self._progress
        )
        numbers = {
            "plain": round(found.plain.accuracy, 4),
            **{name: round(view.seen.accuracy, 4) for name, view in found.views.items()},
            "n": found.plain.n,
        }
        self._told(choose_symmetry(found.name, found.reason, numbers))
        return found.name

    # -- what time allows ---------------------------------------------------------------------

    def _time(self) -> None:
        """Time on this machine all that the network would do."""
        self.log.emit("stage", stage="trial")
        self.costs = measure(self._ladder(self.given.symmetry or "flip"))

    def _ladder(self, symmetry: str) -> Plan:
        """Return the plan of all steps that there are."""
        steps = possible_steps(len(self.plan.backbone.stages), symmetry)
        asked = {name: getattr(self.given, name) for name in UNTRAINED}
        options = replace(
            self.plan.options,
            strategy=ladder([phase for _, phase in steps]),
            average=self._average(symmetry),
            **asked,
        )
        return replanned(self.plan, options, cache=self.cache)

    def _steps(self, symmetry: str) -> tuple[Plan, Choice]:
        """Choose the steps by their time; return the plan of all that there are, too."""
        full = self._ladder(symmetry)
        names = [name for name, _ in possible_steps(len(full.backbone.stages), symmetry)]
        steps = [
            Step(name, full.strategy.phases[number], seconds_by_epochs(self.costs, full, number))
            for number, name in enumerate(names, start=1)
        ]
        left = (1 - _RESERVED) * self.budget - self.spent()
        left -= seconds_before(self.costs, full, known=len(self.sample)) + seconds_after(
            self.costs, full
        )
        fixed = self.given.epochs is not None or "epochs" in self.given.train
        choice = choose_steps(steps, n_val=len(full.split.val), seconds=left, fixed_epochs=fixed)
        return full, choice

    def _average(self, symmetry: str) -> str:
        """Return the mirror images to average over: of all eight the first two buy the most."""
        if self.given.average != AUTO:
            return self.given.average
        return "none" if symmetry == "none" else "flip"

    def _decided(self, full: Plan, choice: Choice) -> Decided:
        trains = bool(choice.seconds)
        options = replace(full.options, strategy=choice.strategy, **({} if trains else UNTRAINED))
        if not trains and self.given.average == AUTO:
            options = replace(options, average="none")
        return Decided(
            options=options,
            decisions=tuple(self.decisions),
            seconds=(seconds_before(self.costs, full, known=len(self.sample)), *choice.seconds),
            rest_s=seconds_after(self.costs, full),
            took_s=self.spent() - self.start,
            budget_s=self.budget,
            published=what_tables_say(len(full.split.train)),
        )


def _tried(scores: Mapping[str, ProbeScore]) -> list[Tried]:
    """Compare each score with the first, image by image."""
    first = next(iter(scores.values()))
    found = []
    for name, score in scores.items():
        difference = compare(score, first)
        found.append(
            Tried(
                name,
                score.accuracy,
                score.n,
                difference=difference.accuracy,
                noise=difference.accuracy_noise,
                better=difference.better,
                knn=score.knn_accuracy,
                log_loss=score.log_loss,
            )
        )
    return found


def _of_backbones(ranked: Sequence[Ranked], own: str) -> Decision:
    """Ask the rule about the final two, and the network that is taken where neither is better."""
    scored = {each.candidate.name: each.score for each in ranked if each.score is not None}
    skipped = {each.candidate.name: each.skipped for each in ranked if each.skipped is not None}
    if own not in scored:
        return Decision(
            "backbone", own, "There was no time to try others.", "A larger --budget.", {}
        )
    first, *others = _tried({own: scored.pop(own), **scored})
    final = {each.candidate.name for each in finalists(ranked)}
    return choose_backbone(first, others, final=final, skipped=skipped)


def _too_few(sample: Sample) -> Decision:
    return Decision(
        "facts",
        "none measured",
        f"{len(sample)} training images are too few to try anything on: a probe needs two classes "
        "of two images each.",
        "More training images.",
        {"images": len(sample)},
    )
