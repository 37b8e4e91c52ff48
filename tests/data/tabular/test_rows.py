from __future__ import annotations

import datetime
import decimal
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.tabular.rows import TABLES, listed, read_rows
from headstart.errors import DataError, MissingExtra


@pytest.fixture
def write(tmp_path: Path):
    def make(content: str | bytes, name: str = "table.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


@pytest.fixture
def parquet(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
    from pyarrow import parquet

    def make(name: str = "table.parquet", **columns: object) -> Path:
        path = tmp_path / name
        parquet.write_table(pyarrow.table(columns), path)
        return path

    return make


def columns(path: Path) -> dict[str, list[str | None]]:
    rows = read_rows(path)
    return {name: list(rows.column(position)) for position, name in enumerate(rows.names)}


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        columns(path)
    assert caught.value.field == str(path)
    assert caught.value.hint
    return str(caught.value)


def test_csv_cells_are_text_and_empty_ones_are_none(write) -> None:
    path = write("path,label\n1.jpg,\n,3.0\n3.jpg,True\n", "a.csv")
    assert columns(path) == {"path": ["1.jpg", None, "3.jpg"], "label": [None, "3.0", "True"]}
    assert read_rows(path).numbers == [2, 3, 4]


def test_a_separator_is_told_by_known_names(write) -> None:
    path = write("path;breed, and more, of it\n1.jpg;cat\n", "a.CSV")
    assert read_rows(path, ["path"]).names == ("path", "breed, and more, of it")


def test_json_lines_are_rows(write) -> None:
    lines = ['{"path": "1.jpg", "label": "cat"}', "", '{"label": 3, "other": [1]}', "  "]
    path = write("\ufeff" + "\r\n".join(lines))
    rows = read_rows(path)
    assert rows.names == ("path", "label", "other")
    assert list(rows.numbers) == [1, 3]
    assert rows.column(0) == ["1.jpg", None]
    assert rows.column(1) == ["cat", "3"]
    with pytest.raises(DataError, match=r"the column 'other' must hold text.* in row 3"):
        rows.column(2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3", "3"),
        ("3.0", "3"),
        ("-0.0", "0"),
        ("3.25", "3.25"),
        ("1e300", "1e+300"),
        ("Infinity", "inf"),
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ("NaN", None),
        ('""', None),
        ('"3.0"', "3.0"),
        ('" x\\n"', " x\n"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_numbers_and_truth_values_become_text(write, value, text) -> None:
    assert columns(write(f'{{"label": {value}}}'))["label"] == [text]


@pytest.mark.parametrize("value", ['["a"]', '{"a": 1}', "[]"])
def test_nested_values_are_refused(write, value) -> None:
    lines = ['{"label": "x"}'] + [f'{{"label": {value}}}'] * 12
    message = refused(write("\n".join(lines)))
    assert "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (12 in all)" in message
    assert "no lists and no objects" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'path': 1}", "line 2 is not JSON"),
        ('{"path": ', "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("9" * 5000, "line 2 is not JSON"),
        ('["1.jpg", "cat"]', 'line 2 must hold an object, not \'["1.jpg"'),
        ("3", "line 2 must hold an object, not '3'"),
    ],
)
def test_a_line_that_is_no_object_is_named(write, line, said) -> None:
    message = refused(write('{"path": "1.jpg"}\n' + line))
    assert said in message
    assert "Each line must hold one object" in message
    assert len(message) < 1000


def test_json_must_be_utf8(write) -> None:
    assert "line 1, byte 0xe4" in refused(write('{"path": "bär"}'.encode("latin-1")))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_table_without_rows_is_refused(write, name) -> None:
    header = "" if name == "a.jsonl" else "path,label\n"
    assert "holds no rows" in refused(write(header, name))


@pytest.mark.parametrize("name", ["a.xlsx", "a.json", "a.txt", "a"])
def test_other_forms_are_refused_with_what_to_do(write, name) -> None:
    message = refused(write("path,label\n1.jpg,cat\n", name))
    assert ".csv, .tsv, .jsonl, .parquet" in message
    assert "save it as CSV in UTF-8" in message


def test_parquet_is_rows(parquet) -> None:
    path = parquet(
        path=["1.jpg", "2.jpg"],
        label=[3.0, None],
        whole=[1, 2],
        truth=[True, None],
        day=[datetime.date(2024, 2, 29), None],
        price=[decimal.Decimal("1.50"), None],
    )
    assert columns(path) == {
        "path": ["1.jpg", "2.jpg"],
        "label": ["3", None],
        "whole": ["1", "2"],
        "truth": ["true", None],
        "day": ["2024-02-29", None],
        "price": ["1.50", None],
    }
    assert list(read_rows(path).numbers) == [1, 2]


def test_categories_are_their_text(parquet) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
    path = parquet(label=pyarrow.array(["cat", "dog", "cat"]).dictionary_encode())
    assert columns(path) == {"label": ["cat", "dog", "cat"]}


def test_data_frames_are_read(tmp_path) -> None:
    pandas = pytest.importorskip("pandas", reason="the test makes a data frame")
    pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
    frame = pandas.DataFrame({"path": ["1.jpg", "2.jpg"], "label": [1, None]}, index=[7, 9])
    frame.to_parquet(tmp_path / "a.parquet")
    assert columns(tmp_path / "a.parquet")["label"] == ["1", None]


@pytest.mark.parametrize(
    "values", [[{"bytes": b"\xff\xd8", "path": "1.jpg"}], [b"\xff\xd8"], [{"path": "1.jpg"}]]
)
def test_images_inside_of_parquet_are_refused_with_the_way_in(parquet, values) -> None:
    path = parquet(image=values, label=["cat"])
    rows = read_rows(path)
    assert rows.column(1) == ["cat"]
    with pytest.raises(DataError, match="the column 'image' holds") as caught:
        rows.column(0)
    assert 'load_dataset("parquet"' in str(caught.value)


@pytest.mark.parametrize("values", [[["a"], ["b"]], [datetime.time(3), None]])
def test_other_values_of_parquet_are_refused(parquet, values) -> None:
    assert "must hold text, numbers or truth values" in refused(parquet(label=values))


def test_parquet_without_rows_is_refused(parquet) -> None:
    assert "holds no rows" in refused(parquet(path=[], label=[]))


def test_damaged_parquet_is_refused(parquet) -> None:
    path = parquet(path=["1.jpg"] * 100, label=["cat"] * 100)
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", b"path,label\n", whole[:-20], whole[:200]):
        path.write_bytes(damaged)
        assert "can't be read as Parquet" in refused(path)
    path.write_bytes(whole[:4] + bytes(60) + whole[64:])
    with pytest.raises(DataError, match="can't be read as Parquet"):
        columns(path)
    path.unlink()
    assert "can't be read as Parquet" in refused(path)


def test_two_columns_of_one_name_can_not_be_told_apart(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is missing")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table([["x"], ["y"]], names=["label", "label"]), path)
    assert "can't be read as Parquet" in refused(path)


def test_without_pyarrow_the_extra_is_named(write, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"\[parquet\]"):
        read_rows(write(b"PAR1", "a.parquet"))


def test_rows_are_listed() -> None:
    assert listed([4]) == "row 4"
    assert listed([4, 7]) == "rows 4, 7"
    assert listed(range(1, 12)) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … (11 in all)"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=3), SCALARS, max_size=3), min_size=1, max_size=5))
def test_what_json_writes_is_read(tmp_path_factory, objects) -> None:
    path = tmp_path_factory.getbasetemp() / "written.jsonl"
    path.write_text("\n".join(map(json.dumps, objects)), encoding="utf-8")
    found = columns(path)
    for name in {name for entry in objects for name in entry}:
        for entry, text in zip(objects, found[name], strict=True):
            if isinstance(entry.get(name), str):
                assert text == (entry[name] or None)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(TABLES),
    content=st.binary(max_size=80) | st.text('{}[]":,\\u0d8 \n1e', max_size=40).map(str.encode),
)
def test_any_bytes_are_rows_or_our_error(tmp_path_factory, name, content) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes{name}"
    path.write_bytes(content)
    try:
        found = columns(path)
    except DataError:
        return
    assert found


def test_mutated_parquet_is_rows_or_our_error(parquet) -> None:
    path = parquet(path=["1.jpg", "2.jpg", None], label=[1.5, 2.0, None], group=["a", "a", "b"])
    whole, chance = path.read_bytes(), random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        try:
            columns(path)
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10
