"""Paths that may all be there at once, on any file system."""

from __future__ import annotations

import tracemalloc

import pytest

from headstart.data.taken_paths import TakenPaths


def taken(*paths: str) -> list[str | None]:
    """Take paths one after the other; a slash at the end makes a folder."""
    paths_taken = TakenPaths()
    return [
        paths_taken.fault(tuple(path.strip("/").split("/")), path.endswith("/")) for path in paths
    ]


@pytest.mark.parametrize(
    "paths",
    [
        ("a/1", "a/2", "b/1"),
        ("a/", "a/1", "a/"),
        ("a/1", "a/"),
        ("a/b/1", "b/a/1", "1"),
    ],
)
def test_paths_that_differ_can_all_be_taken(paths) -> None:
    assert taken(*paths) == [None] * len(paths)


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        ("a/1", "a/1", "there are two of that name"),
        ("a/1", "A/2", "'a' has the same letters, but for their case or form"),
        ("a/b/1", "a/B/2", "'a/b' has the same letters, but for their case or form"),
        ("caf\u00e9", "cafe\u0301", "'caf\u00e9' has the same letters"),
        ("a", "a/1", "it would be both a file and a folder"),
        ("a/1", "a", "it would be both a file and a folder"),
        ("a/", "a", "it would be both a file and a folder"),
    ],
)
def test_paths_that_are_one_on_some_system_are_told(first, second, fault) -> None:
    known, found = taken(first, second)
    assert known is None
    assert found is not None
    assert found.startswith(fault)


def test_every_folder_counts_once() -> None:
    paths = TakenPaths()
    for parts in (("a", "b", "1"), ("a", "b", "2"), ("a", "c", "1"), ("1",)):
        assert paths.fault(parts, False) is None
    assert paths.folders == 3


def test_memory_grows_with_the_depth_and_not_with_its_square() -> None:
    def peak(depth: int) -> int:
        tracemalloc.start()
        try:
            assert TakenPaths().fault(("x",) * depth, False) is None
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(4_000) < 6 * peak(1_000)
