from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SPEC, make_backbone, pixels
from torch import nn

from headstart import store as store_module
from headstart.backbones.base import Backbone
from headstart.cache import Cache
from headstart.data import loader
from headstart.data.read import source_digest
from headstart.data.symmetry import symmetry as mirrored
from headstart.training import features as module
from headstart.training.device import Forward, InferencePath
from headstart.training.features import PARITY_LIMIT, Features, extract, relative_distance
from headstart.training.pixels import Decoded, decode_all

FP32 = InferencePath("cpu", "fp32", "channels_last", 4, reason="asked for")
BF16 = replace(FP32, precision="bf16", reason="native bf16 (test)")


class Work:
    """Counts what is decoded and what is passed forward, by precision."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.decoded: list[str] = []
        self.passed: list[tuple[str, int]] = []
        decode, forward = loader.decode, Forward.__call__

        def decoding(source: Any, **options: Any) -> Image.Image:
            self.decoded.append(str(source))
            return decode(source, **options)

        def passing(this: Forward, batch: np.ndarray, **options: Any) -> np.ndarray:
            self.passed.append((this.path.precision, len(batch)))
            return forward(this, batch, **options)

        patch.setattr(loader, "decode", decoding)
        patch.setattr(Forward, "__call__", passing)

    def rows(self, precision: str = "fp32") -> int:
        return sum(count for kind, count in self.passed if kind == precision)

    def forget(self) -> None:
        self.decoded.clear()
        self.passed.clear()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write images, each unlike all others."""

    def write(numbers: Sequence[int]) -> list[Path]:
        paths = [tmp_path / f"{number}.png" for number in numbers]
        for number, path in zip(numbers, paths, strict=True):
            Image.fromarray(pixels(1, seed=number)[0]).save(path)
        return paths

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.delenv("HEADSTART_CACHE_SIZE", raising=False)
    return Cache(tmp_path / "cache")


def get(
    sources: Sequence[Any],
    cache: Cache,
    path: InferencePath = FP32,
    backbone: Backbone | None = None,
    **options: Any,
) -> Features:
    digests = [source_digest(source) for source in sources]
    backbone = make_backbone() if backbone is None else backbone
    return extract(backbone, sources, digests, cache, path, **options)


def straying_backbone() -> Backbone:
    """Make a network of which bf16 leaves nothing: it tells apart two numbers 0.1 % apart."""
    split, difference = nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)
    with torch.no_grad():
        split.weight.copy_(torch.tensor([[1.0], [1.001]]).expand(2, 3))
        difference.weight.copy_(torch.tensor([[-1000.0, 1000.0]]).expand(4, 2))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    spec = replace(SPEC, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    return make_backbone({"pool": pool, "split": split, "last": difference}, spec=spec, seed=None)


# Once, and never again


def test_each_image_is_decoded_once_and_passed_forward_once(photos, cache, work) -> None:
    paths = photos(range(10))
    features = get(paths, cache)
    assert sorted(work.decoded) == sorted(map(str, paths))
    assert work.passed == [("fp32", 4), ("fp32", 4), ("fp32", 2)]
    assert (features.computed, len(features.rows), features.failed) == (10, 10, ())
    assert features.positions.tolist() == list(range(10))


def test_rows_are_the_forward_pass_of_their_images_in_order(photos, cache) -> None:
    paths = photos([5, 2, 9, 1, 7])
    expected = Forward(make_backbone(), FP32)(
        np.concatenate([pixels(1, seed=number) for number in (5, 2, 9, 1)])
    )
    rows = get(paths, cache).rows
    assert np.array_equal(rows.take([0, 1, 2, 3]), expected)
    assert rows.all().dtype == np.float32


def test_a_second_call_decodes_nothing_and_gives_the_same_bits(photos, cache, work) -> None:
    paths = photos(range(10))
    cold = get(paths, cache).rows.all()
    work.forget()
    again = get(paths, Cache(cache.folder))
    assert (work.decoded, work.passed, again.computed) == ([], [], 0)
    assert np.array_equal(again.rows.all(), cold)
    turned = get(paths[::-1], cache)
    assert (work.decoded, turned.computed) == ([], 0)
    assert np.array_equal(turned.rows.all(), cold[::-1])


def test_ten_new_images_cost_ten(photos, cache, work) -> None:
    old, new = photos(range(12)), photos(range(20, 30))
    before = get(old, cache).rows.all()
    work.forget()
    mixed = [path for pair in zip(new, old, strict=False) for path in pair] + old[10:]
    features = get(mixed, cache)
    assert sorted(work.decoded) == sorted(map(str, new))
    assert (work.rows(), features.computed) == (10, 10)
    assert np.array_equal(features.rows.take([1, 3, 21]), before[[0, 1, 11]])


def test_new_images_have_the_same_bits_as_if_all_were_new(photos, cache, tmp_path) -> None:
    paths = photos(range(11))
    get(paths[:3], cache)
    get(paths[6:7], cache)
    grown = get(paths, cache).rows.all()
    assert np.array_equal(grown, get(paths, Cache(tmp_path / "another")).rows.all())


def test_copies_are_computed_once_and_each_has_its_row(photos, cache, work, tmp_path) -> None:
    paths = photos([1, 2])
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    features = get([paths[0], paths[1], copy, paths[0]], cache)
    assert len(work.decoded) == 2
    assert (features.computed, features.positions.tolist()) == (2, [0, 1, 2, 3])
    rows = features.rows.all()
    assert np.array_equal(rows[[2, 3]], rows[[0, 0]])
    assert not np.array_equal(rows[1], rows[0])


def test_images_in_memory_are_remembered_too(cache, work) -> None:
    images = [*pixels(3), Image.fromarray(pixels(1, seed=9)[0])]
    first = get(images, cache).rows.all()
    work.forget()
    assert np.array_equal(get(images, cache).rows.all(), first)
    assert work.decoded == []


def test_no_images_are_no_rows(cache, work) -> None:
    features = get([], cache)
    assert (len(features.rows), features.rows.all().shape) == (0, (0, 8))
    assert (features.computed, work.passed) == (0, [])


def test_progress_counts_what_is_computed_up_to_all_of_it(photos, cache) -> None:
    paths = photos(range(10))
    paths[2].write_bytes(b"broken")
    get(paths[:4], cache)
    told: list[tuple[int, int]] = []
    get(paths, cache, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)  # three were remembered, and the broken one is known
    assert [done for done, _ in told] == sorted({done for done, _ in told})


# What can't be read


def test_a_broken_image_is_listed_and_the_rest_is_fine(photos, cache, tmp_path) -> None:
    paths = photos(range(9))
    whole = get(paths, Cache(tmp_path / "another")).rows.all()
    paths[2].write_bytes(b"<html>not an image</html>")
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    features = get(paths, cache)
    assert [(failure.name, failure.index) for failure in features.failed] == [
        (str(paths[2]), 2),
        (str(paths[7]), 7),
    ]
    assert all(failure.reason for failure in features.failed)
    good = [0, 1, 3, 4, 5, 6, 8]
    assert features.positions.tolist() == good
    assert np.array_equal(features.rows.all(), whole[good])
    assert features.computed == 7


def test_broken_images_are_named_as_asked_and_every_copy_is_listed(photos, cache) -> None:
    paths = photos(range(3))
    paths[0].write_bytes(b"broken")
    paths[2].write_bytes(b"broken")
    for _ in range(2):
        features = get(paths, cache, names=["a/0", "b/1", "b/2"])
        assert [(f.name, f.index) for f in features.failed] == [("a/0", 0), ("b/2", 2)]
        assert features.positions.tolist() == [1]


def test_where_nothing_can_be_read_there_are_no_rows(photos, cache) -> None:
    paths = photos(range(3))
    for path in paths:
        path.write_bytes(path.name.encode())
    features = get(paths, cache)
    assert ([f.index for f in features.failed], len(features.rows)) == ([0, 1, 2], 0)


# What ends early


def test_an_interrupted_run_keeps_what_it_computed(photos, cache, work) -> None:
    paths = photos(range(12))

    def interrupt(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(paths, cache, progress=interrupt)
    work.forget()
    assert get(paths, cache).computed == 4
    assert sorted(work.decoded) == sorted(map(str, paths[8:]))


def test_a_killed_run_leaves_a_cache_that_can_be_used(photos, cache, tmp_path) -> None:
    paths = photos(range(12))
    program = textwrap.dedent(
        f"""
        import os, pathlib, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_features as tests
        from headstart import store

        store.SEGMENT_BYTES = 1  # a segment a batch
        write, manifests = store.write_json, []

        def dying(path, document):
            if path.name != "key.json":
                manifests.append(path)
            if len(manifests) == 2:
                os._exit(9)
            write(path, document)

        store.write_json = dying
        paths = [pathlib.Path(path) for path in sys.argv[2:]]
        tests.get(paths, tests.Cache(pathlib.Path(sys.argv[1])))
        """
    )
    done = subprocess.run([sys.executable, "-c", program, cache.folder, *paths], check=False)
    assert done.returncode == 9
    features = get(paths, cache)
    assert features.computed == 8
    fresh = get(paths, Cache(tmp_path / "another"))
    assert np.array_equal(features.rows.all(), fresh.rows.all())


def test_a_cache_too_small_for_one_store_still_serves_the_run(photos, cache, monkeypatch) -> None:
    paths = photos(range(10))
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 1)
    expected = get(paths, cache, BF16).rows.all()
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "1")
    more = paths + photos(range(20, 26))
    features = get(more, cache, BF16, decide=True)
    assert len(features.rows) == 16
    assert np.array_equal(features.rows.all()[:10], expected)
    assert get(more, cache, BF16, decide=True).rows.all().shape == (16, 8)


# Stores


def test_whatever_changes_the_numbers_changes_the_store(photos, cache, monkeypatch) -> None:
    paths = photos(range(3))
    backbone = make_backbone()
    get(paths, cache, FP32, backbone)
    others: list[tuple[InferencePath, Backbone]] = [
        (FP32, make_backbone(seed=1)),
        (FP32, make_backbone(name="other")),
        (FP32, replace(backbone, input_spec=SPEC.with_resize("crop"))),
        (FP32, replace(backbone, input_spec=replace(SPEC, mean=(0.0, 0.0, 0.0)))),
        (FP32, replace(backbone, input_spec=replace(SPEC, interpolation="nearest"))),
        (replace(FP32, batch_size=2), backbone),
        (replace(FP32, layout="contiguous"), backbone),
        (BF16, backbone),
    ]
    for path, other in others:
        assert get(paths, cache, path, other).computed == 3
    assert get(paths, cache, FP32, make_backbone()).computed == 0
    for name, value in (("torch.__version__", "0.0"), ("PIL.__version__", "0.0")):
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert get(paths, cache, FP32, backbone).computed == 3
    assert get(paths, cache, replace(FP32, reason="another"), backbone).computed == 0


# Parity


def test_the_distance_is_relative_to_the_reference() -> None:
    reference = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert relative_distance(reference, reference) == 0
    assert relative_distance(reference * 1.1, reference) == pytest.approx(0.1)
    assert relative_distance(reference * 0, reference) == 1
    assert np.isfinite(relative_distance(reference, reference * 0))


def test_bf16_that_stays_near_is_kept_with_its_distance(photos, cache, work) -> None:
    paths = photos(range(10))
    features = get(paths, cache, BF16, decide=True)
    assert features.path.precision == "bf16"
    assert 0 < (features.path.parity or 0) < PARITY_LIMIT
    assert features.path.reason.startswith("native bf16 (test); ")
    assert "on 4 images" in features.path.reason
    assert (work.rows("bf16"), work.rows("fp32"), len(work.decoded)) == (10, 4, 10)
    assert features.reference is not None
    known = [source_digest(path) for path in paths[:4]]
    exact = Forward(make_backbone(), FP32)(np.concatenate([pixels(1, seed=n) for n in range(4)]))
    assert np.array_equal(features.reference.rows(known).all(), exact)


def test_bf16_that_strays_is_left_for_fp32_and_the_reason_told(photos, cache, work) -> None:
    paths = photos(range(10))
    features = get(paths, cache, BF16, straying_backbone(), decide=True)
    assert features.path == replace(FP32, parity=features.path.parity, reason=features.path.reason)
    assert (features.path.parity or 0) > PARITY_LIMIT
    assert "not within" in features.path.reason
    assert f"limit {PARITY_LIMIT}" in features.path.reason
    assert features.reference is None
    assert (features.computed, len(features.rows)) == (10, 10)
    assert [work.decoded.count(str(path)) for path in paths[:4]] == [1] * 4  # kept, in fp32
    exact = Forward(straying_backbone(), FP32)
    assert np.array_equal(features.rows.take([9]), exact(pixels(1, seed=9)))


@pytest.mark.parametrize("backbone", [make_backbone, straying_backbone])
def test_the_choice_is_remembered_and_used_again(photos, cache, work, backbone) -> None:
    paths = photos(range(6))
    first = get(paths, cache, BF16, backbone(), decide=True)
    work.forget()
    again = get(paths, Cache(cache.folder), BF16, backbone(), decide=True)
    assert again.path == first.path
    assert (again.computed, work.decoded, work.passed) == (0, [], [])
    assert np.array_equal(again.rows.all(), first.rows.all())
    more = get(paths + photos([20]), cache, BF16, backbone(), decide=True)
    assert more.path == first.path
    assert more.computed == 1


def test_the_choice_is_made_anew_for_other_weights(photos, cache) -> None:
    paths = photos(range(6))
    assert get(paths, cache, BF16, straying_backbone(), decide=True).path.precision == "fp32"
    assert get(paths, cache, BF16, make_backbone(), decide=True).path.precision == "bf16"


def test_a_choice_is_forgotten_when_the_cache_is_cleared(photos, cache, work) -> None:
    get(photos(range(2)), cache, BF16, straying_backbone(), decide=True)
    cache.clear()
    work.forget()
    get(photos(range(2)), cache, BF16, straying_backbone(), decide=True)
    assert work.rows("bf16") == 2


@pytest.mark.parametrize("path", [FP32, BF16])
@pytest.mark.parametrize("backbone", [make_backbone, straying_backbone])
def test_a_precision_that_was_asked_for_is_not_overridden(photos, cache, path, backbone) -> None:
    paths = photos(range(6))
    for _ in range(2):
        assert get(paths, cache, path, backbone()).path == path
        get(paths, cache, BF16, backbone(), decide=True)  # leaves a choice behind


def test_what_was_computed_in_fp32_before_does_not_get_in_the_way(photos, cache, work) -> None:
    paths = photos(range(6))
    exact = get(paths, cache, FP32).rows.all()
    features = get(paths, cache, BF16, decide=True)
    assert features.path.precision == "bf16"
    assert 0 < relative_distance(features.rows.all(), exact) < PARITY_LIMIT
    assert features.reference is not None
    assert features.reference.missing([source_digest(path) for path in paths]) == []


def test_the_first_batch_is_judged_even_where_it_begins_with_broken_images(photos, cache) -> None:
    paths = photos(range(6))
    paths[0].write_bytes(b"broken")
    features = get(paths, cache, BF16, straying_backbone(), decide=True)
    assert features.path.precision == "fp32"
    assert [failure.index for failure in features.failed] == [0]
    assert features.computed == 5


def test_bf16_that_was_forced_before_is_judged_all_the_same(photos, cache) -> None:
    paths = photos(range(6))
    get(paths, cache, BF16, straying_backbone())
    assert get(paths, cache, BF16, straying_backbone(), decide=True).path.precision == "fp32"
    get(paths, cache, BF16)
    features = get(paths, cache, BF16, decide=True)
    assert features.path.precision == "bf16"
    assert features.path.parity is not None


def test_a_choice_of_bf16_is_not_for_a_machine_without_it(photos, cache) -> None:
    get(photos(range(3)), cache, BF16, decide=True)
    assert get(photos(range(3)), cache, FP32, decide=True).path == FP32


def test_the_limit_is_what_decides(photos, cache, monkeypatch) -> None:
    monkeypatch.setattr(module, "PARITY_LIMIT", 1e-9)
    assert get(photos(range(3)), cache, BF16, decide=True).path.precision == "fp32"


# From pixels that are remembered, and of mirror images


def decoded(paths: Sequence[Path], cache: Cache) -> Decoded:
    return decode_all(SPEC, paths, [source_digest(path) for path in paths], cache)


def test_from_pixels_they_are_those_from_files_to_the_bit(photos, cache, work, tmp_path) -> None:
    paths = photos(range(7))
    expected = get(paths, cache).rows.all()
    other = Cache(tmp_path / "other")
    rows = decoded(paths, other).rows
    work.forget()
    found = extract(
        make_backbone(), (), [source_digest(path) for path in paths], other, FP32, pixels=rows
    )
    assert np.array_equal(found.rows.all(), expected)
    assert (found.computed, found.failed) == (7, ())
    assert work.decoded == []
    again = extract(
        make_backbone(), (), [source_digest(path) for path in paths], other, FP32, pixels=rows
    )
    assert (again.computed, again.remembered) == (0, 7)


def test_from_pixels_too_a_precision_is_decided(photos, cache, work) -> None:
    paths = photos(range(6))
    found = extract(
        straying_backbone(),
        (),
        [source_digest(path) for path in paths],
        cache,
        BF16,
        pixels=decoded(paths, cache).rows,
        decide=True,
    )
    assert found.path.precision == "fp32"


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_symmetry_is_that_of_the_pixels_and_has_rows_of_its_own(
    number, photos, cache, tmp_path
) -> None:
    paths = photos(range(5))
    plain = get(paths, cache).rows.all()
    found = get(paths, cache, symmetry=number)
    assert found.computed == 5
    assert not np.array_equal(found.rows.all(), plain)
    rows = decoded(paths, cache).rows.all()
    expected = Forward(make_backbone(), FP32)(mirrored(rows[:4], number))
    assert np.array_equal(found.rows.all()[:4], expected)
    again = get(paths, cache, symmetry=number)
    assert again.computed == 0
    assert np.array_equal(get(paths, cache).rows.all(), plain)
