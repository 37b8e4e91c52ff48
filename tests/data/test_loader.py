from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.data import loader
from headstart.data.loader import Batch, default_workers, in_threads, load
from headstart.data.read import REPLACED, Failure, decode, source_digest
from headstart.data.transforms import resize
from headstart.errors import UsageError
from headstart.inputspec import InputSpec

SPEC = InputSpec(6, 8, (127.5,) * 3, (127.5,) * 3)


def threads() -> int:
    return sum(thread.name.startswith("headstart-read") for thread in threading.enumerate())


def grey(value: int) -> np.ndarray:
    return np.full((9, 9), value, np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.integers(1, 9), st.integers(1, 4))
def test_every_image_comes_exactly_once_and_in_order(n, broken, batch_size, workers) -> None:
    sources = [Path("missing") if i in broken else grey(i) for i in range(n)]
    results = list(load(sources, SPEC, batch_size, workers=workers))
    batches = [result for result in results if isinstance(result, Batch)]
    failures = [result for result in results if isinstance(result, Failure)]
    broken = {index for index in broken if index < n}
    assert [failure.index for failure in failures] == sorted(broken)
    assert {(f.name, f.reason) for f in failures} <= {("missing", "no such file")}
    assert [i for b in batches for i in b.indices] == sorted(set(range(n)) - broken)
    assert all(len(batch.indices) == batch_size for batch in batches[:-1])
    for batch in batches:
        assert 1 <= len(batch.indices) <= batch_size
        assert batch.pixels.shape == (len(batch.indices), 6, 8, 3)
        assert (batch.pixels == batch.indices[:, None, None, None]).all()


def test_pixels_are_those_of_decode_and_resize(tree, noise) -> None:
    root = tree({"1.png": 1, "2.png": 2})
    sources = [str(root / "1.png"), root / "2.png", noise(3), np.asarray(noise(4))]
    (batch,) = load(sources, SPEC, 4)
    for source, pixels in zip(sources, batch.pixels, strict=True):
        assert np.array_equal(pixels, resize(decode(source), SPEC))


def test_a_cut_file_becomes_a_failure_with_its_reason(tree, noise, encoded) -> None:
    root = tree({"1.png": 1, "cut.png": encoded(noise(2, 90, 90))[:900], "3.png": 3})
    results = list(load(sorted(root.iterdir()), SPEC, 1))
    assert results[2] == Failure(str(root / "cut.png"), "cut short", 2)
    assert [list(result.indices) for result in results[:2]] == [[0], [1]]


def test_a_file_that_became_another_is_not_taken_for_the_old_one(tree, noise) -> None:
    root = tree({"1.png": 1, "2.png": 2, "3.png": 3, "4.png": 4})
    paths = sorted(root.iterdir())
    digests = [source_digest(path) for path in paths]
    noise(9).save(paths[1])
    paths[3].unlink()
    sources = [*paths, noise(5)]
    *failures, batch = load(sources, SPEC, 5, digests=[*digests, "not looked at in memory"])
    assert failures == [
        Failure(str(paths[1]), REPLACED, 1, lasting=False),
        Failure(str(paths[3]), "no such file", 3, lasting=False),
    ]
    assert batch.indices.tolist() == [0, 2, 4]


def test_what_waits_is_bounded(monkeypatch) -> None:
    started = []
    monkeypatch.setattr(loader, "decode", lambda source, **_: started.append(1) or source)
    monkeypatch.setattr(loader, "resize", lambda image, spec: np.zeros((6, 8, 3), np.uint8))
    batches = load([grey(0)] * 1000, SPEC, 10, workers=2)
    for taken in range(1, 20):
        next(batches)
        assert len(started) <= 10 * taken + 10 + 2 * 2 + 1
    batches.close()


def test_threads_end_with_the_iterator() -> None:
    before = threads()
    batches = load([grey(0)] * 500, SPEC, 10, workers=3)
    assert threads() == before
    next(batches)
    assert before < threads() <= before + 3
    batches.close()
    assert threads() == before
    batches = load([grey(0)] * 500, SPEC, 10, workers=3)
    next(batches)
    del batches
    assert threads() == before
    assert len(list(load([grey(0)] * 50, SPEC, 10, workers=3))) == 5
    assert threads() == before


def test_an_error_of_the_caller_is_raised_and_ends_the_threads() -> None:
    before = threads()
    sources = [grey(0)] * 20 + [np.zeros((3, 3), np.float32)] + [grey(0)] * 400
    with pytest.raises(UsageError, match="must be uint8"):
        list(load(sources, SPEC, 8, workers=2))
    assert threads() == before


@pytest.mark.parametrize("call", [{"batch_size": 0}, {"batch_size": 4, "workers": 0}])
def test_impossible_numbers_are_refused_at_once(call) -> None:
    with pytest.raises(UsageError, match=r"must be at least 1.*not 0.\n.* usual"):
        load([grey(0)], SPEC, **call)


def test_the_number_of_threads_is_that_of_the_cores_up_to_eight(monkeypatch) -> None:
    for cores, expected in ((1, 1), (6, 6), (64, 8), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert default_workers() == expected


def test_results_keep_their_order_whatever_the_threads_do() -> None:
    gate = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            gate.wait(10)
        elif number == 3:
            gate.set()
        return number * number

    assert list(in_threads(work, range(9), 2)) == [n * n for n in range(9)]


def test_large_photos_are_decoded_at_a_reduced_scale_if_the_spec_says_so(
    tmp_path: Path, noise, monkeypatch
) -> None:
    noise(0, 96, 64).resize((960, 640)).save(tmp_path / "x.jpg", quality=95)
    decoded = []
    plain = loader.resize
    monkeypatch.setattr(
        loader, "resize", lambda image, spec: decoded.append(image.size) or plain(image, spec)
    )
    fields = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_fraction": 1.0}
    exact, scaled = (
        next(load([tmp_path / "x.jpg"], InputSpec(64, 64, decode=rule, **fields), 1)).pixels
        for rule in ("exact", "scaled")
    )
    assert decoded == [(960, 640), (240, 160)]
    assert np.abs(exact.astype(int) - scaled).mean() < 3


def test_the_image_of_a_user_may_be_any(noise) -> None:
    sources = [noise(0, mode="RGBA"), Image.new("I;16", (5, 5), 65535), Image.new("1", (5, 5), 1)]
    (batch,) = load(sources, SPEC, 3)
    assert (batch.pixels[1:] == 255).all()
