"""The plan: everything decided, nothing computed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from headstart.cache import Cache
from headstart.data.checks.check import check
from headstart.data.sources import open_dataset
from headstart.data.splits.split_file import write_split
from headstart.files import digest
from headstart.memory import FileMemory
from headstart.plan import data_spec
from headstart.planning import with_choices
from headstart.strategy.strategy import Strategy
from pictures import picture, write_photos
from planned import LAST, decided_for


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
        ({"limit": 10}, {"split", "refit"}),
        ({"refit": False}, {"refit"}),
        ({"precision": "bf16"}, {"path"}),
        ({"batch_size": 8}, {"path"}),
        ({"head": "linear,dropout=0.5"}, {"head", "strategy", "refit"}),
        ({"average": "flip"}, {"average"}),
        ({"strategy": "last-blocks:2"}, {"strategy", "refit"}),
        ({"epochs": 3}, {"strategy", "refit"}),
        ({"split_seed": 1}, {"split"}),
        ({"seed": 1, "split_seed": 0}, {"seed"}),
        ({"max_bad": 0.5, "minimum": {"accuracy": 0.5}, "allow_noncommercial": True}, set()),
    ],
)
def test_the_spec_holds_all_that_changes_the_result(plan, photos, options, changed):
    plain, other = plan(photos).spec, plan(photos, **options).spec
    # Whether a head is solved again is told only where one is solved last.
    assert {key for key in plain | other if plain.get(key) != other.get(key)} == changed


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
    assert document["phases"] == [asdict(size) for size in made.sizes]
    json.dumps(document, allow_nan=False)


def test_a_plan_is_data(plan, photos):
    made = plan(photos)
    assert replace(made, data="elsewhere").spec == made.spec
    assert made.labels(made.split.test) == [
        made.checked.items[index].label for index in made.split.test
    ]
    assert made.counts() == {"n_train": 50, "n_val": 11, "n_test": 11}


# Phases


@pytest.mark.parametrize(
    ("options", "trains", "solves"),
    [
        ({}, False, True),
        ({"epochs": 2}, True, False),
        ({"strategy": "last-blocks:1"}, True, True),
        ({"strategy": "fine-tune"}, True, False),
    ],
)
def test_a_plan_knows_whether_it_trains_or_solves(plan, photos, options, trains, solves):
    made = plan(photos, **options)
    assert (made.trains, made.solves) == (trains, solves)


# What a strategy brings along


def test_the_plan_of_any_strategy_survives_json(plan, photos):
    made = plan(photos, strategy="gradual", head="mlp:8,dropout=0.5", average="flip")
    document = made.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert Strategy.from_dict(document["plan"]["strategy"]) == made.asked
    assert document["plan"]["head"] == "mlp:8,dropout=0.5/0.5"
    assert document["plan"]["average"] == "flip"


def test_a_head_is_solved_again_on_val_where_the_training_images_are_not_limited(plan, photos):
    assert plan(photos).spec["refit"]
    for options in ({"refit": False}, {"limit": 20}, {"limit_per_class": 5}):
        assert not plan(photos, **options).spec["refit"]
    assert plan(photos, limit=1000).spec["refit"]  # which limits nothing
    assert "refit" not in plan(photos, strategy="last-blocks:1").spec


def test_a_limited_split_that_is_given_again_is_limited_too(plan, photos, tmp_path):
    thin = plan(photos, limit=20)
    write_split(thin.split, thin.checked.items, thin.checked.digests, tmp_path / "split.csv")
    again = plan(photos, split=tmp_path / "split.csv")
    assert again.split.digest == thin.split.digest
    assert not again.spec["refit"]


# How images are read


def test_the_order_of_the_classes_is_part_of_the_spec(plan, photos):
    made = plan(photos, classes=("owl", "cat"))
    assert made.task.classes == ("owl", "cat")
    other = plan(photos, classes=("cat", "owl"))
    assert made.spec["task"] != other.spec["task"]
    assert {key for key in made.spec if made.spec[key] != other.spec[key]} == {"task"}


def test_groups_and_weights_are_part_of_the_datas_digest(photos, tmp_path):
    dataset = open_dataset(photos)
    checked = check(dataset, FileMemory(tmp_path / "files.sqlite"), max_bad=0.0)

    def spec(**fields):
        first = replace(checked.items[0], **fields)
        return data_spec(dataset, replace(checked, items=(first, *checked.items[1:])))

    plain = spec()
    assert plain == {"name": "photos", "digest": plain["digest"], "n": 72}
    digests = [spec(**fields)["digest"] for fields in ({}, {"group": "a"}, {"group": "b"},
               {"weight": 2.0}, {"weight": 2.0, "group": "a"}, {"label": "dog"})]  # fmt: skip
    assert len(set(digests)) == 6
    assert digests[0] == plain["digest"]


def test_data_without_groups_has_the_digest_that_it_always_had(plan, photos):
    made = plan(photos)
    lines = zip(made.checked.items, made.checked.digests, strict=True)
    expected = digest(*(f"{item.name}\0{item.label}\0{image}" for item, image in lines))
    assert made.spec["data"]["digest"] == expected


def test_a_reading_reaches_the_source(plan, photos, tmp_path):
    write_photos(tmp_path / "other", classes=("cat", "owl"), each=3, side=16)
    made = plan(photos, classes=("owl", "cat"), group_by=r"(\d+)\.", test=tmp_path / "other")
    tested = [made.checked.items[index].name for index in made.split.test]
    assert len(tested) == 6
    assert all(name.startswith("test/") for name in tested)
    assert {item.group for item in made.checked.items} == {str(number) for number in range(24)}


def test_many_images_are_not_audited_and_the_plan_says_so(plan, photos, monkeypatch):
    few = plan(photos)
    assert few.audits
    assert not plan(photos, audit=False).audits
    assert not plan(photos, strategy="fine-tune").audits
    monkeypatch.setattr("headstart.plan.MOST_AUDITED", 71)
    assert not few.audits
    assert "not looked for in more than 71 images" in few.notes[-1]
    for other in (plan(photos, audit=False), plan(photos, strategy="fine-tune")):
        assert not any("check --deep" in note for note in other.notes)


# Where ``auto`` chooses


def test_before_auto_has_chosen_the_probe_is_planned(plan, photos):
    made = plan(photos, strategy="auto", epochs=3, symmetry="square")
    assert made.decided is None
    assert (made.given.epochs, made.options.epochs) == (3, None)
    assert made.asked.name == "auto"
    assert made.solves
    assert not made.trains
    assert plan(photos).given is None


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 3},
        {"lr": 2e-3},
        {"augment": "strong"},
        {"augment": abs},
        {"symmetry": "flip"},
        {"views": 2},
        {"train": {"optimizer": "sgd"}},
        {"resize": "crop"},
        {"size": 32},
        {"average": "none"},
        {"allow_noncommercial": True},
    ],
)
def test_all_that_auto_goes_by_makes_another_run(plan, photos, options):
    first, other = plan(photos, strategy="auto").spec, plan(photos, strategy="auto", **options).spec
    assert first["options"] != other["options"]
    assert json.loads(json.dumps(other)) == other


def test_another_budget_is_another_run(plan, photos):
    first, other = (plan(photos, strategy="auto", budget=budget).spec for budget in (60.0, 90.0))
    assert {name for name in first if first[name] != other[name]} == {"strategy"}
    assert other["strategy"] == {"name": "auto", "budget": 90.0}


def test_what_was_chosen_is_planned_and_is_still_the_same_run(plan, photos, tmp_path):
    cache = Cache(tmp_path / "cache")
    made = plan(photos, strategy="auto")
    chosen = with_choices(made, decided_for(made, LAST, resize="squash"), cache=cache)
    assert chosen.spec == made.spec
    assert chosen.trains
    assert chosen.backbone.input_spec.resize == "squash"
    assert (chosen.split, chosen.checked, chosen.given) == (made.split, made.checked, made.given)
    assert chosen.details["backbone"]["input_spec"]["resize"] == "squash"
    assert chosen.details["strategy"] == chosen.asked.to_dict() != made.details["strategy"]


def test_why_it_was_chosen_is_in_the_document(plan, photos, tmp_path):
    made = plan(photos, strategy="auto")
    assert "auto" not in made.to_dict()
    decided = decided_for(made, LAST)
    document = with_choices(made, decided, cache=Cache(tmp_path / "cache")).to_dict()
    assert document["auto"] == decided.explained()
    assert json.loads(json.dumps(document)) == document
    assert len(document["phases"]) == 2
