"""Pixels in training are those of the files, resized once and augmented by their own chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored import N, decoded, stream_of, write_files
from tiny import SPEC

from headstart.cache import Cache
from headstart.data.augment import Augment, augmented
from headstart.data.read import decode, source_digest
from headstart.data.transforms import resize
from headstart.errors import UsageError
from headstart.training import pixels as module
from headstart.training.pixels import decode_all


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Cache:
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)
    return Cache(tmp_path / "cache")


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return write_files(tmp_path)


def test_pixels_are_those_of_the_files_resized(files, cache):
    found = decoded(files, cache)
    assert found.positions.tolist() == list(range(N))
    assert (found.failed, found.computed) == ((), N)
    rows = found.rows.all()
    assert (rows.dtype, rows.shape) == (np.uint8, (N, 8, 8, 3))
    for file, row in zip(files, rows, strict=True):
        assert np.array_equal(row, np.asarray(resize(decode(file), SPEC)))


def test_each_image_is_decoded_once_copies_included(files, cache, monkeypatch):
    (files[0].parent / "copy.png").write_bytes(files[0].read_bytes())
    some = [*files, files[0].parent / "copy.png"]
    first = decoded(some, cache)
    assert (first.computed, len(first.rows)) == (N, N + 1)
    assert np.array_equal(first.rows.take([0]), first.rows.take([N]))
    asked = []
    load = module.load
    monkeypatch.setattr(
        module, "load", lambda s, *rest, **more: asked.append(len(s)) or load(s, *rest, **more)
    )
    again = decoded(some, cache)
    assert (asked, again.computed) == ([0], 0)
    assert np.array_equal(again.rows.all(), first.rows.all())


def test_what_cannot_be_decoded_is_listed_by_name(files, cache):
    files[3].write_bytes(files[3].read_bytes()[:60])
    found = decoded(files, cache, names=[f"name {n}" for n in range(N)])
    assert [(f.name, f.index) for f in found.failed] == [("name 3", 3)]
    assert found.positions.tolist() == [n for n in range(N) if n != 3]
    assert found.computed == N - 1
    assert decoded(files, cache).failed[0].name == str(files[3])


def test_progress_ends_with_all(files, cache):
    seen: list = []
    decoded(files, cache, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (N, N)


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"height": 16, "width": 16}, True),
        ({"resize": "crop"}, True),
        ({"interpolation": "nearest"}, True),
        ({"mean": (0.0, 0.0, 0.0)}, False),
        ({"resize": "pad"}, True),
    ],
    ids=str,
)
def test_the_store_is_of_what_decides_the_pixels(files, cache, change, anew):
    decoded(files, cache)
    digests = [source_digest(file) for file in files]
    found = decode_all(replace(SPEC, **change), files, digests, cache)
    assert (found.computed == N) == anew


def test_padding_is_filled_by_the_mean_and_so_the_mean_counts(files, cache):
    digests = [source_digest(file) for file in files]
    spec = replace(SPEC, resize="pad")
    assert decode_all(spec, files, digests, cache).computed == N
    assert decode_all(replace(spec, mean=(1.0, 2.0, 3.0)), files, digests, cache).computed == N


def test_batches_of_pixels_are_the_augmented_images_in_the_order_asked(files, cache):
    stream = stream_of(files, cache, Augment("standard", "flip"))
    order = [np.array([4, 0, 7]), np.array([10, 1])]
    assert stream.prepare(2, np.arange(N)) == 0
    for view in (0, 1, 5):
        batches = list(stream.batches(view, order))
        assert [len(batch) for batch in batches] == [3, 2]
        for positions, batch in zip(order, batches, strict=True):
            assert batch.dtype == torch.uint8
            for index, image in zip(positions, batch.numpy(), strict=True):
                plain = stream.rows.take([index])[0]
                expected = augmented(plain, stream.augment, 3, view, stream.digests[index])
                assert np.array_equal(image, expected)
                assert np.array_equal(image, plain) == (view == 0)
    assert list(stream.batches(1, [])) == []


def test_another_seed_is_another_view(files, cache):
    order = [np.arange(N)]
    some, others = (
        next(iter(stream_of(files, cache, Augment("standard"), seed=seed).batches(1, order)))
        for seed in (3, 4)
    )
    assert not torch.equal(some, others)


# A transform of one's own


def noise(image: torch.Tensor) -> torch.Tensor:
    return (image + torch.randint(0, 40, image.shape)).to(torch.uint8)


def test_a_custom_transform_is_drawn_for_each_image_and_view_and_the_generator_stays(files, cache):
    stream = stream_of(files, cache, Augment(), custom=noise)
    order = [np.array([2, 5]), np.array([5, 1])]
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = list(stream.batches(1, order))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    again = list(stream.batches(1, order))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(first[0][1], first[1][0])  # of the same image, in another batch
    other = list(stream.batches(2, order))
    assert not torch.equal(first[0], other[0])
    plain = next(iter(stream.batches(0, order)))
    assert np.array_equal(plain.numpy(), stream.rows.take([2, 5]))
    differences = first[0].numpy() - plain.numpy()
    assert not np.array_equal(differences[0], differences[1])


def test_it_gets_channels_first_and_may_not_spoil_what_is_stored(files, cache):
    seen = []

    def spoil(image: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(image.shape), image.dtype))
        return image.zero_()

    stream = stream_of(files, cache, Augment(), custom=spoil)
    assert not next(iter(stream.batches(1, [np.array([0])]))).any()
    assert seen == [((3, 8, 8), torch.uint8)]
    assert next(iter(stream.batches(0, [np.array([0])]))).any()


@pytest.mark.parametrize(
    ("transform", "got"),
    [
        (lambda image: image[:, :4], r"\(3, 4, 8\) torch.uint8"),
        (lambda image: image.float() / 255, r"\(3, 8, 8\) torch.float32"),
        (lambda image: image.numpy(), "ndarray"),
        (lambda image: None, "NoneType"),
    ],
    ids=["shape", "type", "array", "nothing"],
)
def test_what_is_no_image_of_that_shape_is_refused(files, cache, transform, got):
    stream = stream_of(files, cache, Augment(), custom=transform)
    with pytest.raises(UsageError, match=rf"of the same shape and type, and gave {got}\.") as told:
        next(iter(stream.batches(1, [np.array([0])])))
    assert told.value.field == "augment"
