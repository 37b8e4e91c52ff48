"""What training reads: pixels and a frozen prefix's output are what computing them would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SPEC, layers, make_backbone, pixels
from torch import nn

from headstart import cache as cache_module
from headstart.cache import Cache
from headstart.data.augment import Augment, augmented
from headstart.data.read import decode, source_digest
from headstart.data.transforms import resize
from headstart.errors import UsageError
from headstart.training import boundary as module
from headstart.training.boundary import Boundary, Pixels, boundary_shape, decode_all
from headstart.training.device import Forward, InferencePath

FP32 = InferencePath("cpu", "fp32", "channels_last", 4)
BF16 = replace(FP32, precision="bf16")
LIGHT = Augment("light", "flip")
N = 11


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Cache:
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)
    return Cache(tmp_path / "cache")


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(N)]
    for number, path in enumerate(paths):
        Image.fromarray(np.kron(pixels(1, number)[0], np.ones((2, 2, 1), np.uint8))).save(path)
    return paths


def decoded(files: Sequence[Path], cache: Cache, **options):
    return decode_all(SPEC, files, [source_digest(file) for file in files], cache, **options)


def stream_of(files, cache, augment=LIGHT, seed=3, custom=None) -> Pixels:
    digests = [source_digest(file) for file in files]
    return Pixels(decoded(files, cache).rows, digests, augment, seed, custom)


def direct(backbone, start, path, stream, view, positions) -> torch.Tensor:
    """Compute what the boundary should hold, without it."""
    plain = stream.rows.take(positions)
    images = [
        augmented(row, stream.augment, stream.seed, view, stream.digests[index])
        for row, index in zip(plain, positions, strict=True)
    ]
    forward = Forward(backbone, path, end=start)
    values = [forward.run(torch.from_numpy(image[None])) for image in images]
    return torch.cat(values)


# Pixels


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
    monkeypatch.setattr(module, "load", lambda s, *rest: asked.append(len(s)) or load(s, *rest))
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


# The boundary


class Tokens(nn.Module):
    """Images -> tokens (B, T, D), as transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 5, 4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.patch(images).flatten(2).transpose(1, 2)


class Mean(nn.Module):
    """Tokens -> their mean."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mean(dim=1)


def transformer():
    return make_backbone(
        {"embed": Tokens(), "mix": nn.Sequential(nn.Linear(5, 5), nn.GELU()), "mean": Mean()}
    )


CUTS = [(make_backbone, cut) for cut in (1, 2, 4, 5)] + [(transformer, cut) for cut in (1, 2, 3)]


@pytest.mark.parametrize("path", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("make", "start"), CUTS)
def test_rows_are_the_prefix_of_each_view_to_the_bit(make, start, path, files, cache):
    backbone = make()
    stream = stream_of(files, cache)
    boundary = Boundary(backbone, start, stream, cache, path)
    order = [np.array([3, 1, 9, 0, 2]), np.array([7])]
    for view in (0, 1, 2):
        assert boundary.prepare(view, np.arange(N)) == N
        for positions, batch in zip(order, boundary.batches(view, order), strict=True):
            expected = direct(backbone, start, path, stream, view, positions)
            stored = expected.to(torch.bfloat16 if path is BF16 else torch.float32)
            assert batch.dtype == stored.dtype
            assert torch.equal(batch, stored)
            if path is BF16 and expected.dtype == torch.float32:
                assert torch.allclose(batch.float(), expected, rtol=2**-7)


@pytest.mark.parametrize("path", [FP32, BF16], ids=["fp32", "bf16"])
def test_encoding_is_undone_to_the_bit(path):
    kind = torch.bfloat16 if path is BF16 else torch.float32
    for shape in ((3, 4, 5, 6), (3, 7, 5), (3, 9)):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(kind)
        values.view(-1)[:4] = torch.tensor([0.0, -0.0, torch.inf, 1e-38], dtype=kind)
        rows = module._encode(values, path)
        assert rows.dtype == (np.uint16 if path is BF16 else np.float32)
        assert torch.equal(module._decode(rows, path), values)
        if len(shape) == 4:
            assert rows.shape == (3, 5, 6, 4)
            back = module._decode(rows, path)
            assert back.is_contiguous(memory_format=torch.channels_last)


def test_the_shape_is_that_of_the_rows():
    backbone = make_backbone()
    assert boundary_shape(backbone, 1, FP32) == (8, 8, 6)
    assert boundary_shape(backbone, 4, FP32) == (6, 6, 8)
    assert boundary_shape(backbone, 5, FP32) == (8,)
    assert boundary_shape(transformer(), 1, BF16) == (4, 5)


def test_only_what_is_asked_for_is_computed_and_later_the_rest(files, cache, monkeypatch):
    passed = []
    run = Forward.run

    def counted(self, values, *, pad=True):
        passed.append(len(values))
        return run(self, values, pad=pad)

    backbone = make_backbone()
    stream = stream_of(files, cache)
    boundary = Boundary(backbone, 4, stream, cache, FP32)
    monkeypatch.setattr(Forward, "run", counted)
    assert boundary.prepare(1, np.array([2, 8, 5])) == 3
    assert boundary.prepare(1, np.array([5, 2])) == 0
    early = list(boundary.batches(1, [np.array([8, 2])]))
    assert boundary.prepare(1, np.array([0, 2, 9])) == 2
    assert sum(passed) == 5
    # Those of the first time are there still, beside the new ones.
    late = list(boundary.batches(1, [np.array([8, 2]), np.array([9, 0, 5])]))
    assert torch.equal(late[0], early[0])
    monkeypatch.setattr(Forward, "run", run)
    assert torch.equal(late[1], direct(backbone, 4, FP32, stream, 1, [9, 0, 5]))
    again = Boundary(backbone, 4, stream, cache, FP32)
    assert again.prepare(1, np.arange(N)) == N - 5


def test_a_view_that_is_not_augmented_is_shared_by_all_recipes(files, cache):
    backbone = make_backbone()
    assert Boundary(backbone, 1, stream_of(files, cache), cache, FP32).prepare(0, np.arange(N))
    for other in (
        stream_of(files, cache, Augment("standard")),
        stream_of(files, cache, seed=9),
    ):
        boundary = Boundary(backbone, 1, other, cache, FP32)
        assert boundary.prepare(0, np.arange(N)) == 0
        assert boundary.prepare(1, np.arange(N)) == N


@pytest.mark.parametrize(
    "change",
    ["weights", "cut", "path", "batch", "seed", "augment", "symmetry", "view"],
)
def test_whatever_changes_the_values_is_computed_anew(change, files, cache):
    every, view = np.arange(N), 1
    Boundary(make_backbone(), 1, stream_of(files, cache), cache, FP32).prepare(1, every)
    backbone, cut, path, stream = make_backbone(), 1, FP32, stream_of(files, cache)
    if change == "weights":
        backbone = make_backbone(seed=1)
    if change == "cut":
        cut = 2
    if change == "path":
        path = BF16
    if change == "batch":
        path = replace(FP32, batch_size=5)
    if change == "seed":
        stream = stream_of(files, cache, seed=4)
    if change == "augment":
        stream = stream_of(files, cache, Augment("standard", "flip"))
    if change == "symmetry":
        stream = stream_of(files, cache, Augment("light", "none"))
    if change == "view":
        view = 2
    assert Boundary(backbone, cut, stream, cache, path).prepare(view, every) == N
    same = Boundary(make_backbone(), 1, stream_of(files, cache), cache, FP32)
    assert same.prepare(1, every) == 0


def test_weights_behind_the_cut_do_not_matter(files, cache):
    Boundary(make_backbone(), 1, stream_of(files, cache), cache, FP32).prepare(0, np.arange(N))
    blocks = layers()
    other = make_backbone(blocks)
    with torch.no_grad():
        other.blocks[3].module.conv.weight.add_(1.0)
    assert Boundary(other, 1, stream_of(files, cache), cache, FP32).prepare(0, np.arange(N)) == 0


def test_copies_of_an_image_are_one_row(files, cache):
    copy = files[0].parent / "copy.png"
    copy.write_bytes(files[4].read_bytes())
    stream = stream_of([*files, copy], cache)
    boundary = Boundary(make_backbone(), 1, stream, cache, FP32)
    assert boundary.prepare(1, np.arange(N + 1)) == N + 1 - 1
    (batch,) = boundary.batches(1, [np.array([4, N])])
    assert torch.equal(batch[0], batch[1])


def test_progress_counts_what_is_computed(files, cache):
    seen: list = []
    boundary = Boundary(make_backbone(), 1, stream_of(files, cache), cache, FP32)
    boundary.prepare(0, np.arange(N), lambda done, total: seen.append((done, total)))
    assert seen == [(4, N), (8, N), (N, N)]
    boundary.prepare(0, np.arange(N), lambda done, total: seen.append((done, total)))
    assert len(seen) == 3


def test_rows_that_were_evicted_midway_are_computed_again_or_still_readable(
    files, cache, monkeypatch
):
    stream = stream_of(files, cache)
    backbone = make_backbone()
    boundary = Boundary(backbone, 1, stream, cache, FP32)
    order = [np.arange(N)]
    boundary.prepare(1, np.arange(N))
    first = next(iter(boundary.batches(1, order)))
    cache.clear()
    # What is open stays readable; a view that is not open yet is computed.
    assert torch.equal(next(iter(boundary.batches(1, order))), first)
    assert boundary.prepare(1, np.arange(N)) == 0
    fresh = Boundary(backbone, 1, stream, cache, FP32)
    assert fresh.prepare(1, np.arange(N)) == N
    assert torch.equal(next(iter(fresh.batches(1, order))), first)


def test_a_cache_that_is_too_small_still_serves_the_run(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1KB")
    cache = Cache(tmp_path / "small")
    stream = stream_of(files, cache)
    backbone = make_backbone()
    boundary = Boundary(backbone, 1, stream, cache, FP32)
    for view in (0, 1, 2, 0, 1):
        boundary.prepare(view, np.arange(N))
        (batch,) = boundary.batches(view, [np.array([6, 3])])
        assert torch.equal(batch, direct(backbone, 1, FP32, stream, view, [6, 3]))
    assert cache_module.size_limit(cache.folder) < 20_000


def test_an_interrupted_view_keeps_what_was_computed(files, cache):
    class Enough(Exception):
        pass

    def stop(done, total):
        if done >= 8:
            raise Enough

    stream = stream_of(files, cache)
    boundary = Boundary(make_backbone(), 1, stream, cache, FP32)
    with pytest.raises(Enough):
        boundary.prepare(1, np.arange(N), stop)
    assert Boundary(make_backbone(), 1, stream, cache, FP32).prepare(1, np.arange(N)) == N - 8
