"""The model card: README.md of a classifier's folder."""

from __future__ import annotations

from headstart.metrics import Metric
from headstart.report import Report

__all__ = ["model_card"]


def model_card(report: Report) -> str:
    """Say in Markdown what the classifier is, how good it is, and how to use it."""
    name = report.backbone["name"]
    rows = "\n".join(f"| {key} | {_shown(metric)} |" for key, metric in report.test.items())
    split, engine = report.split, report.engine
    card = f"""# {report.run}

An image classifier for {len(report.classes)} classes, made by headstart.

- Classes: {", ".join(report.classes)}
- Backbone: {name}, weights {report.backbone["weights"]}, licence {report.backbone["licence"]}
- Strategy: {report.strategy["name"]}
- Trained on {split["n_train"]:,} images, choices made on {split["n_val"]:,} (val), judged on
  {split["n_test"]:,} it never saw (test); split {split["digest"][:12]}
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
    if name.split(":")[0] in ("bundled", "timm"):
        card += """
timm loads the folder too: `timm.create_model("local-dir:path/to/this/folder", pretrained=True)`.
Without `pretrained=True` timm gives random weights and does not say so. Prepare images as
`headstart.json` says under `input_spec`.
"""
    return card


def _shown(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}), n = {metric.n:,}"
