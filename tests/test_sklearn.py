"""headstart in scikit-learn's terms: clone, pipelines, cross-validation, grid searches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headstart import sklearn as module
from headstart.data import loader
from headstart.errors import BadImage, DataError, UnknownName, UsageError
from headstart.sklearn import ImageClassifier, ImageFeatures
from networks import untrained
from pictures import picture

FAST = {"precision": "fp32", "batch_size": 8}
IMAGES = [picture(label, number).resize((60, 40)) for number in range(8) for label in range(2)]
ARRAYS = [np.asarray(image) for image in IMAGES]
NAMES = np.array(["cat", "dog"] * 8)


@pytest.fixture
def small(monkeypatch):
    """An untrained network of a few thousand parameters instead of the named one."""
    network = untrained("test_vit", 32)

    def create(options):
        rule = options.resize or "crop"
        return replace(network, input_spec=network.input_spec.with_resize(rule))

    monkeypatch.setattr(module, "create_backbone", create)


@pytest.fixture
def decoded(monkeypatch, tmp_path) -> list[object]:
    """All that is decoded to be computed, on an empty cache."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    seen, decode = [], loader.decode

    def count(source, **options):
        seen.append(source)
        return decode(source, **options)

    monkeypatch.setattr(loader, "decode", count)
    return seen


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    for number, image in enumerate(IMAGES):
        image.save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


# The transformer.


def test_features_are_those_of_the_classifier_of_a_run(classifier, photos):
    paths = sorted(photos.rglob("*.jpg"))[:3]
    features = ImageFeatures(precision="fp32").fit_transform(paths)
    assert (features.shape, features.dtype) == ((3, 1280), np.float32)
    assert np.array_equal(features, classifier.embed(paths))


def test_an_image_has_the_same_features_in_any_form(small, files):
    made = ImageFeatures(**FAST).fit(IMAGES)
    expected = made.transform(IMAGES)
    assert (made.n_features_out_, expected.shape) == (64, (16, 64))
    for form in (
        ARRAYS,
        np.stack(ARRAYS),
        files,
        [str(file) for file in files],
        np.array([str(file) for file in files]),
        np.array(files, dtype=object),
    ):
        assert np.array_equal(made.transform(form), expected)


def test_rows_follow_the_order_and_copies_have_equal_rows(small):
    made = ImageFeatures(**FAST).fit(IMAGES)
    rows = made.transform(IMAGES)
    assert np.array_equal(made.transform(IMAGES[::-1]), rows[::-1])
    assert np.array_equal(made.transform([IMAGES[2], IMAGES[2]]), rows[[2, 2]])


def test_a_pipeline_ends_in_any_classifier():
    pipeline = make_pipeline(ImageFeatures(**FAST), StandardScaler(), LogisticRegression())
    pipeline.fit(IMAGES[:12], NAMES[:12])
    assert pipeline.score(IMAGES[12:], NAMES[12:]) == 1
    assert clone(pipeline).get_params()["imagefeatures__precision"] == "fp32"


def test_features_are_those_of_the_users_weights(tiny, tiny_run):
    own = {"weights": tiny[3], "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "size": 64}
    made = clone(ImageFeatures("timm:test_resnet", **own, **FAST)).fit(IMAGES)
    spec = made.backbone_.input_spec
    assert (spec.height, spec.mean) == (64, (127.5, 102.0, 76.5))
    one = ImageFeatures("timm:test_resnet", **own | {"mean": [0.5], "std": [0.2]}, **FAST)
    assert one.fit(IMAGES).backbone_.input_spec.mean == (127.5, 127.5, 127.5)
    assert "tiny.safetensors" in made.backbone_.weights
    earlier = ImageFeatures(weights=tiny_run, **FAST).fit(IMAGES)
    assert earlier.backbone_.full_name == "timm:test_resnet"
    assert earlier.backbone_.digest() == made.backbone_.digest()
    usual = ImageFeatures("timm:test_resnet", weights=tiny[3], size=64, **FAST).fit(IMAGES)
    rows = usual.transform(IMAGES)
    assert np.array_equal(earlier.transform(IMAGES), rows)
    assert not np.allclose(made.transform(IMAGES), rows)


def test_a_transformer_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        ImageFeatures().transform(IMAGES)


# The classifier.


@pytest.mark.parametrize("estimator", [ImageFeatures(), ImageClassifier()], ids=repr)
def test_a_clone_has_the_parameters_and_nothing_learnt(estimator, small):
    estimator = clone(estimator).set_params(resize="pad", **FAST)
    estimator.fit(IMAGES, NAMES)
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]


def test_fit_and_predict():
    made = ImageClassifier(**FAST).fit(IMAGES[:12], NAMES[:12])

    assert made.classes_.tolist() == ["cat", "dog"]
    assert made.predict(IMAGES[12:]).tolist() == NAMES[12:].tolist()
    assert made.score(IMAGES[12:], NAMES[12:]) == 1
    shares = made.predict_proba(IMAGES)
    assert shares.shape == (16, 2)
    assert np.abs(shares.sum(axis=1) - 1).max() < 1e-12
    assert np.array_equal(made.classes_[shares.argmax(axis=1)], made.predict(IMAGES))
    assert made.penalty_ in made.penalties


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        NAMES.tolist(),
        NAMES.astype(object),
        np.where(NAMES == "cat", 7, -2),
        [int(name == "cat") for name in NAMES],
        NAMES == "cat",
        np.where(NAMES == "cat", 2.0, 1.0),
    ],
    ids=["strings", "list", "objects", "integers", "list of integers", "booleans", "floats"],
)
def test_labels_of_any_kind_come_back_as_they_are(labels, small):
    made = ImageClassifier(**FAST).fit(IMAGES, labels)
    assert made.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
    assert made.predict(IMAGES).dtype == np.asarray(labels).dtype
    reference = ImageClassifier(**FAST).fit(IMAGES, np.unique(labels, return_inverse=True)[1])
    assert np.array_equal(made.predict_proba(IMAGES), reference.predict_proba(IMAGES))
    assert made.score(IMAGES, labels) == reference.score(
        IMAGES, np.unique(labels, return_inverse=True)[1]
    )


def test_a_column_of_labels_is_a_row_of_labels(small):
    column = ImageClassifier(**FAST).fit(IMAGES, NAMES[:, None])
    row = ImageClassifier(**FAST).fit(IMAGES, NAMES)
    assert np.array_equal(column.coef_, row.coef_)


def test_three_classes(small):
    images = [picture(label, number) for number in range(6) for label in range(3)]
    made = ImageClassifier(**FAST).fit(images, [*range(3)] * 6)
    assert made.predict_proba(images).shape == (18, 3)


def test_files_and_arrays_learn_the_same(small, files):
    from_files = ImageClassifier(**FAST).fit(np.array([str(file) for file in files]), NAMES)
    from_arrays = ImageClassifier(**FAST).fit(np.stack(ARRAYS), NAMES)
    assert np.array_equal(from_files.coef_, from_arrays.coef_)
    assert np.array_equal(from_files.predict(files), from_arrays.predict(ARRAYS))


def test_class_weights_and_penalties_change_the_head(small):
    images, labels = IMAGES[:2] + IMAGES[2::2], [0, 1, *[0] * 7]
    plain = ImageClassifier(penalties=(10.0,), **FAST).fit(images, labels)
    balanced = ImageClassifier(penalties=(10.0,), class_weights="balanced", **FAST)
    strong = ImageClassifier(penalties=(1e4,), **FAST).fit(images, labels)
    rare = balanced.fit(images, labels).predict_proba(images)[1, 1]
    assert rare > plain.predict_proba(images)[1, 1]
    assert np.abs(strong.coef_).max() < np.abs(plain.coef_).max()
    assert (plain.penalty_, strong.penalty_) == (10.0, 1e4)


@pytest.mark.parametrize("several", [list, np.stack], ids=["list", "stack"])
def test_folds_decode_each_image_once(several, small, decoded):
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(ImageClassifier(**FAST), several(ARRAYS), NAMES, cv=folds)
    assert scores.shape == (4,)
    assert len(decoded) == len(ARRAYS)
    cross_val_score(ImageClassifier(**FAST), several(ARRAYS), NAMES, cv=2)
    assert len(decoded) == len(ARRAYS)


def test_folds_of_files_decode_each_once_and_learn(files, decoded):
    scores = cross_val_score(ImageClassifier(**FAST), files, NAMES, cv=2)
    assert sorted(decoded) == files
    assert scores.tolist() == [1, 1]


def test_a_search_over_the_resize_rule_computes_each_rule_once(small, decoded):
    search = GridSearchCV(ImageClassifier(**FAST), {"resize": [None, "squash", "pad"]}, cv=2)
    search.fit(ARRAYS, NAMES)
    # None is the network's own rule, which is crop.
    assert len(decoded) == 3 * len(ARRAYS)
    assert search.best_params_["resize"] in (None, "squash", "pad")
    assert search.best_estimator_.features_.resize == search.best_params_["resize"]
    assert search.predict(ARRAYS).shape == (16,)


def test_a_search_within_a_pipeline(small):
    pipeline = make_pipeline(ImageFeatures(**FAST), LogisticRegression(max_iter=5000))
    grid = {"imagefeatures__resize": ["crop", "squash"], "logisticregression__C": [0.1, 1]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(ARRAYS, NAMES)
    assert len(search.cv_results_["params"]) == 4


def test_the_resize_rule_changes_the_features(small):
    rows = [ImageFeatures(resize=rule, **FAST).fit_transform(IMAGES) for rule in ("squash", "crop")]
    assert not np.allclose(*rows)


# What can't be used.


def test_a_bad_image_is_named(small, files, tmp_path):
    missing, text, short = (tmp_path / name for name in ("no.png", "text.png", "short.png"))
    text.write_text("not an image")
    short.write_bytes(files[0].read_bytes()[:200])
    for bad in (missing, text, short):
        with pytest.raises(BadImage) as caught:
            ImageClassifier(**FAST).fit([*files[:-1], bad], NAMES)
        assert caught.value.source == str(bad)
    made = ImageFeatures(**FAST).fit(files)
    with pytest.raises(BadImage):
        made.transform([str(text)])


def test_an_array_must_hold_8_bits(small):
    with pytest.raises(UsageError, match="must be uint8"):
        ImageFeatures(**FAST).fit_transform([ARRAYS[0] / 255])


@pytest.mark.parametrize(
    "labels",
    [[], NAMES[:15], [*NAMES, "cat"], "cat", np.stack([NAMES, NAMES], axis=1), NAMES[None]],
    ids=["none", "one too few", "one too many", "text", "two each", "a row"],
)
def test_there_must_be_one_label_an_image(labels):
    with pytest.raises(DataError, match="one label an image; 16 images have labels of shape"):
        ImageClassifier().fit(IMAGES, labels)


def test_there_must_be_two_classes():
    with pytest.raises(DataError, match="found 1 class; need 2"):
        ImageClassifier().fit(IMAGES, [1] * 16)
    with pytest.raises(DataError, match="found 0 class"):
        ImageClassifier().fit([], [])


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        ImageClassifier().predict(IMAGES)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"class_weights": "some"}, UsageError),
        ({"resize": "stretch"}, UsageError),
        ({"precision": "fp64"}, UsageError),
        ({"batch_size": 0}, UsageError),
        ({"device": "tpu"}, UnknownName),
        ({"backbone": "bundled:resnet"}, UnknownName),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_by_fit_and_not_before(parameters, error):
    made = ImageClassifier(**parameters)
    with pytest.raises(error):
        made.fit(IMAGES, NAMES)


def test_pictures_are_left_as_they_were(small):
    image = Image.fromarray(ARRAYS[0])
    ImageFeatures(**FAST).fit_transform([image])
    assert np.array_equal(np.asarray(image), ARRAYS[0])
