"""Files as Keras wrote them, for the tests of those who read them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def classic(path: Path, layers: dict[str, dict[str, np.ndarray]], top: str = "") -> Path:
    """Write what Keras 1 and 2 wrote."""
    with h5py.File(path, "w") as file:
        root = file.create_group(top) if top else file
        root.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, arrays in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = np.array([f"{key}:0".encode() for key in arrays])
            for key, value in arrays.items():
                group[f"{key}:0"] = value
    return path
