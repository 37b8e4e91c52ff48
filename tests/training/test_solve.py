from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from headstart.strategy.phase import Solve
from headstart.training import solve as module
from headstart.training.solve import Solved, solve

GRID = (1e4, 1e3, 1e2, 10.0, 1.0, 0.1, 0.01)
D = 12
Part = tuple[np.ndarray, np.ndarray]


def sample(n: int, classes: int = 2, *, seed: int = 0, spread: float = 1.2) -> Part:
    """Draw features of very different scales around a centre a class; every class occurs."""
    centres = np.random.default_rng(99).normal(size=(classes, D)) / spread
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    values = centres[labels] + rng.normal(size=(n, D))
    return (values * np.geomspace(0.01, 100, D) + np.arange(D)).astype(np.float32), labels


NONE: Part = (np.empty((0, D), np.float32), np.empty(0, np.int64))


def softmax(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    logits = features.astype(np.float64) @ weight.T.astype(np.float64) + bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def scikit_learns(
    train: Part, penalty: float, features: np.ndarray, balanced=False, weights=None
) -> np.ndarray:
    """Return the probabilities of scikit-learn's own logistic regression, solved to the end."""
    mean, std = train[0].mean(axis=0, dtype=float), train[0].std(axis=0, dtype=float)
    model = LogisticRegression(
        C=1 / penalty, tol=1e-10, max_iter=100_000, class_weight="balanced" if balanced else None
    )
    model.fit((train[0] - mean) / std, train[1], weights)
    return model.predict_proba((features - mean) / std)


def joined(*parts: Part) -> Part:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def content(solved: Solved) -> list[bytes]:
    heads = (solved.weight, solved.bias, solved.val_weight, solved.val_bias)
    return [array.tobytes() for array in heads]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_both_heads_are_scikit_learns_logistic_regression(classes, balanced) -> None:
    train, val, test = (sample(n, classes, seed=n)[:2] for n in (300, 120, 200))
    rare = np.flatnonzero((train[1] != 0) | (np.arange(300) % 3 == 0))
    train = train[0][rare], train[1][rare]
    solved = solve(train, val, Solve(GRID), balanced=balanced)
    for head, part in (
        ((solved.val_weight, solved.val_bias), train),
        ((solved.weight, solved.bias), joined(train, val)),
    ):
        expected = scikit_learns(part, solved.penalty, test[0], balanced)
        found = softmax(test[0], *head)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.99
    assert [head.dtype for head in (solved.weight, solved.bias)] == [np.float32] * 2
    assert (solved.weight.shape, solved.bias.shape) == ((classes, D), (classes,))
    assert solved.converged


@pytest.mark.parametrize("classes", [2, 5])
def test_the_scale_of_features_does_not_matter(classes) -> None:
    train, val, test = (sample(n, classes, seed=n) for n in (200, 80, 100))
    scale, shift = np.geomspace(1e3, 1e-3, D), np.linspace(-5, 5, D)

    def moved(part: Part) -> Part:
        return part[0].astype(np.float64) * scale + shift, part[1]

    first = solve(train, val, Solve(GRID))
    second = solve(moved(train), moved(val), Solve(GRID))
    assert second.penalty == first.penalty
    np.testing.assert_allclose(
        softmax(moved(test)[0], second.weight, second.bias),
        softmax(test[0], first.weight, first.bias),
        atol=2e-5,
    )


def test_the_penalty_is_the_one_of_the_least_log_loss_on_val() -> None:
    train, val = sample(60, 3, seed=1, spread=2), sample(150, 3, seed=2, spread=2)
    losses = {p: log_loss(val[1], scikit_learns(train, p, val[0])) for p in GRID}
    best = min(losses, key=lambda penalty: losses[penalty])
    solved = solve(train, val, Solve(GRID))
    assert best not in (GRID[0], GRID[-1])  # or it would not be a choice
    assert solved.penalty == best
    assert solved.chosen_by == "log loss on val (150 images)"
    for step in solved.steps:
        assert step.log_loss == pytest.approx(losses[step.penalty], abs=1e-4)


def test_penalties_are_tried_from_the_strongest_until_the_loss_has_risen_twice() -> None:
    solved = solve(sample(60, 3, seed=1, spread=2), sample(150, 3, seed=2, spread=2), Solve(GRID))
    tried = [step.penalty for step in solved.steps]
    assert tried == list(GRID[: GRID.index(solved.penalty) + 3])
    assert len(tried) < len(GRID)


def test_the_order_of_the_penalties_does_not_matter() -> None:
    train, val = sample(100, 3, seed=1), sample(80, 3, seed=2)
    mixed = tuple(np.random.default_rng(0).permutation(GRID).tolist())
    assert content(solve(train, val, Solve(mixed))) == content(solve(train, val, Solve(GRID)))


@pytest.mark.parametrize("n_val", [60, 20])
def test_one_head_has_seen_val_and_the_other_has_not(n_val) -> None:
    train, val = sample(120, 3, seed=1), sample(n_val, 3, seed=2)
    other = val[0][::-1], (val[1] + 1) % 3
    one, two = (solve(train, part, Solve((10.0,))) for part in (val, other))
    assert np.array_equal(one.val_weight, two.val_weight)
    assert np.array_equal(one.val_bias, two.val_bias)
    assert not np.allclose(one.weight, two.weight)
    assert one.fitted_on == 120 + n_val


# Where val is tiny


def test_a_tiny_val_does_not_choose() -> None:
    train, val = sample(120, 3, seed=1, spread=2), sample(60, 3, seed=2)
    wrong = val[0], (val[1] + 1) % 3
    few = [(part[0][:49], part[1][:49]) for part in (val, wrong)]
    one, two = (solve(train, part, Solve(GRID)) for part in few)
    assert one.chosen_by == two.chosen_by == "log loss in 5-fold cross-validation on train"
    assert (one.penalty, one.steps) == (two.penalty, two.steps)
    enough = [(part[0][:50], part[1][:50]) for part in (val, wrong)]
    one, two = (solve(train, part, Solve(GRID)) for part in enough)
    assert one.penalty < two.penalty
    assert one.chosen_by.startswith("log loss on val")


def test_cross_validation_chooses_what_predicts_held_out_images_best() -> None:
    train = sample(90, 3, seed=1, spread=2)
    held = module._folds(train, balanced=False)
    losses = {}
    for penalty in GRID:
        each = [
            -np.log(scikit_learns((fit._features, fit._labels), penalty, _standard(fit, out[0])))[
                np.arange(len(out[1])), out[1]
            ]
            for fit, out in held
        ]
        losses[penalty] = float(np.concatenate(each).mean())
    solved = solve(train, NONE, Solve(GRID))
    assert solved.penalty == min(losses, key=lambda penalty: losses[penalty])
    for step in solved.steps:
        assert step.log_loss == pytest.approx(losses[step.penalty], abs=1e-4)


def _standard(fit: module._Fit, features: np.ndarray) -> np.ndarray:
    return (features - fit._mean) / fit._std


@pytest.mark.parametrize("sizes", [(30, 20), (7, 5, 3), (2, 2), (9, 1, 1), (4, 2, 1)])
def test_every_image_with_another_of_its_class_is_held_out_once_and_no_class_wholly(sizes) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    features = np.arange(len(labels), dtype=np.float32)[:, None] ** 2
    held = module._folds((features, labels), balanced=False)
    out = np.concatenate([part[0][:, 0] for _, part in held])
    alone = [label for label, size in enumerate(sizes) if size == 1]
    assert sorted(out) == sorted(features[~np.isin(labels, alone), 0])
    for fit, (values, _) in held:
        assert set(fit._labels) == set(labels)
        assert len(fit._labels) + len(values) == len(labels)
        raw = fit._features * fit._std + fit._mean
        assert not set(np.round(raw[:, 0])) & set(values[:, 0])


@pytest.mark.parametrize("sizes", [(8, 6, 1), (2, 2, 2), (3, 1, 1)])
@pytest.mark.parametrize("balanced", [False, True])
def test_few_images_are_enough(sizes, balanced) -> None:
    features, labels = sample(90, 3)
    rows = np.concatenate([np.flatnonzero(labels == c)[:size] for c, size in enumerate(sizes)])
    solved = solve((features[rows], labels[rows]), NONE, Solve(GRID), balanced=balanced)
    assert "cross-validation" in solved.chosen_by
    assert np.isfinite(solved.weight).all()
    assert solved.weight.shape == (3, D)


@pytest.mark.parametrize("grid", [GRID, GRID[::-1]])
def test_one_image_a_class_is_too_few_to_choose_by(grid) -> None:
    features, labels = sample(4, 4)
    solved = solve((features, labels), NONE, Solve(grid))
    assert (solved.penalty, solved.steps) == (10.0, ())
    assert "too few images" in solved.chosen_by
    predicted = softmax(features, solved.weight, solved.bias).argmax(axis=1)
    assert predicted.tolist() == labels.tolist()


def test_without_val_both_heads_are_the_same() -> None:
    train = sample(60, 3)
    solved = solve(train, NONE, Solve(GRID))
    assert content(solved)[:2] == content(solved)[2:]
    assert solved.fitted_on == 60
    expected = scikit_learns(train, solved.penalty, train[0])
    np.testing.assert_allclose(softmax(train[0], solved.weight, solved.bias), expected, atol=1e-4)


# Weights, constants and other trouble


@pytest.mark.parametrize("n_val", [60, 0])
def test_balanced_weights_turn_the_result_towards_rare_classes(n_val) -> None:
    features, labels = sample(400, 2, spread=3)
    rows = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:12]])
    train, val, test = (features[rows], labels[rows]), sample(n_val, 2, seed=5), sample(200, seed=6)
    val = val if n_val else NONE
    shares = [
        softmax(test[0], solved.weight, solved.bias)[:, 1].mean()
        for solved in (solve(train, val, Solve((10.0,)), balanced=b) for b in (False, True))
    ]
    assert shares[1] > shares[0] + 0.1


def constant_columns(n: int, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    tenth = np.full(n, 0.1, dtype)
    return {
        "zero": np.zeros(n, dtype),
        "a tenth": tenth,
        "huge": np.full(n, 3e30, dtype),
        # A feature that does not change can still differ by the rounding of its computation.
        "a tenth, by a bit": np.where(rng.random(n) < 0.5, tenth, np.nextafter(tenth, tenth + 1)),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", constant_columns(1, "float32"))
def test_a_constant_feature_changes_nothing(dtype, name) -> None:
    parts = [sample(n, 3, seed=n) for n in (150, 70, 100)]
    with_it = [
        (np.column_stack([x.astype(dtype), constant_columns(len(x), dtype)[name]]), y)
        for x, y in parts
    ]
    plain = solve(parts[0], parts[1], Solve(GRID))
    solved = solve(with_it[0], with_it[1], Solve(GRID))
    assert solved.penalty == plain.penalty
    np.testing.assert_allclose(
        softmax(with_it[2][0], solved.weight, solved.bias),
        softmax(parts[2][0], plain.weight, plain.bias),
        atol=1e-4,
    )


def test_images_far_outside_of_train_have_a_finite_loss() -> None:
    train, val = sample(60, 2, seed=1), sample(60, 2, seed=2)
    far = val[0] * np.float32(1e6), 1 - val[1]
    solved = solve(train, far, Solve(GRID))
    assert all(np.isfinite(step.log_loss) for step in solved.steps)
    assert json.dumps(solved.to_dict(), allow_nan=False)


def test_a_head_that_did_not_converge_says_so(monkeypatch) -> None:
    train, val = sample(200, 5, seed=1), sample(80, 5, seed=2)
    assert solve(train, val, Solve((0.01,))).converged
    monkeypatch.setattr(module, "_MAX_ITERATIONS", 2)
    solved = solve(train, val, Solve((0.01,)))
    assert not solved.converged
    assert solved.to_dict()["steps"][0][3] is False


@pytest.mark.parametrize("n_val", [60, 20, 0])
def test_the_same_features_give_the_same_bytes(n_val) -> None:
    train, val = sample(100, 4, seed=1), sample(n_val or 4, 4, seed=2)
    val = val if n_val else NONE
    first = solve(train, val, Solve(GRID))
    again = solve((train[0].copy(), train[1].copy()), val, Solve(GRID))
    assert content(first) == content(again)
    assert first.to_dict() == again.to_dict()


@pytest.mark.parametrize("n", [100, 3])
def test_what_was_found_is_plain_json(n) -> None:
    solved = solve(sample(n, 3), NONE, Solve(GRID))
    document = json.loads(json.dumps(solved.to_dict(), allow_nan=False))
    assert document["penalty"] == solved.penalty
    assert document["fitted_on"] == n
    assert len(document["steps"]) == len(solved.steps)


def test_without_a_refit_the_final_head_has_not_seen_val():
    train, val = sample(60, 3, seed=1), sample(150, 3, seed=2)
    once, twice = (solve(train, val, Solve(GRID), refit=refit) for refit in (False, True))
    assert np.array_equal(once.weight, once.val_weight)
    assert np.array_equal(once.bias, once.val_bias)
    assert np.array_equal(once.val_weight, twice.val_weight)
    assert (once.fitted_on, twice.fitted_on) == (60, 210)
    assert not np.array_equal(twice.weight, twice.val_weight)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("n_val", [0, 20, 60])
def test_weights_are_scikit_learns_whatever_their_unit(n_val, balanced) -> None:
    train, val = sample(90, 3), sample(n_val, 3, seed=1) if n_val else NONE
    weights = np.random.default_rng(5).uniform(0.1, 3, len(train[1]) + n_val)
    given = weights[: len(train[1])], weights[len(train[1]) :]
    alone = Solve(penalties=(1.0,))
    solved = solve(train, val, alone, balanced=balanced, weights=given)
    both = joined(train, val)
    expected = scikit_learns(both, 1.0, both[0], balanced, weights / weights.mean())
    assert softmax(both[0], solved.weight, solved.bias) == pytest.approx(expected, abs=1e-3)
    hundredfold = tuple(100 * part for part in given)
    again = solve(train, val, alone, balanced=balanced, weights=hundredfold)
    assert again.weight == pytest.approx(solved.weight, rel=1e-3, abs=1e-6)
    without = solve(train, val, alone, balanced=balanced)
    assert np.abs(without.weight - solved.weight).max() > 0.01 * np.abs(solved.weight).max()


def test_an_image_that_hardly_counts_is_hardly_learnt_from() -> None:
    train = sample(60)
    wrong = train[1].copy()
    wrong[:15] = 1 - wrong[:15]
    weights = np.where(np.arange(60) < 15, 1e-4, 1.0)
    for val in (NONE, sample(60, seed=3)):
        given = weights, np.ones(len(val[1]))
        solved = solve((train[0], wrong), val, Solve(penalties=GRID), weights=given)
        plain = solve((train[0], wrong), val, Solve(penalties=GRID))
        right = [
            (softmax(train[0], each.val_weight, each.val_bias).argmax(axis=1) == train[1])[:15]
            for each in (solved, plain)
        ]
        assert right[0].sum() > right[1].sum()
