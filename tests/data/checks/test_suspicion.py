from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from headstart.data.checks.look import Looks, look
from headstart.data.checks.suspicion import mixtures, suspects, suspicious
from headstart.data.items import Item
from headstart.memory import FileMemory


@pytest.fixture
def looked(tree, tmp_path):
    """Look at images, given by name."""

    def looks(files: dict[str, Image.Image]) -> Looks:
        root = tree(files)
        items = [Item(path, path.name, "any") for path in sorted(root.rglob("*.*"))]
        return look(items, FileMemory(tmp_path / "memory.sqlite"))

    return looks


@pytest.fixture
def usual(noise) -> dict[str, Image.Image]:
    """Five images that nothing is wrong with."""
    return {f"{n}.png": noise(n, 60, 40) for n in range(5)}


def test_images_that_may_show_nothing_are_told_with_reasons(looked, usual, noise) -> None:
    grain = np.random.default_rng(0).integers(0, 6, (40, 60), dtype=np.uint8)
    odd = {
        "black.png": Image.fromarray(grain),
        "blue.png": Image.new("RGB", (60, 40), "blue"),
        "long.png": noise(8, 400, 40),
        "tiny.png": noise(9, 60, 15),
        "white.png": Image.fromarray(255 - grain),
    }
    looks = looked(usual | odd)
    found = suspects(looks)
    assert [(one.name, one.reason) for one in found] == [
        ("black.png", "all but black"),
        ("blue.png", "one colour"),
        ("long.png", "400 x 40 pixels"),
        ("tiny.png", "60 x 15 pixels"),
        ("white.png", "all but white"),
    ]
    assert [looks.items[one.index].name for one in found] == sorted(odd)
    (finding,) = suspicious(found, 10)
    assert (finding.kind, finding.severity, finding.files) == (
        "suspicious",
        "warning",
        tuple(sorted(odd)),
    )
    assert "blue.png: one colour" in finding.message


@pytest.mark.parametrize("size", [(8, 8), (300, 30), (15, 15)])
def test_what_all_images_are_is_not_suspicious(looked, noise, size) -> None:
    looks = looked({f"{n}.png": noise(n, *size) for n in range(6)})
    assert suspects(looks) == ()
    assert list(suspicious((), 6)) == []


def test_sizes_that_differ_by_far_are_noted(looked, usual, noise) -> None:
    assert list(mixtures(looked(usual))) == []
    (finding,) = mixtures(looked(usual | {"large.png": noise(9, 200, 160)}))
    assert (finding.kind, finding.severity) == ("sizes", "note")
    assert finding.message == (
        "Sizes from 60 x 40 to 200 x 160; the most frequent is 60 x 40 (5 of 6)."
    )
    assert finding.files == ("0.png", "large.png")


def test_grey_among_colours_is_noted_with_the_fewer(looked, usual, noise) -> None:
    (finding,) = mixtures(looked(usual | {"grey.png": noise(9, 60, 40, "L")}))
    assert (finding.kind, finding.files) == ("modes", ("grey.png",))
    assert finding.message == "Grey and coloured images are mixed: 5 RGB, 1 L."
    grey = {f"g{n}.png": noise(n, 60, 40, "L") for n in range(9)}
    (finding,) = mixtures(looked(usual | grey))
    assert finding.files == tuple(sorted(usual))


def test_no_image_is_no_finding(looked) -> None:
    assert suspects(looked({})) == ()
    assert list(mixtures(looked({}))) == []
