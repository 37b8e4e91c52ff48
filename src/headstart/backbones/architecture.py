"""The plain JSON that a network can be made from again, and what may stand in it.

Such a document lies in every run's folder, so anybody can have written it: its numbers are bounded
before a network of that many classes, or for images of that size, is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstart.backbones.base import Request
from headstart.errors import ModelError

__all__ = ["MOST_PIXELS", "check_keys", "check_numbers", "check_side", "from_earlier"]

MOST_PIXELS = 4096  # along one side; a vision transformer compares all its patches with each other
_MOST_CLASSES = 100_000  # ImageNet-22k and the largest lists of species have a quarter of that
_KEYS = ("zoo", "name", "architecture", "num_classes", "arguments")
_PAIRS = ("img_size", "input_size")  # arguments that are [height, width]
_SIDE = "image_size"


def check_keys(architecture: Mapping[str, Any]) -> None:
    """Check that nothing is missing of the description of a network.

    Raises:
        ModelError: Something is.
    """
    missing = sorted(set(_KEYS) - architecture.keys())
    if missing:
        raise ModelError(f"The description of the network lacks {', '.join(missing)}.")


def check_numbers(architecture: Mapping[str, Any]) -> None:
    """Check the number of classes and all sides of images in the description of a network.

    Raises:
        ModelError: One is missing, no whole number, or not between its bounds.
    """
    classes, arguments = architecture.get("num_classes"), architecture.get("arguments")
    if type(classes) is not int or not 0 <= classes <= _MOST_CLASSES:
        raise ModelError(
            f"A network must have from 0 to {_MOST_CLASSES:,} classes, not {classes!r}.",
            field="num_classes",
        )
    if not isinstance(arguments, Mapping):
        raise ModelError(
            f"The arguments of a network must be an object, not {arguments!r}.", field="arguments"
        )
    for key in _PAIRS:
        pair = arguments.get(key, [1, 1])
        if not isinstance(pair, list) or len(pair) != 2:
            raise ModelError(f"{key} must be a height and a width, not {pair!r}.", field=key)
        for side in pair:
            check_side(side, key)
    check_side(arguments.get(_SIDE, 1), _SIDE)


def check_side(side: object, field: str) -> None:
    """Check a side of a network's input in pixels.

    Raises:
        ModelError: It is no whole number, or not between 1 and ``MOST_PIXELS``.
    """
    if type(side) is not int or not 1 <= side <= MOST_PIXELS:
        raise ModelError(
            f"A side of an image must have from 1 to {MOST_PIXELS:,} pixels, not {side!r}.",
            field=field,
        )


def from_earlier(described: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return what to make a network from: what the earlier run's was made from, if there is one.

    The same name can stand for several forms of a network: one that was trained from scratch has
    batch norms that learn where the pre-trained one has frozen ones. Its weights fit its own form.

    Args:
        described: What the network of that name is made from today.
        request: What the user asks for; a size of theirs is put in.

    Raises:
        ModelError: The earlier run's description lacks something, or is another network's.
    """
    earlier = request.architecture
    if earlier is None:
        return described
    check_keys(earlier)
    if earlier["architecture"] != described["architecture"]:
        raise ModelError(
            f"The description of the network calls it {earlier['name']!r}, and asks for "
            f"{earlier['architecture']!r}, which is another.",
            field="architecture",
        )
    if request.size is None:
        return dict(earlier)
    check_numbers(earlier)
    side = request.size
    sizes = {key: [side, side] for key in _PAIRS} | {_SIDE: side}
    arguments = {key: sizes.get(key, value) for key, value in earlier["arguments"].items()}
    return {**earlier, "arguments": arguments}
