"""The plan: everything decided, nothing computed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from headstart.cache import Cache
from headstart.errors import DataError, UnknownName, UsageError
from headstart.options import Options
from headstart.plan import Plan, make_plan
from pictures import picture, write_photos


@pytest.fixture
def plan(small, tmp_path, monkeypatch):
    """Make the plan of a folder and options; computing anything is an error."""

    def never(*_, **__):
        raise AssertionError("computed")

    for name in ("load", "Forward"):
        monkeypatch.setattr(f"headstart.training.features.{name}", never)

    def made(data, **options) -> Plan:
        return make_plan(data, Options(**small | options), cache=Cache(tmp_path / "cache"))

    return made


def test_the_same_images_give_the_same_spec_wherever_they_lie(plan, photos, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "photos")
    assert plan(photos).spec == plan(moved).spec == plan(str(photos)).spec


def test_a_spec_survives_json(plan, photos):
    spec = plan(photos, limit=12, split=(0.5, 0.25, 0.25)).spec
    assert json.loads(json.dumps(spec)) == spec


def test_a_changed_image_or_label_or_name_is_another_run(plan, photos, tmp_path):
    data = Path(shutil.copytree(photos, tmp_path / "photos"))
    specs = [plan(data).spec]
    picture(0, 500).save(data / "cat" / "0.jpg", quality=92)
    specs.append(plan(data).spec)
    (data / "cat" / "0.jpg").rename(data / "cat" / "zero.jpg")
    specs.append(plan(data).spec)
    (data / "cat" / "1.jpg").rename(data / "dog" / "1b.jpg")
    specs.append(plan(data).spec)
    digests = [spec["data"]["digest"] for spec in specs]
    assert len(set(digests)) == 4
    assert len({spec["split"]["digest"] for spec in specs}) == 4


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"seed": 1}, {"split", "seed"}),
        ({"class_weights": "balanced"}, {"class_weights"}),
        ({"size": 96}, {"backbone"}),
        ({"resize": "squash"}, {"backbone"}),
        ({"mean": (0.1, 0.1, 0.1), "std": (1.0, 1.0, 1.0)}, {"backbone"}),
        ({"limit": 10}, {"split"}),
        ({"precision": "bf16"}, {"path"}),
        ({"batch_size": 8}, {"path"}),
        ({"max_bad": 0.5, "minimum": {"accuracy": 0.5}, "allow_noncommercial": True}, set()),
    ],
)
def test_the_spec_holds_all_that_changes_the_result(plan, photos, options, changed):
    plain, other = plan(photos).spec, plan(photos, **options).spec
    assert {key for key in plain if plain[key] != other[key]} == changed


def test_only_the_head_is_trained(plan, photos):
    made = plan(photos)
    (size,) = made.sizes
    assert size.trainable == (made.backbone.feature_dim + 1) * 3
    network = sum(parameter.numel() for parameter in made.backbone.network.parameters())
    assert size.total == network + size.trainable


def test_the_lines_say_what_will_be_done(plan, photos):
    text = "\n".join(plan(photos, limit=10).lines())
    for part in (
        "photos: 72 images in 3 classes (cat 24, dog 24, owl 24)",
        "train 10, val 11, test 11",
        "stratified, seed 0; train thinned to 10",
        "timm:test_resnet, 0.4 million parameters",
        "licence not stated",
        "64 x 64, crop, bilinear",
        "cross-validation on train chooses of 8 penalties from 30000 to 10",
        "assumed the zoo's own",
    ):
        assert part in text


def test_the_lines_say_that_val_chooses_where_it_does(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=60, side=16)
    text = "\n".join(plan(data, split=(0.4, 0.5, 0.1)).lines())
    assert "; val chooses of 8 penalties" in text


def test_many_classes_are_shown_in_part(plan, tmp_path):
    data = write_photos(tmp_path / "data", classes=[f"kind{n}" for n in range(9)], each=3, side=16)
    assert "kind5 3 and 3 more)" in plan(data).lines()[0]


def test_findings_and_notes_are_in_the_lines_and_in_the_document(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=12, side=16)
    (data / "empty").mkdir()
    shutil.copy(data / "cat" / "0.jpg", data / "cat" / "copy.jpg")
    made = plan(data)
    document = made.to_dict()
    assert "duplicate" in {finding["kind"] for finding in document["findings"]}
    assert any("empty" in note for note in document["notes"])
    text = "\n".join(made.lines())
    for message in (*(f["message"] for f in document["findings"]), *document["notes"]):
        assert message in text
    assert document["phases"] == [
        {"trainable": made.sizes[0].trainable, "total": made.sizes[0].total}
    ]
    json.dumps(document, allow_nan=False)


def test_nothing_to_test_on_is_refused(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=1, side=16)
    with pytest.raises(DataError, match="too few images"):
        plan(data)


def test_a_class_without_a_readable_training_image_is_refused(plan, tmp_path):
    data = write_photos(tmp_path / "data", classes=("cat", "dog", "owl"), each=10, side=16)
    for file in (data / "owl").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="no readable training image: owl") as raised:
        plan(data, max_bad=0.5)
    assert raised.value.hint


def test_what_is_wrong_in_the_options_is_told_before_the_images_are_read(plan, photos, monkeypatch):
    def never(*_, **__):
        raise AssertionError("listed")

    monkeypatch.setattr("headstart.plan.open_dataset", never)
    with pytest.raises(UnknownName, match="strategy"):
        plan(photos, strategy="magic")
    with pytest.raises(UnknownName, match="device"):
        plan(photos, device="toaster")
    with pytest.raises(UsageError, match="batch-size"):
        plan(photos, batch_size=0)


def test_a_plan_is_data(plan, photos):
    made = plan(photos)
    assert replace(made, data="elsewhere").spec == made.spec
    assert made.labels(made.split.test) == [
        made.checked.items[index].label for index in made.split.test
    ]
    assert made.counts() == {"n_train": 50, "n_val": 11, "n_test": 11}


def test_progress_counts_the_images(photos, small, tmp_path):
    steps = []
    make_plan(
        photos,
        Options(**small),
        cache=Cache(tmp_path / "cache"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(number, 72) for number in range(1, 73)]
