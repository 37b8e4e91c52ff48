"""What a freshly trained classifier says of every image of its run, as ``predict`` would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.classifier import Classifier
from headstart.data.symmetry import symmetries, symmetry
from headstart.images import Images
from headstart.phases import Trained
from headstart.plan import Plan
from headstart.training.device import Forward
from headstart.training.features import Features
from headstart.training.heads import last_linear
from headstart.training.solve import Solved

__all__ = ["agreement", "probabilities"]

Matrix = npt.NDArray[np.float32]


def probabilities(
    plan: Plan, classifier: Classifier, images: Images, trained: Trained
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the probabilities (n, C) of each part of the split.

    val chose the penalty of a solved head, and the final head has then seen it: val is judged by
    the head before. Averages over mirror images are for what is judged: train has the plain image.

    Args:
        plan: What was to be done.
        classifier: What came of it.
        images: All images of the run.
        trained: What the phases left.
    """
    plain = _plain(plan, images, trained)
    before = _before_val(plan, trained) or classifier
    found = {"train": classifier.probabilities(plain[images.parts["train"]])}
    for part, judge in (("val", before), ("test", classifier)):
        positions = images.parts[part]
        mirrored = [
            _mirrored(plan, images, trained, positions, view)
            for view in symmetries(classifier.average)[1:]
        ]
        found[part] = judge.averaged([plain[positions], *mirrored])
    return found


def _before_val(plan: Plan, trained: Trained) -> Classifier | None:
    """Return the classifier with the head that has not seen val, where there are two."""
    if trained.solved is None:
        return None
    head = plan.task.head(plan.backbone.feature_dim)
    layer = last_linear(head)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(trained.solved.val_weight))
        layer.bias.copy_(torch.from_numpy(trained.solved.val_bias))
    return Classifier(plan.backbone, head, plan.task, trained.path)


def _plain(plan: Plan, images: Images, trained: Trained) -> Matrix:
    """Return the features (N, D) of every image, from where the last phase left them."""
    if trained.features is not None:
        known: Matrix = trained.features.rows.all()
        return known
    assert trained.stream is not None
    every = np.arange(len(images.digests))
    trained.stream.prepare(0, every)
    batches = trained.stream.batches(0, _order(every, trained.path.batch_size))
    return _forward(plan, trained, batches, trained.stream.start)


def _mirrored(
    plan: Plan,
    images: Images,
    trained: Trained,
    positions: npt.NDArray[np.int64],
    view: int,
) -> Matrix:
    """Return the features (n, D) of a mirror image of the images at ``positions``."""
    assert images.pixels is not None
    pixels = images.pixels
    batches = (
        torch.from_numpy(symmetry(pixels.take(some), view).copy())
        for some in _order(positions, trained.path.batch_size)
    )
    return _forward(plan, trained, batches, 0)


def _order(positions: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    return [positions[at : at + size] for at in range(0, len(positions), size)]


def _forward(plan: Plan, trained: Trained, batches: Iterable[torch.Tensor], start: int) -> Matrix:
    """Pass batches through the blocks from ``start`` on."""
    forward = Forward(plan.backbone, trained.path, start=start)
    empty = torch.empty((0, plan.backbone.feature_dim))
    features: Matrix = torch.cat(
        [empty, *(forward.run(batch).float() for batch in batches)]
    ).numpy()
    return features


def agreement(
    features: Features, solved: Solved, digests: Sequence[str], plain: npt.NDArray[np.float32]
) -> dict[str, Any] | None:
    """Tell how often the head says the same on fp32's features, on the val images that have any.

    Args:
        features: Their ``reference`` holds fp32's.
        solved: The head.
        digests: Of the n val images.
        plain: (n, D) their features on the path of the run.
    """
    reference = features.reference
    if reference is None:
        return None
    unknown = set(reference.missing(digests))
    known = [row for row, image in enumerate(digests) if image not in unknown]
    if not known:
        return None
    exact = reference.rows([digests[row] for row in known]).all()
    said, expected = (
        (values @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
        for values in (plain[known], exact)
    )
    same = said == expected
    return {"value": float(same.mean()), "n": len(known)}
