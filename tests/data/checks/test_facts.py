from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from headstart.data.checks import facts as module
from headstart.data.checks.facts import columns, learn, read_row, usable
from headstart.data.read import decode, source_digest
from headstart.errors import BadImage
from headstart.memory import FileMemory


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "memory.sqlite")


def aged(root: Path) -> list[Path]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    for path in paths:
        os.utime(path, (1, 1))  # so old that it is remembered
    return paths


def photographed(make: str, model: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    return exif


def test_a_row_holds_what_the_header_says(tree, noise, encoded) -> None:
    content = encoded(noise(1, 30, 20), "JPEG")
    (path,) = aged(tree({"a.jpg": content}))
    row = read_row(path)
    assert usable(row)
    assert row["digest"] == source_digest(path)
    found = columns(iter([row]))
    assert (found.width[0], found.height[0], found.bytes[0]) == (30, 20, len(content))
    assert (found.format, found.mode, found.camera) == (("JPEG",), ("RGB",), ("",))
    assert not found.exif[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_camera_is_read_wherever_it_is_kept(tree, noise, encoded, kind) -> None:
    exif = photographed("Acme\0", "Shot 3")
    content = encoded(noise(1), kind, exif=exif)
    row = read_row(tree({"a.img": content}) / "a.img")
    assert (row["camera"], row["exif"]) == ("Acme Shot 3", True)
    assert not read_row(tree({"b.img": encoded(noise(1), kind)}) / "b.img")["exif"]


def test_a_damaged_exif_block_is_there_and_tells_nothing(tree, noise, encoded) -> None:
    content = encoded(noise(1), "JPEG", exif=b"Exif\0\0garbage that is none")
    row = read_row(tree({"a.jpg": content}) / "a.jpg")
    assert (row["camera"], row["exif"]) == ("", True)


def test_the_size_is_the_stored_one(tree, noise, encoded) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a right angle
    row = read_row(tree({"a.jpg": encoded(noise(1, 30, 20), "JPEG", exif=exif)}) / "a.jpg")
    assert (row["width"], row["height"]) == (30, 20)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_right_angle_is_told_as_the_decoder_turns(tree, noise, encoded, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tree({"a.img": encoded(noise(1, 30, 20), kind, exif=exif)}) / "a.img"
    found = columns(iter([read_row(path)]))
    assert decode(path).size == ((20, 30) if found.turned[0] else (30, 20))
    assert found.turned[0] == (orientation > 4)


def test_an_orientation_without_an_exif_block_is_told_too(tree, noise, encoded) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    path = tree({"a.jpg": encoded(noise(1, 30, 20), "JPEG", xmp=xmp)}) / "a.jpg"
    row = read_row(path)
    assert decode(path).size == (20, 30)
    assert (row["exif"], row["turned"]) == (False, True)


def test_no_pixel_of_a_png_is_decoded(png, tree, monkeypatch) -> None:
    path = tree({"a.png": png(9000, 9000)}) / "a.png"
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("decoded"))
    assert read_row(path)["width"] == 9000


def test_a_broken_header_is_a_bad_image(tree) -> None:
    with pytest.raises(BadImage, match="empty file"):
        read_row(tree({"a.jpg": b""}) / "a.jpg")


def test_columns_of_nothing_are_empty() -> None:
    found = columns(iter(()))
    assert len(found.width) == len(found.exif) == len(found.turned) == len(found.format) == 0


def test_rows_come_in_order_with_reasons_between(tree, memory) -> None:
    paths = aged(tree({"a.png": 1, "b.png": b"", "c.png": 2}))
    found = list(learn(paths, memory, read_row, usable))
    assert found[1] == "empty file"
    assert [found[0]["digest"], found[2]["digest"]] == [source_digest(paths[i]) for i in (0, 2)]


def test_a_file_that_is_there_twice_is_read_once(tree, memory) -> None:
    (path,) = aged(tree({"a.png": 1}))
    read = []
    one, other = learn([path, path], memory, lambda p: read.append(p) or read_row(p), usable)
    assert one == other
    assert read == [path]


def test_rows_that_serve_are_not_read_again(tree, memory) -> None:
    paths = aged(tree({f"{n}.png": n for n in range(5)}))
    cold = list(learn(paths, memory, read_row, usable))
    assert list(learn(paths, memory, lambda p: pytest.fail(f"{p} was read"), usable)) == cold
    again = []
    assert list(learn(paths, memory, lambda p: again.append(p) or read_row(p), lambda _: False))
    assert sorted(again) == paths


def test_more_files_than_are_held_at_once(tree, memory, monkeypatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    paths = aged(tree({f"{n}.png": n for n in range(8)}))
    told: list[tuple[int, int]] = []
    rows = list(learn(paths, memory, read_row, usable, lambda *step: told.append(step)))
    assert [row["digest"] for row in rows] == [source_digest(path) for path in paths]
    assert told == [(n, 8) for n in range(1, 9)]


def test_an_interruption_leaves_what_was_learnt(tree, memory) -> None:
    paths = aged(tree({f"{n}.png": n for n in range(6)}))

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(learn(paths, memory, read_row, usable, stop))
    assert len(memory.recall(paths)) == 4
