"""The strategy of the options: each option changes what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headstart.adjust import (
    CUSTOM,
    HEAD_EPOCHS,
    UNTRAINED,
    before_choice,
    chosen_strategy,
    custom_transform,
    transform_name,
)
from headstart.errors import UnknownName, UsageError
from headstart.options import AUTO, DEFAULT_BACKBONE, Options
from headstart.strategy import names, presets
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from strategies import NAMES

GRADUAL = names.create("gradual")
PROBED = names.create("probe-then-fine-tune")


def chosen(strategy: str | Strategy = GRADUAL, **options) -> Strategy:
    return chosen_strategy(Options(strategy=strategy, **options), 5)


def trains(strategy: Strategy) -> list[Train]:
    return [phase.fit for phase in strategy.phases if isinstance(phase.fit, Train)]


def with_trains(strategy: Strategy, **changes) -> Strategy:
    """Change a field of every Train, by hand."""
    phases = (
        replace(p, fit=replace(p.fit, **changes)) if isinstance(p.fit, Train) else p
        for p in strategy.phases
    )
    return replace(strategy, phases=tuple(phases))


def transform(image):
    return image


@pytest.mark.parametrize("name", NAMES)
def test_without_options_it_is_the_strategy_of_that_name(name) -> None:
    assert chosen(name) == names.create(name, stages=5)


def test_a_strategy_is_taken_as_it_is_given() -> None:
    mine = Strategy("mine", (Phase((Rate("head", 1.0),), Train(epochs=1)),))
    assert chosen(mine) == mine


# Each option


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("epochs", "epochs", 7),
        ("batch_size", "batch_size", 5),
        ("views", "views", 0),
        ("views", "views", 3),
    ],
)
def test_a_number_is_that_of_every_phase_that_trains(option, field, value) -> None:
    for strategy in (GRADUAL, PROBED):
        assert chosen(strategy, **{option: value}) == with_trains(strategy, **{field: value})


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        *(("optimizer", "sgd", "sgd"), ("schedule", "cosine", "cosine"), ("warmup", 0.3, 0.3)),
        *(("weight_decay", 0.1, 0.1), ("clip", 2.0, 2.0), ("clip", "none", None)),
        *(("clip", None, None), ("label_smoothing", 0, 0), ("mixup", 0.2, 0.2)),
        *(("cutmix", 1.0, 1.0), ("l1", 1e-4, 1e-4), ("l2", 1e-4, 1e-4), ("ema", 0.9, 0.9)),
        *(("monitor", "macro_f1", "macro_f1"), ("monitor", "none", "none"), ("patience", 2, 2)),
        *(("batch_norm", "train", "train"), ("sampling", "balanced", "balanced")),
        *(("views", 4, 4), ("views", "none", None), ("epochs", 9, 9), ("batch_size", 2, 2)),
    ],
)
def test_a_setting_of_training_is_that_of_every_phase_that_trains(name, value, meant) -> None:
    assert chosen(PROBED, train={name: value}) == with_trains(PROBED, **{name: meant})


def test_all_settings_of_training_can_be_given_at_once() -> None:
    settings = {"optimizer": "sgd", "clip": "none", "ema": 0.5}
    expected = with_trains(GRADUAL, optimizer="sgd", clip=None, ema=0.5, epochs=2)
    assert chosen(train=settings, epochs=2) == expected


def test_the_highest_rate_is_as_given_and_the_others_keep_their_proportion() -> None:
    changed = chosen(GRADUAL, lr=5e-3)
    for before, after, rate in zip(GRADUAL.phases, changed.phases, (5e-3, 5e-4, 5e-5), strict=True):
        assert [r.rate for r in after.rates if r.rate] == pytest.approx(
            [rate] * sum(r.rate is not None for r in before.rates)
        )
        assert replace(after, rates=before.rates) == before
    assert chosen(PROBED, lr=1.0).phases[0] == PROBED.phases[0]


@pytest.mark.parametrize(("field", "value"), [("augment", "strong"), ("symmetry", "square")])
def test_augmentation_and_symmetry_are_those_of_every_phase_that_trains(field, value) -> None:
    solved, tuned = chosen(PROBED, **{field: value}).phases
    assert solved == PROBED.phases[0]
    assert tuned == replace(PROBED.phases[1], **{field: value})


def test_augmentation_can_be_taken_off() -> None:
    assert [phase.augment for phase in chosen(augment="none").phases] == ["none"] * 3


# A transform from Python


def test_a_transform_from_python_is_named_custom() -> None:
    options = Options(strategy=PROBED, augment=transform)
    assert custom_transform(options) is transform
    assert [p.augment for p in chosen_strategy(options, 5).phases] == ["none", CUSTOM]


@pytest.mark.parametrize("augment", [None, "light"])
def test_without_a_transform_there_is_none(augment) -> None:
    assert custom_transform(Options(augment=augment)) is None


def test_a_strategy_with_a_transform_of_its_own_needs_it() -> None:
    tuned = replace(PROBED.phases[1], augment=CUSTOM)
    mine = replace(PROBED, name="mine", phases=(PROBED.phases[0], tuned))
    with pytest.raises(UsageError, match="mine augments by a transform of your own") as raised:
        chosen(mine)
    assert raised.value.field == "augment"
    assert "augment=transform" in raised.value.hint
    assert chosen(mine, augment=transform) == mine
    assert chosen(mine, augment="light").phases[1].augment == "light"


# Heads that are solved, and heads that are trained


def test_epochs_train_the_head_that_would_be_solved() -> None:
    strategy = chosen("feature-extraction", epochs=4)
    assert strategy == presets.feature_extraction(epochs=4)
    (phase,) = strategy.phases
    assert (phase.fit.optimizer, phase.fit.epochs) == ("adam", 4)
    assert [rate.rate for rate in phase.rates] == [1e-3, None]


def test_epochs_leave_a_solved_head_where_another_phase_trains() -> None:
    assert isinstance(chosen(PROBED, epochs=4).phases[0].fit, Solve)


@pytest.mark.parametrize("head", ["mlp:8", "linear,dropout=0.2", "mlp:8,dropout=0.5/0.3"])
@pytest.mark.parametrize(("epochs", "expected"), [(None, HEAD_EPOCHS), (3, 3)])
def test_a_head_that_no_solver_gives_is_trained(head, epochs, expected) -> None:
    (phase,) = chosen("feature-extraction", head=head, epochs=epochs).phases
    assert phase.fit == presets.trained_head(expected)
    first, tuned = chosen(PROBED, head=head, epochs=epochs).phases
    assert first.fit == presets.trained_head(expected)
    assert first.rates == PROBED.phases[0].rates
    assert tuned.fit == replace(PROBED.phases[1].fit, epochs=epochs or presets.EPOCHS)


def test_a_linear_head_stays_solved() -> None:
    assert chosen("feature-extraction", head="linear") == presets.feature_extraction()


# What can't be


@pytest.mark.parametrize(
    "options",
    [
        *({"augment": "light"}, {"augment": transform}, {"symmetry": "none"}, {"lr": 1e-3}),
        *({"views": 2}, {"train": {"optimizer": "sgd"}}),
    ],
)
def test_what_would_change_nothing_is_refused_with_a_way_out(options) -> None:
    with pytest.raises(UsageError, match="would change nothing") as raised:
        chosen("feature-extraction", **options)
    (name,) = options.get("train", options)
    of_views = name in ("views", "symmetry")
    assert name in raised.value.message
    assert raised.value.field == name
    assert "--epochs" in raised.value.hint
    if of_views:
        options = {**options, "augment": "light"}
    assert trains(chosen("feature-extraction", epochs=2, **options))
    assert trains(chosen("feature-extraction", head="mlp:8", **options))


@pytest.mark.parametrize("schedule", ["constant", "step", "plateau"])
def test_a_schedule_without_a_warm_up_has_none_to_ask_about(schedule) -> None:
    with pytest.raises(UsageError, match="schedule that warms up, so warmup would") as raised:
        chosen(PROBED, train={"schedule": schedule, "warmup": 0.2})
    assert raised.value.field == "train"
    assert "one-cycle, cosine" in raised.value.hint
    assert chosen(PROBED, train={"schedule": "cosine", "warmup": 0.2})


def test_the_head_of_epochs_has_no_warm_up_and_one_phase_that_has_is_enough() -> None:
    with pytest.raises(UsageError, match="warmup would change nothing"):
        chosen("feature-extraction", epochs=2, train={"warmup": 0.2})
    schedules = [train.schedule for train in trains(chosen(GRADUAL, train={"warmup": 0.2}))]
    assert schedules == ["constant", "one-cycle", "one-cycle"]


@pytest.mark.parametrize("names_given", [("l1",), ("l2",), ("l1", "l2")])
def test_a_penalty_on_a_head_that_is_not_trained_is_refused(names_given) -> None:
    solved = PROBED.phases[0]
    frozen = Phase((Rate("head", None), Rate("stage:0..-1", 1e-4)), Train(epochs=1))
    mine = Strategy("mine", (solved, frozen))
    settings = dict.fromkeys(names_given, 1e-4)
    with pytest.raises(UsageError, match="which weigh the head, would change nothing") as raised:
        chosen(mine, train=settings)
    assert " and ".join(names_given) in raised.value.message
    assert raised.value.field == "train"
    assert "rate" in raised.value.hint
    assert chosen(mine, train=dict.fromkeys(names_given, 0.0))
    either = Strategy("mine", (*mine.phases, replace(frozen, rates=(Rate("head", 1e-3),))))
    assert chosen(either, train=settings)


def test_the_first_pattern_that_matches_decides_whether_a_head_is_trained() -> None:
    rates = (Rate("@bias", 1e-3), Rate("head", None), Rate("head", 1e-3))
    with pytest.raises(UsageError, match="l1, which weigh the head"):
        chosen(Strategy("mine", (Phase(rates, Train(epochs=1)),)), train={"l1": 0.1})


def test_all_that_would_change_nothing_is_told_together() -> None:
    with pytest.raises(UsageError, match=r"so augment, lr, views, mixup would change nothing"):
        chosen("feature-extraction", augment="light", lr=0.1, views=3, train={"mixup": 0.2})


def test_the_size_of_a_batch_is_also_that_of_the_forward_pass() -> None:
    assert chosen("feature-extraction", batch_size=8) == presets.feature_extraction()


@pytest.mark.parametrize("options", [{"views": 2}, {"train": {"views": 2}}, {"symmetry": "none"}])
def test_without_augmentation_there_are_no_views_to_ask_about(options) -> None:
    (name,) = options.get("train", options)
    with pytest.raises(UsageError, match="No phase of gradual augments its images") as raised:
        chosen(GRADUAL, augment="none", **options)
    assert raised.value.field == name
    assert "--augment light" in raised.value.hint
    assert chosen(GRADUAL, augment="none", views=0) == chosen(
        GRADUAL, augment="none", train={"views": 0}
    )


@pytest.mark.parametrize("name", ["epochs", "batch_size", "views"])
def test_what_is_given_twice_is_refused(name) -> None:
    with pytest.raises(UsageError, match=f"Given twice: {name}") as raised:
        chosen(GRADUAL, train={name: 2}, **{name: 2})
    assert raised.value.field == "train"
    assert raised.value.hint


class Jitter:
    """A transform that is told by its text."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image):
        return image

    def __repr__(self) -> str:
        return f"Jitter({self.strength}, lambda at 0x7f00)"


def test_transforms_are_told_apart_by_what_they_do() -> None:
    def name(transform) -> str | None:
        return transform_name(Options(augment=transform))

    assert name(None) is name("light") is None
    assert name(Jitter(0.5)) == "Jitter(0.5, lambda)"
    assert name(Jitter(0.5)) != name(Jitter(0.6))
    brighter, same, darker = (lambda x: x + 1), (lambda x: x + 1), (lambda x: x - 1)
    assert name(brighter) == name(same)
    assert len({name(brighter), name(darker), name(lambda x: x + 2), name(transform)}) == 4


def test_an_unknown_setting_of_training_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="no setting of training named 'optimiser'") as raised:
        chosen("fine-tune", train={"optimiser": "sgd"})
    assert raised.value.field == "train"
    assert "optimizer" in raised.value.hint


def test_an_unknown_strategy_is_told() -> None:
    with pytest.raises(UnknownName, match="strategy"):
        chosen("magic")


def test_a_table_goes_by_the_images_and_takes_the_same_options() -> None:
    options = Options(strategy="table:500-2000", epochs=3)
    for images in (100, 1_000, 10_000):
        strategy = chosen_strategy(options, 5, images)
        given = names.create("table:500-2000", 5, images)
        assert strategy == with_trains(given, epochs=3)
    # Where the images are not known yet, nothing is refused that any of its rows takes.
    whole = {"views": 2, "augment": "standard", "train": {"warmup": 0.2, "l2": 0.1}}
    assert chosen_strategy(Options(strategy="table:500-2000", **whole)).name == "table:500-2000"


def test_a_list_of_rates_is_read_before_the_network_is_known() -> None:
    options = Options(strategy="discriminative:1e-5/1e-4/1e-3")
    assert chosen_strategy(options) == chosen_strategy(options, 2)
    with pytest.raises(UsageError, match="5 stages"):
        chosen_strategy(options, 5)


# Before ``auto`` has chosen


TRAINING = {
    "epochs": 3,
    "lr": 2e-3,
    "augment": "strong",
    "symmetry": "square",
    "views": 2,
    "train": {"optimizer": "sgd"},
}


def test_before_the_choice_the_default_network_is_probed() -> None:
    options = before_choice(Options(seed=3, resize="pad", head="linear,dropout=0.2"))
    assert (options.backbone, options.average) == (DEFAULT_BACKBONE, "none")
    assert (options.seed, options.resize, options.head) == (3, "pad", "linear,dropout=0.2")
    (phase,) = options.strategy.phases
    assert isinstance(phase.fit, Solve)
    (trained,) = chosen_strategy(options).phases
    assert isinstance(trained.fit, Train)  # a head with dropout has no solver


def test_before_the_choice_what_is_named_is_taken() -> None:
    given = Options(backbone="timm:test_resnet", average="square")
    options = before_choice(given)
    assert (options.backbone, options.average) == ("timm:test_resnet", "square")
    assert given.strategy == AUTO


def test_before_the_choice_nothing_trains_and_what_is_about_that_is_kept_for_it() -> None:
    assert set(UNTRAINED) == set(TRAINING)
    given = Options(**TRAINING)
    options = before_choice(given)
    assert {name: getattr(options, name) for name in UNTRAINED} == UNTRAINED
    assert chosen_strategy(options, 7) == options.strategy
    found = trains(chosen_strategy(given, 7))
    assert len(found) == 2
    assert all((fit.optimizer, fit.epochs) == ("sgd", 3) for fit in found)


@pytest.mark.parametrize("name", TRAINING)
def test_each_option_of_training_can_be_given_to_auto(name) -> None:
    options = Options(**{name: TRAINING[name]})
    plain = chosen_strategy(Options(), 7)
    assert chosen_strategy(options, 7) != plain
    assert before_choice(options) == before_choice(Options())
