"""How often ``keep = "better"`` keeps a phase, by what it truly gains; simulated.

    python benchmarks/keeping_power.py

A network has 86 % of all images right. Training decides 6 % of the images otherwise: 4 % in every
one of ten epochs, so many more right than spoilt as the true gain says, and 2 % in each epoch anew,
as many right as spoilt: epochs of one training are alike.
Of the ten, the one with most val images right is compared with the start, as the engine does.
Probabilities go with being right, and as much as ours do: those of the right class are drawn
around 0.85 where it is named, and 0.3 where it is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headstart.training.keeping import compare

RIGHT, LASTING, PASSING, EPOCHS = 0.86, 0.04, 0.02, 10
SIZES = (50, 300, 1000)
GAINS = (-0.03, -0.01, 0.0, 0.01, 0.03)
TRIES = 1000


def main() -> None:
    """Print a row a size of val, and a column a gain."""
    print("| n val | " + " | ".join(f"{100 * gain:+.0f}" for gain in GAINS) + " |")
    print("|" + "---|" * (1 + len(GAINS)))
    for n in SIZES:
        shares = [
            share_kept(n, gain, np.random.default_rng([n, column]))
            for column, gain in enumerate(GAINS)
        ]
        print(f"| {n:,} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")


def share_kept(n: int, gain: float, draw: np.random.Generator) -> float:
    """Return how often a phase of this true gain is kept by ``n`` val images."""
    labels = np.zeros(n, dtype=np.int64)
    return float(np.mean([kept(labels, gain, draw) for _ in range(TRIES)]))


def kept(labels: npt.NDArray[np.int64], gain: float, draw: np.random.Generator) -> bool:
    """Simulate a phase, and ask."""
    right = draw.random(len(labels)) < RIGHT
    trained = changed(right, LASTING, gain, draw)
    epochs = [changed(trained, PASSING, 0.0, draw) for _ in range(EPOCHS)]
    best = max(epochs, key=lambda epoch: int(epoch.sum()))
    if best.sum() <= right.sum():  # the engine then has the start as its best
        return False
    return compare(shares(right, draw), shares(best, draw), labels).kept


def changed(
    right: npt.NDArray[np.bool_], share: float, gain: float, draw: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return which images are right once a share of all is decided otherwise, with this gain."""
    mended, spoilt = (share + gain) / 2 / (1 - RIGHT), (share - gain) / 2 / RIGHT
    drawn = draw.random(len(right))
    other: npt.NDArray[np.bool_] = drawn < np.where(right, spoilt, mended)
    return right ^ other


def shares(right: npt.NDArray[np.bool_], draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return probabilities (n, 2), the right class being the first."""
    first = np.where(right, 0.85, 0.3) + draw.normal(0, 0.08, len(right))
    first = np.where(right, np.clip(first, 0.51, 0.99), np.clip(first, 0.01, 0.49))
    return np.stack([first, 1 - first], axis=1)


if __name__ == "__main__":
    main()
