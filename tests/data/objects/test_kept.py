from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from headstart.data.objects import kept
from headstart.data.objects.given_rows import Given, GivenRows
from headstart.data.objects.kept import TABLE, forget_kept, keep, list_kept, root_of
from headstart.data.reading import Reading
from headstart.data.tabular.tables import read_table
from headstart.errors import DataError, ResourceError, UsageError

PPM = b"P6\n1 1\n255\nabc"


def rows(*given: Given, repeatable: bool = True) -> GivenRows:
    return GivenRows(lambda: iter(given), repeatable)


def table(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def everything(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_images_are_written_in_order_beside_a_table(tmp_path) -> None:
    path = keep(
        rows(
            Given(PPM, "cat", split="train", group="tom", weight=0.5),
            Given(b"P5\n1 1\n255\na", "dog", split="test"),
            Given(b"\xff\xd8\xff\xe0", "dog"),
            Given(b"no image", "dog"),
            Given(b"", "dog", split="../.."),
        ),
        tmp_path,
    )
    assert path.name == TABLE
    assert table(path) == [
        {
            "path": "train/00000000.ppm",
            "label": "cat",
            "split": "train",
            "group": "tom",
            "weight": 0.5,
        },
        {"path": "test/00000001.pgm", "label": "dog", "split": "test"},
        {"path": "images/00000002.jpg", "label": "dog"},
        {"path": "images/00000003.bin", "label": "dog"},
        {"path": "images/00000004.bin", "label": "dog", "split": "../.."},
    ]
    contents = [(path.parent / str(row["path"])).read_bytes() for row in table(path)]
    assert contents == [PPM, b"P5\n1 1\n255\na", b"\xff\xd8\xff\xe0", b"no image", b""]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.parent.name]


def test_columns_may_have_other_names(tmp_path) -> None:
    path = keep(rows(Given(PPM, "cat", weight=0.0)), tmp_path, {"path": "file", "weight": "w"})
    assert table(path) == [{"file": "images/00000000.ppm", "label": "cat", "w": 0.0}]
    assert (path.parent / "images/00000000.ppm").read_bytes() == PPM


def test_columns_that_were_asked_for_are_there_without_a_value(tmp_path) -> None:
    columns = {"group": "patient", "weight": "w"}
    path = keep(rows(Given(PPM, "cat"), Given(PPM, "dog", group="")), tmp_path, columns)
    assert [(row["patient"], row["w"]) for row in table(path)] == [(None, None), ("", None)]
    dataset = read_table(path, Reading(columns=columns))
    assert [(item.group, item.weight) for item in dataset.items] == [(None, 1.0)] * 2


def test_columns_with_the_name_of_another_take_none_away(tmp_path) -> None:
    columns = {"label": "path", "group": "label"}
    path = keep(rows(Given(PPM, "cat", group="tom"), Given(PPM, "dog")), tmp_path, columns)
    items = read_table(path, Reading(columns=columns)).items
    assert [(it.name, it.label, it.group) for it in items] == [
        ("images/00000000.ppm", "cat", "tom"),
        ("images/00000001.ppm", "dog", None),
    ]


@pytest.mark.parametrize("repeatable", [True, False])
def test_the_same_data_again_is_the_same_folder_and_nothing_is_written(
    tmp_path, repeatable
) -> None:
    first = keep(rows(Given(PPM, "cat"), repeatable=repeatable), tmp_path)
    before = everything(tmp_path)
    assert keep(rows(Given(PPM, "cat"), repeatable=repeatable), tmp_path) == first
    assert everything(tmp_path) == before


def test_known_data_is_found_in_a_folder_that_can_not_be_written(tmp_path, monkeypatch) -> None:
    first = keep(rows(Given(PPM, "cat")), tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "write_bytes", "open"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert keep(rows(Given(PPM, "cat")), tmp_path) == first


@pytest.mark.parametrize(
    "other",
    [
        Given(PPM + b"d", "cat"),
        Given(PPM, "dog"),
        Given(PPM, "cat", split="test"),
        Given(PPM, "cat", group="tom"),
        Given(PPM, "cat", weight=2.0),
        Given(b"", "cat"),
    ],
)
def test_other_data_is_another_folder(tmp_path, other) -> None:
    assert keep(rows(other), tmp_path) != keep(rows(Given(PPM, "cat")), tmp_path)


def test_what_was_taken_away_is_written_again(tmp_path) -> None:
    path = keep(rows(Given(PPM, "cat")), tmp_path)
    for damage in (
        lambda: (path.parent / "images/00000000.ppm").unlink(),
        lambda: (path.parent / "images/00000000.ppm").write_bytes(b""),
        lambda: path.unlink(),
        lambda: shutil.rmtree(path.parent),
    ):
        damage()
        assert keep(rows(Given(PPM, "cat")), tmp_path) == path
        assert (path.parent / "images/00000000.ppm").read_bytes() == PPM


def test_files_stay_where_they_are(tmp_path) -> None:
    folder = tmp_path / "given"
    files = [tmp_path / "photos" / name for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg")]
    path = keep(rows(*(Given(file, "cat") for file in files)), folder)
    assert [row["path"] for row in table(path)] == list(map(str, files))
    assert sorted(file.name for file in path.parent.iterdir()) == [TABLE, "root"]
    assert root_of(path, folder) == tmp_path / "photos"
    before = everything(folder)
    assert keep(rows(*(Given(file, "cat") for file in files)), folder) == path
    assert everything(folder) == before


def test_only_a_table_that_is_kept_brings_its_root_along(tmp_path) -> None:
    folder = tmp_path / "cache" / "given"
    assert root_of(tmp_path / "photos.csv", folder) is None
    assert root_of(folder / "x" / "photos.jsonl", folder) is None
    written = keep(rows(Given(PPM, "cat")), folder)
    assert root_of(written, folder) == written.parent
    foreign = keep(rows(Given(tmp_path / "1.jpg", "cat")), tmp_path / "given")
    assert (foreign.parent / "root").exists()
    assert root_of(foreign, folder) is None
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert root_of(tmp_path / "link" / "given" / written.parent.name / TABLE, folder) is not None


def test_a_file_among_pixels_is_copied_and_pixels_among_files_are_refused(tmp_path) -> None:
    file = tmp_path / "1.ppm"
    file.write_bytes(PPM)
    path = keep(rows(Given(PPM + b"d", "cat"), Given(file, "dog")), tmp_path / "kept")
    assert (path.parent / "images/00000001.ppm").read_bytes() == PPM
    with pytest.raises(UsageError, match="Image 1 of the data has no file"):
        keep(rows(Given(file, "dog"), Given(PPM, "cat")), tmp_path / "kept")
    with pytest.raises(DataError, match=r"Image 1 of the data can't be read: .*No such file"):
        keep(rows(Given(PPM, "cat"), Given(tmp_path / "none.ppm", "dog")), tmp_path / "kept")


@pytest.mark.parametrize("repeatable", [True, False])
def test_no_images_is_an_error_and_leaves_nothing(tmp_path, repeatable) -> None:
    with pytest.raises(UsageError, match="no images"):
        keep(rows(repeatable=repeatable), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_that_changes_between_readings_is_refused(tmp_path) -> None:
    passes = iter(([Given(PPM, "cat")], [Given(PPM, "dog")]))
    with pytest.raises(UsageError, match="changed from one reading") as caught:
        keep(GivenRows(lambda: iter(next(passes)), repeatable=True), tmp_path)
    assert "random transforms" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_source_that_fails_to_read_is_not_mistaken_for_a_full_disk(tmp_path, repeatable) -> None:
    def failing() -> Iterator[Given]:
        yield Given(PPM, "cat")
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "mine.jpg")

    with pytest.raises(DataError, match=r"Image 1 of the data can't be read: .*mine\.jpg"):
        keep(GivenRows(failing, repeatable), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.suffix == ".ppm":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="No space left") as caught:
        keep(rows(Given(PPM, "cat")), tmp_path)
    assert "Free some space" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made_is_said(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="can't be written"):
        keep(rows(Given(PPM, "cat")), tmp_path / "file")


def test_another_process_may_be_first(tmp_path, monkeypatch) -> None:
    first = keep(rows(Given(PPM, "cat")), tmp_path)
    monkeypatch.setattr(kept, "_is_whole", lambda folder, size: False)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # so that the rename must fail
    assert keep(rows(Given(PPM, "cat")), tmp_path) == first
    assert (first.parent / "images/00000000.ppm").read_bytes() == PPM


def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path) -> None:
    program = """
import sys, time
from pathlib import Path
from headstart.data.objects.given_rows import Given, GivenRows
from headstart.data.objects.kept import keep
def rows():
    yield Given(b"P5 1 1 255 a", "cat")
    yield Given(b"P5 1 1 255 b", "cat")
    print("ready", flush=True)
    time.sleep(60)
keep(GivenRows(rows, repeatable=False), Path(sys.argv[1]))
"""
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".building-")
    path = keep(rows(Given(PPM, "cat")), tmp_path)
    assert left.exists(), "another process may be writing it"
    os.utime(left, (0, time.time() - 100_000))
    assert keep(rows(Given(PPM, "dog")), tmp_path).exists()
    assert not left.exists()
    assert path.exists()


def test_what_is_kept_is_listed_and_forgotten(tmp_path) -> None:
    first = keep(rows(Given(PPM, "cat"), Given(PPM, "dog")), tmp_path)
    second = keep(rows(Given(tmp_path / "1.jpg", "cat")), tmp_path)
    os.utime(first.parent, (0, 0))
    sizes = [first.stat().st_size + 2 * len(PPM), second.stat().st_size]
    found = list_kept(tmp_path)
    assert [item.folder for item in found] == [first.parent, second.parent]
    assert [item.bytes for item in found] == sizes
    assert [item.files for item in found] == [3, 1]
    assert found[0].last_used == 0
    assert forget_kept(tmp_path) == sum(sizes)
    assert list(tmp_path.iterdir()) == []
    assert list_kept(tmp_path / "none") == []
    assert forget_kept(tmp_path / "none") == 0


def test_what_is_being_written_is_not_forgotten(tmp_path) -> None:
    def forgetting() -> Iterator[Given]:
        yield Given(PPM, "cat")
        assert forget_kept(tmp_path) == 0

    path = keep(GivenRows(forgetting, repeatable=False), tmp_path)
    assert len(table(path)) == 1
    assert (path.parent / "images/00000000.ppm").exists()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path) -> None:
    def many(n: int) -> GivenRows:
        image = b"P5\n64 64\n255\n" + bytes(4096)
        return GivenRows(lambda: (Given(image, f"class {i}") for i in range(n)), repeatable=False)

    def peak(n: int) -> int:
        tracemalloc.reset_peak()
        keep(many(n), tmp_path)
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(10)
        few, more = peak(10), peak(300)
    finally:
        tracemalloc.stop()
    assert more < few + 200_000  # they are 1.2 million bytes
