"""The gradients of one batch: mixing, parts, penalties, clipping."""

from __future__ import annotations

import pytest
import torch
from streams import make_engine, steady


def gradients_of(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def batch(engine, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(engine.examples.stream.images[:count])
    return images, torch.from_numpy(engine.examples.labels[:count])


@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 2.0, 5.0])])
@pytest.mark.parametrize("parts", [2, 3, 6, 50])
def test_parts_add_up_to_the_whole(parts, class_weights):
    found = []
    for number in (1, parts):
        model = steady()
        options = {"class_weights": class_weights}
        engine = make_engine(model, batch_norm="hold", l2=0.3, options=options)
        model.eval()
        loss = engine.gradients.compute(*batch(engine), parts=number, seed=5)
        found.append((loss, gradients_of(model)))
    (whole, first), (split, second) = found
    assert split == pytest.approx(whole, rel=1e-5)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-5), name


def test_the_seed_decides_what_is_drawn_and_the_generator_stays():
    engine = make_engine(steady(), mixup=1.0)
    state = torch.get_rng_state()
    losses = [engine.gradients.compute(*batch(engine), seed=seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_clipping_tells_the_norm_before_and_leaves_small_gradients():
    model = steady()
    engine = make_engine(model, clip=0.05)
    engine.gradients.compute(*batch(engine), seed=1)
    before = torch.stack([p.grad.norm() for p in engine._trainable]).norm()
    assert engine.gradients.clip(engine._trainable) == pytest.approx(float(before))
    after = torch.stack([p.grad.norm() for p in engine._trainable]).norm()
    assert float(after) == pytest.approx(0.05, rel=1e-3)
    assert engine.gradients.clip(engine._trainable) == pytest.approx(0.05, rel=1e-3)
    unclipped = make_engine(steady(), clip=None)
    unclipped.gradients.compute(*batch(unclipped), seed=1)
    assert unclipped.gradients.clip(unclipped._trainable) == pytest.approx(float(before))


def test_mixing_gives_shares_of_labels_and_other_images():
    engine = make_engine(steady(), mixup=1.0, label_smoothing=0.0)
    images = torch.from_numpy(engine.examples.stream.images[:6])
    labels = torch.from_numpy(engine.examples.labels[:6])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        mixed, shares = engine.gradients.mix(images, labels)
    assert mixed.shape == images.shape
    assert shares.sum(dim=1) == pytest.approx(torch.ones(6))
    share = float(shares[0, labels[0]]) if labels[0] != labels[-1] else None
    assert share is not None
    assert 0 < share < 1
    expected = share * images.float() + (1 - share) * images.float().roll(1, 0)
    assert torch.allclose(mixed, expected, atol=1e-3)


def test_both_ways_to_mix_are_drawn():
    engine = make_engine(steady(), mixup=1.0, cutmix=1.0)
    images = torch.from_numpy(engine.examples.stream.images[:6])
    labels = torch.from_numpy(engine.examples.labels[:6])
    whole = set()
    with torch.random.fork_rng(devices=[]):
        for seed in range(12):
            torch.manual_seed(seed)
            mixed, _ = engine.gradients.mix(images, labels)
            whole.add(bool((mixed == mixed.round()).all()))  # cutmix invents no colour
    assert whole == {True, False}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_an_image_of_twice_the_weight_counts_as_two(smoothing, class_weights):
    found = []
    for weights, twice in (([2.0, 1, 1, 1], []), (None, [0]), ([6.0, 3, 3, 3], [])):
        model = steady()
        options = {"class_weights": class_weights}
        engine = make_engine(model, batch_norm="hold", label_smoothing=smoothing, options=options)
        model.eval()
        images, labels = batch(engine, 4)
        images, labels = torch.cat([images, images[twice]]), torch.cat([labels, labels[twice]])
        given = None if weights is None else torch.tensor(weights)
        loss = engine.gradients.compute(images, labels, weights=given, seed=5)
        found.append((loss, gradients_of(model)))
    (first, theirs), *others = found
    for loss, gradients in others:
        assert loss == pytest.approx(first, rel=1e-5)
        for name in theirs:
            assert torch.allclose(gradients[name], theirs[name], atol=1e-5), name


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("parts", [1, 2, 4, 9])
def test_parts_of_weighted_images_add_up_too(parts, mixup):
    found = []
    for number in (1, parts):
        model = steady()
        engine = make_engine(
            model,
            batch_norm="hold",
            mixup=mixup,
            options={"class_weights": torch.tensor([1.0, 2.0, 5.0])},
        )
        model.eval()
        weights = torch.tensor([0.5, 1.0, 3.0, 1.0, 0.1, 2.0])
        loss = engine.gradients.compute(*batch(engine), weights=weights, parts=number, seed=5)
        found.append((loss, gradients_of(model)))
    (whole, first), (split, second) = found
    assert split == pytest.approx(whole, rel=1e-5)
    for name in first:
        assert torch.allclose(first[name], second[name], atol=1e-5), name


def test_a_mixed_image_counts_as_its_parts_do():
    """An image of hardly any weight is hardly in the loss, whatever it is mixed with."""
    losses = {}
    for label in (0, 1):
        model = steady()
        engine = make_engine(model, batch_norm="hold", mixup=1.0)
        model.eval()
        images, labels = batch(engine, 2)
        labels = torch.tensor([label, int(labels[1])])
        for weight in (1.0, 1e-7):
            weights = torch.tensor([weight, 1.0])
            loss = engine.gradients.compute(images, labels, weights=weights, seed=4)
            losses[label, weight] = loss
    assert losses[0, 1e-7] == pytest.approx(losses[1, 1e-7], rel=1e-4)
    assert losses[0, 1.0] != pytest.approx(losses[1, 1.0], rel=1e-2)
