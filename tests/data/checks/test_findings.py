from __future__ import annotations

from pathlib import Path

import pytest

from headstart.data.checks import findings as module
from headstart.data.checks.copies import Group
from headstart.data.checks.findings import (
    Finding,
    by_severity,
    classes,
    copies,
    group_leaks,
    judge_failures,
    noted,
    unreadable,
)
from headstart.data.items import Item
from headstart.data.read import DEEP, FRAMES, Failure
from headstart.errors import DataError


def item(name: str, label: str = "cat", split: str | None = None, group: str | None = None) -> Item:
    return Item(Path(name), name, label, split, group)


def bad(n: int) -> list[Failure]:
    return [Failure(f"{number}.jpg", "cut short", number) for number in range(n)]


@pytest.mark.parametrize(
    ("failed", "total", "max_bad", "borne"),
    [
        (0, 10, 0.0, True),
        (1, 10, 0.0, False),
        (1, 100, 0.01, True),
        (2, 100, 0.01, False),
        (29, 100, 0.29, True),
        (10, 10, 1.0, False),
        (9, 10, 1.0, True),
        (0, 0, 0.0, True),
    ],
)
def test_the_share_of_failures_decides(failed, total, max_bad, borne) -> None:
    if borne:
        assert len(judge_failures(total, bad(failed), max_bad)) == (failed > 0)
    else:
        with pytest.raises(DataError, match=f"{failed} of {total} images can't be read"):
            judge_failures(total, bad(failed), max_bad)


def test_a_list_of_failures_names_ten_and_keeps_a_hundred() -> None:
    finding = unreadable(300, bad(120), "error")
    assert (finding.kind, finding.severity, len(finding.files)) == ("unreadable", "error", 100)
    assert finding.message.count("cut short") == 10
    assert finding.message.endswith("9.jpg: cut short; ….")


def test_near_copies_say_what_they_are() -> None:
    items = [item("a.jpg"), item("b.jpg"), item("c.jpg")]
    exact, near = copies(items, [Group("bytes", (0, 1)), Group("near", (1, 0, 2))])
    assert (exact.kind, exact.message, exact.hint) == (
        "duplicate",
        "2 files hold the same image.",
        None,
    )
    assert (near.kind, near.severity) == ("near-duplicate", "note")
    assert near.message == "3 files hold nearly the same image."
    assert near.files == ("b.jpg", "a.jpg", "c.jpg")
    assert "group in a table" in near.hint


@pytest.mark.parametrize("how", ["bytes", "pixels", "near"])
def test_copies_across_classes_and_splits_are_told_by_both(how) -> None:
    items = [item("a.jpg", "cat", "train"), item("b.jpg", "dog", "test")]
    label, leak = copies(items, [Group(how, (0, 1))])
    alike = "nearly the same image" if how == "near" else "the same image"
    assert label.message == f"2 files hold {alike} under different labels: cat, dog."
    assert leak.message == f"2 files hold {alike} in different splits: a.jpg (train), b.jpg (test)."
    assert label.severity == leak.severity == "warning"
    assert ("Look at them" in leak.hint) is (how == "near")


def test_a_hundred_groups_of_a_kind_are_told_and_the_rest_summed_up(monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 2)
    items = [item(f"{n}.jpg", "cat" if n < 9 else "dog") for n in range(10)]
    groups = [Group("bytes", (n, n + 1)) for n in range(0, 10, 2)]
    found = list(copies(items, groups))
    assert [finding.kind for finding in found] == ["duplicate"] * 3 + ["label"]
    assert (found[2].message, found[2].files) == ("2 more such groups of copies.", ())


def test_groups_in_two_splits_leak() -> None:
    items = [
        item("a.jpg", split="train", group="ann"),
        item("b.jpg", split="test", group="ann"),
        item("c.jpg", split="train", group="bob"),
        item("d.jpg", split="train", group="bob"),
        item("e.jpg", group="cid"),
        item("f.jpg", split="test"),
    ]
    (finding,) = group_leaks(items)
    assert (finding.kind, finding.severity) == ("group-leak", "warning")
    assert finding.message == "1 group in more than one split: ann."
    assert finding.files == ("a.jpg", "b.jpg")
    assert not list(group_leaks(items[1:]))


class Counted(str):
    """A text that counts how often it is looked up or compared."""

    times = 0

    def __hash__(self) -> int:
        Counted.times += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.times += 1
        return super().__eq__(other)


def test_many_torn_groups_are_listed_in_one_go() -> None:
    items = [
        item(f"{n}.jpg", split="train" if n % 2 else "test", group=Counted(f"{n // 2:03}"))
        for n in range(400)
    ]
    Counted.times = 0
    (finding,) = group_leaks(items)
    assert finding.message.startswith("200 groups in more than one split: 000, 001,")
    assert Counted.times < 20 * len(items)


def test_a_class_that_is_ten_times_another_is_told() -> None:
    def found(cats: int, dogs: int) -> list[Finding]:
        items = [item(f"{n}", "cat" if n < cats else "dog") for n in range(cats + dogs)]
        return list(classes(("cat", "dog"), items, range(cats + dogs)))

    assert found(29, 3) == []
    (finding,) = found(30, 3)
    assert (finding.kind, finding.message) == ("imbalance", "cat has 30 images, dog only 3.")


def test_copies_do_not_make_a_class_measurable() -> None:
    items = [item(f"{n}", "cat" if n < 3 else "dog") for n in range(6)]
    assert not list(classes(("cat", "dog"), items, [0, 1, 2, 3, 4, 5]))
    (finding,) = classes(("cat", "dog", "owl"), items, [0, 1, 2, 3, 3, 3])
    assert finding.message == "Classes with fewer than 3 different images: dog (1), owl (0)."


def test_classes_that_a_given_split_lacks_are_told() -> None:
    items = [item(f"{n}", "cat" if n % 2 else "dog", "train") for n in range(6)]
    assert not list(classes(("cat", "dog"), items, range(6)))
    (finding,) = classes(("cat", "dog"), [*items, item("t", "cat", "test")], range(7))
    assert finding.message == "Classes without an image in the data's own test: dog."


def test_notes_are_counted_by_kind() -> None:
    items = [item(name) for name in "abcd"]
    notes = [(DEEP,), (FRAMES, "PNG named .jpg"), ("PNG named .jpg",), ()]
    found = list(noted(items, notes))
    assert [(finding.kind, finding.files) for finding in found] == [
        ("depth", ("a",)),
        ("format", ("b", "c")),
        ("frames", ("b",)),
    ]
    assert found[1].message == "2 of 4 images: PNG named .jpg."


def test_the_gravest_come_first_and_else_the_order_stays() -> None:
    graves = ("note", "warning", "error", "note", "warning")
    found = by_severity([Finding(str(n), grave, (), "") for n, grave in enumerate(graves)])
    assert "".join(finding.kind for finding in found) == "21403"
