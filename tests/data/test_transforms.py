from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision import transforms as tv

from headstart.data.transforms import least_side, normalise, resize
from headstart.inputspec import InputSpec, Interpolation

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
SIZES = [(300, 300), (256, 192), (192, 256), (500, 375), (97, 301), (40, 30), (224, 224), (1, 1)]


def spec(height: int = 64, width: int = 64, **fields: object) -> InputSpec:
    return InputSpec(height, width, **{**IMAGENET, **fields})


def seen_by_timm(image: Image.Image, spec: InputSpec, mode: str | None = None) -> np.ndarray:
    transform = transforms_imagenet_eval(
        (spec.height, spec.width),
        crop_pct=spec.crop_fraction,
        crop_mode=mode,
        interpolation=spec.interpolation,
        mean=tuple(value / 255 for value in spec.mean),
        use_prefetcher=True,
    )
    return np.asarray(transform(image)).transpose(1, 2, 0)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fraction", [0.875, 0.9, 0.95, 1.0])
def test_crop_is_timms_to_the_bit(noise, size, interpolation: str, fraction: float) -> None:
    image = noise(0, *size)
    for height, width in ((64, 64), (224, 224), (48, 80), (80, 48)):
        given = spec(height, width, crop_fraction=fraction, interpolation=interpolation)
        assert np.array_equal(resize(image, given), seen_by_timm(image, given))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_crop_is_torchvisions_to_the_bit(noise, size) -> None:
    image = noise(0, *size)
    transform = tv.Compose([tv.Resize(256), tv.CenterCrop(224)])
    given = spec(224, 224, interpolation="bilinear")
    assert np.array_equal(resize(image, given), np.asarray(transform(image)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([0.8, 0.875, 0.96, 1.0]),
)
def test_crop_of_any_size_is_timms(width, height, out_height, out_width, fraction) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    given = spec(out_height, out_width, crop_fraction=fraction)
    assert np.array_equal(resize(image, given), seen_by_timm(image, given))


@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_grey_is_the_same_as_its_colour_image(noise, rule: str, interpolation: str) -> None:
    grey = noise(0, 90, 61, mode="L")
    for height, width in ((64, 64), (48, 80), (200, 120)):
        given = spec(height, width, resize=rule, interpolation=interpolation)
        assert np.array_equal(resize(grey, given), resize(grey.convert("RGB"), given))


@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2)], ids=str)
def test_any_proportions_can_be_resized(monkeypatch, rule: str, size) -> None:
    made = []
    plain = Image.Image.resize

    def measured(image: Image.Image, size: tuple[int, int], *rest: object, **more: object):
        made.append(size[0] * size[1])
        return plain(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", measured)
    image = Image.new("RGB", size, (200, 100, 50))
    pixels = resize(image, spec(224, 224, resize=rule))
    assert pixels.shape == (224, 224, 3)
    assert pixels.flags.writeable
    assert (pixels == (200, 100, 50)).all(axis=-1).any()
    assert max(made) <= 1 << 24


@pytest.mark.parametrize("size", [(300, 900), (900, 300), (301, 1000)], ids=str)
def test_a_crop_without_the_rest_is_nearly_the_same(noise, monkeypatch, size) -> None:
    image = noise(0, *size)
    whole = resize(image, spec(64, 64)).astype(int)
    monkeypatch.setattr("headstart.data.transforms._MAX_SCALED", 0)
    assert np.abs(resize(image, spec(64, 64)) - whole).max() <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_squash_ignores_the_proportions(noise, size) -> None:
    image = noise(0, *size)
    given = spec(48, 80, resize="squash", crop_fraction=1.0)
    assert np.array_equal(resize(image, given), seen_by_timm(image, given, "squash"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pad_is_timms_border(noise, size) -> None:
    image = noise(0, *size)
    for height, width in ((64, 64), (48, 80)):
        given = spec(height, width, resize="pad", crop_fraction=1.0)
        assert np.array_equal(resize(image, given), seen_by_timm(image, given, "border"))


def test_pad_fills_with_the_mean_colour() -> None:
    for channels, mean in (("rgb", (10.4, 20.6, 30.0)), ("bgr", (30.0, 20.6, 10.4))):
        given = spec(40, 40, resize="pad", mean=mean, channels=channels)
        pixels = resize(Image.new("L", (40, 20), 200), given)
        assert (pixels[:10] == (10, 21, 30)).all()
        assert (pixels[10:30] == 200).all()
        assert (pixels[30:] == (10, 21, 30)).all()


def test_every_interpolation_is_another(noise) -> None:
    image = noise(0, 100, 90)
    results = {
        resize(image, spec(interpolation=name)).tobytes() for name in get_args(Interpolation)
    }
    assert len(results) == len(get_args(Interpolation))


def test_normalised_pixels_are_torchvisions(noise) -> None:
    pixels = np.array(noise(0, 30, 20))
    mean, std = ([v / 255 for v in IMAGENET[name]] for name in ("mean", "std"))
    expected = tv.Compose([tv.ToTensor(), tv.Normalize(mean, std)])(pixels)
    values = normalise(pixels, spec())
    assert values.dtype == np.float32
    assert values.shape == (3, 20, 30)
    assert values.flags.c_contiguous
    assert torch.allclose(torch.from_numpy(values), expected, atol=1e-5)
    batch = normalise(np.stack([pixels, pixels[::-1]]), spec())
    assert batch.shape == (2, 3, 20, 30)
    assert np.array_equal(batch[0], values)


def test_the_formula_holds_in_either_channel_order(noise) -> None:
    pixels = np.asarray(noise(0))
    caffe = spec(mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), channels="bgr")
    expected = pixels[..., ::-1].astype(np.float64) - np.array(caffe.mean)
    assert np.allclose(normalise(pixels, caffe), expected.transpose(2, 0, 1), atol=1e-4)


def test_a_reduced_decode_keeps_twice_what_the_resize_needs() -> None:
    assert least_side(spec(224, 224)) is None
    assert least_side(spec(224, 224, decode="scaled")) == 512
    assert least_side(spec(224, 192, decode="scaled", resize="squash")) == 448
