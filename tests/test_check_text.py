"""A check in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks import audit, group, item, result
from headstart.check_text import class_rows, lines, named, spoken
from headstart.data.checks.check import Finding
from headstart.data.read import Failure
from headstart.errors import DataError
from headstart.fixed_table import Table
from headstart.fixing import mend

ITEMS = [
    *(item(f"train/cat/{n}", "cat", split="train") for n in range(3)),
    *(item(f"test/dog/{n}", "dog", split="test") for n in range(2)),
]
PLAIN = [item(f"{name}/{n}", name) for name in ("cat", "dog") for n in range(3)]


def copies(n, kind="duplicate", severity="note", hint=None):
    return [
        Finding(kind, severity, (f"{kind}{i}.jpg", f"b{i}.jpg"), f"{kind} {i} twice.", hint)
        for i in range(n)
    ]


def test_the_counts_come_first():
    shown = lines(result(ITEMS, failed=[Failure("bad", "cut short", 5)]))
    assert shown[0] == "photos: 5 images in 2 classes; 1 file can't be read"
    assert [line.split() for line in shown[2:6]] == [
        ["class", "train", "test", "images"],
        ["cat", "3", "0", "3"],
        ["dog", "0", "2", "2"],
        ["all", "3", "2", "5"],
    ]
    assert "sizes     64 x 48" in shown
    assert "formats   JPEG" in shown


def test_classes_are_counted_in_every_part():
    rows = class_rows(result(ITEMS))
    assert [(row.name, row.parts, row.total) for row in rows] == [
        ("cat", (3, 0), 3),
        ("dog", (0, 2), 2),
    ]
    assert [row.parts for row in class_rows(result([item("a"), item("b", "dog")]))] == [(), ()]


def test_many_classes_are_cut_short():
    items = [item(f"{n}", f"class {n:03d}") for n in range(100)]
    shown = lines(result([*items, item("more", "class 099")]))
    assert sum(line.startswith("  class 0") for line in shown) == 20
    assert "  … and 80 more, 1 to 2 images each" in shown


def test_a_finding_has_three_files_and_the_number_of_the_others():
    finding = Finding(
        "suspicious", "warning", tuple(f"{n}.jpg" for n in range(5)), "Five are odd.", "Look."
    )
    shown = lines(result(ITEMS, findings=[finding]))
    at = shown.index("warning   Five are odd.")
    assert shown[at + 1 : at + 3] == [
        "          0.jpg, 1.jpg, 2.jpg and 2 more",
        "          > Look.",
    ]


def test_files_that_the_message_names_are_not_named_again():
    finding = Finding("unreadable", "warning", ("a", "b"), "a: cut short; b: empty.")
    assert not [line for line in lines(result(ITEMS, findings=[finding])) if "a, b" in line]


def test_of_a_kind_three_are_shown_and_what_to_do_is_said_once():
    shown = lines(result(ITEMS, findings=copies(9, "split-leak", "warning", "Remove it.")))
    assert sum("twice" in line for line in shown) == 3
    assert "          … and 6 more findings of the kind split-leak" in shown
    assert sum("> Remove it." in line for line in shown) == 1


def test_what_to_do_stands_with_the_findings_it_is_good_for():
    found = [*copies(2, "label", "warning", "Keep one."), *copies(1, "label", "warning", "Look.")]
    found += copies(1, "label", "note", "Never mind.")
    shown = lines(result(ITEMS, findings=found))
    told = [line.strip() for line in shown if "twice" in line or ">" in line]
    assert told == [
        *("warning   label 0 twice.", "warning   label 1 twice.", "> Keep one."),
        *("warning   label 0 twice.", "> Look.", "note      label 0 twice.", "> Never mind."),
    ]


def test_what_a_fit_would_say_is_said():
    refusal = DataError("2 images can't be read; 1 % allowed:\n  a", hint="Repair them.")
    shown = lines(result(ITEMS, refusal=refusal))
    expected = "fit       would not begin: 2 images can't be read; 1 % allowed. Repair them."
    assert expected in shown
    drawn = lines(result(ITEMS, refusal=DataError("No class.", hint="Expected:\n  a/1.jpg")))
    assert "fit       would not begin: No class." in drawn


def test_no_finding_is_longer_than_three_lines_a_message():
    long = Finding("x", "error", (), "word " * 500)
    shown = lines(result(ITEMS, findings=[long]))
    at = next(number for number, line in enumerate(shown) if line.startswith("error"))
    assert [len(line) <= 100 for line in shown[at : at + 3]] == [True] * 3
    assert shown[at + 2].endswith("…")
    assert shown[at + 3] == ""


def test_the_gravest_come_first():
    found = [*copies(1), *copies(1, "odd", "warning"), *copies(1, "bad", "error")]
    shown = lines(result(ITEMS, findings=found))
    words = [line.split()[0] for line in shown if "twice" in line]
    assert words == ["error", "warning", "note"]


def test_without_findings_it_says_so():
    assert "Nothing wrong was found." in lines(result(ITEMS))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, ["headstart check photos --deep", "headstart fit photos"]),
        ({"audit": audit()}, ["headstart fit photos"]),
        (
            {"groups": [group(0, 1)], "audit": audit()},
            ["headstart check photos --fix fixed.csv", "headstart fit photos"],
        ),
        ({"refusal": DataError("No."), "audit": audit()}, []),
    ],
)
def test_the_next_step_is_named(options, steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = lines(result(PLAIN, **options))
    named_steps = [line[10:].split("  ")[0] for line in shown if "headstart " in line]
    assert named_steps == steps
    assert not steps or next(line for line in shown if "headstart " in line).startswith("next  ")


def test_a_table_that_is_there_is_not_proposed_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fixed.csv", "fixed-2.csv"):
        (tmp_path / name).touch()
    shown = lines(result(PLAIN, groups=[group(0, 1)]))
    assert any("--fix fixed-3.csv " in line for line in shown)


def test_a_table_that_could_not_be_fitted_is_not_proposed():
    items = [*PLAIN[:4], item("train/a", "dog", split="train"), item("b", "dog", split="test")]
    items = [replace(it, split=it.split or "train") for it in items if it.name != "dog/0"]
    shown = lines(result(items, groups=[group(3, 4)]))
    assert not [line for line in shown if "fixed.csv" in line]
    said = " ".join(" ".join(shown).split())
    assert "table --fix would write none, since fit would refuse it" in said
    assert said.count("dog") > 1
    assert not [line for line in lines(result(ITEMS)) if line.startswith("table ")]


def test_a_table_that_was_written_is_the_next_step(tmp_path):
    checked = result(ITEMS, findings=copies(1), audit=audit())
    table = Table(tmp_path / "fixed.csv", None, mend(checked))
    assert [line for line in lines(checked, table) if "headstart " in line] == [
        f"next      headstart fit {tmp_path}/fixed.csv  5 images of the table"
    ]


def test_small_words():
    assert spoken(1, "class") == "1 class"
    assert spoken(2400, "image") == "2,400 images"
    assert spoken(0, "class") == "0 classes"
    assert named(["a"]) == "a"
    assert named(list("abcd")) == "a, b, c and 1 more"
