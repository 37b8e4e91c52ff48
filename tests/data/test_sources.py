from __future__ import annotations

import importlib.util
import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.sources import list_images, open_dataset
from headstart.errors import DataError, MissingExtra, UnknownName

CLASSES = {"cats/1.png": 1, "cats/2.png": 2, "dogs/3.png": 3}

LEFT_OUT = "{}/ is left out: not a train, val or test folder of class folders."


def under(folder: str, files: dict[str, object] = CLASSES, seed: int = 0) -> dict[str, object]:
    return {
        f"{folder}/{name}": content + seed if isinstance(content, int) else content
        for name, content in files.items()
    }


def splits(dataset) -> dict[str, str | None]:
    return {item.name: item.split for item in dataset.items}


def test_class_folders_become_a_table(tree) -> None:
    root = tree({"dogs/3.png": 3, "cats/2.png": 2, "cats/deep/1.png": 1})
    dataset = open_dataset(root)
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
    assert open_dataset(str(root)) == dataset


def test_the_folder_here_has_a_name_too(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES))
    assert open_dataset(".").name == "photos"
    assert open_dataset(".").items[0].name == "cats/1.png"


@pytest.mark.parametrize("held_out", ["test", "Testing", "val", "dev", "holdout"])
def test_one_held_out_folder_is_the_test(tree, held_out: str) -> None:
    dataset = open_dataset(tree(under("Train") | under(held_out, {"dogs/1.png": 9})))
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
    dataset = open_dataset(tree(files))
    for name, part in zip(names, ("train", "val", "test"), strict=True):
        assert [i.split for i in dataset.items if i.name.startswith(name + "/")] == [part] * 3
    assert dataset.notes == ()


def test_a_lone_train_folder_is_all_of_the_data(tree) -> None:
    dataset = open_dataset(tree(under("train")))
    assert set(splits(dataset).values()) == {None}
    assert dataset.items[0].name == "train/cats/1.png"
    assert dataset.notes == ("train/ stands alone and is the whole data set.",)


def test_a_test_folder_without_labels_is_left_out(tree) -> None:
    for others in ({"test/8.png": 8}, {"test/8.png": 8, "sample/9.png": 9}):
        dataset = open_dataset(tree(under("train") | others))
        assert dataset.classes == ("cats", "dogs")
        assert set(splits(dataset).values()) == {None}
        assert (
            "test/ is left out: not a train, val or test folder of class folders." in dataset.notes
        )


def test_a_folder_beside_the_splits_is_left_out(tree) -> None:
    dataset = open_dataset(tree(under("train") | under("test", seed=9) | under("spare", seed=20)))
    assert set(splits(dataset).values()) == {"train", "test"}
    assert dataset.notes == (
        "spare/ is left out: not a train, val or test folder of class folders.",
    )


def test_a_class_may_be_called_train(tree) -> None:
    dataset = open_dataset(tree({"train/1.png": 1, "bus/2.png": 2, "car/3.png": 3}))
    assert dataset.classes == ("bus", "car", "train")
    assert open_dataset(tree({"train/1.png": 1, "bus/2.png": 2}, "two")).classes == ("bus", "train")


def test_only_a_test_folder_can_be_evaluated_on(tree) -> None:
    dataset = open_dataset(tree(under("test", {"dogs/1.png": 1})), min_classes=1)
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
        open_dataset(tree(files))
    assert "Name them train, val and test" in caught.value.hint


def test_a_class_that_train_lacks_is_refused_with_both_lists(tree) -> None:
    files = under("train") | under("val") | under("test", {"dogs/1.png": 7, "birds/2.png": 8})
    with pytest.raises(DataError) as caught:
        open_dataset(tree(files))
    assert "test has classes that train lacks: birds." in caught.value.message
    assert "train: cats, dogs\ntest: birds, dogs" in caught.value.message
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 5


def test_the_same_count_of_other_classes_is_refused(tree) -> None:
    with pytest.raises(DataError, match="train lacks: a, b"):
        open_dataset(tree(under("train") | under("test", {"a/1.png": 7, "b/2.png": 8})))


def test_a_class_that_differs_in_case_gets_a_hint(tree) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(tree(under("train") | under("test", {"Cats/1.png": 7, "dogs/2.png": 8})))
    assert caught.value.hint == "Cats and cats differ only in case: rename one."


def test_a_test_with_fewer_classes_is_fine(tree) -> None:
    dataset = open_dataset(tree(under("train") | under("test", {"dogs/1.png": 7})))
    assert dataset.classes == ("cats", "dogs")


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
        open_dataset(tree(files))
    assert found in caught.value.message
    assert "photos/cats/1.jpg" in caught.value.hint
    assert "photos/dogs/3.jpg" in caught.value.hint
    assert caught.value.exit_code == 3


def test_one_folder_too_high_is_noticed(tree) -> None:
    root = tree(under("animals"))
    with pytest.raises(DataError, match=r"found 1 class \(animals\)") as caught:
        open_dataset(root)
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
    dataset = open_dataset(root)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.notes == (
        "No class, for want of images: birds, docs.",
        "1 image beside the class folders left out: stray.png.",
        "2 other files ignored: notes.txt, labels.csv.",
    )


def test_an_empty_class_of_test_is_no_class(tree) -> None:
    dataset = open_dataset(tree(under("train") | under("test", CLASSES | {"birds": None}, 9)))
    assert dataset.classes == ("cats", "dogs")


def test_a_loop_of_links_adds_nothing(tree) -> None:
    dataset = open_dataset(tree({"cats/1.png": 1, "dogs/2.png": 2, "cats/loop": "..", "up": "."}))
    assert splits(dataset) == {"cats/1.png": None, "dogs/2.png": None}


def test_linked_classes_and_images_are_followed(tree) -> None:
    tree(CLASSES, name="store")
    root = tree({"cats": "../store/cats", "dogs/a.png": "../../store/dogs/3.png"})
    assert list(splits(open_dataset(root))) == ["cats/1.png", "cats/2.png", "dogs/a.png"]


def test_a_name_that_is_nowhere_gets_suggestions(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES).parent)
    with pytest.raises(UnknownName) as caught:
        open_dataset("photo")
    assert caught.value.message == "There is no folder or data set named 'photo'."
    assert caught.value.hint.startswith("Did you mean photos? Looked in ")
    assert str(Path.cwd()) in caught.value.hint
    with pytest.raises(UnknownName, match="Did you mean elpv"):
        open_dataset("elvp")
    with pytest.raises(UnknownName, match="Looked in"):
        open_dataset("nowhere/at/all")


def test_a_file_is_not_a_data_set(tree) -> None:
    with pytest.raises(DataError, match=r"labels\.csv is a file; a folder is needed"):
        open_dataset(tree({"labels.csv": b"path,label"}) / "labels.csv")


def test_a_name_needs_its_package(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        open_dataset("elpv")
    assert caught.value.hint == 'Install it with: pip install "headstart[samples]"'


def test_elpv_is_a_labelled_set_with_its_licence() -> None:
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("elpv-dataset is not installed")
    dataset = open_dataset("elpv")
    labels = [item.label for item in dataset.items]
    assert dataset.classes == ("defective", "functional")
    assert (labels.count("defective"), labels.count("functional")) == (821, 1803)
    assert dataset.items[0].name == "images/cell0001.png"
    assert all(item.path.is_file() for item in dataset.items[:20])
    assert dataset.licence == "CC BY-NC-SA 4.0"
    assert "CC BY-NC-SA 4.0" in dataset.notes[0]
    assert "Deitsch" in dataset.notes[0]


def test_a_folder_named_like_a_set_is_meant_by_its_path(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES, name="elpv").parent)
    assert open_dataset("./elpv").classes == open_dataset(Path("elpv")).classes == ("cats", "dogs")


def test_images_are_listed_for_prediction(tree) -> None:
    root = tree({"b/2.png": 2, "b/1.png": 1, "b/notes.txt": b"x", "a.txt": b"x", "c.png": 3})
    listed = list_images([root / "missing.png", root / "a.txt", root / "b", root / "b/1.png"])
    assert listed == [root / "missing.png", root / "a.txt", root / "b/1.png", root / "b/2.png"]
    assert list_images([root]) == [root / "b/1.png", root / "b/2.png", root / "c.png"]
    assert list_images([]) == []


FOLDER_NAMES = st.one_of(
    st.sampled_from(["train", "Val", "test", "cats", "Cats", "__MACOSX", ".hidden", "a b"]),
    st.text(string.ascii_letters + "éß日\n-", min_size=1, max_size=8),
    st.binary(min_size=1, max_size=8)
    .filter(lambda raw: not set(raw) & {0, ord("/")} and raw not in (b".", b".."))
    .map(os.fsdecode),
)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(FOLDER_NAMES, FOLDER_NAMES), max_size=8))
def test_any_tree_becomes_a_sound_table_or_a_clear_error(tmp_path_factory, folders) -> None:
    root = tmp_path_factory.mktemp("tree")
    for outer, inner in folders:
        (root / outer / inner).mkdir(parents=True, exist_ok=True)
        (root / outer / inner / f"{inner[:4]}.jpg").write_bytes(b"x")
        (root / outer / "1.jpg").write_bytes(b"x")
    try:
        dataset = open_dataset(root, min_classes=1)
    except DataError:
        return
    names = [item.name for item in dataset.items]
    assert names == sorted(set(names))
    assert all((root / name).is_file() for name in names)
    assert dataset.classes == tuple(sorted(set(dataset.classes)))
    assert {item.label for item in dataset.items} <= set(dataset.classes)
    assert not any(part.startswith(".") for name in names for part in name.split("/"))
