from __future__ import annotations

import errno
import os
import shutil
import socket
from collections import Counter
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision_layouts import LAYOUTS

from headstart.cache import Cache
from headstart.data.read import decode
from headstart.data.reading import Reading
from headstart.data.torchvision_names import SETS
from headstart.data.torchvision_sets import NAMES, open_named
from headstart.errors import DataError, MissingExtra, MissingWeights, ResourceError, UnknownName

PIXELS = {"CIFAR10", "CIFAR100", "EMNIST-letters", "FER2013", "FashionMNIST", "KMNIST", "MNIST"} | {
    *("PCAM", "QMNIST", "SEMEION", "STL10", "SVHN", "USPS")
}


@pytest.fixture(autouse=True)
def tiny_files_are_as_good(monkeypatch, own_cache):
    """torchvision holds most files to their MD5, which ours can't have."""
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda *_, **__: True)


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def as_torchvision_gives(name: str, root: Path) -> list[tuple[str | None, bytes]]:
    from torchvision import datasets

    known = SETS[name]
    options = {"download": False} if known.has_download else {}
    make = partial(getattr(datasets, known.kind), str(root), **known.further, **options)
    parts = {part: make(**arguments) for part, arguments in known.parts.items()}
    pairs = ((part, data[i][0]) for part, data in parts.items() for i in range(len(data)))
    return sorted(((part, np.asarray(image).tobytes()) for part, image in pairs), key=str)


@pytest.mark.parametrize("short", LAYOUTS)
def test_what_is_there_is_read_with_its_split_and_its_classes(tmp_path, no_sockets, short) -> None:
    if short == "PCAM":
        pytest.importorskip("h5py", reason="h5py is not installed")
    name, root = f"torchvision:{short}", tmp_path / "root"
    root.mkdir()
    expected = LAYOUTS[short](root)
    before = sorted(root.rglob("*"))
    dataset = open_named(name, Reading(root=root))
    assert dataset.name == short
    assert Counter((item.split, item.label) for item in dataset.items) == expected
    assert dataset.classes == tuple(sorted({label for _, label in expected}))
    decoded = [(item.split, np.asarray(decode(item.path)).tobytes()) for item in dataset.items]
    assert sorted(decoded, key=str) == as_torchvision_gives(name, root)
    assert all(item.path.is_relative_to(root) != (short in PIXELS) for item in dataset.items)
    assert sorted(root.rglob("*")) == before, "nothing is written where the data lies"
    assert open_named(name, Reading(root=root)) == dataset


def test_the_data_is_looked_for_in_the_cache_unless_a_root_is_given(own_cache, no_sockets) -> None:
    root = own_cache / "torchvision"
    LAYOUTS["DTD"](root)
    assert len(open_named("torchvision:DTD", Reading()).items) == 6


def test_another_cache_can_be_used(tmp_path, own_cache, no_sockets) -> None:
    LAYOUTS["CIFAR10"](tmp_path / "other" / "torchvision")
    dataset = open_named("torchvision:CIFAR10", Reading(), cache=Cache(tmp_path / "other"))
    assert dataset.root.is_relative_to(tmp_path / "other" / "given")
    assert not own_cache.exists()


def test_the_notes_say_how_it_is_split(tmp_path) -> None:
    for short, said in {
        "Flowers102": ["3 for train, 2 for val, 2 for test, as its makers split it."],
        "EuroSAT": ["4 images, without a split of its own."],
        "Imagenette-160px": ["4 for train, 4 for test", "val serves as test"],
        "DTD": ["2 for train", "first of its ten splits"],
    }.items():
        LAYOUTS[short](tmp_path)
        notes = " ".join(open_named(f"torchvision:{short}", Reading(root=tmp_path)).notes)
        assert all(words in notes for words in said), notes


def test_an_unknown_name_has_its_likes_named() -> None:
    with pytest.raises(UnknownName, match="no data set named 'torchvision:flowers'") as caught:
        open_named("torchvision:flowers", Reading())
    assert "torchvision:Flowers102" in str(caught.value)
    assert "torchvision:Flowers102" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_offline_a_missing_set_is_said_with_where_and_how(tmp_path, no_sockets, name) -> None:
    if "PCAM" in name:
        pytest.importorskip("h5py", reason="h5py is not installed")
    with pytest.raises(MissingWeights, match=f"{name} is not in ") as caught:
        open_named(name, Reading(root=tmp_path))
    assert str(tmp_path) in caught.value.message
    assert caught.value.exit_code == 6
    if SETS[name].downloads:
        assert "HF_HUB_OFFLINE forbids" in caught.value.message
        assert f"headstart check {name} --root FOLDER" in str(caught.value)
    else:
        assert "torchvision can't download it" in caught.value.message
        assert f"torchvision.datasets.{SETS[name].kind} describes" in str(caught.value)


def test_a_part_that_is_missing_makes_the_set_missing(tmp_path) -> None:
    LAYOUTS["Food101"](tmp_path)
    (tmp_path / "food-101" / "meta" / "test.json").unlink()
    with pytest.raises(MissingWeights, match="or not all of it"):
        open_named("torchvision:Food101", Reading(root=tmp_path))


def test_what_is_missing_is_downloaded_by_torchvision(
    tmp_path, online, monkeypatch, capsys
) -> None:
    from torchvision.datasets import dtd

    def download(url: str, download_root: str, md5: str) -> None:
        assert download_root == str(tmp_path / "dtd")
        assert socket.getdefaulttimeout() == 60
        print("on stdout")
        LAYOUTS["DTD"](tmp_path)

    monkeypatch.setattr(dtd, "download_and_extract_archive", download)
    assert len(open_named("torchvision:DTD", Reading(root=tmp_path)).items) == 6
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (URLError("no address"), MissingWeights, "it can't be downloaded: no address"),
        (TimeoutError("timed out"), MissingWeights, "it can't be downloaded: timed out"),
        (RuntimeError("File not found or corrupted."), MissingWeights, "not found or corrupted"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ResourceError, "No space left"),
        (PermissionError(errno.EACCES, "Permission denied"), ResourceError, "Permission denied"),
        (shutil.ReadError("no tar file"), MissingWeights, "no tar file"),
        (EOFError("ended early"), DataError, "EOFError: ended early"),
    ],
)
def test_a_download_that_fails_is_said(tmp_path, online, monkeypatch, error, kind, said) -> None:
    from torchvision.datasets import eurosat

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(eurosat, "download_and_extract_archive", fail)
    with pytest.raises(kind, match=said):
        open_named("torchvision:EuroSAT", Reading(root=tmp_path))
    assert socket.getdefaulttimeout() is None


def test_damaged_files_are_said(tmp_path) -> None:
    LAYOUTS["CIFAR10"](tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"no pickle")
    with pytest.raises(DataError, match=r"torchvision can't read torchvision:CIFAR10 in .*Unpick"):
        open_named("torchvision:CIFAR10", Reading(root=tmp_path))


def test_cifar_files_that_are_not_its_makers_are_never_unpickled(tmp_path, monkeypatch) -> None:
    monkeypatch.undo()  # so that the MD5 counts
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    LAYOUTS["CIFAR10"](tmp_path)
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(MissingWeights, match="or not all of it"):
        open_named("torchvision:CIFAR10", Reading(root=tmp_path))


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"torchvision:PCAM needs the extra \[keras\]"):
        open_named("torchvision:PCAM", Reading(root=tmp_path))


def test_a_broken_image_stays_in_the_list_for_the_check(tmp_path) -> None:
    LAYOUTS["EuroSAT"](tmp_path)
    (tmp_path / "eurosat" / "2750" / "Forest" / "Forest_1.jpg").write_bytes(b"")
    dataset = open_named("torchvision:EuroSAT", Reading(root=tmp_path))
    assert [item.name for item in dataset.items if not item.path.stat().st_size] == [
        "Forest/Forest_1.jpg"
    ]


def test_images_that_torchvision_unpacks_are_written_uncompressed(tmp_path) -> None:
    LAYOUTS["CIFAR10"](tmp_path)
    dataset = open_named("torchvision:CIFAR10", Reading(root=tmp_path))
    assert dataset.items[0].name == "test/00000010.ppm"
    with Image.open(dataset.items[0].path) as image:
        assert image.size == (32, 32)
