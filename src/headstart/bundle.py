"""A classifier as a folder: what it is, its weights, and the digest of every file.

::

    model/
      headstart.json      the authority: architecture, task, input spec, inference path, origin
      model.safetensors   the backbone under its own names, the head under the classifier's
      config.json         timm's, where the network is one of timm's
      model.keras         the same classifier for Keras, where the network is one of Keras's
      README.md           the model card
      MANIFEST.json       sha256 of each, written last

Nothing here is a pickle, and nothing is read before its digest is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.base import Backbone
from headstart.backbones.keras_export import keras_file
from headstart.backbones.timm_export import timm_config
from headstart.data.symmetry import symmetries
from headstart.errors import ModelError, UnsafeFile, UsageError
from headstart.files import (
    check_writable,
    file_digest,
    read_json,
    write_bytes,
    write_json,
    write_text,
)
from headstart.inputspec import InputSpec
from headstart.training.device import InferencePath
from headstart.training.heads import HeadSpec, last_linear
from headstart.training.task import SingleLabel, from_dict

__all__ = ["MANIFEST", "Parts", "find", "load", "save", "verify"]

FORMAT = 1
MANIFEST = "MANIFEST.json"
_KERAS = "model.keras"
_FILES = ("headstart.json", "model.safetensors", "README.md", "config.json", _KERAS)
_COPY_AGAIN = "Copy the folder again from where it was made, or fit again."


@dataclass(frozen=True, slots=True)
class Parts:
    """What a classifier is made of.

    Attributes:
        backbone: The network without its head.
        head: (B, feature_dim) -> (B, C).
        task: What its outputs mean.
        path: The inference path it was fitted on.
        average: Over which mirror images predictions are averaged.
    """

    backbone: Backbone
    head: nn.Module
    task: SingleLabel
    path: InferencePath
    average: str = "none"


def save(folder: Path, parts: Parts, *, card: str) -> None:
    """Write a classifier; the manifest last.

    Args:
        folder: Created if need be; files of the same names are replaced.
        parts: The classifier.
        card: The model card, Markdown.
    """
    from headstart import __version__

    folder = Path(folder)
    check_writable(folder)
    _refuse_foreign(folder)
    backbone, task, form = parts.backbone, parts.task, HeadSpec.of(parts.head)
    document = {
        "format": FORMAT,
        "headstart": __version__,
        "task": task.to_dict(),
        "architecture": backbone.architecture,
        "input_spec": backbone.input_spec.to_dict(),
        "feature_dim": backbone.feature_dim,
        "head": {"kind": form.text, "name": head_name(backbone, form)},
        "path": parts.path.to_dict(),
        "average": parts.average,
        "origin": {
            "backbone": backbone.full_name,
            "weights": backbone.weights,
            "weights_digest": backbone.digest(),
            "licence": backbone.licence,
        },
    }
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / "headstart.json", document)
    write_bytes(folder / "model.safetensors", save_tensors(_tensors(backbone, parts.head)))
    write_text(folder / "README.md", card)
    config = timm_config(backbone, task.classes) if form.is_linear else None
    if config is None:  # and not one that another classifier left there
        (folder / "config.json").unlink(missing_ok=True)
    else:
        write_json(folder / "config.json", config)
    (folder / _KERAS).unlink(missing_ok=True)
    if backbone.zoo == "keras":
        write_bytes(folder / _KERAS, keras_file(backbone, parts.head))
    names = [name for name in _FILES if (folder / name).exists()]
    digests = {name: file_digest(folder / name) for name in names}
    write_json(folder / MANIFEST, {"format": FORMAT, "files": digests})


def _refuse_foreign(folder: Path) -> None:
    """Replace a classifier's files, but never another project's README.md or config.json."""
    if (folder / "headstart.json").exists():
        return
    for name in _FILES:
        if (folder / name).exists():
            raise ModelError(
                f"{folder} holds a {name} that is not a classifier's; it was left as it is.",
                field=str(folder),
                hint="Name another folder, or an empty one.",
            )


def head_name(backbone: Backbone, form: HeadSpec) -> str:
    """Name a linear head as the original network names its classifier."""
    return (backbone.classifier if form.is_linear else None) or "headstart_head"


def _tensors(backbone: Backbone, head: nn.Module) -> dict[str, torch.Tensor]:
    """Return all tensors under the names they are saved by.

    A linear head is the layer itself, with or without dropout before it.
    """
    form = HeadSpec.of(head)
    name = head_name(backbone, form)
    values = last_linear(head).state_dict() if form.is_linear else head.state_dict()
    tensors = dict(backbone.network.state_dict())
    tensors |= {f"{name}.{key}": value for key, value in values.items()}
    # A copy of each, because some networks have one tensor under several names.
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }


def find(location: Path) -> Path:
    """Return the model folder of a run folder or model folder.

    Raises:
        UnsafeFile: It is a file, which could hold code.
        ModelError: There is no finished model there.
    """
    location = Path(location)
    if location.is_file():
        raise UnsafeFile(
            f"{location} is a file; headstart loads a classifier from a folder only, because model "
            "files of other kinds can run code when they are read.",
            field=str(location),
            hint="Give a run folder (runs/…) or the model/ folder in it. A file of pre-trained "
            "weights goes to fit --weights.",
        )
    for folder in (location / "model", location):
        if (folder / MANIFEST).is_file():
            return folder
    what = "has no finished model" if location.is_dir() else "does not exist"
    raise ModelError(
        f"{location} {what}.",
        field=str(location),
        hint="Give the folder of a finished run, as printed at the end of: headstart fit",
    )


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a model folder against its digest and return headstart.json.

    Raises:
        ModelError: A file is missing or changed; the message names it.
    """
    files = _read(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not {"headstart.json", "model.safetensors"} <= set(files):
        raise ModelError(
            f"{folder / MANIFEST} is not a manifest of headstart's.",
            field=MANIFEST,
            hint=_COPY_AGAIN,
        )
    for name, expected in files.items():
        if name not in _FILES:
            raise ModelError(
                f"{folder / MANIFEST} names an unknown file {name!r}.",
                field=MANIFEST,
                hint=_COPY_AGAIN,
            )
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing.", field=name, hint=_COPY_AGAIN)
        if file_digest(path) != expected:
            raise ModelError(
                f"{path} was changed since it was written: its sha256 is not the manifest's.",
                field=name,
                hint=_COPY_AGAIN,
            )
    return _read(folder / "headstart.json")


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file of this version's format."""
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(
            f"{path} is not of format {FORMAT}, the one this version of headstart reads.",
            field="format",
            hint="Update headstart: pip install --upgrade headstart",
        )
    return document


def load(folder: Path) -> Parts:
    """Read a model folder that ``save`` wrote.

    Raises:
        ModelError: A file is missing or changed, or the weights don't fit the architecture.
    """
    document = verify(folder)
    try:
        backbone = _rebuild(document)
        task = from_dict(document["task"])
        path = InferencePath.from_dict(document["path"])
        form, average = document["head"]["kind"], document.get("average", "none")
        head = task.head(backbone.feature_dim, form)
        symmetries(average)
    except (AttributeError, KeyError, TypeError, UsageError) as error:
        raise ModelError(
            f"{folder / 'headstart.json'} does not describe a classifier: {error!r}.",
            field="headstart.json",
            hint=_COPY_AGAIN,
        ) from error
    _load_tensors(folder / "model.safetensors", backbone, head)
    return Parts(backbone, head.eval(), task, path, average)


def _rebuild(document: dict[str, Any]) -> Backbone:
    spec, origin = InputSpec.from_dict(document["input_spec"]), document["origin"]
    backbone = zoo.rebuild(document["architecture"], spec)
    return replace(backbone, weights=origin["weights"], licence=origin["licence"])


def _load_tensors(file: Path, backbone: Backbone, head: nn.Module) -> None:
    """Load a file that must hold just the tensors that ``save`` would write."""
    try:
        tensors = load_tensors(file.read_bytes())
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise ModelError(
            f"{file} is not a valid safetensors file: {error}.",
            field=file.name,
            hint=_COPY_AGAIN,
        ) from error
    wanted, found = (
        {key: (tensor.dtype, tensor.shape) for key, tensor in some.items()}
        for some in (_tensors(backbone, head), tensors)
    )
    wrong = sorted(key for key in wanted | found if wanted.get(key) != found.get(key))
    if wrong:
        raise ModelError(
            f"{file} does not fit {backbone.full_name}: {len(wrong)} of {len(wanted | found)} "
            f"tensors are missing, not its own, or of another shape or type, such as {wrong[0]}.",
            field=file.name,
            hint=_COPY_AGAIN,
        )
    form = HeadSpec.of(head)
    layers = last_linear(head) if form.is_linear else head
    name = head_name(backbone, form)
    layers.load_state_dict({key: tensors.pop(f"{name}.{key}") for key in layers.state_dict()})
    backbone.network.load_state_dict(tensors)
