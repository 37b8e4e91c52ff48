"""Every form of a source becomes one table of images, or a clear error."""

from __future__ import annotations

import importlib.util
import os
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cache import Cache
from headstart.data.reading import Reading
from headstart.data.sources import absolute, list_images, open_dataset
from headstart.errors import DataError, UnknownName, UsageError

CLASSES = {"cats/1.png": 1, "cats/2.png": 2, "dogs/3.png": 3}


def under(folder: str, files: dict[str, object] = CLASSES, seed: int = 0) -> dict[str, object]:
    return {
        f"{folder}/{name}": content + seed if isinstance(content, int) else content
        for name, content in files.items()
    }


def splits(dataset) -> dict[str, str | None]:
    return {item.name: item.split for item in dataset.items}


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


def labels(dataset) -> dict[str, str]:
    return {item.name: item.label for item in dataset.items}


@pytest.fixture
def zipped(tmp_path, monkeypatch):
    """Zip a folder; what is unpacked goes into a cache of this test's own."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def zip_it(root: Path, name: str = "images.zip", *, inside: str = "") -> Path:
        file = tmp_path / name
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(root.rglob("*")):
                archive.write(path, f"{inside}{path.relative_to(root).as_posix()}")
        return file

    return zip_it


# Forms


def test_a_folder_is_read_as_class_folders(tree) -> None:
    root = tree(CLASSES)
    assert open_dataset(root) == open_dataset(str(root))
    assert labels(open_dataset(root)) == {name: name[:4] for name in CLASSES}


def test_a_table_is_read_by_its_suffix(tree) -> None:
    rows = b"path,label\ncats/1.png,feline\ndogs/3.png,canine\n"
    root = tree(CLASSES | {"labels.CSV": rows, "labels.tsv": rows.replace(b",", b"\t")})
    for name in ("labels.CSV", "labels.tsv"):
        dataset = open_dataset(root / name)
        assert dataset.classes == ("canine", "feline")
        assert labels(dataset) == {"cats/1.png": "feline", "dogs/3.png": "canine"}


def test_columns_and_root_reach_the_table(tree, tmp_path) -> None:
    root = tree(CLASSES)
    table = tmp_path / "labels.csv"
    table.write_text("file,species\ncats/1.png,feline\ndogs/3.png,canine\n")
    reading = Reading(columns={"path": "file", "label": "species"}, root=root)
    assert open_dataset(table, reading).classes == ("canine", "feline")


def test_metadata_in_a_folder_takes_the_place_of_its_folders(tree) -> None:
    rows = b"file_name,label\ncats/1.png,feline\ndogs/3.png,canine\n"
    dataset = open_dataset(tree(CLASSES | {"metadata.csv": rows}))
    assert dataset.classes == ("canine", "feline")


def test_labels_may_be_missing_where_they_are_not_needed(tree) -> None:
    root = tree(CLASSES | {"paths.csv": b"path\ncats/1.png\ndogs/3.png\n"})
    assert open_dataset(root / "paths.csv", min_classes=0).classes == ("",)
    with pytest.raises(DataError, match="no column label"):
        open_dataset(root / "paths.csv", min_classes=1)


@pytest.mark.parametrize(
    ("files", "inside"),
    [
        (CLASSES, ""),
        (CLASSES, "photos/"),
        (CLASSES, "a/b/"),
        (CLASSES | {"../readme.txt": b"x"}, "photos/"),
    ],
)
def test_a_zip_of_class_folders_may_be_wrapped_in_one(tree, zipped, files, inside) -> None:
    root = tree({name: content for name, content in files.items() if ".." not in name})
    dataset = open_dataset(zipped(root, inside=inside))
    assert dataset.name == "images"
    assert labels(dataset) == {name: name[:4] for name in CLASSES}
    assert all(item.path.is_file() for item in dataset.items)
    assert dataset.notes == ()


def test_a_zip_is_unpacked_in_the_cache_that_is_given(tree, zipped, tmp_path) -> None:
    file = zipped(tree(CLASSES))
    cache = Cache(tmp_path / "own")
    assert open_dataset(file, cache=cache).root.is_relative_to(cache.archives)
    assert open_dataset(file).root.is_relative_to(Cache().archives)


def test_junk_beside_the_one_folder_of_a_zip_is_no_hindrance(tree, zipped) -> None:
    junk = {"photos/.DS_Store": b"x", "__MACOSX/photos/cats/._1.png": b"x", ".DS_Store": b"x"}
    root = tree({f"photos/{name}": content for name, content in CLASSES.items()} | junk)
    assert labels(open_dataset(zipped(root))) == {name: name[:4] for name in CLASSES}


def test_a_zip_with_split_folders_keeps_them(tree, zipped) -> None:
    root = tree(under("train") | under("test", seed=9))
    for inside in ("", "photos/"):
        dataset = open_dataset(zipped(root, inside=inside))
        assert {item.split for item in dataset.items} == {"train", "test"}
    alone = open_dataset(zipped(tree(under("train"), name="alone"), "alone.zip"))
    assert set(splits(alone).values()) == {None}


def test_a_zip_of_images_with_one_table(tree, zipped) -> None:
    rows = b"path,label\nimages/1.png,cat\nimages/2.png,dog\n"
    root = tree({"images/1.png": 1, "images/2.png": 2, "labels.csv": rows})
    for inside in ("", "photos/"):
        dataset = open_dataset(zipped(root, inside=inside))
        assert dataset.name == "images"
        assert labels(dataset) == {"images/1.png": "cat", "images/2.png": "dog"}
    own = rows.replace(b"label", b"species")
    file = zipped(tree({"images/1.png": 1, "images/2.png": 2, "t.csv": own}, name="own"), "o.zip")
    assert open_dataset(file, Reading(columns={"label": "species"})).classes == ("cat", "dog")


def test_a_zip_in_the_layout_of_hugging_face(tree, zipped) -> None:
    rows = b"file_name,label\n1.png,cat\n2.png,dog\n"
    dataset = open_dataset(zipped(tree({"1.png": 1, "2.png": 2, "metadata.csv": rows})))
    assert labels(dataset) == {"1.png": "cat", "2.png": "dog"}


def test_class_folders_in_a_zip_are_not_mistaken_for_a_table(tree, zipped) -> None:
    dataset = open_dataset(zipped(tree(CLASSES | {"notes.csv": b"some,thing\n"})))
    assert dataset.classes == ("cats", "dogs")
    assert dataset.notes == ("1 other file ignored: notes.csv.",)


def test_a_table_in_a_zip_is_read_whatever_folders_lie_beside_it(tree, zipped) -> None:
    files = {"cam1/1.png": 1, "cam1/2.png": 2, "cam2/1.png": 3}
    rows = b"path,label\ncam1/1.png,cat\ncam1/2.png,dog\ncam2/1.png,dog\n"
    dataset = open_dataset(zipped(tree(files | {"labels.csv": rows})))
    assert dataset.classes == ("cat", "dog")
    assert labels(dataset)["cam2/1.png"] == "dog"
    parts = {"train/1.png": 1, "train/2.png": 2, "test/3.png": 3}
    rows = b"id,breed\ntrain/1.png,cat\ntrain/2.png,dog\n"
    file = zipped(tree(parts | {"labels.csv": rows}, name="parts"), "parts.zip")
    with pytest.raises(DataError) as caught:
        open_dataset(file)
    assert caught.value.hint.endswith("--column path=NAME --column label=NAME")
    assert "as DATA" not in caught.value.hint
    named = open_dataset(file, Reading(columns={"path": "id", "label": "breed"}))
    assert labels(named) == {"train/1.png": "cat", "train/2.png": "dog"}


@pytest.mark.parametrize(
    "table",
    [
        b"path,label\ncats/1.png,a\n",
        b"path,class,target\n1,2,3\n",
        b"path\ncats/1.png\n",
        b'"',
        b"",
    ],
)
def test_a_table_in_a_zip_takes_the_place_of_class_folders_only_if_it_has_labels(
    tree, zipped, table
) -> None:
    dataset = open_dataset(zipped(tree(CLASSES | {"t.csv": table})), min_classes=1)
    assert dataset.classes == (("a",) if b"label" in table else ("cats", "dogs"))


def test_nested_classes_in_a_zip_are_asked_for_by_name(tree, zipped) -> None:
    rows = b"path,label\ncats/1.png,a\ndogs/3.png,b\n"
    dataset = open_dataset(zipped(tree(CLASSES | {"t.csv": rows})), Reading(nested=True))
    assert dataset.classes == ("cats", "dogs")


@pytest.mark.parametrize("inside", ["", "photos/", "a/photos/"])
def test_a_zip_of_images_without_labels_is_as_the_folder(tree, zipped, inside) -> None:
    root = tree({"1.png": 1, "2.png": 2})
    file = zipped(root, inside=inside)
    zipped_labels = labels(open_dataset(file, min_classes=0))
    assert zipped_labels == labels(open_dataset(root, min_classes=0)) == {"1.png": "", "2.png": ""}
    if inside == "photos/":
        assert open_dataset(file, min_classes=1).classes == ("photos",)


@pytest.mark.parametrize("name", ["..zip", "...zip"])
def test_a_zip_named_by_dots_is_called_data(tree, zipped, name) -> None:
    dataset = open_dataset(zipped(tree(CLASSES), name))
    assert dataset.name == "data"
    assert labels(dataset) == {name: name[:4] for name in CLASSES}


def test_one_class_in_a_zip_is_not_entered(tree, zipped) -> None:
    file = zipped(tree({"cats/1.png": 1}))
    with pytest.raises(DataError) as caught:
        open_dataset(file)
    assert caught.value.message == f"{file}: found 1 class (cats); need 2+."
    assert "cats/1.jpg" in caught.value.hint


def test_m3_a_zip_that_means_harm_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("cats/1.png", b"x")
        archive.writestr("../../evil.png", b"x")
    with pytest.raises(DataError, match="leads out"):
        open_dataset(tmp_path / "evil.zip")
    assert not [*tmp_path.rglob("*.png")]


@pytest.mark.parametrize("name", ["notes.txt", "labels.xlsx", "photos.tar.gz", "1.png"])
def test_another_file_is_no_source(tree, name) -> None:
    content = 1 if name == "1.png" else b"x"
    with pytest.raises(DataError, match="not a source of labelled images") as caught:
        open_dataset(tree({name: content}) / name)
    assert ".csv, .tsv, .jsonl, .parquet" in caught.value.hint
    assert ("cats/1.jpg" in caught.value.hint) == (name == "1.png")
    assert len(str(caught.value).splitlines()) <= 5


# What has no meaning


@pytest.mark.parametrize(
    ("reading", "option"),
    [
        (Reading(columns={"label": "species"}), "column"),
        (Reading(root=Path("elsewhere")), "root"),
    ],
)
def test_an_option_about_tables_is_refused_for_folders(tree, reading, option) -> None:
    with pytest.raises(UsageError, match=f"--{option} is about .*photos has none") as caught:
        open_dataset(tree(CLASSES), reading)
    assert caught.value.field == option


def test_an_option_about_folders_is_refused_for_tables(tree) -> None:
    root = tree(CLASSES | {"labels.csv": b"path,label\ncats/1.png,a\ndogs/3.png,b\n"})
    with pytest.raises(UsageError, match="--nested is about folders"):
        open_dataset(root / "labels.csv", Reading(nested=True))


def test_an_option_may_be_about_the_test_alone(tree) -> None:
    root = tree(CLASSES)
    table = tree({"9.png": 9, "labels.csv": b"path,kind\n9.png,cats\n"}, name="other")
    reading = Reading(columns={"label": "kind"}, test=table / "labels.csv")
    assert splits(open_dataset(root, reading))["test/9.png"] == "test"


# Chosen


def test_everything_chosen_comes_together(tree) -> None:
    root = tree({f"{name}/p{n}-{name}.png": 10 * n + ord(name) for name in "abc" for n in (1, 2)})
    other = tree({"a/p1-9.png": 90, "c/p3-9.png": 91}, name="other")
    reading = Reading(classes=("c", "a"), group_by=r"p(\d)", test=str(other))
    dataset = open_dataset(root, reading)
    assert dataset.classes == ("c", "a")
    assert {(item.name, item.group, item.split) for item in dataset.items} == {
        ("a/p1-a.png", "1", None),
        ("a/p2-a.png", "2", None),
        ("c/p1-c.png", "1", None),
        ("c/p2-c.png", "2", None),
        ("test/a/p1-9.png", "1", "test"),
        ("test/c/p3-9.png", "3", "test"),
    }
    assert any("left out by --classes: b" in note for note in dataset.notes)


def test_a_test_with_a_class_that_data_lacks_is_refused_with_both_lists(tree) -> None:
    other = tree({"cats/9.png": 9, "owls/8.png": 8}, name="other")
    with pytest.raises(DataError, match="test has classes that train lacks: owls") as caught:
        open_dataset(tree(CLASSES), Reading(test=other))
    assert "train: cats, dogs\ntest: cats, owls" in caught.value.message
    chosen = open_dataset(tree(CLASSES), Reading(test=other, classes=("cats", "dogs")))
    assert "test/owls/8.png" not in splits(chosen)


def test_a_test_that_is_nowhere_is_told(tree) -> None:
    with pytest.raises(UnknownName, match="named 'nowhere'"):
        open_dataset(tree(CLASSES), Reading(test="nowhere"))


def test_a_table_with_a_class_in_test_alone_is_refused(tree) -> None:
    rows = b"path,label,split\ncats/1.png,a,train\ncats/2.png,b,train\ndogs/3.png,c,test\n"
    with pytest.raises(DataError, match="test has classes that train lacks: c"):
        open_dataset(tree(CLASSES | {"labels.csv": rows}) / "labels.csv")


def test_a_test_with_parts_is_read_as_it_would_be_as_data(tree) -> None:
    other = tree(under("train", seed=50) | under("val", {"cats/9.png": 9}), name="other")
    dataset = open_dataset(tree(CLASSES), Reading(test=other))
    assert [name for name, part in splits(dataset).items() if part] == ["test/val/cats/9.png"]
    main = tree(under("train") | under("val", seed=20), name="main")
    parts = splits(open_dataset(main, Reading(test=other)))
    assert [name for name, part in parts.items() if part == "val"] == [
        f"val/{name}" for name in CLASSES
    ]


def test_what_is_evaluated_on_may_have_any_classes(tree) -> None:
    root = tree(under("train") | under("test", {"dogs/1.png": 7, "owls/2.png": 8}))
    dataset = open_dataset(root, min_classes=1)
    assert dataset.classes == ("cats", "dogs", "owls")
    assert splits(dataset)["test/owls/2.png"] == "test"
    with pytest.raises(DataError, match="train lacks: owls"):
        open_dataset(root)


# D18: classes are matched by name


LAYOUTS = {
    "subset": ({"dogs/1.png": 7}, None),
    "all": ({"cats/1.png": 7, "dogs/1.png": 8}, None),
    "extra": ({"cats/1.png": 7, "dogs/1.png": 8, "owls/1.png": 9}, "lacks: owls"),
    "case": ({"Cats/1.png": 7, "dogs/1.png": 8}, "lacks: Cats"),
    "as many others": ({"a/1.png": 7, "b/1.png": 8}, "lacks: a, b"),
}


@pytest.mark.parametrize("part", ["val", "test"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_d18_classes_of_a_part_are_matched_by_name(tree, name, part) -> None:
    files, found = LAYOUTS[name]
    parts = under("train") | under("val", seed=20) | under("test", seed=30)
    parts = {path: seed for path, seed in parts.items() if not path.startswith(f"{part}/")}
    root = tree(parts | under(part, files))
    if found is None:
        dataset = open_dataset(root)
        assert dataset.classes == ("cats", "dogs")
        assert {i.label for i in dataset.items if i.split == part} <= {"cats", "dogs"}
        return
    with pytest.raises(DataError, match=f"{part} has classes that train {found}") as caught:
        open_dataset(root)
    assert "train: cats, dogs\n" in caught.value.message
    assert caught.value.exit_code == 3


# Names


def test_a_name_that_is_nowhere_gets_suggestions(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES).parent)
    with pytest.raises(UnknownName) as caught:
        open_dataset("photo")
    assert caught.value.message == "There is no folder, file or data set named 'photo'."
    assert caught.value.hint.startswith("Did you mean photos? Looked in ")
    assert str(Path.cwd()) in caught.value.hint
    with pytest.raises(UnknownName, match="Did you mean elpv"):
        open_dataset("elvp")
    with pytest.raises(UnknownName, match="Looked in"):
        open_dataset("nowhere/at/all")


def test_no_name_is_not_the_current_folder(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES))
    with pytest.raises(UnknownName, match="named ''"):
        open_dataset("")
    with pytest.raises(UnknownName, match="named ''"):
        open_dataset(Path(), Reading(test=""))
    assert absolute("") == ""
    assert open_dataset(".").classes == ("cats", "dogs")


@pytest.mark.parametrize("name", ["closed/photos", "closed/y.npz"])
def test_what_lies_in_a_closed_folder_is_told(tree, monkeypatch, name) -> None:
    path, stat = tree(CLASSES).parent / name, Path.stat

    def refuse(asked: Path, **options: bool) -> os.stat_result:
        if "closed" in asked.parts:
            raise PermissionError(13, "Permission denied")
        return stat(asked, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match="can't be reached: Permission denied") as caught:
        open_dataset(path)
    assert str(path) in caught.value.message
    assert list_images([path]) == [path]


def test_a_folder_named_like_a_set_is_meant_by_its_path(tree, monkeypatch) -> None:
    monkeypatch.chdir(tree(CLASSES, name="elpv").parent)
    assert open_dataset("./elpv").classes == open_dataset(Path("elpv")).classes == ("cats", "dogs")


def test_a_named_set_can_be_chosen_of(monkeypatch) -> None:
    if importlib.util.find_spec("elpv_dataset") is None:
        pytest.skip("elpv-dataset is not installed")
    dataset = open_dataset("elpv", Reading(classes=("functional", "defective")))
    assert dataset.classes == ("functional", "defective")
    assert dataset.licence == "CC BY-NC-SA 4.0"
    with pytest.raises(UsageError, match="--root"):
        open_dataset("elpv", Reading(root=Path("sets")))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a/" + "x" * 300 + "/b"])
def test_a_name_that_no_file_can_have_is_nowhere(name) -> None:
    with pytest.raises(UnknownName):
        open_dataset(name)


def test_a_source_is_called_the_same_from_any_folder(tree, monkeypatch) -> None:
    root = tree(CLASSES, name="elpv")
    monkeypatch.chdir(root.parent)
    assert absolute("elpv") == "elpv"
    assert absolute("torchvision:DTD") == "torchvision:DTD"
    assert absolute("./elpv") == absolute(Path("elpv")) == str(root.resolve())
    assert absolute("nowhere") == "nowhere"


# Lists for prediction, and any tree


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


@pytest.mark.parametrize("options", [{"root": Path("images")}, {"columns": {"label": "species"}}])
def test_an_npz_file_has_neither_paths_nor_columns(tmp_path, options) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 8, 8, 3), np.uint8), y=np.array([0, 1, 0, 1]))
    dataset = open_dataset(tmp_path / "a.npz", cache=Cache(tmp_path / "cache"))
    assert dataset.classes == ("0", "1")
    with pytest.raises(UsageError, match=next(iter(options)).removesuffix("s")):
        open_dataset(tmp_path / "a.npz", Reading(**options), cache=Cache(tmp_path / "cache"))
