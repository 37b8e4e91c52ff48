"""A classifier judged on other data: every image that was read counts, once, and no other."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from headstart.cache import Cache
from headstart.data.reading import Reading
from headstart.errors import DataError, UnknownName
from headstart.run import read_report
from pictures import picture, write_photos

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Four pictures a class that the run has not seen. Not to be written to."""
    root = tmp_path_factory.mktemp("others")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(100, 104):
            picture(label, number).save(root / name / f"{number}.jpg")
    return root


@pytest.fixture
def data(others, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(others, tmp_path / "others"))


def cut_short(file: Path) -> None:
    """Keep the header, so that only decoding finds it."""
    file.write_bytes(file.read_bytes()[:-300])


def test_the_runs_own_test_images_reproduce_its_report(classifier, run, photos, tmp_path):
    with (run / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                copy = tmp_path / "held-out" / row["item"]
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(photos / row["item"], copy)

    scores = classifier.evaluate(tmp_path / "held-out")

    report = read_report(run)
    assert scores.evaluation.metrics == report.test
    assert scores.evaluation.confusion == report.confusion
    assert scores.evaluation.per_class == report.per_class
    assert scores.split == "all"


def test_it_does_so_without_a_cache_too(classifier, run, photos, tmp_path):
    with (run / "predictions.csv").open(newline="") as file:
        items = [row["item"] for row in csv.DictReader(file) if row["split"] == "test"]
    for item in items:
        (tmp_path / "test" / item).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / item, tmp_path / "test" / item)

    scores = classifier.evaluate(tmp_path, cache=Cache(tmp_path / "cache"))

    assert scores.evaluation.metrics == read_report(run).test
    assert scores.split == "test"


def test_what_is_counted_is_what_predict_says(classifier, others):
    scores = classifier.evaluate(others)

    files = sorted(others.rglob("*.jpg"))
    confusion = np.zeros((3, 3), int)
    for answer, file in zip(classifier.predict(files), files, strict=True):
        confusion[CLASSES.index(file.parent.name), CLASSES.index(answer.label)] += 1
    assert np.array_equal(scores.evaluation.confusion, confusion)
    assert {metric.n for metric in scores.evaluation.metrics.values()} == {12}
    assert scores.evaluation.metrics["accuracy"].value == confusion.trace() / 12
    assert scores.failed == ()


def test_the_document_is_the_commands(classifier, others):
    document = classifier.evaluate(others).to_dict()
    assert list(document) == ["split", "metrics", "confusion", "per_class", "failed"]
    assert document["metrics"]["accuracy"]["n"] == 12
    assert [row["name"] for row in document["per_class"]] == list(CLASSES)


@pytest.mark.parametrize("kept", [["cat", "owl"], ["dog"]])
def test_some_classes_may_be_missing(kept, classifier, data):
    expected = np.array(classifier.evaluate(data).evaluation.confusion)
    for row, name in enumerate(CLASSES):
        if name not in kept:
            shutil.rmtree(data / name)
            expected[row] = 0

    evaluation = classifier.evaluate(data).evaluation

    assert np.array_equal(evaluation.confusion, expected)
    support = {score.name: score.support for score in evaluation.per_class}
    assert support == {name: 4 * (name in kept) for name in CLASSES}
    assert evaluation.metrics["accuracy"].n == 4 * len(kept)


def test_a_class_it_does_not_know_is_refused_with_both_lists(classifier, data):
    (data / "dog").rename(data / "wolf")
    (data / "cat").rename(data / "lynx")
    with pytest.raises(DataError) as caught:
        classifier.evaluate(data)
    assert "does not know: lynx, wolf." in caught.value.message
    assert "It knows: cat, dog, owl." in caught.value.message
    assert "Leave these out with --classes" in caught.value.hint


def test_a_name_that_differs_only_in_case_gets_a_hint(classifier, data):
    (data / "cat").rename(data / "Cat")
    with pytest.raises(DataError, match="does not know: Cat") as caught:
        classifier.evaluate(data)
    assert caught.value.hint == "Rename the folders: Cat to cat."


def test_an_unknown_class_is_found_before_any_image_is_read(classifier, data):
    (data / "dog").rename(data / "wolf")
    for file in data.rglob("*.jpg"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="does not know: wolf"):
        classifier.evaluate(data)


def test_a_test_folder_is_used_where_there_is_one(classifier, others, tmp_path):
    shutil.copytree(others, tmp_path / "data/test")
    write_photos(tmp_path / "data/train", classes=(*CLASSES, "wolf"), each=2)
    (tmp_path / "data/train/cat/0.jpg").write_bytes(b"no image")

    scores = classifier.evaluate(tmp_path / "data", max_bad=0)

    assert (scores.split, scores.failed) == ("test", ())
    assert scores.evaluation == classifier.evaluate(others).evaluation


def test_an_unreadable_test_folder_is_not_replaced_by_train(classifier, tmp_path):
    write_photos(tmp_path / "train", each=3)
    (tmp_path / "test/cat").mkdir(parents=True)
    (tmp_path / "test/cat/1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of 1 images can't be read"):
        classifier.evaluate(tmp_path, max_bad=1)


def test_a_bad_file_is_failed_and_in_no_number(classifier, data):
    (data / "cat/100.jpg").write_bytes(b"no image")
    cut_short(data / "owl/103.jpg")

    scores = classifier.evaluate(data, max_bad=0.2)

    assert [failure.name for failure in scores.failed] == ["cat/100.jpg", "owl/103.jpg"]
    assert all(failure.reason for failure in scores.failed)
    assert {metric.n for metric in scores.evaluation.metrics.values()} == {10}
    assert [score.support for score in scores.evaluation.per_class] == [3, 4, 3]
    assert np.sum(scores.evaluation.confusion) == 10
    for name in ("cat/100.jpg", "owl/103.jpg"):
        (data / name).unlink()
    assert classifier.evaluate(data).evaluation == scores.evaluation


@pytest.mark.parametrize("spoil", [cut_short, lambda file: file.write_bytes(b"no image")])
def test_too_many_bad_files_are_refused(spoil, classifier, data):
    spoil(data / "cat/100.jpg")
    with pytest.raises(DataError, match=r"1 of 12 images can't be read; --max-bad allows 1 %"):
        classifier.evaluate(data)
    with pytest.raises(DataError, match="allows 8 %"):
        classifier.evaluate(data, max_bad=0.08)
    assert len(classifier.evaluate(data, max_bad=0.09).failed) == 1


def test_bad_headers_and_bad_pixels_are_judged_together(classifier, data):
    (data / "cat/100.jpg").write_bytes(b"no image")
    cut_short(data / "owl/103.jpg")
    with pytest.raises(DataError, match="2 of 12 images can't be read"):
        classifier.evaluate(data, max_bad=0.1)


def test_the_first_bad_file_is_named_as_in_the_data(classifier, data):
    cut_short(data / "owl/103.jpg")
    with pytest.raises(DataError, match=r"owl/103\.jpg: cut short"):
        classifier.evaluate(data)


def test_copies_of_an_image_count_each(classifier, data):
    shutil.copy(data / "cat/100.jpg", data / "cat/copy.jpg")
    assert classifier.evaluate(data).evaluation.per_class[0].support == 5


def test_what_was_computed_once_is_remembered(classifier, others, monkeypatch):
    before = classifier.evaluate(others)
    monkeypatch.setattr("headstart.data.loader.decode", lambda *_, **__: pytest.fail("decoded"))
    assert classifier.evaluate(others) == before


def test_data_without_an_image_is_refused(classifier, tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="found no image"):
        classifier.evaluate(tmp_path)


def test_some_classes_are_evaluated_alone(classifier, others):
    scores = classifier.evaluate(others, reading=Reading(classes=("owl", "cat")))
    assert scores.evaluation.metrics["accuracy"].n == 8
    assert sum(map(sum, scores.evaluation.confusion[1:2])) == 0
    with pytest.raises(UnknownName, match="no class named 'owls'"):
        classifier.evaluate(others, reading=Reading(classes=("owls",)))


def test_classes_that_the_classifier_does_not_know_may_be_left_out(classifier, data):
    shutil.copytree(data / "cat", data / "fox")
    with pytest.raises(DataError, match="does not know: fox") as raised:
        classifier.evaluate(data)
    assert "--classes" in raised.value.hint
    scores = classifier.evaluate(data, reading=Reading(classes=CLASSES))
    assert scores.evaluation.metrics["accuracy"].n == 12
