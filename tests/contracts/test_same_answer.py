"""Contract 6, as far as it exists: every way to ask gives the same answer, in fp32."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import headstart
from headstart.data.read import decode
from headstart.data.transforms import normalise, resize
from pictures import picture

pytestmark = pytest.mark.slow

SIDE = 64
TURNS = [
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_270,
]


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def write_modes(folder: Path) -> None:
    """Write one picture in every mode that the formats have."""
    colour = picture(1, 3, SIDE).crop((0, 0, SIDE, SIDE - 16))
    grey = colour.convert("L")
    images = {
        "L.png": grey,
        "L.jpg": grey,
        "LA.png": with_alpha(grey),
        "P.png": colour.quantize(64),
        "P.gif": colour.quantize(64),
        "RGB.png": colour,
        "RGB.jpg": colour,
        "RGB.webp": colour,
        "RGB.bmp": colour,
        "RGB.tif": colour,
        "RGB.ppm": colour,
        "RGBA.png": with_alpha(colour),
        "CMYK.jpg": colour.convert("CMYK"),
        "CMYK.tif": colour.convert("CMYK"),
        "YCbCr.tif": colour.convert("YCbCr"),
        "1.png": colour.convert("1"),
        "1.tif": colour.convert("1"),
        "I16.png": deep(colour),
        "I16.tif": deep(colour),
        "F.tif": grey.convert("F"),
    }
    for name, image in images.items():
        image.save(folder / name)
    colour.quantize(64).save(folder / "P-transparent.png", transparency=0)


def write_orientations(folder: Path) -> None:
    """Write one picture as eight files that are upright once their orientation is heeded."""
    upright = picture(0, 4, SIDE).crop((0, 0, SIDE, SIDE - 16))
    for number, turn in enumerate(TURNS, start=1):
        exif = Image.Exif()
        exif[0x0112] = number
        stored = upright if turn is None else upright.transpose(turn)
        stored.save(folder / f"turned-{number}.png", exif=exif)
        if number in (1, 6, 7):
            stored.save(folder / f"turned-{number}.jpg", exif=exif, quality=95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_modes(folder)
    write_orientations(folder)
    return folder


@pytest.fixture(scope="module")
def files(folder) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(run, files) -> headstart.Predictions:
    """The library's answers for the files at once."""
    return headstart.load(run, precision="fp32").predict(files)


def agree(found, expected) -> None:
    assert [answer["label"] for answer in found] == [answer.label for answer in expected]
    shares = [[list(a["probabilities"].values()) for a in found]]
    assert np.abs(np.array(shares) - [[[*a.probabilities.values()] for a in expected]]).max() < 1e-4


def test_there_is_something_to_agree_on(files, expected):
    assert len(files) == 32
    assert len({answer.label for answer in expected}) > 1
    assert len({answer.probability for answer in expected}) > 10


def test_the_command_line_agrees(run, folder, files, expected, command, tmp_path):
    table = tmp_path / "answers.csv"
    result = command("predict", run, folder, "--json", "--csv", table, "--precision", "fp32")
    document = result.document

    assert document["failed"] == []
    assert [answer["path"] for answer in document["predictions"]] == [str(file) for file in files]
    agree(document["predictions"], expected)
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    classes = list(expected[0].probabilities)
    agree([row | {"probabilities": {c: float(row[c]) for c in classes}} for row in rows], expected)


def test_files_one_by_one_agree(run, files, expected):
    classifier = headstart.load(run, precision="fp32")
    agree([classifier.predict(file)[0].to_dict() for file in files], expected)


def test_images_in_memory_agree(run, files, expected):
    classifier = headstart.load(run, precision="fp32")
    classifier.path = replace(classifier.path, batch_size=5)
    opened = []
    for file in files:
        with Image.open(file) as image:
            image.load()
            opened.append(image)
    agree([answer.to_dict() for answer in classifier.predict(opened)], expected)
    decoded = [np.asarray(decode(file)) for file in files]
    agree([answer.to_dict() for answer in classifier.predict(decoded)], expected)


def test_a_copy_of_the_model_folder_agrees(run, files, expected, tmp_path):
    copy = headstart.load(run, precision="fp32").save(tmp_path / "copy")
    found = headstart.load(copy, precision="fp32").predict(files)
    agree([answer.to_dict() for answer in found], expected)


def test_the_classifier_that_fit_returns_agrees(photos, files, expected, tmp_path):
    fitted = headstart.fit(
        photos, tmp_path / "run", strategy="feature-extraction", precision="fp32"
    )
    agree([answer.to_dict() for answer in fitted.predict(files)], expected)


def test_timm_agrees_from_the_same_pixels(run, files, expected):
    classifier = headstart.load(run, precision="fp32")
    network = timm.create_model(f"local-dir:{run / 'model'}", pretrained=True).eval()
    spec = classifier.input_spec
    pixels = np.stack([normalise(resize(decode(file), spec), spec) for file in files])
    with torch.inference_mode():
        shares = network(torch.from_numpy(pixels)).softmax(dim=1).tolist()
    found = [
        {
            "label": classifier.classes[int(np.argmax(row))],
            "probabilities": dict(zip(classifier.classes, row, strict=True)),
        }
        for row in shares
    ]
    agree(found, expected)


def test_the_same_pixels_in_other_files_get_the_same_answer(files, expected):
    answers = {
        file.name: list(answer.probabilities.values())
        for file, answer in zip(files, expected, strict=True)
    }
    lossless = ["RGB.png", "RGB.bmp", "RGB.tif", "RGB.ppm"]
    for group in (
        lossless,
        ["P.png", "P.gif"],
        ["1.png", "1.tif"],
        ["L.png", "I16.png", "I16.tif", "F.tif"],
        [f"turned-{number}.png" for number in range(1, 9)],
    ):
        assert len({tuple(answers[name]) for name in group}) == 1, group
    turned = [answers[f"turned-{number}.jpg"] for number in (1, 6, 7)]
    assert np.ptp(turned, axis=0).max() < 0.02  # JPEG's blocks fall elsewhere in a turned picture
