"""From answers to verdicts: means, pairs, and a choice that test has no say in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comparisons import SKILLS, answers, comparison
from headstart.comparison import RunRow
from headstart.errors import DataError, ModelError
from headstart.metrics import Metric
from headstart.significance import holm, mcnemar, paired_bootstrap
from headstart.verdict import Answers, judge, read_answers

FACTS = {"data": "photos", "command": "x", "created": "2026-01-01", "setup": {}}


def row(name: str, seed: int = 0, val: float | None = 0.5, backbone: str = "b", **more) -> RunRow:
    metric = Metric(0.5, 0.4, 0.6, 10)
    fields = {"seconds": 1.0, "trainable": 1, "total": 2, "accuracy": metric, "macro_f1": metric}
    chosen = Metric(val, val, val, 10)
    return RunRow(
        strategy=name, backbone=backbone, seed=seed, run="r", val_accuracy=chosen, **fields | more
    )


def marks(text: str) -> Answers:
    return Answers(tuple(map(str, range(len(text)))), np.array([mark == "1" for mark in text]))


def test_a_groups_numbers_are_means_over_its_seeds():
    made = comparison(n=300)
    group = made.summary[1]
    rows = [row for row in made.rows if row.strategy == group.strategy]
    assert group.label == "feature-extraction"
    assert group.seeds == 3
    assert group.accuracy.value == pytest.approx(np.mean([row.accuracy.value for row in rows]))
    assert group.val_accuracy == pytest.approx(np.mean([row.val_accuracy.value for row in rows]))
    assert group.seconds == pytest.approx(np.mean([row.seconds for row in rows]))
    assert group.accuracy.n == 300
    assert group.accuracy.low < group.accuracy.value < group.accuracy.high


def test_pairs_are_tested_on_the_same_images_and_adjusted_together():
    made = comparison()
    names = list(SKILLS)
    found = {
        name: np.stack([answers(skill, 400, seed).right for seed in range(3)])
        for name, (skill, _, _) in SKILLS.items()
    }
    assert {frozenset((pair.a, pair.b)) for pair in made.pairs} == {
        frozenset((a, b)) for a in names for b in names if a != b
    }
    raw = [paired_bootstrap(found[pair.a], found[pair.b]) for pair in made.pairs]
    assert [pair.p_value for pair in made.pairs] == holm([it.p_value for it in raw])
    for pair, it in zip(made.pairs, raw, strict=True):
        assert (pair.difference, pair.low, pair.high) == (it.value, it.low, it.high)
        assert pair.difference >= 0


def test_the_verdict_says_who_is_better_by_how_much():
    verdicts = {(pair.a, pair.b): pair for pair in comparison().pairs}
    pair = verdicts["probe-then-fine-tune", "scratch"]
    assert pair.verdict == (
        f"probe-then-fine-tune is better than scratch by {100 * pair.difference:.1f} points "
        f"({100 * pair.low:.1f} to {100 * pair.high:.1f}), p < 0.001"
    )


def test_the_verdict_may_be_that_nobody_can_tell():
    pair = next(pair for pair in comparison().pairs if pair.p_value > 0.05)
    assert "can't be told apart with 400 test images (difference " in pair.verdict
    assert pair.verdict.endswith(f"p = {pair.p_value:.2f})")


def test_one_seed_takes_mcnemars_test():
    a, b = "1" * 30 + "0" * 2, "0" * 12 + "1" * 20
    found = {("a", "b"): {0: marks(a)}, ("c", "b"): {0: marks(b)}}
    made = judge([row("a"), row("c")], found, **FACTS)
    assert made.pairs[0].p_value == mcnemar(marks(a).right, marks(b).right)
    assert made.pairs[0].verdict.endswith("p = 0.013")


def test_val_chooses_and_test_has_no_say():
    found = {("good-on-val", "b"): {0: marks("1000")}, ("good-on-test", "b"): {0: marks("1111")}}
    rows = [row("good-on-val", val=0.9), row("good-on-test", val=0.8)]
    chosen = judge(rows, found, **FACTS).best_on_val
    assert (chosen.label, chosen.val_accuracy, chosen.accuracy.value) == ("good-on-val", 0.9, 0.25)
    first = judge([replace(it, val_accuracy=rows[0].val_accuracy) for it in rows], found, **FACTS)
    assert first.best_on_val.label == "good-on-val"


def test_without_val_images_nothing_is_chosen():
    made = judge([row("a", val=None)], {("a", "b"): {0: marks("10")}}, **FACTS)
    assert made.best_on_val is None
    assert made.summary[0].val_accuracy is None


def test_a_failed_run_is_a_row_and_in_no_number():
    rows = [row("a"), row("a", 1, failed="out of memory"), row("c"), row("c", 1)]
    found = {("a", "b"): {0: marks("1100")}, ("c", "b"): {0: marks("1000"), 1: marks("0000")}}
    made = judge(rows, found, **FACTS)
    assert [group.seeds for group in made.summary] == [1, 2]
    assert made.pairs[0].difference == 0.25  # over seed 0, which both finished
    lost = judge([replace(rows[0], failed="x"), *rows[1:]], {("c", "b"): found["c", "b"]}, **FACTS)
    assert [group.label for group in lost.summary] == ["c"]
    assert lost.pairs == ()


def test_seeds_that_no_two_share_make_no_pair():
    found = {("a", "b"): {0: marks("10")}, ("c", "b"): {1: marks("11")}}
    assert judge([row("a"), row("c", 1)], found, **FACTS).pairs == ()


def test_a_label_names_the_backbone_only_where_it_must():
    assert comparison(seeds=1).summary[0].label == "scratch"
    two = comparison(seeds=1, backbones=("bundled:a", "timm:b"))
    assert [g.label for g in two.summary][:2] == ["scratch on bundled:a", "scratch on timm:b"]


@pytest.mark.parametrize("other", ["011", "10"])
def test_runs_on_other_test_images_are_refused(other):
    found = {("a", "b"): {0: marks("10")}, ("c", "b"): {0: marks(other)}}
    if len(other) == 2:
        found["c", "b"][0] = Answers(("1", "0"), marks(other).right)
    reason = "order differs" if len(other) == 2 else "2 is in one of them only"
    with pytest.raises(DataError, match=reason):
        judge([row("a"), row("c")], found, **FACTS)


def test_answers_are_read_from_the_test_lines(tmp_path):
    lines = ["item,split,label,predicted,a,b", "1.jpg,train,a,b,0,1", "2.jpg,test,a,a,1,0"]
    (tmp_path / "predictions.csv").write_text(
        "\n".join([*lines, '"3,\udcff.jpg",test,b,a,1,0']), errors="surrogateescape"
    )
    found = read_answers(tmp_path)
    assert found.items == ("2.jpg", "3,\udcff.jpg")
    assert found.right.tolist() == [True, False]


def test_predictions_that_can_t_be_read_are_refused(tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        read_answers(tmp_path)
    (tmp_path / "predictions.csv").write_text("item,label\n1.jpg,a\n")
    with pytest.raises(ModelError, match="no column 'split'"):
        read_answers(tmp_path)


@pytest.mark.parametrize("name", ["item", "split", "label", "predicted"])
def test_a_class_may_be_called_as_a_column_is(tmp_path, name):
    rows = [
        ["item", "split", "label", "predicted", name, "other"],
        ["a.jpg", "test", name, name, "0.9", "0.1"],
        ["b.jpg", "test", name, "other", "0.2", "0.8"],
        ["c.jpg", "val", name, "other", "0.2", "0.8"],
    ]
    (tmp_path / "predictions.csv").write_text("\n".join(map(",".join, rows)))
    answers = read_answers(tmp_path)
    assert answers.items == ("a.jpg", "b.jpg")
    assert answers.right.tolist() == [True, False]


def test_an_empty_table_of_predictions_is_told(tmp_path):
    (tmp_path / "predictions.csv").touch()
    with pytest.raises(ModelError, match="is empty"):
        read_answers(tmp_path)
