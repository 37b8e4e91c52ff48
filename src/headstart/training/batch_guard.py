"""What is wrong with a batch, and with what a network makes of it, before the first step.

Pure looks at tensors. Numbers are read as they are: no image is decoded and nothing is moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch

from headstart.data.checks.findings import Finding

__all__ = [
    "UNSCALED",
    "Wanted",
    "image_findings",
    "judges_each_output",
    "label_findings",
    "one_class",
    "output_findings",
    "wanted_by",
]

Wanted = Literal["logits", "log-probabilities"]
"""What a loss takes."""

UNSCALED = 20.0
"""Normalised images stay within 5 on either side, and pixels that nobody scaled go to 255."""

_ALIKE = 8  # a batch of so many images with one label was not shuffled
_LOGITS = ("crossentropy", "bcewithlogits", "focal")
_LABELS_HINT = "Labels must be whole numbers from 0 to one less than the network's outputs."


def image_findings(images: torch.Tensor, limit: float = UNSCALED) -> Iterator[Finding]:
    """Yield what no network's images are like.

    Args:
        images: (B, ...) as a loader gives them.
        limit: Values further from 0 were not scaled; a few networks take what goes to 255.
    """
    if not images.is_floating_point():
        yield Finding(
            "image-type",
            "error",
            (),
            f"The loader gives images of type {images.dtype}, and layers compute with floats.",
            "End the transform with ToDtype(torch.float32, scale=True) and Normalize (torchvision "
            "v2), or with ToTensor() and Normalize (v1).",
        )
        return
    finite = torch.isfinite(images.flatten(1)).all(dim=1)
    if not bool(finite.all()):
        bad = [str(index) for index in torch.nonzero(~finite).flatten().tolist()]
        yield Finding(
            "not-finite",
            "error",
            (),
            f"{len(bad)} of the first {len(images)} images hold NaN or infinity (in the batch: "
            f"{', '.join(bad[:8])}): one such image makes every weight NaN.",
            "Look for a division by zero in the transform, such as a std of 0.",
        )
        return
    least, most = float(images.min()), float(images.max())
    if max(-least, most) > limit:
        scaled = "are pixels of 0 to 255 that were not scaled" if least >= 0 else "are far too high"
        yield Finding(
            "pixel-range",
            "error",
            (),
            f"The images' values go from {least:.3g} to {most:.3g}: they {scaled}. Networks are "
            "made for values within about -3 and 3.",
            "Scale to 0..1 before Normalize: ToDtype(torch.float32, scale=True) in torchvision v2, "
            "ToTensor() in v1; and give Normalize its mean and std in units of 0..1.",
        )
    elif least == most:
        yield Finding(
            "pixel-range",
            "error",
            (),
            f"All values of the first {len(images)} images are {least:.3g}: there is nothing to "
            "see in them.",
            "Look at what the transform gives; integer division and a cast to uint8 after scaling "
            "do this.",
        )


def label_findings(
    labels: torch.Tensor,
    outputs: int | None,
    *,
    ignored: int = -100,
    what: str = "the first batch",
) -> Iterator[Finding]:
    """Yield what a cross-entropy over ``outputs`` classes can't take.

    Args:
        labels: (B,) classes; of another shape they are shares of classes, and all is well with
            them as long as there are as many as outputs.
        outputs: How many logits the network gives; None where that is not known.
        ignored: The label that the loss passes over.
        what: Where the labels come from.
    """
    if labels.ndim > 1 and labels.is_floating_point():
        if outputs is not None and labels.shape[1] != outputs:
            yield _out_of_range(
                f"The labels of {what} are shares of {labels.shape[1]} classes, and the network "
                f"has {outputs} outputs.",
                "Give the network's last layer as many outputs as there are classes.",
            )
        return
    if labels.ndim > 1:
        yield Finding(
            "label-type",
            "error",
            (),
            f"The labels of {what} are of shape {tuple(labels.shape)}, {labels.dtype}: "
            "cross-entropy takes one class an image, (B,), or float shares, (B, C).",
            "Squeeze the labels to (B,); one-hot ones: labels.argmax(dim=1).",
        )
        return
    if labels.dtype != torch.int64:
        yield Finding(
            "label-type",
            "error",
            (),
            f"The labels of {what} are {labels.dtype}, and cross-entropy takes torch.int64.",
            "Convert them: labels.long().",
        )
    counted = labels[labels != ignored]
    if not len(counted) or outputs is None:
        return
    least, most = int(counted.min()), int(counted.max())
    if least >= 0 and most < outputs:
        return
    found = f"The labels of {what} go from {least} to {most}, and the network has {outputs} outputs"
    if least == 1 and most == outputs:
        hint = "They seem to be counted from 1: subtract 1 (target_transform=lambda y: y - 1)."
    elif least < 0:
        hint = f"{_LABELS_HINT} A label to be passed over is the loss's ignore_index ({ignored})."
    else:
        hint = f"{_LABELS_HINT} Give the last layer {most + 1} outputs, or more."
    yield _out_of_range(
        f"{found}, 0 to {outputs - 1}: on a GPU that ends in a device-side assert.", hint
    )


def _out_of_range(message: str, hint: str) -> Finding:
    return Finding("label-range", "error", (), message, hint)


def one_class(labels: torch.Tensor) -> bool:
    """Whether a batch of some size has the same label throughout."""
    return labels.ndim == 1 and len(labels) >= _ALIKE and bool((labels == labels[0]).all())


def wanted_by(loss: object | None) -> Wanted | None:
    """Return what a loss takes, by its name; None where the name does not tell.

    Args:
        loss: A module, a function or a class; None stands for ``nn.CrossEntropyLoss``.
    """
    if loss is None:
        return "logits"
    name = str(getattr(loss, "__name__", type(loss).__name__)).lower().replace("_", "")
    if "nll" in name and "gaussian" not in name and "poisson" not in name:
        return "log-probabilities"
    return "logits" if any(part in name for part in _LOGITS) else None


def judges_each_output(loss: object | None) -> bool:
    """Whether a loss judges each output by itself, so that labels are not numbers of classes."""
    name = str(getattr(loss, "__name__", type(loss).__name__)).lower()
    return "bce" in name or "binary" in name or "sigmoid" in name


def output_findings(
    outputs: torch.Tensor, wanted: Wanted | None, last: Sequence[str] = ()
) -> Iterator[Finding]:
    """Yield where a network's outputs are not what the loss takes.

    Args:
        outputs: (B, C) for a few images.
        wanted: ``wanted_by`` of the loss; None is no reason to look.
        last: Names of the network's last layers, the very last one first, to find it by.
    """
    if wanted is None or outputs.ndim != 2 or outputs.shape[1] < 2:
        return
    if not bool(torch.isfinite(outputs).all()):
        yield Finding(
            "not-finite",
            "error",
            (),
            "The network's outputs for the first images are not finite.",
            "Look for NaN in the weights it was loaded with; in half precision, for values too "
            "large for it.",
        )
        return
    values = outputs.double()
    shares = bool((values >= 0).all()) and _sum_to_one(values)
    logarithms = bool((values <= 0).all()) and _sum_to_one(values.exp())
    layer = f" ({last[0]})" if last else ""
    if wanted == "logits" and shares:
        yield Finding(
            "softmax",
            "warning",
            (),
            f"The network ends in a softmax{layer}, and cross-entropy applies one itself: with "
            f"both the loss can't fall below {_floor(outputs.shape[1]):.2f}, and its gradients are "
            "small.",
            "Remove the softmax from the network; apply it to the outputs where probabilities are "
            "wanted.",
        )
    elif wanted == "logits" and logarithms:
        yield Finding(
            "softmax",
            "note",
            (),
            f"The network ends in a log-softmax{layer}, and cross-entropy applies one itself; the "
            "second changes nothing.",
            "Remove it, or take nn.NLLLoss.",
        )
    elif wanted == "log-probabilities" and not logarithms:
        given = "probabilities" if shares else "logits"
        yield Finding(
            "softmax",
            "error",
            (),
            f"The network gives {given}{layer}, and this loss takes logarithms of probabilities: "
            "of anything else its value means nothing.",
            "Take nn.CrossEntropyLoss on logits, or end the network in nn.LogSoftmax(dim=1).",
        )


def _sum_to_one(values: torch.Tensor) -> bool:
    return bool((values.sum(dim=1) - 1).abs().max() < 1e-3)


def _floor(classes: int) -> float:
    """Return the least cross-entropy there is where a softmax is taken for logits: of a one."""
    best = torch.zeros(classes, dtype=torch.float64)
    best[0] = 1
    return float(-best.log_softmax(dim=0)[0])
