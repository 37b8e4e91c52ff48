"""How often the 95 % intervals hold the truth, by simulation; should be 0.95.

    python benchmarks/interval_coverage.py              # 200 test sets a row, about 3 minutes
    python benchmarks/interval_coverage.py --sets 500

Each row simulates test sets of a classifier whose true scores are known from a very large sample.
"plain" is the percentile bootstrap alone; "ours" is what `headstart.metrics.evaluate` returns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from headstart import metrics
from headstart.intervals import Items, resampled, statistics

Simulation = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
TRUTH = 400_000  # items from which the true value is taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=300)
    arguments = parser.parse_args()
    print(f"{arguments.sets} simulated test sets a row, {arguments.resamples} resamples")
    print(f"{'test set':<44}{'metric':<20}{'plain':>7}{'ours':>7}")
    for name, simulate, truths in rows():
        for metric, truth in truths.items():
            plain, ours = coverage(simulate, metric, truth, arguments.sets, arguments.resamples)
            print(f"{name:<44}{metric:<20}{plain:>7.2f}{ours:>7.2f}", flush=True)


def rows() -> Iterator[tuple[str, Simulation, dict[str, float]]]:
    for sizes, share in (
        ((268, 126), 0.86),
        ((40, 40), 0.98),
        ((300, 20), 0.97),
        ((10,) * 6, 0.97),
    ):
        name = f"{len(sizes)} classes of {sizes[0]} to {sizes[-1]}, {share:.0%} right"
        simulate = right_with(sizes, share)
        large = right_with(tuple(TRUTH * size // sum(sizes) for size in sizes), share)
        truth = point(large)
        yield name, simulate, {key: truth[key] for key in ("balanced_accuracy", "macro_f1")}
    for n in (60, 400):
        for excess in (0.0, 0.5):
            truth = point(confident(TRUTH, excess))["ece"] if excess else 0.0
            name = f"{n} images, {'overconfident' if excess else 'calibrated'} (ECE {truth:.2f})"
            yield name, confident(n, excess), {"ece": truth}


def right_with(sizes: tuple[int, ...], share: float) -> Simulation:
    """Each image is right with probability ``share``, else another class at random."""
    labels = np.repeat(np.arange(len(sizes)), sizes)

    def simulate(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        shift = rng.integers(1, len(sizes), len(labels))
        wrong = rng.random(len(labels)) > share
        predicted = (labels + wrong * shift) % len(sizes)
        probabilities = np.full((len(labels), len(sizes)), 0.1 / (len(sizes) - 1))
        probabilities[np.arange(len(labels)), predicted] = 0.9
        return probabilities, labels

    return simulate


def confident(n: int, excess: float) -> Simulation:
    """Two classes; logits are drawn, and stated ``1 + excess`` times as large as they are true."""

    def simulate(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        logits = rng.normal(0, 2, n)
        labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
        stated = 1 / (1 + np.exp(-logits * (1 + excess)))
        return np.stack([1 - stated, stated], axis=1), labels

    return simulate


def point(simulate: Simulation) -> dict[str, float]:
    probabilities, labels = simulate(np.random.default_rng(1))
    return metrics.point_values(probabilities, labels, probabilities.shape[1])


def coverage(
    simulate: Simulation, metric: str, truth: float, sets: int, resamples: int
) -> tuple[float, float]:
    """Return how often the plain bootstrap's interval and ours hold ``truth``."""
    plain = ours = 0
    for number in range(sets):
        probabilities, labels = simulate(np.random.default_rng([2, number]))
        classes = [str(index) for index in range(probabilities.shape[1])]
        found = metrics.evaluate(
            probabilities, labels, classes, seed=number, resamples=resamples
        ).metrics[metric]
        ours += found.low <= truth <= found.high
        low, high = plain_interval(probabilities, labels, metric, number, resamples)
        plain += low <= truth <= high
    return plain / sets, ours / sets


def plain_interval(
    probabilities: np.ndarray, labels: np.ndarray, metric: str, seed: int, resamples: int
) -> tuple[float, float]:
    items = Items.of(probabilities, labels)
    rng = np.random.default_rng(seed)
    values = [statistics(items, draws)[metric] for draws in resampled(items, rng, resamples)]
    low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
