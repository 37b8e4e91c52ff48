"""What is chosen of a source: classes, groups, another test part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from headstart.data.choosing import choose, choose_classes, group_items, problems, with_test
from headstart.data.items import Dataset, Item
from headstart.data.reading import Reading
from headstart.errors import DataError, UnknownName, UsageError


def made(*rows: str, name: str = "photos", **fields: object) -> Dataset:
    """Make a data set of rows ``part:label/file``; the part may be missing."""
    root = Path("/data") / name
    items = []
    for row in rows:
        part, _, path = row.rpartition(":")
        items.append(Item(root / path, path, path.split("/")[0], part or None))
    ordered = tuple(sorted(items, key=lambda item: item.name))
    classes = tuple(sorted({item.label for item in items}))
    return replace(Dataset(name, root, ordered, classes), **fields)


PETS = made("cats/1.png", "cats/2.png", "dogs/1.png", "owls/1.png", notes=("One.",))


def names(dataset: Dataset) -> list[str]:
    return [item.name for item in dataset.items]


# Problems that no source can mend


@pytest.mark.parametrize(
    ("reading", "option", "text"),
    [
        (Reading(columns={"lable": "x"}), "column", "path, label, split, group, weight"),
        (Reading(columns={"label": ""}), "column", "own column for label"),
        (Reading(columns={"label": "x", "group": "x"}), "column", "'x' two meanings"),
        (Reading(classes=()), "classes", "names with commas between"),
        (Reading(classes=("a", "")), "classes", "names with commas between"),
        (Reading(classes=("a", "b", "a")), "classes", "not 'a' twice"),
        (Reading(group_by="("), "group-by", "a regular expression, not '('"),
    ],
)
def test_what_is_wrong_whatever_the_source_is_told(reading, option, text) -> None:
    ((found, what),) = problems(reading)
    assert found == option
    assert text in what


def test_what_can_be_meant_is_no_problem() -> None:
    assert not [*problems(Reading())]
    fine = Reading(columns={"label": "a", "path": "b"}, classes=("b", "a"), group_by=r"(\d+)")
    assert not [*problems(fine)]


# Classes


def test_classes_are_taken_in_the_order_given_and_the_others_counted() -> None:
    dataset = choose_classes(PETS, ("dogs", "cats"))
    assert dataset.classes == ("dogs", "cats")
    assert names(dataset) == ["cats/1.png", "cats/2.png", "dogs/1.png"]
    assert dataset.notes == ("One.", "1 other class with 1 image left out by --classes: owls.")
    assert choose_classes(PETS, ("owls",)).notes[-1] == (
        "2 other classes with 3 images left out by --classes: cats, dogs."
    )


def test_all_classes_in_another_order_need_no_note() -> None:
    dataset = choose_classes(PETS, ("owls", "dogs", "cats"))
    assert dataset.classes == ("owls", "dogs", "cats")
    assert (dataset.items, dataset.notes) == (PETS.items, PETS.notes)


def test_an_unknown_class_gets_close_matches() -> None:
    with pytest.raises(UnknownName, match="There is no class named 'cat'") as caught:
        choose_classes(PETS, ("dogs", "cat"))
    assert caught.value.hint == "Did you mean cats?"
    assert caught.value.field == "classes"
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownName) as caught:
        choose_classes(PETS, ("zebra",))
    assert caught.value.hint == "Known: cats, dogs, owls."


# Groups


def groups(dataset: Dataset) -> dict[str, str | None]:
    return {item.name: item.group for item in dataset.items}


PARTS = made("cats/p1-a.png", "cats/p1-b.png", "dogs/p2-a.png", "dogs/x.png")


def test_the_group_is_what_the_first_group_matches_or_the_whole() -> None:
    assert groups(group_items(PARTS, r"p(\d+)-(\w)")) == {
        "cats/p1-a.png": "1",
        "cats/p1-b.png": "1",
        "dogs/p2-a.png": "2",
        "dogs/x.png": None,
    }
    assert groups(group_items(PARTS, r"p\d+-"))["cats/p1-a.png"] == "p1-"
    assert groups(group_items(PARTS, r"p(?:\d+)-"))["cats/p1-a.png"] == "p1-"
    assert groups(group_items(PARTS, r"^(\w+)/"))["dogs/x.png"] == "dogs"


def test_the_groups_and_what_has_none_are_counted() -> None:
    assert group_items(PARTS, r"p(\d+)").notes == (
        r"2 groups by 'p(\d+)'; the largest has 2 images.",
        "No match and no group: 1 image, as dogs/x.png.",
    )
    assert group_items(PARTS, "x").notes[0] == "1 group by 'x'; the largest has 1 image."
    assert (
        group_items(PARTS, "x")
        .notes[1]
        .startswith("No match and no group: 3 images, as cats/p1-a.png, ")
    )
    assert len(group_items(PARTS, r"^(\w+)/").notes) == 1


def test_a_group_that_takes_no_part_or_matches_nothing_is_no_match() -> None:
    assert groups(group_items(PARTS, r"(p1)?-a|x"))["dogs/p2-a.png"] is None
    assert groups(group_items(PARTS, r"\d*$|p1.*"))["dogs/x.png"] is None
    assert groups(group_items(PARTS, r"([12]?)-a"))["cats/p1-b.png"] is None


def test_groups_of_the_data_give_way_and_that_is_told() -> None:
    own = replace(PARTS, items=tuple(replace(item, group="g") for item in PARTS.items))
    dataset = group_items(own, r"p(\d+)")
    assert groups(dataset)["dogs/x.png"] is None
    assert "They take the place of the groups that the data names." in dataset.notes


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("(", "must be a regular expression, not '('"),
        ("nothing", "matches nothing in the names of 4 images"),
        ("z*", "matches nothing"),
        ("png", "finds 'png' in every name: all 4 images would be one group"),
    ],
)
def test_a_pattern_that_finds_no_groups_is_refused(pattern, found) -> None:
    with pytest.raises(UsageError) as caught:
        group_items(PARTS, pattern)
    assert found in caught.value.message
    assert caught.value.field == "group-by"
    assert caught.value.hint


# Another test part


OTHERS = made("cats/1.png", "dogs/9.png", name="others", notes=("Two.",))


def test_the_other_images_are_the_test_under_names_of_their_own() -> None:
    dataset = with_test(PETS, OTHERS)
    assert {item.name: item.split for item in dataset.items} == {
        "cats/1.png": None,
        "cats/2.png": None,
        "dogs/1.png": None,
        "owls/1.png": None,
        "test/cats/1.png": "test",
        "test/dogs/9.png": "test",
    }
    assert names(dataset) == sorted(names(dataset))
    by_name = {item.name: item for item in dataset.items}
    assert by_name["test/cats/1.png"].path == Path("/data/others/cats/1.png")
    assert by_name["test/cats/1.png"].label == "cats"
    assert (dataset.classes, dataset.root) == (PETS.classes, PETS.root)
    assert dataset.notes == ("One.", "test is others: 2 images.", "Two.")


def test_names_stay_unique_whatever_they_are() -> None:
    main = made("test/1.png", "test-2/1.png", "cats/1.png")
    dataset = with_test(main, made("1.png", name="others"))
    assert "test-3/1.png" in names(dataset)
    assert len(set(names(dataset))) == 4


def test_train_and_val_stay_as_they_are() -> None:
    main = made("train:cats/1.png", "val:cats/2.png", "train:dogs/1.png")
    assert [item.split for item in with_test(main, OTHERS).items] == [
        *("train", "val", "train", "test", "test"),
    ]


def test_of_a_source_with_parts_its_test_is_taken() -> None:
    others = made("train:cats/1.png", "test:cats/9.png", name="others")
    dataset = with_test(PETS, others)
    assert [item.name for item in dataset.items if item.split] == ["test/cats/9.png"]
    assert "test is the test part of others: 1 image." in dataset.notes


def test_two_tests_are_refused_and_what_to_drop_is_told() -> None:
    main = made("train:cats/1.png", "test:cats/2.png", "train:dogs/1.png")
    with pytest.raises(
        UsageError, match=r"has a test part of its own \(1 image, as cats/2"
    ) as caught:
        with_test(main, OTHERS)
    assert caught.value.field == "test"
    assert caught.value.hint.startswith("Leave --test out")


def test_images_of_data_are_no_test(tree) -> None:
    root = tree({"cats/1.png": 1, "dogs/2.png": 2, "link": "cats"})
    items = [Item(root / name, name, name[:4]) for name in ("cats/1.png", "dogs/2.png")]
    main = Dataset("photos", root, tuple(items), ("cats", "dogs"))
    linked = Dataset("link", root, (Item(root / "link/1.png", "1.png", "cats"),), ("cats",))
    with pytest.raises(UsageError, match=r"--test holds 1 image that DATA has too \(1\.png\)"):
        with_test(main, linked)


# All together


def test_classes_of_a_part_that_train_lacks_are_refused_unless_they_are_left_out() -> None:
    dataset = made("train:cats/1.png", "train:dogs/1.png", "val:cats/2.png", "test:owls/1.png")
    with pytest.raises(DataError, match="test has classes that train lacks: owls") as caught:
        choose(dataset, Reading(), min_classes=2)
    assert "train: cats, dogs\ntest: owls" in caught.value.message
    chosen = choose(dataset, Reading(classes=("dogs", "cats")), min_classes=2)
    assert chosen.classes == ("dogs", "cats")


def test_images_without_a_part_are_learnt_from() -> None:
    dataset = made("cats/1.png", "dogs/1.png", "test:dogs/2.png")
    assert choose(dataset, Reading(), min_classes=2) == dataset
    with pytest.raises(DataError, match="test has classes that train lacks: owls"):
        choose(made("cats/1.png", "test:owls/2.png"), Reading(), min_classes=2)


@pytest.mark.parametrize("least", [0, 1])
def test_what_is_not_learnt_from_may_have_any_classes_in_any_part(least) -> None:
    dataset = made("train:cats/1.png", "train:dogs/1.png", "test:birds/1.png")
    dataset = replace(dataset, classes=("cats", "dogs"))  # train's, as every source says
    chosen = choose(dataset, Reading(), min_classes=least)
    assert chosen == replace(dataset, classes=("birds", "cats", "dogs"))


def test_a_test_alone_can_have_any_classes() -> None:
    dataset = made("test:cats/1.png", "test:owls/1.png")
    assert choose(dataset, Reading(), min_classes=1) == dataset


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"found 1 class \(cats\); need 2\+") as caught:
        choose(PETS, Reading(classes=("cats",)), min_classes=2)
    assert caught.value.field == "classes"
    assert "--classes" in caught.value.hint
    with pytest.raises(DataError, match=r"found 1 class \(cats\)") as caught:
        choose(made("cats/1.png"), Reading(), min_classes=2)
    assert caught.value.field == "data"
    with pytest.raises(DataError, match="found no class"):
        choose(made(), Reading(), min_classes=1)
    assert choose(PETS, Reading(classes=("cats",)), min_classes=1).classes == ("cats",)


def test_groups_are_looked_for_in_the_names_of_each_source() -> None:
    others = made("cats/p3-a.png", "dogs/p1-b.png", name="others")
    reading = Reading(group_by=r"^\w+/(p\d+)", test="others")
    dataset = choose(with_test(PARTS, others), reading, min_classes=2)
    assert groups(dataset) == {
        "cats/p1-a.png": "p1",
        "cats/p1-b.png": "p1",
        "dogs/p2-a.png": "p2",
        "dogs/x.png": None,
        "test/cats/p3-a.png": "p3",
        "test/dogs/p1-b.png": "p1",
    }
    with pytest.raises(UsageError, match="matches nothing in the names of 6 images"):
        choose(with_test(PARTS, others), replace(reading, group_by="^test/"), min_classes=2)
    own = made("cats/1.png", "test:dogs/1.png", "dogs/2.png")  # a folder of its own is no addition
    assert groups(choose(own, Reading(group_by=r"^(\w+)/"), min_classes=2))["dogs/1.png"] == "dogs"


def test_groups_are_looked_for_among_the_chosen_only() -> None:
    dataset = choose(PARTS, Reading(classes=("cats",), group_by=r"-(\w)"), min_classes=1)
    assert groups(dataset) == {"cats/p1-a.png": "a", "cats/p1-b.png": "b"}
