from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.tabular.delimited import open_text, read_delimited
from headstart.errors import DataError

KNOWN = ("path", "label", "file_name")
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.fixture
def table(tmp_path: Path):
    def write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def cells(path: Path, known=KNOWN) -> list[list[str]]:
    return [row for _, row in read_delimited(path, known)[0]]


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_delimited(path, KNOWN)
    assert caught.value.field == str(path)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.TSV"])
def test_the_separator_is_that_of_the_header(table, separator, ending, name) -> None:
    lines = [separator.join(row) for row in (("path", "label"), ("1,5;a.jpg", "x y"))]
    if separator in ",;":
        lines[1] = f'"1,5;a.jpg"{separator}x y'
    text = ending.join(lines) + ending
    assert cells(table(text, name)) == [["path", "label"], ["1,5;a.jpg", "x y"]]


def test_known_names_tell_the_separator_where_counting_does_not(table) -> None:
    path = table("path;label;remarks, if any, and more, if there are\n1.jpg;cat;x\n")
    assert cells(path)[1] == ["1.jpg", "cat", "x"]
    assert len(cells(table("a,b;c\n1,2;3\n"), known=["b;c"])[0]) == 2
    assert cells(table("PATH;a,b,c\n1;2\n"))[1] == ["1", "2"]


def test_a_single_column_needs_no_separator(table) -> None:
    assert cells(table("path\n1.jpg\n2.jpg")) == [["path"], ["1.jpg"], ["2.jpg"]]
    assert cells(table("path\n1.jpg\n", "a.tsv")) == [["path"], ["1.jpg"]]


def test_spaces_after_separators_go_where_the_header_has_them_too(table) -> None:
    written = 'path, label, note\n1.jpg, cat, "a, b"\n'
    assert cells(table(written)) == [["path", "label", "note"], ["1.jpg", "cat", "a, b"]]
    assert cells(table("path,label\n1.jpg, cat\n"))[1] == ["1.jpg", " cat"]


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_byte_order_marks_are_understood(table, mark, encoding) -> None:
    path = table(mark + "path,label\nübung.jpg,Käse\n".encode(encoding))
    assert cells(path) == [["path", "label"], ["übung.jpg", "Käse"]]


def test_quoted_text_holds_anything(table) -> None:
    path = table('path,label\n"a\n""b"".jpg","x,y"\r\n=1+1,@SUM(A1)\n')
    assert cells(path)[1:] == [['a\n"b".jpg', "x,y"], ["=1+1", "@SUM(A1)"]]


def test_rows_are_counted_as_a_spreadsheet_does(table) -> None:
    path = table('\npath,label\n\n"a\nb.jpg",cat\n,\n2.jpg,dog\n\n')
    assert [number for number, _ in read_delimited(path, KNOWN)[0]] == [2, 4, 6]


def test_rows_of_another_length_are_named(table) -> None:
    error = refused(table("path,label\n1.jpg,cat\n2.jpg\n3,5.jpg,dog\n"))
    assert "must have 2 cells" in str(error)
    assert "Row (cells): 3 (1), 4 (3)." in str(error)
    assert 'separated by ","' in str(error)
    error = refused(table("path\tlabel\n" + "1.jpg\n" * 12))
    assert "11 (1), … (12 in all)" in str(error)
    assert "separated by tabs" in str(error)


@pytest.mark.parametrize("content", ["", "\n\n", ",,\n,,\n", codecs.BOM_UTF8])
def test_an_empty_file_is_refused(table, content) -> None:
    assert "is empty" in str(refused(table(content)))


@pytest.mark.parametrize(
    ("rows", "row", "reason"),
    [
        ('1.jpg,cat\n2.jpg,"cat\n3.jpg,dog\n', 3, "opened and never closed"),
        ('1.jpg,cat\n2.jpg,"cat"s\n', 3, "text follows a closing quotation mark"),
        ('"' + "x\n" * 70_000, 2, "a cell of more than 131,072 characters"),
    ],
)
def test_broken_quotation_is_named_by_its_row(table, rows, row, reason) -> None:
    error = refused(table("path,label\n" + rows))
    assert f"row {row} can't be split" in str(error)
    assert reason in str(error)


def test_a_header_that_is_broken_in_every_way_is_refused(table) -> None:
    assert "row 1 can't be split" in str(refused(table('"path\n')))


def test_a_zero_byte_is_named_by_its_line(table) -> None:
    error = refused(table(b"path,label\n1.jpg,cat\n2.j\0pg,dog\n"))
    assert "line 3 holds a NUL byte" in str(error)
    assert "UTF-16" in str(refused(table("path,label\n".encode("utf-16-le"))))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04", "zip archive"),
        (b"PAR1", "Parquet"),
        (b"\x1f\x8b", "compressed"),
        (b"\xd0\xcf\x11\xe0", "spreadsheet"),
    ],
)
def test_other_files_are_told_by_what_they_are(table, start, what) -> None:
    error = refused(table(start + bytes(50)))
    assert what in str(error)


def test_a_file_that_can_not_be_read_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file"):
        open_text(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"can't be read: Is a directory"):
        open_text(tmp_path)


def test_what_is_not_utf8_is_named_by_line_and_byte(table) -> None:
    path = table("path,label\n1.jpg,cat\nbär.jpg,Käse\n".encode("latin-1"))
    text, error = open_text(path)
    assert text.splitlines()[2].encode("utf-8", "surrogateescape") == b"b\xe4r.jpg,K\xe4se"
    assert "line 3, byte 0xe4 at 22" in str(error)
    assert "'bär.jpg,Käse'" in str(error)
    assert "Save it as UTF-8" in str(error)
    assert open_text(table("bär"))[1] is None


def test_a_damaged_wide_encoding_is_refused(table) -> None:
    error = refused(table(codecs.BOM_UTF16_LE + b"p\0a\0t\0h\0\n\0x"))
    assert "begins as UTF-16-LE" in str(error)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_csv_writes_is_read(tmp_path_factory, rows, separator, encoding) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=separator).writerows([["path", "label"], *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(buffer.getvalue().encode(encoding))
    assert cells(path) == [["path", "label"], *(row for row in rows if any(row))]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('",;\n\r\t\0|x', max_size=30).map(str.encode))
def test_any_bytes_are_a_table_or_our_error(tmp_path_factory, content) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(content)
    try:
        records, _ = read_delimited(path, KNOWN)
    except DataError:
        return
    assert {len(row) for _, row in records} == {len(records[0][1])}
