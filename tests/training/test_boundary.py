"""What training reads: pixels and a frozen prefix's output are what computing them would give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored import N, stream_of, write_files
from tiny import layers, make_backbone
from torch import nn

from headstart import cache as cache_module
from headstart.cache import Cache
from headstart.data.augment import Augment, augmented
from headstart.training import boundary as module
from headstart.training.boundary import Boundary, boundary_shape
from headstart.training.device import Forward, InferencePath

FP32 = InferencePath("cpu", "fp32", "channels_last", 4)
BF16 = replace(FP32, precision="bf16")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Cache:
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)
    return Cache(tmp_path / "cache")


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return write_files(tmp_path)


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
