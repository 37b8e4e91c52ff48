"""The classifier: the same image gets the same answer in whatever form and company it comes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart import classifier as module
from headstart.classifier import Classifier, load
from headstart.data.read import decode, read_header
from headstart.errors import BadImage, ResourceError, UnknownName, UsageError
from headstart.files import read_json
from headstart.prediction import Predictions
from headstart.training import device
from headstart.training.device import InferencePath
from headstart.training.task import SingleLabel
from networks import untrained
from pictures import picture


@pytest.fixture(scope="module")
def classifier(run) -> Classifier:
    """The classifier of the run, in batches of 8: each is filled up, which takes time."""
    loaded = load(run)
    loaded.path = replace(loaded.path, batch_size=8)
    return loaded


@pytest.fixture(scope="module")
def paths(photos) -> list[Path]:
    """Twenty files in mixed order: several batches, and the last not full."""
    found = sorted(photos.rglob("*.jpg"))
    return [found[number] for number in np.random.default_rng(0).permutation(len(found))[:20]]


@pytest.fixture(scope="module")
def answers(classifier, paths) -> Predictions:
    return classifier.predict(paths)


@pytest.fixture(scope="module")
def small() -> Classifier:
    """An untrained network of a few thousand parameters, said to be fitted in bf16 on a CPU."""
    backbone = untrained("test_vit", 32)
    task = SingleLabel(("cat", "dog"))
    head = task.head(backbone.feature_dim)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    path = InferencePath("cpu", "bf16", "channels_last", 5, reason="native", parity=0.1)
    return Classifier(backbone, head, task, path)


def shares(predictions: Predictions) -> np.ndarray:
    return np.array([list(prediction.probabilities.values()) for prediction in predictions])


# What is asked and what is answered.


def test_a_prediction_names_the_image_and_the_most_probable_class(classifier, paths, answers):
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    for answer in answers:
        assert tuple(answer.probabilities) == classifier.classes == ("cat", "dog", "owl")
        assert answer.probability == max(answer.probabilities.values())
        assert answer.probabilities[answer.label] == answer.probability
        assert answer.to_dict()["probabilities"] is answer.probabilities


def test_the_classes_were_learnt(paths, answers):
    right = [answer.label == path.parent.name for answer, path in zip(answers, paths, strict=True)]
    assert np.mean(right) > 0.9


def test_the_order_is_that_of_the_images(classifier, paths, answers):
    assert list(classifier.predict(paths[::-1])) == list(answers)[::-1]


def test_an_images_answer_does_not_depend_on_its_neighbours(classifier, paths, answers):
    assert list(classifier.predict(paths[7:10])) == list(answers)[7:10]
    twice = classifier.predict([paths[3], paths[3], paths[4], paths[3]])
    assert [twice[0], twice[1], twice[3]] == [answers[3]] * 3


def test_the_network_sees_full_batches_or_one_image_alone(classifier, paths):
    seen = []
    first = classifier.backbone.blocks[0].module
    hook = first.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    with hook:
        classifier.predict(paths[:10])
        classifier.predict(paths[:2])
        classifier.predict(paths[0])
    assert seen == [8, 8, 8, 1]


def test_one_image_alone_is_close_to_its_answer_among_many(classifier, paths, answers):
    for number in (0, 11, 19):
        (alone,) = classifier.predict(paths[number])
        assert alone.label == answers[number].label
        assert shares([alone]) == pytest.approx(shares([answers[number]]), abs=1e-5)


def test_probabilities_are_a_row_an_image_that_sums_to_one(classifier, paths, answers):
    found = classifier.predict_proba(paths)
    assert (found.shape, found.dtype) == ((20, 3), np.float64)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12
    assert found.min() >= 0
    assert np.array_equal(found, shares(answers))


def test_features_are_a_row_an_image_and_the_head_makes_the_probabilities(classifier, paths):
    features = classifier.embed(paths[:5])
    assert (features.shape, features.dtype) == ((5, 1280), np.float32)
    assert np.array_equal(classifier.probabilities(features), classifier.predict_proba(paths[:5]))


@pytest.mark.parametrize("none", [[], (), np.empty((0, 48, 48, 3), np.uint8)])
def test_no_image_is_no_answer(classifier, none):
    predictions = classifier.predict(none)
    assert (list(predictions), predictions.failed) == ([], ())
    assert classifier.predict_proba(none).shape == (0, 3)
    assert classifier.embed(none).shape == (0, 1280)


def test_progress_ends_with_all_images(classifier, paths):
    seen = []
    classifier.predict(paths, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (20, 20)


def test_the_files_of_a_run_get_the_answers_in_its_predictions_csv(run, photos):
    classifier = load(run)
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "test")]
    assert {row["split"] for row in rows} == {"train", "test"}

    found = classifier.predict([photos / row["item"] for row in rows])

    assert [answer.label for answer in found] == [row["predicted"] for row in rows]
    written = np.array([[float(row[name]) for name in classifier.classes] for row in rows])
    assert np.abs(shares(found) - written).max() <= 1e-6


# The forms of an image.


@pytest.mark.parametrize(
    "form",
    [str, decode, Image.open, lambda path: np.asarray(decode(path))],
    ids=["text", "picture", "opened", "array"],
)
def test_an_image_in_any_form_gets_the_answer_of_its_file(classifier, paths, form):
    alone = classifier.predict_proba(form(paths[0]))
    assert np.array_equal(alone, classifier.predict_proba(paths[0]))
    several = classifier.predict_proba([form(path) for path in paths[:3]])
    assert np.array_equal(several, classifier.predict_proba(paths[:3]))


@pytest.mark.parametrize(
    "several",
    [
        tuple,
        iter,
        lambda paths: (str(path) for path in paths),
        lambda paths: np.array([str(path) for path in paths]),
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
        lambda paths: [paths[0], Image.open(paths[1]), np.asarray(Image.open(paths[2]))],
    ],
    ids=["tuple", "iterator", "generator", "texts", "objects", "stack", "mixed"],
)
def test_several_images_come_in_any_collection(classifier, paths, several):
    expected = classifier.predict_proba(paths[:3])
    assert np.array_equal(classifier.predict_proba(several(paths[:3])), expected)


@pytest.mark.parametrize(
    "form",
    [
        lambda grey: np.asarray(grey),
        lambda grey: np.asarray(grey)[:, :, None],
        lambda grey: grey.convert("RGB"),
        lambda grey: grey.convert("LA"),
        lambda grey: np.asarray(grey)[None, :, :, None],
    ],
    ids=["(H, W)", "(H, W, 1)", "RGB", "LA", "(1, H, W, 1)"],
)
def test_a_grey_image_gets_one_answer_in_any_form(classifier, form):
    grey = picture(0, 0).convert("L")
    assert np.array_equal(classifier.predict_proba(form(grey)), classifier.predict_proba(grey))


def test_a_stack_of_one_is_one_image(classifier):
    pixels = np.asarray(picture(1, 5))
    assert classifier.predict_proba(pixels[None]).shape == (1, 3)
    assert np.array_equal(classifier.predict_proba(pixels[None]), classifier.predict_proba(pixels))


def test_an_image_in_memory_is_named_by_its_size(classifier):
    image = picture(0, 0)
    named = [answer.path for answer in classifier.predict([image, np.asarray(image)])]
    assert named == ["<image 48 x 48>", "<array 48 x 48 x 3>"]


def test_images_are_left_as_they_were(classifier):
    image = picture(0, 0)
    pixels = np.asarray(image).copy()
    given = pixels.copy()
    classifier.predict([image, given])
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)
    assert np.array_equal(given, pixels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"\xff\xd8\xff\xe0", "not int"),
        (None, "not NoneType"),
        (7, "not int"),
        ([None], "not NoneType"),
        (torch.zeros(2, 3, 48, 48), "not Tensor"),
        (np.zeros((48, 48, 3)), "must be uint8"),
        (np.zeros((2, 3, 48, 48), np.uint8), "shape"),
        ([np.zeros(5, np.uint8)], "shape"),
    ],
    ids=["bytes", "none", "number", "list of none", "tensor", "floats", "channels first", "vector"],
)
@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_what_is_no_image_is_a_usage_error_and_no_bad_image(classifier, images, message, errors):
    with pytest.raises(UsageError, match=message):
        classifier.predict(images, errors=errors)


# D7, D8: one rule for all modes and orientations; the modes are in contracts/test_same_answer.py.


def turned(image: Image.Image, orientation: int, path: Path) -> Path:
    """Save an image such that a viewer that heeds ``orientation`` shows it upright."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    stored.save(path, exif=exif)
    return path


def test_the_eight_orientations_of_a_picture_get_one_answer(classifier, tmp_path):
    image = picture(1, 3, side=80).crop((0, 0, 80, 60))
    files = [turned(image, number, tmp_path / f"{number}.png") for number in range(1, 9)]
    assert {read_header(file).width for file in files} == {80, 60}

    rows = classifier.predict_proba([image, *files])

    assert (rows == rows[0]).all()
    opened = classifier.predict_proba([image, *map(Image.open, files)])
    assert (opened == rows[0]).all()
    # It does matter: the picture on its side is another picture.
    assert not np.array_equal(classifier.predict_proba([image.rotate(90), image])[0], rows[0])


# Images that can't be read.


@pytest.fixture
def with_bad(paths, tmp_path) -> list[Path]:
    """Five files: the second is text, the fourth is cut short, the fifth is not there."""
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "short.jpg").write_bytes(paths[1].read_bytes()[:700])
    return [paths[0], tmp_path / "text.jpg", paths[1], tmp_path / "short.jpg", tmp_path / "no.jpg"]


def test_a_bad_image_is_raised_by_name(classifier, with_bad):
    for method in (classifier.predict, classifier.predict_proba, classifier.embed):
        with pytest.raises(BadImage) as caught:
            method(with_bad)
        assert caught.value.field == str(with_bad[1])


def test_bad_images_are_skipped_and_listed_and_the_rest_keeps_its_order(classifier, with_bad):
    found = classifier.predict(with_bad, errors="skip")

    assert list(found) == list(classifier.predict([with_bad[0], with_bad[2]]))
    assert [failure.name for failure in found.failed] == [str(with_bad[n]) for n in (1, 3, 4)]
    assert [failure.index for failure in found.failed] == [1, 3, 4]
    assert [failure.reason for failure in found.failed][1:] == ["cut short", "no such file"]


def test_nothing_but_bad_images_is_no_answer_and_a_list(classifier, with_bad):
    found = classifier.predict(with_bad[1:2], errors="skip")
    assert (list(found), len(found.failed)) == ([], 1)


# Saved and loaded, here and on another machine.


def test_a_saved_classifier_gives_the_same_answers(classifier, paths, answers, tmp_path):
    folder = classifier.save(tmp_path / "model")
    again = load(folder)
    assert list(again.predict(paths)) == list(answers)
    assert again.path == classifier.path


def test_a_machine_is_used_as_the_head_was_fitted(small, tmp_path, monkeypatch):
    folder = small.save(tmp_path / "model")
    for place in (module, device):
        monkeypatch.setattr(place, "bf16_support", lambda name: "amx_bf16")
    loaded = load(folder)
    assert loaded.path == small.path
    assert loaded.notes == ()


def test_without_native_bf16_it_is_fp32_with_a_note(small, tmp_path, monkeypatch):
    folder = small.save(tmp_path / "model")
    for place in (module, device):
        monkeypatch.setattr(place, "bf16_support", lambda name: None)

    loaded = load(folder)

    assert loaded.path.precision == "fp32"
    assert loaded.path.batch_size == 5
    (note,) = loaded.notes
    assert "bf16" in note
    assert "fp32 is used" in note
    assert loaded.path.reason == note


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("native", [None, "amx_bf16"])
def test_a_named_precision_is_insisted_on(small, precision, native, tmp_path, monkeypatch):
    folder = small.save(tmp_path / "model")
    for place in (module, device):
        monkeypatch.setattr(place, "bf16_support", lambda name: native)
    loaded = load(folder, precision=precision)
    assert loaded.path.precision == precision
    assert loaded.path.reason == "asked for"
    assert loaded.notes == ()


def test_precision_changes_the_numbers_a_little(small, tmp_path, paths):
    folder = small.save(tmp_path / "model")
    exact = load(folder, precision="fp32").embed(paths[:3])
    rough = load(folder, precision="bf16").embed(paths[:3])
    distance = np.linalg.norm(exact - rough) / np.linalg.norm(exact)
    assert 0 < distance < 0.2


def test_a_head_fitted_on_a_gpu_runs_on_a_cpu_in_batches_of_its_own(small, tmp_path, monkeypatch):
    for place in (module, device):
        monkeypatch.setattr(place, "bf16_support", lambda name: "amx_bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    there = replace(small.path, device="cuda", precision="fp32", batch_size=256)
    away = Classifier(small.backbone, small.head, small.task, there)

    loaded = load(away.save(tmp_path / "model"))

    assert (loaded.path.device, loaded.path.precision) == ("cpu", "fp32")
    assert loaded.path.batch_size == 32
    assert loaded.path.parity is None


def test_a_device_that_is_not_here_is_a_resource_error(small, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = small.save(tmp_path / "model")
    with pytest.raises(ResourceError, match="cuda is not on this machine"):
        load(folder, device="cuda")


@pytest.mark.parametrize("choice", [{"device": "tpu"}, {"precision": "fp16"}])
def test_a_device_and_a_precision_must_be_known(small, choice, tmp_path):
    with pytest.raises(UnknownName):
        load(small.save(tmp_path / "model"), **choice)


def test_the_run_records_the_path_it_was_fitted_on(run):
    engine = read_json(run / "report.json")["engine"]
    path = load(run).path
    assert (engine["device"], engine["precision"]) == (path.device, path.precision)
    assert (engine["layout"], engine["batch_size"]) == (path.layout, path.batch_size)
