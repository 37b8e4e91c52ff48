"""New statistics, and the head that fits them: what is estimated, what is solved, what stays."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from streams import EVERYTHING, HEAD_ONLY, PATH, Memory, equal, make_examples, steady, weights
from tiny import layers, make_backbone, make_model
from torch import nn

from headstart.strategy.phase import Phase, Rate, Train
from headstart.training import adaptation
from headstart.training.adaptation import adapt
from headstart.training.examples import Examples, batches_of, epoch_order
from headstart.training.heads import HeadSpec
from headstart.training.model import Model
from headstart.training.optim import apply
from headstart.training.solve import solve
from headstart.training.tail import Tail

NORMS = {"blocks.0.norm", "blocks.1.norm", "blocks.3.norm"}
TRAIN = Train(epochs=1, batch_size=6, batch_norm="adapt")
LAST = (Rate("head", 1e-2), Rate("layer10", 1e-3), Rate("stage:0..-1", None))


def adapted(
    model: Model,
    examples: Examples | None = None,
    *,
    rates=EVERYTHING,
    train: Train = TRAIN,
    path=PATH,
    **options: Any,
) -> dict[str, Any] | None:
    """Adapt a model as a phase of these rates does."""
    apply(model, Phase(tuple(rates), train))
    examples = make_examples() if examples is None else examples
    model.train()
    return adapt(Tail(model, 0), examples, path, train, **{"view": 0, "seed": 0} | options)


def dark(examples: Examples) -> Examples:
    """Let the same images be a third as bright."""
    return replace(examples, stream=Memory(examples.stream.images // 3))


def right(model: Model, examples: Examples, positions) -> float:
    """Return the share of images that a model gets right."""
    model.eval()
    with torch.no_grad():
        said = model(torch.from_numpy(examples.stream.images[positions])).argmax(dim=1).numpy()
    return float((said == examples.labels[positions]).mean())


def changed(model: Model, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in weights(model).items() if not torch.equal(value, before[name])}


# Statistics


def test_statistics_are_the_mean_of_the_batches_own():
    model, examples = steady(), make_examples()
    told = adapted(model, examples, seed=5)
    order = epoch_order(examples.train, examples.labels, balanced=False, seed=5)
    means, variances = [], []
    for batch in batches_of(order, 6):
        pixels = torch.from_numpy(examples.stream.images[batch])
        with torch.no_grad():
            values = model.blocks[0].conv(model.normalise(pixels)).double()
        means.append(values.mean(dim=(0, 2, 3)))
        variances.append(values.var(dim=(0, 2, 3)))  # unbiased, as torch remembers it
    norm = model.blocks[0].norm
    assert len(means) == 3
    assert torch.allclose(norm.running_mean.double(), torch.stack(means).mean(0), rtol=1e-5)
    assert torch.allclose(norm.running_var.double(), torch.stack(variances).mean(0), rtol=1e-5)
    assert int(norm.num_batches_tracked) == 3
    assert told["norms"] == 3


def test_later_norms_see_what_the_earlier_ones_give_in_training():
    model, examples = steady(), make_examples()
    train = replace(TRAIN, batch_size=100)  # one batch: the statistics are its own
    adapted(model, examples, train=train)
    values = model.normalise(torch.from_numpy(examples.stream.images[examples.train]))
    with torch.no_grad():
        for module in (*model.blocks[0], *model.blocks[1]):
            if isinstance(module, nn.BatchNorm2d):
                assert torch.allclose(module.running_mean, values.mean(dim=(0, 2, 3)), atol=1e-4)
                module.train()
            values = module(values)


def test_they_are_estimated_on_so_many_images_in_batches_of_two_or_more(monkeypatch):
    monkeypatch.setattr(adaptation, "MOST_ADAPTED", 5)
    examples = make_examples()
    adapted(steady(), examples, train=replace(TRAIN, batch_size=2))
    view, batches = examples.stream.asked[0]
    assert view == 0
    assert [len(batch) for batch in batches] == [2, 2]
    assert not set(chain(*batches)) & set(examples.val)


def test_the_view_is_that_of_the_epoch_and_val_is_plain():
    examples = make_examples(views=2)
    adapted(steady(), examples, view=2)
    val = set(examples.val.tolist())
    assert [(view, set(chain(*batches)) <= val) for view, batches in examples.stream.asked] == [
        (2, False),
        (2, False),
        (0, True),
    ]
    assert examples.stream.prepared == [0]


def test_where_each_class_is_drawn_as_often_statistics_are_of_such_batches():
    skewed = make_examples(66, 6, skewed=True)
    asked = []
    for sampling in ("shuffle", "balanced"):
        examples = replace(skewed, stream=Memory(skewed.stream.images))
        adapted(steady(), examples, train=replace(TRAIN, sampling=sampling))
        asked.append(list(chain(*examples.stream.asked[0][1])))
    assert sorted(asked[0]) == skewed.train.tolist()
    assert np.bincount(skewed.labels[asked[1]]).min() > 10


def test_only_norms_that_train_are_touched_and_their_momentum_is_as_before():
    model = make_model()
    model.blocks[3].norm.momentum = 0.03
    before = weights(model)
    assert adapted(model, rates=LAST)["norms"] == 1
    assert changed(model, before) == {
        *(f"blocks.3.norm.{name}" for name in ("running_mean", "running_var")),
        *("blocks.3.norm.num_batches_tracked", "head.weight", "head.bias"),
    }
    assert model.blocks[3].norm.momentum == 0.03
    assert not model.head.training
    # In a block that is trained in part, a norm whose own parameters are frozen holds on.
    model = make_model()
    before = weights(model)
    rates = (Rate("head", 1e-2), Rate("layer1.norm", None), Rate("stage:0..-1", 1e-3))
    assert adapted(model, rates=rates)["norms"] == 2
    assert not any(name.startswith("blocks.1") for name in changed(model, before))


def test_of_all_the_rest_nothing_changes_and_nothing_is_drawn():
    model = make_model()
    before, generator = weights(model), torch.get_rng_state()
    adapted(model)
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed(model, before) == {f"{norm}.{kind}" for norm in NORMS for kind in kinds} | {
        "head.weight",
        "head.bias",
    }
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_momentum_is_put_back_where_it_breaks_off():
    model, examples = steady(), make_examples()

    def batches(view, order):
        raise KeyboardInterrupt

    examples.stream.batches = batches
    with pytest.raises(KeyboardInterrupt):
        adapted(model, examples)
    assert model.blocks[0].norm.momentum == 0.1


@pytest.mark.parametrize("rates", [EVERYTHING, HEAD_ONLY])
def test_without_norms_that_train_nothing_happens(rates):
    named = layers()
    if rates is EVERYTHING:
        named |= {
            "stem": nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 6, 3), norm=nn.GroupNorm(2, 6))),
            "layer1": nn.Conv2d(6, 6, 3),
            "layer10": nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(6, track_running_stats=False), mix=nn.Conv2d(6, 8, 3)
                )
            ),
        }
    model, examples = make_model(make_backbone(named)), make_examples()
    before = weights(model)
    assert adapted(model, examples, rates=rates) is None
    assert equal(weights(model), before)
    assert not examples.stream.asked


def test_a_single_image_has_no_statistics():
    examples = make_examples()
    model = steady()
    before = weights(model)
    assert adapted(model, replace(examples, train=examples.train[:1])) is None
    assert equal(weights(model), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_is_a_function_of_the_seed(precision):
    path = replace(PATH, precision=precision)
    models = [steady() for _ in range(3)]
    told = [
        adapted(model, seed=seed, path=path) for model, seed in zip(models, (1, 1, 2), strict=True)
    ]
    assert told[0] == told[1]
    assert equal(weights(models[0]), weights(models[1]))
    assert not equal(weights(models[0]), weights(models[2]))
    assert models[0].blocks[0].norm.running_mean.dtype == torch.float32


def test_where_memory_is_short_the_batches_are_smaller():
    model, examples = steady(), make_examples()
    sizes: list[int] = []

    def short(module, given):
        if len(given[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(len(given[0]))

    model.blocks[0].register_forward_pre_hook(short)
    told = adapted(model, examples)
    assert told["penalty"] is not None
    assert (max(sizes), min(sizes)) == (3, 2)
    other = steady()
    adapted(other, make_examples(), train=replace(TRAIN, batch_size=3))
    name = "blocks.0.norm.running_var"
    assert torch.equal(weights(model)[name], weights(other)[name])
    model.blocks[0].register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory"))
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        adapted(model, examples)


# The head


def test_a_head_is_right_again_after_the_images_have_changed():
    examples = make_examples(120, 60)
    model = steady()
    adapted(model, examples)
    assert right(model, examples, examples.val) > 0.9
    other = dark(examples)
    assert right(model, other, other.val) < 0.6
    adapted(model, other)
    assert right(model, other, other.val) > 0.9


def test_the_head_is_the_solution_on_what_the_network_now_gives(monkeypatch):
    seen = {}

    def spied(train, val, plan, **options):
        seen.update(train=train, val=val, plan=plan, options=options)
        return solve(train, val, plan, **options)

    monkeypatch.setattr(adaptation, "solve", spied)
    model = steady()
    examples = replace(make_examples(), weights=np.linspace(1, 2, 22, dtype=np.float32))
    told = adapted(model, examples, weighted=True)
    with torch.no_grad():
        features = model.eval().features(torch.from_numpy(examples.stream.images)).numpy()
    for part, positions in (("train", examples.train), ("val", examples.val)):
        np.testing.assert_allclose(seen[part][0], features[positions], rtol=1e-5, atol=1e-6)
        assert (seen[part][1] == examples.labels[positions]).all()
    given = seen["options"]["weights"]
    assert [len(part) for part in given] == [16, 6]
    assert (given[0] == examples.weights[:16]).all()
    assert (seen["options"]["balanced"], seen["options"]["refit"]) == (True, False)
    found = solve(seen["train"], seen["val"], seen["plan"], **seen["options"])
    assert np.array_equal(model.head.weight.detach().numpy(), found.val_weight)
    assert np.array_equal(model.head.bias.detach().numpy(), found.val_bias)
    assert told == {"norms": 3, "penalty": found.penalty}


@pytest.mark.parametrize(
    ("sampling", "weighted", "balanced"),
    [("shuffle", False, False), ("shuffle", True, True), ("balanced", False, True)],
)
def test_classes_count_in_the_head_as_in_the_loss(sampling, weighted, balanced, monkeypatch):
    asked = []

    def spied(*parts, **options):
        asked.append(options["balanced"])
        return solve(*parts, **options)

    monkeypatch.setattr(adaptation, "solve", spied)
    adapted(steady(), train=replace(TRAIN, sampling=sampling), weighted=weighted)
    assert asked == [balanced]


@pytest.mark.parametrize("head", ["mlp:4", "linear,dropout=0.5"])
def test_a_head_that_is_not_one_layer_keeps_its_weights(head):
    model = steady()
    model.head = HeadSpec.parse(head).build(8, 3)
    before = weights(model)
    assert adapted(model) == {"norms": 3, "penalty": None}
    assert not any(name.startswith("head") for name in changed(model, before))


def without_a_bias(model: Model, examples: Examples):
    model.head = nn.Linear(8, 3, bias=False)
    return examples, EVERYTHING


def frozen(model: Model, examples: Examples):
    return examples, (Rate("head", None), *EVERYTHING)


def short_of_a_class(model: Model, examples: Examples):
    return replace(examples, train=examples.train[examples.labels[examples.train] > 0]), EVERYTHING


def no_numbers(model: Model, examples: Examples):
    with torch.no_grad():
        model.blocks[2].norm.bias.fill_(torch.nan)
    return examples, EVERYTHING


@pytest.mark.parametrize("case", [without_a_bias, frozen, short_of_a_class, no_numbers])
def test_a_head_that_can_not_be_solved_keeps_its_weights(case):
    model = steady()
    examples, rates = case(model, make_examples())
    before = model.head.weight.detach().clone()
    assert adapted(model, examples, rates=rates) == {"norms": 3, "penalty": None}
    assert torch.equal(model.head.weight, before)


@pytest.mark.parametrize("case", ["none", "short of a class"])
def test_val_may_be_empty_or_short_of_a_class(case):
    examples = make_examples()
    few = examples.val[:0] if case == "none" else examples.val[examples.labels[examples.val] > 0]
    model = steady()
    assert adapted(model, replace(examples, val=few))["penalty"] is not None
    assert right(model, examples, examples.train) > 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_what_it_is_on_the_processor():
    model, other = steady(), steady().to("cuda")
    path = replace(PATH, device="cuda")
    assert adapted(other, path=path)["penalty"] is not None
    adapted(model)
    for norm in (name for name in weights(model) if name.endswith(("running_mean", "running_var"))):
        assert torch.allclose(weights(model)[norm], weights(other)[norm].cpu(), rtol=1e-2), norm
    examples = make_examples()
    assert right(other.cpu(), examples, examples.train) > 0.5
