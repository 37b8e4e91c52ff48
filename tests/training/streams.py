"""What an engine needs, a few images large: a stream in memory, examples, and the engine itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tiny import layers, make_backbone, make_model, pixels

from headstart.strategy.phase import Phase, Rate, Train
from headstart.training.device import InferencePath
from headstart.training.engine import Engine
from headstart.training.examples import Examples
from headstart.training.model import Model
from headstart.training.task import SingleLabel

PATH = InferencePath("cpu", "fp32", "channels_last", 8)
TASK = SingleLabel(("a", "b", "c"))
EVERYTHING = (Rate("head", 1e-2), Rate("stage:0..-1", 1e-3))
HEAD_ONLY = (Rate("head", 1e-2), Rate("stage:0..-1", None))


class Memory:
    """Pixels in memory; view v is the plain image plus v. Remembers what it was asked for."""

    start = 0

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.prepared: list[int] = []
        self.asked: list[tuple[int, list[list[int]]]] = []

    def prepare(self, view: int, positions: np.ndarray, progress: Any = None) -> int:
        self.prepared.append(view)
        return 0

    def batches(self, view: int, order: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        self.asked.append((view, [positions.tolist() for positions in order]))
        for positions in order:
            yield torch.from_numpy(self.images[positions] + np.uint8(view))


def make_examples(n: int = 22, val: int = 6, views: int = 0, skewed: bool = False) -> Examples:
    """Make images of which the last ``val`` are val's; where skewed, most are of class 0."""
    labels = np.arange(n) % 3
    if skewed:
        labels[: n - val] = 0
        labels[1], labels[2] = 1, 2
    images = pixels(n) // 2 + (labels * 40).astype(np.uint8)[:, None, None, None]
    return Examples(
        stream=Memory(images),
        labels=labels.astype(np.int64),
        names=[f"{number}.jpg" for number in range(n)],
        train=np.arange(n - val),
        val=np.arange(n - val, n),
        views=views,
    )


def steady() -> Model:
    """Make a model without dropout, so that a loss can be computed by hand."""
    named = layers()
    del named["drop"]
    return make_model(make_backbone(named))


def make_engine(
    model: Model | None = None,
    examples: Examples | None = None,
    *,
    rates: Sequence[Rate] = EVERYTHING,
    path: InferencePath = PATH,
    events: list[dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    **train: Any,
) -> Engine:
    """Make an engine; ``train`` are fields of ``Train``, ``options`` those of ``Engine``."""
    fit = Train(**{"epochs": 2, "batch_size": 6, "schedule": "constant"} | train)

    def emit(event: str, **values: Any) -> None:
        if events is not None:
            events.append({"event": event, **values})

    return Engine(
        make_model() if model is None else model,
        TASK,
        Phase(tuple(rates), fit),
        make_examples() if examples is None else examples,
        path,
        **{"emit": emit} | (options or {}),
    )


def weights(model: Model) -> dict[str, torch.Tensor]:
    """Copy everything that is learnt."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(value, others[name]) for name, value in some.items()
    )
