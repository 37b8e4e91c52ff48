"""The strategies that have a name; ``names`` reads the names.

Each docstring says what to expect; docs/strategies.md has what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from headstart.errors import UsageError
from headstart.strategy.phase import HEAD, Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy

__all__ = [
    "EPOCHS",
    "PENALTIES",
    "SMALL_CNN",
    "bias_only",
    "discriminative",
    "feature_extraction",
    "fine_tune",
    "freeze_first",
    "gradual",
    "gradual_blockwise",
    "last_blocks",
    "norm_only",
    "probe_then_fine_tune",
    "scratch",
    "trained_head",
]

PENALTIES = (3e4, 1e4, 3e3, 1e3, 3e2, 1e2, 30.0, 10.0)
EPOCHS = 10
SMALL_CNN = "bundled:small_cnn"
_ALL = "stage:0..-1"
_HEAD_ONLY = (Rate(HEAD, 1e-3), Rate(_ALL, None))


def feature_extraction(epochs: int | None = None) -> Strategy:
    """Freeze the whole backbone; fit a linear head on its features, which are computed once.

    The place to start: a solved head needs no learning rate, no epochs and no luck. With
    ``epochs`` the head is trained by Adam at 1e-3 instead, as tutorials do; expect the same
    accuracy, later.

    Measured: 0.731 on the solar cells and 0.745 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    With all images 0.849 on the cells (mean of three splits) and 0.896 on trashnet (squash).

    Args:
        epochs: Train the head for so long instead of solving it.
    """
    return Strategy("feature-extraction", (_head_phase(epochs),))


def probe_then_fine_tune(epochs: int = EPOCHS) -> Strategy:
    """Solve the head, then train everything at a low rate from there (LP-FT).

    A head that is right from the start does not tear up the features below it; most accurate
    where the new images differ from ImageNet's (Kumar 2022, arXiv:2202.10054).

    Measured: 0.777 on the solar cells and 0.760 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    """
    tune = Phase((Rate(HEAD, 1e-4), Rate(_ALL, 1e-4)), Train(epochs=epochs), "light")
    return Strategy("probe-then-fine-tune", (_head_phase(), tune))


def fine_tune(epochs: int = EPOCHS) -> Strategy:
    """Train everything from a fresh head, pre-trained blocks at a tenth of the head's rate.

    What most tutorials call fine-tuning. Behind ``probe-then-fine-tune`` on few images, because
    its first steps follow a head that knows nothing.

    Measured: 0.793 on the solar cells and 0.752 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    """
    tune = Phase((Rate(HEAD, 1e-3), Rate(_ALL, 1e-4)), Train(epochs=epochs), "light")
    return Strategy("fine-tune", (tune,))


def last_blocks(n: int = 2, epochs: int = EPOCHS) -> Strategy:
    """Solve the head, then train the last ``n`` stages and the head behind what is remembered.

    The best accuracy for the time on a CPU: the frozen stages below are computed once for each
    view, and no epoch pays for them again. The last stages are the least general ones, so they
    may move far: their rate is high, and their batch norms learn the new images' statistics.

    Measured: 0.774 on the solar cells and 0.737 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    With all images the last three stages reached 0.869 on the cells (mean of three splits; frozen
    0.849) and 0.930 on trashnet (frozen 0.896).
    """
    rates = (Rate(HEAD, 1e-3), Rate(f"stage:-{n}..-1", 1e-3), Rate(_ALL, None))
    fit = Train(epochs=epochs, batch_norm="train")
    return Strategy(f"last-blocks:{n}", (_head_phase(), Phase(rates, fit, "light")))


def freeze_first(n: int, layers: bool = False, epochs: int = EPOCHS) -> Strategy:
    """Freeze the first ``n`` stages, or leaf layers, and train the rest from a solved head.

    Measured: 0.758 on the solar cells and 0.755 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).

    Args:
        n: How many.
        layers: Count leaf layers, activations and pooling included, as Keras's tutorials do.
        epochs: Of the training.
    """
    frozen = f"layer:0..{n - 1}" if layers else f"stage:0..{n - 1}"
    rates = (Rate(HEAD, 1e-4), Rate(frozen, None), Rate(_ALL, 1e-4))
    return Strategy(
        f"freeze-first:{n}{'layers' if layers else ''}",
        (_head_phase(), Phase(rates, Train(epochs=epochs), "light")),
    )


def gradual(
    epochs: Sequence[int] = (EPOCHS, EPOCHS, EPOCHS), rates: Sequence[float] = (1e-3, 1e-4, 1e-5)
) -> Strategy:
    """Train the head, then the last stage too, then everything, each time at a lower rate.

    Gradual unfreezing (Howard and Ruder 2018, arXiv:1801.06146), in three steps. Little can go
    wrong, and the last step at 1e-5 moves little; it takes three times the epochs of the others.

    Measured: 0.741 on the solar cells and 0.742 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).

    Args:
        epochs: Of the three phases.
        rates: Of the three phases.
    """
    head, last, everything = rates
    phases = (
        Phase((Rate(HEAD, head), Rate(_ALL, None)), Train(epochs=epochs[0], schedule="constant")),
        Phase(
            (Rate(HEAD, last), Rate("stage:-1", last), Rate(_ALL, None)),
            Train(epochs=epochs[1]),
            "light",
        ),
        Phase((Rate(HEAD, everything), Rate(_ALL, everything)), Train(epochs=epochs[2]), "light"),
    )
    return Strategy("gradual", phases)


def gradual_blockwise(stages: int, epochs: int = 1, rate: float = 1e-4) -> Strategy:
    """Solve the head, then thaw one stage after the other, from the last to the first.

    Measured: 0.766 on the solar cells and 0.751 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).

    Args:
        stages: How many the network has.
        epochs: Of each phase.
        rate: Of the head; what is thawed has 1 / 2.6 of it for each stage below (ULMFiT's factor).
    """
    phases = [_head_phase()]
    for thawed in range(1, stages + 1):
        rates = [Rate(HEAD, rate)]
        rates += [Rate(f"stage:-{k}", rate / 2.6 ** (k - 1)) for k in range(1, thawed + 1)]
        if thawed < stages:
            rates.append(Rate(_ALL, None))
        phases.append(Phase(tuple(rates), Train(epochs=epochs), "light"))
    return Strategy("gradual:blockwise", tuple(phases))


def discriminative(
    stages: int,
    low: float = 1e-5,
    high: float = 1e-3,
    decay: float | None = None,
    rates: Sequence[float] | None = None,
    epochs: int = EPOCHS,
) -> Strategy:
    """Solve the head, then train everything, each stage at a rate of its own.

    Rates rise from ``low`` at the input to ``high`` at the head in equal factors, because early
    stages are general and late ones are not (Howard and Ruder 2018, arXiv:1801.06146).

    Measured: 0.774 on the solar cells and 0.759 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).

    Args:
        stages: How many the network has.
        low: Rate of the first stage.
        high: Rate of the head.
        decay: Factor from a stage to the one below it, instead of ``low``.
        rates: A rate for each stage from the input on, and the head's, instead of all these.
        epochs: Of the training.

    Raises:
        UsageError: ``rates`` are not one a stage and one for the head, or one of the other
            numbers is not above 0.
    """
    name = "discriminative"
    if rates is not None:
        if len(rates) != stages + 1:
            raise UsageError(
                f"discriminative needs a rate for each of the network's {stages} stages and one "
                f"for the head, not {len(rates)} rates.",
                field="strategy",
                hint=f"Give {stages + 1} rates, the first stage's first; or discriminative alone.",
            )
        chosen = list(rates)
        name += ":" + "/".join(f"{rate:g}" for rate in rates)
    else:
        if not all(0 < value < math.inf for value in (low, high, 1.0 if decay is None else decay)):
            raise UsageError(
                f"discriminative needs rates and a factor above 0, not low={low:g}, high={high:g}"
                f"{'' if decay is None else f', decay={decay:g}'}.",
                field="strategy",
                hint="Leave them away for rates from 1e-5 to 1e-3.",
            )
        factor = (low / high) ** (1 / stages) if decay is None else decay
        chosen = [high * factor ** (stages - number) for number in range(stages + 1)]
        name += "" if decay is None else f":decay={decay:g}"
    ordered = [Rate(HEAD, chosen[-1])]
    ordered += [Rate(f"stage:{number}", rate) for number, rate in enumerate(chosen[:-1])]
    tune = Phase(tuple(ordered), Train(epochs=epochs), "light")
    return Strategy(name, (_head_phase(), tune))


def norm_only(epochs: int = EPOCHS) -> Strategy:
    """Solve the head, then train it and the parameters of the normalisation layers.

    A few tenths of a percent of the parameters (Frankle 2020, arXiv:2003.00152): the middle way
    between extraction and fine-tuning, with little to overfit with. Statistics are trained too.

    Measured: 0.731 on the solar cells and 0.745 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    """
    return _some_parameters("norm-only", "@norm", epochs)


def bias_only(epochs: int = EPOCHS) -> Strategy:
    """Solve the head, then train it and the biases (BitFit, Ben Zaken 2021, arXiv:2106.10199).

    The least that can be trained beside a head. In a convolutional network with batch norm the
    biases are those of the norms.

    Measured: 0.731 on the solar cells and 0.745 on trashnet with 25 small images a class, two
    seeds (docs/strategies.md has the intervals).
    """
    return _some_parameters("bias-only", "@bias", epochs)


def scratch(epochs: int = 30, backbone: str | None = None) -> Strategy:
    """Train everything from random weights: the baseline that shows what the transfer bought.

    Measured: 0.716 on the solar cells and 0.478 on trashnet with 25 small images a class, two
    seeds; the small network 0.712 and 0.626 (docs/strategies.md).

    Args:
        epochs: Of the training.
        backbone: A network to use instead; ``scratch:small-cnn`` is a small one for small data.
    """
    name = "scratch" if backbone is None else "scratch:small-cnn"
    fit = Train(epochs=epochs, batch_norm="train", weight_decay=0.05)
    phase = Phase((Rate(HEAD, 2e-3), Rate(_ALL, 2e-3)), fit, "light")
    return Strategy(name, (phase,), weights="random", backbone=backbone)


def _head_phase(epochs: int | None = None) -> Phase:
    if epochs is None:
        return Phase(_HEAD_ONLY, Solve(PENALTIES))
    return Phase(_HEAD_ONLY, trained_head(epochs))


def trained_head(epochs: int) -> Train:
    """Return how a head is trained where it is not solved."""
    return Train(epochs=epochs, optimizer="adam", schedule="constant", weight_decay=0.0)


def _some_parameters(name: str, pattern: str, epochs: int) -> Strategy:
    rates = (Rate(HEAD, 1e-3), Rate(pattern, 1e-3), Rate(_ALL, None))
    fit = Train(epochs=epochs, batch_norm="train", weight_decay=0.0)
    return Strategy(name, (_head_phase(), Phase(rates, fit, "light")))
