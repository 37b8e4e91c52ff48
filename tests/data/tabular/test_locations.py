from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.tabular.locations import (
    ADDRESS,
    NO_FILE,
    OUTSIDE,
    UNWRITABLE,
    Location,
    Locator,
    missing_hint,
)


@pytest.fixture
def root(tree) -> Path:
    return tree({"cats/1.jpg": 1, "dogs/2.jpg": 2})


@pytest.mark.parametrize(
    "text",
    ["cats/1.jpg", "./cats/1.jpg", "cats//1.jpg", "dogs/../cats/1.jpg", "../photos/cats/1.jpg"],
)
def test_a_file_has_one_name_however_its_path_is_spelled(root, text) -> None:
    found = Locator(root, root).locate(text)
    assert found == Location("cats/1.jpg", os.path.realpath(root / "cats/1.jpg"), True)


def test_absolute_paths_in_the_root_are_understood(root, monkeypatch) -> None:
    text = str(root / "cats/1.jpg")
    assert Locator(root, root).locate(text).name == "cats/1.jpg"
    monkeypatch.chdir(root.parent)
    relative = Path("photos")
    assert Locator(relative, relative).locate(text).name == "cats/1.jpg"
    (root.parent / "link").symlink_to(root)
    link = root.parent / "link"
    assert Locator(link, link).locate(text).name == "cats/1.jpg"
    assert Locator(link, link).locate(str(link / "cats/1.jpg")).name == "cats/1.jpg"
    assert Locator(link, link).locate("/" + text).name == "cats/1.jpg"


def test_paths_are_relative_to_the_folder_and_named_from_the_root(root) -> None:
    locator = Locator(root / "cats", root)
    assert locator.locate("1.jpg").name == "cats/1.jpg"
    assert locator.locate("../dogs/2.jpg").name == "dogs/2.jpg"
    assert locator.locate("../../photos.txt") == OUTSIDE


@pytest.mark.parametrize(
    "text",
    [
        *("../../etc/passwd", "..", "/etc/passwd", "//etc/passwd", "cats/../../x.jpg", ".", "/"),
        *("..\\..\\etc\\passwd", "C:\\photos\\1.jpg", "c:/photos/1.jpg", "\\\\server\\1.jpg"),
        *("../photos2/1.jpg", "../photos"),
    ],
)
def test_paths_that_lead_out_are_refused(root, text) -> None:
    (root.parent / "photos2").mkdir()
    (root.parent / "photos2/1.jpg").touch()
    assert Locator(root, root).locate(text) == OUTSIDE


def test_nothing_is_looked_for_outside(root, monkeypatch) -> None:
    def never(path):
        raise AssertionError(path)

    locator = Locator(root, root)
    monkeypatch.setattr("headstart.data.tabular.locations.os.lstat", never)
    assert locator.locate("../../etc/passwd") == OUTSIDE


def test_the_root_of_the_system_holds_all(root) -> None:
    locator = Locator(Path("/"), Path("/"))
    found = locator.locate(str(root / "cats/1.jpg"))
    assert "/" + found.name == str(root / "cats/1.jpg")
    assert found.there


@pytest.mark.parametrize("text", ["https://example.org/1.jpg", "s3://bucket/1.jpg", "file:///x"])
def test_addresses_are_refused(root, text) -> None:
    assert Locator(root, root).locate(text) == ADDRESS


@pytest.mark.parametrize("text", ["a\0.jpg", "\ud800.jpg"])
def test_what_no_file_can_be_named_is_refused(root, text) -> None:
    assert Locator(root, root).locate(text) == UNWRITABLE


def test_folders_and_pipes_are_no_files(root) -> None:
    os.mkfifo(root / "pipe.jpg")
    (root / "link.jpg").symlink_to("cats")
    for text in ("cats", "cats/", "pipe.jpg", "link.jpg"):
        assert Locator(root, root).locate(text) == NO_FILE


@pytest.mark.parametrize("text", ["cats/3.jpg", "cats/1.jpg/x", "x" * 300, "birds\\1.jpg", "wo:rd"])
def test_a_missing_file_has_a_name_too(root, text) -> None:
    found = Locator(root, root).locate(text)
    assert found.name == text.replace("\\", "/")
    assert not found.there


def test_backslashes_are_slashes_unless_a_file_has_them(root) -> None:
    found = Locator(root, root).locate("cats\\1.jpg")
    assert (found.name, found.there) == ("cats/1.jpg", True)
    assert found.remark == "backslashes read as slashes"
    (root / "cats\\1.jpg").touch()
    found = Locator(root, root).locate("cats\\1.jpg")
    assert (found.name, found.remark) == ("cats\\1.jpg", None)


@pytest.mark.parametrize(("stored", "told"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_found_in_either_form(root, stored, told) -> None:
    name = "Käse.jpg"
    (root / unicodedata.normalize(stored, name)).touch()
    found = Locator(root, root).locate(unicodedata.normalize(told, name))
    assert found.name == unicodedata.normalize(stored, name)
    assert "Unicode" in found.remark
    (root / unicodedata.normalize(told, name)).touch()
    found = Locator(root, root).locate(unicodedata.normalize(told, name))
    assert (found.name, found.remark) == (unicodedata.normalize(told, name), None)


def test_links_are_followed_and_known_again(root, tree) -> None:
    outside = tree({"9.jpg": 9}, name="outside")
    (root / "alias.jpg").symlink_to("cats/1.jpg")
    (root / "more").symlink_to(outside)
    (root / "gone.jpg").symlink_to("nowhere")
    locator = Locator(root, root)
    assert locator.locate("alias.jpg").real == locator.locate("cats/1.jpg").real
    assert locator.locate("alias.jpg").name == "alias.jpg"
    assert locator.locate("more/9.jpg").real == os.path.realpath(outside / "9.jpg")
    assert not locator.locate("gone.jpg").there


def test_a_file_that_may_not_be_looked_at_is_not_missing(root, monkeypatch) -> None:
    def deny(path):
        raise PermissionError(13, "Permission denied")

    locator = Locator(root, root)
    monkeypatch.setattr("headstart.data.tabular.locations.os.lstat", deny)
    assert locator.locate("cats/1.jpg").there


def test_names_that_are_not_utf8_are_found(root) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/b\xe4r.jpg")).touch()
    assert Locator(root, root).locate("b\udce4r.jpg").there


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab/.\\:~ä\u0308\0\udcff"), max_size=12) | st.text(max_size=12))
def test_any_text_is_in_the_root_or_refused(tmp_path_factory, text) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    root.mkdir(exist_ok=True)
    found = Locator(root, root).locate(text)
    if isinstance(found, Location):
        path = os.path.normpath(root / found.name)
        assert path.startswith(f"{root}/")
        assert os.path.relpath(path, root) == found.name
    else:
        assert found in (OUTSIDE, ADDRESS, UNWRITABLE, NO_FILE)


def hint(folder: Path, *paths: str) -> str:
    return missing_hint(folder, paths)


def test_missing_files_are_found_below_above_and_beside(tree) -> None:
    root = tree({"data/images/cats/1.jpg": 1, "data/images/cats/2.jpg": 2, "data/tables": None})
    images = root / "data/images"
    assert f"--root {images}?" in hint(root, "cats/1.jpg", "cats/2.jpg")
    assert f"--root {images}?" in hint(root / "data", "cats\\1.jpg")
    assert f"--root {images}?" in hint(root / "data/tables", "cats/1.jpg", "cats/9.jpg")
    assert "Of 2 that were looked for, 1 are there." in hint(
        root / "data", "cats/1.jpg", "cats/9.jpg"
    )
    assert f"--root {root}?" in hint(images, "data/images/cats/1.jpg")
    assert (
        hint(root, "birds/1.jpg") == "Give the folder that the paths are relative to: --root FOLDER"
    )


def test_the_folder_that_holds_most_is_named(tree) -> None:
    root = tree({"few/1.jpg": 1, "most/1.jpg": 2, "most/2.jpg": 3})
    assert f"--root {root / 'most'}?" in hint(root, "1.jpg", "2.jpg")


def test_files_of_several_folders_have_no_root(tree) -> None:
    files = {f"{number % 4}/{number}.jpg": number for number in range(100)}
    root = tree(files)
    names = [file.partition("/")[2] for file in sorted(files)]
    assert f"Some are in {root / '0'}: write the folders before" in hint(root, *names)


def test_a_folder_is_named_as_a_shell_reads_it(tree) -> None:
    root = tree({"my images/1.jpg": 1})
    assert f"--root '{root}/my images'?" in hint(root, "1.jpg")


def test_a_missing_ending_is_recognised(tree) -> None:
    root = tree({"cats/1.png": 1})
    assert hint(root, "cats/1") == "The paths lack .png: write it, as in 'cats/1.png'."


def test_odd_paths_and_folders_do_no_harm(tree, monkeypatch) -> None:
    root = tree({"a/1.jpg": 1})
    assert "--root FOLDER" in hint(root, "x" * 5000, "y" * 300)
    monkeypatch.setattr("os.scandir", lambda path: (_ for _ in ()).throw(OSError(13, "denied")))
    assert "--root FOLDER" in hint(root, "1.jpg")
