"""The model card: README.md of a classifier's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.backbones.timm_export import timm_config
from headstart.metrics import Metric
from headstart.report import Report
from headstart.training_text import choice, stayed

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
    split, engine = report.split, report.engine
    card = f"""# {report.run}

An image classifier for {len(report.classes)} classes, made by headstart.

- Classes: {", ".join(report.classes)}
- Backbone: {name}, weights {report.backbone["weights"]}, licence {report.backbone["licence"]}
- Strategy: {report.strategy["name"]}, {_trained(report)}
- Images: {split["n_train"]:,} train, {split["n_val"]:,} val, {split["n_test"]:,} test; split
  {split["digest"][:12]}
{_choices(report)}
- Judged on test, which it never saw{_forced(report)}
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
    return card + _for_keras(name)


def _forced(report: Report) -> str:
    """Return a line for each finding that its user should know before all others."""
    return "".join(
        f"\n- {finding['message']}" for finding in report.findings if finding["kind"] == "forced"
    )


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
    if timm_config(backbone, classifier.task.classes) is not None:
        card += """
timm loads the folder too: `timm.create_model("local-dir:this-folder", pretrained=True)`. Without
`pretrained=True` timm gives random weights and does not say so.
"""
    return card + _for_keras(backbone.full_name)


def _for_keras(backbone: str) -> str:
    """Say how Keras loads the folder, where the network is one of Keras's."""
    if not backbone.startswith("keras:"):
        return ""
    return """
Keras 3 loads the classifier on TensorFlow, JAX and PyTorch:
`keras.saving.load_model("path/to/this/folder/model.keras")`. It takes images (N, height, width, 3)
prepared as `headstart.json` says under `input_spec`, channels in the order named there, and gives
the probability of each class, in the order of the classes above.
"""


def _trained(report: Report) -> str:
    counts = report.parameters
    n = len(report.training)
    most = "" if n == 1 else f"in {n} phases at most "
    return f"{most}{counts['trainable']:,} of {counts['total']:,} parameters learnt"


def _choices(report: Report) -> str:
    """Say in words what val decided in each phase."""
    lines = []
    for record in report.training:
        name = f"Phase {record['phase']}: " if len(report.training) > 1 else ""
        chosen = f"{name}{choice(record)}"
        lines.append(f"- {chosen[0].upper()}{chosen[1:]}")
    last = stayed(report)
    if last is not None and last["kind"] == "solve":
        fitted_on = last["fitted_on"]
        lines[last["phase"] - 1] += f"; then solved on all\n  {fitted_on:,} images of train and val"
    return "\n".join(lines)


def _shown(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f}), n = {metric.n:,}"
