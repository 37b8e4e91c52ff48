"""Class folders: what is a class, a part, an image, and what is told of the rest."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.class_folders import class_folders, layout, read_class_folders
from headstart.data.reading import Reading
from headstart.errors import DataError

CLASSES = {"cats/1.png": 1, "cats/2.png": 2, "dogs/3.png": 3}


def under(folder: str, files: dict[str, object] = CLASSES, seed: int = 0) -> dict[str, object]:
    return {
        f"{folder}/{name}": content + seed if isinstance(content, int) else content
        for name, content in files.items()
    }


def splits(dataset) -> dict[str, str | None]:
    return {item.name: item.split for item in dataset.items}


def labels(dataset) -> dict[str, str]:
    return {item.name: item.label for item in dataset.items}


def test_class_folders_become_a_table(tree) -> None:
    root = tree({"dogs/3.png": 3, "cats/2.png": 2, "cats/deep/1.png": 1})
    dataset = read_class_folders(root)
    assert dataset.name == "photos"
    assert dataset.classes == ("cats", "dogs")
    assert dataset.notes == ()
    assert dataset.licence is None
    assert [(item.name, item.label, item.split) for item in dataset.items] == [
        ("cats/2.png", "cats", None),
        ("cats/deep/1.png", "cats", None),
        ("dogs/3.png", "dogs", None),
    ]
    assert all(item.path == root / item.name for item in dataset.items)


def test_the_folder_here_has_a_name_too(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES))
    assert read_class_folders(Path()).name == "photos"
    assert read_class_folders(Path()).items[0].name == "cats/1.png"


@pytest.mark.parametrize("held_out", ["test", "Testing", "val", "dev", "holdout"])
def test_one_held_out_folder_is_the_test(tree, held_out: str) -> None:
    dataset = read_class_folders(tree(under("Train") | under(held_out, {"dogs/1.png": 9})))
    assert dataset.classes == ("cats", "dogs")
    assert splits(dataset) == {
        "Train/cats/1.png": "train",
        "Train/cats/2.png": "train",
        "Train/dogs/3.png": "train",
        f"{held_out}/dogs/1.png": "test",
    }
    assert len(dataset.notes) == (held_out not in ("test", "Testing"))
    assert all(held_out in note and "test" in note for note in dataset.notes)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "testing"), ("TRAIN", "dev", "Test")]
)
def test_three_split_folders_are_taken_as_given(tree, names: tuple[str, str, str]) -> None:
    files = under(names[0]) | under(names[1], seed=10) | under(names[2], seed=20)
    dataset = read_class_folders(tree(files))
    for name, part in zip(names, ("train", "val", "test"), strict=True):
        assert [i.split for i in dataset.items if i.name.startswith(name + "/")] == [part] * 3
    assert dataset.notes == ()


def test_a_lone_train_folder_is_all_of_the_data(tree) -> None:
    dataset = read_class_folders(tree(under("train")))
    assert set(splits(dataset).values()) == {None}
    assert dataset.items[0].name == "train/cats/1.png"
    assert dataset.notes == ("train/ stands alone and is the whole data set.",)


def test_a_test_folder_without_labels_is_left_out(tree) -> None:
    for others in ({"test/8.png": 8}, {"test/8.png": 8, "sample/9.png": 9}):
        dataset = read_class_folders(tree(under("train") | others))
        assert dataset.classes == ("cats", "dogs")
        assert set(splits(dataset).values()) == {None}
        assert (
            "test/ is left out: not a train, val or test folder of class folders." in dataset.notes
        )


def test_a_folder_beside_the_splits_is_left_out(tree) -> None:
    dataset = read_class_folders(
        tree(under("train") | under("test", seed=9) | under("spare", seed=20))
    )
    assert set(splits(dataset).values()) == {"train", "test"}
    assert dataset.notes == (
        "spare/ is left out: not a train, val or test folder of class folders.",
    )


def test_a_class_may_be_called_train(tree) -> None:
    dataset = read_class_folders(tree({"train/1.png": 1, "bus/2.png": 2, "car/3.png": 3}))
    assert dataset.classes == ("bus", "car", "train")
    assert read_class_folders(tree({"train/1.png": 1, "bus/2.png": 2}, "two")).classes == (
        "bus",
        "train",
    )


def test_only_a_test_folder_can_be_evaluated_on(tree) -> None:
    dataset = read_class_folders(tree(under("test", {"dogs/1.png": 1})), min_classes=1)
    assert splits(dataset) == {"test/dogs/1.png": "test"}
    assert dataset.classes == ("dogs",)


@pytest.mark.parametrize(
    "folders", [("train", "training", "test"), ("train", "val", "dev"), ("train", "a", "b")]
)
def test_unclear_split_folders_are_refused(tree, folders: tuple[str, ...]) -> None:
    files = {}
    for position, folder in enumerate(folders):
        files |= under(folder, seed=10 * position)
    with pytest.raises(DataError, match=r"is not clear") as caught:
        read_class_folders(tree(files))
    assert "Name them train, val and test" in caught.value.hint


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, "found no image"),
        ({"a/readme.txt": b"x"}, "found no image"),
        ({"1.png": 1, "2.png": 2}, "found 2 images but no class folder; need 2+"),
        ({"train/1.png": 1, "test/2.png": 2}, "found 2 images but no class folder; need 2+"),
        ({"cats/1.png": 1}, "found 1 class (cats); need 2+"),
        ({"cats/1.png": 1, "dogs": None}, "found 1 class (cats); need 2+"),
        (under("train", {"cats/1.png": 1}), "found 1 class (cats); need 2+"),
    ],
)
def test_too_few_classes_are_refused_with_the_layout_drawn(tree, files, found: str) -> None:
    with pytest.raises(DataError) as caught:
        read_class_folders(tree(files))
    assert found in caught.value.message
    assert "photos/cats/1.jpg" in caught.value.hint
    assert "photos/dogs/3.jpg" in caught.value.hint
    assert caught.value.exit_code == 3


def test_one_folder_too_high_is_noticed(tree) -> None:
    root = tree(under("animals"))
    with pytest.raises(DataError, match=r"found 1 class \(animals\)") as caught:
        read_class_folders(root)
    assert caught.value.hint == f"Did you mean {root / 'animals'}?"


def test_what_is_left_out_is_told(tree) -> None:
    root = tree(
        CLASSES
        | {
            "birds": None,
            "docs/readme.txt": b"x",
            "stray.png": 9,
            "labels.csv": b"x",
            "cats/notes.txt": b"x",
            "dogs/Thumbs.db": b"x",
            ".ipynb_checkpoints/1.png": 8,
        }
    )
    dataset = read_class_folders(root)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.notes == (
        "No class, for want of images: birds, docs.",
        "1 image beside the class folders left out: stray.png.",
        "2 other files ignored: notes.txt, labels.csv.",
    )


def test_an_empty_class_of_test_is_no_class(tree) -> None:
    dataset = read_class_folders(tree(under("train") | under("test", CLASSES | {"birds": None}, 9)))
    assert dataset.classes == ("cats", "dogs")


def test_a_loop_of_links_adds_nothing(tree) -> None:
    dataset = read_class_folders(
        tree({"cats/1.png": 1, "dogs/2.png": 2, "cats/loop": "..", "up": "."})
    )
    assert splits(dataset) == {"cats/1.png": None, "dogs/2.png": None}


def test_linked_classes_and_images_are_followed(tree) -> None:
    tree(CLASSES, name="store")
    root = tree({"cats": "../store/cats", "dogs/a.png": "../../store/dogs/3.png"})
    assert list(splits(read_class_folders(root))) == ["cats/1.png", "cats/2.png", "dogs/a.png"]


# Names and places


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("train", "train"), ("Training", "train"), ("VAL", "val"), ("valid", "val")),
        *(("Validation", "val"), ("dev", "val"), ("TEST", "test"), ("testing", "test")),
    ],
)
def test_every_name_of_a_part_is_known_in_any_letter_case(tree, name: str, part: str) -> None:
    others = {"train": "train", "val": "val", "test": "test"} | {part: name}
    files = {}
    for seed, folder in enumerate(others.values()):
        files |= under(folder, seed=10 * seed)
    dataset = read_class_folders(tree(files))
    found = {item.name.split("/")[0]: item.split for item in dataset.items}
    assert found == {folder: key for key, folder in others.items()}


def test_d12_a_loop_a_detour_and_a_link_out_of_the_tree(tree) -> None:
    tree({"far.png": 7}, name="elsewhere")
    root = tree(
        {
            "cats/1.png": 1,
            "dogs/2.png": 2,
            "cats/up": "..",
            "cats/again": "../cats",
            "cats/deep/root": "../..",
            "dogs/copy.png": "2.png",
            "dogs/far.png": "../../elsewhere/far.png",
            "loop": "loop",
        }
    )
    assert labels(read_class_folders(root)) == {
        "cats/1.png": "cats",
        "dogs/2.png": "dogs",
        "dogs/far.png": "dogs",
    }
    assert labels(read_class_folders(root, Reading(nested=True))) == labels(
        read_class_folders(root)
    )


def test_d14_junk_is_no_class_no_image_and_not_worth_a_note(tree) -> None:
    junk = {
        ".ipynb_checkpoints/1-checkpoint.png": 8,
        "cats/.ipynb_checkpoints/1-checkpoint.png": 8,
        ".DS_Store": b"x",
        "cats/.DS_Store": b"x",
        "__MACOSX/cats/._1.png": b"x",
        "__MACOSX/._1.png": b"x",
        "cats/._1.png": b"x",
        "cats/Thumbs.db": b"x",
        "THUMBS.DB": b"x",
        "dogs/desktop.ini": b"x",
    }
    for reading in (Reading(), Reading(nested=True)):
        dataset = read_class_folders(tree(CLASSES | junk), reading)
        assert list(labels(dataset)) == list(CLASSES)
        assert dataset.notes == ()


def test_d16_an_empty_class_that_is_asked_for_is_refused(tree) -> None:
    root = tree(CLASSES | {"birds": None, "fish/notes.txt": b"x"})
    dataset = read_class_folders(root, Reading(classes=("dogs", "cats")))
    assert dataset.notes[0] == "No class, for want of images: birds, fish."
    with pytest.raises(DataError, match="no image is in the folder of birds, fish") as caught:
        read_class_folders(root, Reading(classes=("cats", "birds", "fish")))
    assert caught.value.field == "classes"
    assert caught.value.exit_code == 3
    split = tree(under("train", CLASSES | {"birds": None}) | under("test", seed=9), name="split")
    with pytest.raises(DataError, match="no image is in the folder of birds,"):
        read_class_folders(split, Reading(classes=("cats", "birds")))


def test_a_table_beside_the_images_is_thought_of(tree) -> None:
    with pytest.raises(DataError) as caught:
        read_class_folders(tree({"images/1.png": 1, "images/2.png": 2, "labels.csv": b"x"}))
    assert caught.value.hint.startswith(layout(Path("photos")))
    assert caught.value.hint.endswith("If labels.csv has the labels, give that file as DATA.")
    assert len(str(caught.value).splitlines()) <= 5


def test_images_without_classes_are_unlabelled_where_that_is_enough(tree) -> None:
    root = tree({"b.png": 1, "a.png": 2})
    dataset = read_class_folders(root, min_classes=0)
    assert labels(dataset) == {"a.png": "", "b.png": ""}
    assert dataset.classes == ("",)
    with pytest.raises(DataError, match="found 2 images but no class folder"):
        read_class_folders(root, min_classes=1)


# Nested


NESTED = {"birds/owls/1.png": 1, "birds/gulls/2.png": 2, "cats/3.png": 3, "cats/deep/x/4.png": 4}


def test_nested_classes_are_named_by_their_paths(tree) -> None:
    root = tree(NESTED)
    dataset = read_class_folders(root, Reading(nested=True))
    assert dataset.classes == ("birds/gulls", "birds/owls", "cats", "cats/deep/x")
    assert labels(dataset) == {name: name.rpartition("/")[0] for name in NESTED}
    assert read_class_folders(root).classes == ("birds", "cats")
    assert class_folders(root, nested=True)["birds/owls"] == root / "birds" / "owls"


def test_nested_classes_in_split_folders_are_the_same_in_each(tree) -> None:
    files = under("train", NESTED) | under("test", {"birds/owls/9.png": 9, "cats/8.png": 8})
    dataset = read_class_folders(tree(files), Reading(nested=True))
    assert dataset.classes == ("birds/gulls", "birds/owls", "cats", "cats/deep/x")
    assert labels(dataset)["test/birds/owls/9.png"] == "birds/owls"
    assert splits(dataset)["test/birds/owls/9.png"] == "test"


def test_nested_classes_keep_images_that_are_links_into_other_classes(tree) -> None:
    links = {
        "cats/3.png": "../birds/owls/1.png",
        "cats/4.png": "3.png",
        "linked/5.png": "../cats/1.png",
    }
    root = tree({"birds/owls/1.png": 1, "cats/1.png": 2} | links)
    dataset = read_class_folders(root, Reading(nested=True))
    assert dataset.classes == ("birds/owls", "cats", "linked")
    assert labels(dataset) == {
        "birds/owls/1.png": "birds/owls",
        "cats/1.png": "cats",
        "cats/3.png": "cats",
        "linked/5.png": "linked",
    }
    assert labels(dataset).keys() == labels(read_class_folders(root)).keys()


def test_nested_leaves_out_images_that_lie_in_no_folder(tree) -> None:
    dataset = read_class_folders(tree(NESTED | {"stray.png": 9}), Reading(nested=True))
    assert "stray.png" not in labels(dataset)
    assert dataset.notes == ("1 image beside the class folders left out: stray.png.",)


def test_classes_without_an_image_of_their_own_get_a_hint_at_nested(tree) -> None:
    hint = "All images lie in subfolders of the classes; --nested makes these classes."
    deep = {"birds/owls/1.png": 1, "birds/gulls/2.png": 2, "cats/lions/3.png": 3}
    assert read_class_folders(tree(deep)).notes == (hint,)
    assert read_class_folders(tree(deep, "two"), Reading(nested=True)).notes == ()
    assert read_class_folders(tree(deep | {"cats/9.png": 9}, "three")).notes == ()


def test_a_class_whose_name_is_too_long_for_a_folder_has_none(tree) -> None:
    dataset = read_class_folders(tree(CLASSES), Reading(classes=("cats", "x" * 300)))
    assert dataset.classes == ("cats", "dogs")


def test_one_class_of_nested_folders_is_too_few(tree) -> None:
    with pytest.raises(DataError, match=r"found 1 class \(a/b\); need 2\+"):
        read_class_folders(tree({"a/b/1.png": 1}), Reading(nested=True))


# Another test


def test_with_another_test_a_lone_val_folder_stays_val(tree) -> None:
    root = tree(under("train") | under("val", seed=9))
    assert set(splits(read_class_folders(root)).values()) == {"train", "test"}
    dataset = read_class_folders(root, Reading(test="other"))
    assert set(splits(dataset).values()) == {"train", "val"}
    assert dataset.notes == ()
    alone = read_class_folders(tree(under("train"), "alone"), Reading(test="other"))
    assert set(splits(alone).values()) == {"train"}


# D13: names


NAMES = [
    " two  spaces .png",
    "\U0001f408.png",
    unicodedata.normalize("NFC", "\u00e9t\u00e9.png"),
    unicodedata.normalize("NFD", "\u00e9t\u00e9.png"),
    "line\nbreak.png",
    "return\rtab\t.png",
    "-rf.png",
    "--help.png",
    '"quoted", with comma.png',
    "x" * 251 + ".png",
    os.fsdecode(b"\xff\xfe.png"),
    "back\\slash.png",
    "%s{0}$HOME.png",
]


def test_d13_every_name_is_listed_as_it_is(tree) -> None:
    root = tree({f"cats/{name}": seed for seed, name in enumerate(NAMES)} | {"dogs/1.png": 99})
    found = read_class_folders(root).items
    assert sorted(item.name for item in found) == sorted(
        [*(f"cats/{n}" for n in NAMES), "dogs/1.png"]
    )
    assert all(item.path.read_bytes() for item in found)


def test_d13_every_name_can_be_a_class(tree) -> None:
    names = [name.removesuffix(".png") for name in NAMES]
    files = {f"train/{name}/1.png": seed for seed, name in enumerate(names)}
    files |= {f"test/{name}/2.png": 50 + seed for seed, name in enumerate(names)}
    dataset = read_class_folders(tree(files))
    assert dataset.classes == tuple(sorted(names))
    assert {item.label for item in dataset.items if item.split == "test"} == set(names)


PIECES = st.one_of(
    st.sampled_from([name.removesuffix(".png")[:40] for name in NAMES]),
    st.text(min_size=1, max_size=12).filter(lambda text: "/" not in text and "\0" not in text),
    st.binary(min_size=1, max_size=12).map(os.fsdecode),
).filter(
    lambda name: (
        not set(name) & {"/", "\0"}
        and not name.startswith(".")
        and name.lower() not in ("__macosx", "thumbs.db", "desktop.ini")
    )
)


def is_writable(name: str) -> bool:
    try:
        return len(os.fsencode(name)) <= 200
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return False


@settings(max_examples=60, deadline=None)
@given(st.sets(PIECES.filter(is_writable), min_size=1, max_size=6))
def test_d13_any_name_is_listed_once_and_leads_to_its_file(tmp_path_factory, names) -> None:
    root = tmp_path_factory.mktemp("names")
    for folder in ("a", "b"):
        (root / folder).mkdir()
        for name in names:
            (root / folder / f"{name}.png").write_bytes(os.fsencode(name))
    items = read_class_folders(root).items
    assert {item.name for item in items} == {f"{f}/{name}.png" for f in "ab" for name in names}
    assert len(items) == 2 * len(names)
    for item in items:
        assert os.fsencode(item.name[2:-4]) == item.path.read_bytes()
