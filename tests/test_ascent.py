"""The ladder of a run that ``auto`` chose, as report.json has it."""

from __future__ import annotations

import pytest

from headstart.ascent import ascent, explained
from headstart.decided import Decided
from headstart.options import Options
from headstart.strategy.decision import Decision
from headstart.training.record import skipped


def decided(*seconds: float | None) -> Decided:
    return Decided(
        options=Options(strategy="feature-extraction"),
        decisions=(Decision("resize", "squash", "because", "nothing"),),
        seconds=seconds,
        rest_s=5.0,
        took_s=10.0,
        budget_s=600.0,
        published=(("bit", "everything"),),
    )


def solved(accuracy: float | None) -> dict:
    val = None if accuracy is None else {"accuracy": accuracy}
    return {"phase": 1, "kind": "solve", "val": val, "seconds": 2.0}


def trained(number: int, *accuracies: float, **more) -> dict:
    epochs = [{"epoch": n, "val": {"accuracy": it}} for n, it in enumerate(accuracies)]
    return {"phase": number, "kind": "train", "epochs": epochs, "seconds": 60.04, **more}


def verdict(after: float | None, *, kept: bool) -> dict:
    return {"kept": kept, "accuracy_after": after}


def test_a_step_has_its_accuracy_and_its_seconds_beside_the_predicted_ones() -> None:
    records = [solved(0.8), trained(2, 0.8, 0.9, keep=verdict(0.9, kept=True))]
    assert ascent(decided(12.0, 50.0), records, features_s=9.0) == [
        {"phase": 1, "accuracy": 0.8, "seconds": 11.0, "predicted_s": 12.0, "kept": True},
        {"phase": 2, "accuracy": 0.9, "seconds": 60.0, "predicted_s": 50.0, "kept": True},
    ]


def test_a_step_that_was_not_kept_says_what_it_came_to() -> None:
    records = [solved(0.8), trained(2, 0.8, 0.7, keep=verdict(0.8, kept=False))]
    assert ascent(decided(1.0, 50.0), records, 0.0)[1] | {"seconds": 0} == {
        "phase": 2,
        "accuracy": 0.8,
        "seconds": 0,
        "predicted_s": 50.0,
        "kept": False,
    }


@pytest.mark.parametrize(
    ("record", "accuracy"),
    [
        (solved(None), None),  # without val images
        (trained(2, 0.5, 0.75, 0.6), 0.75),  # the best epoch, where nothing had to be decided
        (trained(2, keep=verdict(None, kept=False)), None),
        ({**trained(2), "skipped": "no time"}, None),
        ({**trained(2), "epochs": [{"epoch": 1, "val": None}]}, None),
    ],
)
def test_an_accuracy_is_told_where_there_is_one(record, accuracy) -> None:
    assert ascent(decided(None), [record], 0.0)[0]["accuracy"] == accuracy


def test_a_step_that_was_left_out_was_not_kept() -> None:
    from headstart.strategy import names

    left_out = skipped(2, names.create("auto").phases[1], "no time")
    (step,) = ascent(decided(None), [left_out], 0.0)
    assert (step["kept"], step["predicted_s"], step["seconds"]) == (False, None, 0.0)


def test_the_report_has_the_decisions_and_the_ladder() -> None:
    told = explained(decided(3.0), [solved(0.8)], 1.0)
    assert told["ladder"] == ascent(decided(3.0), [solved(0.8)], 1.0)
    assert told["decisions"][0]["choice"] == "squash"
    assert (told["budget_s"], told["total_s"], told["published"]) == (
        600.0,
        18.0,
        [["bit", "everything"]],
    )
    assert "options" not in told
