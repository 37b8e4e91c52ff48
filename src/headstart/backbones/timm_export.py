"""A classifier on a network of timm's as timm's own config.json describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headstart.backbones.base import Backbone

__all__ = ["timm_config"]


def timm_config(backbone: Backbone, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the config.json by which timm loads the folder, or None for other networks."""
    if backbone.zoo not in ("bundled", "timm") or backbone.classifier is None:
        return None
    spec = backbone.input_spec
    return {
        "architecture": backbone.architecture["architecture"],
        "num_classes": len(classes),
        "num_features": backbone.feature_dim,
        "model_args": backbone.architecture["arguments"],
        "pretrained_cfg": {
            "tag": "headstart",
            "license": backbone.licence,
            "input_size": [3, spec.height, spec.width],
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop_fraction,
            "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[spec.resize],
            "mean": [value / 255 for value in spec.mean],
            "std": [value / 255 for value in spec.std],
            "num_classes": len(classes),
            "classifier": backbone.classifier,
            "label_names": list(classes),
        },
    }
