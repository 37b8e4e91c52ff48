"""What transforms do to pixels: read off and, as a check, run."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from headstart.normalisation import HALF, IMAGENET, Expected, Scaling, expected
from headstart.preparation import normalisation_findings, prepared, value_findings
from headstart.training.model import Model
from networks import untrained

WANTED = Expected(Scaling.of(*IMAGENET, 255), "timm says of it")
TO_FLOAT = v2.ToDtype(torch.float32, scale=True)


def found(transform, wanted=WANTED, model=None):
    return list(normalisation_findings(prepared(transform, model), wanted))


CLEAN = {
    "v1": v1.Compose([v1.RandomResizedCrop(8), v1.ToTensor(), v1.Normalize(*IMAGENET)]),
    "v1 from pixels": v1.Compose(
        [v1.PILToTensor(), v1.ConvertImageDtype(torch.float), v1.Normalize(*IMAGENET)]
    ),
    "v2": v2.Compose([v2.ToImage(), v2.Resize(8), TO_FLOAT, v2.Normalize(*IMAGENET)]),
    "v2 by kind": v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype({torchvision.tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(*IMAGENET),
        ]
    ),
    "by chance": v1.Compose(
        [
            v1.RandomApply([v1.ColorJitter(0.2)]),
            v1.RandomChoice([v1.RandomRotation(5), v1.GaussianBlur(3)]),
            v1.ToTensor(),
            v1.Normalize(*IMAGENET),
            v1.RandomErasing(1.0),
        ]
    ),
    "nested": v1.Compose([v1.Compose([v1.ToTensor()]), nn.Sequential(v2.Normalize(*IMAGENET))]),
    "weights": torchvision.models.ResNet18_Weights.DEFAULT.transforms(),
    "timm": create_transform((3, 8, 8), is_training=True, auto_augment="rand-m9", re_prob=1.0),
    "timm eval": create_transform((3, 8, 8)),
    "timm in three parts": create_transform((3, 8, 8), is_training=True, separate=True),
    "rounded": v1.Compose([v1.ToTensor(), v1.Normalize((0.48, 0.46, 0.41), (0.23, 0.225, 0.225))]),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_transform_gives_no_finding(name):
    told = prepared(CLEAN[name])
    assert (told.floats, told.unknown, len(told.normalisations)) == (True, (), 1)
    assert found(CLEAN[name]) == []


@pytest.mark.parametrize("name", [n for n in CLEAN if n not in ("timm in three parts",)])
def test_what_is_read_off_is_what_the_transform_computes(name):
    image = Image.new("RGB", (16, 16), (90, 90, 90))
    torch.manual_seed(0)
    middle = CLEAN[name](image).float().mean((1, 2))
    if name in ("v1", "v2", "v1 from pixels", "v2 by kind", "nested", "weights", "timm eval"):
        assert torch.allclose(middle, torch.tensor(prepared(CLEAN[name]).scaling.at(90)), atol=1e-4)


PLANTED = {
    "missing": (v1.Compose([v1.ToTensor()]), "does not normalise"),
    "another's": (v1.Compose([v1.ToTensor(), v1.Normalize(*HALF)]), "off by up to 1.6"),
    "twice": (
        v2.Compose([v2.ToImage(), TO_FLOAT, v2.Normalize(*IMAGENET), v2.Normalize(*IMAGENET)]),
        "normalises 2 times",
    ),
    "unscaled": (
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize(*IMAGENET)]),
        "pixels of 0 to 255 by a mean of [0.485, 0.456, 0.406], which is in units of 0..1",
    ),
    "other units": (
        v1.Compose([v1.ToTensor(), v1.Normalize((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]),
        "images of 0 to 1 by a mean of [123.7, 116.3, 103.5], which is in units of 0..255",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_mistake_is_found_and_the_fix_named(name):
    transform, words = PLANTED[name]
    [one] = found(transform)
    assert (one.kind, one.severity) == ("normalisation", "warning")
    assert words in one.message
    assert "Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])" in one.hint


@pytest.mark.parametrize("name", ["twice", "unscaled", "other units"])
def test_what_is_wrong_for_every_network_is_found_for_any(name):
    [one] = found(PLANTED[name][0], wanted=None)
    assert PLANTED[name][1] in one.message


@pytest.mark.parametrize("name", ["missing", "another's"])
def test_what_may_be_right_for_an_unknown_network_is_not_judged(name):
    assert found(PLANTED[name][0], wanted=None) == []


def test_the_fix_that_is_named_is_one():
    network = timm.create_model("test_resnet")
    wanted = expected(network)
    [one] = found(CLEAN["v1"], wanted)
    values = one.hint.partition("Normalize(")[2].rstrip(".")[:-1]
    fixed = eval(f"v1.Compose([v1.ToTensor(), v1.Normalize({values})])")
    assert found(fixed, wanted) == []


def test_a_network_that_normalises_itself_is_part_of_it():
    network = nn.Sequential(v2.Normalize(*IMAGENET), nn.Conv2d(3, 4, 3))
    assert found(v1.ToTensor(), model=network) == []
    [one] = found(CLEAN["v1"], model=network)
    assert "2 times" in one.message


def test_ours_takes_images_normalised_elsewhere_and_plain_pixels():
    backbone = untrained("test_resnet", 32)
    model = Model(backbone, nn.Linear(backbone.feature_dim, 2))
    wanted = expected(model)
    good = v1.Compose([v1.ToTensor(), v1.Normalize(*HALF)])
    assert found(good, wanted, model) == []
    assert found(v1.PILToTensor(), wanted, model) == []
    [one] = found(v1.ToTensor(), wanted, model)
    assert "Leave normalisation to the network" in one.hint


def test_a_step_that_cannot_be_read_is_named_and_nothing_is_said():
    def halve(image):
        return image / 2

    for step in (halve, v1.Lambda(halve), v2.Lambda(halve)):
        told = prepared(v1.Compose([v1.ToTensor(), step]))
        assert told.unknown in (("halve",), ("Lambda",))
        assert list(normalisation_findings(told, WANTED)) == []


def test_transforms_that_are_like_albumentations_are_read_too():
    class Normalize:
        mean, std, max_pixel_value = (*IMAGENET, 255.0)

    class ToTensorV2:
        pass

    Normalize.__module__ = ToTensorV2.__module__ = "albumentations.augmentations"
    compose = type("Compose", (), {"transforms": [Normalize(), ToTensorV2()]})()
    assert found(compose) == []
    Normalize.max_pixel_value = 1.0
    [one] = found(compose)
    assert "in units of 0..1" in one.message


def test_without_a_transform_nothing_is_said():
    assert found(None) == []


# A batch's values


def batch(transform) -> torch.Tensor:
    pixels = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(0))
    pixels[:, 0, 0], pixels[:, 1, 1] = 0, 255
    image = v1.functional.to_pil_image(pixels.byte())
    return torch.stack([transform(image)] * 2)


@pytest.mark.parametrize("name", ["v2", "timm", "by chance", "rounded"])
def test_the_values_of_clean_batches_give_no_finding(name):
    torch.manual_seed(0)
    assert list(value_findings(batch(CLEAN[name]), WANTED)) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "not normalised"), ("another's", "0.5 give"), ("twice", "normalised twice")],
)
def test_the_values_of_a_batch_tell_plain_mistakes(name, words):
    [one] = value_findings(batch(PLANTED[name][0]), WANTED)
    assert (one.kind, words in one.message) == ("normalisation", True)


def test_a_network_that_takes_0_to_1_may_have_it():
    takes = Expected(Scaling.of((0, 0, 0), (1, 1, 1), 255), "you say")
    assert list(value_findings(batch(v1.ToTensor()), takes)) == []
