"""What a model in training is worth on val, in the arithmetic it is trained in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.metrics import point_values
from headstart.training.device import InferencePath, as_memory_allows, autocast
from headstart.training.examples import Examples, batches_of
from headstart.training.task import SingleLabel

__all__ = ["judge", "probabilities"]


def judge(
    module: nn.Module, examples: Examples, task: SingleLabel, path: InferencePath, *, at_once: int
) -> dict[str, float] | None:
    """Return the metrics of ``module`` on the val images, plain and without dropout.

    Args:
        module: Turns a batch of the stream into logits (B, C); left in inference mode.
        examples: Their ``val`` positions count.
        task: Turns logits into probabilities.
        path: Device and precision.
        at_once: Images a batch, or fewer where memory is short.

    Returns:
        Each metric, to six digits; None where an output is not finite.
    """
    shares = probabilities(module, examples, task, path, at_once=at_once)
    if shares is None:
        return None
    values_ = point_values(shares, examples.labels[examples.val], len(task.classes))
    return {name: round(value, 6) for name, value in values_.items()}


def probabilities(
    module: nn.Module, examples: Examples, task: SingleLabel, path: InferencePath, *, at_once: int
) -> npt.NDArray[np.floating[Any]] | None:
    """Return what ``module`` says of the val images, (n, C) in their order; arguments as above.

    None where an output is not finite.
    """
    examples.stream.prepare(0, examples.val)
    module.eval()
    shares = task.probabilities(_logits(module, examples, path, at_once)).numpy()
    return shares if np.isfinite(shares).all() else None


def _logits(
    module: nn.Module, examples: Examples, path: InferencePath, at_once: int
) -> torch.Tensor:
    def compute(at_once: int) -> torch.Tensor:
        order = batches_of(examples.val, at_once)
        with torch.no_grad(), autocast(path):
            found = [
                module(values.to(path.device)).float().cpu()
                for values in examples.stream.batches(0, order)
            ]
        return torch.cat(found)

    return as_memory_allows(compute, at_once)
