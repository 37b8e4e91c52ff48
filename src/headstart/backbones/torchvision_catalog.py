"""What torchvision offers: its networks, the weights of each, and how these want their images.

All classification networks are there, and the networks for segmentation and detection whose trunk
can serve as a backbone. What is said of weights is read from torchvision's own tables, without
building a network or asking a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from headstart.backbones import hub
from headstart.backbones.base import Listing
from headstart.errors import UnknownName
from headstart.inputspec import InputSpec

__all__ = ["Entry", "entries", "entry", "is_trunk", "listings", "names"]

_MEAN = (123.675, 116.28, 103.53)  # of ImageNet's pixels
_STD = (58.395, 57.12, 57.375)
_TRUNK_SIDE = 224
# Detection networks normalise inside, by ImageNet's numbers but for these two.
_DETECTION = {
    "ssd300_vgg16": ((0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0)),
    "ssdlite320_mobilenet_v3_large": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}
_LICENCES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "cc-by-nc-4.0"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A network of torchvision's and one set of its weights.

    Attributes:
        network: torchvision's name for the network: ``resnet50``.
        tag: torchvision's name for the weights: ``IMAGENET1K_V2``.
        url: Where they are downloaded from; the beginning of their SHA-256 is in the file's name.
        input_spec: What they were trained to see; for trunks, whose images came in many sizes, at
            224 pixels.
        parameters: Of the whole network, its classifier or other heads included.
        top1: Accuracy on ImageNet-1k's validation images, 0 to 1; None for trunks.
        licence: Of the weights, where torchvision names one.
    """

    network: str
    tag: str
    url: str
    input_spec: InputSpec
    parameters: int
    top1: float | None
    licence: str | None

    @property
    def name(self) -> str:
        """The name of network and weights: ``resnet50@IMAGENET1K_V2``."""
        return f"{self.network}@{self.tag}"


def names() -> list[str]:
    """Return the names of all networks, those of trunks last."""
    return [*_classifiers(), *_trunks()]


def is_trunk(network: str) -> bool:
    """Whether only the trunk of ``network`` is taken, since it does not classify."""
    return network in _trunks()


def entry(name: str) -> Entry:
    """Return the network and weights called ``name``; without a tag, the default weights.

    Raises:
        UnknownName: torchvision has no such network, or no such weights of it.
    """
    network, at, tag = name.partition("@")
    if network not in names():
        raise UnknownName("torchvision network", network, names(), field="backbone")
    known = entries(network)
    if not at:
        return known[0]
    found = [each for each in known if each.tag == tag]
    if not found:
        tags = [each.tag for each in known]
        raise UnknownName(f"set of weights for torchvision:{network}", tag, tags, field="backbone")
    return found[0]


def entries(network: str) -> list[Entry]:
    """Return the sets of weights that torchvision has for ``network``, the default first.

    Weights that leave a part of the network undefined (VGG-16's without its fully connected
    layers) do not count: ``ssd300_vgg16`` has a trunk of that kind.
    """
    from torchvision.models import get_model_weights

    known = get_model_weights(network)
    complete = [weights for weights in known if weights.meta["categories"] is not None]
    default = known.DEFAULT
    return [_entry(network, weights) for weights in sorted(complete, key=lambda w: w != default)]


def listings() -> list[Listing]:
    """List every network with each of its sets of weights, the default ones first."""
    return [
        Listing(
            name=f"torchvision:{each.name}",
            zoo="torchvision",
            parameters=each.parameters,
            input=each.input_spec.height,
            top1=each.top1,
            licence=each.licence,
            cached=hub.cached_file({"url": each.url}) is not None,
        )
        for network in names()
        for each in entries(network)
    ]


@cache
def _classifiers() -> tuple[str, ...]:
    from torchvision import models

    return tuple(models.list_models(module=models))


@cache
def _trunks() -> tuple[str, ...]:
    from torchvision import models

    return tuple(
        name
        for module in (models.segmentation, models.detection)
        for name in models.list_models(module=module)
    )


def _entry(network: str, weights: Any) -> Entry:
    meta: Mapping[str, Any] = weights.meta
    top1: float | None = meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
    licence: str | None = meta.get("license")
    return Entry(
        network=network,
        tag=weights.name,
        url=weights.url,
        input_spec=_trunk_spec(network) if is_trunk(network) else _spec(weights.transforms()),
        parameters=meta["num_params"],
        top1=None if top1 is None else round(top1 / 100, 6),
        licence=licence and _LICENCES.get(licence, licence),
    )


def _spec(transforms: Any) -> InputSpec:
    """Turn torchvision's preprocessing for classification into an input spec.

    It scales the shorter side to ``resize_size`` and cuts out the central ``crop_size``.
    """
    (side,), (scaled,) = transforms.crop_size, transforms.resize_size
    return InputSpec(
        height=side,
        width=side,
        mean=_bytes(transforms.mean),
        std=_bytes(transforms.std),
        crop_fraction=side / scaled,
        interpolation=transforms.interpolation.value,
    )


def _trunk_spec(network: str) -> InputSpec:
    mean, std = _DETECTION.get(network, (_MEAN, _STD))
    return InputSpec(_TRUNK_SIDE, _TRUNK_SIDE, mean, std, interpolation="bilinear")


def _bytes(values: list[float]) -> tuple[float, float, float]:
    first, second, third = (255 * value for value in values)
    return first, second, third
