"""Images that can be read and still may not be what they should, and sets that are mixed.

Each function turns facts into findings and reads no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from headstart.data.checks.findings import MOST_FILES, Finding
from headstart.data.checks.look import Looks
from headstart.data.items import Item
from headstart.data.read import Failure

__all__ = ["mixtures", "suspects", "suspicious"]

_MOST_NAMED = 10  # that a message names
_SMALL_SIDE = 16  # pixels; where the set's images are usually at least twice as large
_LONG = 8.0  # longer side to shorter, where the set's images are usually less than half as long
_ONE_COLOUR = 1.0  # standard deviation in grey levels: what encoders leave of a flat colour
_DARK = (8.0, 4.0)  # at most this mean, and this standard deviation: nothing was exposed
_MIXED = 4.0  # largest shorter side to smallest, from here on worth a note
_GREY = ("1", "L", "LA", "La", "I", "F")


def suspects(looks: Looks) -> tuple[Failure, ...]:
    """Return the readable images that are suspicious, with a reason; ``index`` is the row.

    What all images of a set are (tiny, or long) is not suspicious in one.
    """
    width, height = looks.facts.width, looks.facts.height
    if not len(width):
        return ()
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    length = longer / shorter
    tiny = (shorter < _SMALL_SIDE) & (np.median(shorter) >= 2 * _SMALL_SIDE)
    long = (length >= _LONG) & (np.median(length) < _LONG / 2)
    flat = looks.contrast < _ONE_COLOUR
    black = (looks.brightness < _DARK[0]) & (looks.contrast < _DARK[1])
    white = (looks.brightness > 255 - _DARK[0]) & (looks.contrast < _DARK[1])
    found = []
    for index in np.flatnonzero(tiny | long | flat | black | white):
        reasons = (
            (black, "all but black"),
            (white, "all but white"),
            (flat & ~black & ~white, "one colour"),
            (tiny | long, f"{width[index]} x {height[index]} pixels"),
        )
        reason = ", ".join(text for which, text in reasons if which[index])
        found.append(Failure(looks.items[index].name, reason, int(index)))
    return tuple(found)


def suspicious(suspected: Sequence[Failure], n_total: int) -> Iterator[Finding]:
    """Yield one finding that lists suspicious images with reasons, if there are any."""
    if suspected:
        listed = [f"{one.name}: {one.reason}" for one in suspected[:_MOST_NAMED]]
        listed += ["…"] if len(suspected) > _MOST_NAMED else []
        message = f"{len(suspected)} of {n_total} images may show nothing: {'; '.join(listed)}."
        names = tuple(one.name for one in suspected[:MOST_FILES])
        yield Finding("suspicious", "warning", names, message, "Look at them; fit uses them.")


def mixtures(looks: Looks) -> Iterator[Finding]:
    """Yield notes about images of very different sizes, and about grey among coloured ones."""
    if not looks.items:
        return
    width, height = looks.facts.width, looks.facts.height
    shorter = np.minimum(width, height)
    small, large = int(shorter.argmin()), int(shorter.argmax())
    if shorter[large] >= _MIXED * shorter[small]:
        ((usual, n_usual),) = Counter(zip(width, height, strict=True)).most_common(1)
        message = (
            f"Sizes from {width[small]} x {height[small]} to {width[large]} x {height[large]}; "
            f"the most frequent is {usual[0]} x {usual[1]} ({n_usual} of {len(looks.items)})."
        )
        names = (looks.items[small].name, looks.items[large].name)
        yield Finding("sizes", "note", names, message, "All are resized to one size.")
    grey = np.array([mode.startswith(_GREY) for mode in looks.facts.mode])
    if grey.any() and not grey.all():
        few = grey if grey.mean() <= 0.5 else ~grey
        modes = ", ".join(f"{n} {mode}" for mode, n in Counter(looks.facts.mode).most_common())
        message = f"Grey and coloured images are mixed: {modes}."
        yield Finding("modes", "note", _names(looks.items, few), message, "All are read as RGB.")


def _names(
    items: Sequence[Item], which: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[str, ...]:
    return tuple(items[index].name for index in np.flatnonzero(which)[:MOST_FILES])
