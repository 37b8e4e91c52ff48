from __future__ import annotations

import inspect

import pytest
from torchvision import datasets
from torchvision_layouts import LAYOUTS

from headstart.data.torchvision_names import SETS

# What torchvision has besides: no images, several labels, pairs, videos, or too many versions.
OTHERS = {
    *("CREStereo", "CarlaStereo", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection"),
    *("DatasetFolder", "ETH3DStereo", "FakeData", "FallingThingsStereo", "Flickr30k", "Flickr8k"),
    *(
        "FlyingChairs",
        "FlyingThings3D",
        "HD1K",
        "HMDB51",
        "INaturalist",
        "ImageFolder",
        "InStereo2k",
    ),
    *("Kinetics", "Kitti", "Kitti2012Stereo", "Kitti2015Stereo", "KittiFlow", "LFWPairs"),
    *("LFWPeople", "LSUN", "LSUNClass", "Middlebury2014Stereo", "MovingMNIST", "Omniglot"),
    *("PhotoTour", "SBDataset", "SBU", "SceneFlowStereo", "Sintel", "SintelStereo", "UCF101"),
    *("VOCDetection", "VOCSegmentation", "VisionDataset", "WIDERFace"),
}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_one_that_torchvision_has(name) -> None:
    known = SETS[name]
    bases = getattr(datasets, known.kind).__mro__  # some hand on what they don't take themselves
    taken = {it for base in bases for it in inspect.signature(base.__init__).parameters}
    assert ("download" in taken) == known.has_download
    assert {it for arguments in known.parts.values() for it in arguments} <= taken
    assert set(known.further) <= taken


def test_every_set_of_torchvision_was_decided_on() -> None:
    known = {it.kind for it in SETS.values()}
    assert {name for name in datasets.__all__ if name[0].isupper()} - known - OTHERS == set()


def test_names_are_torchvisions_own_with_the_variant_behind() -> None:
    assert all(name.startswith("torchvision:") for name in SETS)
    assert SETS["torchvision:Flowers102"].parts["val"] == {"split": "val"}
    assert SETS["torchvision:EMNIST-letters"].further == {"split": "letters"}
    assert SETS["torchvision:Places365-small"].further == {"small": True}


def test_every_class_of_torchvision_that_is_used_was_laid_out() -> None:
    laid_out = {SETS[f"torchvision:{short}"].kind for short in LAYOUTS}
    assert laid_out == {it.kind for it in SETS.values()}
