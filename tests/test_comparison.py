"""A comparison as a document: what it holds, and that nothing is lost on the way to disk."""

from __future__ import annotations

import csv
import io
import json

import pytest

from comparisons import comparison
from headstart.comparison import Comparison, read_comparison
from headstart.errors import ModelError
from headstart.files import write_json
from headstart.run import csv_text


def test_a_round_trip_through_json_changes_nothing(tmp_path):
    made = comparison(failed=["last-blocks:2"])
    write_json(tmp_path / "comparison.json", made.to_dict())
    again = read_comparison(tmp_path)
    assert again == made
    assert again.folder == tmp_path


def test_the_document_has_the_promised_keys():
    document = json.loads(json.dumps(comparison().to_dict(), allow_nan=False))
    assert document["format"] == 1
    row = document["rows"][0]
    promised = {"strategy", "backbone", "seed", "accuracy", "seconds", "trainable", "total"}
    assert promised | {"val_accuracy", "macro_f1", "run", "failed"} == set(row)
    assert set(row["accuracy"]) == {"value", "low", "high", "n"}
    pair = document["pairs"][0]
    assert set(pair) == {"a", "b", "difference", "low", "high", "p_value", "verdict"}
    assert {"label", "accuracy", "seconds", "trainable", "total"} <= set(document["summary"][0])
    assert document["best_on_val"]["label"] == "probe-then-fine-tune"


def test_groups_by_val_begin_with_the_best_on_val():
    made = comparison()
    values = [group.val_accuracy for group in made.by_val]
    assert values == sorted(values, reverse=True)
    assert made.by_val[0].label == made.best_on_val.label


def test_the_table_has_a_line_a_run_and_says_why_one_failed():
    made = comparison(failed=["scratch"])
    lines = list(csv.DictReader(io.StringIO(csv_text(made.table()))))
    assert len(lines) == len(made.rows) == 12
    assert lines[0]["failed"] == "The loss is not finite."
    assert lines[0]["accuracy"] == lines[0]["seconds"] == ""
    last = made.rows[-1]
    assert float(lines[-1]["accuracy"]) == pytest.approx(last.accuracy.value, abs=1e-6)
    assert (lines[-1]["trainable"], lines[-1]["seed"]) == (str(last.trainable), "2")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 1"),
        ({"rows": [{"strategy": "a"}]}, "Not a comparison"),
        ({"pairs": None}, "Not a comparison"),
    ],
)
def test_another_document_is_refused(change, reason):
    with pytest.raises(ModelError, match=reason):
        Comparison.from_dict(comparison().to_dict() | change)


def test_a_comparison_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        read_comparison(tmp_path)
