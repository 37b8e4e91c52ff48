"""The arithmetic of predicted seconds, on costs that are given."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.costs import (
    MOST_EPOCHS,
    Costs,
    PhaseCosts,
    epochs_within,
    predict_features,
    predict_phase,
    predict_rest,
)
from headstart.sizing import MOST_VIEWS, PhaseSize
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.presets import PENALTIES
from headstart.training.adaptation import MOST_ADAPTED

COSTS = PhaseCosts(prefix=1, augment=0.5, step=10, judge=2, save=7, solve=0.001)
REMEMBERED = PhaseSize(trainable=1, total=2, prefix=3, remembered=True)
SOLVING = Phase((Rate("head", 1e-3),), Solve(PENALTIES))
FORGETFUL = replace(REMEMBERED, remembered=False)


def phase(epochs: int = 3, views: int | None = 0, augment: str = "light") -> Phase:
    augment = "none" if views == 0 else augment
    return Phase((Rate("head", 1e-3),), Train(epochs=epochs, views=views), augment)


def test_what_a_step_takes_counts_once_an_epoch_and_the_judge_once_more():
    found = predict_phase(COSTS, phase(epochs=3), FORGETFUL, n_train=100, n_val=10)
    assert (found.views, found.solving) == (0, 0)
    assert found.steps == 3 * 100 * 10
    assert found.judging == 4 * 10 * 2
    assert found.saving == 3 * 7
    assert found.total == 3000 + 80 + 21


def test_adapting_is_three_passes_and_a_head_that_is_solved_once_whatever_the_epochs():
    plain = phase(epochs=3)
    adapting = replace(plain, fit=replace(plain.fit, batch_norm="adapt"))
    n_train, n_val = MOST_ADAPTED + 100, 60
    before, after = (
        predict_phase(COSTS, it, FORGETFUL, n_train, n_val) for it in (plain, adapting)
    )
    solving = predict_phase(COSTS, SOLVING, FORGETFUL, n_train, n_val).solving
    passes = (MOST_ADAPTED + n_train + n_val) * COSTS.judge
    assert after == replace(before, solving=passes + solving)
    few = predict_phase(COSTS, adapting, FORGETFUL, 10, n_val).solving
    assert few == (10 + 10 + n_val) * COSTS.judge + (
        predict_phase(COSTS, SOLVING, FORGETFUL, 10, n_val).solving
    )
    longer = replace(adapting, fit=replace(adapting.fit, epochs=9))
    assert predict_phase(COSTS, longer, FORGETFUL, n_train, n_val).solving == after.solving


@pytest.mark.parametrize(
    ("epochs", "views", "remembered", "augmented", "plain"),
    [
        (3, 0, 0, 0, 1),  # the plain image alone
        (3, 5, 0, 3, 0),  # an epoch a view, and not all views
        (5, 5, 0, 5, 0),
        (6, 5, 0, 5, 1),  # the plain image is the last of the round
        (60, 5, 0, 5, 1),
        (3, 5, 2, 1, 0),
        (3, 5, 9, 0, 0),
        (3, None, 0, 3, 0),  # as many as are of use
        (60, None, 0, MOST_VIEWS, 1),
    ],
)
def test_each_view_is_computed_once_and_val_has_the_plain_one(
    epochs, views, remembered, augmented, plain
):
    shown = phase(epochs, views)
    found = predict_phase(COSTS, shown, REMEMBERED, 100, 10, views_remembered=remembered)
    assert found.views == 100 * augmented * 1.5 + 100 * plain + 10
    assert predict_phase(COSTS, shown, FORGETFUL, 100, 10, remembered).views == 0


def test_without_augmentation_the_views_asked_for_are_not_made():
    fit = Train(epochs=9, views=4)
    found = predict_phase(COSTS, Phase((Rate("head", 1e-3),), fit), REMEMBERED, 100, 10)
    assert found.views == 110


def test_a_head_is_solved_at_each_penalty_and_once_more_on_train_and_val():
    solved = Phase((Rate("head", 1e-3),), Solve((1.0, 10.0, 100.0)))
    found = predict_phase(COSTS, solved, REMEMBERED, n_train=1000, n_val=100)
    assert found.total == found.solving == pytest.approx(60 * (3 * 1000 + 1100) * 0.001)
    small = predict_phase(COSTS, solved, REMEMBERED, n_train=1000, n_val=10)
    assert small.solving == pytest.approx(60 * (3 * 4 * 1000 + 1010) * 0.001)  # five folds


def test_the_most_epochs_that_fit_are_those_whose_seconds_do():
    def within(seconds: float) -> int:
        return epochs_within(COSTS, phase(99), FORGETFUL, 100, 10, seconds)

    one = predict_phase(COSTS, phase(1), FORGETFUL, 100, 10).total
    assert one == 1000 + 40 + 7
    assert [within(0), within(one - 0.1), within(one), within(one + 1026)] == [0, 0, 1, 1]
    assert within(one + 1027) == 2
    assert within(1e12) == MOST_EPOCHS


sensible = st.floats(0, 10)
costs = st.builds(PhaseCosts, *[sensible] * 6)
phases = st.builds(
    phase, st.integers(1, 50), st.one_of(st.none(), st.integers(0, 12)), st.just("light")
) | st.just(Phase((Rate("head", 1e-3),), Solve((1.0, 10.0))))
sizes = st.sampled_from([REMEMBERED, FORGETFUL])
counts = st.integers(0, 10_000)


@given(costs, phases, sizes, counts, st.integers(50, 9_000), st.integers(0, 500))
def test_more_images_never_take_less(costs, phase, size, n_train, n_val, more):
    found = predict_phase(costs, phase, size, n_train, n_val)
    assert found.total >= 0
    assert predict_phase(costs, phase, size, n_train + more, n_val).total >= found.total
    assert predict_phase(costs, phase, size, n_train, n_val + more).total >= found.total


@given(
    costs,
    st.one_of(st.none(), st.integers(0, 12)),
    sizes,
    st.integers(1, 9_000),
    st.integers(0, 900),
    st.floats(0, 1e6),
)
def test_more_epochs_never_take_less_and_the_most_within_fit(
    costs, views, size, n_train, n_val, seconds
):
    def total(epochs: int) -> float:
        return predict_phase(costs, phase(epochs, views), size, n_train, n_val).total

    assert sorted(map(total, range(1, 30))) == [total(epochs) for epochs in range(1, 30)]
    most = epochs_within(costs, phase(7, views), size, n_train, n_val, seconds)
    assert most == 0 or total(most) <= seconds
    assert most == MOST_EPOCHS or total(most + 1) > seconds


def test_features_cost_their_decoding_where_the_pixels_are_not_there():
    plan = Costs(decode=0.5, forward=2.0, phases=(COSTS,))
    assert predict_features(plan, 10) == 25
    assert predict_features(plan, 10, decoded=True) == 20


def test_the_rest_is_every_image_once_and_its_mirror_images():
    plan = Costs(decode=9.0, forward=3.0, phases=(PhaseCosts(solve=1.0), COSTS))
    counted = {"n_train": 100, "n_val": 10, "n_test": 20}
    found = predict_rest(plan, **counted)
    assert found.evaluation == 130 * 2 + 120 * 1
    assert found.audit == 0
    assert found.report > 0
    flips = predict_rest(plan, **counted, average="flip")
    assert flips.evaluation - found.evaluation == 30 * 3
    turns = predict_rest(plan, **counted, average="square")
    assert turns.evaluation - found.evaluation == 7 * 30 * 3
    assert turns.total == turns.evaluation + turns.report


def test_a_head_that_is_solved_last_is_judged_by_the_features_it_has():
    plan = Costs(decode=9.0, forward=3.0, phases=(COSTS, PhaseCosts(solve=1.0)))
    assert predict_rest(plan, n_train=100, n_val=10, n_test=20).evaluation == 0


def test_without_a_boundary_every_image_goes_through_the_whole_network():
    plan = Costs(decode=9.0, forward=3.0, phases=(replace(COSTS, prefix=0),))
    assert predict_rest(plan, n_train=100, n_val=10, n_test=20).evaluation == 130 * 3


def test_the_audit_is_as_the_docs_have_it_for_20_000_images():
    plan = Costs(decode=0, forward=0, phases=(PhaseCosts(),))
    counted = {"n_val": 0, "n_test": 0, "audits": True}
    assert predict_rest(plan, n_train=20_000, **counted).audit == pytest.approx(1.5 + 11 + 8)
    assert predict_rest(plan, n_train=10_000, **counted).audit == pytest.approx(8.25)


def test_costs_are_plain_json():
    plan = Costs(decode=0.5, forward=2.0, phases=(COSTS,), took=3.0)
    document = json.loads(json.dumps(plan.to_dict()))
    assert document["phases"][0]["augment"] == 0.5
    assert document["took"] == 3.0
