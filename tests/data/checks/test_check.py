from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.checks import check as module
from headstart.data.checks.check import Checked, Inspection, check, inspect
from headstart.data.checks.copies import Group
from headstart.data.sources import open_dataset
from headstart.errors import DataError, UsageError
from headstart.memory import FileMemory
from scenes import encoded as jpeg
from scenes import near_copies, scene

BAD = {"cats/empty.jpg": b"", "cats/page.jpg": b"<html>", "dogs/zero.jpg": bytes(99)}


def pets(cats: int = 3, dogs: int = 3, folder: str = "", start: int = 0) -> dict[str, int]:
    sizes = {"cats": cats, "dogs": dogs}
    names = [f"{folder}{kind}/{n}.png" for kind, size in sizes.items() for n in range(size)]
    return {name: start + position for position, name in enumerate(names)}


@pytest.fixture
def memory(tmp_path: Path) -> FileMemory:
    return FileMemory(tmp_path / "memory" / "files.sqlite")


def run(root: Path, memory: FileMemory, max_bad: float = 1.0) -> Checked:
    for path in root.rglob("*"):
        if path.stat().st_mtime > 1000:
            os.utime(path, (1, 1))  # so old that it is remembered
    return check(open_dataset(root), memory, max_bad=max_bad)


def whole(root: Path, memory: FileMemory, **options) -> Inspection:
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    return inspect(open_dataset(root), memory, **options)


def kinds(checked: Checked | Inspection) -> list[str]:
    return [finding.kind for finding in checked.findings]


def only(checked: Checked | Inspection, kind: str):
    (finding,) = (finding for finding in checked.findings if finding.kind == kind)
    return finding


def test_a_sound_data_set_has_no_findings(tree, memory) -> None:
    checked = run(tree(pets()), memory, max_bad=0)
    assert checked.findings == checked.failed == ()
    assert [item.name for item in checked.items] == sorted(pets())
    assert len(set(checked.digests)) == 6


def test_unreadable_files_are_left_out_and_listed_with_reasons(tree, memory) -> None:
    checked = run(tree(pets() | BAD), memory)
    assert [(failure.name, failure.reason) for failure in checked.failed] == [
        ("cats/empty.jpg", "empty file"),
        ("cats/page.jpg", "an HTML page"),
        ("dogs/zero.jpg", "only zero bytes"),
    ]
    assert [failure.index for failure in checked.failed] == [3, 4, 8]
    assert {item.name for item in checked.items} == set(pets())
    finding = only(checked, "unreadable")
    assert finding.severity == "warning"
    assert finding.files == tuple(sorted(BAD))
    assert finding.message.startswith("3 of 9 images can't be read and are left out: cats/empty")
    assert "dogs/zero.jpg: only zero bytes" in finding.message


def test_too_many_unreadable_files_stop_with_the_first_ten_names(tree, memory) -> None:
    root = tree(pets() | {f"cats/bad{n:02}.jpg": b"" for n in range(14)})
    with pytest.raises(DataError) as caught:
        run(root, memory, max_bad=0.5)
    lines = caught.value.message.splitlines()
    assert lines[0] == "14 of 20 images can't be read; --max-bad allows 50 %:"
    assert lines[1] == "  cats/bad00.jpg: empty file"
    assert lines[10:] == ["  cats/bad09.jpg: empty file", "  …"]
    assert caught.value.exit_code == 3
    assert kinds(run(root, memory, max_bad=0.7)) == ["unreadable"]


@pytest.mark.parametrize("max_bad", [-0.1, 1.5, float("nan")])
def test_the_share_must_be_one(tree, memory, max_bad: float) -> None:
    with pytest.raises(UsageError, match=r"within 0 and 1, not .*\n0.01 is usual"):
        run(tree(pets()), memory, max_bad=max_bad)


def test_what_the_header_tells_is_noted(tree, memory, noise, encoded) -> None:
    frames = [noise(90), noise(91)]
    root = tree(
        pets()
        | {
            "cats/a.jpg": encoded(noise(80), "PNG"),
            "cats/b.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            "dogs/c.tif": Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)),
        }
    )
    checked = run(root, memory)
    assert not checked.failed
    found = {finding.kind: (finding.severity, *finding.files) for finding in checked.findings}
    assert found == {
        "format": ("note", "cats/a.jpg"),
        "frames": ("note", "cats/b.gif"),
        "depth": ("note", "dogs/c.tif"),
    }
    assert only(checked, "format").message == "1 of 9 images: PNG named .jpg."


def test_copies_are_groups(tree, memory) -> None:
    copies = {"cats/x.png": 0, "cats/y.png": 0, "dogs/x.png": 5}
    checked = run(tree(pets() | copies), memory)
    groups = [finding.files for finding in checked.findings if finding.kind == "duplicate"]
    assert groups == [("cats/0.png", "cats/x.png", "cats/y.png"), ("dogs/2.png", "dogs/x.png")]
    assert kinds(checked) == ["duplicate", "duplicate"]
    assert len(checked.items) == 9  # a copy is no failure


def test_copies_under_two_labels_are_a_warning(tree, memory) -> None:
    checked = run(tree(pets() | {"dogs/x.png": 0}), memory)
    finding = only(checked, "label")
    assert finding.severity == "warning"
    assert finding.files == ("cats/0.png", "dogs/x.png")
    assert "cats, dogs" in finding.message
    assert "duplicate" not in kinds(checked)


def test_copies_in_two_split_folders_are_a_leak(tree, memory) -> None:
    files = pets(folder="train/") | pets(folder="test/", start=50) | {"test/cats/x.png": 0}
    finding = only(run(tree(files), memory), "split-leak")
    assert finding.severity == "warning"
    assert finding.files == ("test/cats/x.png", "train/cats/0.png")
    files["test/dogs/y.png"] = 1
    checked = run(tree(files), memory)
    assert sorted(kinds(checked)) == ["label", "split-leak", "split-leak"]


def test_classes_too_small_to_be_measured_are_told(tree, memory) -> None:
    finding = only(run(tree(pets(3, 2)), memory), "few-images")
    assert finding.message == "Classes with fewer than 3 different images: dogs (2)."
    copies = pets(3, 1, folder="x/") | {"x/dogs/a.png": 3, "x/dogs/b.png": 3}
    assert "dogs (1)" in only(run(tree(copies) / "x", memory), "few-images").message
    lost = pets(3, 0, folder="y/") | {"y/dogs/a.png": b""}
    assert "dogs (0)" in only(run(tree(lost) / "y", memory), "few-images").message


def test_warnings_come_before_notes(tree, memory) -> None:
    files = pets(30, 2) | {"cats/x.png": 0, "dogs/bad.png": b""}
    grave = [finding.severity for finding in run(tree(files), memory).findings]
    assert grave == ["warning", "warning", "warning", "note"]


def test_a_second_pass_opens_no_file(tree, memory, monkeypatch) -> None:
    root = tree(pets() | {"cats/x.png": 0})
    cold = run(root, memory)
    monkeypatch.setattr(module, "read_row", lambda path: pytest.fail(f"{path} was opened"))
    warm = run(root, memory)
    assert warm == cold
    assert warm.facts.format == cold.facts.format == ("PNG",) * 7


def test_only_what_is_new_or_changed_is_read(tree, memory, monkeypatch) -> None:
    root = tree(pets())
    cold = run(root, memory)
    tree({"cats/new.png": 70, "dogs/0.png": 71})
    os.utime(root / "dogs/0.png", (2, 2))
    opened = []
    read_row = module.read_row
    monkeypatch.setattr(module, "read_row", lambda path: opened.append(path.name) or read_row(path))
    warm = run(root, memory)
    assert sorted(opened) == ["0.png", "new.png"]
    before = dict(zip((i.name for i in cold.items), cold.digests, strict=True))
    after = dict(zip((i.name for i in warm.items), warm.digests, strict=True))
    assert {name for name in before if before[name] != after[name]} == {"dogs/0.png"}


def test_rows_of_another_version_are_learnt_again(tree, memory, monkeypatch) -> None:
    root = tree(pets())
    cold = run(root, memory)
    monkeypatch.setattr("headstart.data.checks.facts._VERSION", -1)
    opened = []
    read_row = module.read_row
    monkeypatch.setattr(module, "read_row", lambda path: opened.append(path) or read_row(path))
    assert run(root, memory) == cold
    assert len(opened) == 6


def test_the_facts_are_those_of_the_readable_items(tree, memory, noise) -> None:
    checked = run(tree(pets() | {"cats/1.png": b"", "dogs/2.png": noise(1, 30, 20)}), memory)
    assert len(checked.items) == len(checked.facts.width) == 5
    assert checked.facts.width.tolist() == [12, 12, 12, 12, 30]
    sizes = [item.path.stat().st_size for item in checked.items]
    assert checked.facts.bytes.tolist() == sizes


def test_progress_is_told_file_by_file(tree, memory) -> None:
    told = []
    dataset = open_dataset(tree(pets()))
    check(dataset, memory, max_bad=0, progress=lambda *step: told.append(step))
    assert told == [(n, 6) for n in range(1, 7)]


def test_findings_are_plain_json(tree, memory) -> None:
    name = os.fsdecode(b"cats/\xff.png")
    checked = run(tree(pets() | {name: 0}), memory)
    documents = [finding.to_dict() for finding in checked.findings]
    assert json.loads(json.dumps(documents)) == documents
    assert documents[0] == {
        "kind": "duplicate",
        "severity": "note",
        "files": ["cats/0.png", name],
        "message": "2 files hold the same image.",
        "hint": None,
    }


def test_the_order_of_listing_does_not_matter_to_the_digests(tree, memory) -> None:
    root = tree(pets())
    cold = run(root, memory)
    digests = {item.name: digest for item, digest in zip(cold.items, cold.digests, strict=True)}
    (root / "cats/0.png").rename(root / "cats/zz.png")
    moved = run(root, memory)
    again = {item.name: digest for item, digest in zip(moved.items, moved.digests, strict=True)}
    assert again["cats/zz.png"] == digests["cats/0.png"]
    assert set(moved.digests) == set(cold.digests)


# The full pass


def scenes(folder: str = "", start: int = 0) -> dict[str, bytes]:
    names = [f"{folder}{label}/{n}.jpg" for label in ("cats", "dogs") for n in range(12)]
    return {name: jpeg(scene(start + position), 95) for position, name in enumerate(names)}


def test_a_sound_data_set_passes_the_inspection(tree, memory) -> None:
    found = whole(tree(scenes()), memory)
    assert found.findings == found.groups == found.failed == found.suspicious == ()
    assert found.refusal is None
    assert found.n == len(found.items) == len(found.digests) == len(found.facts.width) == 24
    assert found.classes == {"cats": 12, "dogs": 12}
    assert found.splits == {}


def test_many_classes_are_counted_in_one_go(tree, memory) -> None:
    compared: list[str] = []

    class Watched(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return str.__eq__(self, other)

    root = tree({f"{n:02}/{m}.png": 2 * n + m for n in range(40) for m in range(2)})
    dataset = open_dataset(root)
    items = tuple(replace(item, label=Watched(item.label)) for item in dataset.items)
    found = inspect(replace(dataset, items=items), memory, near=False)
    assert found.classes == {f"{n:02}": 2 for n in range(40)}
    assert len(compared) < 20 * len(items)


def test_what_only_a_decode_finds_is_found(tree, memory) -> None:
    content = scenes()["cats/3.jpg"]
    root = tree(scenes() | {"cats/3.jpg": content[: len(content) // 2], "dogs/x.jpg": b""})
    light = run(root, memory)
    assert [failure.name for failure in light.failed] == ["dogs/x.jpg"]
    found = whole(root, memory, max_bad=0.1)
    assert [(f.name, f.reason, f.index) for f in found.failed] == [
        ("cats/3.jpg", "cut short", 5),
        ("dogs/x.jpg", "empty file", 24),
    ]
    finding = only(found, "unreadable")
    assert (finding.severity, finding.files) == ("warning", ("cats/3.jpg", "dogs/x.jpg"))
    assert found.refusal is None
    assert found.classes == {"cats": 11, "dogs": 12}


def test_what_fit_would_refuse_is_told_and_not_raised(tree, memory) -> None:
    root = tree(scenes() | BAD)
    found = whole(root, memory, max_bad=0.1)
    assert isinstance(found.refusal, DataError)
    assert "--max-bad allows 10 %" in found.refusal.message
    assert found.findings[0].kind == "unreadable"
    assert found.findings[0].severity == "error"
    with pytest.raises(DataError) as caught:
        run(root, memory, max_bad=0.1)
    assert caught.value.message == found.refusal.message
    nothing = whole(tree({"a/x.jpg": b"", "b/y.jpg": b""}, name="none"), memory)
    assert nothing.items == ()
    assert nothing.refusal is not None


def test_the_share_must_be_one_in_the_full_pass_too(tree, memory) -> None:
    with pytest.raises(UsageError, match="within 0 and 1, not 7"):
        whole(tree(pets()), memory, max_bad=7)


def test_exact_and_near_copies_are_complete_groups(tree, memory, encoded) -> None:
    copies = near_copies(scene(0)) | {"own": jpeg(scene(0), 95)}
    picture = Image.open(io.BytesIO(copies["own"]))
    files = scenes() | {
        "cats/mirrored.jpg": copies["mirrored"],
        "cats/half.jpg": copies["half"],
        "cats/same.jpg": copies["own"],
        "cats/same.png": encoded(picture, "PNG"),
        "dogs/same.jpg": jpeg(scene(13), 95),
    }
    found = whole(tree(files), memory)
    position = {item.name: index for index, item in enumerate(found.items)}
    exact = tuple(position[name] for name in ("cats/0.jpg", "cats/same.jpg", "cats/same.png"))
    dogs = (position["dogs/1.jpg"], position["dogs/same.jpg"])
    assert found.groups[:2] == (Group("pixels", exact), Group("bytes", dogs))
    (near,) = found.groups[2:]
    assert near.how == "near"
    assert set(near.members) == {*exact, position["cats/mirrored.jpg"], position["cats/half.jpg"]}
    assert kinds(found) == ["duplicate", "duplicate", "near-duplicate"]
    assert len(only(found, "near-duplicate").files) == 5
    assert len(whole(tree(files), memory, near=False).groups) == 2


def test_copies_on_two_sides_are_told_as_pairs(tree, memory) -> None:
    files = scenes("train/") | scenes("test/", start=50)
    files["test/cats/same.jpg"] = files["train/cats/0.jpg"]
    files["test/dogs/near.jpg"] = near_copies(scene(13))["upside-down"]
    found = whole(tree(files), memory)
    leaks = [finding for finding in found.findings if finding.kind == "split-leak"]
    assert [set(finding.files) for finding in leaks] == [
        {"test/cats/same.jpg", "train/cats/0.jpg"},
        {"test/dogs/near.jpg", "train/dogs/1.jpg"},
    ]
    assert "test/dogs/near.jpg (test)" in leaks[1].message
    assert "train/dogs/1.jpg (train)" in leaks[1].message
    assert found.splits == {
        "train": {"cats": 12, "dogs": 12},
        "test": {"cats": 13, "dogs": 13},
    }


def test_near_copies_under_two_labels_are_told(tree, memory) -> None:
    found = whole(tree(scenes() | {"dogs/x.jpg": near_copies(scene(2))["turned"]}), memory)
    finding = only(found, "label")
    assert set(finding.files) == {"cats/2.jpg", "dogs/x.jpg"}
    assert (
        finding.message == "2 files hold nearly the same image under different labels: cats, dogs."
    )
    assert kinds(found) == ["label"]


def test_groups_on_two_sides_and_suspects_are_told(tree, memory) -> None:
    root = tree(scenes("train/") | scenes("test/", start=50) | {"test/cats/z.png": b""})
    Image.new("L", (60, 40)).save(root / "test/cats/z.png")
    whole_set = open_dataset(root)
    items = [replace(item, group=item.path.name) for item in whole_set.items]
    found = inspect(replace(whole_set, items=tuple(items)), memory)
    assert kinds(found)[:2] == ["suspicious", "group-leak"]
    assert only(found, "group-leak").message.startswith("12 groups in more than one split: 0.jpg")
    (suspect,) = found.suspicious
    assert found.items[suspect.index].name == suspect.name == "test/cats/z.png"


def test_above_a_number_of_images_near_copies_are_not_looked_for(tree, memory, monkeypatch) -> None:
    monkeypatch.setattr("headstart.data.checks.copies.MOST_PICTURES", 5)
    monkeypatch.setattr(module, "MOST_PICTURES", 5)
    finding = only(whole(tree(pets()), memory), "not-searched")
    assert finding.message == "Near copies were not looked for: that ends at 5 images."


def test_a_second_inspection_decodes_nothing_but_suspected_pairs(tree, memory, monkeypatch) -> None:
    root = tree(scenes())
    cold = whole(root, memory)
    monkeypatch.setattr(
        "headstart.data.checks.look.opened", lambda path: pytest.fail(f"{path} was read")
    )
    told, pairs = [], []
    warm = whole(
        root,
        memory,
        progress=lambda *step: told.append(step),
        pair_progress=lambda *step: pairs.append(step),
    )
    assert warm == cold
    assert told == pairs == []


def test_the_order_of_the_items_changes_no_group(tree, memory) -> None:
    files = scenes() | {f"dogs/{way}.jpg": c for way, c in near_copies(scene(14)).items()}
    dataset = open_dataset(tree(files))
    turned = replace(dataset, items=dataset.items[::-1])

    def groups(found: Inspection) -> set[frozenset[str]]:
        return {frozenset(found.items[i].name for i in group.members) for group in found.groups}

    found = groups(inspect(dataset, memory))
    assert found == groups(inspect(turned, memory))
    assert max(map(len, found)) == 11
