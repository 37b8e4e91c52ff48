"""The phases on one axis of epochs."""

from __future__ import annotations

import pytest

from headstart.curves import Curves, Point, read_curves
from reports import ladder, left_out, solved, trained, verdict


def curves_of(*records) -> Curves:
    curves = read_curves(records)
    assert curves is not None
    return curves


def test_phases_stand_behind_each_other():
    curves = curves_of(solved(), trained(2, 3), trained(3, 4))
    assert [(it.number, it.start, it.end) for it in curves.stretches] == [
        (1, 0, 1),
        (2, 1, 4),
        (3, 4, 8),
    ]
    assert curves.epochs == (2, 3, 4, 5, 6, 7, 8)
    assert curves.epoch_ticks(10) == [(x, str(n)) for n, x in enumerate(curves.epochs, start=1)]
    assert curves.epoch_ticks(4) == [(3, "2"), (5, "4"), (7, "6")]


def test_a_line_begins_anew_with_each_phase_and_where_val_was_not_measured():
    broken = trained(2, 4)
    broken["epochs"][2]["val"] = None
    curves = curves_of(trained(1, 3), broken)
    train, val = curves.loss
    assert [[point.x for point in piece] for piece in train.pieces] == [[1, 2, 3], [4, 5, 6, 7]]
    assert [[point.x for point in piece] for piece in val.pieces] == [[1, 2, 3], [3, 4], [6, 7]]
    assert [len(piece) for piece in curves.accuracy[0].pieces] == [3, 2, 2]


def test_a_solved_head_is_a_point_of_its_own():
    curves = curves_of(solved(accuracy=0.75), trained(2, 30))
    assert [line.name for line in curves.accuracy] == ["val", "solved head"]
    width = curves.stretches[0].end
    assert width == pytest.approx(3.6)
    assert curves.accuracy[1].pieces == ((Point(width / 2, 0.75),),)
    assert curves.columns[0].lines == ("phase 1: the head solved", "val accuracy 75.0 %")
    without = curves_of(solved(accuracy=None), trained(2, 30))
    assert [line.name for line in without.accuracy] == ["val"]
    assert without.columns[0].lines == ("phase 1: the head solved",)


def test_without_val_there_is_the_loss_on_train_alone():
    curves = curves_of(trained(1, 3, val=False))
    assert [kind for kind, _, _ in curves.panels()] == ["loss", "rate"]
    assert [line.name for line in curves.loss] == ["train"]
    last = curves.loss[0].points[-1]
    assert curves.kept == (("loss", last),)


def test_what_was_kept_is_marked_in_its_own_phase():
    first, second = trained(1, 3, best=0), trained(2, 3, best=0)
    second["epochs"][0]["val"] = second["epochs"][0]["val"] | {"accuracy": 0.5, "log_loss": 2.0}
    curves = curves_of(first, second)
    marked = [(point.x, point.value) for kind, point in curves.kept if kind == "accuracy"]
    assert marked == [(1, first["epochs"][0]["val"]["accuracy"]), (3, 0.5)]
    said = [column.lines[0] for column in curves.columns]
    assert said[0] == "phase 1, epoch 1 (kept)"
    assert said[3] == "phase 2, before its first step (kept)"
    assert sum("kept" in line for line in said) == 2


def test_of_a_phase_that_broke_off_no_epoch_is_marked():
    stopped = {"why": "not-finite", "what": "loss", "epoch": 3, "step": 1, "files": []}
    assert not curves_of(trained(1, 2, best=None, stopped=stopped)).kept
    assert curves_of(trained(1, 2, best=-1, stopped=stopped)).kept


def test_groups_that_differ_by_weight_decay_only_are_one_line():
    curves = curves_of(trained(1, 3, groups=("blocks.5", "head")))
    assert [line.name for line in curves.rates] == ["blocks.5", "head"]
    record = trained(1, 2, groups=("head",))
    for epoch in record["epochs"]:
        epoch["rates"] = {"stem (no decay)": 1e-4, "head (no decay)": 1e-3, "head": 1e-3}
    assert [line.name for line in curves_of(record).rates] == ["stem", "head"]


def test_a_rate_of_nothing_has_no_place_on_a_logarithmic_scale():
    record = trained(1, 2)
    record["epochs"][-1]["rates"] = dict.fromkeys(record["epochs"][-1]["rates"], 0.0)
    assert [len(piece) for line in curves_of(record).rates for piece in line.pieces] == [1]
    for epoch in record["epochs"]:
        epoch["rates"] = dict.fromkeys(epoch["rates"], 0.0)
    assert "rate" not in [kind for kind, _, _ in curves_of(record).panels()]


def test_an_epoch_in_words():
    *_, last = curves_of(trained(1, 2, groups=("blocks.5", "head"), rate=1e-3, best=0)).columns
    assert last.lines == (
        "phase 1, epoch 2",
        "train loss 0.48",
        "val log loss 0.58",
        "val accuracy 96.0 %",
        "rates 5e-05 to 0.0001",
    )


@pytest.mark.parametrize(
    "records",
    [
        (trained(1, 1),),
        (trained(1, 7),),
        (solved(), *(trained(number, 1) for number in range(2, 10))),
        (trained(1, 2), trained(2, 3, val=False), solved(3)),
    ],
)
def test_columns_cover_the_phases_side_by_side(records):
    curves = curves_of(*records)
    edges = [edge for column in curves.columns for edge in (column.left, column.right)]
    assert edges == sorted(edges)
    assert edges[0] == curves.start
    assert edges[-1] == curves.end
    assert edges[1:-1:2] == edges[2::2]
    places = [point.x for line in (*curves.loss, *curves.accuracy) for point in line.points]
    assert all(curves.start <= x <= curves.end for x in places)


def test_the_only_epoch_stands_in_the_middle():
    curves = curves_of(trained(1, 1))
    assert (curves.start + curves.end) / 2 == curves.epochs[0]


def test_where_nothing_trained_there_are_no_curves():
    assert read_curves(()) is None
    assert read_curves((solved(),)) is None
    assert read_curves((solved(), trained(2, 1, epochs=[]))) is None


def test_a_phase_that_was_not_kept_is_marked_where_it_began():
    curves = read_curves(ladder().training)
    assert [stretch.kind for stretch in curves.stretches] == ["solve", "train", "tried"]
    stretch = curves.stretches[-1]
    assert [point.x for kind, point in curves.kept if kind == "accuracy"][-1] == stretch.origin
    record = ladder().training[2] | {"keep": verdict(False, epoch=3)}
    names = [column.lines[0] for column in curves_of(solved(), trained(2, 6), record).columns][-5:]
    assert names == [
        "phase 3, before its first step (kept)",
        "phase 3, epoch 1",
        "phase 3, epoch 2",
        "phase 3, epoch 3 (best, not kept)",
        "phase 3, epoch 4",
    ]


def test_a_phase_that_was_left_out_has_no_place():
    assert [s.number for s in curves_of(solved(), left_out(2), trained(3, 4)).stretches] == [1, 3]
    assert read_curves((solved(), left_out(2))) is None
