from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.data.objects.elements import image_of
from headstart.data.objects.frames import frame_rows, is_frame
from headstart.data.objects.given_rows import Given
from headstart.data.reading import Reading
from headstart.errors import DataError, UnknownName, UsageError

pd = pytest.importorskip("pandas", reason="pandas is not installed")


def test_a_frame_of_paths_names_its_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(
        {
            "path": ["a/1.jpg", str(tmp_path / "b/2.jpg"), Path("c/3.jpg")],
            "label": pd.Categorical(["cat", "dog", "cat"]),
            "split": ["train", None, "test"],
            "group": [7, 8, 7],
            "weight": [1.0, float("nan"), 0.5],
            "more": [None] * 3,
        }
    )
    assert list(frame_rows(frame, Reading())) == [
        Given(Path.cwd() / "a/1.jpg", "cat", "train", "7", 1.0),
        Given(tmp_path / "b/2.jpg", "dog", None, "8"),
        Given(Path.cwd() / "c/3.jpg", "cat", "test", "7", 0.5),
    ]


def test_the_reading_says_where_the_files_are_and_what_columns_are_called(tmp_path) -> None:
    frame = pd.DataFrame({"file": ["1.jpg"], "species": [3]})
    reading = Reading(columns={"path": "file", "label": "species"}, root=tmp_path)
    assert list(frame_rows(frame, reading)) == [Given(tmp_path / "1.jpg", "3")]


def test_a_frame_of_images_holds_them(noise) -> None:
    array = np.asarray(noise(0))
    frame = pd.DataFrame({"image": [noise(0), array], "label": ["cat", "dog"]})
    assert list(frame_rows(frame, Reading())) == [
        Given(image_of(array, ""), "cat"),
        Given(image_of(array, ""), "dog"),
    ]


def test_only_pandas_frames_are_taken_for_such() -> None:
    class DataFrame:
        pass

    class Mine(pd.DataFrame):
        pass

    assert is_frame(pd.DataFrame())
    assert is_frame(Mine())
    assert not is_frame(DataFrame())
    assert not is_frame(pd.Series([1]))


@pytest.mark.parametrize(
    ("columns", "said", "guess"),
    [
        (["photo_file", "label"], "path. Its columns: 'photo_file', 'label'", "photo_file"),
        (["path", "labels"], "label. Its columns: 'path', 'labels'", "labels"),
        ([], "path and no column label. Its columns: none", "NAME"),
    ],
)
def test_missing_columns_are_said_with_those_that_there_are(columns, said, guess) -> None:
    frame = pd.DataFrame({name: ["x"] for name in columns})
    with pytest.raises(DataError, match=f"The DataFrame has no column {said}") as caught:
        next(frame_rows(frame, Reading()))
    assert "columns={'" in str(caught.value.hint)
    assert repr(guess) in str(caught.value.hint)


def test_columns_are_known_by_the_names_of_tables(tmp_path, noise) -> None:
    frame = pd.DataFrame({"File_Name": ["1.jpg"], "category": ["cat"], 3: ["x"]})
    assert list(frame_rows(frame, Reading(root=tmp_path))) == [Given(tmp_path / "1.jpg", "cat")]
    pictures = pd.DataFrame({"filename": ["1.jpg"], "image": [noise(0)], "label": ["cat"]})
    assert list(frame_rows(pictures, Reading())) == [Given(image_of(noise(0), ""), "cat")]


def test_a_column_that_the_reading_names_is_nothing_else(tmp_path) -> None:
    frame = pd.DataFrame({"path": ["1.jpg"], "group": ["cat"], "image": ["2.jpg"]})
    reading = Reading(columns={"label": "group", "weight": "path"}, root=tmp_path)
    with pytest.raises(DataError, match=r"weight must be a number, not '1\.jpg'"):
        next(frame_rows(frame, reading))
    reading = Reading(columns={"label": "group"}, root=tmp_path)
    assert list(frame_rows(frame, reading)) == [Given(tmp_path / "1.jpg", "cat")]


def test_a_column_of_a_name_that_two_have_is_asked_about() -> None:
    frame = pd.DataFrame([["1.jpg", "cat", "dog"]], columns=["path", "label", "label"])
    with pytest.raises(DataError, match="The DataFrame has 2 columns named 'label'"):
        next(frame_rows(frame, Reading()))
    others = pd.DataFrame([["1.jpg", "cat", 1, 2]], columns=["path", "label", "x", "x"])
    assert next(frame_rows(others, Reading())).label == "cat"


def test_a_column_that_is_named_and_not_there_is_unknown() -> None:
    frame = pd.DataFrame({"path": ["1.jpg"], "label": ["cat"], "patient": [1]})
    with pytest.raises(UnknownName, match="no column in the DataFrame named 'patients'") as caught:
        next(frame_rows(frame, Reading(columns={"group": "patients"})))
    assert str(caught.value.hint).startswith("Did you mean patient")


def test_wrong_cells_are_refused_by_row() -> None:
    def row(**cells: object) -> Given:
        frame = pd.DataFrame([{"path": "1.jpg", "label": "cat"} | cells], index=[41])
        return next(frame_rows(frame, Reading()))

    with pytest.raises(UsageError, match="Row 41 has no label"):
        row(label=None)
    with pytest.raises(UsageError, match="Row 41: the label must be an integer"):
        row(label=1.5)
    with pytest.raises(DataError, match="Row 41: the weight must be a number, not 'much'"):
        row(weight="much")
    with pytest.raises(UsageError, match="Row 41: the image must be"):
        row(path=3)
    assert row(group=pd.NA, split=pd.NaT).group is None
