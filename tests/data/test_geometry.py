from __future__ import annotations

import numpy as np
from drawn import noisy
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.geometry import rotation, warped
from headstart.data.symmetry import symmetry


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_the_identity_is_exact(height, width) -> None:
    assert np.array_equal(warped(noisy(height, width)), noisy(height, width))


def test_a_whole_shift_is_exact_and_reflects() -> None:
    pixels = noisy(16, 8)
    padded = np.pad(pixels, ((4, 0), (0, 2), (0, 0)), mode="reflect")
    assert np.array_equal(warped(pixels, shift=(2 / 8, -4 / 16)), padded[:16, 2:])


def test_a_far_shift_reflects_again_and_again() -> None:
    pixels = noisy(5, 4)
    padded = np.pad(pixels, ((0, 15), (12, 0), (0, 0)), mode="reflect")
    assert np.array_equal(warped(pixels, shift=(-3, 3)), padded[15:, :4])


def test_a_quarter_turn_and_a_mirror_image_are_the_symmetries() -> None:
    pixels = noisy(16, 16)
    assert np.array_equal(warped(pixels, ((-1, 0), (0, 1))), symmetry(pixels, 1))
    assert np.array_equal(warped(pixels, ((0, -1), (1, 0))), symmetry(pixels, 2))
    turned = warped(pixels, rotation(90)).astype(int)
    assert np.abs(turned - symmetry(pixels, 2)).max() <= 1  # cos(90 degrees) is not quite 0


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(*[st.floats(-2, 2)] * 4),
    st.tuples(*[st.floats(-2, 2)] * 2),
)
def test_what_lies_outside_is_never_black(height, width, entries, shift) -> None:
    a, b, c, d = entries
    pixels = noisy(height, width) // 2 + 100
    moved = warped(pixels, ((a, b), (c, d)), shift)
    assert moved.min() >= pixels.min() - 1
    assert moved.max() <= pixels.max()
