from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.cache import Cache, default_folder, size_limit
from headstart.errors import UsageError
from headstart.store import Store
from stores import KEY, ROW_BYTES, SHAPE, bits, fill, name, names, open_store, values


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTART_CACHE", raising=False)
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)


# Keys


@pytest.mark.parametrize(
    ("key", "shape", "dtype"),
    [
        (KEY | {"weights": "a2"}, SHAPE, "float32"),
        (KEY | {"path": {"precision": "bf16", "batch_size": 4}}, SHAPE, "float32"),
        (KEY | {"path": {"precision": "fp32", "batch_size": 8}}, SHAPE, "float32"),
        (KEY | {"view": "plain"}, SHAPE, "float32"),
        ({"weights": "a1"}, SHAPE, "float32"),
        (KEY, (2, 3), "float32"),
        (KEY, SHAPE, "float16"),
    ],
)
def test_keys_that_differ_in_any_part_have_different_stores(tmp_path, key, shape, dtype) -> None:
    fill(open_store(tmp_path), [1])
    other = Cache(tmp_path).store(key, shape, dtype)
    assert other.missing([name(1)]) == [name(1)]
    assert len(Cache(tmp_path).stores()) == 2


def test_equal_keys_have_one_store_whatever_their_order(tmp_path) -> None:
    fill(open_store(tmp_path), [1])
    turned = Cache(tmp_path).store(dict(reversed(KEY.items())), list(SHAPE), "float32")
    assert turned.missing([name(1)]) == []


def test_a_store_says_in_words_what_it_holds(tmp_path) -> None:
    store = fill(open_store(tmp_path), [1, 2])
    (info,) = Cache(tmp_path).stores()
    assert info.key.items() >= KEY.items()
    assert (info.rows, info.bytes, info.folder) == (2, 2 * ROW_BYTES, store.folder)
    assert json.loads(json.dumps(info.to_dict()))["rows"] == 2


# The size limit


def stores_of_age(folder: Path, ages: dict[str, int]) -> dict[str, Store]:
    """Make a store of ten rows for each name, last used so many seconds ago."""
    made = {}
    for number, (label, age) in enumerate(ages.items()):
        made[label] = fill(open_store(folder, label=label), range(10 * number, 10 * number + 10))
        used = 1_700_000_000 - age
        os.utime(made[label].folder / "key.json", (used, used))
    return made


def left(folder: Path) -> list[str]:
    return [info.key["label"] for info in Cache(folder).stores()]


def test_the_least_recently_used_store_goes_first(tmp_path, monkeypatch) -> None:
    stores_of_age(tmp_path, {"middle": 50, "old": 90, "new": 10, "oldest": 99})
    assert left(tmp_path) == ["oldest", "old", "middle", "new"]
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", str(25 * ROW_BYTES))
    Cache(tmp_path).trim()
    assert left(tmp_path) == ["middle", "new"]
    assert len(list((tmp_path / "stores").iterdir())) == 2


def test_opening_a_store_is_using_it(tmp_path, monkeypatch) -> None:
    stores_of_age(tmp_path, {"a": 90, "b": 10})
    open_store(tmp_path, label="a")
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", str(10 * ROW_BYTES))
    Cache(tmp_path).trim()
    assert left(tmp_path) == ["a"]


def test_what_fits_exactly_stays(tmp_path, monkeypatch) -> None:
    stores_of_age(tmp_path, {"a": 90, "b": 10})
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", str(20 * ROW_BYTES))
    Cache(tmp_path).trim()
    assert left(tmp_path) == ["a", "b"]


def test_a_writer_trims_when_it_is_done_but_never_its_own_store(tmp_path, monkeypatch) -> None:
    stores_of_age(tmp_path, {"a": 90, "b": 10})
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1")
    store = fill(open_store(tmp_path, label="mine"), [1])
    assert left(tmp_path) == ["mine"]
    assert bits(store.rows(names([1])).all()) == bits(values([1]))


def test_a_store_that_is_being_written_stays(tmp_path, monkeypatch) -> None:
    stores = stores_of_age(tmp_path, {"written": 90, "idle": 10})
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1")
    with stores["written"].writer() as writer:
        writer.add(names([77]), values([77]))
        Cache(tmp_path).trim()
        assert left(tmp_path) == ["written"]
        assert Cache(tmp_path).clear() == 0
    again = open_store(tmp_path, label="written")
    assert bits(again.rows(names([77, 3])).all()) == bits(values([77, 3]))


def test_rows_that_were_opened_can_be_read_after_their_store_was_evicted(
    tmp_path, monkeypatch
) -> None:
    stores = stores_of_age(tmp_path, {"a": 90})
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "0")
    Cache(tmp_path).trim()
    assert left(tmp_path) == []
    assert bits(stores["a"].rows(names(range(10))).all()) == bits(values(range(10)))


def test_a_store_evicted_before_its_writer_began_is_made_anew(tmp_path) -> None:
    store = stores_of_age(tmp_path, {"a": 90})["a"]
    with store.writer() as writer:
        Cache(tmp_path).clear()
        writer.add(names([50]), values([50]))
    assert bits(store.rows(names([3, 50])).all()) == bits(values([3, 50]))
    assert left(tmp_path) == ["a"]
    assert open_store(tmp_path, label="a").missing(names([3, 50])) == names([3])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("5kb", 5000),
        (" 500 MB ", 500 * 10**6),
        ("20GB", 20 * 10**9),
        ("1.5TB", 1_500 * 10**9),
        ("0", 0),
        ("10B", 10),
    ],
)
def test_the_limit_is_what_the_environment_says(tmp_path, monkeypatch, text, size) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", text)
    assert size_limit(tmp_path) == size


@pytest.mark.parametrize(
    "text", ["much", "GB", "5GBB", "5XB", "-1GB", "inf", "nan", "1e999GB", "1,5GB"]
)
def test_a_malformed_limit_is_a_usage_error(tmp_path, monkeypatch, text) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", text)
    with pytest.raises(UsageError, match="500MB or 20GB") as raised:
        size_limit(tmp_path)
    assert raised.value.field == "HEADSTART_CACHE_SIZE"


@pytest.mark.parametrize(("free", "limit"), [(1000 * 10**9, 20 * 10**9), (10_000, 1_024)])
def test_without_a_setting_it_is_a_tenth_of_the_disk_or_20_gb(
    tmp_path, monkeypatch, free, limit
) -> None:
    fill(open_store(tmp_path), range(10))  # 240 bytes that the disk could give back
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert size_limit(tmp_path) == limit


def test_a_cache_that_does_not_exist_yet_has_a_limit_and_is_empty(tmp_path) -> None:
    folder = tmp_path / "not" / "yet"
    assert 0 < size_limit(folder) <= 20 * 10**9
    assert (Cache(folder).stores(), Cache(folder).clear()) == ([], 0)
    assert not folder.exists()


# The folder


def test_the_folder_is_what_the_environment_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "here"))
    assert default_folder() == tmp_path / "here"
    assert Cache().folder == tmp_path / "here"
    assert Cache().files.parent == tmp_path / "here"
    assert Cache(tmp_path / "there").folder == tmp_path / "there"


@pytest.mark.parametrize("setting", [None, ""])
def test_otherwise_it_is_the_users_cache_folder(tmp_path, monkeypatch, setting) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if setting is not None:
        monkeypatch.setenv("HEADSTART_CACHE", setting)
    assert default_folder().name == "headstart"
    assert default_folder() != Path()


def test_clear_frees_everything_and_the_cache_works_afterwards(tmp_path) -> None:
    stores_of_age(tmp_path, {"a": 90, "b": 10})
    cache = Cache(tmp_path)
    cache.files.write_bytes(b"learnt")
    assert cache.clear() == 20 * ROW_BYTES
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert cache.stores() == []
    store = fill(open_store(tmp_path, label="a"), [1])
    assert bits(store.rows(names([1])).all()) == bits(values([1]))
    assert left(tmp_path) == ["a"]
