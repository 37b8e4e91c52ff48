from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headstart.data.objects.given_rows import Given
from headstart.data.objects.hugging_face import hugging_face_rows, is_hugging_face
from headstart.data.reading import Reading
from headstart.errors import DataError, UnknownName, UsageError


@pytest.fixture
def datasets():
    """The library; its hub's settings are read on import, and are those of the tests by now."""
    return pytest.importorskip("datasets", reason="the library datasets is not installed")


@pytest.fixture
def data(datasets, encoded, noise):
    """Three images in a data set, given as PNG, JPEG and nothing."""
    contents = [encoded(noise(0)), encoded(noise(1), "JPEG"), None]
    images = [content and {"bytes": content, "path": None} for content in contents]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    return datasets.Dataset.from_dict(
        {"image": images, "label": [1, 0, 1]}, features=datasets.Features(features)
    )


def contents(data: object) -> list[object]:
    return [row.image for row in hugging_face_rows(data)]


def test_stored_bytes_are_kept_and_classes_named(data, encoded, noise) -> None:
    assert list(hugging_face_rows(data)) == [
        Given(encoded(noise(0)), "dog"),
        Given(encoded(noise(1), "JPEG"), "cat"),
        Given(b"", "dog"),
    ]


def test_stored_paths_are_used(datasets, tmp_path, noise) -> None:
    noise(0).save(tmp_path / "0.png")
    table = {"photo": [str(tmp_path / "0.png")], "label": ["owl"]}
    data = datasets.Dataset.from_dict(table).cast_column("photo", datasets.Image())
    assert list(hugging_face_rows(data)) == [Given(tmp_path / "0.png", "owl")]


def test_formats_transforms_and_streams_change_nothing(data) -> None:
    expected = contents(data)
    assert contents(data.with_format("numpy")) == expected
    assert contents(data.with_transform(lambda rows: 1 / 0)) == expected
    assert contents(data.to_iterable_dataset()) == expected
    assert contents(data.select([2, 0])) == [expected[2], expected[0]]


def test_images_of_arrays_are_read(datasets, noise) -> None:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    table = {"img": [np.asarray(noise(0))], "label": [3]}
    (row,) = hugging_face_rows(datasets.Dataset.from_dict(table, features=features))
    assert row.label == "3"
    assert isinstance(row.image, bytes)


def test_only_the_librarys_data_sets_are_taken_for_such(datasets, data) -> None:
    class Dataset:
        pass

    assert is_hugging_face(data)
    assert is_hugging_face(data.to_iterable_dataset())
    assert not is_hugging_face(Dataset())
    assert not is_hugging_face(datasets.DatasetDict(train=data))
    assert not is_hugging_face([data])


def test_a_label_column_is_chosen_by_type_then_by_name(datasets, data) -> None:
    both = data.add_column("coarse", [0, 0, 0]).cast_column(
        "coarse", datasets.ClassLabel(names=["animal"])
    )
    assert [row.label for row in hugging_face_rows(both)] == ["dog", "cat", "dog"]
    renamed = data.rename_column("label", "species")
    assert [row.label for row in hugging_face_rows(renamed)] == ["dog", "cat", "dog"]
    with pytest.raises(UsageError, match=r"several columns of type ClassLabel.*fine \(Class") as e:
        next(hugging_face_rows(both.rename_column("label", "fine")))
    assert 'columns={"label": "fine"}' in str(e.value)
    fine = both.rename_column("label", "fine")
    chosen = hugging_face_rows(fine, "", Reading(columns={"label": "fine"}))
    assert [row.label for row in chosen] == ["dog", "cat", "dog"]


def test_missing_columns_are_said_with_those_that_there_are(data) -> None:
    with pytest.raises(UsageError, match=r"no column of type Image\. Its columns: label \(Class"):
        next(hugging_face_rows(data.remove_columns("image")))
    with pytest.raises(UsageError, match="no column of type ClassLabel") as caught:
        next(hugging_face_rows(data.remove_columns("label")))
    assert 'columns={"label": "…"}' in str(caught.value)


def test_split_group_and_weight_are_columns_too(datasets, data) -> None:
    full = (
        data.add_column("split", [0, 1, 0])
        .cast_column("split", datasets.ClassLabel(names=["train", "test"]))
        .add_column("group", [7, None, 8])
        .add_column("weight", [1.0, 0.5, None])
    )
    for whole in (full, full.to_iterable_dataset()):
        assert [(it.label, it.split, it.group, it.weight) for it in hugging_face_rows(whole)] == [
            ("dog", "train", "7", 1.0),
            ("cat", "test", None, 0.5),
            ("dog", "train", "8", None),
        ]
    with pytest.raises(DataError, match="Row 0 of test: the weight must be a number, not 'much'"):
        next(hugging_face_rows(data.add_column("weight", ["much"] * 3), " of test"))


def test_the_reading_says_what_columns_are_called(datasets, data) -> None:
    whole = data.add_column("species", ["owl", "owl", "cat"]).add_column("patient", [1, 1, 2])
    whole = whole.cast_column("patient", datasets.ClassLabel(names=["a", "b", "c"]))
    columns = {"label": "species", "group": "patient"}
    found = [(it.label, it.group) for it in hugging_face_rows(whole, "", Reading(columns=columns))]
    assert found == [("owl", "b"), ("owl", "b"), ("cat", "c")]
    grouped = hugging_face_rows(
        whole.rename_column("label", "breed"), "", Reading(columns={"group": "patient"})
    )
    assert [it.label for it in grouped] == ["dog", "cat", "dog"]
    with pytest.raises(UnknownName, match="no column in the data set named 'patients'"):
        next(hugging_face_rows(whole, "", Reading(columns={"group": "patients"})))


def test_the_image_column_may_be_named(datasets, data, tmp_path, noise) -> None:
    noise(5).save(tmp_path / "5.png")
    whole = data.add_column("mask", ["5.png"] * 3)
    reading = Reading(columns={"path": "mask"}, root=tmp_path)
    assert [it.image for it in hugging_face_rows(whole, "", reading)] == [tmp_path / "5.png"] * 3
    masks = whole.cast_column("mask", datasets.Image())
    assert next(hugging_face_rows(masks, "", reading)).image == tmp_path / "5.png"
    with pytest.raises(UsageError, match="The column 'n' holds no images, but Value"):
        next(hugging_face_rows(data.add_column("n", [1] * 3), "", Reading(columns={"path": "n"})))


def test_an_image_column_among_several_must_be_called_image(datasets, data) -> None:
    twice = data.add_column("mask", [None] * 3).cast_column("mask", datasets.Image())
    assert contents(twice) == contents(data)
    with pytest.raises(UsageError, match="several columns of type Image"):
        next(hugging_face_rows(twice.rename_column("image", "photo")))


def test_rows_without_a_label_are_refused_by_number(data) -> None:
    hidden = data.map(lambda row: {"label": -1}, load_from_cache_file=False)
    with pytest.raises(UsageError, match="Row 0 of test: the label -1 is none") as caught:
        next(hugging_face_rows(hidden, " of test"))
    assert "unlabelled" in str(caught.value)


def test_decoded_images_are_those_of_the_library(data) -> None:
    for stored, row in zip(data, hugging_face_rows(data), strict=True):
        if stored["image"] is not None:
            with Image.open(io.BytesIO(row.image)) as image:
                assert (np.asarray(image) == np.asarray(stored["image"])).all()
