"""The machine a run is trained on: what of it changes numbers, and whether it is still the same."""

from __future__ import annotations

from importlib.metadata import version

import torch

from headstart.errors import ModelError, ResourceError
from headstart.training.checkpoint import State
from headstart.training.device import InferencePath, pick_device, processor

__all__ = ["machine", "require_same_machine"]

_PACKAGES = ("accelerate", "headstart", "numpy", "pillow", "timm", "torch", "torchvision")


def machine(path: InferencePath) -> dict[str, str]:
    """Return all that changes the numbers of a training step, beside the spec and the threads."""
    versions = {package: version(package) for package in _PACKAGES}
    return {"processor": processor(path.device), "layout": path.layout, **versions}


def require_same_machine(state: State) -> None:
    """Go on with as many threads as before; refuse another machine, whose numbers would differ.

    Raises:
        ModelError: The processor, a version or the device is another than the checkpoint's.
    """
    document = state.position
    try:
        path = InferencePath.from_dict(document["path"])
        pick_device(path.device)
        there, here = document["machine"], machine(path)
        torch.set_num_threads(document["threads"])
    except (KeyError, TypeError, ResourceError) as error:
        raise ModelError(
            f"The checkpoint can't be gone on with here: {error}",
            field="checkpoints",
            hint="Resume it on the machine it began on, or fit again with another --out.",
        ) from error
    changed = [
        f"{name} {there.get(name)}, here {here[name]}"
        for name in here
        if there.get(name) != here[name]
    ]
    if changed:
        raise ModelError(
            f"The run would not go on as it began: it has {'; '.join(changed)}.",
            field="checkpoints",
            hint="Resume it where it began, or fit again with another --out.",
        )
