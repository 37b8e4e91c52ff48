"""What the page of a check shows."""

from __future__ import annotations

from types import SimpleNamespace

from checks import audit, item, result, suspect
from headstart.check_sections import sections
from headstart.data.checks.check import Finding
from headstart.data.read import Failure

ITEMS = [item(f"{n}.jpg", "cat" if n % 2 else "dog", split="train") for n in range(40)]
NAMES = tuple(it.name for it in ITEMS)


def finding(kind, *files, severity="warning", hint="Do it."):
    return Finding(kind, severity, files, f"About {kind}.", hint)


def by_kind(checked):
    return {section.kind: section for section in sections(checked)}


def test_the_findings_come_by_kind_the_gravest_first():
    found = [
        *(finding("duplicate", "0.jpg", "2.jpg", severity="note") for _ in range(3)),
        finding("unreadable", severity="error"),
        finding("split-leak", "0.jpg", "2.jpg"),
    ]
    shown = list(sections(result(ITEMS, findings=found)))
    assert [(it.kind, it.severity, len(it.strips)) for it in shown] == [
        ("unreadable", "error", 1),
        ("split-leak", "warning", 1),
        ("duplicate", "note", 3),
    ]
    assert shown[1].title == "On both sides of the split"
    assert shown[2].size == "3"
    assert shown[1].hints == ("Do it.",)


def test_copies_stand_side_by_side_with_label_and_part():
    (section,) = sections(result(ITEMS, findings=[finding("duplicate", "0.jpg", "1.jpg")]))
    (strip,) = section.strips
    assert strip.copies
    assert [card.position for card in strip.cards] == [0, 1]
    assert strip.cards[1].facts == (("is", "cat", False), ("in", "train", False))


def test_more_files_than_have_room_are_named():
    (section,) = sections(result(ITEMS, findings=[finding("duplicate", *NAMES)]))
    assert len(section.strips[0].cards) == 6
    assert section.strips[0].others == NAMES[6:]
    (section,) = sections(result(ITEMS, findings=[finding("modes", *NAMES)]))
    assert len(section.strips[0].cards) == 5
    (section,) = sections(result(ITEMS, findings=[finding("outlier", *NAMES)]))
    assert len(section.strips[0].cards) == 20
    assert section.strips[0].others == NAMES[20:]
    assert section.size == "40 images"


def test_more_findings_than_have_room_are_counted():
    (section,) = sections(result(ITEMS, findings=[finding("duplicate", "0.jpg", "2.jpg")] * 30))
    assert len(section.strips) == 12
    assert section.more == 18
    assert section.size == "30"


def test_advice_stands_below_all_where_it_is_good_for_all_or_for_copies():
    two = [finding("outlier", "0.jpg"), finding("outlier", "1.jpg", hint="Else.")]
    (section,) = sections(result(ITEMS, findings=two))
    assert section.hints == ()
    assert [strip.hint for strip in section.strips] == ["Do it.", "Else."]
    two = [finding("label", "0.jpg", "1.jpg"), finding("label", "2.jpg", "3.jpg", hint="Else.")]
    (section,) = sections(result(ITEMS, findings=two))
    assert section.hints == ("Do it.", "Else.")


def test_what_the_pictures_say_is_not_said_above_them():
    told = Finding("split-leak", "warning", ("0.jpg", "1.jpg"), "2 files: 0.jpg (a), 1.jpg (b).")
    (section,) = sections(result(ITEMS, findings=[told]))
    assert section.strips[0].message == "2 files."


def test_a_kind_that_nobody_foresaw_is_shown_all_the_same():
    (section,) = sections(result(ITEMS, findings=[finding("odd-<thing>", "0.jpg", "nowhere.jpg")]))
    assert section.title == "Odd <thing>"
    assert section.anchor == "kind-odd-thing-"
    assert [card.position for card in section.strips[0].cards] == [0, None]


def test_what_can_t_be_read_has_its_reasons_and_no_pictures():
    failed = [Failure(f"bad{n}", "cut short", n) for n in range(3)]
    found = [finding("unreadable", "bad0", "bad1", "bad2")]
    (section,) = sections(result(ITEMS, failed=failed, findings=found))
    assert section.failed == tuple((f"bad{n}", "cut short") for n in range(3))
    assert section.strips[0].cards == ()
    assert section.size == "3 files"


def test_what_shows_little_has_its_reason():
    odd = [Failure("4.jpg", "one colour", 4)]
    found = [finding("suspicious", "4.jpg")]
    (section,) = sections(result(ITEMS, suspicious=odd, findings=found))
    assert ("why", "one colour", True) in section.strips[0].cards[0].facts


def test_doubted_labels_have_a_section_of_their_own():
    doubts = [suspect(3, "cat", "dog", 0.97), suspect(4, "dog", "cat", 0.5, real=False)]
    told = finding("label", "3.jpg", hint="Look at them.")
    same = finding("label", "0.jpg", "1.jpg")
    shown = by_kind(result(ITEMS, findings=[same], audit=audit(label=told, suspects=doubts)))
    assert list(shown) == ["label", "suspects"]
    assert [card.name for card in shown["label"].strips[0].cards] == ["0.jpg", "1.jpg"]
    (strip,) = shown["suspects"].strips
    (card,) = strip.cards
    assert card.facts == (
        ("is", "cat", False),
        ("looks like", "dog", True),
        ("doubt", "97 %", False),
    )
    assert shown["suspects"].hints == ("Look at them.",)


def test_copies_under_two_labels_are_shown_whatever_labels_are_doubted():
    near = finding("label", "0.jpg", "1.jpg", hint="Keep one.")
    told = finding("label", "3.jpg", hint="Look at them.")
    found = audit(findings=[near], label=told, suspects=[suspect(3, "cat", "dog")])
    shown = by_kind(result(ITEMS, audit=found))
    (strip,) = shown["label"].strips
    assert [card.name for card in strip.cards] == ["0.jpg", "1.jpg"]
    assert shown["suspects"].hints == ("Look at them.",)


def test_doubted_labels_come_before_notes():
    found = [finding("duplicate", "0.jpg", "2.jpg", severity="note"), finding("imbalance")]
    checked = result(ITEMS, findings=found, audit=audit(suspects=[suspect(3, "cat", "dog")]))
    assert list(by_kind(checked)) == ["imbalance", "suspects", "duplicate"]


def test_hard_images_alone_are_no_wrong_labels():
    doubts = audit(suspects=[suspect(3, "cat", "dog", real=False)])
    assert list(sections(result(ITEMS, audit=doubts))) == []


def test_shortcuts_are_drawn():
    cut = SimpleNamespace(
        facts=("image width", "format"), reveals=("cat",), accuracy=0.95, low=0.9, high=1.0
    )
    found = audit(findings=[finding("shortcut")], shortcuts=[cut])
    (section,) = sections(result(ITEMS, audit=found))
    (gauge,) = section.gauges
    assert (gauge.facts, gauge.classes) == ("image width and format", "cat")
    assert (gauge.low, gauge.value, gauge.high) == (0.9, 0.95, 1.0)
