"""A data set checked by a network's features."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.audit import audit, deep
from headstart.cache import Cache
from headstart.data.checks.check import inspect
from headstart.data.items import Item
from headstart.data.sources import open_dataset
from headstart.errors import DataError
from headstart.file_facts import Fact
from headstart.memory import FileMemory
from headstart.options import Options
from pictures import picture, write_noise, write_photos

CLASSES = ("cat", "dog", "owl")
N = 150
TRASHNET = Path(__file__).resolve().parents[1].parent / "shared" / "datasets" / "trashnet"


def items_of(labels: np.ndarray, classes=CLASSES) -> list[Item]:
    names = [f"{number:03}.jpg" for number in range(len(labels))]
    return [
        Item(Path(name), name, classes[label]) for name, label in zip(names, labels, strict=True)
    ]


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 3
    centres = 3 * rng.normal(0, 1, (3, 32))
    return (rng.normal(0, 1, (N, 32)) + centres[labels]).astype(np.float32), labels


def digests_of(n: int) -> list[str]:
    return [f"{number:064x}" for number in range(n)]


def copies_of(*true: tuple[int, int]):
    """A confirmation that knows the true pairs, and notes what it was asked."""

    def confirm(paths, pairs):
        confirm.asked.extend(pairs)
        return [pair for pair in pairs if pair in true]

    confirm.asked = []
    return confirm


def audited(features, labels, *, classes=CLASSES, confirm=None, digests=None, **options):
    items = options.pop("items", None) or items_of(labels, classes)
    return audit(
        *(items, classes, features, digests or digests_of(len(labels))),
        confirm=confirm or copies_of(),
        **options,
    )


def kinds(found) -> list[str]:
    return [finding.kind for finding in found.findings]


def test_a_clean_set_has_next_to_no_findings():
    features, labels = blobs()
    found = audited(features, labels)
    assert set(kinds(found)) <= {"outlier"}
    assert found.near == found.pairs == found.overlaps == found.shortcuts == ()
    assert not [suspect for suspect in found.suspects if suspect.candidate]


def test_classes_are_not_searched_for_every_image():
    class Listed(tuple):
        def index(self, *_):
            pytest.fail("the classes were searched")

    features, labels = blobs()
    assert audited(features, labels, classes=Listed(CLASSES)).suspects is not None


def test_wrong_labels_are_the_first_suspects():
    features, labels = blobs()
    wrong = labels.copy()
    swapped = [10, 40, 77, 100]
    wrong[swapped] = (labels[swapped] + 1) % 3
    found = audited(features, wrong)
    assert {suspect.position for suspect in found.suspects[:4]} == set(swapped)
    assert all(suspect.confidence > 0.8 for suspect in found.suspects[:4])
    doubted = {suspect.position for suspect in found.suspects if suspect.candidate}
    assert doubted
    assert doubted <= set(swapped)
    first = found.suspects[0]
    assert first.suggested == CLASSES[labels[first.position]]
    assert 2 < found.wrong_labels < 8
    assert kinds(found)[0] == "label"
    assert found.label is found.findings[0]
    assert set(found.findings[0].files) == {f"{number:03}.jpg" for number in doubted}


def test_near_copies_are_proposed_confirmed_and_told():
    features, labels = blobs()
    for copy, original in ((30, 3), (61, 10), (92, 20)):
        features[copy] = features[original] + 0.05
    items = items_of(labels)
    items[61] = replace(items[61], split="test")
    items[10] = replace(items[10], split="train")
    confirm = copies_of((3, 30), (10, 61))
    found = audited(features, labels, items=items, confirm=confirm)
    assert (20, 92) in confirm.asked
    assert found.pairs == ((3, 30), (10, 61))
    assert found.near == ((3, 30), (10, 61))
    assert kinds(found)[:1] == ["split-leak"]
    assert "near-duplicate" in kinds(found)
    assert audited(features, labels, confirm=confirm, most_pairs=0).pairs == ()


def test_what_the_probe_says_of_labels_is_no_finding_about_copies():
    features, labels = blobs()
    features[31] = features[3] + 0.05
    assert labels[31] != labels[3]
    found = audited(features, labels, confirm=copies_of((3, 31)))
    copies = [
        one for one in found.findings if one.kind == "label" and "show the same" in one.message
    ]
    assert len(copies) == 1
    assert found.label not in copies
    assert audited(*blobs()).label is None


def test_more_copies_than_one_batch_holds_are_all_found():
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (240, 64)).astype(np.float32)
    features = np.concatenate([first, first + rng.normal(0, 0.1, first.shape).astype(np.float32)])
    labels = np.arange(480) % 3
    pairs = tuple((number, number + 240) for number in range(240))
    found = audited(features, labels, confirm=copies_of(*pairs))
    assert found.pairs == found.near == pairs
    assert found.unsearched == 0
    assert "not-searched" not in kinds(found)
    cut = audited(features, labels, confirm=copies_of(*pairs), most_pairs=200)
    assert len(cut.near) == 200
    assert cut.unsearched >= 40
    assert cut.at(np.arange(480)).unsearched == cut.unsearched
    assert "not-searched" in kinds(cut)


def test_known_copies_are_neither_proposed_nor_told_again():
    features, labels = blobs()
    features[[30, 60]] = features[3]
    digests = digests_of(N)
    digests[30] = digests[3]
    confirm = copies_of((3, 30), (3, 60))
    found = audited(features, labels, digests=digests, known=[(3, 60)], confirm=confirm)
    assert not {(3, 30), (3, 60), (30, 60)} & set(confirm.asked)
    assert found.near == ()
    assert "near-duplicate" not in kinds(found)


def test_a_group_of_near_copies_holds_the_exact_ones_too():
    features, labels = blobs()
    features[[30, 60]] = features[3]
    digests = digests_of(N)
    digests[30] = digests[3]
    found = audited(features, labels, digests=digests, confirm=copies_of((3, 60), (30, 60)))
    assert found.near == ((3, 30, 60),)


@pytest.mark.parametrize("how", ["digest", "group", "near", "known"])
def test_a_copy_does_not_vouch_for_a_wrong_label(how):
    """Forty times over, an image alone of its kind could only be learnt from its own copy."""
    rng = np.random.default_rng(0)
    first = rng.normal(0, 1, (40, 64)).astype(np.float32) * 4
    features = np.concatenate([first, first])
    labels = np.tile(rng.permutation(np.arange(40) % 2), 2)
    pairs = [(number, number + 40) for number in range(40)]
    items, digests, options = items_of(labels), digests_of(80), {}
    alone = audited(features, labels, classes=CLASSES[:2])
    assert len(alone.suspects) < 5
    if how == "digest":
        digests = digests[:40] * 2
    elif how == "group":
        items = [replace(item, group=f"{place % 40}") for place, item in enumerate(items)]
    elif how == "near":
        options = {"confirm": copies_of(*pairs)}
    else:
        options = {"known": pairs}
    found = audited(features, labels, classes=CLASSES[:2], items=items, digests=digests, **options)
    assert len(found.suspects) > 20


def test_a_leak_in_the_facts_is_told():
    features, labels = blobs()
    width = Fact("image width", 200 + 100 * (labels == 1), "traces")
    found = audited(features, labels, facts=[width])
    assert [one.reveals for one in found.shortcuts] == [("dog",)]
    assert kinds(found)[0] == "shortcut"


def test_classes_that_are_one_overlap():
    features, labels = blobs()
    halves = np.where(labels == 2, 2 + np.arange(N) // 3 % 2, labels)
    found = audited(features, halves, classes=(*CLASSES, "strix"))
    assert [(one.a, one.b, one.same) for one in found.overlaps] == [("owl", "strix", True)]
    assert all(halves[one] >= 2 for one in found.overlaps[0].positions)


def test_an_image_of_another_kind_is_an_outlier():
    features, labels = blobs()
    features[50] = 6 * np.random.default_rng(5).normal(0, 1, 32)
    found = audited(features, labels)
    assert found.outliers[0].position == 50
    assert "outlier" in kinds(found)


def test_a_class_of_few_images_is_not_judged_and_that_is_told():
    features, labels = blobs()
    labels = np.where(np.isin(np.arange(N), [2, 5, 8, 11]), 3, labels)
    found = audited(features, labels, classes=(*CLASSES, "rare"))
    (told,) = [one for one in found.findings if one.kind == "few-images"]
    assert "rare (4)" in told.message
    assert not {suspect.position for suspect in found.suspects} & {2, 5, 8, 11}
    wrong = np.where(np.arange(N) == 140, 0, labels)  # positions are those of all the images
    assert audited(features, wrong, classes=(*CLASSES, "rare")).suspects[0].position == 140


def test_copies_of_few_images_are_few_images():
    features, labels = blobs()
    rare = np.flatnonzero(labels == 2)
    found = audited(features, labels, known=[rare.tolist()[:48]])
    assert "owl (3)" in next(one.message for one in found.findings if one.kind == "few-images")


@pytest.mark.parametrize(("n", "classes"), [(1, 1), (3, 3), (9, 2), (12, 1)])
def test_what_can_not_be_judged_is_left_alone(n, classes):
    features = np.random.default_rng(0).normal(0, 1, (n, 8)).astype(np.float32)
    found = audited(features, np.arange(n) % classes, classes=CLASSES[:classes])
    assert found.suspects == found.overlaps == found.shortcuts == ()


def test_the_same_seed_gives_the_same_audit_and_another_one_other_folds():
    features, labels = blobs()
    labels = np.where(np.arange(N) % 10 == 0, (labels + 1) % 3, labels)
    assert audited(features, labels, seed=1) == audited(features, labels, seed=1)
    one, other = (audited(features, labels, seed=seed).suspects for seed in (1, 2))
    assert [s.confidence for s in one] != [s.confidence for s in other]


def test_positions_can_be_those_of_a_larger_list():
    features, labels = blobs()
    labels[77] = (labels[77] + 1) % 3
    features[30] = features[3]
    features[50] = 6 * np.random.default_rng(5).normal(0, 1, 32)
    halves = np.where(labels == 2, 2 + np.arange(N) // 3 % 2, labels)
    width = Fact("image width", 200 + 100 * (labels == 1), "traces")
    found = audited(
        features, halves, classes=(*CLASSES, "strix"), facts=[width], confirm=copies_of((3, 30))
    )
    moved = found.at(np.arange(N) * 2 + 1)
    assert moved.near == moved.pairs == ((7, 61),)
    assert moved.outliers[0].position == 101
    for name in ("suspects", "outliers"):
        before, after = getattr(found, name), getattr(moved, name)
        assert [one.position for one in after] == [2 * one.position + 1 for one in before]
    for name in ("overlaps", "shortcuts"):
        (before,), (after,) = getattr(found, name), getattr(moved, name)
        assert after.positions == tuple(2 * one + 1 for one in before.positions)
    assert moved.findings == found.findings


# Of files


def test_what_features_propose_is_judged_by_its_pixels(tmp_path):
    """3 is mirrored, smaller and re-encoded as 30; 60 only looks like 6 to the network."""
    rng = np.random.default_rng(0)
    features, labels = blobs()
    features[[30, 60]] = features[[3, 6]]
    for number in range(N):
        field = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        field.resize((120, 90), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    with Image.open(tmp_path / "3.png") as image:
        ImageOps.mirror(image).resize((100, 75)).save(tmp_path / "30.jpg", quality=80)
    items = items_of(labels)
    items = [replace(item, path=tmp_path / f"{place}.png") for place, item in enumerate(items)]
    items[30] = replace(items[30], path=tmp_path / "30.jpg")
    found = audit(items, CLASSES, features, digests_of(N))
    assert found.pairs == ((3, 30),)


@pytest.fixture
def look(tmp_path):
    """Inspect a folder and look deeper, with the options of a network."""

    def looked(data: Path, change=lambda: None, **options):
        cache = Cache(tmp_path / "cache")
        dataset = open_dataset(data)
        inspection = inspect(dataset, FileMemory(cache.files), max_bad=1)
        change()
        return inspection, deep(dataset, inspection, Options(**options), cache=cache)

    return looked


def test_a_folder_is_looked_at_deeper(tmp_path, look):
    data = write_photos(tmp_path / "photos", classes=("cat", "dog"), each=18)
    shutil.move(data / "cat/3.jpg", data / "dog/wrong.jpg")
    for number in range(18):  # a class that is saved at another size
        picture(2, number, side=72).save(data / "owl.jpg")
        (data / "owl").mkdir(exist_ok=True)
        shutil.move(data / "owl.jpg", data / f"owl/{number}.jpg")
    inspection, found = look(data)
    (size,) = [one for one in found.shortcuts if not one.habit and "image width" in one.facts]
    assert size.reveals == ("owl",)
    names = [inspection.items[suspect.position].name for suspect in found.suspects]
    assert names[:1] == ["dog/wrong.jpg"]


def test_features_are_computed_once(tmp_path, small):
    data = write_noise(tmp_path / "noise")
    cache, totals = Cache(tmp_path / "cache"), []
    inspection = inspect(open_dataset(data), FileMemory(cache.files))

    def looked(**options):
        return deep(
            *(open_dataset(data), inspection, Options(**small | options)),
            cache=cache,
            progress=lambda done, total: totals.append(total),
        )

    first = looked()
    assert set(totals) == {40}
    assert looked() == first
    assert set(totals) == {40}
    again = looked(seed=5)
    assert [s.confidence for s in again.suspects] != [s.confidence for s in first.suspects]


def test_images_that_vanish_meanwhile_are_left_out(tmp_path, small, look):
    data = write_photos(tmp_path / "photos", each=12)
    gone = data / "cat/1.jpg"
    wrong = shutil.copy(data / "cat/7.jpg", tmp_path / "kept.jpg")
    gone.with_name("7.jpg").unlink()
    shutil.move(wrong, data / "dog/77.jpg")
    inspection, found = look(data, gone.unlink, **small)
    assert gone.name == "1.jpg"
    assert all(inspection.items[one.position].path.exists() for one in found.suspects)


def test_a_folder_that_vanishes_meanwhile_is_a_data_error(tmp_path, small, look):
    data = write_photos(tmp_path / "photos", each=3)
    with pytest.raises(DataError, match="None of the 6 images can be read any more"):
        look(data, lambda: shutil.rmtree(data), **small)


@pytest.mark.slow
@pytest.mark.skipif(not TRASHNET.exists(), reason="there is no trashnet beside the code")
def test_faults_planted_among_photos_of_waste_are_found(tmp_path, look):
    data = tmp_path / "waste"
    folders = sorted((TRASHNET / "train").iterdir())
    for folder in folders:
        (data / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:40]:
            shutil.copyfile(photo, data / folder.name / f"{photo.stem}.jpg")
    wrong = set()
    for number in range(12):
        photo = sorted((data / folders[number % 6].name).iterdir())[5 + number]
        other = f"{folders[(number + 1) % 6].name}/wrong-{number}.jpg"
        shutil.move(photo, data / other)
        wrong.add(other)
    original = sorted((data / "glass").iterdir())[20]
    with Image.open(original) as image:
        ImageOps.mirror(image).resize((160, 120)).save(data / "glass" / "copy.jpg", quality=60)
    inspection, found = look(data)
    names = [item.name for item in inspection.items]
    first = {names[suspect.position] for suspect in found.suspects[:24]}  # a tenth of all
    assert len(first & wrong) >= 7  # of 12; 9 measured, and one would be chance
    groups = [*found.near, *(group.members for group in inspection.groups)]
    copies = {f"glass/{original.name}", "glass/copy.jpg"}
    assert any({names[member] for member in group} == copies for group in groups)
