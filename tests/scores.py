"""Labels and predicted probabilities, for tests of metrics and their intervals."""

from __future__ import annotations

import numpy as np

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


def sample(n=400, n_classes=6, *, skill=2.5, seed=0):
    """Draw labels and probabilities that favour the true class by ``skill`` logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += skill
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def names(n_classes):
    return [f"class {c}" for c in range(n_classes)]


def certain(predicted, n_classes, confidence=1.0):
    """Return rows that give ``confidence`` to the predicted class and share the rest."""
    rest = (1 - confidence) / (n_classes - 1)
    rows = np.full((len(predicted), n_classes), rest)
    rows[np.arange(len(predicted)), predicted] = confidence
    return rows
