from __future__ import annotations

import colorsys
import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
from drawn import noisy, picture, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import TrivialAugmentWide
from torchvision.transforms.v2 import functional as tv

from headstart.data import augment as module
from headstart.data.augment import (
    AUGMENTATIONS,
    STRENGTHS,
    Augment,
    augmented,
    box,
    erased,
    generator,
    operated,
    operation,
    placement,
    recoloured,
)
from headstart.data.symmetry import SYMMETRIES, symmetries, symmetry
from headstart.errors import UnknownName, UsageError

CHANGING = AUGMENTATIONS[1:]
VIEWS = range(1, 201)
GOLDEN = (
    0.1695888774359392,
    ("translate-x", -0.047619047619047616),
    (0.009632162844804839, 0.0077823566173479105, 0.983328090366115, 0.9257306634181882),
)


def views(pixels: np.ndarray, name: str, allowed: str = "flip", numbers=VIEWS) -> list[np.ndarray]:
    return [augmented(pixels, Augment(name, allowed), 0, number, "image") for number in numbers]


def nearest(view: np.ndarray, pixels: np.ndarray) -> int:
    """Return the number of the symmetry of ``pixels`` that a view looks most like."""
    turned = [symmetry(pixels, number).astype(float) for number in range(8)]
    return int(np.argmin([np.abs(view - candidate).mean() for candidate in turned]))


# One source of chance


@pytest.mark.parametrize("name", CHANGING)
def test_seed_view_and_image_decide_the_pixels(name) -> None:
    def seen(seed: int = 0, view: int = 1, image: str = "a") -> np.ndarray:
        return augmented(noisy(), Augment(name), seed, view, image)

    assert np.array_equal(seen(), seen())
    for other in ({"seed": 1}, {"view": 2}, {"image": "b"}):
        # One other view may be alike by chance, such as TrivialAugment's identity; ten are not.
        key, first = next(iter(other.items()))
        more = [{key: f"{first}{n}" if key == "image" else first + n} for n in range(10)]
        assert len({seen(**each).tobytes() for each in more} | {seen().tobytes()}) > 5


def test_the_stream_is_the_same_on_every_machine() -> None:
    # If this fails, views changed under everybody's caches: raise the recipes' version.
    drawn = generator(0, 1, "image")
    assert drawn.random() == pytest.approx(GOLDEN[0], abs=1e-15)
    assert operation(drawn) == GOLDEN[1]
    assert box(drawn, (0.8, 1.0), (0.75, 1.33)) == pytest.approx(GOLDEN[2], abs=1e-12)


def test_the_parts_of_a_generators_name_are_kept_apart() -> None:
    assert generator(1, 12, "a").random() != generator(11, 2, "a").random()
    assert generator(1, 2, "3a").random() != generator(1, 23, "a").random()


def test_neither_order_nor_threads_matter() -> None:
    jobs = list(itertools.product(CHANGING, SYMMETRIES, range(4), ("a", "b")))

    def work(job: tuple[str, str, int, str]) -> bytes:
        name, allowed, view, image = job
        return augmented(noisy(), Augment(name, allowed), 3, view, image).tobytes()

    alone = {job: work(job) for job in jobs}
    shuffled = random.Random(0).sample(jobs, len(jobs))
    with ThreadPoolExecutor(8) as pool:
        together = dict(zip(shuffled, pool.map(work, shuffled), strict=True))
    assert together == alone


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("allowed", SYMMETRIES)
def test_view_zero_is_the_plain_image(name, allowed) -> None:
    pixels = noisy(5, 9)
    view = augmented(pixels, Augment(name, allowed), 0, 0, "image")
    assert np.array_equal(view, pixels)
    assert not np.shares_memory(view, pixels)


# Shapes, and what must not happen


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(CHANGING),
    st.sampled_from(SYMMETRIES),
    st.integers(0, 2**64),
)
def test_every_size_keeps_its_shape_and_its_input(height, width, name, allowed, seed) -> None:
    if allowed == "square":
        width = height
    pixels = noisy(height, width)
    pixels.flags.writeable = False  # a write would raise
    view = augmented(pixels, Augment(name, allowed), seed, 1, "image")
    assert view.shape == pixels.shape
    assert view.dtype == np.uint8
    assert view.flags.c_contiguous
    assert view.flags.writeable
    assert not np.shares_memory(view, pixels)
    again = np.asfortranarray(pixels)
    assert np.array_equal(augmented(again, Augment(name, allowed), seed, 1, "image"), view)


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (1, 1), (1, 7), (2, 3)], ids=str)
@pytest.mark.parametrize("name", STRENGTHS)
def test_every_operation_takes_the_smallest_pictures(size, name) -> None:
    for strength in STRENGTHS[name][:2]:
        assert operated(noisy(*size), name, strength).shape == (*size, 3)


@pytest.mark.parametrize("name", ["light", "shear-zoom"])
def test_geometry_keeps_the_mean_colour(name) -> None:
    pixels = noisy(64, 64)
    for view in views(pixels, name):
        assert np.abs(view.mean((0, 1)) - pixels.mean((0, 1))).max() < 8


@pytest.mark.parametrize("name", ["light", "shear-zoom"])
def test_geometry_keeps_an_even_picture(name) -> None:
    pixels = plain(200, 120, 7)
    assert all(np.array_equal(view, pixels) for view in views(pixels, name))


# Names and keys


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match="augmentation named 'stronk'") as caught:
        Augment("stronk")
    assert caught.value.field == "augment"
    assert "strong" in str(caught.value)
    for wrong in (lambda: Augment("light", "mirror"), lambda: symmetries("mirror")):
        with pytest.raises(UnknownName, match="symmetry named 'mirror'") as caught:
            wrong()
        assert caught.value.field == "symmetry"


def test_the_key_holds_all_that_changes_the_pixels(monkeypatch) -> None:
    key = Augment("light").key()
    assert json.loads(json.dumps(key)) == key
    keys = [Augment(*pair).key() for pair in itertools.product(CHANGING, SYMMETRIES)]
    assert len({json.dumps(each) for each in keys}) == len(keys)
    for owner, name in ((PIL, "__version__"), (np, "__version__"), (module, "_VERSION")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, "another")
            assert Augment("light").key() != key


def test_without_augmentation_nothing_else_is_in_the_key() -> None:
    keys = [Augment("none", allowed).key() for allowed in SYMMETRIES]
    assert keys == [{"name": "none"}] * 3


# Symmetries


def test_only_a_square_is_augmented_by_all_eight() -> None:
    oblong = noisy(4, 6)
    for name in CHANGING:
        for view in range(1, 9):  # also where an identity would have been drawn
            with pytest.raises(UsageError, match="need a square input, not 4 x 6") as caught:
                augmented(oblong, Augment(name, "square"), 0, view, "image")
        assert caught.value.field == "symmetry"
        assert "flip" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["light", "standard", "strong", "shear-zoom"])
@pytest.mark.parametrize("allowed", SYMMETRIES)
def test_every_recipe_draws_the_allowed_symmetries_evenly(name, allowed, monkeypatch) -> None:
    monkeypatch.setattr(module, "operation", lambda *_: ("translate-x", 0.0))
    pixels = picture()
    drawn = [nearest(view, pixels) for view in views(pixels, name, allowed)]
    share = len(VIEWS) / len(symmetries(allowed))
    assert set(drawn) == set(symmetries(allowed))
    assert all(0.5 * share < drawn.count(number) < 1.5 * share for number in set(drawn))


@pytest.mark.parametrize(("allowed", "rotates"), [("none", False), ("flip", True)])
def test_no_symmetry_means_no_rotation(allowed, rotates, monkeypatch) -> None:
    stripes = np.repeat(noisy(32, 1), 32, axis=1)
    bent = [np.ptp(view, axis=1).max() > 0 for view in views(stripes, "standard", allowed)]
    assert all(bent) if rotates else not any(bent)
    names = set()
    monkeypatch.setattr(
        module, "operated", lambda pixels, name, _: names.add(name) or pixels.copy()
    )
    views(stripes, "strong", allowed)
    assert names == set(STRENGTHS) - (set() if rotates else {"rotate"})


# The recipes


@pytest.mark.parametrize("allowed", SYMMETRIES)
def test_none_changes_nothing_whatever_the_symmetry(allowed) -> None:
    pixels = noisy(5, 9)
    for view in views(pixels, "none", allowed, range(5)):
        assert np.array_equal(view, pixels)
        assert not np.shares_memory(view, pixels)


def test_light_is_a_whole_shift_by_a_sixteenth_at_most() -> None:
    pixels = noisy(48, 32)
    padded = np.pad(pixels, ((3, 3), (2, 2), (0, 0)), mode="reflect")
    cuts = {
        np.ascontiguousarray(padded[y : y + 48, x : x + 32]).tobytes(): (y - 3, x - 2)
        for y in range(7)
        for x in range(5)
    }
    drawn = {cuts[view.tobytes()] for view in views(pixels, "light", "none")}
    assert drawn == set(cuts.values())


def test_light_still_moves_a_small_picture() -> None:
    assert len({view.tobytes() for view in views(noisy(8, 8), "light", "none")}) == 9


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 15]))
def test_standards_geometry_stays_in_its_ranges(seed, degrees) -> None:
    linear, (x, y) = placement(np.random.default_rng(seed), degrees)
    width, height = np.linalg.norm(linear, axis=0)
    assert 0.8 - 1e-9 <= width * height <= 1 + 1e-9
    assert width <= 1 + 1e-9
    assert height <= 1 + 1e-9
    assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9
    assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) <= degrees + 1e-9
    assert linear[:, 0] @ linear[:, 1] == pytest.approx(0, abs=1e-9)
    assert abs(x) <= 0.1 + (1 - width) / 2 + 1e-9
    assert abs(y) <= 0.1 + (1 - height) / 2 + 1e-9


def test_standards_geometry_reaches_its_ranges() -> None:
    drawn = [placement(np.random.default_rng(seed), 15) for seed in range(500)]
    linear, shift = np.array([each[0] for each in drawn]), np.array([each[1] for each in drawn])
    sides = np.linalg.norm(linear, axis=1)
    angles = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert sides.prod(1).min() < 0.81
    assert sides.prod(1).max() > 0.99
    assert angles.min() < -14.5
    assert angles.max() > 14.5
    assert (np.abs(shift).max(0) > 0.1).all()
    assert np.abs(shift.mean(0)).max() < 0.01


def test_standard_jitters_brightness_and_hue() -> None:
    greys = [view[0, 0].astype(int) for view in views(plain(128, 128, 128), "standard")]
    assert all(np.ptp(grey) <= 1 for grey in greys)
    assert 102 <= min(grey[0] for grey in greys) < 106
    assert 150 < max(grey[0] for grey in greys) <= 154
    colour = 150, 100, 80
    hue = colorsys.rgb_to_hsv(*colour)[0]
    turns = [
        (colorsys.rgb_to_hsv(*view[0, 0].tolist())[0] - hue + 0.5) % 1 - 0.5
        for view in views(plain(*colour), "standard")
    ]
    assert -0.11 < min(turns) < -0.09
    assert 0.09 < max(turns) < 0.11


def test_shear_zoom_stays_in_its_ranges_and_reaches_them(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(module, "warped", lambda pixels, linear: seen.append(linear) or pixels)
    views(picture(), "shear-zoom")
    maps = np.array(seen)
    zooms, shears = maps[:, [0, 1], [0, 1]], maps[:, 0, 1] / maps[:, 1, 1]
    assert (maps[:, 1, 0] == 0).all()
    assert 0.8 <= zooms.min() < 0.82
    assert 1.18 < zooms.max() <= 1.2
    assert -0.2 <= shears.min() < -0.19
    assert 0.19 < shears.max() <= 0.2


def test_strong_is_one_operation_and_erasing_in_a_quarter(monkeypatch) -> None:
    monkeypatch.setattr(module, "operation", lambda *_: ("solarize", 0))
    pixels = picture()
    changed = [(view != 255 - pixels).any() for view in views(pixels, "strong", "none")]
    assert 0.18 < np.mean(changed) < 0.32


# TrivialAugment


def test_trivial_augments_ranges_are_torchvisions() -> None:
    theirs = {
        name.lower(): values
        for name, values in TrivialAugmentWide()._augmentation_space(31).items()
    }
    ours = {name.replace("-", "").replace("colour", "color"): v for name, v in STRENGTHS.items()}
    assert set(ours) == set(theirs)
    for name, (weakest, strongest, signed) in ours.items():
        magnitudes, their_signed = theirs[name]
        scale = 224 if name.startswith("translate") else 1
        ends = np.array([magnitudes.flatten()[0], magnitudes.flatten()[-1]])
        slack = 1 if name == "solarize" else 1e-5  # their weakest turns white to black
        assert np.allclose([weakest * scale, strongest * scale], ends, atol=slack), name
        assert signed == their_signed


def test_operations_and_strengths_are_drawn_evenly() -> None:
    draw = np.random.default_rng(0)
    drawn = [operation(draw) for _ in range(6000)]
    for name, (weakest, strongest, signed) in STRENGTHS.items():
        strengths = [strength for each, strength in drawn if each == name]
        assert 0.7 < len(strengths) * len(STRENGTHS) / len(drawn) < 1.3
        assert max(strengths) == pytest.approx(max(weakest, strongest))
        assert min(strengths) == pytest.approx(-strongest if signed else min(weakest, strongest))
        assert len(set(strengths)) <= (61 if signed else 31)


@pytest.mark.parametrize("name", STRENGTHS)
def test_an_operation_at_its_weakest_and_strongest(name) -> None:
    weakest, strongest, signed = STRENGTHS[name]
    pixels = picture() // 2 + noisy() // 8 + 20  # smooth and rough, and not of every colour
    always = {"autocontrast", "equalize"}
    assert np.array_equal(operated(pixels, name, weakest), pixels) == (name not in always)
    assert np.array_equal(operated(pixels, name, strongest), pixels) == (name == "identity")
    if signed:
        ends = operated(pixels, name, strongest), operated(pixels, name, -strongest)
        assert not np.array_equal(*ends)


@pytest.mark.parametrize(
    ("name", "strength", "theirs"),
    [
        ("brightness", -0.5, lambda image: tv.adjust_brightness(image, 0.5)),
        ("colour", 0.7, lambda image: tv.adjust_saturation(image, 1.7)),
        ("contrast", 0.4, lambda image: tv.adjust_contrast(image, 1.4)),
        ("sharpness", -0.9, lambda image: tv.adjust_sharpness(image, 0.1)),
        ("posterize", 3.2, lambda image: tv.posterize(image, 3)),
        ("solarize", 100, lambda image: tv.solarize(image, 100)),
        ("autocontrast", 0, tv.autocontrast),
        ("equalize", 0, tv.equalize),
    ],
)
def test_the_colour_operations_are_torchvisions(name, strength, theirs) -> None:
    expected = np.asarray(theirs(Image.fromarray(noisy())))
    assert np.array_equal(operated(noisy(), name, strength), expected)


@pytest.mark.parametrize(
    ("name", "strength", "moved"),
    [
        ("shear-x", 0.5, (-5, 10)),
        ("shear-y", 0.5, (0, 10)),
        ("translate-x", 0.125, (-8, 10)),
        ("translate-y", -0.125, (0, 18)),
        ("rotate", 90, (10, 0)),
    ],
)
def test_the_geometric_operations_move_a_point_where_they_should(name, strength, moved) -> None:
    pixels = plain(0, 0, 0, side=64)
    pixels[41:43, 31:33] = 240  # 10 below the centre
    y, x = np.mgrid[:64, :64] + 0.5 - 32
    light = operated(pixels, name, strength)[..., 0].astype(float)
    found = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    assert found == pytest.approx(moved, abs=0.3)


# Boxes


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([((0.8, 1.0), (3 / 4, 4 / 3)), ((0.02, 0.33), (0.3, 3.3)), ((1, 1), (0.5, 2))]),
)
def test_a_box_lies_inside_and_in_its_ranges(seed, ranges) -> None:
    left, top, width, height = box(np.random.default_rng(seed), *ranges)
    (least, most), (narrow, wide) = ranges
    assert least - 1e-9 <= width * height <= most + 1e-9
    assert narrow - 1e-9 <= width / height <= wide + 1e-9
    assert 0 <= left <= left + width <= 1 + 1e-9
    assert 0 <= top <= top + height <= 1 + 1e-9


# Colour


def test_each_factor_of_colour_is_torchvisions() -> None:
    pixels = noisy() // 2 + 64
    image = Image.fromarray(pixels)
    for factors, theirs in (
        ((1.2, 1, 1), tv.adjust_brightness(image, 1.2)),
        ((0.8, 1, 1), tv.adjust_brightness(image, 0.8)),
        ((1, 1.2, 1), tv.adjust_contrast(image, 1.2)),
        ((1, 0.8, 1), tv.adjust_contrast(image, 0.8)),
        ((1, 1, 1.2), tv.adjust_saturation(image, 1.2)),
        ((1, 1, 0.8), tv.adjust_saturation(image, 0.8)),
    ):
        difference = recoloured(pixels, factors, 0).astype(int) - np.asarray(theirs)
        assert np.abs(difference).max() <= 1


def test_brightness_comes_before_contrast_and_contrast_before_saturation() -> None:
    pixels = noisy() // 4 + 96
    image = tv.adjust_brightness(Image.fromarray(pixels), 0.9)
    image = tv.adjust_saturation(tv.adjust_contrast(image, 1.2), 0.8)
    difference = recoloured(pixels, (0.9, 1.2, 0.8), 0).astype(int) - np.asarray(image)
    assert np.abs(difference).max() <= 3  # each of theirs rounds down


def test_saturation_comes_before_hue() -> None:
    pixels = noisy() // 2 + 64
    steps = recoloured(recoloured(pixels, (1, 1, 0.5), 0), (1, 1, 1), 0.1)
    at_once = recoloured(pixels, (1, 1, 0.5), 0.1)
    assert np.abs(at_once.astype(int) - steps).max() <= 2


@pytest.mark.parametrize("hue", [-0.1, -0.04, 0.0, 0.1])
@pytest.mark.parametrize("colour", [(150, 90, 90), (90, 140, 100), (100, 90, 160), (140, 140, 90)])
def test_a_hue_turns_as_hsvs_does(colour, hue) -> None:
    before = colorsys.rgb_to_hsv(*colour)[0]
    after = colorsys.rgb_to_hsv(*recoloured(plain(*colour), (1, 1, 1), hue)[0, 0].tolist())[0]
    assert (after - before - hue + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.012)


def test_a_third_of_the_circle_exchanges_the_channels() -> None:
    turned = recoloured(noisy(), (1, 1, 1), 1 / 3)
    assert np.array_equal(turned, noisy()[..., [2, 0, 1]])


def test_no_change_of_colour_is_exact() -> None:
    assert np.array_equal(recoloured(noisy(), (1, 1, 1), 0), noisy())


# Erasing


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 60), st.integers(10, 60))
def test_the_erased_area_is_in_its_range(seed, height, width) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[::2] = 4  # the mean is no pixel's colour
    before = pixels.copy()
    after = erased(pixels, np.random.default_rng(seed))
    assert after is pixels
    rows, columns = (np.flatnonzero((after != before).any((other, 2))) for other in (1, 0))
    down, across = np.ptp(rows) + 1, np.ptp(columns) + 1
    slack = 0.75 * (down + across) / (height * width)  # half a pixel on either side
    assert 0.02 - slack <= down * across / (height * width) <= 0.33 + slack


def test_the_erased_box_has_a_ratio_in_its_range_and_reaches_it() -> None:
    ratios = []
    for seed in range(300):
        pixels = np.zeros((100, 100, 3), np.uint8)
        pixels[::2] = 4
        before = pixels.copy()
        after = erased(pixels, np.random.default_rng(seed))
        rows, columns = (np.flatnonzero((after != before).any((other, 2))) for other in (1, 0))
        ratios.append((np.ptp(columns) + 1) / (np.ptp(rows) + 1))
    assert 0.27 < min(ratios) < 0.36
    assert 2.8 < max(ratios) < 3.7


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (3, 3)], ids=str)
def test_something_is_erased_of_the_smallest_picture(size) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[0, 0] = 40  # the mean is no pixel's colour
    for seed in range(200):
        assert not np.array_equal(erased(pixels.copy(), np.random.default_rng(seed)), pixels)


def test_a_hole_is_noise_or_the_mean_colour() -> None:
    holes = []
    for seed in range(100):
        pixels = plain(10, 60, 90, side=40)
        pixels[::2] += 20
        before = pixels.copy()
        erased(pixels, np.random.default_rng(seed))
        hole = pixels[(pixels != before).any(-1)]
        holes.append(bool((hole == hole[0]).all()))
        if holes[-1]:
            assert hole[0].tolist() == [20, 70, 100]
        else:
            assert abs(hole.mean() - 127.5) < 15
    assert 35 < sum(holes) < 65
