from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data import check as module
from headstart.data.check import Checked, check, judge_failures
from headstart.data.read import Failure
from headstart.data.sources import open_dataset
from headstart.errors import DataError, UsageError
from headstart.memory import FileMemory

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


def kinds(checked: Checked) -> list[str]:
    return [finding.kind for finding in checked.findings]


def only(checked: Checked, kind: str):
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


@pytest.mark.parametrize(
    ("failed", "total", "max_bad", "borne"),
    [
        (0, 10, 0.0, True),
        (1, 10, 0.0, False),
        (1, 100, 0.01, True),
        (2, 100, 0.01, False),
        (29, 100, 0.29, True),
        (10, 10, 1.0, False),
        (9, 10, 1.0, True),
        (0, 0, 0.0, True),
    ],
)
def test_the_share_of_failures_decides(failed, total, max_bad, borne) -> None:
    failures = [Failure(f"{n}.jpg", "cut short", n) for n in range(failed)]
    if borne:
        assert len(judge_failures(total, failures, max_bad)) == (failed > 0)
    else:
        with pytest.raises(DataError, match=f"{failed} of {total} images can't be read"):
            judge_failures(total, failures, max_bad)


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


def test_many_groups_of_copies_are_summed_up(tree, memory, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 3)
    monkeypatch.setattr(module, "_MOST_FILES", 2)
    files = pets(8, 8) | {f"cats/copy{n}.png": n for n in range(8)} | {"cats/again.png": 0}
    found = [f for f in run(tree(files), memory).findings if f.kind == "duplicate"]
    assert [len(finding.files) for finding in found] == [2, 2, 2, 0]
    assert found[0].message == "3 files hold the same image."
    assert found[-1].message == "5 more such groups of copies."


def test_a_class_that_is_ten_times_another_is_told(tree, memory) -> None:
    assert kinds(run(tree(pets(29, 3)), memory)) == []
    finding = only(run(tree(pets(30, 3), name="more"), memory), "imbalance")
    assert finding.message == "cats has 30 images, dogs only 3."


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
    monkeypatch.setattr(module, "read_header", lambda path: pytest.fail(f"{path} was opened"))
    monkeypatch.setattr(module, "source_digest", lambda path: pytest.fail(f"{path} was read"))
    assert run(root, memory) == cold


def test_only_what_is_new_or_changed_is_read(tree, memory, monkeypatch) -> None:
    root = tree(pets())
    cold = run(root, memory)
    tree({"cats/new.png": 70, "dogs/0.png": 71})
    os.utime(root / "dogs/0.png", (2, 2))
    opened = []
    read_header = module.read_header
    monkeypatch.setattr(
        module, "read_header", lambda path: opened.append(path.name) or read_header(path)
    )
    warm = run(root, memory)
    assert sorted(opened) == ["0.png", "new.png"]
    before = dict(zip((i.name for i in cold.items), cold.digests, strict=True))
    after = dict(zip((i.name for i in warm.items), warm.digests, strict=True))
    assert {name for name in before if before[name] != after[name]} == {"dogs/0.png"}


def test_facts_of_another_version_are_learnt_again(tree, memory, monkeypatch) -> None:
    root = tree(pets())
    cold = run(root, memory)
    monkeypatch.setattr(module, "_VERSION", -1)
    opened = []
    read_header = module.read_header
    monkeypatch.setattr(
        module, "read_header", lambda path: opened.append(path) or read_header(path)
    )
    assert run(root, memory) == cold
    assert len(opened) == 6


def test_what_was_learnt_before_an_interruption_is_kept(tree, memory, monkeypatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    root = tree(pets())
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    dataset = open_dataset(root)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(dataset, memory, max_bad=0, progress=stop)
    assert len(memory.recall([item.path for item in dataset.items])) == 4


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
