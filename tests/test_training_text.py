"""A strategy and its training in words."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from headstart.strategy.phase import MONITORS, OPTIMIZERS, SCHEDULES, Train
from headstart.training_text import (
    choice,
    course,
    kept,
    phase_rows,
    phase_settings,
    settings,
    stayed,
    stops,
    trains,
    what_was_kept,
)
from reports import (
    IN_IT,
    OVER,
    SHORTENED,
    SOLVE_PHASE,
    ladder,
    left_out,
    report,
    solved,
    trained,
    training,
    verdict,
)

PATIENCE = {"why": "patience", "epoch": 8}
BROKEN = {"why": "not-finite", "what": "gradient", "epoch": 2, "step": 14, "files": ["a.png"]}


def told(augment="light", symmetry="flip", rates=(("head", 1e-3),), **changes) -> dict[str, str]:
    train = asdict(Train(**({"epochs": 5} | changes)))
    return phase_settings(
        {"rates": rates, "augment": augment, "symmetry": symmetry, "train": train}
    )


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (trained(2, 8, best=5), "epoch 5, best log loss on val"),
        (trained(2, 8, best=5, monitor="macro_f1"), "epoch 5, best macro F1 on val"),
        (trained(2, 8, best=0), "the weights before its first step, best log loss on val"),
        (trained(2, 8, best=None), "the last epoch"),
        (trained(2, 8, best=None, stopped=PATIENCE), "the last epoch"),
        (trained(1, 1, best=None, stopped=BROKEN), "the weights before the epoch that broke off"),
        (trained(2, 8, best=5, stopped=BROKEN), "epoch 5, best log loss on val"),
        (trained(2, 8, best=5, stopped=OVER), "epoch 5, best log loss on val"),
        (trained(1, 1, best=None, stopped=IN_IT | {"partial": True}), "its last step"),
    ],
)
def test_what_a_phase_kept(record, words):
    assert kept(record) == words
    assert choice(record) == f"kept {words}"


def test_what_the_run_kept_is_what_its_last_phase_left():
    assert what_was_kept(report()) == "penalty 0.1, chosen by log loss on val (120 images)"
    assert what_was_kept(training(trained(1, 3))) == "kept epoch 3, best log loss on val"
    two = training(solved(), trained(2, 3, best=None))
    assert what_was_kept(two) == "phase 2: kept the last epoch"
    assert what_was_kept(report(training=())) is None


def test_a_phase_that_must_be_better_says_what_decided():
    reason = (
        "of 120 val images it put 9 right and spoilt 2: accuracy +5.8 points (noise 2.8 points), "
    )
    record = trained(2, 8, best=5, keep=verdict(True))
    assert choice(record) == f"kept epoch 5, best log loss on val: {reason}more than the noise"
    record = trained(2, 8, best=0, keep=verdict(False))
    assert kept(record) == "the weights before it"
    assert choice(record) == f"not kept: {reason}not more than the noise"
    assert choice(left_out(3)) == "left out, the time is over"
    assert kept(left_out(3)) == "the weights before it"


def test_what_the_run_kept_is_what_its_last_phase_that_stayed_left():
    assert what_was_kept(ladder()).startswith("phase 2: kept epoch 6, best log loss on val: of 120")
    assert stayed(ladder())["phase"] == 2
    gone = trained(2, 8, best=0, keep=verdict(False))
    alone = training(solved(), gone, left_out(3))
    assert what_was_kept(alone) == ("phase 1: penalty 0.1, chosen by log loss on val (120 images)")
    assert stayed(training(gone)) is None
    assert what_was_kept(training(gone)) is None


def test_phases_that_were_tried_left_out_or_cut_are_told():
    assert list(course(ladder())) == [
        ("note", "Phase 2 was shortened from 20 to 6 epochs to end in time: after epoch 2, 130 s "
         "were left, and an epoch takes 31.2 s."),
        ("note", "Phase 2 was kept: of 120 val images it put 9 right and spoilt 2: accuracy +5.8 "
         "points (noise 2.8 points), more than the noise."),
        ("note", "Phase 3 ended after epoch 4 of 6: another epoch takes 31.2 s, and 13 s were "
         "left. Kept: the weights before it."),
        ("note", "Phase 3 was tried and not kept: of 120 val images it put 4 right and spoilt 3: "
         "accuracy +0.8 points (noise 2.2 points), not more than the noise."),
        ("note", "Phase 4 was left out: no time for an epoch of it: an epoch would take about "
         "80 s, and 12 s were left."),
    ]  # fmt: skip
    patience = trained(2, 8, best=5, stopped=PATIENCE)
    assert [severity for severity, _ in course(training(solved(), patience))] == ["warning"]
    begun = SHORTENED | {"epoch": 0, "epochs": 1}
    assert list(stops(training(trained(1, 1, shortened=begun)))) == [
        "Phase 1 was shortened from 20 to 1 epoch to end in time: when it began, 130 s were left, "
        "and an epoch takes 31.2 s."
    ]
    assert list(stops(training(trained(1, 2, best=0, stopped=IN_IT)))) == [
        "Phase 1 ended in epoch 2 of 6, after step 3 of 30: the time was over. Kept: epoch 1, best "
        "log loss on val."
    ]


def test_the_table_has_a_row_for_phases_that_were_tried_and_left_out():
    rows = phase_rows(ladder())
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert [row.epochs for row in rows] == ["solved", "6 of 20", "4 of 20", "0 of 20"]
    assert [row.outcome for row in rows] == [
        "penalty 0.1, chosen by log loss on val (120 images)",
        "epoch 6, best log loss on val",
        "not kept; the weights before it",
        "left out; the weights before it",
    ]
    start = ladder().training[2]["epochs"][0]["val"]["accuracy"]
    assert [row.accuracy for row in rows][2:] == [start, None]  # of the weights that stay
    assert (rows[3].how, rows[3].seconds) == (None, None)


def test_the_table_ends_where_a_phase_broke_off():
    made = training(solved(), trained(2, 1, best=None, stopped=BROKEN), trained(3, 3))
    made = replace(made, training=made.training[:2])
    assert [row.number for row in phase_rows(made)] == [1, 2]


def test_a_phase_that_must_be_better_was_told_so():
    phase = {"rates": [("head", 1e-3)], "augment": "light", "symmetry": "flip", "keep": "better"}
    told = phase_settings(phase | {"train": asdict(Train(epochs=5))})
    assert told["choice"] == (
        "best accuracy on val; stays only where val improves by more than its noise"
    )


def test_what_went_otherwise_than_planned():
    made = training(
        solved(),
        trained(2, 8, best=5, stopped=PATIENCE, parts=4, images_at_once=8),
        trained(3, 1, best=None, stopped=BROKEN),
        trained(4, 3),
    )
    assert list(stops(made)) == [
        "Phase 2 stopped early, after epoch 8 of 20: log loss on val no longer improved.",
        "Phase 2 ran out of memory and went on with 8 images at once; the gradients are those of "
        "the whole batch.",
        "Phase 3 broke off in epoch 2, step 14: the gradient was not finite. Kept: the weights "
        "before the epoch that broke off.",
    ]


def test_a_solved_phase_was_told_its_penalties():
    assert phase_settings(SOLVE_PHASE) == {"penalties": "30000, 0.1"}


def test_a_trained_phase_tells_only_what_is_switched_on():
    assert told(rates=[("head", 3e-4), ("stage:0..-1", None)]) == {
        "rates": "head 0.0003; stage:0..-1 frozen",
        "schedule": "one cycle: up for 10 % of the steps, then down to almost nothing",
        "optimizer": "AdamW, weight decay 0.01; gradients clipped at norm 1",
        "epochs": "5 of batches of 32",
        "choice": "best accuracy on val",
        "augmentation": "light, mirrored left and right",
        "label smoothing": "10 %",
    }


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"clip": None}, "optimizer", "AdamW, weight decay 0.01"),
        (
            {"optimizer": "sgd", "clip": None},
            "optimizer",
            "SGD with momentum 0.9, weight decay 0.01",
        ),
        (
            {"schedule": "cosine", "warmup": 0.05},
            "schedule",
            "cosine: up for 5 % of the steps, then down to 0",
        ),
        (
            {"sampling": "balanced"},
            "epochs",
            "5 of batches of 32, each class drawn as often as any other",
        ),
        ({"monitor": "none"}, "choice", "the last epoch"),
        (
            {"patience": 1},
            "choice",
            "best accuracy on val; stop after 1 epoch without a better one",
        ),
        (
            {"patience": 3},
            "choice",
            "best accuracy on val; stop after 3 epochs without a better one",
        ),
        (
            {"views": 8},
            "augmentation",
            "light, mirrored left and right, 8 views of each image beside it",
        ),
        ({"symmetry": "square"}, "augmentation", "light, turned and mirrored"),
        ({"symmetry": "none"}, "augmentation", "light"),
        ({"augment": "none"}, "augmentation", "none"),
        ({"augment": "custom"}, "augmentation", "custom"),
        ({"batch_norm": "train"}, "batch norm", "statistics trained"),
        (
            {"batch_norm": "adapt"},
            "batch norm",
            "statistics estimated anew and the head solved again, then both trained",
        ),
        ({"mixup": 0.2}, "mixup", "0.2"),
        ({"cutmix": 1.0}, "cutmix", "1"),
        ({"l1": 1e-4}, "L1 on the head", "0.0001"),
        ({"l2": 1e-4}, "L2 on the head", "0.0001"),
        ({"ema": 0.999}, "average of the weights, decay", "0.999"),
    ],
)
def test_each_setting_is_told(changes, name, words):
    assert told(**changes)[name] == words
    assert told() != told(**changes)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("monitor", MONITORS)
def test_every_choice_has_words(schedule, optimizer, monitor):
    assert all(told(schedule=schedule, optimizer=optimizer, monitor=monitor).values())


def test_a_phase_says_only_what_the_one_before_it_did_not():
    made = training(solved(), trained(2, 3), trained(3, 3), trained(4, 3))
    phases = made.strategy["phases"]
    phases[3] = phases[3] | {"train": phases[3]["train"] | {"mixup": 0.2}}
    first, second, third, fourth = settings(made)
    assert first == ("Phase 1: solved", {"penalties": "30000, 0.1"})
    assert second[0] == "Phase 2: trained"
    assert third == ("Phase 3: trained", {"otherwise": "as phase 2"})
    assert fourth[1].keys() == second[1].keys() | {"mixup"}


def test_the_rows_of_phases():
    made = training(solved(), trained(2, 8, best=5, trainable=77), trained(3, 20, best=None))
    first, second, third = phase_rows(made)
    assert (first.epochs, first.learns, first.accuracy) == ("solved", "head", 0.9)
    assert first.seconds is first.how is first.trainable is None
    assert (second.epochs, second.learns, second.trainable) == ("8 of 20", "head, stage:-1", 77)
    assert second.accuracy == pytest.approx(0.905, abs=1e-3)
    assert second.how == "fp32, 8 views, 12 blocks remembered"
    assert (third.epochs, third.outcome, third.accuracy) == ("20", "the last epoch", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": 1, "boundary": 1}, "fp32, 1 view, 1 block remembered"),
        ({"views": 0, "boundary": 0}, "fp32, no views"),
    ],
)
def test_how_a_phase_was_computed(changes, words):
    assert phase_rows(training(trained(1, 2, **changes)))[0].how == words


def test_many_patterns_are_told_by_the_first_and_the_last():
    made = training(trained(1, 1))
    rates = [["head", 1e-3], *([f"stage:-{k}", 1e-4] for k in range(1, 9)), ["stage:0..-1", None]]
    made.strategy["phases"][0] = made.strategy["phases"][0] | {"rates": rates}
    assert phase_rows(made)[0].learns == "head, stage:-1 … stage:-8"


def test_a_run_that_only_solves_has_no_phases_to_tell():
    assert not trains(report())
    assert phase_rows(report()) == []
    assert settings(report()) == []
