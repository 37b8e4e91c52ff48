"""Zip files are unpacked once, whole, and again where something is missing."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import filelock
import pytest

from headstart.data import unpacked as module
from headstart.data.unpacked import forget, unpack, unpacked
from headstart.errors import DataError, ResourceError, UnsafeFile
from headstart.memory import FileMemory


def write_zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, name.encode())
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_zip(tmp_path / "photos.zip", "cats/1.png", "dogs/2.png")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "archives"


@pytest.fixture
def counted(monkeypatch) -> list[Path]:
    """What is unpacked for real."""
    calls: list[Path] = []

    def extract(path, *arguments, **options):
        calls.append(path)
        return real(path, *arguments, **options)

    real = module.extract
    monkeypatch.setattr(module, "extract", extract)
    return calls


def test_it_is_unpacked_once_wherever_it_lies(photos, folder, tmp_path, counted) -> None:
    content = unpack(photos, folder)
    assert content.name == "photos"
    assert content.is_relative_to(folder)
    assert (content / "cats/1.png").read_bytes() == b"cats/1.png"
    moved = tmp_path / "moved.zip"
    photos.rename(moved)
    assert unpack(moved, folder) == content
    assert counted == [photos]


def test_another_content_is_another_folder(photos, folder) -> None:
    first = unpack(photos, folder)
    write_zip(photos, "cats/1.png")
    second = unpack(photos, folder)
    assert first != second
    assert len(unpacked(folder)) == 2


def test_a_digest_is_remembered(photos, folder, tmp_path, monkeypatch) -> None:
    memory = FileMemory(tmp_path / "files.sqlite")
    os.utime(photos, (time.time() - 60,) * 2)  # what has just changed may change again
    content = unpack(photos, folder, memory=memory)

    def never(path):
        raise AssertionError("read")

    monkeypatch.setattr(module, "file_digest", never)
    assert unpack(photos, folder, memory=memory) == content
    os.utime(photos, (time.time() - 30,) * 2)
    with pytest.raises(AssertionError, match="read"):
        unpack(photos, folder, memory=memory)


@pytest.mark.parametrize("damage", ["missing", "short", "more", "manifest", "no manifest"])
def test_what_is_not_whole_is_unpacked_again(photos, folder, counted, damage) -> None:
    content = unpack(photos, folder)
    manifest = content.parent.with_suffix(".json")
    if damage == "missing":
        (content / "cats/1.png").unlink()
    elif damage == "short":
        (content / "cats/1.png").write_bytes(b"")
    elif damage == "more":
        (content / "cats/9.png").write_bytes(b"")
    elif damage == "manifest":
        manifest.write_text("[]")
    else:
        manifest.unlink()
    assert unpack(photos, folder) == content
    assert (content / "cats/1.png").read_bytes() == b"cats/1.png"
    assert not (content / "cats/9.png").exists()
    assert len(counted) == 2


@pytest.mark.parametrize("place", ["extract", "write_json"])
def test_a_kill_leaves_nothing_that_is_used(photos, folder, monkeypatch, place) -> None:
    """A process that is killed can't tidy up; the next does."""

    def killed(*arguments, **_):
        (folder / "left.tmp").mkdir(parents=True, exist_ok=True)
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(module, place, killed)
        patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            unpack(photos, folder)
    assert unpacked(folder) == []
    content = unpack(photos, folder)
    assert (content / "dogs/2.png").is_file()
    forget(folder)
    assert list(folder.iterdir()) == []


def test_harm_leaves_nothing(tmp_path, folder) -> None:
    evil = write_zip(tmp_path / "evil.zip", "cats/1.png", "../evil")
    with pytest.raises(DataError, match="leads out"):
        unpack(evil, folder)
    with pytest.raises(UnsafeFile, match="leads out"):
        unpack(evil, folder, error=UnsafeFile)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert not (folder.parent / "evil").exists()


def test_only_one_process_unpacks(photos, folder, counted) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: unpack(photos, folder), range(8)))
    assert len(set(places)) == 1
    assert len(counted) == 1


def test_the_list_has_sizes_and_the_least_recently_used_first(photos, folder, tmp_path) -> None:
    first = unpack(photos, folder)
    second = unpack(write_zip(tmp_path / "other.zip", "a/1"), folder)
    os.utime(first.parent.with_suffix(".json"), (time.time() - 60,) * 2)
    assert [item.to_dict() | {"last_used": 0} for item in unpacked(folder)] == [
        {"folder": str(first), "files": 2, "bytes": 20, "last_used": 0},
        {"folder": str(second), "files": 1, "bytes": 3, "last_used": 0},
    ]
    os.utime(second.parent.with_suffix(".json"), (time.time() - 90,) * 2)
    unpack(photos, folder)
    assert [item.folder for item in unpacked(folder)] == [second, first]
    assert unpacked(tmp_path / "nowhere") == []


def test_all_is_forgotten_but_what_is_being_unpacked(photos, folder, tmp_path) -> None:
    busy = unpack(photos, folder).parent
    unpack(write_zip(tmp_path / "other.zip", "a/1"), folder)
    with filelock.FileLock(busy.with_suffix(".lock")):
        assert forget(folder) == 3
        assert [item.folder.parent for item in unpacked(folder)] == [busy]
    assert forget(folder) == 20
    assert list(folder.iterdir()) == []
    assert forget(tmp_path / "nowhere") == 0


def test_a_name_of_any_kind_is_the_folders(folder, tmp_path) -> None:
    for name in ("archive.json.zip", "a b.tar.zip", ".hidden.zip"):
        content = unpack(write_zip(tmp_path / name, f"cats/{name}"), folder)
        assert content.name == name.removesuffix(".zip")
        assert (content / "cats" / name).is_file()


@pytest.mark.parametrize("name", ["..zip", "...zip", "....zip"])
def test_a_name_of_dots_alone_leads_nowhere_else(photos, folder, tmp_path, name) -> None:
    other = unpack(photos, folder)
    content = unpack(write_zip(tmp_path / name, "cats/1.png"), folder)
    assert content.parent.parent == folder
    assert content.name == "content"
    assert (content / "cats/1.png").is_file()
    assert unpack(tmp_path / name, folder) == content
    assert (other / "cats/1.png").is_file()
    assert {item.folder for item in unpacked(folder)} == {other, content}


def test_a_cache_that_cannot_be_written_is_told(photos, tmp_path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(ResourceError, match="can't be written") as caught:
        unpack(photos, tmp_path / "cache" / "archives")
    assert "HEADSTART_CACHE" in caught.value.hint
    with pytest.raises(ResourceError, match="can't be read: No such file"):
        unpack(tmp_path / "none.zip", tmp_path / "archives")
