"""The table that ``check --fix`` writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from commands import rows_of
from headstart.data.items import Item
from headstart.data.reading import Reading
from headstart.data.sources import open_dataset
from headstart.errors import ModelError, UsageError
from headstart.fixed_table import SUFFIXES, require_new_table, require_outside, write_table
from headstart.fixing import Change, Fix, FixedRow
from pictures import write_photos

AWKWARD = ("=cmd().jpg", "a b,\"c'.jpg", "line\nbreak.jpg", "tab\t.jpg", "ü\udcff.jpg", "-x.jpg")


def fix_of(root: Path, *names: str) -> Fix:
    rows = [
        FixedRow(Item(root / name, name, "cat" if number % 2 else "dog"))
        for number, name in enumerate(names)
    ]
    return Fix(tuple(rows), ())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_is_data_as_it_is(suffix, tmp_path):
    photos = write_photos(tmp_path / "photos", each=3)
    names = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(3)]
    first, *others = fix_of(photos, *names).rows
    first = FixedRow(first.item, "g", "dog", "looks like dog (doubt 90 %)")
    table = write_table(Fix((first, *others), ()), tmp_path / f"fixed{suffix}")
    assert table.root is None
    assert table.command == f"headstart fit {tmp_path / f'fixed{suffix}'}"
    found = open_dataset(table.path)
    assert [it.path for it in found.items] == [photos / name for name in names]
    assert [it.label for it in found.items] == ["dog", "cat"] * 3
    assert [it.group for it in found.items] == ["g", *[None] * 5]
    assert {it.split for it in found.items} == {None}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_awkward_names_come_back_as_they_are(suffix, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, classes=("x",), each=1)
    for name in AWKWARD:
        (photos / name).write_bytes((photos / "x" / "0.jpg").read_bytes())
    table = write_table(fix_of(photos, *AWKWARD), photos / f"fixed{suffix}")
    found = {it.path.name: it.label for it in open_dataset(table.path).items}
    assert found == {it.item.name: it.item.label for it in table.fix.rows}


def test_no_path_is_a_formula_for_a_spreadsheet(tmp_path):
    table = write_table(fix_of(tmp_path, *AWKWARD), tmp_path / "fixed.csv")
    assert not [row["path"] for row in rows_of(table.path) if row["path"][0] in "=+-@"]


def test_paths_that_lie_elsewhere_have_a_root_and_the_command_says_so(tmp_path):
    photos = write_photos(tmp_path / "my photos", each=2)
    fix = fix_of(photos, "cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg")
    table = write_table(fix, tmp_path / "tables" / "fixed.csv")
    assert table.root == photos
    assert table.command == f"headstart fit {table.path} --root '{photos}'"
    assert table.to_dict()["root"] == str(photos)
    assert [row["path"] for row in rows_of(table.path)] == [it.item.name for it in fix.rows]
    assert len(open_dataset(table.path, Reading(root=table.root)).items) == 4


def test_columns_are_there_where_a_row_needs_them(tmp_path):
    plain = write_table(fix_of(tmp_path, "a", "b"), tmp_path / "plain.csv")
    assert list(rows_of(plain.path)[0]) == ["path", "label", "note"]
    full = FixedRow(
        Item(tmp_path / "c", "c", "cat", split="train", weight=0.5), "near-1", "dog", "a note"
    )
    table = write_table(Fix((full, *plain.fix.rows), ()), tmp_path / "full.tsv")
    with table.path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    columns = ["path", "label", "split", "group", "weight", "suggested", "note"]
    assert list(rows[0]) == columns
    assert list(rows[0].values()) == ["c", "cat", "train", "near-1", "0.5", "dog", "a note"]
    assert list(rows[1].values()) == ["a", "dog", "", "", "", "", ""]
    lines = write_table(table.fix, tmp_path / "full.jsonl").path.read_text().splitlines()
    assert list(json.loads(lines[0])) == columns
    assert json.loads(lines[0])["weight"] == 0.5


def test_what_was_changed_is_in_the_document(tmp_path):
    fix = Fix(fix_of(tmp_path, "a", "b").rows, (Change("left out", "c", "it is gone"),))
    document = write_table(fix, tmp_path / "fixed.csv").to_dict()
    assert document == {
        "table": str(tmp_path / "fixed.csv"),
        "root": None,
        "n": 2,
        "changes": [{"what": "left out", "path": "c", "why": "it is gone"}],
        "command": f"headstart fit {tmp_path / 'fixed.csv'}",
    }


@pytest.mark.parametrize("name", ["fixed.parquet", "fixed", "fixed.csv.gz"])
def test_only_known_tables_are_written(name, tmp_path):
    with pytest.raises(UsageError, match="must name a table") as error:
        require_new_table(tmp_path / name)
    assert ".jsonl" in error.value.hint


def test_nothing_is_overwritten(tmp_path):
    there, dangling = tmp_path / "there.csv", tmp_path / "dangling.csv"
    there.write_text("mine")
    dangling.symlink_to(tmp_path / "gone.csv")
    for path in (there, dangling):
        with pytest.raises(ModelError, match="overwrites nothing"):
            require_new_table(path)
        with pytest.raises(ModelError, match="overwrites nothing"):
            write_table(fix_of(tmp_path, "a", "b"), path)
    assert there.read_text() == "mine"
    assert not (tmp_path / "gone.csv").exists()


def test_no_table_is_written_among_the_images(tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "photos", each=1)
    monkeypatch.chdir(tmp_path)
    for path in (photos / "fixed.csv", Path("photos/cat/../fixed.csv")):
        with pytest.raises(UsageError, match="among the images"):
            require_outside(path, [photos])
    require_outside(photos / ".." / "fixed.csv", [photos])
    require_new_table(photos / ".." / "fixed.csv")


def test_links_lead_no_table_among_the_images(tmp_path):
    photos = write_photos(tmp_path / "photos", each=1)
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for path, source in (("link/f.csv", photos), ("photos/f.csv", tmp_path / "link")):
        with pytest.raises(UsageError, match="among the images"):
            require_outside(tmp_path / path, ["elpv", source])
    require_outside(tmp_path / "round" / "f.csv", [photos])


def test_no_table_is_written_where_the_images_of_a_table_lie(tmp_path):
    photos = write_photos(tmp_path / "photos", each=1)
    (tmp_path / "link").symlink_to(photos / "cat")
    items = [Item(photos / "cat" / "0.jpg", "0.jpg", "cat")]
    for folder in ("photos/cat", "link"):
        with pytest.raises(UsageError, match="among the images"):
            require_outside(tmp_path / folder / "f.csv", [tmp_path / "table.csv"], items)
    require_outside(photos / "f.csv", [tmp_path / "table.csv"], items)
