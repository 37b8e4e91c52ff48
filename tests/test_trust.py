"""What a fit says of its own images: labels, near copies, and the score without these."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import headstart
from headstart import console, trust
from pictures import write_photos


@pytest.fixture
def parted(tmp_path) -> Path:
    """Photos of 96 pixels with a train and a test folder."""
    root = write_photos(tmp_path / "parted" / "train", each=18, side=96)
    for name in ("cat", "dog"):
        (root.parent / "test" / name).mkdir(parents=True)
        for number in range(6):
            (root / name / f"{number}.jpg").rename(root.parent / "test" / name / f"{number}.jpg")
    return root.parent


def again(file: Path, copy: Path) -> None:
    """Write a near copy: smaller, and compressed anew."""
    with Image.open(file) as image:
        image.resize((80, 80)).save(copy, quality=80)


def test_the_score_is_given_without_near_copies_too(parted, small, tmp_path):
    for name, number in (("cat", 1), ("dog", 4)):
        again(parted / f"test/{name}/{number}.jpg", parted / f"train/{name}/again.jpg")
    fitted = headstart.fit(parted, tmp_path / "run", **small)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["without_copies"]["left_out"] == 2
    assert report["without_copies"]["complete"] is True
    assert report["test"]["accuracy"]["n"] == 12
    without = report["without_copies"]["test"]["accuracy"]
    assert without["n"] == 10
    with (tmp_path / "run" / "predictions.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == "test"]
    left = [r for r in rows if r["item"] not in ("test/cat/1.jpg", "test/dog/4.jpg")]
    right = sum(row["label"] == row["predicted"] for row in left)
    assert without["value"] == pytest.approx(right / 10)
    leaks = [found for found in report["findings"] if found["kind"] == "split-leak"]
    assert sorted(name for found in leaks for name in found["files"]) == [
        *("test/cat/1.jpg", "test/dog/4.jpg", "train/cat/again.jpg", "train/dog/again.jpg")
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Without 2 images of test that have a near copy" in page
    assert fitted.report.timings["audit_s"] > 0


def test_a_search_that_was_cut_short_is_told(parted, small, tmp_path, monkeypatch):
    for name, number in (("cat", 1), ("dog", 4)):
        again(parted / f"test/{name}/{number}.jpg", parted / f"train/{name}/again.jpg")
    whole = trust.audit
    monkeypatch.setattr(
        trust, "audit", lambda *args, **more: replace(whole(*args, **more), unsearched=7)
    )
    headstart.fit(parted, tmp_path / "run", **small)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["without_copies"]["left_out"] == 2
    assert report["without_copies"]["complete"] is False


def test_without_copies_nothing_is_left_out(parted, small, tmp_path):
    report = headstart.fit(parted, tmp_path / "run", **small).report
    assert report.without_copies is None
    assert "near copy" not in (tmp_path / "run" / "report.html").read_text()


def test_a_wrong_label_is_told_after_a_fit(photos, tmp_path):
    """With the bundled network, which tells the classes apart."""
    root = tmp_path / "photos"
    for file in photos.rglob("*.jpg"):
        copy = root / file.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    (root / "cat" / "7.jpg").rename(root / "owl" / "stray.jpg")
    report = headstart.fit(
        root, tmp_path / "run", strategy="feature-extraction", precision="fp32"
    ).report
    suspects = [found for found in report.findings if found["kind"] == "label"]
    assert any("owl/stray.jpg" in found["files"] for found in suspects)


@pytest.mark.parametrize(
    "options", [{"audit": False}, {"strategy": "fine-tune", "epochs": 1}], ids=["unasked", "tuned"]
)
def test_no_audit_where_it_is_not_wanted_or_no_features_are(parted, small, tmp_path, options):
    again(parted / "test/cat/1.jpg", parted / "train/cat/again.jpg")
    report = headstart.fit(parted, tmp_path / "run", **small | options).report
    assert report.without_copies is None
    assert not [found for found in report.findings if found["kind"] == "split-leak"]


def test_that_all_of_test_has_copies_is_said(parted, small, tmp_path):
    for file in (parted / "test").rglob("*.jpg"):
        with Image.open(file) as image:
            image.save(parted / "train" / file.parent.name / f"again{file.stem}.jpg", quality=85)
    report = headstart.fit(parted, tmp_path / "run", **small).report
    assert report.without_copies == {"left_out": 12, "complete": True, "test": None}
    assert "Every test image has a near copy" in (tmp_path / "run" / "report.html").read_text()
    assert any("every test image has a near copy" in line for line in console.summary(report))


def test_one_image_in_two_formats_under_two_labels_is_told(parted, small, tmp_path):
    with Image.open(parted / "train/cat/8.jpg") as image:
        image.save(parted / "train/dog/same.png")
    report = headstart.fit(parted, tmp_path / "run", resize="squash", **small).report
    pair = {"train/cat/8.jpg", "train/dog/same.png"}
    assert any(set(f["files"]) == pair and f["kind"] == "label" for f in report.findings)
