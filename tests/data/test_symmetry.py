from __future__ import annotations

import numpy as np
import pytest
from drawn import noisy

from headstart.data.symmetry import SYMMETRIES, symmetries, symmetry
from headstart.errors import UnknownName, UsageError


def test_the_names_of_symmetries() -> None:
    assert [symmetries(name) for name in SYMMETRIES] == [(0,), (0, 1), tuple(range(8))]


def test_the_eight_symmetries_are_a_group() -> None:
    pixels = noisy(7, 7)
    images = [symmetry(pixels, number).tobytes() for number in range(8)]
    assert len(set(images)) == 8
    table = [
        [images.index(symmetry(symmetry(pixels, a), b).tobytes()) for a in range(8)]
        for b in range(8)
    ]
    assert table[0] == list(range(8))
    for line in (*table, *zip(*table, strict=True)):
        assert sorted(line) == list(range(8))  # each has an inverse


def test_symmetries_by_number() -> None:
    pixels = noisy(6, 6)
    assert np.array_equal(symmetry(pixels, 0), pixels)
    assert np.array_equal(symmetry(pixels, 1), np.fliplr(pixels))
    for turns in range(4):
        assert np.array_equal(symmetry(pixels, 2 * turns), np.rot90(pixels, turns))
        assert np.array_equal(symmetry(pixels, 2 * turns + 1), np.rot90(np.fliplr(pixels), turns))


@pytest.mark.parametrize("number", range(8))
def test_symmetries_of_many_pictures_at_once(number) -> None:
    pictures = np.stack([noisy(5, 5, seed) for seed in range(3)])
    turned = symmetry(pictures, number)
    assert turned.flags.c_contiguous
    assert not np.shares_memory(turned, pictures)
    for one, other in zip(turned, pictures, strict=True):
        assert np.array_equal(one, symmetry(other, number))


def test_only_a_square_has_eight() -> None:
    oblong = noisy(4, 6)
    assert np.array_equal(symmetry(oblong, 1), np.fliplr(oblong))
    for number in range(2, 8):
        with pytest.raises(UsageError, match="need a square input, not 4 x 6") as caught:
            symmetry(oblong, number)
        assert caught.value.field == "symmetry"
        assert "flip" in str(caught.value.hint)


@pytest.mark.parametrize("number", [-1, 8])
def test_there_is_no_ninth_symmetry(number) -> None:
    with pytest.raises(UsageError, match=rf"in 0\.\.7, not {number}.\n.*mirror image"):
        symmetry(noisy(4, 4), number)


def test_other_names_are_refused() -> None:
    with pytest.raises(UnknownName) as caught:
        symmetries("round")
    assert caught.value.field == "symmetry"
