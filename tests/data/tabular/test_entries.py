from __future__ import annotations

from pathlib import Path

import pytest

from headstart.data.tabular.entries import Entry, read_entries
from headstart.data.tabular.locations import Locator
from headstart.errors import DataError, UnknownName

BOTH = ("path", "label")


@pytest.fixture
def read(tmp_path: Path):
    """Read a table whose files are all there, if they are not said to be missing."""

    def make(text: str | bytes, needed=BOTH, name: str = "table.csv", **columns: str):
        for file in ("1.jpg", "2.jpg", "3.jpg"):
            (tmp_path / file).touch()
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_entries(path, columns, Locator(tmp_path, tmp_path), needed=needed)

    return make


def refused(read, text: str | bytes, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return caught.value


def plain(entry: Entry) -> tuple:
    return (entry.number, entry.location.name, entry.label, entry.split, entry.group, entry.weight)


def test_rows_become_entries_sorted_by_name(read) -> None:
    entries, notes = read(
        "weight,path,label,split,group\n"
        "0.5,2.jpg,dog,TEST,rex\n"
        " ,1.jpg, cat , ,\n"
        "1e3,3.jpg,3,dev,7\n"
    )
    assert [plain(entry) for entry in entries] == [
        (3, "1.jpg", " cat ", None, None, 1.0),
        (2, "2.jpg", "dog", "test", "rex", 0.5),
        (4, "3.jpg", "3", "val", "7", 1000.0),
    ]
    assert notes == []


NO_WEIGHT = "a weight that is not a number from 0.000001 to 1000000"


@pytest.mark.parametrize(
    ("word", "part"),
    [
        *(("train", "train"), ("Training", "train"), ("val", "val"), ("valid", "val")),
        *(("VALIDATION", "val"), ("dev", "val"), ("test", "test"), (" testing ", "test")),
    ],
)
def test_splits_are_called_as_split_folders_are(read, word, part) -> None:
    entries, _ = read(f"path,label,split\n1.jpg,cat,{word}\n")
    assert entries[0].split == part


def test_columns_that_are_named_are_taken(read) -> None:
    entries, _ = read("image,kind,label\n1.jpg,cat,x\n", label="kind")
    assert entries[0].label == "cat"
    with pytest.raises(UnknownName):
        read("path,label\n1.jpg,cat\n", label="kind")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (",cat,,,", "no path: row 3"),
        ("2.jpg,,,,", "no label: row 3"),
        ("2.jpg, \t,,,", "no label: row 3"),
        ("../../etc/passwd,cat,,,", "the path leads out of the root: row 3 ('../../etc/passwd')"),
        ("http://x/1.jpg,cat,,,", "an address and not the path of a file: row 3"),
        (".,cat,,,", "the path leads out of the root: row 3 ('.')"),
        ("2.jpg,cat,holdout,,", "a split that is not train, val or test: row 3 ('holdout')"),
        *(
            (f"2.jpg,cat,,,{weight}", f"{NO_WEIGHT}: row 3 ({weight!r})")
            for weight in ("0", "-1", "1e-7", "1e7", "nan", "inf", "1e999", "heavy", "1_0", "true")
        ),
        ('2.jpg,cat,,,"0,5"', f"{NO_WEIGHT}: row 3 ('0,5')"),
        (f"2.jpg,{'x' * 4097},,,", "text of more than 4,096 characters: row 3"),
        (f"2.jpg,cat,,{'x' * 4097},", "text of more than 4,096 characters: row 3"),
    ],
)
def test_a_row_that_can_not_be_used_is_named(read, row, said) -> None:
    error = refused(read, f"path,label,split,group,weight\n1.jpg,cat,,,\n{row}\n")
    assert said in str(error)
    assert error.field == "data"
    assert len(str(error)) < 1000


def test_all_that_is_wrong_is_told_at_once(read) -> None:
    rows = "".join(f"{number}.jpg,\n" for number in range(20))
    message = str(refused(read, f"path,label\n../x.jpg,\n{rows}/etc/passwd,cat\n"))
    assert "table.csv has rows that can't be used:" in message
    assert "no label: rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (21 in all)" in message
    assert "the path leads out of the root: rows 2, 23, such as '../x.jpg'" in message
    assert "Write the labels" in message


def test_what_is_quoted_stays_on_its_line(read) -> None:
    message = str(refused(read, 'path,label\n"../a\n\x1b[31m.jpg",cat\n'))
    assert r"'../a\n\x1b[31m.jpg'" in message


@pytest.mark.parametrize("value", ["a\\u0000b", "\\ud800"])
@pytest.mark.parametrize("role", ["path", "label", "group"])
def test_text_that_can_not_be_written_is_refused(read, role, value) -> None:
    row = {"path": "1.jpg", "label": "cat", "group": "x"} | {role: "?"}
    text = "{" + ", ".join(f'"{k}": "{v}"' for k, v in row.items()).replace("?", value) + "}"
    assert "line" not in str(error := refused(read, text, name="a.jsonl"))
    assert "row 1 (" in str(error)


def test_labels_may_be_missing_where_they_are_not_needed(read) -> None:
    assert read("path\n1.jpg\n", needed=["path"])[0][0].label == ""
    assert read("path,label\n1.jpg,\n", needed=["path"])[0][0].label == ""
    assert "has no column label" in str(refused(read, "path\n1.jpg\n"))


def test_a_file_that_is_listed_again_counts_once(read, tmp_path) -> None:
    (tmp_path / "link.jpg").symlink_to("2.jpg")
    entries, notes = read(
        "path,label\n2.jpg,dog\n./1.jpg,cat\n1.jpg,cat\nx/../1.jpg,cat\nlink.jpg,dog\n"
    )
    assert [plain(entry)[:3] for entry in entries] == [(3, "1.jpg", "cat"), (2, "2.jpg", "dog")]
    assert notes == ["Files that are listed again count once: rows 4, 5, 6."]


def test_a_missing_file_that_is_listed_again_counts_once(read) -> None:
    entries, notes = read("path,label\n9.jpg,dog\n./9.jpg,dog\n1.jpg,cat\n")
    assert [entry.location.there for entry in entries] == [True, False]
    assert notes == ["Files that are listed again count once: row 3."]


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("cat,,,", "dog,,,", "label 'cat' and 'dog'"),
        ("cat,train,,", "cat,test,,", "split 'train' and 'test'"),
        ("cat,train,,", "cat,,,", "split 'train' and none"),
        ("cat,,a,", "cat,,b,", "group 'a' and 'b'"),
        ("cat,,,1", "cat,,,2", "weight '1.0' and '2.0'"),
    ],
)
def test_rows_that_contradict_each_other_are_both_named(read, one, other, difference) -> None:
    text = f"path,label,split,group,weight\n2.jpg,cat,,,\n1.jpg,{one}\n./1.jpg,{other}\n"
    message = str(refused(read, text))
    assert f"rows 3 and 4 contradict each other about '1.jpg': {difference}." in message
    assert "One image is one row" in message


def test_more_contradictions_are_counted(read) -> None:
    text = "path,label\n2.jpg,a\n1.jpg,a\n1.jpg,b\n2.jpg,b\n2.jpg,c\n"
    message = str(refused(read, text))
    assert "rows 3 and 4 contradict" in message
    assert "So do 2 more rows." in message


def test_the_order_of_rows_does_not_matter(read) -> None:
    rows = ["1.jpg,cat", "2.jpg,dog", "./2.jpg,dog", "3.jpg,cat"]

    def names(order: list[str]) -> list[tuple]:
        entries, _ = read("\n".join(["path,label", *order]))
        return [plain(entry)[1:] for entry in entries]

    assert names(rows) == names(rows[::-1])


def test_paths_that_were_understood_otherwise_are_told(read, tmp_path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats/1.jpg").touch()
    entries, notes = read("path,label\n2.jpg,dog\ncats\\1.jpg,cat\n")
    assert entries[1].location.name == "cats/1.jpg"
    assert notes == ["Paths with backslashes read as slashes: row 3."]


def test_bytes_that_are_not_utf8_are_right_in_the_path_of_a_file_only(read, tmp_path) -> None:
    (tmp_path / "b\udce4r.jpg").touch()
    entries, _ = read("path,label\nbär.jpg,Bar\n".encode("latin-1"))
    assert entries[0].location.name == "b\udce4r.jpg"
    for text in (
        "path,label\nbär.jpg,Bär\n",
        "path,label\nkäse.jpg,x\n",
        "path,label,ä\n1.jpg,x,\n",
    ):
        assert "is not UTF-8: line" in str(refused(read, text.encode("latin-1")))
    assert read("path,label,x\n1.jpg,cat,ä\n".encode("latin-1"))[0][0].label == "cat"
