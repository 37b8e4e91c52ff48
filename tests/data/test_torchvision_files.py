from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torchvision_layouts import LAYOUTS

from headstart.data import torchvision_files
from headstart.data.objects.elements import image_of
from headstart.data.torchvision_files import torchvision_rows
from headstart.errors import UsageError

PIXELS = np.zeros((4, 5, 3), np.uint8)


class Data:
    """What the rows are read from: attributes as torchvision's classes have them."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[object, object]:
        return PIXELS, index


def labels(data: object, width: int = 1) -> Sequence[str]:
    return [row.label for row in torchvision_rows(data, "train", width)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"_samples": [("a.jpg", 1), (Path("b.jpg"), 0)]},
        {"samples": [("a.jpg", 1), ("b.jpg", 0)]},
        {"imgs": [("a.jpg", 1), ("b.jpg", 0)]},
        {"_image_files": ["a.jpg", "b.jpg"], "_labels": [1, 0]},
        {"_images": [Path("a.jpg"), Path("b.jpg")], "_labels": [1, 0]},
    ],
)
def test_files_are_found_wherever_torchvision_keeps_them(attributes) -> None:
    rows = list(torchvision_rows(Data(**attributes, classes=["cat", "dog"]), "test"))
    assert [row.image for row in rows] == [Path.cwd() / "a.jpg", Path.cwd() / "b.jpg"]
    assert [row.label for row in rows] == ["dog", "cat"]
    assert {row.split for row in rows} == {"test"}


def test_samples_of_pixels_are_no_files() -> None:
    rows = list(torchvision_rows(Data(_samples=[(PIXELS, 0), (PIXELS, 1)]), None))
    assert [row.image for row in rows] == [image_of(PIXELS, "")] * 2
    assert {row.split for row in rows} == {None}


def test_labels_without_names_sort_as_numbers() -> None:
    samples = [("a.jpg", 3), ("b.jpg", 12)]
    assert labels(Data(samples=samples), width=2) == ["03", "12"]
    assert labels(Data(samples=samples, categories=[str(i) for i in range(13)]), 3) == ["3", "12"]


def test_an_image_without_a_label_is_refused() -> None:
    with pytest.raises(UsageError, match="Image 1 of train has no label"):
        labels(Data(samples=[("a.jpg", 3), ("b.jpg", None)]))


def test_pcam_is_read_in_blocks(tmp_path, monkeypatch) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    from torchvision.datasets import PCAM

    LAYOUTS["PCAM"](tmp_path)
    data = PCAM(str(tmp_path), "val")
    expected = [(image_of(data[i][0], ""), str(data[i][1])) for i in range(3)]
    opened = []
    whole = h5py.File

    def counted(*arguments: object) -> object:
        opened.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(h5py, "File", counted)
    for block in (1, 2, 1024):
        monkeypatch.setattr(torchvision_files, "_BLOCK", block)
        rows = list(torchvision_rows(data, "val"))
        assert [(row.image, row.label) for row in rows] == expected
    assert len(opened) == 6
