from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.checks import look as module
from headstart.data.checks.check import check
from headstart.data.checks.facts import usable
from headstart.data.checks.look import describe_picture, look
from headstart.data.items import Item
from headstart.data.sources import open_dataset
from headstart.memory import FileMemory
from pictures import picture
from scenes import near_copies, scene


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "memory.sqlite")


def items_of(root: Path) -> list[Item]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    for path in paths:
        os.utime(path, (1, 1))
    return [Item(path, path.relative_to(root).as_posix(), "any") for path in paths]


def never(path: Path) -> None:
    pytest.fail(f"{path} was opened")


def test_brightness_and_contrast_are_of_the_grey_picture(tree, memory) -> None:
    half = Image.fromarray(np.repeat([[0, 200]], 2, 0).astype(np.uint8))
    looks = look(
        items_of(tree({"a.png": half, "b.png": Image.new("RGB", (5, 4), "#646464")})), memory
    )
    assert looks.brightness.tolist() == [100, 100]
    assert looks.contrast.tolist() == [100, 0]


def test_the_same_pixels_are_known_in_every_file_format(tree, memory, noise, encoded) -> None:
    image = noise(1, 30, 20)
    turned = Image.Exif()
    turned[0x0112] = 3
    files = {
        "a.png": encoded(image, "PNG"),
        "b.bmp": encoded(image, "BMP"),
        "c.png": encoded(image, "PNG", compress_level=0),
        "d.tif": encoded(image.rotate(180), "TIFF", exif=turned),
        "e.webp": encoded(image, "WEBP", lossless=True),
        "other.png": encoded(noise(2, 30, 20), "PNG"),
        "turned.png": encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG"),
    }
    looks = look(items_of(tree(files)), memory)
    same = {row.tobytes() for row in looks.pixels[:5]}
    assert len(same) == 1
    assert len({row.tobytes() for row in looks.pixels}) == 3
    assert len(set(looks.digests)) == 7


def test_pixels_in_another_arrangement_are_another_picture(tree, memory) -> None:
    files = {"a.png": Image.new("L", (6, 4), 9), "b.png": Image.new("L", (4, 6), 9)}
    looks = look(items_of(tree(files)), memory)
    assert (looks.pixels[0] != looks.pixels[1]).any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_files_cut_short_are_found(tree, memory, encoded, kind, share) -> None:
    content = encoded(picture(0, 0, 96), kind)
    root = tree({"a.png": 1, "cut.img": content[: int(share * len(content))]})
    looks = look(items_of(root), memory)
    (failure,) = looks.failed
    assert (failure.name, failure.index) == ("cut.img", 1)
    assert failure.reason
    assert [item.name for item in looks.items] == ["a.png"]


def test_no_readable_image_is_no_row(tree, memory) -> None:
    looks = look(items_of(tree({"a.png": b""})), memory)
    assert looks.items == ()
    assert looks.pixels.shape == (0, 16)
    assert looks.descriptors.shape == (0, 64)
    assert looks.brightness.shape == looks.contrast.shape == (0,)


def test_a_second_look_opens_no_file(tree, memory, monkeypatch) -> None:
    items = items_of(tree({f"{n}.png": n for n in range(6)}))
    cold = look(items, memory)
    monkeypatch.setattr(module, "opened", never)
    warm = look(items, memory)
    assert warm.digests == cold.digests
    assert warm.notes == cold.notes
    for column in ("pixels", "descriptors", "brightness", "contrast"):
        assert np.array_equal(getattr(warm, column), getattr(cold, column))
    for column in ("width", "height", "bytes", "exif"):
        assert np.array_equal(getattr(warm.facts, column), getattr(cold.facts, column))


def test_looks_of_another_version_are_taken_again(tree, memory, monkeypatch) -> None:
    items = items_of(tree({"a.png": 1}))
    look(items, memory)
    monkeypatch.setattr(module, "_VERSION", -1)
    read = []
    opened = module.opened
    monkeypatch.setattr(module, "opened", lambda path: read.append(path) or opened(path))
    look(items, memory)
    assert len(read) == 1


def test_the_light_pass_keeps_what_the_full_one_learnt(tree, memory, monkeypatch) -> None:
    root = tree({f"cat/{n}.png": n for n in range(3)} | {f"dog/{n}.png": n + 9 for n in range(3)})
    items_of(root)
    dataset = open_dataset(root)
    checked = check(dataset, memory, max_bad=0)
    paths = [item.path for item in dataset.items]
    assert not any("look" in row for row in memory.recall(paths).values())
    looks = look(dataset.items, memory)
    assert check(dataset, memory, max_bad=0).digests == checked.digests == looks.digests
    rows = memory.recall(paths)
    assert all(usable(row) and row["look"] for row in rows.values())
    monkeypatch.setattr(module, "opened", never)
    look(dataset.items, memory)


def test_a_descriptor_has_length_one_and_no_mean() -> None:
    found = describe_picture(picture(1, 0).convert("L")).astype(float)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-3)
    assert found[0] == 0


def test_one_colour_has_no_descriptor() -> None:
    assert not describe_picture(Image.new("L", (40, 30), 77)).any()


def test_a_descriptor_is_the_cosine_transform() -> None:
    from scipy.fft import dctn

    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    wanted = dctn(np.asarray(grey, float))[:8, :8]
    wanted[0, 0] = 0
    found = describe_picture(grey).reshape(8, 8)
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_a_descriptor_survives_size_exposure_and_encoding(seed) -> None:
    def described(image: Image.Image) -> np.ndarray:
        return describe_picture(image.convert("L")).astype(float)

    own, copies = described(scene(seed)), near_copies(scene(seed))
    for what in ("worse", "half", "double", "squashed", "darker", "brighter"):
        copy = Image.open(io.BytesIO(copies[what]))
        assert np.linalg.norm(own - described(copy)) < 0.045, what
    assert np.linalg.norm(own - described(scene(seed + 1))) > 0.5


def test_an_image_more_costs_less_than_a_kilobyte(tree, memory) -> None:
    root = tree({f"{n}.png": n for n in range(60)})
    items = items_of(root)
    look(items, memory)  # what is imported and remembered on the way is not counted
    held = []
    for times in (10, 50):
        tracemalloc.start()
        looks = look(items * times, memory)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(looks.items) == 60 * times
    assert (held[1] - held[0]) / (40 * 60) < 1000
