"""What of a data set with faults is kept, left out or grouped."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from checks import audit, group, item, result, suspect
from headstart.data.read import Failure
from headstart.fixing import Fix, mend


def names(fix: Fix) -> list[str]:
    return [row.item.name for row in fix.rows]


def groups(fix: Fix) -> dict[str, str]:
    return {row.item.name: row.group for row in fix.rows if row.group}


def changes(fix: Fix, what: str) -> dict[str, str]:
    return {change.name: change.why for change in fix.changes if change.what == what}


def test_data_without_faults_stays_as_it_is():
    items = [item("a"), item("b", "dog", split="train", group="g", weight=2.0)]
    fix = mend(result(items))
    assert [row.item for row in fix.rows] == items
    assert fix.changes == ()
    assert groups(fix) == {"b": "g"}
    assert fix.classes == ("cat", "dog")


def test_what_can_t_be_read_is_left_out_and_told():
    fix = mend(result([item("a"), item("b", "dog")], failed=[Failure("c", "cut short", 2)]))
    assert names(fix) == ["a", "b"]
    assert changes(fix, "left out") == {"c": "can't be read: cut short"}


def test_one_of_identical_images_is_kept_the_shortly_named():
    items = [item("copy of a"), item("a"), item("b", "dog"), item("aa")]
    fix = mend(result(items, groups=[group(0, 1, 3, how="pixels")]))
    assert names(fix) == ["a", "b"]
    assert changes(fix, "left out") == dict.fromkeys(("copy of a", "aa"), "the same image as a")


def test_of_identical_images_test_s_is_kept_before_val_s_and_train_s():
    parts = ("train", "val", "test")
    items = [item(part, split=part) for part in parts] + [item("x", "dog", split="train")]
    assert names(mend(result(items, groups=[group(0, 1, 2)]))) == ["test", "x"]
    assert names(mend(result(items, groups=[group(0, 1)]))) == ["val", "test", "x"]


def test_identical_images_with_two_labels_are_all_left_out():
    items = [item("a", "cat"), item("b", "dog"), item("c", "dog")]
    fix = mend(result(items, groups=[group(0, 1)]))
    assert names(fix) == ["c"]
    why = "the same image is labelled cat and dog"
    assert changes(fix, "left out") == {"a": why, "b": why}


def test_a_network_that_doubts_all_labels_but_one_decides():
    items = [item("a", "cat"), item("b", "dog"), item("c", "dog"), item("d", "owl")]
    for real in (True, False):
        doubts = [suspect(it, "dog", "cat", real=real) for it in (1, 2)]
        fix = mend(result(items, groups=[group(0, 1, 2)], audit=audit(suspects=doubts)))
        assert names(fix) == ["a", "d"]
        why = "the same image is labelled cat, and looks like it"
        assert changes(fix, "left out") == {"b": why, "c": why}


def test_a_network_that_believes_none_of_the_labels_decides_nothing():
    items = [item("a", "cat"), item("b", "dog"), item("c", "owl")]
    doubts = [suspect(0, "cat", "owl"), suspect(1, "dog", "owl")]
    fix = mend(result(items, groups=[group(0, 1)], audit=audit(suspects=doubts)))
    assert names(fix) == ["c"]


def test_near_copies_share_a_group_and_say_of_which():
    items = [item("a"), item("b"), item("c", "dog"), item("d", "dog")]
    fix = mend(result(items, groups=[group(0, 1, how="near")]))
    assert groups(fix) == {"a": "near-1", "b": "near-1"}
    assert [row.note for row in fix.rows] == [
        *("nearly the same image as b", "nearly the same image as a", "", "")
    ]
    assert changes(fix, "grouped")["b"] == "near-1: nearly the same image as a"


def test_near_copies_with_two_labels_are_kept_and_told():
    items = [item("a"), item("b", "dog")]
    fix = mend(result(items, groups=[group(0, 1, how="near")]))
    assert [row.note for row in fix.rows] == [
        "nearly the same image as b, which is labelled dog",
        "nearly the same image as a, which is labelled cat",
    ]


def test_near_copies_across_the_split_leave_train():
    items = [item(part, split=part) for part in ("train", "val", "test")]
    fix = mend(result(items, groups=[group(0, 2, how="near")]))
    assert names(fix) == ["val", "test"]
    told = "nearly the same image as test, which is in test"
    assert changes(fix, "left out") == {"train": told}
    assert groups(fix) == {}
    items[0] = item("train")  # its part is left open: it may come to be train
    assert changes(mend(result(items, groups=[group(0, 2, how="near")])), "left out") == {
        "train": told
    }


def test_a_near_copy_of_what_is_left_out_is_let_be():
    items = [item("a"), item("aa"), item("aaa"), item("d", "dog")]
    both = [group(0, 1), group(0, 1, 2, how="near")]
    fix = mend(result(items, groups=both))
    assert names(fix) == ["a", "aaa", "d"]
    assert groups(fix) == {"a": "near-1", "aaa": "near-1"}
    items[1] = item("aa", "dog")
    fix = mend(result(items, groups=both))
    assert names(fix) == ["aaa", "d"]
    assert groups(fix) == {}


def test_the_data_s_own_groups_are_joined_by_near_copies():
    items = [
        *(item("a", group="p"), item("b", group="p"), item("c", group="q")),
        *(item("d"), item("e"), item("f", group="near-1"), item("g")),
    ]
    near = [group(1, 2, how="near"), group(2, 3, how="near"), group(4, 6, how="near")]
    fix = mend(result(items, groups=near))
    assert groups(fix) == {
        **dict.fromkeys("abcd", "p+q"),
        **dict.fromkeys("eg", "near-2"),
        "f": "near-1",
    }
    assert changes(fix, "grouped")["a"] == "p+q: joined by a near copy"


def test_what_the_network_finds_near_counts_too():
    items = [item("a"), item("b"), item("c")]
    found = audit(near=[(1, 2)])
    fix = mend(result(items, groups=[group(0, 1, how="near")], audit=found))
    assert groups(fix) == dict.fromkeys("abc", "near-1")


def test_a_doubted_label_is_told_and_never_changed():
    items = [item("a"), item("b", "dog"), item("c", "dog")]
    doubts = [suspect(1, "dog", "cat", 0.93), suspect(2, "dog", "cat", 0.6, real=False)]
    fix = mend(result(items, audit=audit(suspects=doubts)))
    assert [row.item.label for row in fix.rows] == ["cat", "dog", "dog"]
    assert [row.suggested for row in fix.rows] == ["", "cat", ""]
    assert fix.rows[1].note == "looks like cat (doubt 93 %)"
    assert changes(fix, "suspect") == {"b": "labelled dog, looks like cat (doubt 93 %)"}


def test_what_is_odd_is_told_and_stays():
    items = [item("a"), item("b", "dog"), item("c", "dog")]
    strange = audit(outliers=[SimpleNamespace(position=2)])
    odd = [Failure("b", "one colour", 1)]
    fix = mend(result(items, suspicious=odd, audit=strange))
    assert names(fix) == ["a", "b", "c"]
    assert changes(fix, "suspect") == {"b": "one colour", "c": "unlike all other images"}


def test_a_class_that_copies_leave_without_training_images_is_a_refusal():
    items = [
        *(item(f"cat/{n}", split="train") for n in range(2)),
        item("dog", "dog", split="train"),
        *(item("held/dog", "dog", split="test"), item("held/cat", split="test")),
    ]
    assert mend(result(items)).refusal is None
    fix = mend(result(items, groups=[group(2, 3)]))
    assert names(fix) == ["cat/0", "cat/1", "held/dog", "held/cat"]
    assert fix.refusal is not None
    assert "dog" in fix.refusal.message


def test_groups_that_leave_nothing_to_test_on_are_a_refusal():
    items = [item(f"{label}/{n}", label) for label in ("cat", "dog") for n in range(2)]
    assert mend(result(items)).refusal is None
    near = [group(0, 1, how="near"), group(2, 3, how="near")]
    refusal = mend(result(items, groups=near)).refusal
    assert refusal is not None
    assert "too few images to hold any out" in refusal.message


def test_fewer_than_two_classes_are_a_refusal():
    refusal = mend(result([item("a"), item("b")])).refusal
    assert refusal is not None
    assert "Fewer than 2 classes" in refusal.message


@st.composite
def data_sets(draw):
    n = draw(st.integers(1, 12))
    split = st.sampled_from(["train", "val", "test"]) if draw(st.booleans()) else st.none()
    items = [
        item(
            f"i{number}",
            draw(st.sampled_from("ab")),
            split=draw(split),
            group=draw(st.sampled_from([None, "g", "h"])),
        )
        for number in range(n)
    ]
    kind = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    exact = [[it for it in range(n) if kind[it] == one] for one in range(5)]
    near = draw(st.lists(st.lists(st.integers(0, n - 1), unique=True), max_size=3))
    near = [members for members in near if len(members) > 1]
    return items, [members for members in exact if len(members) > 1], near


@given(data_sets())
@settings(max_examples=200, deadline=None)
def test_whatever_the_faults_no_copy_is_left_on_two_sides(drawn):
    items, exact, near = drawn
    groups_of_copies = [group(*it) for it in exact] + [group(*it, how="near") for it in near]
    fix = mend(result(items, groups=groups_of_copies))
    rows = {row.item.name: row for row in fix.rows}
    assert len(rows) + len(changes(fix, "left out")) == len(items)
    for members in exact:
        assert sum(items[it].name in rows for it in members) <= 1
    for members in near:
        left = [rows[items[it].name] for it in members if items[it].name in rows]
        assert len({row.item.split for row in left}) <= 1
        assert len({row.group for row in left}) <= 1
        assert len(left) < 2 or left[0].group
    for name in ("g", "h"):
        assert len({row.group for row in fix.rows if row.item.group == name}) <= 1
