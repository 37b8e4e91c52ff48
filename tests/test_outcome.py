"""What a fit found becomes the report, the predictions and the pictures."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

from headstart.cache import Cache
from headstart.data.checks.check import Finding
from headstart.data.read import Failure
from headstart.judging import agreement
from headstart.options import Options
from headstart.outcome import (
    SHOWN,
    Outcome,
    environment,
    mistakes,
    prediction_rows,
    training_findings,
)
from headstart.phases import Trained
from headstart.planning import make_plan
from headstart.training.features import Features
from headstart.training.solve import Solved, Step

TIMINGS = {"total_s": 2.0, "read_s": 0.5, "features_s": 1.0, "train_s": 0.4, "evaluate_s": 0.1}


@pytest.fixture(scope="module")
def plan(photos, small, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return make_plan(photos, Options(**small, split=(0.3, 0.2, 0.5), max_bad=0.1), cache=cache)


@pytest.fixture
def outcome(plan, tmp_path) -> Outcome:
    """An outcome whose head is wrong about half of the time, with made-up numbers."""
    draw = np.random.default_rng(0)
    cache, n = Cache(tmp_path), len(plan.checked.items)
    store = cache.store({"what": "test"}, (4,), "float32")
    with store.writer() as writer:
        writer.add(plan.checked.digests, draw.normal(size=(n, 4)))
    features = Features(
        rows=store.rows(plan.checked.digests),
        positions=np.arange(n),
        failed=(),
        path=plan.path,
        computed=n,
        remembered=0,
        reference=None,
    )
    weight = draw.normal(size=(3, 4)).astype(np.float32)
    bias = np.zeros(3, dtype=np.float32)
    steps = (Step(10.0, 0.5, 9, True), Step(1.0, 0.7, 9, False))
    solved = Solved(weight, bias, weight, bias, 10.0, steps, "log loss on val", 36, converged=True)
    shares = {}
    for part in ("train", "val", "test"):
        odds = np.exp(2 * draw.normal(size=(len(getattr(plan.split, part)), 3)))
        shares[part] = odds / odds.sum(axis=1, keepdims=True)
    results = {
        part: plan.task.evaluate(
            shares[part], plan.task.encode(plan.labels(getattr(plan.split, part)))
        )
        for part in ("val", "test")
    }
    trained = Trained(
        head=plan.task.head(4),
        path=plan.path,
        records=({"phase": 1, "kind": "solve", **solved.to_dict()},),
        solved=solved,
        features=features,
        stream=None,
    )
    return Outcome(
        plan=plan,
        split=plan.split,
        path=plan.path,
        computed=n,
        agreement=None,
        trained=trained,
        results=results,
        probabilities=shares,
        failed=(),
    )


def test_the_report_says_what_was_found(outcome):
    report = outcome.report("mine", TIMINGS, "headstart fit photos")
    assert report.run == "mine"
    assert report.task == "single-label"
    assert report.classes == ("cat", "dog", "owl")
    assert report.test == outcome.results["test"].metrics
    assert report.val == outcome.results["val"].metrics
    assert report.confusion == outcome.results["test"].confusion
    assert report.strategy["solver"]["penalty"] == 10.0
    assert report.split["digest"] == outcome.plan.split.digest
    assert report.split["n_test"] == len(outcome.split.test)
    assert report.engine["precision"] == "fp32"
    assert report.engine["reason"] == "asked for"
    assert report.engine["agreement"] is None
    assert report.timings == TIMINGS
    assert report.findings == ()
    assert report.backbone["name"] == "timm:test_resnet"
    assert report.backbone["weights_digest"] == outcome.plan.weights_digest
    assert report.backbone["licence"] is None
    assert report.engine["images_computed"] == 72
    assert report.training == outcome.trained.records
    size = outcome.plan.sizes[0]
    assert report.parameters == {"trainable": size.trainable, "total": size.total}
    assert 0 < size.trainable < size.total


def test_all_that_could_not_be_read_is_one_finding(outcome):
    failed = (Failure("cat/a.jpg", "empty file", 0), Failure("dog/b.jpg", "cut short", 3))
    report = replace(outcome, failed=failed).report("mine", TIMINGS, "")
    assert report.failed == (
        {"name": "cat/a.jpg", "reason": "empty file"},
        {"name": "dog/b.jpg", "reason": "cut short"},
    )
    (finding,) = report.findings
    assert finding["kind"] == "unreadable"
    assert finding["files"] == ["cat/a.jpg", "dog/b.jpg"]


def test_a_head_that_did_not_converge_is_a_finding(outcome):
    solved = replace(outcome.trained.solved, penalty=1.0, converged=False)
    trained = replace(outcome.trained, solved=solved)
    (finding,) = replace(outcome, trained=trained).report("mine", TIMINGS, "").findings
    assert (finding["kind"], finding["severity"]) == ("not-converged", "warning")
    assert "penalty 1 " in finding["message"]


def test_changes_that_were_accepted_are_a_finding(outcome):
    changed = ("data.n: was 71, is now 72", "data.digest: was a, is now b")
    (finding,) = replace(outcome, changed=changed).report("mine", TIMINGS, "").findings
    assert (finding["kind"], finding["severity"]) == ("forced", "warning")
    assert finding["hint"]
    for line in changed:
        assert line in finding["message"]


def test_a_run_that_was_begun_again_is_told_as_that(outcome):
    anew = replace(outcome, changed=("data.n: was 71, is now 72",), anew=True)
    (finding,) = anew.report("mine", TIMINGS, "").findings
    assert (finding["kind"], finding["severity"]) == ("forced", "note")
    assert "it began again with the data as they are now: data.n: was 71" in finding["message"]
    assert "although" not in finding["message"]


TRAINED = {"phase": 2, "kind": "train", "stopped": None, "parts": 1, "images_at_once": 32,
           "kept": "epoch 3, best accuracy"}  # fmt: skip


def test_a_phase_that_went_well_is_no_finding():
    assert list(training_findings(TRAINED)) == []
    assert list(training_findings(TRAINED | {"stopped": {"why": "patience", "epoch": 4}})) == []
    assert list(training_findings({"phase": 1, "kind": "solve"})) == []


def test_a_number_that_is_none_is_a_finding_with_step_and_files():
    stopped = {
        "why": "not-finite", "what": "loss", "epoch": 4, "step": 7, "files": ["cat/1.jpg"],
    }  # fmt: skip
    (finding,) = training_findings(TRAINED | {"stopped": stopped})
    assert (finding.kind, finding.severity) == ("not-finite", "warning")
    assert finding.files == ("cat/1.jpg",)
    for text in ("Phase 2", "the loss", "epoch 4, step 7", "epoch 3, best accuracy"):
        assert text in finding.message
    assert "--lr" in finding.hint


def test_a_want_of_memory_is_a_finding():
    (finding,) = training_findings(TRAINED | {"parts": 4, "images_at_once": 8})
    assert (finding.kind, finding.severity) == ("memory", "note")
    assert "4 parts of at most 8 images" in finding.message


def test_training_findings_are_in_the_report(outcome):
    record = TRAINED | {"parts": 2}
    trained = replace(outcome.trained, records=(*outcome.trained.records, record))
    (finding,) = replace(outcome, trained=trained).report("mine", TIMINGS, "").findings
    assert finding["kind"] == "memory"


def test_what_was_tried_and_not_kept_does_not_count_as_trained(outcome):
    (size,) = outcome.plan.sizes
    plan = replace(outcome.plan, sizes=(size, replace(size, trainable=size.trainable + 7)))
    for record, most in (
        (TRAINED, size.trainable + 7),
        (TRAINED | {"keep": {"kept": True}}, size.trainable + 7),
        (TRAINED | {"keep": {"kept": False}}, size.trainable),
        (TRAINED | {"skipped": "the time is over"}, size.trainable),
    ):
        trained = replace(outcome.trained, records=(*outcome.trained.records, record))
        report = replace(outcome, plan=plan, trained=trained).report("mine", TIMINGS, "")
        assert report.parameters["trainable"] == most


def test_where_the_last_phase_trained_there_is_no_solver(outcome):
    trained = replace(outcome.trained, solved=None)
    report = replace(outcome, trained=trained).report("mine", TIMINGS, "")
    assert "solver" not in report.strategy
    assert report.strategy["name"] == "feature-extraction"
    assert report.strategy["head"] == "linear"


def test_agreement_is_counted_on_the_val_images_that_fp32_knows(outcome, tmp_path):
    val = outcome.split.val
    digests = [outcome.plan.checked.digests[index] for index in val]
    solved, features = outcome.trained.solved, outcome.trained.features
    plain = features.rows.take(val)
    assert agreement(features, solved, digests, plain) is None
    reference = Cache(tmp_path / "fp32").store({"what": "fp32"}, (4,), "float32")
    features = replace(features, reference=reference)
    assert agreement(features, solved, digests, plain) is None
    known = 6
    exact = plain[:known] * np.array([[1.0], [-1.0], [1.0], [1.0], [-1.0], [1.0]])
    with reference.writer() as writer:
        writer.add(digests[:known], exact.astype(np.float32))
    told = agreement(features, solved, digests, plain)
    same = [
        np.argmax(solved.val_weight @ one) == np.argmax(solved.val_weight @ other)
        for one, other in zip(plain[:known], exact, strict=True)
    ]
    assert told == {"value": pytest.approx(np.mean(same)), "n": known}
    assert 0 < told["value"] < 1
    engine = replace(outcome, agreement=told).report("mine", TIMINGS, "").engine
    assert engine["agreement"] == told


def test_every_image_has_one_row_in_the_order_of_the_split(outcome):
    rows = list(prediction_rows(outcome))
    split, items = outcome.split, outcome.plan.checked.items
    assert [row.item for row in rows] == [
        items[index].name for part in (split.train, split.val, split.test) for index in part
    ]
    assert len({row.item for row in rows}) == 72
    for row in rows:
        assert row.label == row.item.split("/")[0]
        assert row.predicted == outcome.plan.task.classes[int(np.argmax(row.probabilities))]


def test_mistakes_are_the_wrong_test_images_the_most_confident_first(outcome):
    found = mistakes(outcome)
    wrong = [
        row
        for row in prediction_rows(outcome)
        if row.split == "test" and row.label != row.predicted
    ]
    assert len(wrong) > SHOWN
    assert len(found) == SHOWN
    confident = sorted(wrong, key=lambda row: -max(row.probabilities))
    assert [mistake.name for mistake in found] == [row.item for row in confident[:SHOWN]]
    for mistake, row in zip(found, confident, strict=False):
        assert (mistake.label, mistake.predicted) == (row.label, row.predicted)
        assert mistake.probability == max(row.probabilities)
        assert mistake.thumbnail is not None
        with Image.open(io.BytesIO(mistake.thumbnail)) as image:
            assert image.size == (48, 48)


def test_a_mistake_is_not_shown_by_the_picture_that_took_its_files_place(outcome):
    name = mistakes(outcome)[0].name
    checked = outcome.plan.checked
    digests = tuple(
        "of another picture" if item.name == name else digest
        for item, digest in zip(checked.items, checked.digests, strict=True)
    )
    changed = replace(outcome.plan, checked=replace(checked, digests=digests))
    first, second = mistakes(replace(outcome, plan=changed))[:2]
    assert (first.name, first.thumbnail) == (name, None)
    assert second.thumbnail is not None


def test_what_is_told_of_replaced_files_is_in_the_report(outcome):
    told = Finding("replaced", "warning", ("cat/1.jpg",), "1 of 72 files …", "Fit again.")
    report = replace(outcome, replaced=(told,)).report("mine", TIMINGS, "")
    assert told.to_dict() in report.findings


def test_no_mistakes_are_no_pictures(outcome):
    labels = outcome.plan.task.encode(outcome.plan.labels(outcome.split.test))
    perfect = outcome.probabilities | {"test": np.eye(3)[labels]}
    assert mistakes(replace(outcome, probabilities=perfect)) == []


def test_the_environment_names_the_versions_that_are_installed():
    found = environment()
    assert found["threads"] >= 1
    assert found["versions"]["torch"] == version("torch")
    assert {"headstart", "python", "numpy", "pillow", "scikit-learn", "timm"} <= set(
        found["versions"]
    )
