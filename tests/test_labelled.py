from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import headstart
from headstart.cache import Cache
from headstart.data.augment import Augment, augmented
from headstart.data.read import decode
from headstart.data.reading import Reading
from headstart.data.transforms import resize
from headstart.errors import BadImage, DataError, UnknownName
from headstart.inputspec import InputSpec
from headstart.run import read_report
from pictures import write_photos

SPEC = InputSpec(height=24, width=24, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def images(photos):
    return headstart.dataset(photos, SPEC)


def test_the_split_is_that_of_a_fit(photos, run):
    images = headstart.dataset(photos, headstart.load(run).input_spec)
    assert images.split.digest == read_report(run).split["digest"]
    assert images.classes == ("cat", "dog", "owl")


def test_parts_are_disjoint_and_whole(images):
    parts = [images.torch(part) for part in ("train", "val", "test")]
    names = [item.name for part in parts for item in part.items]
    assert sorted(names) == sorted(item.name for item in images.items)
    assert [len(part) for part in parts] == [
        len(images.split.train),
        len(images.split.val),
        len(images.split.test),
    ]


def test_an_item_is_the_image_as_a_fit_sees_it_and_its_label(images):
    part = images.torch("train")
    for index in (0, len(part) - 1):
        pixels, label = part[index]
        expected = resize(decode(part.items[index].path), SPEC)
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), expected)
        assert images.classes[label] == part.items[index].label


def test_epoch_0_is_plain_and_later_ones_are_the_views_of_a_fit(images):
    part = images.torch("train", augment="standard", symmetry="none", seed=3)
    plain = images.torch("train")[4][0]
    assert torch.equal(part[4][0], plain)
    part.set_epoch(2)
    view = augmented(plain.numpy(), Augment("standard", "none"), 3, 2, part.digests[4])
    assert np.array_equal(part[4][0].numpy(), view)
    assert not torch.equal(part[4][0], plain)
    part.set_epoch(0)
    assert torch.equal(part[4][0], plain)


def test_workers_give_the_same_as_none(images):
    part = images.torch("val", augment="light")
    part.set_epoch(1)
    alone, shared = (
        list(DataLoader(part, batch_size=4, num_workers=workers)) for workers in (0, 2)
    )
    for (pixels, labels), (theirs, their_labels) in zip(alone, shared, strict=True):
        assert torch.equal(pixels, theirs)
        assert torch.equal(labels, their_labels)


def test_it_can_be_pickled(images):
    part = images.torch("test")
    assert torch.equal(pickle.loads(pickle.dumps(part))[0][0], part[0][0])


def test_another_seed_is_another_split(photos, images):
    assert headstart.dataset(photos, SPEC, seed=1).split.digest != images.split.digest
    half = headstart.dataset(photos, SPEC, split=(0.5, 0.0, 0.5))
    assert not half.split.val
    assert len(half.split.test) == len(half.items) // 2


def test_an_unknown_part_is_refused(images):
    with pytest.raises(UnknownName, match="part of the split"):
        images.torch("training")


def test_an_unknown_augmentation_is_refused(images):
    with pytest.raises(UnknownName):
        images.torch("train", augment="heavy")


def test_unreadable_images_are_left_out_or_refused(tmp_path):
    data = write_photos(tmp_path / "data", each=10, side=16)
    victim = next(data.glob("cat/*.jpg"))
    victim.write_bytes(b"nothing")
    with pytest.raises(DataError, match=victim.name):
        headstart.dataset(data, SPEC)
    images = headstart.dataset(data, SPEC, max_bad=0.2)
    assert victim.name not in {item.path.name for item in images.items if item.label == "cat"}


def test_a_file_that_vanishes_is_an_error_that_names_it(tmp_path, photos):
    data = shutil.copytree(photos, tmp_path / "copy")
    part = headstart.dataset(data, SPEC).torch("train")
    part.items[0].path.unlink()
    with pytest.raises(BadImage, match=part.items[0].path.name):
        part[0]


def test_images_are_read_as_they_are_chosen(photos, tmp_path):
    images = headstart.dataset(photos, SPEC, reading=Reading(classes=("owl", "cat")))
    assert images.classes == ("owl", "cat")
    assert len(images.items) == 48
    file = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    cache = Cache(tmp_path / "cache")
    zipped = headstart.dataset(file, SPEC, cache=cache)
    assert len(zipped.items) == 72
    assert all(item.path.is_relative_to(cache.archives) for item in zipped.items)
