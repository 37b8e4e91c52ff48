"""The training loop: what is drawn, what each option changes, what is kept, what goes wrong."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from streams import (
    EVERYTHING,
    HEAD_ONLY,
    PATH,
    equal,
    make_engine,
    make_examples,
    steady,
    weights,
)
from tiny import make_backbone, make_model, separable
from torch import nn
from torch.nn import functional as F

from headstart.errors import ModelError, ResourceError
from headstart.strategy.phase import Rate, Train
from headstart.training import adaptation
from headstart.training import engine as engine_module
from headstart.training.chance import chance
from headstart.training.deadline import Deadline
from headstart.training.interrupt import Interruption
from headstart.training.keeping import compare
from headstart.training.optim import factor

BF16 = replace(PATH, precision="bf16")


def losses(events) -> list[float]:
    return [event["loss"] for event in events if event["event"] == "step"]


def trained(model=None, **options):
    """Train and return the weights, the losses of the steps, the record and the engine."""
    events: list = []
    model = make_model() if model is None else model
    engine = make_engine(model, events=events, **options)
    record = engine.run()
    return weights(model), losses(events), record, engine


# Order


def epochs_of(engine) -> list[list[list[int]]]:
    """Return the batches of each epoch; batches of val are those of sorted positions."""
    val = set(engine.examples.val.tolist())
    return [batches for _, batches in engine.examples.stream.asked if not val & set(batches[0])]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 6, 7, 15, 16, 100])
def test_an_epoch_sees_every_image_once_in_batches_of_nearly_one_size(batch_size):
    engine = make_engine(batch_size=batch_size, epochs=3)
    engine.run()
    epochs = epochs_of(engine)
    assert len(epochs) == 3
    for batches in epochs:
        assert sorted(itertools.chain(*batches)) == engine.examples.train.tolist()
        sizes = {len(batch) for batch in batches}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_is_a_function_of_seed_phase_and_epoch_and_of_nothing_else():
    def order(**options):
        engine = make_engine(**options)
        engine.run()
        return epochs_of(engine)

    plain = order()
    torch.rand(7)
    np.random.rand(7)
    for same in (
        {"optimizer": "sgd"}, {"rates": HEAD_ONLY}, {"mixup": 0.2}, {"model": steady()},
        {"monitor": "none"}, {"epochs": 2, "ema": 0.9},
    ):  # fmt: skip
        assert order(**same) == plain
    assert order(epochs=3)[:2] == plain
    for options in ({"seed": 1}, {"number": 2}):
        other = order(options=options)
        assert other[0] != plain[0]
        assert other[1] != plain[1]


def test_balanced_sampling_draws_each_class_as_often():
    examples = make_examples(606, 6, skewed=True)
    engine = make_engine(examples=examples, sampling="balanced", epochs=1, batch_size=100)
    engine.run()
    (batches,) = epochs_of(engine)
    drawn = list(itertools.chain(*batches))
    assert len(drawn) == 600
    counts = np.bincount(examples.labels[drawn])
    assert (abs(counts - 200) < 50).all()  # four standard deviations
    assert {examples.labels[i] for i in examples.train} == {0, 1, 2}


@pytest.mark.parametrize(("first", "expected"), [(0, [1, 2, 0, 1, 2]), (4, [2, 0, 1, 2, 0])])
def test_epochs_go_through_the_views_and_the_plain_image_is_the_last(first, expected):
    examples = replace(make_examples(views=2), first_view=first)
    engine = make_engine(examples=examples, epochs=5, monitor="none")
    record = engine.run()
    val = set(examples.val.tolist())
    views = [view for view, batches in examples.stream.asked if not val & set(batches[0])]
    assert views == expected
    judged = {view for view, batches in examples.stream.asked if val & set(batches[0])}
    assert judged == {0}
    assert record["views"] == 2


# Options


def test_the_same_again_is_the_same_to_the_bit():
    some, others = trained(), trained()
    assert some[1] == others[1]
    assert equal(some[0], others[0])


CHANGES = [
    ({"optimizer": "adam"}, False),
    ({"optimizer": "sgd"}, False),
    ({"schedule": "one-cycle"}, False),
    ({"schedule": "cosine"}, False),
    ({"schedule": "step", "epochs": 3}, False),
    ({"weight_decay": 0.5}, False),
    ({"clip": 0.01}, False),
    ({"clip": None}, False),
    ({"ema": 0.5}, False),
    ({"batch_norm": "train"}, True),
    ({"label_smoothing": 0.3}, True),
    ({"mixup": 0.5}, True),
    ({"cutmix": 0.5}, True),
    ({"l1": 0.1}, True),
    ({"l2": 0.1}, True),
    ({"batch_size": 4}, True),
    ({"sampling": "balanced"}, True),
    ({"options": {"seed": 1}}, True),
    ({"options": {"class_weights": torch.tensor([1.0, 2.0, 9.0])}}, True),
    ({"rates": HEAD_ONLY}, False),
]


@pytest.mark.parametrize(("change", "from_the_start"), CHANGES, ids=lambda value: str(value))
def test_an_option_changes_what_is_learnt_and_no_loss_before_it_acts(change, from_the_start):
    base = {"monitor": "none", "optimizer": "adamw"}
    if "epochs" in change:
        base["epochs"] = change["epochs"]
    if "weight_decay" in change or "clip" in change:
        base["optimizer"] = "sgd"  # AdamW is blind to the scale of gradients
    plain, other = (trained(steady(), **base | more) for more in ({}, change))
    assert not equal(plain[0], other[0])
    assert (plain[1][0] != other[1][0]) == from_the_start
    if "ema" in change:  # the average is kept, and does not steer the steps
        assert plain[1] == other[1]


@pytest.mark.parametrize("change", [{"patience": 5}, {"monitor": "log_loss"}, {"clip": 1e9}])
def test_an_option_that_has_nothing_to_do_changes_nothing(change):
    base = {"monitor": "accuracy", "clip": None}
    some, others = trained(steady(), **base), trained(steady(), **base | change)
    assert some[1] == others[1]
    if "monitor" not in change:
        assert equal(some[0], others[0])


def logits_of(model, examples, positions) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(torch.from_numpy(examples.stream.images[positions]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_the_loss_is_cross_entropy_with_smoothing_weights_and_penalties(smoothing, class_weights):
    examples = make_examples()
    model = steady()
    engine = make_engine(
        model, examples, label_smoothing=smoothing, l1=0.3, l2=0.7, epochs=1,
        options={"class_weights": class_weights},
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.head.state_dict().items()}
    start = steady()
    events: list = []
    engine.emit = lambda event, **values: events.append({"event": event, **values})
    engine.run()
    first = epochs_of(engine)[0][0]
    expected = F.cross_entropy(
        logits_of(start, examples, first),
        torch.from_numpy(examples.labels[first]),
        weight=class_weights,
        label_smoothing=smoothing,
    )
    weight = before["weight"]
    expected = expected + 0.3 * weight.abs().sum() + 0.7 * weight.square().sum()
    assert losses(events)[0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_the_rates_of_each_step_are_those_of_the_schedule(schedule, warmup):
    events: list = []
    make_engine(events=events, schedule=schedule, warmup=warmup, epochs=3).run()
    steps = [event for event in events if event["event"] == "step"]
    train = Train(epochs=3, schedule=schedule, warmup=warmup)
    assert len(steps) == 9
    for number, step in enumerate(steps):
        assert (step["epoch"], step["step"]) == (number // 3 + 1, number % 3 + 1)
        scale = factor(train, number / 9)
        peaks = [rate / scale for rate in step["rates"].values()]
        assert sorted({round(peak, 9) for peak in peaks}) == [1e-3, 1e-2]
        assert any("head" in name for name in step["rates"])


def test_plateau_drops_the_rates_when_val_stands_still(monkeypatch):
    events: list = []
    engine = make_engine(steady(), events=events, schedule="plateau", epochs=6)
    fixed = {"accuracy": 0.5, "log_loss": 1.0, "balanced_accuracy": 0.5, "macro_f1": 0.5}
    monkeypatch.setattr(engine, "_judge", lambda: dict(fixed))
    engine.run()
    rates = {e["epoch"]: max(e["rates"].values()) for e in events if e["event"] == "step"}
    assert list(rates.values()) == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_plateau_without_val_never_drops():
    events: list = []
    make_engine(examples=make_examples(val=0), events=events, schedule="plateau", epochs=6).run()
    assert {max(e["rates"].values()) for e in events if e["event"] == "step"} == {1e-2}


def test_gradients_are_clipped_together(monkeypatch):
    seen = []
    engine = make_engine(steady(), optimizer="sgd", clip=0.05, epochs=1)
    step = engine.optimizer.step

    def spied(*arguments, **options):
        total = torch.stack([p.grad.norm() for p in engine._trainable]).norm()
        seen.append(float(total))
        return step(*arguments, **options)

    monkeypatch.setattr(engine.optimizer, "step", spied)
    engine.run()
    assert len(seen) == 3
    assert seen == pytest.approx([0.05] * 3, rel=1e-3)


# Averages and the best epoch


def collected(model, **options):
    """Train and return copies of the model at each step and each epoch, and the engine."""
    steps, epochs = [], []

    def emit(event, **values):
        if event == "step":
            steps.append(weights(model))
        if event == "epoch":
            epochs.append(weights(model))

    engine = make_engine(model, options={"emit": emit} | options.pop("options", {}), **options)
    return steps, epochs, engine.run(), engine


def test_the_average_is_the_exponential_moving_average_and_it_is_kept():
    model = make_model()
    steps, _, record, _ = collected(model, ema=0.75, monitor="none", batch_norm="train")
    average = steps[0]
    for now in steps[1:]:
        average = {
            name: value * 0.75 + now[name] * 0.25 if value.is_floating_point() else now[name]
            for name, value in average.items()
        }
    found = weights(model)
    for name, value in average.items():
        if value.is_floating_point():
            assert torch.allclose(found[name], value, atol=1e-6), name
    assert record["kept"] == "last epoch"


def test_the_average_is_what_is_judged():
    model = steady()
    examples = make_examples()
    _, epochs, record, engine = collected(
        model, examples=examples, ema=0.9, epochs=1, monitor="log_loss"
    )
    shares = logits_of(model, examples, examples.val).double().softmax(dim=1).numpy()
    right = shares[np.arange(6), examples.labels[examples.val]]
    told = record["epochs"][0]["val"]["log_loss"]
    assert told == pytest.approx(float(-np.log(right).mean()), abs=1e-5)
    last = steady()
    last.load_state_dict(epochs[-1])
    shares = logits_of(last, examples, examples.val).double().softmax(dim=1).numpy()
    raw = float(-np.log(shares[np.arange(6), examples.labels[examples.val]]).mean())
    assert told != pytest.approx(raw, abs=1e-5)
    assert engine.average is not None


def scripted(values: list[float]):
    """Return a judge that finds these accuracies, one after the other."""
    left = iter(values)

    def judge():
        value = next(left)
        return {"accuracy": value, "log_loss": 1 - value, "balanced_accuracy": value, "macro_f1": 0}

    return judge


def best_of(scores, monkeypatch, **options):
    model = make_model()
    epochs, events = [], []

    def emit(event, **values):
        events.append({"event": event, **values})
        if event == "epoch":
            epochs.append(weights(model))

    engine = make_engine(model, options={"emit": emit} | options.pop("options", {}), **options)
    monkeypatch.setattr(engine, "_judge", scripted(scores))
    record = engine.run()
    return weights(model), epochs, record, events


def test_the_best_epoch_is_restored(monkeypatch):
    found, epochs, record, _ = best_of([0.5, 0.8, 0.8, 0.6], monkeypatch, epochs=4)
    assert record["best_epoch"] == 2
    assert record["kept"] == "epoch 2, best accuracy"
    assert equal(found, epochs[1])
    assert not equal(found, epochs[3])
    assert record["stopped"] is None


def test_patience_stops_and_says_so(monkeypatch):
    scores = [0.5, 0.8, 0.7, 0.75, 0.9]
    found, epochs, record, events = best_of(scores, monkeypatch, epochs=5, patience=2)
    assert len(epochs) == 4
    assert record["stopped"] == {"why": "patience", "epoch": 4}
    told = [event for event in events if event["event"] == "stopped"]
    assert [(event["why"], event["epoch"]) for event in told] == [("patience", 4)]
    assert equal(found, epochs[1])
    record = best_of(scores, monkeypatch, epochs=5, patience=3)[2]
    assert (record["stopped"], record["best_epoch"]) == (None, 5)


def test_a_later_phase_may_find_that_it_began_best(monkeypatch):
    model = make_model()
    before = weights(model)
    engine = make_engine(model, epochs=3, options={"number": 2})
    monkeypatch.setattr(engine, "_judge", scripted([0.9, 0.1, 0.2, 0.3]))
    record = engine.run()
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1, 2, 3]
    assert record["epochs"][0]["loss"] is None
    assert record["best_epoch"] == 0
    assert equal(weights(model), before)


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("accuracy", 1), ("log_loss", 2), ("balanced_accuracy", 3), ("macro_f1", 4)],
)
def test_the_monitor_decides_what_is_best(monitor, best, monkeypatch):
    names = ("accuracy", "log_loss", "balanced_accuracy", "macro_f1")
    engine = make_engine(epochs=4, monitor=monitor)
    found = iter(
        {name: 0.5 + (0.1 if number == at else 0) * (-1 if name == "log_loss" else 1)
         for at, name in enumerate(names)}
        for number in range(4)
    )  # fmt: skip
    monkeypatch.setattr(engine, "_judge", lambda: next(found))
    record = engine.run()
    assert (record["best_epoch"], record["monitor"]) == (best, monitor)


@pytest.mark.parametrize("options", [{"monitor": "none"}, {"examples": make_examples(val=0)}])
def test_without_a_monitor_or_val_the_last_epoch_is_kept(options):
    model = make_model()
    _, epochs, record, _ = collected(model, epochs=3, **options)
    assert record["best_epoch"] is None
    assert record["kept"] == "last epoch"
    assert equal(weights(model), epochs[-1])


def test_the_history_has_loss_val_and_rates_of_each_epoch():
    events: list = []
    record = make_engine(events=events, epochs=2).run()
    for number, epoch in enumerate(record["epochs"], start=1):
        steps = [e for e in events if e["event"] == "step" and e["epoch"] == number]
        sizes = [len(batch) for batch in np.array_split(np.arange(16), 3)]
        mean = np.average([step["loss"] for step in steps], weights=sizes)
        assert epoch["loss"] == pytest.approx(mean)
        assert {"accuracy", "log_loss", "balanced_accuracy", "macro_f1"} <= set(epoch["val"])
        assert epoch["rates"] == steps[-1]["rates"]
        assert epoch["seconds"] >= 0
    assert record["kind"] == "train"
    assert record["precision"] == "fp32"
    assert record["boundary"] == 0


# Chance


def test_dropout_is_drawn_from_seed_phase_epoch_and_step():
    plain = trained()[1]
    torch.manual_seed(99)
    assert trained()[1] == plain
    assert trained(options={"seed": 1})[1] != plain
    frozen = [Rate("head", 1e-30), Rate("stage:0..-1", 1e-30)]  # nothing moves, so only chance
    one = make_examples(4, 1)
    options = {"rates": frozen, "examples": one, "batch_size": 3, "epochs": 4, "weight_decay": 0.0}
    drawn = trained(**options)[1]
    assert len(set(drawn)) == len(drawn)
    assert trained(**options | {"options": {"number": 2}})[1] != drawn
    assert chance(1, 23) != chance(12, 3)


def test_global_generators_stay_as_they_are():
    model = make_model()
    torch.manual_seed(5)
    np.random.seed(5)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    trained(model, mixup=0.4, cutmix=0.4, ema=0.9, batch_norm="train")
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numbers).all()


# Frozen


MIDDLE = (
    Rate("head", 1e-2), Rate("layer10", 1e-2), Rate("layer1", None), Rate("stem", 1e-2),
)  # fmt: skip


@pytest.mark.parametrize("statistics", ["hold", "train"])
@pytest.mark.parametrize(
    ("rates", "frozen"),
    [
        (HEAD_ONLY, ("stem", "layer1", "layer10")),
        (
            (Rate("head", 1e-2), Rate("layer10", 1e-2), Rate("stage:0..-1", None)),
            ("stem", "layer1"),
        ),
        (MIDDLE, ("layer1",)),
        (EVERYTHING, ()),
    ],
)
def test_frozen_is_frozen_and_the_rest_moves(rates, frozen, statistics):
    model = make_model()
    names = [block.name for block in model.backbone.blocks]
    before = weights(model)
    engine = make_engine(model, rates=rates, batch_norm=statistics, monitor="none")
    held = {id(p) for group in engine.optimizer.param_groups for p in group["params"]}
    engine.run()
    after = weights(model)
    for number, name in enumerate(names):
        block = model.blocks[number]
        for key, parameter in block.named_parameters():
            asleep = name in frozen
            assert parameter.requires_grad != asleep
            assert (id(parameter) in held) != asleep
            same = torch.equal(before[f"blocks.{number}.{key}"], after[f"blocks.{number}.{key}"])
            assert same == asleep, (name, key)
            if asleep:
                assert parameter.grad is None
        for key, _ in block.named_buffers():
            same = torch.equal(before[f"blocks.{number}.{key}"], after[f"blocks.{number}.{key}"])
            assert same == (name in frozen or statistics == "hold"), (name, key)


def test_there_is_no_graph_behind_a_frozen_prefix(monkeypatch):
    model = make_model()
    rates = (Rate("head", 1e-2), Rate("layer10", 1e-2), Rate("stage:0..-1", None))
    engine = make_engine(model, make_examples(val=0), rates=rates, epochs=1)
    graphs = {}

    def watch(name):
        def hook(module, inputs, output):
            graphs[name] = output.requires_grad

        return hook

    for block, module in zip(model.backbone.blocks, model.blocks, strict=True):
        module.register_forward_hook(watch(block.name))
    engine.run()
    assert graphs == {
        "stem": False, "layer1": False, "drop": False, "layer10": True, "pool": True,
    }  # fmt: skip


# Precision


def test_both_precisions_in_one_process_and_back_again():
    bf16 = BF16
    first = trained(steady())
    half = trained(steady(), path=bf16)
    again = trained(steady())
    assert equal(first[0], again[0])
    assert first[1] == again[1]
    assert half[1] != first[1]
    assert half[1] == pytest.approx(first[1], rel=0.03)
    assert half[2]["precision"] == "bf16"
    assert all(v.dtype == first[0][n].dtype for n, v in half[0].items())
    assert trained(steady(), path=bf16)[1] == half[1]


@pytest.mark.parametrize("ema", [None, 0.9])
def test_in_half_precision_depthwise_layers_that_are_trained_stay_in_fp32(ema):
    model, seen = make_model(make_backbone(separable())), set()
    engine = make_engine(model, path=BF16, ema=ema)
    judged = engine.tail if engine.average is None else engine.average.module
    for tail in (engine.tail, judged):
        for name in ("0", "1", "3"):
            tail.blocks[name][0].register_forward_hook(
                lambda layer, _, output: seen.add((layer.groups > 1, output.dtype))
            )
    engine.run()
    assert seen == {(True, torch.float32), (False, torch.bfloat16)}
    assert all("forward" not in vars(layer) for layer in judged.blocks.modules())


# What goes wrong


def spoil(engine, *, at: int):
    """Let the loss of the step ``at``, from 1, be no number."""
    whole, calls = engine.gradients.loss, itertools.count(1)

    def broken(*inputs):
        return whole(*inputs) * (math.nan if next(calls) == at else 1.0)

    engine.gradients.loss = broken


def test_a_loss_that_is_no_number_stops_and_goes_back_to_the_best_epoch():
    model = make_model()
    epochs, saved, events = [], [], []

    def emit(event, **values):
        events.append(event)
        if event == "epoch":
            epochs.append(weights(model))

    engine = make_engine(
        model, epochs=4, batch_norm="train",
        options={"emit": emit, "save": lambda position, _: saved.append(position)},
    )  # fmt: skip
    spoil(engine, at=5)
    record = engine.run()
    stopped = record["stopped"]
    assert (stopped["why"], stopped["what"]) == ("not-finite", "loss")
    assert (stopped["epoch"], stopped["step"]) == (2, 2)
    second = epochs_of(engine)[1][1]
    assert stopped["files"] == [f"{position}.jpg" for position in second]
    assert events.count("stopped") == 1
    assert saved[-1]["stopped"] == stopped
    assert equal(weights(model), epochs[0])
    assert record["kept"] == "epoch 1, best accuracy"
    assert all(value.isfinite().all() for value in weights(model).values())


def test_in_the_first_epoch_the_start_is_kept():
    model = make_model()
    before = weights(model)
    engine = make_engine(model, batch_norm="train", monitor="none")
    spoil(engine, at=3)
    record = engine.run()
    assert record["kept"] == "the start"
    assert record["best_epoch"] is None
    assert equal(weights(model), before)


def test_without_a_monitor_the_last_whole_epoch_is_kept():
    model = make_model()
    epochs: list = []
    engine = make_engine(model, epochs=4, monitor="none")
    engine.emit = lambda event, **_: epochs.append(weights(model)) if event == "epoch" else None
    spoil(engine, at=8)
    record = engine.run()
    assert record["kept"] == "epoch 2, the last that was finite"
    assert equal(weights(model), epochs[1])


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_rate_of_a_milliard_stops_with_finite_weights(optimizer, clip):
    huge = [replace(rate, rate=1e9) for rate in EVERYTHING]
    model = make_model()
    record = make_engine(model, rates=huge, optimizer=optimizer, clip=clip, epochs=9).run()
    assert all(value.isfinite().all() for value in weights(model).values())
    if record["stopped"] is not None:
        assert record["stopped"]["why"] == "not-finite"
    examples = make_examples()
    assert logits_of(model, examples, examples.val).isfinite().all()


def test_outputs_on_val_that_are_no_numbers_stop_too():
    model = steady()
    model.head = nn.Sequential(nn.Linear(8, 3), nn.Linear(3, 3))
    engine = make_engine(model)
    engine.tail.head[1].register_forward_hook(lambda m, i, out: out if m.training else out / 0)
    record = engine.run()
    assert record["stopped"]["what"] == "output on val"
    assert record["stopped"]["files"] == [f"{number}.jpg" for number in range(16, 22)]
    assert (record["stopped"]["epoch"], record["stopped"]["step"]) == (1, 3)
    assert record["kept"] == "the start"


def test_a_spoilt_step_leaves_no_trace_in_the_statistics():
    model = make_model()
    examples = make_examples()
    engine = make_engine(model, examples, batch_norm="train", monitor="none", epochs=1)
    before = weights(model)
    whole = engine.gradients.loss

    def nan_inside(values, labels):
        return whole(values.float() * math.nan, labels)

    engine.gradients.loss = nan_inside
    engine.best = engine._snapshot()
    engine._steps(0, [np.arange(6)])
    assert engine.position.stopped is not None
    assert equal(weights(model), before)


def limited(engine, most: int) -> list[int]:
    """Let a forward pass of more than ``most`` images raise; return the sizes that passed."""
    sizes: list[int] = []
    whole = engine.gradients.loss

    def loss(values, labels):
        if len(values) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(len(values))
        return whole(values, labels)

    engine.gradients.loss = loss
    return sizes


@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 3.0, 9.0])])
@pytest.mark.parametrize("most", [6, 4, 2, 1])
def test_out_of_memory_halves_and_keeps_the_gradients_of_the_whole_batch(most, class_weights):
    options = {"l2": 0.1, "monitor": "none", "optimizer": "sgd", "batch_size": 8, "clip": None}
    given = {"class_weights": class_weights}
    plain = trained(steady(), **options, options=given)
    events: list = []
    model = steady()
    engine = make_engine(model, events=events, **options, options=given)
    sizes = limited(engine, most)
    record = engine.run()
    halvings = {6: 1, 4: 1, 2: 2, 1: 3}[most]
    assert max(sizes) <= most
    assert losses(events) == pytest.approx(plain[1], abs=1e-5)
    for name, value in weights(model).items():
        assert torch.allclose(value, plain[0][name], atol=1e-5), name
    told = [event for event in events if event["event"] == "memory"]
    assert [event["parts"] for event in told] == [2, 4, 8][:halvings]
    assert [event["images"] for event in told] == [4, 2, 1][:halvings]
    assert record["parts"] == 2**halvings
    assert record["images_at_once"] == 8 // 2**halvings


def test_memory_for_not_even_one_image_names_what_is_smaller():
    engine = make_engine(batch_size=8)
    limited(engine, 0)
    with pytest.raises(ResourceError, match="single image") as raised:
        engine.run()
    assert "last-blocks:1" in str(raised.value)
    assert "--size" in str(raised.value)
    assert "efficientnet_lite0" in str(raised.value)


def test_the_processors_own_words_for_it_are_understood_and_others_are_not():
    def raising(text):
        engine = make_engine()
        whole, calls = engine.gradients.loss, itertools.count()

        def loss(*inputs):
            if not next(calls):
                raise RuntimeError(text)
            return whole(*inputs)

        engine.gradients.loss = loss
        return engine

    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    assert raising(said).run()["parts"] == 2
    with pytest.raises(RuntimeError, match="mat1"):
        raising("mat1 and mat2 shapes cannot be multiplied").run()


# What stays


def kept_if_better(model=None, **options):
    """Make an engine of a phase that must be better on val."""
    engine = make_engine(model, **options)
    engine.phase = replace(engine.phase, keep="better")
    return engine


GOOD = {"epochs": 6, "examples": make_examples(80, 40), "batch_size": 8}


def test_where_val_improves_by_more_than_its_noise_the_weights_stay():
    found, plain = make_model(), make_model()
    record = kept_if_better(found, **GOOD).run()
    verdict = record["keep"]
    assert verdict["kept"]
    assert verdict["epoch"] == record["best_epoch"] > 0
    assert verdict["n"] == 40
    history = {epoch["epoch"]: epoch["val"] for epoch in record["epochs"]}
    assert verdict["accuracy_before"] == pytest.approx(history[0]["accuracy"])
    assert verdict["accuracy_after"] == pytest.approx(history[verdict["epoch"]]["accuracy"])
    assert record["kept"] == f"epoch {verdict['epoch']}, best accuracy"
    assert "keep" not in make_engine(plain, **GOOD).run()
    assert equal(weights(found), weights(plain))  # to be judged first changes no step


@pytest.mark.parametrize("options", [{}, {"ema": 0.5}, {"batch_norm": "train"}], ids=str)
@pytest.mark.parametrize("number", [1, 2])
def test_else_the_weights_before_the_phase_are_put_back_to_the_bit(options, number, monkeypatch):
    model = make_model()
    first = make_engine(model, **GOOD)
    first.run()
    before = weights(model)
    model.train()  # whoever was here before
    slow = [replace(rate, rate=1e-6) for rate in EVERYTHING]
    engine = kept_if_better(model, rates=slow, options={"number": number}, **GOOD, **options)
    monkeypatch.setattr(engine, "_judge", scripted([0.5, 0.4, 0.6, 0.6, 0.3, 0.5, 0.5]))
    record = engine.run()
    assert any(not torch.equal(engine.best[name], value) for name, value in engine.first.items())
    assert equal(weights(model), before)
    assert record["keep"] | {"kept": False, "epoch": 2} == record["keep"]
    assert record["best_epoch"] == 0
    assert record["kept"] == f"the start: {record['keep']['reason']}"
    assert not model.training


def test_without_val_images_it_cannot_stay():
    model = make_model()
    before = weights(model)
    record = kept_if_better(model, examples=make_examples(val=0)).run()
    assert record["keep"]["reason"] == "there are no val images to tell whether it helped"
    assert equal(weights(model), before)


def test_a_phase_that_broke_off_stays_only_where_what_is_left_of_it_is_better():
    model = make_model()
    before = weights(model)
    engine = kept_if_better(model)
    spoil(engine, at=2)  # before its first epoch is over
    record = engine.run()
    assert record["stopped"]["why"] == "not-finite"
    assert record["keep"] | {"kept": False, "epoch": 0} == record["keep"]
    assert record["keep"]["reason"] == "no epoch was better on val than the weights before it"
    assert equal(weights(model), before)


def test_a_start_that_is_no_number_is_not_better_than_anything():
    engine = kept_if_better(steady())
    engine.tail.head.register_forward_hook(lambda m, i, out: out if m.training else out / 0)
    record = engine.run()
    assert record["stopped"]["what"] == "output on val"
    assert record["keep"]["reason"] == "the outputs on val before it were not finite"


# In time


class Hours:
    """A clock that goes on by a second a step, by as much as is asked a view, and else not."""

    def __init__(self, view: float = 0.0) -> None:
        self.now = 100.0
        self.view = view
        self.events: list = []

    def emit(self, event, **values):
        self.events.append({"event": event, **values})
        self.now += event == "step"

    def named(self, name: str) -> list:
        return [event for event in self.events if event["event"] == name]


def in_time(seconds: float, hours: Hours | None = None, model=None, **train):
    """Make an engine with so many seconds for its epochs of three steps each, a second a step."""
    hours = hours or Hours()
    deadline = Deadline(100.0 + seconds, lambda: hours.now)
    options = {"emit": hours.emit, "deadline": deadline} | train.pop("options", {})
    engine = make_engine(model, options=options, **train)
    computed: set = set()
    prepare = engine.examples.stream.prepare

    def slowly(view, positions, progress=None):
        if view not in computed and len(positions) == len(engine.examples.train):
            computed.add(view)
            hours.now += hours.view
        return prepare(view, positions, progress)

    engine.examples.stream.prepare = slowly
    return engine, hours


def rates_of(hours: Hours) -> list[float]:
    return [max(step["rates"].values()) for step in hours.named("step")]


def test_a_deadline_that_is_far_away_changes_nothing():
    plain, other = make_model(), make_model()
    make_engine(plain, epochs=4, schedule="one-cycle").run()
    engine, hours = in_time(1e6, model=other, epochs=4, schedule="one-cycle")
    record = engine.run()
    assert equal(weights(plain), weights(other))
    assert not {"shortened", "stopped"} & {event["event"] for event in hours.events}
    assert "shortened" not in record
    assert record["stopped"] is None


def test_epochs_that_the_time_has_no_room_for_are_left_out_and_the_schedule_ends():
    engine, hours = in_time(15.5, epochs=10, schedule="one-cycle")
    record = engine.run()
    assert record["shortened"] == {
        "planned": 10, "epoch": 1, "epochs": 5, "pace": 3.0, "left": 12.5,
    }  # fmt: skip
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4, 5]
    assert record["stopped"] is None
    (told,) = hours.named("shortened")
    assert (told["phase"], told["planned"], told["epochs"]) == (1, 10, 5)
    rates = rates_of(hours)
    peak = rates.index(max(rates))
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.05 * max(rates)  # it has cooled down


def test_a_prediction_shortens_before_the_first_step():
    engine, hours = in_time(10.0, epochs=10, options={"predicted": 30.0})
    record = engine.run()
    names = [event["event"] for event in hours.events]
    assert names.index("shortened") < names.index("step")
    assert (record["shortened"]["epoch"], record["shortened"]["epochs"]) == (0, 3)


def test_views_that_are_still_to_come_count_and_those_that_are_there_do_not():
    for left, epochs in ((66.5, 10), (65.5, 9)):  # 10 epochs of 3 s, 3 views of 12 s
        examples = make_examples(views=2)
        engine, hours = in_time(left, Hours(view=12.0), examples=examples, epochs=10)
        record = engine.run()
        assert record["epochs"][-1]["epoch"] == epochs, left
        assert hours.now <= 100.0 + left


def test_a_step_beyond_the_deadline_is_the_last_and_the_best_epoch_stays(monkeypatch):
    model = make_model()
    engine, hours = in_time(7.5, model=model, epochs=10)
    epochs: list = []
    emit = hours.emit

    def emitting(event, **values):
        emit(event, **values)
        if event == "epoch":
            epochs.append(weights(model))
        hours.now += 3.0 if event == "step" and len(hours.named("step")) == 5 else 0.0

    engine.emit = emitting
    record = engine.run()
    assert record["stopped"] == {
        "why": "budget", "epoch": 2, "epochs": 2, "step": 2, "steps": 3, "partial": False,
    }  # fmt: skip
    assert len(hours.named("step")) == 5
    assert len(hours.named("stopped")) == 1
    assert record["best_epoch"] == 1
    assert equal(weights(model), epochs[0])


def test_where_no_epoch_is_over_what_was_learnt_stays_in_a_first_phase_only():
    model = make_model()
    engine, hours = in_time(1.5, model=model)
    record = engine.run()
    assert len(hours.named("step")) == 2
    assert record["stopped"]["partial"]
    assert record["kept"] == "its last step"
    assert equal(weights(model), weights(engine.model))
    assert not equal(weights(model), weights(make_model()))

    model = make_model()
    record = in_time(1.5, model=model, options={"number": 2})[0].run()
    assert not record["stopped"]["partial"]
    assert record["best_epoch"] == 0
    assert equal(weights(model), weights(make_model()))


def test_after_an_epoch_that_took_all_the_time_it_stops():
    engine, hours = in_time(4.0, epochs=10)
    record = engine.run()
    assert record["stopped"] == {
        "why": "budget", "epoch": 1, "epochs": 10, "pace": 3.0, "left": 1.0,
    }  # fmt: skip
    assert record["best_epoch"] == 1
    assert len(hours.named("stopped")) == 1


def test_patience_works_in_a_phase_that_was_shortened(monkeypatch):
    engine, _ = in_time(20.0, epochs=10, patience=2)
    monkeypatch.setattr(engine, "_judge", scripted([0.9, 0.5, 0.5, 0.5]))
    record = engine.run()
    assert record["stopped"] == {"why": "patience", "epoch": 3}
    assert record["shortened"]["epochs"] == 6


def test_a_phase_that_was_shortened_goes_on_shortened_to_the_bit():
    states: list = []
    model = make_model()

    def save(position, tensors):
        copied = {name: value.detach().clone() for name, value in tensors.items()}
        states.append((json.loads(json.dumps(position)), copied, hours.now))

    options = {"epochs": 10, "schedule": "one-cycle"}
    engine, hours = in_time(12.5, model=model, options={"save": save}, **options)
    engine.save_seconds = 0.0
    record = engine.run()
    after, rates = weights(model), rates_of(hours)
    assert record["shortened"]["epochs"] == 4
    assert len(states) > 10
    for position, tensors, now in states:
        other = make_model()
        again, hours = in_time(0.0, model=other, **options)
        hours.now = now
        again.deadline = Deadline(112.5, lambda hours=hours: hours.now)
        again.restore(position, tensors)
        found = again.run()
        assert equal(weights(other), after)
        assert found["shortened"] == record["shortened"]
        assert rates_of(hours) == rates[len(rates) - len(rates_of(hours)) :]


def test_a_position_that_knows_nothing_of_deadlines_is_taken_up():
    engine = make_engine(epochs=3)
    position, tensors = engine.state()
    for name in ("epochs", "since", "share", "view_seconds", "paces", "shortened"):
        del position[name]
    other = make_engine(epochs=3)
    other.restore(position, tensors)
    assert len(other.run()["epochs"]) == 3


# Statistics that are estimated anew


def counted(monkeypatch, calls: list, **takes) -> None:
    """Remember the options of each adaptation; let it take the seconds that ``takes`` says."""

    def adapt(tail, *arguments, **options):
        calls.append(options | {"tail": {n: v.clone() for n, v in tail.state_dict().items()}})
        if takes:
            takes["hours"].now += takes["seconds"]
        return adaptation.adapt(tail, *arguments, **options)

    monkeypatch.setattr(engine_module, "adapt", adapt)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_it_is_adapted_once_after_it_was_judged_and_before_the_first_step(ema, monkeypatch):
    calls, states, events = [], [], []
    model = make_model()
    before = weights(model)
    engine = kept_if_better(model, epochs=2, batch_norm="adapt", ema=ema, events=events)
    engine.save = lambda position, tensors: states.append(
        (position, {name: value.clone() for name, value in tensors.items()})
    )
    engine.save_seconds = 0.0
    counted(monkeypatch, calls)
    judged = engine._judge
    monkeypatch.setattr(engine, "_judge", lambda: (events.append({"event": "judge"}), judged())[1])
    record = engine.run()
    (call,) = calls
    assert (call["view"], call["weighted"]) == (0, False)
    assert call["seed"] == chance(0, 1, "adapt")
    assert all(torch.equal(before[name], value) for name, value in engine.first.items())
    assert record["adapted"] == {"norms": 3, "penalty": record["adapted"]["penalty"]}
    assert [event["event"] for event in events][:2] == ["judge", "epoch"]
    assert json.loads(json.dumps(states[0][0]))["adapted"] == record["adapted"]
    other = kept_if_better(make_model(), epochs=2, batch_norm="adapt", ema=ema)
    other.restore(*states[0])
    assert other.run()["adapted"] == record["adapted"]
    assert len(calls) == 1  # not when it goes on


@pytest.mark.parametrize("ema", [None, 0.5])
def test_where_the_phase_does_not_stay_nothing_of_it_does(ema, monkeypatch):
    model = make_model()
    before = weights(model)
    monkeypatch.setattr(engine_module, "compare", lambda was, _, labels: compare(was, was, labels))
    record = kept_if_better(model, epochs=1, batch_norm="adapt", ema=ema).run()
    assert (record["keep"]["kept"], record["adapted"]["norms"]) == (False, 3)
    assert equal(weights(model), before)
    assert {module.momentum for module in model.modules() if hasattr(module, "momentum")} == {0.1}


def test_what_is_not_adapted_is_not_told_to_be():
    assert "adapted" not in make_engine(epochs=1, batch_norm="train").run()
    assert "adapted" not in make_engine(epochs=1, batch_norm="adapt", rates=HEAD_ONLY).run()


def test_the_first_loss_is_that_of_the_new_head():
    found = {norm: trained(steady(), batch_norm=norm, epochs=1)[1] for norm in ("train", "adapt")}
    assert found["adapt"][0] < found["train"][0]


def test_its_view_is_ready_and_told_once(monkeypatch):
    events: list = []
    examples = make_examples(views=1)
    engine = make_engine(examples=examples, events=events, epochs=1, batch_norm="adapt")
    done: set = set()

    def prepare(view, positions, progress=None):
        new = [(view, int(at)) for at in positions if (view, int(at)) not in done]
        done.update(new)
        return len(new)

    monkeypatch.setattr(examples.stream, "prepare", prepare)
    engine.run()
    told = [event for event in events if event["event"] == "views"]
    assert [(event["view"], event["computed"]) for event in told] == [(1, 16)]


def test_a_start_that_is_no_number_is_not_adapted(monkeypatch):
    calls: list = []
    counted(monkeypatch, calls)
    model = make_model()
    with torch.no_grad():
        model.blocks[0].conv.weight.fill_(math.nan)
    record = kept_if_better(model, batch_norm="adapt").run()
    assert record["stopped"]["what"] == "output on val"
    assert not calls


def test_its_seconds_are_the_phases_and_of_no_epochs_pace(monkeypatch):
    hours = Hours()
    counted(monkeypatch, [], hours=hours, seconds=1000.0)
    engine = make_engine(
        batch_norm="adapt", epochs=2, options={"deadline": Deadline(1e9, lambda: hours.now)}
    )
    record = engine.run()
    assert record["seconds"] == pytest.approx(1000)
    assert [epoch["seconds"] for epoch in record["epochs"]] == [0, 0]
    assert engine.position.paces == [[0, 0], [0, 0]]


# To go on


class Stop(Exception):
    """Ends a test's training."""


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "ema": 0.8, "schedule": "one-cycle"},
        {"optimizer": "adam", "batch_norm": "train", "mixup": 0.3},
        {"optimizer": "sgd", "schedule": "plateau", "patience": 2},
        {"monitor": "none", "batch_norm": "train", "ema": 0.5, "sampling": "balanced"},
        {"rates": MIDDLE, "clip": None},
        {"keep": "better", "ema": 0.8},
        {"keep": "better", "optimizer": "sgd", "batch_norm": "train"},
        {"keep": "better", "batch_norm": "adapt", "ema": 0.8},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [PATH, BF16], ids=["fp32", "bf16"])
def test_from_the_state_of_any_step_it_goes_on_to_the_bit(options, path):
    options = options | {"path": path}
    keep = options.pop("keep", "always")
    states: list = []
    model = make_model(make_backbone(separable()))
    whole = make_engine(model, epochs=3, **options)
    whole.phase = replace(whole.phase, keep=keep)
    whole.save = lambda position, tensors: states.append(
        (position, {name: value.detach().clone() for name, value in tensors.items()})
    )
    whole.save_seconds = 0.0  # after every step
    record = whole.run()
    after = weights(model)
    assert len(states) >= 9
    for position, tensors in states:
        other = make_model(make_backbone(separable()))
        with torch.no_grad():  # what it starts from must not matter, where it is trained
            other.head.weight.fill_(7.0)
        engine = make_engine(other, epochs=3, **options)
        engine.phase = replace(engine.phase, keep=keep)
        engine.restore(position, tensors)
        found = engine.run()
        assert equal(weights(other), after), (position["epoch"], position["step"])
        for key in ("best_epoch", "kept", "stopped", "keep", "adapted"):
            assert found.get(key) == record.get(key)
        drop = {"seconds"}
        assert [{k: v for k, v in epoch.items() if k not in drop} for epoch in found["epochs"]] == [
            {k: v for k, v in epoch.items() if k not in drop} for epoch in record["epochs"]
        ]


def test_it_saves_after_each_epoch_and_as_often_as_asked():
    saved: list = []
    save = {"save": lambda position, _: saved.append((position["epoch"], position["step"]))}
    make_engine(epochs=2, options=save).run()
    assert saved == [(1, 0), (2, 0)]
    saved.clear()
    make_engine(epochs=1, options=save | {"save_seconds": 0.0}).run()
    assert saved == [(0, 1), (0, 2), (0, 3), (1, 0)]


def test_a_state_of_another_model_is_refused():
    position, tensors = make_engine().state()
    for wrong in (
        {name: value for name, value in tensors.items() if not name.endswith("head.weight")},
        tensors | {"model.head.weight": torch.zeros(7, 8)},
        tensors | {"optimizer.nobody.exp_avg": torch.zeros(1)},
        {},
    ):
        with pytest.raises(ModelError, match="does not fit what is trained"):
            make_engine().restore(position, wrong)
    with pytest.raises(ModelError, match="does not fit what is trained"):
        make_engine().restore({"nonsense": 1}, tensors)
    with pytest.raises(ModelError, match="does not fit what is trained"):
        make_engine(ema=0.5).restore(position, tensors)
    engine = make_engine(epochs=1)
    engine.run()
    with pytest.raises(ModelError, match="the weights that the phase started from are missing"):
        kept_if_better(epochs=1).restore(*engine.state())


class Asked(Interruption):
    """Was asked to stop at the step ``at``."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._steps = itertools.count(1)
        self._at = at

    @property
    def signal(self):
        return 2 if self._steps is not None and next(self._steps) >= self._at else None

    @signal.setter
    def signal(self, value):
        pass


def test_when_asked_it_saves_and_leaves():
    saved: list = []
    options = {
        "save": lambda position, _: saved.append((position["epoch"], position["step"])),
        "interruption": Asked(2),
    }
    with pytest.raises(KeyboardInterrupt):
        make_engine(options=options).run()
    assert saved == [(0, 2)]
