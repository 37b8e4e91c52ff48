"""A data set checked as a whole, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import headstart
from checks import audit, group, item, result, scene, suspect, write_scenes
from headstart.data.checks.check import Finding
from headstart.errors import DataError, UnknownName, UsageError
from pictures import picture, write_photos


@pytest.fixture
def faulty(tmp_path):
    """Photos with a file that is none, a copy, and a copy under another label."""
    root = write_photos(tmp_path / "photos", each=12)
    (root / "cat" / "bad.jpg").write_text("<html>404</html>")
    shutil.copy(root / "dog" / "3.jpg", root / "dog" / "copy.jpg")
    shutil.copy(root / "dog" / "4.jpg", root / "cat" / "dog.jpg")
    return root


def kinds(found):
    return [finding.kind for finding in found.findings]


def test_what_is_known_of_clean_data(photos):
    found = headstart.check(photos)
    assert isinstance(found, headstart.CheckResult)
    assert (found.n, found.classes) == (72, {"cat": 24, "dog": 24, "owl": 24})
    assert (found.splits, found.failed, found.refusal, found.audit) == ({}, (), None, None)
    assert found.sizes == {"48 x 48": 72}
    assert found.formats == {"JPEG": 72}
    assert found.findings == ()
    assert found.split is not None
    assert found.to_dict()["split"]["n_train"] == len(found.split.train) > 40
    assert found.data == str(photos)


def test_faults_are_found_and_the_gravest_come_first(faulty):
    found = headstart.check(faulty, max_bad=0.1)
    assert found.n == 26
    assert [(it.name, it.reason) for it in found.failed] == [("cat/bad.jpg", "an HTML page")]
    assert sorted(kinds(found)) == ["duplicate", "label", "unreadable"]
    assert [it.severity for it in found.findings] == ["warning", "warning", "note"]
    assert found.refusal is None


def test_what_fit_would_refuse_is_told_and_not_raised(faulty):
    found = headstart.check(faulty)
    assert isinstance(found.refusal, DataError)
    assert found.findings[0].severity == "error"
    assert sum(finding.kind == "unreadable" for finding in found.findings) == 1
    assert found.to_dict()["usable"] is False
    with pytest.raises(DataError) as error:
        headstart.fit(faulty, faulty.parent / "run", strategy="feature-extraction")
    assert error.value.message == found.refusal.message


def test_the_document_is_that_of_the_design(faulty):
    document = headstart.check(faulty).to_dict()
    assert {"n", "classes", "findings"} <= set(document)
    assert document["n"] == sum(document["classes"].values()) == 26
    for finding in document["findings"]:
        assert set(finding) == {"kind", "severity", "files", "message", "hint"}
        assert finding["severity"] in ("note", "warning", "error")
        assert all((faulty / name).exists() for name in finding["files"])
    assert document["failed"] == [{"path": "cat/bad.jpg", "reason": "an HTML page"}]


@pytest.mark.parametrize("layout", ["one class", "no class"])
def test_without_classes_the_images_are_looked_at_all_the_same(layout, tmp_path):
    root = tmp_path / "photos"
    folder = root / "cat" if layout == "one class" else root
    folder.mkdir(parents=True)
    for number in range(4):
        picture(0, number % 3).save(folder / f"{number}.png")
    (folder / "bad.png").touch()
    found = headstart.check(root, deep=True)
    assert found.n == 4
    assert found.refusal is not None
    assert "need 2+" in found.refusal.message
    assert found.findings[0].severity == "error"
    assert found.findings[0].message == found.refusal.message
    assert {"duplicate", "unreadable"} < set(kinds(found))
    assert (found.audit, found.split) == (None, None)


def test_classes_that_can_t_be_learnt_are_a_refusal(tmp_path):
    root = write_photos(tmp_path / "photos", each=6)
    for number in range(6):
        (root / "cat" / f"{number}.jpg").write_bytes(b"")
    found = headstart.check(root, max_bad=0.9)
    assert found.refusal is not None
    assert found.refusal.message == "These classes have no readable training image: cat."
    assert found.split is None


def test_too_few_images_for_a_test_are_a_refusal(tmp_path):
    found = headstart.check(write_photos(tmp_path / "photos", each=1))
    assert found.refusal is not None
    assert "too few images to hold any out" in found.refusal.message


def test_a_split_without_train_is_a_refusal(tmp_path):
    write_photos(tmp_path / "photos" / "test", each=4)
    found = headstart.check(tmp_path / "photos")
    assert found.refusal is not None
    assert found.splits == {"test": {"cat": 4, "dog": 4}}


def test_nothing_to_look_at_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no image"):
        headstart.check(tmp_path / "empty")
    with pytest.raises(UnknownName):
        headstart.check(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="max-bad"):
        headstart.check(tmp_path, max_bad=2)


def test_progress_is_told_by_stage(photos, own_cache):
    told = []
    headstart.check(photos, progress=lambda stage: lambda *counts: told.append((stage, *counts)))
    assert ("read", 72, 72) in told
    stage, done, total = told[-1]
    assert stage == "pairs"
    assert done == total > 0


def test_who_lists_the_images_can_end_the_check_before_any_is_read(tmp_path):
    photos = write_photos(tmp_path / "photos", each=2)
    seen = []

    def listed(dataset):
        seen.extend(item.name for item in dataset.items)
        raise UsageError("Not these.")

    with pytest.raises(UsageError, match="Not these"):
        headstart.check(photos, listed=listed, progress=lambda stage: pytest.fail("was read"))
    assert len(seen) == 4


def test_options_say_how_the_source_is_read(photos):
    found = headstart.check(photos, classes=("owl", "cat"))
    assert found.n == 48
    assert list(found.classes) == ["owl", "cat"]


def test_images_in_memory_are_checked_like_files(own_cache):
    images = [(picture(number % 2, number), "ab"[number % 2]) for number in range(20)]
    found = headstart.check([*images, images[0]])
    assert (found.n, found.classes) == (21, {"a": 11, "b": 10})
    assert "duplicate" in kinds(found)


def test_what_a_better_look_repeats_is_said_once():
    first = Finding("split-leak", "warning", ("a", "b"), "From the files.")
    other = Finding("split-leak", "warning", ("c",), "From the files.")
    nothing = Finding("imbalance", "warning", (), "From the files.")
    again = Finding("split-leak", "warning", ("a", "b", "x"), "By a network.")
    made = result(
        [item("a")], findings=[first, other, nothing], audit=audit(findings=[again, nothing])
    )
    assert made.findings == (other, nothing, again, nothing)


def test_doubted_labels_repeat_nothing_about_copies():
    copies = Finding("label", "warning", ("a", "b"), "One image, two labels.")
    doubts = Finding("label", "warning", ("a", "b", "c"), "3 labels are in doubt.")
    made = result([item("a")], findings=[copies], audit=audit(label=doubts))
    assert made.findings == (copies, doubts)


def test_the_document_has_all_groups_and_suspects():
    items = [item(f"{number}") for number in range(300)]
    pairs = [group(number, number + 1) for number in range(0, 300, 2)]
    doubts = [suspect(number, "cat", "dog", 0.75) for number in range(200)]
    hard = suspect(200, "cat", "dog", real=False)
    found = audit(near=[(0, 1, 2)], suspects=[*doubts, hard])
    document = result(items, groups=pairs, audit=found).to_dict()
    assert document["groups"] == [
        *({"how": "bytes", "files": [f"{it}", f"{it + 1}"]} for it in range(0, 300, 2)),
        {"how": "network", "files": ["0", "1", "2"]},
    ]
    assert document["suspects"] == [
        {"path": f"{it}", "label": "cat", "suggested": "dog", "confidence": 0.75}
        for it in range(200)
    ]
    assert result(items).to_dict()["suspects"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("backbone", "timm:test_resnet"), ("weights", Path("w.safetensors"))),
        *(("size", 64), ("resize", "pad"), ("device", "cpu")),
    ],
)
def test_options_of_the_network_need_one(name, value, photos):
    with pytest.raises(UsageError, match=f"--{name} needs --deep") as error:
        headstart.check(photos, **{name: value})
    assert error.value.field == name


@pytest.mark.slow
def test_deep_finds_what_files_don_t_show(tmp_path, own_cache):
    root = write_scenes(tmp_path / "photos", each=24)
    scene(0, 99).save(root / "dog" / "cat.jpg")
    found = headstart.check(root, deep=True)
    assert found.audit is not None
    names = [found.items[it.position].name for it in found.audit.suspects]
    assert names[0] == "dog/cat.jpg"
    assert "label" in kinds(found)
