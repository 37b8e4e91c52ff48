"""What Keras offers: the networks of ``keras.applications``, their files of weights, their images.

Everything here is read from a table that ``scripts/keras-networks`` writes; Keras is imported only
to download. Files are looked for where Keras keeps them: ``~/.keras/models``, or below
``KERAS_HOME``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from headstart.backbones import hub
from headstart.backbones.base import Listing
from headstart.backbones.keras_backend import load_keras
from headstart.errors import ModelError, UnknownName
from headstart.files import read_json
from headstart.inputspec import InputSpec

__all__ = ["Entry", "WeightsFile", "entry", "fetch", "listings", "names"]

Triple = tuple[float, float, float]
# Mean and std in units of 0..255, in the order of the channels; what keras.applications calls
# preprocess_input, but for "graph", where the network's first layers do it.
_PREPROCESSING: Mapping[str, tuple[Triple, Triple]] = {
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),  # blue, green, red
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "graph": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights without the classifier, as Keras publishes it.

    Attributes:
        file: Its name in Keras's folder of models.
        origin: Where Keras downloads it from.
        hash: MD5 or SHA-256 in hexadecimal digits, or None where Keras knows none.
    """

    file: str
    origin: str
    hash: str | None

    @property
    def path(self) -> Path:
        """Where it lies once Keras has downloaded it."""
        return _home() / "models" / self.file


@dataclass(frozen=True, slots=True)
class Entry:
    """A network of ``keras.applications``.

    Attributes:
        name: Keras's name for it: ``MobileNetV2``.
        parameters: How many numbers it learns, its classifier included.
        input: Side of the square input in pixels that its weights were trained on.
        top1: Accuracy on ImageNet-1k's validation images, 0 to 1, as Keras publishes it.
        preprocessing: ``caffe``, ``tf``, ``torch`` or ``graph``.
        weights: Files of weights by the side of the images they were trained on.
    """

    name: str
    parameters: int
    input: int
    top1: float | None
    preprocessing: str
    weights: Mapping[int, WeightsFile]

    @property
    def input_spec(self) -> InputSpec:
        """How the weights want their images."""
        mean, std = _PREPROCESSING[self.preprocessing]
        return InputSpec(
            height=self.input,
            width=self.input,
            mean=mean,
            std=std,
            interpolation="bilinear",
            channels="bgr" if self.preprocessing == "caffe" else "rgb",
        )

    def weights_for(self, size: int) -> WeightsFile:
        """Return the weights trained on images of ``size`` pixels, else those of the default."""
        return self.weights.get(size, self.weights[self.input])


@cache
def _table() -> dict[str, Entry]:
    document = read_json(Path(str(files("headstart.backbones") / "keras_networks.json")))
    return {name: _entry(name, row) for name, row in document.items()}


def _entry(name: str, row: dict[str, Any]) -> Entry:
    weights = {
        row["input"] if side == "any" else int(side): WeightsFile(**file)
        for side, file in row["files"].items()
    }
    fields = {key: row[key] for key in ("parameters", "input", "top1", "preprocessing")}
    return Entry(name, weights=weights, **fields)


def names() -> tuple[str, ...]:
    """Name all networks."""
    return tuple(_table())


def entry(name: str) -> Entry:
    """Look a network up.

    Raises:
        UnknownName: Keras has no such network; a name in other letters is suggested.
    """
    if name not in _table():
        meant = [known for known in names() if _plain(known) == _plain(name)]
        hint = f"Did you mean keras:{meant[0]}?" if meant else None
        raise UnknownName("Keras network", name, names(), field="backbone", hint=hint)
    return _table()[name]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def listings() -> list[Listing]:
    """List all networks as Keras describes them; it says nothing of the weights' licences."""
    return [
        Listing(
            name=f"keras:{each.name}",
            zoo="keras",
            parameters=each.parameters,
            input=each.input,
            top1=each.top1,
            licence=None,
            cached=each.weights_for(each.input).path.is_file(),
        )
        for each in _table().values()
    ]


def fetch(found: Entry, size: int) -> tuple[Path, str]:
    """Return the file of weights for images of ``size`` pixels, downloaded if need be, and how.

    Raises:
        MissingWeights: It is not here, and downloading is forbidden, impossible or fails.
        ModelError: What lies here, or what came, is not the file that Keras publishes.
    """
    wanted = found.weights_for(size)
    if wanted.path.is_file():
        _check(wanted)
        return wanted.path, "from the cache"
    keras = load_keras(f"keras:{found.name}")
    where = {"url": wanted.origin, "folder": wanted.path.parent}
    with hub.downloading(f"keras:{found.name}", where):
        try:
            with redirect_stdout(sys.stderr):  # where Keras shows how far it is
                keras.utils.get_file(
                    wanted.file,
                    wanted.origin,
                    cache_dir=str(_home()),
                    cache_subdir="models",
                    file_hash=wanted.hash,
                )
        except OSError:
            raise
        except Exception as error:  # get_file turns urllib's errors into a bare Exception
            raise OSError(str(error)) from error
    _check(wanted)
    return wanted.path, "downloaded"


def _check(wanted: WeightsFile) -> None:
    if wanted.hash is None:
        return
    with wanted.path.open("rb") as file:
        kind = "sha256" if len(wanted.hash) == 64 else "md5"
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != wanted.hash:
        raise ModelError(
            f"{wanted.path} is not the file that Keras publishes: its {kind} is another.",
            field=str(wanted.path),
            hint="Delete it, and it is downloaded again; or give it with --weights.",
        )


def _home() -> Path:
    """Return Keras's folder, which it does not tell before it is imported."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
