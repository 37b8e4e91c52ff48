from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.checks.check import check
from headstart.data.reading import Reading
from headstart.data.tabular.rows import TABLES
from headstart.data.tabular.tables import read_table
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.memory import FileMemory

PETS = Path(__file__).resolve().parents[4] / "shared" / "datasets" / "oxford_pets_3breeds"
FILES = {"cats/1.png": 1, "cats/2.png": 2, "dogs/3.png": 3, "dogs/4.png": 4}
ROWS = "cats/1.png,cat\ncats/2.png,cat\ndogs/3.png,dog\ndogs/4.png,dog\n"


@pytest.fixture
def table(tree):
    """Write a table beside four images."""
    root = tree(FILES)

    def write(text: str | bytes, name: str = "labels.csv") -> Path:
        path = root / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def refused(path: Path, error: type[HeadstartError] = DataError, **reading: object) -> str:
    with pytest.raises(error) as caught:
        read_table(path, Reading(**reading))
    assert caught.value.field
    return str(caught.value)


def splits(path: Path, **reading: object) -> list[str | None]:
    return [item.split for item in read_table(path, Reading(**reading)).items]


def test_a_table_becomes_a_data_set(table) -> None:
    path = table("label,path,group,weight\ndog,dogs/3.png,rex,2\ncat,cats/1.png,,\n")
    dataset = read_table(path, Reading())
    assert (dataset.name, dataset.root, dataset.classes) == ("photos", path.parent, ("cat", "dog"))
    assert dataset.notes == ()
    assert [(it.name, it.label, it.split, it.group, it.weight) for it in dataset.items] == [
        ("cats/1.png", "cat", None, None, 1.0),
        ("dogs/3.png", "dog", None, "rex", 2.0),
    ]
    assert all(item.path == path.parent / item.name for item in dataset.items)


def test_a_table_in_this_folder_is_read(table, monkeypatch) -> None:
    monkeypatch.chdir(table("path,label\n" + ROWS).parent)
    dataset = read_table(Path("labels.csv"), Reading())
    assert [item.path.is_file() for item in dataset.items] == [True] * 4


@pytest.mark.parametrize(
    ("name", "called"), [("birds.csv", "birds"), ("Train.csv", "photos"), ("labels.csv", "photos")]
)
def test_a_name_that_says_nothing_gives_way_to_the_folders(table, name, called) -> None:
    assert read_table(table("path,label\n" + ROWS, name), Reading()).name == called


@pytest.mark.parametrize("name", TABLES)
def test_every_form_gives_the_same_data_set(table, name) -> None:
    rows = [dict(zip(("path", "label"), line.split(","), strict=True)) for line in ROWS.split()]
    path = table("", f"labels{name}")
    write_as(path, rows)
    from_csv = read_table(table("path,label\n" + ROWS), Reading())
    assert read_table(path, Reading()) == from_csv


def test_the_root_is_where_the_paths_begin(table, tmp_path) -> None:
    path = table("path,label\n" + ROWS)
    apart = tmp_path / "apart.csv"
    shutil.copy(path, apart)
    dataset = read_table(apart, Reading(root=path.parent))
    assert dataset.root == path.parent
    assert dataset.items == read_table(path, Reading()).items
    assert "is no folder" in refused(apart, UsageError, root=tmp_path / "nowhere")
    assert "is no folder" in refused(apart, UsageError, root=apart)


def test_a_path_that_leads_out_is_refused_unless_the_root_allows_it(table, tree) -> None:
    other = tree({"9.png": 9}, name="other")
    path = table(f"path,label\n{ROWS}../other/9.png,cat\n{other}/9.png,cat\n")
    message = refused(path)
    assert "leads out of the root: rows 6, 7, such as '../other/9.png'" in message
    assert "--root FOLDER" in message
    path = table(f"path,label\n{other}/9.png,cat\n{path.parent}/cats/1.png,dog\n")
    dataset = read_table(path, Reading(root=Path("/")))
    assert {item.path for item in dataset.items} == {other / "9.png", path.parent / "cats/1.png"}


def test_missing_files_stay_and_count_as_unreadable(table, tmp_path) -> None:
    path = table(f"path,label\n{ROWS}cats/9.png,cat\n{'x' * 300}.png,dog\n")
    dataset = read_table(path, Reading())
    assert len(dataset.items) == 6
    assert f"Files that are not there: rows 6 ('cats/9.png'), 7 ('{'x' * 79}…')." in dataset.notes
    memory = FileMemory(tmp_path / "memory.sqlite")
    checked = check(dataset, memory, max_bad=0.5)
    assert {failure.name for failure in checked.failed} == {"cats/9.png", f"{'x' * 300}.png"}
    with pytest.raises(DataError, match="2 of 6 images"):
        check(dataset, memory, max_bad=0.01)


def test_a_table_in_the_wrong_place_is_told_where_its_files_are(table) -> None:
    path = table("path,label\n1.png,cat\n2.png,cat\ndogs/3.png,dog\ndogs/4.png,dog\n")
    assert "Files that are not there: rows 2" in str(read_table(path, Reading()).notes)
    path = table("path,label\n1.png,cat\n2.png,cat\n9.png,cat\ndogs/3.png,dog\n")
    message = refused(path)
    assert f"3 of 4 files are not in {path.parent}, such as '1.png': rows 2, 3, 4." in message
    assert (
        f"Did you mean --root {path.parent / 'cats'}? Of 3 that were looked for, 2 are there."
        in message
    )


def test_the_splits_of_rows_are_kept(table) -> None:
    parts = ("Train", "valid", "train", "Testing")
    rows = "".join(f"{line},{part}\n" for line, part in zip(ROWS.split(), parts, strict=True))
    assert splits(table("path,label,split\n" + rows)) == ["train", "val", "train", "test"]


def test_classes_are_those_of_train(table) -> None:
    rows = "cats/1.png,cat,train\ndogs/3.png,dog,train\ndogs/4.png,wolf,test\n"
    assert read_table(table("path,label,split\n" + rows), Reading()).classes == ("cat", "dog")
    rows = "cats/1.png,cat,test\ndogs/3.png,dog,test\n"
    assert read_table(table("path,label,split\n" + rows), Reading()).classes == ("cat", "dog")


def test_a_part_alone_is_understood_as_a_split_folder_is(table) -> None:
    path = table("path,label,split\n" + "".join(f"{line},train\n" for line in ROWS.split()))
    dataset = read_table(path, Reading())
    assert splits(path) == [None] * 4
    assert dataset.notes == ("All rows are of train: that is the whole data set.",)
    assert splits(path, test="other") == ["train"] * 4

    parts = ("train", "val", "train", "val")
    rows = "".join(f"{line},{part}\n" for line, part in zip(ROWS.split(), parts, strict=True))
    path = table("path,label,split\n" + rows)
    assert splits(path) == ["train", "test", "train", "test"]
    assert "serves as test" in read_table(path, Reading()).notes[0]
    assert splits(path, test="other") == ["train", "val", "train", "val"]


def test_rows_without_a_split_among_others_are_told(table) -> None:
    parts = ("", "test", "", "test")
    rows = "".join(f"{line},{part}\n" for line, part in zip(ROWS.split(), parts, strict=True))
    path = table("path,label,split\n" + rows)
    assert splits(path) == [None, "test", None, "test"]
    note = "Without a split, where others have one: rows 2, 4."
    assert read_table(path, Reading()).notes == (note,)


def test_labels_may_be_missing_where_they_are_not_needed(table) -> None:
    path = table("path\ncats/1.png\ndogs/3.png\n")
    assert "no column label" in refused(path)
    dataset = read_table(path, Reading(), labels_needed=False)
    assert dataset.classes == ("",)
    assert [item.label for item in dataset.items] == ["", ""]


def test_classes_that_may_be_one_are_told(table) -> None:
    path = table("path,label\ncats/1.png,Cat\ncats/2.png,cat\ndogs/3.png,dog\ndogs/4.png,cat \n")
    dataset = read_table(path, Reading())
    assert dataset.classes == ("Cat", "cat", "cat ", "dog")
    note = "'Cat' and 'cat' and 'cat ' differ only in case or spaces, and are different classes"
    assert note in dataset.notes[0]


def test_a_table_that_is_gone_or_a_folder_is_refused(table) -> None:
    path = table("")
    path.unlink()
    assert "can't be read: No such file" in refused(path)
    path.mkdir()
    assert "can't be read: Is a directory" in refused(path)


@pytest.mark.skipif(not PETS.is_dir(), reason=f"there is no {PETS.name} beside the code")
def test_real_tables_are_read_with_one_flag() -> None:
    message = refused(PETS / "train.csv")
    assert "no column label. Its columns: 'image', 'breed', 'trimap', 'head_box_xml'." in message
    for name, n_items in (("train.csv", 300), ("test.csv", 298)):
        dataset = read_table(PETS / name, Reading(columns={"label": "breed"}))
        assert len(dataset.items) == n_items
        assert dataset.classes == ("Abyssinian", "Bengal", "american_bulldog")
        assert dataset.notes == ("The column 'image' is taken as the path.",)


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\"), min_size=1, max_size=20
).filter(lambda name: name.strip() not in ("", ".", "..") and len(os.fsencode(name)) < 200)
LABELS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
).filter(str.strip)


def write_as(path: Path, rows: list[dict[str, str]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(
            buffer, ["path", "label"], delimiter="\t" if path.suffix == ".tsv" else ","
        )
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(buffer.getvalue(), encoding="utf-8", newline="")


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(TABLES), labels=st.dictionaries(NAMES, LABELS, min_size=1, max_size=4))
def test_any_names_and_labels_come_back(tmp_path_factory, name, labels) -> None:
    root = tmp_path_factory.mktemp("names")
    for file in labels:
        (root / file).touch()
    table = tmp_path_factory.mktemp("table") / f"table{name}"
    write_as(table, [{"path": file, "label": label} for file, label in labels.items()])
    dataset = read_table(table, Reading(root=root))
    assert {item.name: item.label for item in dataset.items} == labels
    assert [item.name for item in dataset.items] == sorted(labels)
    assert all(item.path.is_file() for item in dataset.items)
    assert not any("\n" in note for note in dataset.notes)


CELLS = st.sampled_from(
    ["", "cats/1.png", "cats\\1.png", "/", "..", "cat", "train", "0.5", "nan", '"', "\n", "ä", "\0"]
)


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(TABLES),
    header=st.permutations(["path", "label", "split", "group", "weight"]),
    rows=st.lists(st.lists(CELLS | st.text(max_size=4), min_size=5, max_size=5), max_size=4),
    junk=st.binary(max_size=30),
)
def test_any_table_is_a_data_set_or_our_error(tmp_path_factory, name, header, rows, junk) -> None:
    root = tmp_path_factory.getbasetemp() / "tables"
    (root / "cats").mkdir(parents=True, exist_ok=True)
    (root / "cats/1.png").touch()
    table = root / f"labels{name}"
    lines = [",".join(header), *map(",".join, rows)]
    if name == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    table.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + junk)
    try:
        dataset = read_table(table, Reading())
    except HeadstartError:
        return
    assert len({item.name for item in dataset.items}) == len(dataset.items) > 0
    assert dataset.items == tuple(sorted(dataset.items, key=lambda item: item.name))
