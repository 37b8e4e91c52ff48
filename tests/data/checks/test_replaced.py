from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.cache import Cache
from headstart.data.checks import replaced as module
from headstart.data.checks.check import Checked
from headstart.data.checks.facts import columns, read_row
from headstart.data.checks.replaced import find_replaced
from headstart.data.items import Item
from headstart.data.read import source_digest
from headstart.memory import FileMemory


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def checked(tree) -> Checked:
    root = tree({f"cat/{number}.png": number for number in range(12)})
    paths = sorted(root.rglob("*.png"))
    items = tuple(Item(path, f"cat/{path.name}", "cat") for path in paths)
    facts = columns(read_row(path) for path in paths)
    return Checked(items, tuple(source_digest(path) for path in paths), (), (), facts)


def remember(checked: Checked, cache: Cache) -> None:
    for item, digest in zip(checked.items, checked.digests, strict=True):
        os.utime(item.path, (1e9, 1e9))
        FileMemory(cache.files).remember({item.path: {"digest": digest}})


def test_nothing_is_told_of_files_that_are_the_same(checked, cache) -> None:
    assert find_replaced(checked, cache) == ()


def test_files_that_went_or_became_others_are_told(checked, cache, noise) -> None:
    remember(checked, cache)
    checked.items[0].path.unlink()
    noise(99).save(checked.items[3].path)
    os.utime(checked.items[5].path)  # another time, the same picture
    (finding,) = find_replaced(checked, cache)
    names = [checked.items[index].name for index in (0, 3)]
    assert (finding.kind, finding.severity, list(finding.files)) == ("replaced", "warning", names)
    assert "2 of 12 files" in finding.message
    assert f"{names[0]} (no such file), {names[1]} (another file)." in finding.message
    assert finding.hint is not None


def test_a_message_names_ten(checked, cache) -> None:
    for item in checked.items:
        item.path.unlink()
    (finding,) = find_replaced(checked, cache)
    assert "12 of 12 files" in finding.message
    assert finding.message.count("(no such file)") == 10
    assert finding.message.endswith("(no such file), ….")
    assert len(finding.files) == 12


def test_files_that_are_remembered_and_untouched_are_not_opened(
    checked, cache, monkeypatch
) -> None:
    remember(checked, cache)
    opened: list[Path] = []
    digest = module.source_digest
    monkeypatch.setattr(module, "source_digest", lambda path: opened.append(path) or digest(path))
    os.utime(checked.items[7].path)
    assert find_replaced(checked, cache) == ()
    assert opened == [checked.items[7].path]


def test_a_remembered_digest_that_is_not_the_checked_one_is_looked_into(checked, cache) -> None:
    remember(checked, cache)
    FileMemory(cache.files).remember({checked.items[2].path: {"digest": "of another content"}})
    assert find_replaced(checked, cache) == ()  # the file itself is right
