"""The commands predict, evaluate and embed, end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from commands import rows_of
from pictures import picture, write_photos
from scores import NAMES


def test_predict_says_what_each_image_is(command, run, photos, tmp_path):
    images = [photos / "cat" / "3.jpg", photos / "owl"]
    table = tmp_path / "new" / "table.csv"
    plain = command("predict", run, *images, "--csv", table)
    assert plain.code == 0
    document = command("predict", run, *images, "--json").document
    assert set(document) == {"predictions", "failed"}
    assert document["failed"] == []
    predictions = document["predictions"]
    assert len(predictions) == 25
    assert predictions[0]["path"] == str(images[0])
    for found in predictions:
        assert set(found) == {"path", "label", "probability", "probabilities"}
        assert list(found["probabilities"]) == ["cat", "dog", "owl"]
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["probability"] == max(found["probabilities"].values())
        assert found["probabilities"][found["label"]] == found["probability"]
    lines = [line.split("\t") for line in plain.out.splitlines()]
    assert lines == [[p["path"], p["label"], f"{p['probability']:.4f}"] for p in predictions]
    rows = rows_of(table)
    assert list(rows[0]) == ["path", "label", "probability", "cat", "dog", "owl"]
    assert [row["path"] for row in rows] == [p["path"] for p in predictions]
    assert float(rows[7]["owl"]) == pytest.approx(predictions[7]["probabilities"]["owl"], abs=1e-6)


def test_predict_gives_what_the_run_has_written_down(command, run, photos):
    written = {row["item"]: row for row in rows_of(run / "predictions.csv")}
    found = command("predict", run, photos, "--json").document["predictions"]
    assert len(found) == len(written) == 72
    for prediction in found:
        row = written[Path(prediction["path"]).relative_to(photos).as_posix()]
        if row["split"] == "val":
            continue  # judged by the head that has not seen val
        assert row["predicted"] == prediction["label"]
        for name, share in prediction["probabilities"].items():
            assert float(row[name]) == pytest.approx(share, abs=1e-4)


def test_predict_lists_what_it_can_t_read_and_goes_on(command, tiny_run, photos, tmp_path):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.jpg"
    bad.write_text("<html>404</html>")
    good = photos / "dog" / "1.jpg"
    result = command("predict", tiny_run, bad, good, missing)
    assert result.code == 0
    assert [line.split("\t")[0] for line in result.out.splitlines()] == [str(good)]
    assert f"failed: {bad}: an HTML page" in result.err
    assert f"failed: {missing}: no such file" in result.err
    failed = command("predict", tiny_run, bad, good, missing, "--json").document["failed"]
    assert [item["path"] for item in failed] == [str(bad), str(missing)]
    assert all(item["reason"] for item in failed)


def test_predict_with_nothing_to_read_is_exit_3(command, tiny_run, tmp_path):
    empty, bad = tmp_path / "empty", tmp_path / "bad.jpg"
    empty.mkdir()
    bad.write_bytes(b"")
    assert str(empty) in command("predict", tiny_run, empty).refusal(3)
    assert str(bad) in command("predict", tiny_run, bad).refusal(3)
    error = command("predict", tiny_run, empty, "--json").document["error"]
    assert (error["id"], error["field"]) == ("data", "image")


def test_evaluate_scores_a_run_on_other_images(command, tiny_run, tmp_path):
    other = tmp_path / "other"
    for name, label, numbers in (("dog", 1, range(100, 104)), ("cat", 0, range(100, 107))):
        (other / name).mkdir(parents=True)
        for number in numbers:
            picture(label, number).save(other / name / f"{number}.png")
    document = command("evaluate", tiny_run, other, "--json").document
    assert set(document) == {"split", "metrics", "confusion", "per_class", "failed"}
    assert document["split"] == "all"
    assert list(document["metrics"]) == list(NAMES)
    assert document["metrics"]["accuracy"]["n"] == 11
    assert [sum(row) for row in document["confusion"]] == [7, 4, 0]
    assert [score["support"] for score in document["per_class"]] == [7, 4, 0]
    text = command("evaluate", tiny_run, other)
    assert text.code == 0
    assert "n = 11" in text.out


def test_evaluate_takes_the_test_folder_where_there_is_one(command, tiny_run, tmp_path):
    write_photos(tmp_path / "data" / "train", classes=("cat", "dog"), each=5)
    write_photos(tmp_path / "data" / "test", classes=("cat", "dog"), each=3)
    document = command("evaluate", tiny_run, tmp_path / "data", "--json").document
    assert document["split"] == "test"
    assert document["metrics"]["accuracy"]["n"] == 6


def test_embed_writes_features_paths_and_labels(command, photos, tiny_network, tmp_path):
    file = tmp_path / "features.npz"
    result = command("embed", photos, "--out", file, *tiny_network)
    assert result.out == f"{file}\n"
    with np.load(file) as arrays:
        assert set(arrays) == {"features", "paths", "labels"}
        features, paths, labels = arrays["features"], arrays["paths"], arrays["labels"]
    assert features.shape == (72, 96)
    assert features.dtype == np.float32
    assert [str(path).split("/")[0] for path in paths] == list(labels)
    assert len(set(paths)) == 72
    document = command("embed", photos, "--out", file, "--json", *tiny_network).document
    assert document == {"out": str(file), "n": 72, "feature_dim": 96, "failed": []}


@pytest.mark.parametrize(
    "changed",
    [
        ("--size", 32),
        ("--resize", "squash"),
        ("--mean", "0.1,0.2,0.3", "--std", "0.5,0.5,0.5"),
        ("--precision", "bf16"),
    ],
    ids=lambda changed: changed[0],
)
def test_the_options_of_embed_change_the_features(command, photos, tiny_network, tmp_path, changed):
    files = [tmp_path / name for name in ("plain.npz", "changed.npz")]
    for file, options in zip(files, (tiny_network, [*tiny_network, *changed]), strict=True):
        assert command("embed", photos, "--out", file, *options).code == 0
    plain, other = (np.load(file)["features"] for file in files)
    assert plain.shape == other.shape
    assert not np.array_equal(plain, other)


# How images are read


def test_evaluate_takes_some_classes_and_a_zip_file(command, tiny_run, photos, tmp_path):
    file = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    document = command("evaluate", tiny_run, file, "--classes", "owl,cat", "--json").document
    assert document["metrics"]["accuracy"]["n"] == 48
    assert "Did you mean owl?" in command("evaluate", tiny_run, file, "--classes", "ow").refusal(2)
    assert command("evaluate", tiny_run, file, "--classes", "owl").code == 0


def test_evaluate_takes_no_other_test(command, tiny_run, photos):
    assert command("evaluate", tiny_run, photos, "--test", photos).code == 2


def test_evaluate_reads_a_table(command, tiny_run, photos, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("file,kind\ncat/0.jpg,cat\ndog/1.jpg,dog\n")
    columns = ["--column", "path=file", "--column", "label=kind", "--root", photos]
    document = command("evaluate", tiny_run, table, *columns, "--json").document
    assert document["metrics"]["accuracy"]["n"] == 2


def test_embed_reads_as_fit_does(command, photos, tiny_network, tmp_path):
    file = tmp_path / "f.npz"
    arguments = ["embed", photos, "--out", file, *tiny_network, "--classes", "owl,cat", "--json"]
    assert command(*arguments).document["n"] == 48
    with np.load(file) as arrays:
        assert set(arrays["labels"]) == {"owl", "cat"}
    assert "--column is about" in command(*arguments[:-1], "--column", "label=x").refusal(2)
