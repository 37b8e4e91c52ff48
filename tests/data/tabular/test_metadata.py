from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from headstart.data.reading import Reading
from headstart.data.tabular.metadata import find_metadata, read_metadata
from headstart.errors import DataError, UnknownName
from pictures import picture

IMAGES = {"1.png": 1, "2.png": 2, "3.png": 3}


@pytest.fixture
def folder(tree):
    """Write images, and metadata as text."""

    def write(images: dict[str, int], **tables: str) -> Path:
        root = tree(images)
        for name, text in tables.items():
            (root / name.replace("__", "/").replace("_csv", ".csv")).write_text(text)
        return root

    return write


def read(root: Path, **reading: object):
    found = find_metadata(root)
    assert found
    dataset = read_metadata(root, Reading(**reading), found)
    assert read_metadata(root, Reading(**reading)) == dataset
    return dataset


def told(dataset) -> list[tuple[str, str, str | None]]:
    return [(item.name, item.label, item.split) for item in dataset.items]


def refused(root: Path, **reading: object) -> str:
    with pytest.raises(DataError) as caught:
        read_metadata(root, Reading(**reading), find_metadata(root))
    assert caught.value.hint
    return str(caught.value)


def test_metadata_among_the_images_is_their_table(folder) -> None:
    root = folder(IMAGES, metadata_csv="file_name,label\n1.png,owl\n3.png,gull\n2.png,owl\n")
    dataset = read(root)
    assert (dataset.name, dataset.root, dataset.classes) == ("photos", root, ("gull", "owl"))
    assert told(dataset) == [
        ("1.png", "owl", None),
        ("2.png", "owl", None),
        ("3.png", "gull", None),
    ]
    assert dataset.notes == ()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_form_of_metadata_is_read(tree, form) -> None:
    root = tree(IMAGES)
    rows = [{"file_name": name, "label": "owl", "boxes": [[1, 2]]} for name in IMAGES]
    path = root / f"metadata.{form}"
    if form == "csv":
        path.write_text("file_name,label\n" + "".join(f"{name},owl\n" for name in IMAGES))
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert find_metadata(root) == [path]
    assert [item.label for item in read(root).items] == ["owl"] * 3


def test_metadata_of_each_split_folder_is_read(folder) -> None:
    images = {"train/1.png": 1, "train/2.png": 2, "validation/3.png": 3, "test/a/4.png": 4}
    root = folder(
        images,
        train__metadata_csv="file_name,label\n1.png,owl\n2.png,gull\n",
        validation__metadata_csv="file_name,label\n3.png,owl\n",
        test__metadata_csv="file_name,label\na/4.png,gull\n",
    )
    dataset = read(root)
    assert told(dataset) == [
        ("test/a/4.png", "gull", "test"),
        ("train/1.png", "owl", "train"),
        ("train/2.png", "gull", "train"),
        ("validation/3.png", "owl", "val"),
    ]
    assert dataset.notes == ()


def test_metadata_above_split_folders_tells_the_labels_of_all(folder) -> None:
    text = "file_name,label\ntrain/1.png,owl\ntrain/2.png,gull\ntest/3.png,owl\n"
    root = folder({"train/1.png": 1, "train/2.png": 2, "test/3.png": 3}, metadata_csv=text)
    assert told(read(root)) == [
        ("test/3.png", "owl", "test"),
        ("train/1.png", "owl", "train"),
        ("train/2.png", "gull", "train"),
    ]


def test_a_column_says_more_than_the_folder(folder) -> None:
    text = "file_name,label,split\ntrain/1.png,owl,test\ntrain/2.png,gull,\n"
    root = folder({"train/1.png": 1, "train/2.png": 2}, metadata_csv=text)
    assert [item.split for item in read(root).items] == ["test", "train"]


def test_the_nearer_metadata_is_believed(folder) -> None:
    root = folder(
        {"train/1.png": 1, "train/2.png": 2, "test/3.png": 3},
        metadata_csv="file_name,label\ntrain/1.png,far\ntest/3.png,far\ntrain/2.png,far\n",
        train__metadata_csv="file_name,label\n1.png,near\n",
    )
    assert [item.label for item in read(root).items] == ["far", "near", "far"]


def test_a_split_alone_is_understood_as_a_split_folder_is(folder) -> None:
    root = folder({"train/1.png": 1}, train__metadata_csv="file_name,label\n1.png,owl\n")
    assert read(root).items[0].split is None
    assert "whole data set" in read(root).notes[0]
    assert read(root, test="other").items[0].split == "train"


def test_without_a_label_the_folder_is_the_label(folder) -> None:
    text = "file_name,text\ntrain/owls/1.png,x\ntrain/gulls/2.png,y\ntest/owls/3.png,z\n"
    images = {"train/owls/1.png": 1, "train/gulls/2.png": 2, "test/owls/3.png": 3}
    dataset = read(folder(images, metadata_csv=text))
    assert dataset.classes == ("gulls", "owls")
    note = "The metadata has no column label: the folder of an image is its label."
    assert dataset.notes == (note,)


def test_a_label_says_more_than_the_folder(folder) -> None:
    text = "file_name,label\na/1.png,owl\nb/2.png,gull\n"
    assert read(folder({"a/1.png": 1, "b/2.png": 2}, metadata_csv=text)).classes == ("gull", "owl")


@pytest.mark.parametrize("place", ["", "images/", "train/"])
def test_without_labels_the_columns_are_named(folder, place) -> None:
    images = {f"{place}{name}": number for name, number in IMAGES.items()}
    text = "file_name,species\n" + "".join(f"{name},owl\n" for name in images)
    root = folder(images, metadata_csv=text)
    message = refused(root)
    assert "gives no labels" in message
    assert "Its columns: 'file_name', 'species'." in message
    assert "--column label=NAME" in message
    assert read(root, columns={"label": "species"}).classes == ("owl",)
    dataset = read_metadata(root, Reading(), find_metadata(root), labels_needed=False)
    assert dataset.classes == ("",)


def test_a_single_label_that_is_missing_is_named(folder) -> None:
    root = folder(IMAGES, metadata_csv="file_name,label\n1.png,owl\n2.png,\n")
    assert "no label: row 3." in refused(root)
    dataset = read_metadata(root, Reading(), labels_needed=False)
    assert [item.label for item in dataset.items] == ["owl", ""]


def test_images_that_are_not_listed_are_counted(folder) -> None:
    images = IMAGES | {f"more/{number}.png": number for number in range(4, 9)}
    root = folder(images, metadata_csv="file_name,label\n1.png,owl\n2.png,gull\nlink.png,owl\n")
    (root / "link.png").symlink_to("3.png")
    note = "5 images that the metadata does not list left out: "
    assert read(root).notes == (f"{note}'more/4.png', 'more/5.png', 'more/6.png', ….",)
    shutil.rmtree(root / "more")
    assert read(root).notes == ()
    (root / "link.png").unlink()
    assert "1 image that the metadata does not list left out: '3.png'." in read(root).notes


def test_what_is_wrong_with_a_row_is_told_as_of_any_table(folder) -> None:
    root = folder(IMAGES, metadata_csv="file_name,label\n1.png,owl\n../../etc/passwd,owl\n")
    assert "metadata.csv: the path leads out of the root: row 3" in refused(root)
    (root / "metadata.csv").write_text("file_name,label\n7.png,owl\n8.png,owl\n3.png,owl\n")
    assert "2 of 3 files are not in" in refused(root)


def test_a_split_folders_metadata_may_name_images_beside_it(folder) -> None:
    root = folder(
        {"images/1.png": 1, "train": None},
        train__metadata_csv="file_name,label\n../images/1.png,owl\n",
    )
    assert told(read(root)) == [("images/1.png", "owl", None)]


def test_two_metadata_files_in_one_folder_are_refused(folder) -> None:
    root = folder(IMAGES, metadata_csv="file_name,label\n1.png,owl\n")
    (root / "metadata.jsonl").write_text('{"file_name": "1.png", "label": "owl"}\n')
    assert "holds several metadata files: metadata.csv, metadata.jsonl" in refused(root)


def test_other_files_are_no_metadata(tree) -> None:
    root = tree({"cats/1.png": 1, "dogs/2.png": 2, "train/3.png": 3})
    (root / "metadata.csv").write_text("key,value\nlicence,free\n")
    (root / "cats/metadata.csv").write_text("file_name,label\n1.png,cat\n")
    (root / "table.csv").write_text("file_name,label\ncats/1.png,cat\n")
    (root / "train/metadata.jsonl").mkdir()
    assert find_metadata(root) == []
    (root / "metadata.csv").write_bytes("file_name,label\ncats/1.png,cat\n".encode("utf-16"))
    assert find_metadata(root) == [root / "metadata.csv"]


def test_a_word_that_is_no_column_makes_no_metadata(folder) -> None:
    root = folder(IMAGES, metadata_csv="name,label\nfile_name,owl\n")
    with pytest.raises(UnknownName, match="file_name"):
        read_metadata(root, Reading(), find_metadata(root))


def test_metadata_that_can_not_be_opened_is_told(folder, monkeypatch) -> None:
    root = folder(IMAGES, metadata_csv="file_name,label\n1.png,owl\n")

    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DataError, match=r"metadata\.csv can't be read: Permission denied"):
        find_metadata(root)


READ_BY_THEM = """
import json, sys
from pathlib import Path
from datasets import Image, disable_progress_bars, load_dataset
disable_progress_bars()
found = []
for root in sys.argv[2:]:
    parts = load_dataset("imagefolder", data_dir=root, cache_dir=sys.argv[1])
    found.append({
        str(Path(row["image"]["path"]).relative_to(root)): [row["label"], part]
        for part, rows in parts.cast_column("image", Image(decode=False)).items()
        for row in rows
    })
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("datasets") is None, reason="the test asks Hugging Face's own reader")
def test_hugging_face_reads_the_same(tmp_path) -> None:
    layouts = {  # image: label; tables
        "whole": ({"1.png": "owl", "more/2.png": "gull, big"}, ["."]),
        "parts": (
            {"train/1.png": "owl", "train/2.png": "3", "test/a/1.png": "x"},
            ["train", "test"],
        ),
    }
    for name, (labels, folders) in layouts.items():
        for number, (image, label) in enumerate(labels.items()):
            path = tmp_path / name / image
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(0, number, side=8).save(path)
            table = tmp_path / name / next(f for f in folders if f in (".", image.split("/")[0]))
            with (table / "metadata.csv").open("a") as file:
                header = "" if file.tell() else "file_name,label\n"
                file.write(f'{header}{path.relative_to(table)},"{label}"\n')
    roots = [tmp_path / name for name in layouts]
    # Apart, because that package leaves files open.
    done = subprocess.run(
        [sys.executable, "-c", READ_BY_THEM, str(tmp_path / "cache"), *map(str, roots)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for root, theirs in zip(roots, json.loads(done.stdout), strict=True):
        ours = read_metadata(root, Reading())
        # What is in no split folder is train to them.
        found = {item.name: [item.label, item.split or "train"] for item in ours.items}
        assert found == {name: [str(label), part] for name, (label, part) in theirs.items()}
        assert {name: label for name, (label, _) in found.items()} == layouts[root.name][0]
