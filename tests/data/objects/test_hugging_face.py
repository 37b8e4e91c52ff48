from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from headstart.data.objects.given_rows import Given
from headstart.data.objects.hugging_face import hugging_face_rows, is_hugging_face
from headstart.errors import UsageError


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
    assert 'data.rename_column("fine", "label")' in str(e.value)


def test_missing_columns_are_said_with_those_that_there_are(data) -> None:
    with pytest.raises(UsageError, match=r"no column of type Image\. Its columns: label \(Class"):
        next(hugging_face_rows(data.remove_columns("image")))
    with pytest.raises(UsageError, match="no column of type ClassLabel") as caught:
        next(hugging_face_rows(data.remove_columns("label")))
    assert "cast_column" in str(caught.value)


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
