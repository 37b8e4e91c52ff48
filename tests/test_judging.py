"""What a run writes of its images is what its classifier says of them afterwards."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from headstart.cache import Cache
from headstart.data.read import decode
from headstart.data.transforms import normalise, resize
from pictures import picture, write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


WAYS = {
    "solved": {},
    "head": {"epochs": 2},
    "boundary": {"strategy": "last-blocks:1", "epochs": 2},
    "everything": {"strategy": "fine-tune", "epochs": 2},
    "mlp": {"strategy": "norm-only", "epochs": 2, "head": "mlp:16,dropout=0.2"},
    "mixed": {"strategy": "last-blocks:1", "epochs": 2, "train": {"mixup": 0.2}},
    "own": {"strategy": "scratch:small-cnn", "epochs": 2, "backbone": "bundled:small_cnn"},
}
AVERAGES = ("none", "flip", "square")


@pytest.fixture(scope="module")
def fitted(data, small, cache, tmp_path_factory):
    """Return a run of each way and average, made once."""
    made: dict = {}

    def get(way: str, average: str = "none"):
        if (way, average) not in made:
            options = small | {"size": 32, "resize": "squash", "batch_size": 8, "average": average}
            options |= WAYS[way]
            if way == "own":
                del options["weights"]
            out = tmp_path_factory.mktemp("runs") / f"{way}-{average}"
            made[way, average] = headstart.fit(data, out, cache=cache, **options)
        return made[way, average]

    return get


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


SLOW = ("head", "mixed", "own")
CASES = [
    *((way, "none") for way in WAYS if way not in SLOW),
    *(("solved", "flip"), ("everything", "square")),
    *(pytest.param(way, "none", marks=pytest.mark.slow) for way in SLOW),
    *(pytest.param(way, "flip", marks=pytest.mark.slow) for way in ("boundary", "mlp")),
]


@pytest.mark.parametrize(("way", "average"), CASES)
def test_the_predictions_of_the_run_are_those_of_predict(way, average, fitted, data, command):
    run = fitted(way, average).folder
    found = command("predict", run, data, "--json").document["predictions"]
    said = {Path(item["path"]).relative_to(data).as_posix(): item for item in found}
    rows = rows_of(run)
    assert len(rows) == len(said) == 28
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    for row in rows:
        if row["split"] == "val" and way == "solved":
            continue  # judged by the head that has not seen it
        if row["split"] == "train" and average != "none":
            continue  # the plain image, for it is not judged
        item = said[row["item"]]
        shares = [float(row[name]) for name in ("cat", "dog")]
        assert shares == pytest.approx(list(item["probabilities"].values()), abs=1e-4)
        assert row["predicted"] == item["label"]


@pytest.mark.parametrize(("way", "average"), CASES)
def test_evaluate_agrees_with_the_report(way, average, fitted, data, tmp_path):
    run = fitted(way, average)
    test = [row for row in rows_of(run.folder) if row["split"] == "test"]
    for row in test:
        file = tmp_path / "test" / row["item"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((data / row["item"]).read_bytes())
    scores = headstart.load(run.folder).evaluate(tmp_path / "test", cache=Cache(tmp_path / "c"))
    metrics = scores.evaluation.metrics
    assert metrics["accuracy"].value == run.report.test["accuracy"].value
    assert metrics["log_loss"].value == pytest.approx(run.report.test["log_loss"].value, abs=1e-4)


@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_is_the_mean_over_the_mirror_images(average, fitted):
    classifier = fitted("everything", average)
    image = np.asarray(picture(1, 70, side=32))
    mirrors = {
        "none": [image],
        "flip": [image, image[:, ::-1]],
        "square": [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)],
    }[average]
    plain = headstart.load(classifier.folder)
    assert plain.average == average
    plain.average = "none"
    expected = np.mean([plain.predict_proba(np.ascontiguousarray(one)) for one in mirrors], axis=0)
    assert classifier.predict_proba(image) == pytest.approx(expected, abs=1e-5)
    if average != "none":
        assert classifier.predict_proba(image) != pytest.approx(
            plain.predict_proba(image), abs=1e-7
        )
        turned = np.ascontiguousarray(mirrors[-1])
        assert classifier.predict_proba(turned) == pytest.approx(expected, abs=1e-5)


def test_the_average_is_part_of_what_the_run_is(fitted, data, small, cache, tmp_path):
    run = fitted("everything", "square")
    assert headstart.load(run.folder).average == "square"
    assert run.report.test["log_loss"].value != pytest.approx(
        fitted("everything").report.test["log_loss"].value, abs=1e-9
    )


def test_val_is_judged_by_the_trained_head_itself(fitted, data):
    run = fitted("boundary")
    val = [row for row in rows_of(run.folder) if row["split"] == "val"]
    history = run.report.training[-1]
    best = next(e for e in history["epochs"] if e["epoch"] == history["best_epoch"])
    assert run.report.val["accuracy"].value == pytest.approx(best["val"]["accuracy"], abs=1e-6)
    assert run.report.val["log_loss"].value == pytest.approx(best["val"]["log_loss"], abs=1e-4)
    assert len(val) == run.report.val["accuracy"].n


@pytest.mark.parametrize("way", [way for way in WAYS if way not in SLOW])
def test_what_is_loaded_is_what_was_trained_to_the_bit(way, fitted):
    trained = fitted(way)
    loaded = headstart.load(trained.folder)
    for own, read in (
        (trained.head.state_dict(), loaded.head.state_dict()),
        (trained.backbone.network.state_dict(), loaded.backbone.network.state_dict()),
    ):
        assert list(own) == list(read)
        assert all(torch.equal(own[name], read[name]) for name in own)
    images = [picture(label, 50 + label) for label in range(2)]
    assert np.array_equal(trained.predict_proba(images), loaded.predict_proba(images))


def test_timm_gives_the_same_logits_for_a_network_that_was_tuned(fitted, data):
    import timm

    run = fitted("everything")
    network = timm.create_model(f"local-dir:{run.folder / 'model'}", pretrained=True).eval()
    classifier = headstart.load(run.folder)
    spec = classifier.input_spec
    files = sorted(data.rglob("*.jpg"))[:6]
    pixels = np.stack([normalise(resize(decode(file), spec), spec) for file in files])
    with torch.inference_mode():
        shares = network(torch.from_numpy(pixels)).double().softmax(dim=1).numpy()
    assert shares == pytest.approx(classifier.predict_proba(files), abs=1e-5)


def test_with_an_mlp_there_is_no_config_for_timm(fitted):
    assert not (fitted("mlp").folder / "model" / "config.json").exists()
    assert (fitted("everything").folder / "model" / "config.json").exists()
