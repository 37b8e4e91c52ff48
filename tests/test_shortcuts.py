"""Facts that betray the label without a look at the picture."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.file_facts import Fact, name_facts
from headstart.out_of_fold import deal
from headstart.shortcuts import Shortcut, finding, shortcuts

CLASSES = ["cat", "dog", "owl"]
N = 180
LABELS = np.arange(N) % 3
NAMES = [f"{number}.jpg" for number in range(N)]


def found_by(*facts: Fact, labels: np.ndarray = LABELS, units: np.ndarray | None = None):
    units = np.arange(len(labels)) if units is None else units
    fold = deal(labels, units, seed=0)
    return shortcuts(facts, labels, units, fold, CLASSES[: labels.max() + 1])


def width(leaked: int = 2, wrong: int = 0) -> Fact:
    """Widths that say nothing but of one class, whose images all but some are 640 wide."""
    values = np.random.default_rng(0).choice([300, 500, 800, 900], N)
    values[leaked == LABELS] = 640
    values[np.flatnonzero(leaked == LABELS)[:wrong]] = 500
    return Fact("image width", values, "traces")


def noise(seed: int = 1) -> Fact:
    return Fact("brightness", np.random.default_rng(seed).normal(100, 20, N), "seen")


def test_a_class_that_its_size_betrays_is_found():
    (one,) = found_by(width(), noise())
    assert (one.facts, one.reveals, one.seen) == (("image width",), ("owl",), "traces")
    assert one.accuracy == 1
    assert one.low > 0.9
    assert set(one.positions) == set(np.flatnonzero(LABELS == 2))
    told = finding(one, NAMES, CLASSES)
    assert (told.kind, told.severity) == ("shortcut", "warning")
    assert "Image width alone tells owl from the other classes in 100 % (97" in told.message
    assert "chance 50 %" in told.message
    assert "(chance 33 %)" in told.message
    assert len(told.files) == 60
    assert "resized" in (told.hint or "")


def test_a_weak_shortcut_is_a_note():
    (one,) = found_by(width(wrong=15))
    assert 0.75 <= one.low < 0.9
    assert finding(one, NAMES, CLASSES).severity == "note"


@pytest.mark.parametrize("seed", range(8))
def test_facts_that_say_nothing_are_silent(seed):
    rng = np.random.default_rng(seed)
    facts = [Fact(f"fact {number}", rng.normal(0, 1, N), "seen") for number in range(10)]
    facts.append(Fact("word", [f"w{number}" for number in rng.integers(0, 30, N)], "seen"))
    assert found_by(*facts) == ()


def test_the_same_leak_is_told_once_with_the_facts_that_show_it():
    height = Fact("image height", width().values * 3, "traces")
    (one,) = found_by(width(), height)
    assert one.facts == ("image width",)
    assert one.also == ("image height",)
    assert "So does image height." in finding(one, NAMES, CLASSES).message
    (one,) = found_by(width(), height, Fact("area", height.values**2.0, "traces"))
    assert "So do image height, area." in finding(one, NAMES, CLASSES).message


def test_two_classes_are_told_from_each_other():
    labels = np.arange(N) % 2
    (one,) = found_by(Fact("brightness", 100 + 50.0 * labels, "seen"), labels=labels)
    told = finding(one, NAMES, CLASSES[:2])
    assert "Brightness alone tells cat from dog in 100 %" in told.message
    assert "It names" not in told.message
    assert "can see it" in (told.hint or "")


def test_words_are_looked_up_however_many_classes_there_are():
    labels = np.arange(N) % 9
    fold = deal(labels, np.arange(N), seed=0)
    camera = Fact("the camera", [f"model {label}" for label in labels], "unseen")
    classes = [f"class {label}" for label in range(9)]
    (one,) = shortcuts([camera], labels, np.arange(N), fold, classes)
    assert len(one.reveals) == 9
    assert one.named == 1
    told = finding(one, NAMES, classes)
    assert "class 0, class 1, class 2, class 3, class 4, … from the others" in told.message
    assert "different sources" in " ".join((told.hint or "").split())


def test_a_habit_of_naming_is_but_a_note_and_hides_no_leak():
    names = [
        f"{CLASSES[label]}/{CLASSES[label]}_{number}.jpg" for number, label in enumerate(LABELS)
    ]
    leak, habit = found_by(width(), *name_facts(names))
    assert leak.facts == ("image width",)
    assert habit.habit
    assert habit.reveals == ("cat", "dog", "owl")
    told = finding(habit, names, CLASSES)
    assert told.severity == "note"
    assert "the network never sees it" in (told.hint or "")


def test_facts_that_tell_only_together_are_found():
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    side = rng.integers(0, 2, N)
    one = Fact("image width", 300 + 100 * side, "traces")
    other = Fact("brightness", 100.0 + 50 * (side ^ labels), "seen")
    (found,) = found_by(one, other, labels=labels)
    assert set(found.facts) == {"image width", "brightness"}
    assert found.seen == "seen"
    told = finding(found, NAMES, CLASSES[:2])
    assert "together tell cat from dog" in told.message
    assert "alone" not in told.message


def test_a_hundred_frames_of_one_film_are_one_witness():
    labels = np.repeat([0, 1], 90)
    films = np.repeat(np.arange(6), 30)  # three of each class
    dark = Fact("brightness", 50.0 + 100 * labels, "seen")
    (alone,) = found_by(dark, labels=labels)
    assert alone.low > 0.95
    assert found_by(dark, labels=labels, units=films) == ()


def test_classes_of_few_images_are_not_judged():
    labels = np.where(np.arange(N) < 9, 2, np.arange(N) % 2)
    assert found_by(Fact("width", 100 + (labels == 2), "traces"), labels=labels) == ()


def test_a_fact_that_does_not_vary_or_is_not_known_is_left_out():
    same = Fact("mode", ["RGB"] * N, "seen")
    flat = Fact("width", np.full(N, 7), "traces")
    assert found_by(same, flat) == ()
    gaps = width()
    holes = Fact("image width", np.where(np.arange(N) < 6, np.nan, gaps.values), "traces")
    assert found_by(holes)[0].reveals == ("owl",)
    assert found_by() == ()


def test_at_most_a_hundred_files_are_listed():
    one = Shortcut(
        *(("width",), ("cat",), 1.0, 0.9, 1.0, 0.5, (), "unseen", False, tuple(range(150)))
    )
    assert len(finding(one, [""] * 150, CLASSES).files) == 100
