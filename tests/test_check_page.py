"""The page of a check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headstart.check_page
from checks import audit, result, suspect
from headstart.check_page import MOST_PICTURES, render_check, require_replaceable
from headstart.data.checks.check import Finding
from headstart.data.items import Item
from headstart.data.read import Failure
from headstart.errors import DataError, ModelError, UsageError
from pages import HOSTILE, Page
from pictures import picture


@pytest.fixture
def items(tmp_path):
    """Return images of three classes in two parts, one file of which vanished."""
    made = []
    for number in range(9):
        path = tmp_path / f"{number}.jpg"
        if number != 8:
            picture(number % 3, number, 64).save(path)
        label, split = ("cat", "dog", "owl")[number % 3], ("train", "test")[number % 2]
        made.append(Item(path, path.name, label, split))
    return made


def everything(items, name="photos", word="It is so."):
    """Return a check that found something of every kind."""
    files = tuple(it.name for it in items)
    found = [
        Finding("unreadable", "error", ("bad",), word, word),
        *(Finding(kind, "warning", files[:2], word, word) for kind in ("label", "split-leak")),
        *(Finding("duplicate", "note", files[number : number + 3], word) for number in range(3)),
        Finding("imbalance", "warning", (), word, word),
        Finding(word, "note", files, word),
    ]
    cut = SimpleNamespace(facts=(word,), reveals=(word,), accuracy=0.95, low=0.9, high=1.0)
    deep = audit(
        findings=[Finding("shortcut", "warning", (), word), Finding("outlier", "note", files, "")],
        suspects=[suspect(0, "cat", "owl", 0.875)],
        shortcuts=[cut],
    )
    return result(
        items,
        findings=found,
        failed=[Failure(word, word, 9)],
        refusal=DataError(word, hint=word),
        audit=deep,
        name=name,
    )


def test_everything_a_reader_needs_is_there(items):
    words = Page(render_check(everything(items), "headstart check photos")).words
    for expected in (
        *("Check of photos", "9", "fit would not begin. It is so.", "Files that can't be read"),
        *(
            "1 error, 4 warnings, 5 notes. The gravest first.",
            "One image, two labels",
            "train",
            "test",
        ),
        *("looks like", "owl", "88 %", "balanced accuracy 95.0 %"),
        *("from the files and by a network", "1.2 s", "headstart check photos", "no picture"),
    ):
        assert expected in words, expected
    assert words.index("Files that can't be read") < words.index("The same image several times")


def test_data_without_faults_has_a_page_too(items):
    words = Page(render_check(result(items), "headstart check photos")).words
    assert "Nothing wrong was found." in words
    assert "What was found" not in words
    assert "from the files alone" in words


def test_data_without_an_image_has_a_page_too():
    refused = DataError("1 of 1 images can't be read")
    failed = [Failure("bad", "empty file", 0)]
    made = result([], failed=failed, refusal=refused)
    assert "1 of 1 images can't be read" in Page(render_check(made, "")).words


def test_every_link_leads_to_a_section(items):
    page = Page(render_check(everything(items), ""))
    links = [link for link in page.values("href") if link.startswith("#")]
    assert len(links) == 9
    assert {link[1:] for link in links} <= set(page.values("id"))


def test_the_page_asks_for_nothing_from_outside(items):
    page = Page(render_check(everything(items), ""))
    assert page.requests == []
    assert "script" not in page.tags
    templates = Path(headstart.check_page.__file__).parent / "templates"
    css = (templates / "check.css").read_text()
    assert "url(" not in css
    assert "@import" not in css
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_is_shown_and_never_interpreted(hostile, items):
    named = [replace(it, name=f"{hostile}{n}", label=hostile) for n, it in enumerate(items)]
    html = render_check(everything(named, hostile, hostile), hostile)
    plain = Page(render_check(everything(items), ""))
    page = Page(html)
    assert set(page.tags) <= set(plain.tags)
    assert page.handlers == []
    assert "1337" not in page.text
    shown = hostile.replace("\udcff\ud800", "\\xff\ufffd")
    assert page.text.count(shown) > 10
    assert html.encode()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True), st.text())
@settings(max_examples=25, deadline=None)
def test_any_names_give_a_page_that_can_be_written(names, word):
    items = [Item(Path(f"/{number}"), name, word) for number, name in enumerate(names)]
    html = render_check(everything(items, word, word or "x"), word)
    assert html.encode()
    assert "script" not in Page(html).tags


def test_the_number_of_pictures_is_bounded_and_the_page_says_so(items):
    many = [replace(items[0], name=f"{n}.jpg") for n in range(72)]
    groups = [tuple(it.name for it in many[at : at + 6]) for at in range(0, 72, 6)]
    found = [
        Finding(kind, severity, group, "Copies.")
        for kind, severity in (
            *(("duplicate", "note"), ("near-duplicate", "note")),
            *(("split-leak", "warning"), ("label", "error")),
        )
        for group in groups
    ]
    html = render_check(result(many, findings=found), "")
    page = Page(html)
    assert page.tags.count("img") == MOST_PICTURES
    assert "it shows 240 pictures, those of the gravest findings first; 48 more are" in page.words
    gravest, least = (html.index(f'id="kind-{kind}"') for kind in ("label", "near-duplicate"))
    assert gravest < html.index("<img") < html.index("no picture")
    assert html.index("no picture") > least
    assert len(html) < 3_000_000
    few = render_check(result(many, findings=found[:24]), "")
    assert Page(few).tags.count("img") == 24 * 6 + 6
    assert "left out" not in few


def test_only_a_page_of_a_check_is_overwritten(items, tmp_path):
    ours, mine, link = (tmp_path / name for name in ("ours.html", "mine.html", "link.html"))
    ours.write_text(render_check(result(items), "headstart check photos"), encoding="utf-8")
    mine.write_text("<!doctype html><title>mine</title>")
    link.symlink_to(tmp_path / "gone.html")
    require_replaceable(ours)
    require_replaceable(tmp_path / "new.html")
    for path in (mine, link):
        with pytest.raises(ModelError, match="no page of a check"):
            require_replaceable(path)
    with pytest.raises(UsageError, match="is a folder"):
        require_replaceable(tmp_path)
