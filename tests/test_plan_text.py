"""The plan in words: what will be done, in lines for people."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

from pictures import write_photos


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


def test_many_findings_of_a_kind_are_told_in_part(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=12, side=16)
    for number in range(5):
        shutil.copy(data / "cat" / f"{number}.jpg", data / "cat" / f"{number}-copy.jpg")
    lines = plan(data).lines()[-4:]
    assert lines[0] == "note      2 files hold the same image. (cat/0-copy.jpg, cat/0.jpg)"
    assert lines[-1] == "note      … and 2 more findings of the kind duplicate"


def test_the_lines_say_what_each_phase_does(plan, photos):
    made = plan(photos, strategy="last-blocks:2", epochs=4)
    solved, trained = [line for line in made.lines() if line.startswith("  phase")]
    shown = [f"{size.trainable:,} of {size.total:,} parameters" for size in made.sizes]
    assert solved.startswith(f"  phase 1 solve the head: {shown[0]}; ")
    assert trained == (
        f"  phase 2 train {shown[1]} behind 3 remembered blocks: 4 epochs of 50 images, adamw "
        "0.001, one-cycle, augment light"
    )
    text = "\n".join(plan(photos, strategy="fine-tune").lines())
    assert "adamw 0.0001..0.001, one-cycle" in text
    assert "remembered" not in text


def test_before_auto_has_chosen_the_lines_say_how_long_it_may_take(plan, photos):
    lines = plan(photos, strategy="auto").lines()
    (line,) = [line for line in lines if line.startswith("strategy")]
    assert line.endswith("it is decided what pays within 10 min (--budget changes that)")
    assert not [line for line in lines if line.startswith(("backbone", "input", "  phase"))]
    (line,) = [
        line
        for line in plan(photos, strategy="auto", budget=90.0).lines()
        if line.startswith("strategy")
    ]
    assert line.endswith("what pays within 1 min 30 s")


def test_once_auto_has_chosen_the_lines_are_of_the_network_and_its_phases(plan, photos):
    made = plan(photos, strategy="auto")
    chosen = replace(made, decided=SimpleNamespace())
    lines = chosen.lines()
    assert [line.split()[0] for line in lines][:4] == ["backbone", "input", "strategy", "phase"]
    assert lines[4:] == [f"note      {note}" for note in (*made.backbone.notes, *made.remarks)]
    assert made.lines()[0].startswith("data ")
