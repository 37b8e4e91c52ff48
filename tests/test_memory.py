from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.errors import ResourceError
from headstart.memory import FileMemory

LONG_AGO = 1_600_000_000 * 10**9
FACTS = {"digest": "a1", "notes": ["café", os.fsdecode(b"caf\xe9")], "size": [3, 4], "none": None}


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "cache" / "files.sqlite")


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that was last changed long ago."""

    def make(name: str | bytes = "1.jpg", content: bytes = b"image", mtime: int = LONG_AGO) -> Path:
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(content)
        os.utime(path, ns=(mtime, mtime))
        return path

    return make


def test_what_was_learnt_of_an_unchanged_file_is_recalled(memory, photo) -> None:
    path, other = photo(), photo("2.jpg")
    memory.remember({path: FACTS})
    for again in (memory, FileMemory(memory.path)):
        assert again.recall([other, path]) == {path: FACTS}


@pytest.mark.parametrize(
    "change",
    [
        lambda photo: photo(content=b"image of another size"),
        lambda photo: photo(mtime=LONG_AGO + 1),
        lambda photo: photo(mtime=LONG_AGO - 10**9),
        lambda photo: photo().unlink(),
    ],
    ids=["size", "a nanosecond later", "earlier", "removed"],
)
def test_a_file_that_changed_is_not_recalled(memory, photo, change) -> None:
    path, same = photo(), photo("same.jpg")
    memory.remember({path: FACTS, same: FACTS})
    change(photo)
    assert memory.recall([path, same]) == {same: FACTS}


def test_a_file_that_is_as_it_was_is_recalled_again(memory, photo) -> None:
    memory.remember({photo(): FACTS})
    photo(mtime=LONG_AGO + 1)
    assert memory.recall([photo()]) == {photo(): FACTS}


def test_later_facts_replace_earlier_ones(memory, photo) -> None:
    memory.remember({photo(): FACTS})
    memory.remember({photo(): {"digest": "b2"}})
    photo(content=b"changed")
    memory.remember({photo(content=b"changed"): {"digest": "c3"}})
    assert memory.recall([photo(content=b"changed")]) == {
        photo(content=b"changed"): {"digest": "c3"}
    }
    assert memory.recall([photo()]) == {}


@pytest.mark.parametrize(("age", "trusted"), [(-60, False), (0, False), (1.9, False), (2.1, True)])
def test_a_file_that_may_change_within_a_tick_of_its_clock_is_not_trusted(
    memory, photo, monkeypatch, age, trusted
) -> None:
    path = photo()
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO + int(age * 1e9))
    memory.remember({path: FACTS})
    assert memory.recall([path]) == ({path: FACTS} if trusted else {})


def test_an_absent_file_is_neither_remembered_nor_recalled(memory, tmp_path) -> None:
    memory.remember({tmp_path / "absent.jpg": FACTS})
    assert memory.recall([tmp_path / "absent.jpg"]) == {}


@pytest.mark.parametrize(
    "name", [b"caf\xe9.jpg", "café.jpg", "cafe\u0301.jpg", "a\nb.jpg", "-x 'q\" .jpg", "🌱.jpg"]
)
def test_any_name_is_remembered(memory, photo, name) -> None:
    path, other = photo(name), photo("other.jpg")
    memory.remember({path: FACTS, other: {}})
    assert memory.recall([path]) == {path: FACTS}


def test_names_that_only_look_the_same_are_apart(memory, photo) -> None:
    facts = {
        photo(name): {"n": n} for n, name in enumerate(["caf\u00e9", "cafe\u0301", b"caf\xe9"])
    }
    memory.remember(facts)
    assert memory.recall(list(facts)) == facts


def test_a_file_is_known_by_its_place_however_it_is_named(memory, photo, monkeypatch) -> None:
    path = photo()
    monkeypatch.chdir(path.parent)
    memory.remember({Path("1.jpg"): FACTS})
    assert memory.recall([path]) == {path: FACTS}
    monkeypatch.chdir("/")
    assert memory.recall([Path("1.jpg")]) == {}


def test_thousands_of_files_are_recalled_at_once(memory, photo) -> None:
    facts = {photo(f"{n}.jpg"): {"n": n} for n in range(1203)}
    memory.remember(facts)
    assert memory.recall(list(facts)) == facts


def test_nothing_is_asked_and_nothing_told(memory) -> None:
    memory.remember({})
    assert memory.recall([]) == {}


def test_what_is_forgotten_is_gone_and_can_be_learnt_again(memory, photo) -> None:
    memory.forget()
    memory.remember({photo(): FACTS})
    memory.forget()
    assert memory.recall([photo()]) == {}
    memory.remember({photo(): FACTS})
    assert memory.recall([photo()]) == {photo(): FACTS}


DAMAGES = {
    "not a database": lambda data: b"not a database at all" * 100,
    "the header": lambda data: b"\0" * 100 + data[100:],
    "the pages": lambda data: data[:4096] + b"\xaa" * (len(data) - 4096),
    "the last pages": lambda data: data[:-40_000] + b"\xaa" * 40_000,
    "the second half": lambda data: data[: len(data) // 2],
    "everything": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("first", ["recall", "remember"])
def test_a_damaged_memory_is_replaced(memory, photo, damage, first) -> None:
    facts = {photo(f"{n}.jpg"): {"n": n, "padding": "x" * 300} for n in range(400)}
    memory.remember(facts)
    memory.path.write_bytes(damage(memory.path.read_bytes()))
    if first == "recall":
        assert memory.recall(list(facts)).items() <= facts.items()
    memory.remember(facts)
    memory.remember(facts)
    assert memory.recall(list(facts)) == facts


def test_a_memory_that_cannot_be_written_is_a_resource_error(tmp_path, photo) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    for path in (photo() / "files.sqlite", tmp_path / "folder.sqlite"):
        for use in (lambda m: m.recall([]), lambda m: m.remember({})):
            with pytest.raises(ResourceError, match=r"(?s)can't be written.*HEADSTART_CACHE"):
                use(FileMemory(path))


def test_a_full_disk_is_a_resource_error(memory, photo) -> None:
    paths = [photo(f"{n}.jpg") for n in range(100)]
    program = textwrap.dedent(
        """
        import pathlib, resource, sys
        from headstart.errors import ResourceError
        from headstart.memory import FileMemory

        memory = FileMemory(pathlib.Path(sys.argv[1]))
        memory.remember({})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            memory.remember({pathlib.Path(path): {"x": "y" * 1000} for path in sys.argv[2:]})
        except ResourceError:
            sys.exit(7)
        """
    )
    done = subprocess.run([sys.executable, "-c", program, memory.path, *paths], check=False)
    assert done.returncode == 7
    assert memory.recall(paths) == {}
    memory.remember(dict.fromkeys(paths, FACTS))
    assert memory.recall(paths) == dict.fromkeys(paths, FACTS)


def test_processes_that_learn_at_once_lose_nothing(memory, photo) -> None:
    paths = [photo(f"{n}.jpg") for n in range(100)]
    program = textwrap.dedent(
        """
        import pathlib, sys
        from headstart.memory import FileMemory

        memory = FileMemory(pathlib.Path(sys.argv[1]))
        for path in map(pathlib.Path, sys.argv[2:]):
            memory.remember({path: {"name": path.name}})
            assert memory.recall([path])
        """
    )
    start = [sys.executable, "-c", program, str(memory.path)]
    processes = [subprocess.Popen([*start, *paths[first::3]]) for first in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert memory.recall(paths) == {path: {"name": path.name} for path in paths}
