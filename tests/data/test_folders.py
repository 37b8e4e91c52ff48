from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.data.folders import (
    files_below,
    files_by_folder,
    files_in,
    holds_images,
    is_folder,
    is_image,
    real_paths,
    subfolders,
)
from headstart.errors import DataError

JUNK = (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", ".hidden.jpg")


def names(root: Path, paths) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_junk_is_never_listed(tree) -> None:
    junk = dict.fromkeys((*JUNK, "__MACOSX/._1.jpg", ".ipynb_checkpoints/1-checkpoint.jpg"), b"x")
    root = tree({"cats/1.jpg": 1, **junk, **{f"cats/{name}": b"x" for name in junk}})
    assert names(root, subfolders(root)) == ["cats"]
    assert names(root, files_in(root)) == []
    assert names(root, files_below(root)) == ["cats/1.jpg"]


def test_files_come_in_order_and_from_every_depth(tree) -> None:
    root = tree({"b/2.jpg": 1, "b/10.jpg": 2, "a/deep/er/1.jpg": 3, "z.jpg": 4, "empty": None})
    assert names(root, files_below(root)) == ["z.jpg", "a/deep/er/1.jpg", "b/10.jpg", "b/2.jpg"]
    assert names(root, subfolders(root)) == ["a", "b", "empty"]


def test_links_in_a_circle_end(tree) -> None:
    root = tree({"cats/1.jpg": 1, "cats/loop": "..", "cats/self": ".", "dogs/2.jpg": 2})
    (root / "root").symlink_to(root)
    (root / "above").symlink_to(root.parent)
    assert names(root, subfolders(root)) == ["cats", "dogs"]
    assert names(root, files_below(root / "cats")) == ["cats/1.jpg"]
    assert names(root, files_below(root)) == ["cats/1.jpg", "dogs/2.jpg"]


def test_a_link_back_from_outside_is_a_circle_too(tree) -> None:
    root = tree({"dogs/2.jpg": 2})
    outside = tree({"1.jpg": 1}, name="outside")
    (outside / "back").symlink_to(root)
    (root / "cats").symlink_to(outside)
    assert names(root, subfolders(root)) == ["cats", "dogs"]
    assert names(root, files_below(root / "cats")) == ["cats/1.jpg"]


def test_links_out_of_the_tree_are_followed_once(tree) -> None:
    outside = tree({"1.jpg": 1, "2.jpg": 2}, name="outside")
    root = tree({"cats/3.jpg": 3})
    (root / "cats/a").symlink_to(outside)
    (root / "cats/b").symlink_to(outside)
    (root / "cats/c.jpg").symlink_to(outside / "1.jpg")
    (root / "cats/d.jpg").symlink_to("3.jpg")
    assert names(root, files_below(root)) == ["cats/3.jpg", "cats/c.jpg", "cats/a/2.jpg"]


def test_each_folder_has_each_real_file_once(tree) -> None:
    root = tree(
        {"a/1.jpg": 1, "a/2.jpg": "1.jpg", "b/c/3.jpg": "../../a/1.jpg", "b/.x": b"", "d": "a"}
    )
    found = [
        (path.relative_to(root).as_posix(), names(root, it)) for path, it in files_by_folder(root)
    ]
    assert found == [(".", []), ("a", ["a/1.jpg"]), ("b", []), ("b/c", ["b/c/3.jpg"])]


def test_real_paths_are_those_that_links_lead_to(tree) -> None:
    root = tree({"a/1.jpg": 1, "a/2.jpg": "1.jpg", "b": "a", "gone.jpg": "nowhere.jpg"})
    paths = [root / name for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg")]
    paths += [root / "gone.jpg", root / "b" / "..", root / "b/../a/1.jpg"]
    assert [*real_paths(paths)] == [os.path.realpath(path) for path in paths]


def test_a_folder_is_looked_up_once_for_all_its_files(tree, monkeypatch) -> None:
    root, asked = tree({"a": None}), []

    def realpath(path: object) -> str:
        asked.append(path)
        return str(path)

    monkeypatch.setattr(os.path, "realpath", realpath)
    assert len([*real_paths(root / "a" / f"{number}.jpg" for number in range(50))]) == 50
    assert len(asked) == 1


def test_what_may_not_be_looked_up_is_no_folder_and_listed_as_a_file(tree, monkeypatch) -> None:
    root = tree({"1.jpg": 1, "closed.jpg": "/secret/9.jpg", "long.jpg": "x" * 300})
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.name == "closed.jpg":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert names(root, files_below(root)) == ["1.jpg", "closed.jpg", "long.jpg"]
    assert subfolders(root) == []
    assert is_folder(root)
    assert not is_folder(root / "closed.jpg")
    assert not is_folder(root / ("x" * 300))


def test_only_files_are_files(tree) -> None:
    root = tree({"1.jpg": 1, "gone.jpg": "nowhere", "ring.jpg": "ring.jpg"})
    os.mkfifo(root / "pipe.jpg")
    (root / "link.jpg").symlink_to("pipe.jpg")
    assert names(root, files_in(root)) == ["1.jpg", "gone.jpg", "ring.jpg"]


def test_an_image_is_known_by_its_extension_or_its_content(tree, noise, encoded) -> None:
    root = tree(
        {
            "a.JPEG": b"",
            "b.tif": b"not one",
            "c": encoded(noise(0), "JPEG"),
            "d.dat": encoded(noise(0), "PNG"),
            "e.txt": b"text",
            "f": b"",
            "g.csv": "nowhere",
        }
    )
    assert [path.name for path in files_in(root) if is_image(path)] == [
        "a.JPEG",
        "b.tif",
        "c",
        "d.dat",
    ]
    assert holds_images(root)
    assert not holds_images(tree({"x/e.txt": b"text"}, name="texts"))


def test_names_of_any_bytes_are_listed(tree) -> None:
    odd = ["a b.jpg", "-x.jpg", "line\nbreak.jpg", "\u00e9.jpg", "e\u0301.jpg"]
    odd.append(os.fsdecode(b"\xff\xfe.jpg"))
    root = tree(dict.fromkeys(odd, b"x"))
    assert sorted(names(root, files_below(root))) == sorted(odd)


def test_a_folder_that_can_not_be_listed_is_named(tree, monkeypatch) -> None:
    root = tree({"cats/1.jpg": 1})

    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"photos can't be listed: Permission denied\."):
        subfolders(root)
