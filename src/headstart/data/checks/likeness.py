"""Whether two pictures are one: the same but for encoding, size, exposure, a flip or a small crop.

Perceptual hashes alone are far too broad where all pictures are alike (solar cells, circuit
boards): there the next cell is nearer than a copy is to its original. So two pictures are laid on
each other and what is left of their difference is looked at *where it is largest*: a copy differs
a little everywhere, by what its encoder lost; another picture differs somewhere by far more. The
difference is averaged over windows of several sizes, because encoders leave fine noise, which
averages out, and other pictures leave stains, which don't.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["COPY", "LARGEST_SIDE", "Thumbnail", "difference", "is_copy", "thumbnail"]

Grey = npt.NDArray[np.float32]

# Re-encoded, resized and flipped photos are at most 0.7 (one of 480 planted: 1.02); the two solar
# cells that are most alike are 0.95 apart, the two photos of a series 2.5.
COPY = 0.9
LARGEST_SIDE = 96  # pixels; pictures are compared as squares of at most this side
_SMALLEST_SIDE = 16
# Of the picture's own side, so that each is smoothed, the one at full size too. At 2/3 fur that was
# shrunk with a sharp filter was up to 1.6 from its original; at 1/2 watermarks were lost.
_SHARE = 0.55
_SMALL_SHARE, _SMALL_SIDE = 2 / 3, 48  # small pictures have no detail to give away
_COARSE = 16  # side at which the eight symmetries are told apart
_WINDOWS = {3: 14.0, 5: 6.5, 9: 3.2, 17: 1.8}  # side of the window: grey levels borne, of 255
_ALIKE = 0.8  # correlation at the coarse side below which no crop is looked for
_SCREENED = 24  # side at which a pair is asked whether a crop may be all that differs
_EXPLAINED = 0.7  # of the difference must be left by one step of a crop, or less
_SMALL = 32  # side at which a crop is looked for at first
_PROMISING = 2.5  # difference at that side above which it is not looked for any more closely
_USUAL_CUT = 0.06  # scale or shift of a crop of 5 %, with a margin
_ROUNDS = 12  # of the alignment
_MOST_CUT = 0.21  # scale or shift, in half sides: crops of a sixth of a side at most
_USUAL = 50.0  # standard deviation of a photo, in grey levels; more contrast, more loss
_FLAT = 4.0  # standard deviation in grey levels below which a picture shows nothing to compare
_SYMMETRIES = tuple(product((False, True), repeat=3))


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture squashed to a grey square.

    Attributes:
        pixels: (S, S) float32 within 0..255; S is at most :data:`LARGEST_SIDE`.
    """

    pixels: Grey


def thumbnail(picture: Image.Image) -> Thumbnail:
    """Squash an upright picture to a grey square, no larger than its shorter side."""
    own = min(picture.size)
    side = max(round(_SHARE * own), min(round(_SMALL_SHARE * own), _SMALL_SIDE))
    side = max(_SMALLEST_SIDE, min(side, LARGEST_SIDE))
    grey = picture.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return Thumbnail(np.asarray(grey, np.float32))


def is_copy(first: Thumbnail, second: Thumbnail) -> bool:
    """Tell whether two pictures are one; the same whichever comes first."""
    return difference(first, second) <= COPY


def difference(first: Thumbnail, second: Thumbnail) -> float:
    """Measure how far two pictures are from being one.

    Of the eight symmetries of the square the best is taken, exposure is fitted (a gain and an
    offset, with what is clipped), and where the pictures then still differ, a crop: a scale and a
    shift of each axis, found by Gauss-Newton steps (Lucas and Kanade 1981). What is borne grows
    with the square root of the contrast.

    Returns:
        The largest mean difference in any window, in units of the most that re-encoding is known
        to leave in a window of that size; copies are at most :data:`COPY`. Infinite where there is
        nothing to compare.
    """
    if first.pixels.std() < _FLAT or second.pixels.std() < _FLAT:
        return math.inf
    side = min(first.pixels.shape[0], second.pixels.shape[0])
    a, b = _resized(first.pixels, side), _resized(second.pixels, side)
    likeness, b = _turned(a, b)
    everywhere = np.ones(a.shape, np.bool_)
    found = _largest(a, b, everywhere)
    if found > COPY and likeness > _ALIKE and _may_be_cropped(a, b):
        found = min(found, _cropped(a, b))
    return found


def _may_be_cropped(a: Grey, b: Grey) -> bool:
    """Tell whether one linear step of a crop explains much of what differs, on small pictures.

    It spares most pairs the search: of crops of 5 % all but a few keep less than 0.6 of their
    difference, of other pairs one in twenty keeps less than 0.75.
    """
    a, b = _resized(a, _SCREENED), _resized(b, _SCREENED)
    slopes = _slopes((a + b) * np.float32(0.5))
    left = (a - b).ravel()
    exposed = left - slopes[:, 4:] @ _least_squares(slopes[:, 4:], left)
    cropped = left - slopes @ _least_squares(slopes, left)
    return bool(np.linalg.norm(cropped) < _EXPLAINED * np.linalg.norm(exposed))


def _cropped(a: Grey, b: Grey) -> float:
    """Measure the difference after one picture is scaled and shifted to lie on the other.

    Both ways count, since two spots of different sizes fit one way; and the more a crop would
    have cut away, the better it must fit.
    """
    small_a, small_b = _resized(a, _SMALL), _resized(b, _SMALL)
    forth, moves = _laid_on(small_a, small_b, np.zeros(4))
    back, moves_back = _laid_on(small_b, small_a, np.zeros(4))
    if max(forth, back) > _PROMISING:
        return math.inf
    forth, moves = _laid_on(a, b, moves)
    back, moves_back = _laid_on(b, a, moves_back)
    cut = float(min(np.abs(moves).max(), np.abs(moves_back).max()))
    return math.sqrt(forth * back) * (1 + 2 * max(0.0, cut - _USUAL_CUT))


def _laid_on(
    a: Grey, b: Grey, moves: npt.NDArray[np.float64]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the difference after ``b`` is scaled and shifted, and how it was."""
    moves = _aligned(a, b, moves)
    if np.abs(moves).max() > _MOST_CUT:
        return math.inf, moves
    moved, inside = _moved(b, moves)
    return _largest(a, moved, inside), moves


def _aligned(a: Grey, b: Grey, moves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Improve the scale and shift, as (scale x - 1, scale y - 1, shift x, shift y).

    Lengths are in half sides of the picture. The gradient is ``a``'s, in every round the same, so
    that the normal equations are solved once.
    """
    slopes = _slopes(a)
    scale = np.sqrt((slopes**2).sum(0)) + 1e-6
    solve = np.linalg.pinv(slopes / scale, rcond=1e-4) / scale[:, None]
    for _ in range(_ROUNDS):
        moved, inside = _moved(b, moves)
        if np.abs(moves).max() > _MOST_CUT or inside.mean() < 0.5:
            break
        gain, offset = _exposure(a[inside], moved[inside])
        step = solve @ np.where(inside, a - gain * moved - offset, 0).ravel()
        moves = moves + step[:4].clip(-0.05, 0.05)
        if np.abs(step[:4]).max() < 1e-4:
            break
    return moves


def _slopes(a: Grey) -> Grey:
    """Return (S * S, 6): how each pixel changes with the two scales, two shifts, gain, offset."""
    side = a.shape[0]
    x, y = np.meshgrid(*(2 * [(np.arange(side) + 0.5) * 2 / side - 1]))
    down, right = (slope * side / 2 for slope in np.gradient(a))
    columns = np.stack([right * x, down * y, right, down, a, np.ones_like(a)], -1)
    return columns.reshape(-1, 6).astype(np.float32)


def _least_squares(columns: Grey, values: Grey) -> Grey:
    scale = np.sqrt((columns**2).sum(0)) + 1e-6
    scaled = (columns / scale).astype(np.float64)
    normal = scaled.T @ scaled + 1e-4 * np.eye(scaled.shape[1])
    solved: Grey = (np.linalg.solve(normal, scaled.T @ values) / scale).astype(np.float32)
    return solved


def _moved(b: Grey, moves: npt.NDArray[np.float64]) -> tuple[Grey, npt.NDArray[np.bool_]]:
    """Return ``b`` scaled and shifted, and where that lies inside of it."""
    side = b.shape[0]
    scales, shifts = 1 + moves[:2], moves[2:]
    (sx, sy), (cx, cy) = scales, (shifts + 1 - scales) * side / 2
    image = Image.fromarray(b).transform(
        (side, side), Image.Transform.AFFINE, (sx, 0, cx, 0, sy, cy), Image.Resampling.BILINEAR
    )
    centres = (np.arange(side) + 0.5) * 2 / side - 1
    within = np.abs(centres[:, None] * scales + shifts) < 1 - 1 / side  # (S, 2)
    return np.asarray(image), within[:, 1:] & within[:, 0]


def _largest(a: Grey, b: Grey, inside: npt.NDArray[np.bool_]) -> float:
    """Return the largest mean difference in any window, in units of what is borne."""
    gain, offset = _exposure(a[inside], b[inside])
    if not 0.3 < gain < 3:
        return math.inf
    # What one picture's exposure clipped is clipped in the other before they are compared, at a
    # contrast between the two, so that it does not matter which is the other.
    forth = (a - (gain * b + offset).clip(0, 255)) / math.sqrt(gain)
    back = (((a - offset) / gain).clip(0, 255) - b) * math.sqrt(gain)
    left = np.where(inside, forth if np.abs(forth).mean() < np.abs(back).mean() else back, 0)
    contrast = max(math.sqrt(float(a[inside].std()) * float(b[inside].std())), 1.0)
    sums = np.pad(left, ((1, 0), (1, 0))).cumsum(0, np.float64).cumsum(1)
    found = 0.0
    for window, borne in _WINDOWS.items():
        total = (
            sums[window:, window:]
            - sums[:-window, window:]
            - sums[window:, :-window]
            + sums[:-window, :-window]
        )
        if total.size:
            found = max(found, float(np.abs(total).max()) / window**2 / borne)
    return found / math.sqrt(contrast / _USUAL)


def _exposure(a: Grey, b: Grey) -> tuple[float, float]:
    """Fit ``a = gain * b + offset`` where neither is clipped, if that is enough of the picture."""
    open_ = (np.minimum(a, b) > 4) & (np.maximum(a, b) < 251)
    if open_.mean() > 0.2:
        a, b = a[open_], b[open_]
    gain = float(a.std()) / max(float(b.std()), 1e-6)
    return gain, float(a.mean() - gain * b.mean())


def _turned(a: Grey, b: Grey) -> tuple[float, Grey]:
    """Return how alike the pictures are, coarsely, and ``b`` in the symmetry most like ``a``."""
    coarse_a, coarse_b = (_normal(_resized(grey, _COARSE)) for grey in (a, b))
    found = [float((coarse_a * _symmetric(coarse_b, *turn)).sum()) for turn in _SYMMETRIES]
    best = int(np.argmax(found))
    return found[best], np.ascontiguousarray(_symmetric(b, *_SYMMETRIES[best]))


def _symmetric(grey: Grey, transpose: bool, left_right: bool, up_down: bool) -> Grey:
    grey = grey.T if transpose else grey
    grey = grey[:, ::-1] if left_right else grey
    return grey[::-1] if up_down else grey


def _normal(grey: Grey) -> Grey:
    centred = grey - grey.mean()
    normal: Grey = centred / np.float32(max(float(np.linalg.norm(centred)), 1e-6))
    return normal


def _resized(grey: Grey, side: int) -> Grey:
    if grey.shape[0] == side:
        return grey
    size = (side, side)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR), np.float32)
