from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import FRACTION_SETS, given_split, grouped_tables, items_of, sides, table

from headstart.data.items import Item
from headstart.data.splits.folds import k_folds
from headstart.data.splits.split import make_split
from headstart.data.splits.split_file import COLUMNS, read_split, write_split
from headstart.data.splits.thinning import limit
from headstart.errors import DataError, ResourceError
from headstart.files import digest

# What a file's name may hold, bytes that are not UTF-8 among it; and what a folder's may, a label.
NAMES = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.text("\r\n\t\"',;a é\u2028\ufeff", min_size=1, max_size=12).map(str.encode),
).map(lambda name: name.replace(b"\0", b"-").decode("utf-8", "surrogateescape"))


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("split") / "split.csv"


def by_hand(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@settings(deadline=None)
@given(data=grouped_tables(), shares=FRACTION_SETS, seed=st.integers(0, 3))
def test_a_split_comes_back_with_its_digest(file, data, shares, seed) -> None:
    items, digests = data
    split = make_split(items, digests, fractions=shares, seed=seed)
    labels = {items[index].label for index in split.train}
    if labels != {item.label for item in items}:  # copies under two labels, and one in train
        return
    write_split(split, items, digests, file)
    again = read_split(file, items, digests)
    assert (again.train, again.val, again.test) == (split.train, split.val, split.test)
    assert again.digest == split.digest
    assert (again.notes, again.findings, again.removed) == ((), (), ())
    assert again.origin == "given by split.csv"


@settings(deadline=None)
@given(names=st.lists(NAMES, min_size=4, max_size=9, unique=True), label=NAMES)
def test_any_name_comes_back(file, names, label) -> None:
    items = [Item(Path("x"), name, (label, "b")[n % 2]) for n, name in enumerate(names)]
    digests = [digest(str(n)) for n in range(len(names))]
    split = make_split(items, digests)
    write_split(split, items, digests, file)
    again = read_split(file, items, [digest("other") + str(n) for n in range(len(names))])
    assert (again.train, again.val, again.test) == (split.train, split.val, split.test)


def test_the_file_is_a_table_of_four_columns(file) -> None:
    items, digests = table({"a": 10, "b,\n": 10})
    split = make_split(items, digests)
    write_split(split, items, digests, file)
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    assert tuple(header) == COLUMNS == ("name", "label", "split", "digest")
    where = sides(split)
    assert rows == [[item.name, item.label, where[n], digests[n]] for n, item in enumerate(items)]


@pytest.mark.parametrize("options", [{"n": 9}, {"per_class": 3}, {"per_class": 6, "n": 9}])
def test_a_thinned_split_comes_back(file, options) -> None:
    items, digests = table({"a": 30, "b": 20})
    split = limit(make_split(items, digests), [i.label for i in items], digests, **options)
    write_split(split, items, digests, file)
    again = read_split(file, items, digests)
    assert (again.train, again.digest) == (split.train, split.digest)
    assert again.origin == f"given by split.csv; train thinned to {len(split.train)}"
    assert file.read_text().count('"unused"') == 50 - len(sides(split))


def test_folds_and_the_datas_own_split_come_back(file) -> None:
    items, digests = table({"a": 30, "b": 20})
    for split in k_folds(items, digests, 3):
        write_split(split, items, digests, file)
        assert read_split(file, items, digests).digest == split.digest
    items, digests = given_split(*((part, {"a": 6, "b": 6}) for part in ("train", "val", "test")))
    digests[0] = digests[30]
    own = make_split(items, digests)
    write_split(own, items, digests, file)
    again = read_split(file, items, digests)
    assert (again.digest, again.removed) == (own.digest, own.removed) == (own.digest, (0,))
    assert again.notes == ("split.csv leaves out 1 copies of images in a more held-out part.",)


# Images that are not as they were


@pytest.fixture
def written(file):
    items, digests = table({"a": 20, "b": 20})
    split = make_split(items, digests)
    write_split(split, items, digests, file)
    return items, digests, split


def test_renamed_images_are_found_by_content(file, written) -> None:
    items, digests, split = written
    renamed = [replace(item, name=f"new/{n}") for n, item in enumerate(items)]
    again = read_split(file, renamed, digests)
    assert (again.train, again.val, again.test) == (split.train, split.val, split.test)
    (note,) = again.notes
    assert note.startswith("40 images were found in split.csv by content: new/0, ")


def test_images_that_changed_names_among_each_other_are_found_by_content(file, written) -> None:
    items, digests, split = written
    one, other = split.train[0], split.test[0]
    swapped = list(items)
    swapped[one] = replace(items[one], name=items[other].name)
    swapped[other] = replace(items[other], name=items[one].name)
    again = read_split(file, swapped, digests)
    assert (again.train, again.val, again.test) == (split.train, split.val, split.test)


def test_changed_images_are_found_by_name_and_told(file, written) -> None:
    items, digests, split = written
    changed = [digest("new"), *digests[1:]]
    again = read_split(file, items, changed)
    assert (again.train, again.val, again.test) == (split.train, split.val, split.test)
    assert again.digest != split.digest
    assert again.notes == (f"1 images have changed since split.csv: {items[0].name}.",)


def test_a_new_copy_goes_where_its_image_is(file, written) -> None:
    items, digests, split = written
    for part in ("train", "val", "test"):
        known = getattr(split, part)[0]
        again = read_split(
            file, [*items, replace(items[known], name="copy")], [*digests, digests[known]]
        )
        assert sides(again)[40] == part
        assert again.removed == ()


def test_unknown_images_are_an_error_that_names_ten(file, written) -> None:
    items, digests, _ = written
    more, new = table({"c": 12})
    with pytest.raises(DataError, match=r"12 of 52 images are not in .*split\.csv: ") as raised:
        read_split(file, [*items, *more], [*digests, *new])
    assert raised.value.message.count("None/c/") == 10
    assert raised.value.message.endswith(", ….")
    assert "leave --split out" in raised.value.hint


def test_images_that_are_gone_are_counted(file, written) -> None:
    items, digests, split = written
    again = read_split(file, items[2:], digests[2:])
    assert again.notes == (
        f"2 images of split.csv are not among the readable ones: {items[0].name}, {items[1].name}.",
    )
    assert {n + 2 for n in again.train} == set(split.train) - {0, 1}


def test_another_label_and_the_datas_own_split_are_told(file, written) -> None:
    items, digests, split = written
    held = split.test[0]
    items[split.train[0]] = replace(items[split.train[0]], label="b")
    items[held] = replace(items[held], split="train")
    again = read_split(file, items, digests)
    assert again.test == split.test
    labels, moved = again.notes
    assert "1 images have another label than in split.csv" in labels
    assert moved == f"1 images lie in another part than the data itself says: {items[held].name}."


# Tables by hand


def test_a_name_and_a_split_are_enough(tmp_path) -> None:
    path = by_hand(
        tmp_path / "my.csv",
        "\ufeffSplit;NAME",
        *(f"{s};{n:04}.png" for n, s in enumerate(["Train", " train ", "val", "TEST"])),
    )
    items, digests = items_of([("a", None, None)] * 4)
    split = read_split(path, items, digests)
    assert (split.train, split.val, split.test) == ((0, 1), (2,), (3,))
    assert split.notes == ()


def test_copies_and_groups_across_a_table_are_treated_as_in_any_given_split(tmp_path) -> None:
    items, digests = items_of([("a", None, f"{n % 3}") for n in range(6)])
    digests[0] = digests[5]
    parts = ["train", "train", "train", "val", "test", "test"]
    path = by_hand(
        tmp_path / "my.csv",
        "name,split",
        *(f"{i.name},{p}" for i, p in zip(items, parts, strict=True)),
    )
    split = read_split(path, items, digests)
    assert (split.train, split.removed) == ((1, 2), (0,))
    assert [finding.kind for finding in split.findings] == ["removed", "group-leak"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["name,part", "0000.png,train"],
            "must have the columns name and split; it has name, part",
        ),
        (["name,split", "0000.png,training"], r"row 2: the split is 'training'"),
        (["name,split", "0000.png,train", "0000.png,test"], r"row 3: 0000.png is there already"),
        (["name,split", "0000.png,test", "0001.png,test"], "None of the 2 images is in train"),
        (["name,split", "0000.png,train", "0001.png,test"], "test has classes that train lacks: b"),
    ],
)
def test_tables_that_are_no_split_are_refused(tmp_path, lines, message) -> None:
    items, digests = items_of([("a", None, None), ("b", None, None)])
    with pytest.raises(DataError, match=message):
        read_split(by_hand(tmp_path / "my.csv", *lines), items, digests)


def test_a_table_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv can't be read"):
        read_split(tmp_path / "gone.csv", *table({"a": 3}))


def test_a_split_that_cannot_be_written_is_a_resource_error(tmp_path) -> None:
    items, digests = table({"a": 9})
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="can't be written"):
        write_split(make_split(items, digests), items, digests, tmp_path / "file" / "split.csv")
