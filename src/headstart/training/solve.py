"""Solvers of the head: what is convex is solved, not nursed.

A linear head on frozen features is a multinomial logistic regression. It is fitted at each
penalty of a grid, from the strongest to the weakest, each fit starting from the one before;
val's log loss chooses. Features are standardised first and the standardisation is folded into the
weights afterwards, so that the head takes raw features.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from headstart.strategy.phase import Solve

__all__ = ["Solved", "Step", "solve"]

Matrix = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]
Weights = npt.NDArray[np.floating[Any]]

# Below this many val images, one lucky image decides; train is cross-validated instead.
TINY_VAL = 50
FOLDS = 5
_PATIENCE = 2
_MAX_ITERATIONS = 5000
# Of the gradient, so that probabilities are within 1e-4 of the optimum's; at scikit-learn's own
# 1e-4 they were up to 0.013 away.
_TOLERANCE = 1e-6
# A feature whose standard deviation is a smaller share of its mean than this does not vary: it
# differs by the rounding of float32, which standardising would blow up. Its weight is 0.
_CONSTANT = 1e-6


@dataclass(frozen=True, slots=True)
class Step:
    """One penalty of the grid: its log loss, its iterations, and whether it converged."""

    penalty: float
    log_loss: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class Solved:
    """A solved linear head and how it was chosen.

    Attributes:
        weight: (C, D) float32, for raw features.
        bias: (C,) float32.
        val_weight: The same, solved without val: val's results come from these.
        val_bias: See ``val_weight``.
        penalty: The penalty that was chosen.
        steps: The grid as far as it was walked.
        chosen_by: What chose the penalty, in words.
        fitted_on: How many images the final head was solved on.
        converged: Whether every fit at the chosen penalty converged.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    val_weight: npt.NDArray[np.float32]
    val_bias: npt.NDArray[np.float32]
    penalty: float
    steps: tuple[Step, ...]
    chosen_by: str
    fitted_on: int
    converged: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the choice, without the weights, as plain JSON types."""
        return {
            "penalty": self.penalty,
            "chosen_by": self.chosen_by,
            "fitted_on": self.fitted_on,
            "steps": [
                [step.penalty, step.log_loss, step.iterations, step.converged]
                for step in self.steps
            ],
        }


def solve(
    train: tuple[Matrix, Labels],
    val: tuple[Matrix, Labels],
    plan: Solve,
    *,
    balanced: bool = False,
    refit: bool = True,
    weights: tuple[Weights, Weights] | None = None,
) -> Solved:
    """Solve a linear head by logistic regression at the penalty that val likes best.

    Where val has fewer than ``TINY_VAL`` images, cross-validation on train chooses. The final
    head is solved on train and val together; ``val_weight`` has not seen val.

    Args:
        train: Features (N, D) and labels (N,) in 0..C-1, each of two or more classes at least once.
        val: The same for val, which may be empty.
        plan: The penalties.
        balanced: Weigh each image by 1 / its class's frequency.
        refit: Solve the final head on train and val together; else it is the one before.
        weights: How much each image of train and of val counts in a fit, all above 0, beside the
            others. What val says of a penalty is not weighted. None is all alike.
    """
    import sklearn.linear_model  # noqa: F401  # its libraries are loaded before they are limited

    # Its products are too small to share: two threads took 2 s where one takes 1 s, and 34 s
    # beside other work, because they wait for each other.
    with threadpool_limits(limits=1):
        return _solve(train, val, plan, balanced, refit, weights)


def _solve(
    train: tuple[Matrix, Labels],
    val: tuple[Matrix, Labels],
    plan: Solve,
    balanced: bool,
    refit: bool,
    weights: tuple[Weights, Weights] | None,
) -> Solved:
    features, labels = train
    theirs = None if weights is None else weights[0]
    best: tuple[Matrix, Matrix] | None = None
    if len(val[1]) >= TINY_VAL:
        fit = _Fit(train, balanced, theirs)
        steps, best = _walk(plan.penalties, [(fit, val)])
        chosen_by = f"log loss on val ({len(val[1])} images)"
    elif folds := _folds(train, balanced, theirs):
        steps, _ = _walk(plan.penalties, folds)
        chosen_by = f"log loss in {len(folds)}-fold cross-validation on train"
    else:
        steps = ()
        chosen_by = "the middle of the grid: too few images to choose by"
    if steps:
        penalty = min(steps, key=lambda step: step.log_loss).penalty
    else:
        penalty = sorted(plan.penalties)[len(plan.penalties) // 2]
    if best is None:
        best = _Fit(train, balanced, theirs).at(penalty).linear()
    both = (np.concatenate([features, val[0]]), np.concatenate([labels, val[1]]))
    converged = all(step.converged for step in steps if step.penalty == penalty)
    refit = refit and len(val[1]) > 0
    if refit:
        last = _Fit(both, balanced, None if weights is None else np.concatenate(weights))
        last.at(penalty)
        weight, bias = last.linear()
        converged = converged and last.converged
    else:
        weight, bias = best
    return Solved(
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        val_weight=best[0].astype(np.float32),
        val_bias=best[1].astype(np.float32),
        penalty=penalty,
        steps=steps,
        chosen_by=chosen_by,
        fitted_on=len(both[1]) if refit else len(labels),
        converged=converged,
    )


class _Fit:
    """A logistic regression on one training set, moved from penalty to penalty."""

    def __init__(
        self, train: tuple[Matrix, Labels], balanced: bool, weights: Weights | None = None
    ) -> None:
        from sklearn.linear_model import LogisticRegression

        features, self._labels = train
        # Around 1, so that the penalty means the same whatever the unit of the weights.
        self._weights = None if weights is None else weights / weights.mean()
        self._mean = features.mean(axis=0, dtype=np.float64)
        std = features.std(axis=0, dtype=np.float64)
        self._std = np.where(std > _CONSTANT * np.abs(self._mean), std, np.inf)
        self._features = (features - self._mean) / self._std
        self._model = LogisticRegression(
            class_weight="balanced" if balanced else None,
            tol=_TOLERANCE,
            max_iter=_MAX_ITERATIONS,
            warm_start=True,
        )

    def at(self, penalty: float) -> _Fit:
        """Fit at a penalty, starting from the last fit."""
        self._model.C = 1 / penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no convergence: ``converged`` says it
            self._model.fit(self._features, self._labels, self._weights)
        return self

    @property
    def iterations(self) -> int:
        return int(self._model.n_iter_[0])

    @property
    def converged(self) -> bool:
        return self.iterations < _MAX_ITERATIONS

    def losses(self, features: Matrix, labels: Labels) -> Matrix:
        """Return -log p(label) of each image, (N,)."""
        weight, bias = self.linear()
        logits = features @ weight.T + bias
        losses: Matrix = (
            np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]
        )
        return losses

    def linear(self) -> tuple[Matrix, Matrix]:
        """Return weight (C, D) and bias (C,) for raw features, the standardisation folded in."""
        weight, bias = self._model.coef_, self._model.intercept_
        if len(weight) == 1:  # two classes: one sigmoid is a softmax over -z/2 and z/2
            weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / self._std
        return weight, bias - weight @ self._mean


Held = tuple[_Fit, tuple[Matrix, Labels]]


def _walk(
    penalties: Sequence[float], held: Sequence[Held]
) -> tuple[tuple[Step, ...], tuple[Matrix, Matrix]]:
    """Fit at each penalty, strongest first, until the held-out loss has risen twice in a row.

    The held-out loss falls and then rises along the path, so what lies behind is worse. Returns
    the steps, and the first fit's linear layer at the best of them.
    """
    steps: list[Step] = []
    heads: list[tuple[Matrix, Matrix]] = []
    best = 0
    for penalty in sorted(penalties, reverse=True):
        losses = np.concatenate([fit.at(penalty).losses(*part) for fit, part in held])
        iterations = max(fit.iterations for fit, _ in held)
        converged = all(fit.converged for fit, _ in held)
        steps.append(Step(penalty, float(losses.mean()), iterations, converged))
        heads.append(held[0][0].linear())
        if steps[-1].log_loss < steps[best].log_loss:
            best = len(steps) - 1
        if len(steps) - 1 - best == _PATIENCE:
            break
    return tuple(steps), heads[best]


def _folds(
    train: tuple[Matrix, Labels], balanced: bool, weights: Weights | None = None
) -> list[Held]:
    """Split train into stratified folds; a class of one image is never held out."""
    features, labels = train
    fold = np.full(len(labels), -1)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) > 1:
            fold[members] = np.arange(len(members)) % FOLDS
    held = []
    for number in range(fold.max() + 1):
        out = fold == number
        theirs = None if weights is None else weights[~out]
        fit = _Fit((features[~out], labels[~out]), balanced, theirs)
        held.append((fit, (features[out], labels[out])))
    return held
