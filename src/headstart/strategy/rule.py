"""The rule of ``auto``: from measured facts to choices, each with its reason and its numbers.

Published rules look at the number of images alone, and disagree
(:mod:`headstart.strategy.published`). This one decides by evidence: what can be tried on frozen
features is tried before anything is trained; what must be trained is tried step by step
(:mod:`headstart.strategy.ladder`).

Nothing here measures anything: ``headstart.auto`` does, and hands over plain numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headstart.strategy.decision import Decision, Tried, percent, points

__all__ = ["choose_backbone", "choose_resize", "choose_symmetry", "worth_of_pretraining"]


def choose_resize(own: Tried, others: Sequence[Tried]) -> Decision:
    """Choose how images become square: the network's own rule, unless another beats its noise.

    No rule is best everywhere, and the wrong one costs up to six points (crop loses what lies at
    the border, squash the proportions, pad the resolution).

    Args:
        own: The probe with the network's own rule.
        others: With the others, compared with it.
    """
    numbers = {one.name: one.numbers for one in (own, *others)}
    if not others:
        return Decision(
            "resize",
            own.name,
            "All rules give the same pictures: the images are square.",
            "Images that are not square.",
            numbers,
        )
    better = [one for one in others if one.better]
    if better:
        best = max(better, key=lambda one: (one.accuracy, -one.log_loss))
        return Decision(
            "resize",
            best.name,
            f"The probe has {percent(best.accuracy)} of {best.n:,} training images right with "
            f"{best.name} and {percent(own.accuracy)} with {own.name}, the network's own rule: "
            f"{_gain(best, own)}.",
            f"A difference within the noise would keep {own.name}; --resize fixes the rule.",
            numbers,
        )
    tried = ", ".join(f"{percent(one.accuracy)} with {one.name}" for one in others)
    return Decision(
        "resize",
        own.name,
        f"It is the network's own rule, and no other is better by more than noise: the probe has "
        f"{percent(own.accuracy)} of {own.n:,} training images right with it, {tried}.",
        "Another rule that is better by more than its noise; --resize fixes the rule.",
        numbers,
    )


def choose_symmetry(name: str, reason: str, numbers: Mapping[str, Any]) -> Decision:
    """Choose which mirror images mean the same: those that a probe takes for nothing else.

    A symmetry that holds doubles (``flip``) or multiplies by eight (``square``) what can be learnt
    from each image, and predictions can be averaged over the mirror images. One that does not hold
    (letters, arrows, left and right hands) makes wrong labels.

    Args:
        name: ``none``, ``flip`` or ``square``, as the probe has it.
        reason: Why, in a sentence with its numbers.
        numbers: What the reason rests on.
    """
    meaning = {
        "none": "mirror images are not used",
        "flip": "left and right mean the same",
        "square": "all eight mirror images and quarter turns mean the same",
    }[name]
    return Decision(
        "symmetry",
        name,
        f"{meaning[0].upper()}{meaning[1:]}: {reason.removesuffix('.')}.",
        "Mirror images that a probe recognises otherwise than their originals; --symmetry and "
        "--average fix it.",
        numbers,
    )


def worth_of_pretraining(own: Tried, random: Tried) -> Decision:
    """Say what the pre-training is worth here: the probe against one on random weights.

    Args:
        own: The probe on the pre-trained network's features.
        random: On those of the same network with random weights, compared with it.
    """
    gain = own.accuracy - random.accuracy
    if gain > random.noise:
        worth = f"the pre-training is worth {points(gain, sign=False)} before anything is trained."
    elif gain < -random.noise:
        worth = (
            f"before anything is trained random weights do better, by {points(-gain, sign=False)}."
        )
    else:
        worth = "within the noise, the pre-training is of no use before something is trained."
    return Decision(
        "weights",
        "pre-trained",
        f"A probe has {percent(own.accuracy)} of {own.n:,} training images right on the "
        f"pre-trained features and {percent(random.accuracy)} on those of random weights: {worth}",
        "Nothing: training from random weights has won nowhere that was measured "
        "(docs/strategies.md); --strategy scratch shows it.",
        {"pretrained": own.numbers, "random": random.numbers},
    )


def choose_backbone(
    asked: Tried,
    others: Sequence[Tried],
    *,
    final: Collection[str] = (),
    skipped: Mapping[str, str] | None = None,
) -> Decision:
    """Choose the network among those whose weights are at hand.

    The probe's accuracy and that of the nearest neighbours rank them; the best, and the one that
    is best on ImageNet, are the final two; the default gives way only to one that is better by
    more than noise.

    Args:
        asked: The default network's probe.
        others: The other candidates', compared with it, with the accuracy of the neighbours.
        final: The names of those that are decided between.
        skipped: Why other networks at hand were not tried, by name.
    """
    numbers = {
        **{one.name: one.numbers for one in (asked, *others)},
        **({"skipped": dict(skipped)} if skipped else {}),
    }
    why_not = (
        f" Not tried: {'; '.join(f'{n} ({w})' for n, w in skipped.items())}." if skipped else ""
    )
    if not others and skipped:
        return Decision(
            "backbone",
            asked.name,
            f"None of the others at hand could be tried.{why_not}",
            "A larger --budget; or --backbone NAME.",
            numbers,
        )
    if not others:
        return Decision(
            "backbone",
            asked.name,
            "The weights of no other pre-trained network are on this machine.",
            "Those of another: headstart models fetch NAME; or --backbone NAME.",
            numbers,
        )
    ranked = sorted(others, key=lambda one: -_merit(one))
    winners = [one for one in ranked if one.better and one.name in final]
    tried = ", ".join(f"{one.name} {percent(one.accuracy)}" for one in (asked, *ranked))
    if winners:
        best = max(winners, key=_merit)
        return Decision(
            "backbone",
            best.name,
            f"The probe on its features has {percent(best.accuracy)} of {best.n:,} training images "
            f"right, those of {asked.name} give {percent(asked.accuracy)}: {_gain(best, asked)}. "
            f"Tried: {tried}.{why_not}",
            f"A difference within the noise would keep {asked.name}; --backbone fixes it.",
            numbers,
        )
    return Decision(
        "backbone",
        asked.name,
        f"No other at hand is better by more than noise. The probe's accuracy on {asked.n:,} "
        f"training images: {tried}.{why_not}",
        "Another network that is better by more than its noise; --backbone fixes it.",
        numbers,
    )


def _gain(best: Tried, own: Tried) -> str:
    """Say by how much one is better: in accuracy, or where that is within noise in log loss."""
    text = f"{points(best.difference)}, noise {points(best.noise, sign=False)}"
    if best.difference > best.noise:
        return text
    return (
        f"{text}; but it is surer of what is right, its log loss is {best.log_loss:.3f} and not "
        f"{own.log_loss:.3f}"
    )


def _merit(one: Tried) -> float:
    """Return what a network is ranked by: the mean of the probe's and the neighbours' accuracy."""
    return one.accuracy if one.knn is None else (one.accuracy + one.knn) / 2
