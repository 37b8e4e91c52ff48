"""Zip files that mean harm, and those that don't (M3)."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data import archive
from headstart.data.archive import entries, extract
from headstart.errors import DataError, HeadstartError, ResourceError, UnsafeFile

Member = tuple[str | zipfile.ZipInfo, bytes]


def write_zip(path: Path, members: Sequence[Member], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip file as it is told to, whatever its names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two entries of one name
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in members:
                file.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix
    info.external_attr = mode << 16
    return info


def backslashed(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = name  # past the conversion that its constructor does on Windows
    return info


def patched(path: Path, *changes: tuple[bytes, int, str, int]) -> Path:
    """Change numbers behind the first mark of a kind: (mark, offset, format, value)."""
    content = bytearray(path.read_bytes())
    for mark, offset, form, value in changes:
        struct.pack_into(form, content, content.index(mark) + offset, value)
    path.write_bytes(content)
    return path


LOCAL, CENTRAL = b"PK\3\4", b"PK\1\2"
GOOD: Member = ("cats/1.png", b"cat")

HARMFUL: dict[str, tuple[list[Member], str]] = {
    "upwards": ([GOOD, ("../evil.png", b"x")], "'../evil.png': its path leads out"),
    "upwards inside": ([GOOD, ("cats/../../evil.png", b"x")], "its path leads out"),
    "absolute": ([GOOD, ("/etc/evil.png", b"x")], "'/etc/evil.png': its path is absolute"),
    "drive": ([GOOD, ("C:/evil.png", b"x")], "'C:/evil.png': its path names a drive"),
    "drive, no slash": ([GOOD, ("c:evil.png", b"x")], "its path names a drive"),
    "backslash": ([GOOD, (backslashed("cats\\evil.png"), b"x")], "its path has a backslash"),
    "share": ([GOOD, (backslashed("\\\\host\\evil.png"), b"x")], "its path has a backslash"),
    "link": ([GOOD, (special("cats/evil", stat.S_IFLNK | 0o777), b"/etc")], "'cats/evil': it is a"),
    "pipe": ([GOOD, (special("cats/evil", stat.S_IFIFO | 0o666), b"")], "it is no plain file"),
    "twice": ([GOOD, ("cats/1.png", b"dog")], "'cats/1.png': there are two of that name"),
    "twice, spelt otherwise": ([GOOD, ("./cats//1.png", b"dog")], "there are two of that name"),
    "case": ([GOOD, ("cats/1.PNG", b"dog")], "'cats/1.PNG': 'cats/1.png' has the same letters"),
    "case of a folder": ([GOOD, ("Cats/2.png", b"dog")], "'cats' has the same letters"),
    "form of letters": (
        [("caf\u00e9/1.png", b"x"), ("cafe\u0301/2.png", b"y")],
        "has the same letters",
    ),
    "file and folder": ([("cats", b"x"), ("cats/1.png", b"y")], "both a file and a folder"),
    "folder and file": ([("cats/1.png", b"y"), ("cats", b"x")], "both a file and a folder"),
    "a thousandfold": (
        [GOOD, ("cats/2.png", bytes(2_000_000))],
        "'cats/2.png': it would unpack to",
    ),
    "long name": ([GOOD, ("cats/" + "x" * 256, b"x")], "its name is longer than 255 bytes"),
    "long path": ([GOOD, ("cats" * 40 + "/dogs" * 400, b"x")], "its path is longer than 2,048 by"),
    "deep": ([GOOD, ("x/" * 100 + "1.png", b"x")], "its path is deeper than 100 folders"),
    "very deep": ([GOOD, ("x/" * 2_000, b"")], "its path is"),
    "a thousandfold in small pieces": (
        [(f"cats/{number}.png", bytes(1 << 20)) for number in range(3)],
        "its entries together would unpack to",
    ),
}


def test_m3_as_deep_and_long_as_may_be_is_unpacked(tmp_path) -> None:
    deep = "x/" * 99 + "1.png"
    extract(write_zip(tmp_path / "a.zip", [(deep, b"x"), ("y" * 255, b"x")]), tmp_path / "out")
    assert (tmp_path / "out" / deep).read_bytes() == b"x"


def test_m3_folders_count_as_entries_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "MOST_ENTRIES", 4)
    assert entries(write_zip(tmp_path / "a.zip", [("a/b/c/d/1", b"x")]))
    with pytest.raises(DataError, match="'f/2': more than 4 folders would be made"):
        entries(write_zip(tmp_path / "b.zip", [("a/b/c/d/1", b"x"), ("f/2", b"x")]))


def test_a_folder_that_was_there_is_kept(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/own").write_bytes(b"x")
    with pytest.raises(ResourceError, match="out can't be written: File exists"):
        extract(write_zip(tmp_path / "a.zip", [GOOD]), tmp_path / "out")
    assert (tmp_path / "out/own").read_bytes() == b"x"


@pytest.mark.parametrize("kind", HARMFUL)
def test_m3_harm_is_refused_with_the_entrys_name_before_anything_is_written(tmp_path, kind) -> None:
    members, found = HARMFUL[kind]
    file = write_zip(tmp_path / "evil.zip", members)
    with pytest.raises(DataError) as caught:
        extract(file, tmp_path / "in" / "here")
    assert found in caught.value.message
    assert caught.value.field == str(file)
    assert caught.value.exit_code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]
    with pytest.raises(DataError):
        entries(file)


def test_m3_what_is_encrypted_is_refused(tmp_path) -> None:
    file = write_zip(tmp_path / "evil.zip", [GOOD])
    patched(file, (LOCAL, 6, "<H", 1), (CENTRAL, 8, "<H", 1))
    with pytest.raises(DataError, match=r"'cats/1\.png': it is encrypted"):
        extract(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_m3_an_unknown_way_of_packing_is_refused(tmp_path) -> None:
    file = patched(write_zip(tmp_path / "a.zip", [GOOD]), (CENTRAL, 10, "<H", 9))
    with pytest.raises(DataError, match=r"not known \(method 9\)"):
        entries(file)


@pytest.mark.parametrize("size", [2, 4], ids=["more", "fewer"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_m3_bytes_that_were_not_promised_leave_nothing(tmp_path, size, method) -> None:
    file = write_zip(tmp_path / "evil.zip", [("first.png", b"1"), GOOD], method)
    content = bytearray(file.read_bytes())
    for mark, offset in ((LOCAL, 22), (CENTRAL, 24)):
        struct.pack_into("<I", content, content.rindex(mark) + offset, size)
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"'cats/1\.png': it(s bytes are not| has more bytes| has fewer bytes)"
    ):
        extract(file, tmp_path / "out" / "deep")
    assert not (tmp_path / "out" / "deep").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_m3_more_bytes_than_promised_are_found_though_a_checksum_fits(tmp_path, method) -> None:
    file = write_zip(tmp_path / "a.zip", [("1.bin", bytes(1000) + b"end")], method)
    for mark, offset in ((LOCAL, 14), (CENTRAL, 16)):
        patched(file, (mark, offset, "<I", zlib.crc32(bytes(11))), (mark, offset + 8, "<I", 10))
    with pytest.raises(DataError, match=r"'1\.bin': it has more bytes than the 10 "):
        extract(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_m3_a_million_entries_are_refused_before_they_are_listed(tmp_path, monkeypatch) -> None:
    def never(*_, **__):
        raise AssertionError("listed")

    entry = struct.pack("<4s6H3I5H2I", CENTRAL, *([20] * 2), *([0] * 4), *([0] * 3), 1, *([0] * 6))
    directory = (entry + b"x") * 1_000_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 5, 5, len(directory), 0, 0)  # which lies
    file = tmp_path / "evil.zip"
    file.write_bytes(directory + end)
    monkeypatch.setattr(archive.zipfile, "ZipFile", never)
    with pytest.raises(DataError, match="it has 1,000,000 entries, more than 500,000"):
        entries(file)


def test_m3_the_limit_is_of_entries_that_are_there(tmp_path, monkeypatch) -> None:
    file = write_zip(tmp_path / "a.zip", [(f"{number}.png", b"x") for number in range(6)])
    monkeypatch.setattr(archive, "MOST_ENTRIES", 6)
    monkeypatch.setattr(archive, "_CHUNK", 7)  # so that marks lie across chunks
    assert len(entries(file)) == 6
    monkeypatch.setattr(archive, "MOST_ENTRIES", 5)
    with pytest.raises(DataError, match="it has 6 entries, more than 5"):
        entries(file)


def test_m3_entries_that_share_their_bytes_are_refused(tmp_path) -> None:
    file = write_zip(tmp_path / "evil.zip", [("1.png", b"x" * 50), ("2.png", b"x" * 50)])
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.rindex(CENTRAL) + 42, 0)  # where the first is
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"it overlaps another"):
        entries(file)


def test_m3_the_error_is_the_one_that_is_asked_for(tmp_path) -> None:
    file = write_zip(tmp_path / "evil.zip", [("../x", b"x")])
    for call in (lambda: entries(file, error=UnsafeFile),
                 lambda: extract(file, tmp_path / "out", error=UnsafeFile)):  # fmt: skip
        with pytest.raises(UnsafeFile):
            call()


# What is no zip file


@pytest.mark.parametrize("content", [b"", b"PK", b"GIF89a", b"<html>", bytes(100)])
def test_what_is_no_zip_file_is_told(tmp_path, content) -> None:
    file = tmp_path / "photos.zip"
    file.write_bytes(content)
    with pytest.raises(DataError, match="can't be read as a zip file") as caught:
        entries(file)
    assert "cut short" in caught.value.hint


def test_a_file_that_is_not_there_is_a_resource(tmp_path) -> None:
    with pytest.raises(ResourceError, match="can't be read: No such file"):
        entries(tmp_path / "none.zip")


def test_a_file_cut_short_anywhere_is_refused_and_leaves_nothing(tmp_path) -> None:
    file = write_zip(tmp_path / "a.zip", [GOOD, ("dogs/2.png", bytes(range(256)) * 4)])
    content = file.read_bytes()
    for length in range(0, len(content), 7):
        file.write_bytes(content[:length])
        with pytest.raises(DataError):
            extract(file, tmp_path / "out")
        assert not (tmp_path / "out").exists()


# Plain ones


def test_files_and_empty_folders_come_out_as_they_went_in(tmp_path) -> None:
    members: list[Member] = [
        ("photos/", b""),
        ("photos/cats/1.png", b"cat"),
        ("./photos/dogs//2.png", b""),
        ("photos/birds/", b""),
        ("__MACOSX/photos/cats/._1.png", b"junk"),
    ]
    file = write_zip(tmp_path / "a.zip", members)
    found = extract(file, tmp_path / "out")
    assert {(entry.name, entry.is_folder, entry.bytes) for entry in found} == {
        ("photos", True, 0),
        ("photos/cats/1.png", False, 3),
        ("photos/dogs/2.png", False, 0),
        ("photos/birds", True, 0),
        ("__MACOSX/photos/cats/._1.png", False, 4),
    }
    assert (tmp_path / "out/photos/cats/1.png").read_bytes() == b"cat"
    assert (tmp_path / "out/photos/birds").is_dir()


def test_a_folder_named_twice_is_no_harm(tmp_path) -> None:
    assert (
        len(entries(write_zip(tmp_path / "a.zip", [("a/", b""), ("a/", b""), ("a/1", b"x")]))) == 3
    )


def test_a_small_file_may_be_as_empty_as_it_likes(tmp_path) -> None:
    assert entries(write_zip(tmp_path / "a.zip", [("blank.bmp", bytes(500_000))]))


@pytest.mark.parametrize(
    "method",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_every_usual_way_of_packing_is_known(tmp_path, method) -> None:
    content = bytes(range(256)) * 20
    extract(write_zip(tmp_path / "a.zip", [("1.png", content)], method), tmp_path / "out")
    assert (tmp_path / "out/1.png").read_bytes() == content


def test_names_are_those_that_were_meant(tmp_path) -> None:
    """Some programs write UTF-8 and don't say so; the letters of old DOS are believed else."""
    file = write_zip(tmp_path / "a.zip", [("K\u00e4fer/1.png", b"x")])
    patched(file, (LOCAL, 6, "<H", 0), (CENTRAL, 8, "<H", 0))
    assert [entry.name for entry in entries(file)] == ["K\u00e4fer/1.png"]
    content = file.read_bytes().replace("\u00e4".encode(), b"\x84!")  # what DOS has for it
    file.write_bytes(content)
    assert [entry.name for entry in entries(file)] == ["K\u00e4!fer/1.png"]


def test_a_disk_without_room_is_found_before_anything_is_written(tmp_path, monkeypatch) -> None:
    file = write_zip(tmp_path / "a.zip", [GOOD])
    usage = type("Usage", (), {"free": 2})
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match="GB left") as caught:
        extract(file, tmp_path / "out")
    assert "HEADSTART_CACHE" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    file = write_zip(tmp_path / "a.zip", [GOOD])
    monkeypatch.setattr(archive, "_copy", full)
    with pytest.raises(ResourceError, match="No space left"):
        extract(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    file = write_zip(tmp_path / "a.zip", [GOOD])
    monkeypatch.setattr(archive, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Any bytes


@pytest.fixture(scope="module")
def whole() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cats/1.png", b"cat" * 50)
        file.writestr("dogs/", b"")
        file.writestr("dogs/2.png", bytes(range(256)))
    return buffer.getvalue()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_bytes_are_refused_or_stay_inside(tmp_path_factory, whole, data) -> None:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place = tmp_path_factory.mktemp("zip")
    (place / "a.zip").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = extract(place / "a.zip", place / "out")
        except HeadstartError:
            assert not (place / "out").exists()
        else:
            files = {path for path in (place / "out").rglob("*") if path.is_file()}
            assert files == {place / "out" / entry.name for entry in found if not entry.is_folder}
    assert {path.name for path in place.iterdir()} <= {"a.zip", "out"}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("aA./\\:\u00e9\0 ", min_size=1, max_size=8), min_size=1, max_size=5))
def test_any_names_are_refused_or_stay_inside(tmp_path_factory, names) -> None:
    place = tmp_path_factory.mktemp("zip")
    file = write_zip(place / "a.zip", [(backslashed(name), b"x") for name in names])
    try:
        extract(file, place / "out")
    except DataError:
        assert not (place / "out").exists()
    assert {path.name for path in place.iterdir()} <= {"a.zip", "out"}
