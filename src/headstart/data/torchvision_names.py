"""Which of torchvision's data sets can be opened by name, and how torchvision is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SETS", "TorchvisionSet"]

_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
_VAL_AS_TEST = {"train": {"split": "train"}, "test": {"split": "val"}}
_PLACES = {"train": {"split": "train-standard"}, "test": {"split": "val"}}
_WHOLE: Mapping[str | None, Mapping[str, Any]] = {None: {}}
_NO_TEST = "Its test images have no public labels, so val serves as test."


@dataclass(frozen=True, slots=True)
class TorchvisionSet:
    """One set of one label an image.

    Attributes:
        kind: The name of torchvision's class.
        parts: The constructor's arguments for train, val and test; the part None is a set without
            a split of its own.
        further: Its arguments for all parts.
        width: Digits of a label, where torchvision gives no names: so that they sort as numbers.
        downloads: Whether torchvision can download it.
        has_download: Whether its class takes the argument ``download``.
        note: What was decided about its split.
    """

    kind: str
    parts: Mapping[Any, Mapping[str, Any]]
    further: Mapping[str, Any] = field(default_factory=dict)
    width: int = 1
    downloads: bool = True
    has_download: bool = True
    note: str | None = None


_ALL = (
    TorchvisionSet("CIFAR10", _BY_FLAG),
    TorchvisionSet("CIFAR100", _BY_FLAG),
    TorchvisionSet("CLEVRClassification", _VAL_AS_TEST, width=2, note=_NO_TEST),
    TorchvisionSet("Caltech101", _WHOLE),
    TorchvisionSet("Caltech256", _WHOLE),
    TorchvisionSet("Country211", _THREE | {"val": {"split": "valid"}}),
    TorchvisionSet("DTD", _THREE, note="This is the first of its ten splits."),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "balanced"}),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "byclass"}),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "bymerge"}),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "digits"}),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "letters"}),
    TorchvisionSet("EMNIST", _BY_FLAG, {"split": "mnist"}),
    TorchvisionSet("EuroSAT", _WHOLE),
    TorchvisionSet("FER2013", _TWO, downloads=False, has_download=False),
    TorchvisionSet("FGVCAircraft", _THREE),
    TorchvisionSet("FGVCAircraft", _THREE, {"annotation_level": "family"}),
    TorchvisionSet("FGVCAircraft", _THREE, {"annotation_level": "manufacturer"}),
    TorchvisionSet("FashionMNIST", _BY_FLAG),
    TorchvisionSet("Flowers102", _THREE),
    TorchvisionSet("Food101", _TWO),
    TorchvisionSet("GTSRB", _TWO, width=2),
    TorchvisionSet("ImageNet", _VAL_AS_TEST, downloads=False, has_download=False, note=_NO_TEST),
    TorchvisionSet("Imagenette", _VAL_AS_TEST, note="Its val serves as test."),
    TorchvisionSet("Imagenette", _VAL_AS_TEST, {"size": "160px"}, note="Its val serves as test."),
    TorchvisionSet("Imagenette", _VAL_AS_TEST, {"size": "320px"}, note="Its val serves as test."),
    TorchvisionSet("KMNIST", _BY_FLAG),
    TorchvisionSet("MNIST", _BY_FLAG),
    TorchvisionSet("OxfordIIITPet", _TWO | {"train": {"split": "trainval"}}),
    TorchvisionSet("PCAM", _THREE),
    TorchvisionSet("Places365", _PLACES, note=_NO_TEST),
    TorchvisionSet("Places365", _PLACES, {"small": True}, note=_NO_TEST),
    TorchvisionSet("QMNIST", _BY_FLAG),
    TorchvisionSet("RenderedSST2", _THREE),
    TorchvisionSet("SEMEION", _WHOLE),
    TorchvisionSet("STL10", _TWO, note="Its unlabelled images and its ten folds are left out."),
    TorchvisionSet("SUN397", _WHOLE),
    TorchvisionSet("SVHN", _TWO, note="Its extra part is left out."),
    TorchvisionSet("StanfordCars", _TWO, downloads=False),
    TorchvisionSet("USPS", _BY_FLAG),
)


def _name(known: TorchvisionSet) -> str:
    variants = ("small" if value is True else str(value) for value in known.further.values())
    return "-".join((known.kind, *variants))


SETS: Mapping[str, TorchvisionSet] = {f"torchvision:{_name(known)}": known for known in _ALL}
"""The sets by name: ``torchvision:`` and torchvision's own, with its variant after a hyphen."""
