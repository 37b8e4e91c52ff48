"""The rule of ``auto``: which facts lead to which choices, and the numbers told of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.strategy.decision import Decision, Tried, percent
from headstart.strategy.rule import (
    choose_backbone,
    choose_resize,
    choose_symmetry,
    worth_of_pretraining,
)

CROP = Tried("crop", 0.80, 600, log_loss=0.60)
SQUASH = Tried("squash", 0.86, 600, 0.06, 0.012, True, log_loss=0.45)
PAD = Tried("pad", 0.83, 600, 0.03, 0.014, True, log_loss=0.40)
SAME = Tried("pad", 0.805, 600, 0.005, 0.014, None, log_loss=0.59)
WORSE = Tried("squash", 0.74, 600, -0.06, 0.015, False, log_loss=0.80)

shares = st.floats(0, 1)
tried = st.builds(
    Tried,
    st.sampled_from(["squash", "pad", "zoo:b", "zoo:c"]),
    shares,
    st.integers(10, 600),
    st.floats(-1, 1),
    st.floats(0, 0.2),
    st.sampled_from([True, False, None]),
    st.none() | shares,
    st.floats(0, 5),
)


def whole(decision: Decision) -> Decision:
    """Check what every decision must have, and return it."""
    json.dumps(decision.to_dict(), allow_nan=False)
    for text in (decision.reason, decision.otherwise):
        assert text.endswith(".")
        assert text[0].isupper()
        assert "  " not in text
    return decision


# The resize rule


def test_the_best_of_the_better_rules_is_taken() -> None:
    decision = whole(choose_resize(CROP, [PAD, SQUASH]))
    assert (decision.question, decision.choice) == ("resize", "squash")
    for part in (
        "86.0\N{NO-BREAK SPACE}% of 600 training images",
        "80.0\N{NO-BREAK SPACE}% with crop",
        "+6.0 points",
        "1.2 points",
    ):
        assert part in decision.reason
    assert "log loss" not in decision.reason
    assert "--resize" in decision.otherwise
    assert set(decision.numbers) == {"crop", "squash", "pad"}
    assert decision.numbers["squash"] == SQUASH.numbers


def test_of_equal_accuracies_the_lower_log_loss_wins() -> None:
    level = Tried("pad", 0.86, 600, 0.06, 0.012, True, log_loss=0.44)
    assert choose_resize(CROP, [SQUASH, level]).choice == "pad"
    assert choose_resize(CROP, [level, SQUASH]).choice == "pad"


def test_a_rule_that_is_only_surer_says_so() -> None:
    surer = Tried("pad", 0.80, 600, 0.0, 0.010, True, log_loss=0.31)
    decision = whole(choose_resize(CROP, [surer]))
    assert decision.choice == "pad"
    assert "+0.0 points, noise 1.0 points; but it is surer" in decision.reason
    assert "log loss is 0.310 and not 0.600" in decision.reason


@pytest.mark.parametrize("others", [[SAME], [WORSE], [WORSE, SAME]])
def test_within_the_noise_the_networks_own_rule_stays(others) -> None:
    decision = whole(choose_resize(CROP, others))
    assert decision.choice == "crop"
    assert "80.0\N{NO-BREAK SPACE}% of 600 training images" in decision.reason
    for other in others:
        assert f"{100 * other.accuracy:.1f}\N{NO-BREAK SPACE}% with {other.name}" in decision.reason


def test_square_images_leave_nothing_to_decide() -> None:
    decision = whole(choose_resize(CROP, []))
    assert decision.choice == "crop"
    assert "square" in decision.reason


@settings(deadline=None)
@given(st.lists(tried, max_size=3))
def test_only_a_better_rule_replaces_the_networks_own(others) -> None:
    choice = whole(choose_resize(CROP, others)).choice
    better = [one for one in others if one.better]
    best = max((one.accuracy for one in better), default=None)
    assert (choice == "crop") == (not better)
    assert not better or choice in {one.name for one in better if one.accuracy == best}


# Symmetries


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "Mirror images are not used: "),
        ("flip", "Left and right mean the same: "),
        ("square", "All eight mirror images and quarter turns mean the same: "),
    ],
)
def test_a_symmetry_is_told_in_words_with_the_probes_reason(name, said) -> None:
    for stop in ("", "."):
        decision = whole(choose_symmetry(name, f"a probe has 9 of 10 right{stop}", {"plain": 0.9}))
        assert (decision.question, decision.choice) == ("symmetry", name)
        assert decision.reason == f"{said}a probe has 9 of 10 right."
        assert decision.numbers == {"plain": 0.9}
        assert "--symmetry" in decision.otherwise


def test_a_symmetry_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="round"):
        choose_symmetry("round", "", {})


# What pre-training is worth


@pytest.mark.parametrize(
    ("random", "said"),
    [
        (0.50, "the pre-training is worth 30.0 points before anything is trained."),
        (0.79, "within the noise, the pre-training is of no use before something is trained."),
        (0.81, "within the noise, the pre-training is of no use before something is trained."),
        (0.90, "before anything is trained random weights do better, by 10.0 points."),
    ],
)
def test_pre_training_is_kept_and_its_worth_is_told(random, said) -> None:
    noise = 0.02
    decision = whole(
        worth_of_pretraining(CROP, Tried("random", random, 600, random - 0.8, noise, None))
    )
    assert (decision.question, decision.choice) == ("weights", "pre-trained")
    assert decision.reason.endswith(said)
    assert "80.0\N{NO-BREAK SPACE}% of 600 training images" in decision.reason
    assert decision.numbers["random"]["accuracy"] == random


# The network

DEFAULT = Tried("zoo:a", 0.80, 600, knn=0.70, log_loss=0.6)
GOOD = Tried("zoo:b", 0.86, 600, 0.06, 0.012, True, knn=0.75, log_loss=0.5)
BEST = Tried("zoo:c", 0.88, 600, 0.08, 0.012, True, knn=0.76, log_loss=0.4)
LEVEL = Tried("zoo:d", 0.81, 600, 0.01, 0.012, None, knn=0.90, log_loss=0.6)


def test_the_best_of_the_final_two_that_are_better_is_taken() -> None:
    decision = whole(choose_backbone(DEFAULT, [GOOD, LEVEL, BEST], final=("zoo:b", "zoo:c")))
    assert (decision.question, decision.choice) == ("backbone", "zoo:c")
    for part in (
        "88.0\N{NO-BREAK SPACE}% of 600",
        "those of zoo:a give 80.0\N{NO-BREAK SPACE}%",
        "+8.0 points, noise 1.2 points",
    ):
        assert part in decision.reason
    shares = {"a": 0.8, "d": 0.81, "c": 0.88, "b": 0.86}
    tried = ", ".join(f"zoo:{name} {percent(share)}" for name, share in shares.items())
    assert f"Tried: {tried}." in decision.reason
    assert set(decision.numbers) == {"zoo:a", "zoo:b", "zoo:c", "zoo:d"}


def test_the_neighbours_have_a_say_in_the_rank() -> None:
    far = Tried("zoo:e", 0.89, 600, 0.09, 0.012, True, knn=0.60)
    assert choose_backbone(DEFAULT, [GOOD, far], final=("zoo:b", "zoo:e")).choice == "zoo:b"


def test_who_is_not_in_the_final_is_not_taken() -> None:
    assert choose_backbone(DEFAULT, [GOOD, BEST], final=("zoo:b",)).choice == "zoo:b"
    assert choose_backbone(DEFAULT, [GOOD, BEST]).choice == "zoo:a"


def test_the_default_stays_unless_another_is_better() -> None:
    decision = whole(choose_backbone(DEFAULT, [LEVEL], final=("zoo:d",)))
    assert decision.choice == "zoo:a"
    assert "zoo:a 80.0\N{NO-BREAK SPACE}%, zoo:d 81.0\N{NO-BREAK SPACE}%" in decision.reason
    assert "--backbone" in decision.otherwise


def test_what_was_not_tried_is_told_with_its_reason() -> None:
    skipped = {"zoo:x": "no time", "zoo:y": "its file is damaged"}
    for others in ([], [LEVEL], [BEST]):
        decision = whole(choose_backbone(DEFAULT, others, final=("zoo:c",), skipped=skipped))
        assert "Not tried: zoo:x (no time); zoo:y (its file is damaged)." in decision.reason
        assert decision.numbers["skipped"] == skipped
    alone = choose_backbone(DEFAULT, [], skipped=skipped)
    assert alone.reason.startswith("None of the others at hand could be tried.")
    assert "--budget" in alone.otherwise


def test_alone_the_default_is_taken_and_how_to_have_others_is_told() -> None:
    decision = whole(choose_backbone(DEFAULT, []))
    assert decision.choice == "zoo:a"
    assert "headstart models fetch" in decision.otherwise
    assert set(decision.numbers) == {"zoo:a"}


@settings(deadline=None)
@given(st.lists(tried, max_size=4, unique_by=lambda one: one.name))
def test_only_a_better_finalist_replaces_the_default(others) -> None:
    final = {"zoo:b", "squash"}
    choice = whole(choose_backbone(DEFAULT, others, final=final)).choice
    able = {one.name for one in others if one.better and one.name in final}
    assert choice in able if able else choice == "zoo:a"
