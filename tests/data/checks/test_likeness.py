from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headstart.data.checks.likeness import COPY, LARGEST_SIDE, difference, is_copy, thumbnail
from scenes import encoded, near_copies, scene

T = Image.Transpose
WAYS = tuple(near_copies(scene(0)))


def copy_of(image: Image.Image, way: str) -> Image.Image:
    return Image.open(io.BytesIO(near_copies(image)[way]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_is_known_however_it_was_made(seed, way) -> None:
    image = scene(seed)
    assert is_copy(thumbnail(image), thumbnail(copy_of(image, way)))
    assert is_copy(thumbnail(copy_of(image, way)), thumbnail(image))


@pytest.mark.parametrize("way", [*WAYS, None])
def test_it_does_not_matter_which_comes_first(way) -> None:
    one = thumbnail(scene(3))
    other = thumbnail(scene(9) if way is None else copy_of(scene(3), way))
    assert difference(one, other) == pytest.approx(difference(other, one), rel=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_other_pictures_are_none(seed) -> None:
    assert difference(thumbnail(scene(seed)), thumbnail(scene(seed + 1))) > 3 * COPY


def test_all_eight_symmetries_are_tried() -> None:
    image = scene(4)
    for turns in product((None, T.TRANSPOSE), (None, T.FLIP_LEFT_RIGHT), (None, T.FLIP_TOP_BOTTOM)):
        turned = image
        for turn in turns:
            turned = turned if turn is None else turned.transpose(turn)
        assert difference(thumbnail(image), thumbnail(turned)) < 0.2


@pytest.mark.parametrize("size", [10, 16, 24])
def test_a_stain_makes_another_picture_of_one_that_is_all_alike(size) -> None:
    stained = scene(5)
    ImageDraw.Draw(stained).ellipse((90, 60, 90 + size, 60 + size), fill="white")
    assert not is_copy(thumbnail(scene(5)), thumbnail(stained))


def test_spots_of_two_sizes_are_two_pictures() -> None:
    def spot(radius: int) -> Image.Image:
        image = Image.new("L", (64, 64))
        ImageDraw.Draw(image).ellipse(
            (32 - radius, 32 - radius, 32 + radius, 32 + radius), fill=255
        )
        return image

    assert is_copy(thumbnail(spot(9)), thumbnail(Image.open(io.BytesIO(encoded(spot(9))))))
    assert not is_copy(thumbnail(spot(9)), thumbnail(spot(11)))


def test_a_quarter_is_more_than_a_crop() -> None:
    image = scene(6)
    assert not is_copy(thumbnail(image), thumbnail(image.crop((0, 0, 150, 112))))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_nothing_is_shown_nothing_is_a_copy(level) -> None:
    flat = thumbnail(Image.new("L", (100, 80), level))
    assert difference(flat, flat) == np.inf
    assert difference(flat, thumbnail(scene(1))) == np.inf


def test_a_negative_is_none() -> None:
    image = scene(7).convert("L")
    assert not is_copy(thumbnail(image), thumbnail(image.point(lambda level: 255 - level)))


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (16, 16), (4000, 30)])
def test_any_size_can_be_compared(size) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    small = thumbnail(Image.fromarray(pixels))
    assert 16 <= small.pixels.shape[0] == small.pixels.shape[1] <= LARGEST_SIDE
    assert difference(small, small) < 1e-3 or difference(small, small) == np.inf
    assert difference(small, thumbnail(scene(0))) > COPY
