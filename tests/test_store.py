"""Rows, segments and what goes wrong while they are written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from headstart import store as module
from headstart.cache import Cache
from headstart.errors import ResourceError
from headstart.store import Store
from stores import ROW_BYTES, SHAPE, bits, files_of, fill, name, names, open_store, values


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_CACHE", raising=False)
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)


def run(program: str, *arguments: object, code: int = 0) -> None:
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=False)
    assert done.returncode == code


# Rows


def test_rows_come_back_bit_equal_in_any_order_and_with_repeats(tmp_path) -> None:
    fill(fill(open_store(tmp_path), range(5)), range(5, 9))
    wanted = [7, 0, 3, 3, 8, 5, 0]
    for store in (open_store(tmp_path), fill(open_store(tmp_path), [9])):
        rows = store.rows(names(wanted))
        assert len(rows) == 7
        assert bits(rows.all()) == bits(values(wanted))
        assert bits(rows.take([6, 1, 1, 2])) == bits(values([0, 0, 0, 3]))


def test_no_rows_are_an_empty_array_of_the_right_shape(tmp_path) -> None:
    store = fill(open_store(tmp_path), [1])
    for rows in (store.rows([]).all(), store.rows(names([1])).take([])):
        assert (rows.shape, rows.dtype) == ((0, *SHAPE), np.float32)


def test_a_digest_without_a_row_is_a_key_error(tmp_path) -> None:
    with pytest.raises(KeyError):
        fill(open_store(tmp_path), [1]).rows(names([1, 2]))


def test_missing_names_each_absent_image_once_in_order(tmp_path) -> None:
    store = fill(open_store(tmp_path), [2, 4])
    assert store.missing(names([5, 2, 1, 5, 4, 1, 3])) == names([5, 1, 3])


def test_ten_new_images_cost_ten_rows(tmp_path) -> None:
    fill(open_store(tmp_path), range(100))
    before = Cache(tmp_path).stores()[0]
    store = open_store(tmp_path)
    new = store.missing(names(range(110)))
    assert new == names(range(100, 110))
    fill(store, range(100, 110))
    after = Cache(tmp_path).stores()[0]
    assert (before.rows, after.rows, after.bytes - before.bytes) == (100, 110, 10 * ROW_BYTES)
    assert open_store(tmp_path).missing(names(range(110))) == []


def test_rows_are_converted_to_the_stores_type_and_wrong_shapes_refused(tmp_path) -> None:
    store = open_store(tmp_path)
    with store.writer() as writer:
        writer.add([name(1)], np.ones((1, *SHAPE), dtype=np.float64)[:, ::-1])
        for wrong in (np.ones((2, *SHAPE)), np.ones(SHAPE), np.ones((1, 6))):
            with pytest.raises(ValueError, match="shape"):
                writer.add([name(2)], wrong)
    assert store.rows([name(1)]).all().dtype == np.float32
    assert store.missing(names([1, 2])) == [name(2)]


def test_adding_nothing_leaves_nothing(tmp_path) -> None:
    store = open_store(tmp_path)
    with store.writer() as writer:
        writer.add([], np.empty((0, *SHAPE), dtype=np.float32))
    with store.writer():
        pass
    assert files_of(store) == []


def test_rows_are_mapped_and_not_read_whole(tmp_path) -> None:
    store = Cache(tmp_path).store({"big": True}, (1 << 20,), "uint8")
    digests = names(range(512))
    with (store.folder / "big.rows").open("wb") as file:
        file.truncate(512 << 20)  # a hole: it takes no room on the disk
    (store.folder / "big.json").write_text(json.dumps({"format": 1, "digests": digests}))
    tracemalloc.start()
    try:
        store = Cache(tmp_path).store({"big": True}, (1 << 20,), "uint8")
        taken = store.rows([digests[400], digests[7]]).all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken.shape == (2, 1 << 20)
    assert peak < 16 << 20


def test_a_segment_that_is_full_is_finished_and_the_next_begun(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 3 * ROW_BYTES)
    store = open_store(tmp_path)
    with store.writer() as writer:
        for number in range(7):
            writer.add([name(number)], values([number]))
        assert open_store(tmp_path).missing(names(range(7))) == [name(6)]
    assert files_of(store) == [".json"] * 3 + [".rows"] * 3
    assert bits(store.rows(names(range(7))).all()) == bits(values(range(7)))


def test_a_store_sees_the_segments_that_others_finished_once_refreshed(tmp_path) -> None:
    early = open_store(tmp_path)
    fill(open_store(tmp_path), [1])
    assert early.missing([name(1)]) == [name(1)]
    early.refresh()
    assert bits(early.rows([name(1)]).all()) == bits(values([1]))


# What goes wrong


WRITER = textwrap.dedent(
    """
    import os, pathlib, sys
    import numpy as np
    from headstart import store as module
    from headstart.cache import Cache
    folder, death = pathlib.Path(sys.argv[1]), sys.argv[2]

    def dying(*args, **kwargs):
        os._exit(9)

    def patch(owner, name):
        setattr(owner, name, dying)

    store = Cache(folder).store({"killed": 1}, (2,), "float32")
    with store.writer() as writer:
        writer.add(["a" * 64], np.ones((1, 2), np.float32))
        if death == "before the end":
            os._exit(9)
        if death == "before the data has its name":
            patch(pathlib.Path, "replace")
        if death == "after the data has its name":
            patch(module, "flush_folder")
        if death == "before the manifest":
            patch(module, "write_json")
        if death == "after the manifest":
            real = module.write_json
            module.write_json = lambda *args: (real(*args), os._exit(9))
    """
)
DEATHS = [
    "before the end",
    "before the data has its name",
    "after the data has its name",
    "before the manifest",
]


def killed_store(folder: Path, death: str) -> Store:
    run(WRITER, folder, death, code=9)
    return Cache(folder).store({"killed": 1}, (2,), "float32")


@pytest.mark.parametrize("death", DEATHS)
def test_a_killed_writer_leaves_nothing_that_is_believed_or_stays(tmp_path, death) -> None:
    store = killed_store(tmp_path, death)
    assert store.missing(["a" * 64]) == ["a" * 64]
    assert len(files_of(store)) > 0
    with store.writer() as writer:
        writer.add(["b" * 64], np.zeros((1, 2), np.float32))
    assert files_of(store) == [".json", ".rows"]
    assert store.missing(["a" * 64, "b" * 64]) == ["a" * 64]


def test_what_a_killed_writer_had_finished_is_kept(tmp_path) -> None:
    store = killed_store(tmp_path, "after the manifest")
    assert store.rows(["a" * 64]).all().tolist() == [[1, 1]]
    with store.writer() as writer:
        writer.add(["b" * 64], np.zeros((1, 2), np.float32))
    assert files_of(store) == [".json", ".json", ".rows", ".rows"]
    assert store.missing(["a" * 64, "b" * 64]) == []


def test_what_was_added_before_an_error_is_kept(tmp_path) -> None:
    store = open_store(tmp_path)

    def work() -> None:
        with store.writer() as writer:
            writer.add(names([1]), values([1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert bits(open_store(tmp_path).rows(names([1])).all()) == bits(values([1]))


def test_rows_that_are_not_what_the_manifest_says_are_not_believed(tmp_path) -> None:
    for damage in (lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""):
        store = fill(open_store(tmp_path, damage=str(damage)), [1, 2])
        (data,) = store.folder.glob("*.rows")
        data.write_bytes(damage(data.read_bytes()))
        again = open_store(tmp_path, damage=str(damage))
        assert again.missing(names([1, 2])) == names([1, 2])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digests": 3}'])
def test_a_manifest_that_cannot_be_read_is_not_believed(tmp_path, content) -> None:
    store = fill(fill(open_store(tmp_path), [1]), [2])
    manifest = next(p for p in store.folder.glob("*.json") if name(1) in p.read_text())
    manifest.write_text(content)
    assert open_store(tmp_path).missing(names([1, 2])) == [name(1)]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"shape": 3, "dtype": "nothing"}'])
def test_a_store_without_a_readable_key_does_not_get_in_the_way(tmp_path, content) -> None:
    fill(open_store(tmp_path), [1])
    damaged = fill(open_store(tmp_path, other=1), [2])
    (damaged.folder / "key.json").write_text(content)
    assert [info.rows for info in Cache(tmp_path).stores()] == [1]
    Cache(tmp_path).clear()
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, step) -> None:
    flushes = []
    real = os.fsync

    def full(handle: int) -> None:
        flushes.append(handle)
        if len(flushes) == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    store = open_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match=r"No space left"):
            fill(store, [1])
    if step == 4:  # the manifest has its name already
        assert open_store(tmp_path).missing(names([1])) == []
        return
    assert files_of(store) == []
    assert bits(fill(store, [1]).rows(names([1])).all()) == bits(values([1]))


def test_a_disk_that_fills_up_while_rows_are_added_is_told_and_leaves_nothing(tmp_path) -> None:
    program = textwrap.dedent(
        """
        import pathlib, resource, sys
        import numpy as np
        from headstart.cache import Cache
        from headstart.errors import ResourceError

        store = Cache(pathlib.Path(sys.argv[1])).store({}, (1000,), "float32")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with store.writer() as writer:
                for number in range(100):
                    writer.add([str(number)], np.ones((1, 1000)))
        except ResourceError as error:
            sys.exit(7 if "HEADSTART_CACHE" in str(error) else 1)
        """
    )
    run(program, tmp_path, code=7)
    assert files_of(Cache(tmp_path).store({}, (1000,), "float32")) == []


def test_a_cache_that_cannot_be_written_is_a_resource_error(tmp_path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ResourceError):
        open_store(tmp_path / "file")


def test_two_processes_writing_at_once_lose_nothing(tmp_path) -> None:
    program = textwrap.dedent(
        """
        import pathlib, sys, time
        import numpy as np
        from headstart.cache import Cache

        folder, me = pathlib.Path(sys.argv[1]), int(sys.argv[2])
        (folder / f"ready{me}").touch()
        while len(list(folder.glob("ready*"))) < 2:
            time.sleep(0.001)
        for part in range(25):
            store = Cache(folder).store({"shared": 1}, (4,), "int64")
            with store.writer() as writer:
                for number in range(4 * part, 4 * part + 4):
                    image = 1000 * me + number if number % 2 else number  # even ones are shared
                    writer.add([str(image)], np.full((1, 4), image))
        """
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(me)]) for me in (1, 2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    store = Cache(tmp_path).store({"shared": 1}, (4,), "int64")
    wanted = [*range(0, 100, 2), *range(1001, 1100, 2), *range(2001, 2100, 2)]
    rows = store.rows([str(image) for image in wanted]).all()
    assert rows.tolist() == [[image] * 4 for image in wanted]
    assert set(files_of(store)) == {".json", ".rows"}
