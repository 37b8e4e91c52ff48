"""What is known of images besides what they show."""

from __future__ import annotations

import numpy as np

from headstart.data.checks.facts import columns
from headstart.file_facts import Fact, header_facts, light_facts, name_facts


def test_names_are_taken_apart_without_their_folders():
    names = ["cat/cat_001.jpg", "cat/IMG 2.JPEG", "dog/noending", "dog/2024.12.png", "x/.hidden"]
    ending, digits, word = name_facts(names)
    assert list(ending.values) == ["jpg", "jpeg", "", "png", "hidden"]
    assert digits.values.tolist() == [3, 1, 0, 4, 0]
    assert list(word.values) == ["cat", "img", "noending", "", "hidden"]
    assert all(fact.habit and fact.seen == "unseen" for fact in (ending, digits, word))


def test_headers_become_facts():
    row = {
        "turned": False,
        "width": 640,
        "height": 480,
        "bytes": 30720,
        "format": "JPEG",
        "mode": "RGB",
    }
    tall = {
        "turned": False,
        "width": 100,
        "height": 200,
        "bytes": 40000,
        "format": "PNG",
        "mode": "L",
    }
    facts = {
        fact.name: fact
        for fact in header_facts(
            columns(
                iter([row | {"camera": "", "exif": False}, tall | {"camera": "A", "exif": True}])
            )
        )
    }
    assert facts["image width"].values.tolist() == [640, 100]
    assert facts["the ratio of width to height"].values.tolist() == [640 / 480, 0.5]
    assert facts["compression (bytes a pixel)"].values.tolist() == [0.1, 2]
    assert list(facts["the file format"].values) == ["JPEG", "PNG"]
    assert list(facts["the camera"].values) == ["", "A"]
    assert facts["having an EXIF block"].values.tolist() == [0, 1]
    assert facts["image width"].seen == "traces"
    assert not any(fact.habit for fact in facts.values())


def test_a_picture_that_is_stored_on_its_side_has_the_size_it_is_seen_in():
    row = {"width": 640, "height": 480, "bytes": 30720, "format": "JPEG", "mode": "RGB"}
    rows = [row | {"camera": "", "exif": True, "turned": turned} for turned in (False, True)]
    facts = {fact.name: fact for fact in header_facts(columns(iter(rows)))}
    assert facts["image width"].values.tolist() == [640, 480]
    assert facts["image height"].values.tolist() == [480, 640]
    assert facts["the ratio of width to height"].values.tolist() == [640 / 480, 480 / 640]
    assert facts["compression (bytes a pixel)"].values.tolist() == [0.1, 0.1]


def test_light_is_seen():
    facts = light_facts(np.array([1.0, 2], np.float32), np.array([3.0, 4], np.float32))
    assert [(fact.name, fact.seen) for fact in facts] == [
        ("brightness", "seen"),
        ("contrast", "seen"),
    ]


def test_some_images_are_taken_of_numbers_and_of_words():
    rows = np.array([2, 0])
    assert Fact("width", np.array([1, 2, 3]), "traces").at(rows).values.tolist() == [3, 1]
    assert Fact("mode", ["a", "b", "c"], "seen").at(rows).values == ["c", "a"]
