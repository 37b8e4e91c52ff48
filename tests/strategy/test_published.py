"""Published tables: what each chooses by the number of training images, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headstart.errors import UsageError
from headstart.strategy import names, presets, published
from headstart.strategy.phase import Solve, Train

HEAD_ONLY = presets.feature_extraction(epochs=25)
GRADUAL = presets.gradual()
EVERYTHING = presets.fine_tune(epochs=40)


def train(images: int | None, **options) -> Train:
    (phase,) = published.bit(images, **options).phases
    assert isinstance(phase.fit, Train)
    return phase.fit


# Tables


@pytest.mark.parametrize(("low", "high"), [*published.TABLES, (0, 1), (7, 8)])
def test_a_table_goes_by_the_number_of_images_and_keeps_its_name(low, high) -> None:
    for images, expected in (
        (low - 1, HEAD_ONLY),
        (low, GRADUAL),
        (high, GRADUAL),
        (high + 1, EVERYTHING),
        (100 * high, EVERYTHING),
    ):
        chosen = published.table(low, high, images)
        assert chosen == replace(expected, name=f"table:{low}-{high}")
        assert names.create(f"table:{low}-{high}", images=images) == chosen


def test_the_published_tables_disagree_where_they_do() -> None:
    def choices(images: int) -> list[tuple]:
        return [published.table(low, high, images).phases for low, high in published.TABLES]

    assert choices(499) == [HEAD_ONLY.phases, HEAD_ONLY.phases]
    assert choices(750) == [GRADUAL.phases, HEAD_ONLY.phases]
    assert choices(1_500) == [GRADUAL.phases, GRADUAL.phases]
    assert choices(5_000) == [EVERYTHING.phases, GRADUAL.phases]
    assert choices(10_001) == [EVERYTHING.phases, EVERYTHING.phases]


def test_every_row_is_trained_for_as_long_as_the_tables_say() -> None:
    epochs = [
        [phase.fit.epochs for phase in published.table(500, 2000, images).phases]
        for images in (100, 1_000, 10_000)
    ]
    assert epochs == [[25], [10, 10, 10], [40]]
    (head,) = published.table(500, 2000, 100).phases
    assert not isinstance(head.fit, Solve)
    assert {rate.rate for rate in head.rates} == {1e-3, None}


def test_a_table_whose_images_are_not_known_is_gradual() -> None:
    assert published.table(500, 2000).phases == GRADUAL.phases
    assert names.create("table:500-2000", stages=5) == published.table(500, 2000)


@pytest.mark.parametrize(("low", "high"), [(2000, 500), (500, 500)])
def test_a_table_whose_second_row_is_empty_is_refused(low, high) -> None:
    with pytest.raises(
        UsageError, match=f"table:{low}-{high} needs .* the smaller one first"
    ) as it:
        published.table(low, high, 100)
    assert it.value.field == "strategy"
    assert "table:500-2000" in it.value.hint


# BiT's rule


@pytest.mark.parametrize(
    ("images", "steps", "mixup"),
    [
        (1_000, 500, 0.0),
        (19_999, 500, 0.0),
        (20_000, 10_000, 0.1),
        (499_999, 10_000, 0.1),
        (500_000, 20_000, 0.1),
        (1_281_167, 20_000, 0.1),
    ],
)
def test_the_rule_sees_as_many_images_as_its_steps_of_512_do(images, steps, mixup) -> None:
    fit = train(images)
    assert fit.epochs * images == pytest.approx(steps * 512, abs=images / 2)
    assert fit.mixup == mixup
    assert names.create("bit", images=images) == published.bit(images)


def test_there_is_always_an_epoch() -> None:
    assert train(100_000_000).epochs == 1
    assert train(1).epochs == 256_000


def test_the_rate_goes_with_the_batch() -> None:
    for batch_size in (8, 32, 512):
        strategy = published.bit(1_000, batch_size)
        assert strategy.phases[0].fit.batch_size == batch_size
        rates = {rate.rate for rate in strategy.phases[0].rates}
        assert rates == {0.003 * batch_size / 512}
    assert train(1_000, batch_size=8).epochs == train(1_000, batch_size=512).epochs


def test_the_rule_is_plain_sgd_whose_last_weights_are_kept() -> None:
    fit = train(1_000)
    assert (fit.optimizer, fit.schedule, fit.monitor) == ("sgd", "step", "none")
    assert (fit.weight_decay, fit.label_smoothing, fit.clip) == (0.0, 0.0, None)
    assert list(fit.problems()) == []


def test_a_rule_whose_images_are_not_known_is_that_of_its_middle() -> None:
    assert published.bit() == published.bit(20_000)


# In words


@pytest.mark.parametrize(
    ("images", "first", "second"),
    [
        (499, "feature-extraction", "feature-extraction"),
        (999, "gradual", "feature-extraction"),
        (2_000, "gradual", "gradual"),
        (2_001, "fine-tune", "gradual"),
        (10_001, "fine-tune", "fine-tune"),
    ],
)
def test_the_words_name_the_strategy_that_would_run(images, first, second) -> None:
    said = dict(published.what_tables_say(images))
    assert list(said) == ["table:500-2000", "table:1000-10000", "bit"]
    assert said["table:500-2000"].startswith(f"{first}: ")
    assert said["table:1000-10000"].startswith(f"{second}: ")
    for name, words in said.items():
        (*_, last) = names.create(name, images=images).phases
        assert f"{last.fit.epochs:,} epochs" in words


def test_the_words_give_the_reason_with_its_numbers() -> None:
    assert published.what_tables_say(750) == (
        (
            "table:500-2000",
            "gradual: the head, then the last stage, then everything, 10 epochs each "
            "(500 to 2,000 images)",
        ),
        (
            "table:1000-10000",
            "feature-extraction: the head for 25 epochs (fewer than 1,000 images)",
        ),
        (
            "bit",
            "everything for 500 steps of 512 images, 341 epochs here (fewer than 20,000 images)",
        ),
    )
    assert dict(published.what_tables_say(3_000))["table:500-2000"] == (
        "fine-tune: everything for 40 epochs (more than 2,000 images)"
    )
    bits = [dict(published.what_tables_say(images))["bit"] for images in (60_000, 10_000_000)]
    assert bits == [
        "everything for 10,000 steps of 512 images, 85 epochs here (fewer than 500,000 images)",
        "everything for 20,000 steps of 512 images, 1 epoch here (500,000 images or more)",
    ]
