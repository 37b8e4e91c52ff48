"""The classifier of an earlier run as a source of weights: transfer from one's own network.

::

    model/
      headstart.json      which network it is, and how it wants its images
      model.safetensors   its tensors, those of the head among them
      MANIFEST.json       sha256 of each

Nothing here loads torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import ModelError, UsageError
from headstart.files import file_digest, read_json

__all__ = ["Earlier", "find_earlier"]

_BUNDLED = "efficientnet_lite"  # and a number: timm's tf_efficientnet_lite
_MANIFEST, _DOCUMENT, _TENSORS = "MANIFEST.json", "headstart.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A classifier's folder, found whole.

    Attributes:
        file: Its tensors.
        backbone: ``zoo:name`` of its network.
        architecture: What ``zoo.rebuild`` makes the network from.
        licence: Of the weights that the run started from, or None.
    """

    file: Path
    backbone: str
    architecture: dict[str, Any]
    licence: str | None

    def check_name(self, name: str) -> None:
        """Refuse a name that is another network's; the tag of its weights does not count.

        Networks of two zoos are two networks, though they have the same name and tensors: each zoo
        has its own preprocessing, inside and before the network.

        Raises:
            UsageError: ``name`` is another network.
        """
        if _network(name) != _network(self.backbone):
            raise UsageError(
                f"{self.file.parent} holds a classifier on {self.backbone}, not on {name}.",
                field="backbone",
                hint=f"Leave --backbone away, or give --backbone {self.backbone}.",
            )


def find_earlier(location: Path) -> Earlier:
    """Find the classifier in a run folder or a model folder, and check that it is whole.

    Raises:
        ModelError: There is none, or a file is missing or was changed.
    """
    folder = next((f for f in (location / "model", location) if (f / _MANIFEST).is_file()), None)
    if folder is None:
        raise ModelError(
            f"{location} is a folder without a finished classifier of headstart's.",
            field="weights",
            hint="Give a file of weights, or the folder of a finished run or the model/ in it.",
        )
    files = read_json(folder / _MANIFEST)
    digests = files.get("files") if isinstance(files, dict) else None
    for name in (_DOCUMENT, _TENSORS):
        path = folder / name
        expected = digests.get(name) if isinstance(digests, dict) else None
        if not path.is_file() or file_digest(path) != expected:
            raise ModelError(
                f"{path} is missing, or was changed since it was written: its sha256 is not the "
                "manifest's.",
                field="weights",
                hint="Copy the folder again from where it was made, or fit again.",
            )
    return _described(folder, read_json(folder / _DOCUMENT))


def _described(folder: Path, document: Any) -> Earlier:
    try:
        made, licence = document["architecture"], document["origin"]["licence"]
        zoo, name, architecture = made["zoo"], made["name"], made["architecture"]
        for value in (zoo, name, architecture, "" if licence is None else licence):
            if not isinstance(value, str):
                raise TypeError(f"{value!r} is no name")
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{folder / _DOCUMENT} does not say which network the classifier has: {error!r}.",
            field="weights",
            hint="Give its model.safetensors with --weights, and its network with --backbone.",
        ) from error
    return Earlier(folder / _TENSORS, f"{zoo}:{name}", made, licence)


def _network(name: str) -> str:
    """Return ``zoo:name`` without the tag of weights; bundled networks are timm's."""
    zoo, _, inner = name.partition(":")
    network = re.split("[.@]", inner)[0]
    if zoo == "bundled" and network.startswith(_BUNDLED):
        return f"timm:tf_{network}"
    return f"{zoo}:{network}"
