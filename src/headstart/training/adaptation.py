"""New statistics for batch norms before anything is learnt, and a head that fits them.

A batch norm in training normalises by the batch at hand, in inference by statistics that it
remembers, which a pre-trained network has of ImageNet. A head that was solved on its features meets
other features the moment training begins, and the first epochs go into the repair: on solar cells
the loss began at 202, where guessing gives 0.69. So the statistics are estimated anew first, on the
training images (adaptive batch normalisation, Li 2016, arXiv:1603.04779), and the head is solved
again on what the network then gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.strategy.phase import Solve, Train
from headstart.strategy.presets import PENALTIES
from headstart.training.device import InferencePath, as_memory_allows, autocast
from headstart.training.examples import Examples, batches_of, epoch_order
from headstart.training.heads import last_linear
from headstart.training.solve import Solved, solve
from headstart.training.tail import Tail

__all__ = ["MOST_ADAPTED", "adapt"]

MOST_ADAPTED = 4096
"""Images that statistics are estimated on: a channel's mean is known to 2 % of its spread then."""

Positions = npt.NDArray[np.int64]


def adapt(
    tail: Tail,
    examples: Examples,
    path: InferencePath,
    train: Train,
    *,
    view: int,
    seed: int,
    weighted: bool = False,
) -> dict[str, Any] | None:
    """Estimate the statistics of a tail's training batch norms anew, and solve its head again.

    A head with hidden layers or dropout keeps its weights, and so does one that is frozen, that
    has a class without training images, or whose features are not finite. The tail is left in
    inference mode.

    Args:
        tail: In training mode: those of its batch norms that are, are adapted.
        examples: Their ``train`` positions count; ``val``, which may be empty, chooses the head's
            penalty.
        path: Device and precision.
        train: Its ``batch_size`` is that of the batches whose statistics are averaged, fewer
            where memory is short; its ``sampling`` draws them.
        view: The view of the images, which the stream has ready.
        seed: Of the order.
        weighted: Whether the loss weighs each image by 1 / its class's frequency; the head is
            then solved so, as it is where ``sampling`` is balanced.

    Returns:
        ``norms``, how many were adapted, and ``penalty``, that of the head, or None where it was
        not solved; None where there is no batch norm to adapt, or a single image to do it on.
    """
    norms = _learning(tail)
    balanced = train.sampling == "balanced"
    order = epoch_order(examples.train, examples.labels, balanced=balanced, seed=seed)
    tail.eval()
    if not norms or len(order) < 2:
        return None
    with torch.no_grad(), autocast(path):
        _estimate(tail, norms, examples, path, view, order[:MOST_ADAPTED], train.batch_size)
        solved = (
            _solution(tail, examples, path, view, 2 * train.batch_size, weighted or balanced)
            if _solvable(tail.head, examples)
            else None
        )
    if solved is None:
        return {"norms": len(norms), "penalty": None}
    layer = last_linear(tail.head)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(solved.val_weight))
        layer.bias.copy_(torch.from_numpy(solved.val_bias))
    return {"norms": len(norms), "penalty": solved.penalty}


def _learning(tail: Tail) -> list[_BatchNorm]:
    """Return the batch norms that learn statistics and remember them."""
    norms = (it for it in tail.trained().modules() if isinstance(it, _BatchNorm))
    return [norm for norm in norms if norm.training and norm.track_running_stats]


def _estimate(
    tail: Tail,
    norms: Sequence[_BatchNorm],
    examples: Examples,
    path: InferencePath,
    view: int,
    order: Positions,
    batch_size: int,
) -> None:
    """Let each norm remember the mean of its batches' statistics, all counting the same."""

    def estimate(at_once: int) -> None:
        # A batch of one image may have no variance: three images in pairs leave one.
        batches = [batch for batch in batches_of(order, at_once) if len(batch) > 1]
        with _averaging(norms):
            for values in examples.stream.batches(view, batches):
                tail.features(values.to(path.device))

    as_memory_allows(estimate, batch_size, least=2)


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let norms forget their statistics, and within this average what they see cumulatively."""
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momentums, strict=True):
            norm.momentum = momentum
            norm.eval()


def _solvable(head: nn.Module, examples: Examples) -> bool:
    """Whether a solver gives this head: a single layer that learns, all classes to learn from."""
    if not isinstance(head, nn.Linear) or head.bias is None:
        return False
    present = len(np.unique(examples.labels[examples.train]))
    return present == head.out_features and all(it.requires_grad for it in head.parameters())


def _solution(
    tail: Tail, examples: Examples, path: InferencePath, view: int, at_once: int, balanced: bool
) -> Solved | None:
    """Solve the head on the features of train in this view and of val as it is.

    None where a feature is not finite: the first step will tell.
    """
    features = _features(tail, examples, path, view, examples.train, at_once)
    plain = features[:0]
    if len(examples.val):
        examples.stream.prepare(0, examples.val)
        plain = _features(tail, examples, path, 0, examples.val, at_once)
    if not (np.isfinite(features).all() and np.isfinite(plain).all()):
        return None
    labels, weights = examples.labels, examples.weights
    return solve(
        (features, labels[examples.train]),
        (plain, labels[examples.val]),
        Solve(PENALTIES),
        balanced=balanced,
        refit=False,
        weights=None if weights is None else (weights[examples.train], weights[examples.val]),
    )


def _features(
    tail: Tail,
    examples: Examples,
    path: InferencePath,
    view: int,
    positions: Positions,
    at_once: int,
) -> npt.NDArray[np.float32]:
    """Return the features (n, D) of images in a view, in their order."""

    def compute(at_once: int) -> npt.NDArray[np.float32]:
        batches = examples.stream.batches(view, batches_of(positions, at_once))
        rows = [tail.features(values.to(path.device)).float().cpu() for values in batches]
        found: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return found

    return as_memory_allows(compute, at_once)
