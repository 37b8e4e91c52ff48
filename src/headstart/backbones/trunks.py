"""torchvision's networks, built without weights, and the trunks of those that do not classify.

A trunk is what a network for segmentation or detection computes before its own layers begin, with
the mean over all positions after it. Its parameters keep the names they have in the whole network,
so that weights of the whole fit the trunk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from headstart.backbones.architecture import check_numbers
from headstart.backbones.torchvision_catalog import is_trunk, names
from headstart.errors import ModelError

__all__ = ["CONVERTING", "Trunk", "arguments_of", "classifier_of", "new_network", "stages_of"]

# Their weights were trained on pixels in -1..1: the networks convert what ImageNet's mean and std
# make of pixels themselves. They have more classifiers, for training alone.
CONVERTING = ("googlenet", "inception_v3")
# In these, COCO's weights were trained, and are used, with the statistics of batch norm frozen.
# The number is what is added to a variance: torchvision sets it to 0 where weights are older.
_FROZEN = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": 1e-5,
    "fasterrcnn_mobilenet_v3_large_fpn": 1e-5,
    "fasterrcnn_resnet50_fpn": 0.0,
    "fcos_resnet50_fpn": 1e-5,
    "keypointrcnn_resnet50_fpn": 0.0,
    "maskrcnn_resnet50_fpn": 0.0,
    "retinanet_resnet50_fpn": 0.0,
}
_EPSILONS = (0.0, 1e-5)
# The containers of a network's main row; each child of it is a stage.
_ROWS = (
    *("backbone.body", "backbone.features.0", "backbone.features.1", "backbone"),
    *("features", "trunk_output", "blocks", "layers", "encoder.layers"),
)
_BY_POOLING = ("alexnet", "vgg", "ssd300_vgg")  # what lies between two poolings is a stage
_ALLOWED = {"image_size", "input_size", "frozen_epsilon"}


class Trunk(nn.Module):
    """Images (B, 3, H, W) -> features (B, C): a trunk, and the mean over all positions."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the trunk and take the mean of each channel."""
        features: torch.Tensor = self.backbone(images).mean((2, 3))
        return features


class _Layers(nn.Module):
    """MNASNet's forward without its class.

    The class refuses weights without a version number, which only a pickle keeps.
    """

    def __init__(self, layers: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the layers, take the mean of each channel, and classify."""
        scores: torch.Tensor = self.classifier(self.layers(images).mean([2, 3]))
        return scores


def arguments_of(network: str, tag: str, side: int, *, random: bool = False) -> dict[str, Any]:
    """Return what ``new_network`` must be told, beside the name, to fit weights.

    Args:
        network: torchvision's name for it.
        tag: torchvision's name for the weights.
        side: Side of its input in pixels; few networks want to know it.
        random: Whether its weights are random instead, so that no statistics can be frozen.
    """
    if network.startswith("vit_"):
        return {"image_size": side}
    if network.startswith("maxvit_"):
        return {"input_size": [side, side]}
    if network in _FROZEN and not random:
        return {"frozen_epsilon": 1e-5 if tag == "COCO_LEGACY" else _FROZEN[network]}
    return {}


def new_network(architecture: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Make a network of torchvision's with its classifier, or a trunk, with random weights.

    Args:
        architecture: As ``from_torchvision.describe`` gave it.
        seed: Of the weights. No global random number is drawn.

    Raises:
        ModelError: ``architecture`` is not one that ``describe`` gave, or torchvision can't make
            the network for images of that size (field ``size``).
    """
    check_numbers(architecture)
    try:
        name, arguments = architecture["architecture"], dict(architecture["arguments"])
        # The description may come from a file: nothing but a listed name is to be made.
        if name not in names() or not _are_plain(arguments):
            raise ModelError(f"torchvision has no network {name!r} with {arguments}.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if is_trunk(name):
                return _trunk(name, **arguments)
            return _classification(name, architecture["num_classes"], arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"Not the description of a network: {error}.") from error


def classifier_of(network: nn.Module) -> str | None:
    """Return the dotted name of the last layer with a weight matrix; None for a trunk.

    In each of torchvision's classification networks that is the classifier, and all of it.
    """
    if isinstance(network, Trunk):
        return None
    layers: list[str] = [
        name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    return layers[-1]


def stages_of(name: str, network: nn.Module) -> dict[str, int]:
    """Number the stages of ``network``: for each parameter, ascending from input to output.

    A stage is a child of the network's main row, or of the network where it has none; what comes
    before the row is the stem, and a normalisation belongs to what it follows. In VGG and AlexNet a
    stage is what lies between two poolings.
    """
    if name.startswith(_BY_POOLING):
        return _between_poolings(network)
    sizes = {name: parameter.squeeze().ndim for name, parameter in network.named_parameters()}
    rows = [row for row in _ROWS if any(each.startswith(f"{row}.") for each in sizes)]
    if "backbone.features.0" in rows or "backbone.body" in rows:
        rows.remove("backbone")
    heavy = {_unit(name, rows) for name, dimensions in sizes.items() if dimensions > 1}
    order: dict[str, int] = {}
    unit = ""
    for each in sizes:
        own = _unit(each, rows)
        unit = own if own in heavy or not unit else unit
        order.setdefault(unit, len(order))
        sizes[each] = order[unit]
    return sizes


def _unit(name: str, rows: list[str]) -> str:
    """What a parameter belongs to: a child of a row, the stem before it, or a child beside it."""
    for row in rows:
        if name.startswith(f"{row}."):
            return f"{row}.{name.removeprefix(f'{row}.').partition('.')[0]}"
    top = name.partition(".")[0]
    before_row = rows and top in ("stem", "class_token", "conv_proj", "encoder")
    return "stem" if before_row and not name.startswith("encoder.ln.") else top


def _between_poolings(network: nn.Module) -> dict[str, int]:
    groups: dict[str, int] = {}
    number = 0
    for name, module in network.named_modules():
        number += isinstance(module, nn.MaxPool2d)
        for own, _ in module.named_parameters(name, recurse=False):
            groups[own] = number + isinstance(module, nn.Linear)
    return groups


def _are_plain(arguments: Mapping[str, Any]) -> bool:
    """Whether these are arguments that ``arguments_of`` gave."""
    side = arguments.get("image_size", 1)
    sides = arguments.get("input_size", [1, 1])
    return (
        arguments.keys() <= _ALLOWED
        and type(side) is int
        and isinstance(sides, list)
        and [type(each) for each in sides] == [int, int]
        and arguments.get("frozen_epsilon", _EPSILONS[0]) in _EPSILONS
    )


def _classification(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    from torchvision import models

    if name in CONVERTING:
        arguments |= {"aux_logits": False, "transform_input": True, "init_weights": True}
    try:
        network: nn.Module = models.get_model(
            name, weights=None, num_classes=num_classes, **arguments
        )
    except (AssertionError, ValueError) as error:
        side = arguments.get("image_size") or arguments.get("input_size", [None])[0]
        reason = str(error).partition(". ")[0].rstrip("!.")
        raise ModelError(
            f"torchvision's {name} can't take images of {side} x {side} pixels: {reason}.",
            field="size",
        ) from error
    if isinstance(network, models.MNASNet):
        return _Layers(network.layers, network.classifier)
    return network


def _trunk(name: str, frozen_epsilon: float | None = None) -> Trunk:
    from torchvision import models

    network: Any = models.get_model(name, weights=None, weights_backbone=None)
    trunk = Trunk(_body(network.backbone)).requires_grad_(True)
    if frozen_epsilon is not None:
        _freeze_statistics(trunk, frozen_epsilon)
    return trunk


def _body(backbone: nn.Module) -> nn.Sequential:
    """The part of a trunk that is a plain row of layers, up to its smallest map of features."""
    children = dict(backbone.named_children())
    if "body" in children:  # beside a pyramid of features
        kept: dict[str, nn.Module] = {"body": _row(dict(children["body"].named_children()))}
    elif "extra" in children:  # SSD's: smaller maps, for larger boxes; the first of VGG's is fc7
        kept = {"features": children["features"]}
        if not _is_mobile(children["features"]):
            kept["extra"] = _row({"0": children["extra"].get_submodule("0")})
    else:
        kept = children
    return _row(kept)


def _row(children: Mapping[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(children))


def _is_mobile(features: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm2d) for module in features.modules())


def _freeze_statistics(network: nn.Module, epsilon: float) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            network.set_submodule(name, FrozenBatchNorm2d(module.num_features, eps=epsilon))
