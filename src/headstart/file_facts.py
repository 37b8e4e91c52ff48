"""What is known of images besides what they show: size, format, light, camera, name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headstart.data.checks.facts import Facts

__all__ = ["Fact", "Seen", "header_facts", "light_facts", "name_facts"]

Seen = Literal["seen", "traces", "unseen"]


@dataclass(frozen=True)
class Fact:
    """Something known of each of N images.

    Attributes:
        name: In words, as "image width".
        values: (N,) numbers, or N words.
        seen: Whether a network can see it: ``seen`` in the pixels it is given (brightness,
            shape), in ``traces`` (size: a small picture is enlarged and looks soft), or
            ``unseen`` (the name).
        habit: Whether it is only how files are named.
    """

    name: str
    values: npt.NDArray[Any] | Sequence[str]
    seen: Seen
    habit: bool = False

    def at(self, rows: npt.NDArray[np.int64]) -> Fact:
        """Return the fact of some of the images."""
        if isinstance(self.values, np.ndarray):
            return replace(self, values=self.values[rows])
        return replace(self, values=[self.values[row] for row in rows])


def header_facts(facts: Facts) -> tuple[Fact, ...]:
    """Turn what headers say into facts to try; width and height are those of upright pictures.

    Args:
        facts: Columns of N images.
    """
    width, height = _upright(facts)
    pixels = width.astype(np.float64) * height
    return (
        Fact("image width", width, "traces"),
        Fact("image height", height, "traces"),
        Fact("the ratio of width to height", width / np.maximum(height, 1), "seen"),
        Fact("compression (bytes a pixel)", facts.bytes / np.maximum(pixels, 1), "seen"),
        Fact("the file format", facts.format, "traces"),
        Fact("the colour mode", facts.mode, "seen"),
        Fact("the camera", facts.camera, "unseen"),
        Fact("having an EXIF block", facts.exif.astype(np.int64), "unseen"),
    )


def light_facts(
    brightness: npt.NDArray[np.float32], contrast: npt.NDArray[np.float32]
) -> tuple[Fact, ...]:
    """Return brightness and contrast of N images as facts to try."""
    return Fact("brightness", brightness, "seen"), Fact("contrast", contrast, "seen")


def name_facts(names: Sequence[str]) -> tuple[Fact, ...]:
    """Take file names apart, their folders left away, since those are the labels for the most part.

    Args:
        names: N item names, with forward slashes.
    """
    files = [name.rpartition("/")[2] for name in names]
    stems = [file.rpartition(".")[0] or file for file in files]
    digits = [max(map(len, re.findall(r"[0-9]+", stem)), default=0) for stem in stems]
    words = [re.split(r"[0-9]", stem, maxsplit=1)[0].strip(" _-.").casefold() for stem in stems]
    endings = [file.rpartition(".")[2].casefold() if "." in file else "" for file in files]
    return (
        Fact("the file name's ending", endings, "unseen", habit=True),
        Fact("the number of digits in the file name", np.array(digits), "unseen", habit=True),
        Fact("the word a file name begins with", words, "unseen", habit=True),
    )


def _upright(facts: Facts) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return width and height as a network meets them: phones store a tall picture on its side."""
    width = np.where(facts.turned, facts.height, facts.width)
    return width, np.where(facts.turned, facts.width, facts.height)
