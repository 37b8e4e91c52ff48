"""The model card: README.md of a classifier's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart import bundle
from headstart.metrics import Metric
from headstart.report import Report

if TYPE_CHECKING:
    from headstart.classifier import Classifier

__all__ = ["default_card", "model_card"]


def model_card(report: Report, *, for_timm: bool) -> str:
    """Say in Markdown what the classifier is, how good it is, and how to use it.

    Args:
        report: Of the run that made it.
        for_timm: Whether timm loads the folder too.
    """
    name = report.backbone["name"]
    rows = "\n".join(f"| {key} | {_shown(metric)} |" for key, metric in report.test.items())
    split, engine, solver = report.split, report.engine, report.strategy["solver"]
    card = f"""# {report.run}

An image classifier for {len(report.classes)} classes, made by headstart.

- Classes: {", ".join(report.classes)}
- Backbone: {name}, weights {report.backbone["weights"]}, licence {report.backbone["licence"]}
- Strategy: {report.strategy["name"]}
- Images: {split["n_train"]:,} train, {split["n_val"]:,} val, {split["n_test"]:,} test; split
  {split["digest"][:12]}
- Penalty {solver["penalty"]:g}, chosen by {solver["chosen_by"]}; then solved on all
  {solver["fitted_on"]:,} images of train and val, and judged on test, which it never saw
- Forward pass: {engine["precision"]} on {engine["device"]} ({engine["reason"]})

| on test | value and 95 % interval |
|---|---|
{rows}

## Use

```python
import headstart

classifier = headstart.load("path/to/this/folder")
classifier.predict("image.jpg")
```

The numbers hold for images like those of the test set. MANIFEST.json has the sha256 of every
file; headstart checks them before it loads anything.
"""
    if for_timm:
        card += """
timm loads the folder too: `timm.create_model("local-dir:path/to/this/folder", pretrained=True)`.
Without `pretrained=True` timm gives random weights and does not say so. Prepare images as
`headstart.json` says under `input_spec`.
"""
    return card


def default_card(classifier: Classifier) -> str:
    """Return a short model card for a classifier saved outside a run."""
    backbone = classifier.backbone
    card = f"""# Image classifier

Classes: {", ".join(classifier.classes)}

Backbone: {backbone.full_name}, weights {backbone.weights}, licence {backbone.licence}

```python
import headstart

classifier = headstart.load("this-folder")
classifier.predict("image.jpg")
```
"""
    if bundle.timm_config(backbone, classifier.task) is not None:
        card += """
timm loads the folder too: `timm.create_model("local-dir:this-folder", pretrained=True)`. Without
`pretrained=True` timm gives random weights and does not say so.
"""
    return card


def _shown(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}), n = {metric.n:,}"
