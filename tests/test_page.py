from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headstart.page
from headstart.figures import RATE_COLOURS
from headstart.files import write_text
from headstart.matrix import Cell
from headstart.metrics import evaluate
from headstart.page import render_html
from headstart.panels import TONES
from pages import HOSTILE, Page
from reports import ladder, mistake, report, solved, trained, training

TAGS = {
    *("a", "b", "bdi", "body", "caption", "circle", "code", "dd", "details", "div", "dl", "dt"),
    *("footer", "g", "h1", "h2", "h3", "head", "header", "html", "img", "li", "line", "link"),
    *("main", "meta", "ol", "p", "path", "pre", "rect", "section", "small", "span", "style"),
    *("summary", "svg", "table", "tbody", "td", "text", "th", "thead", "time", "title", "tr", "ul"),
}


def test_the_headline_says_what_was_measured_on_what():
    made = report()
    accuracy = made.test["accuracy"]
    words = Page(render_html(made, [])).words
    assert "Test accuracy" in words
    assert f"{100 * accuracy.value:.1f}" in words
    assert "on 120 images the classifier never saw" in words
    assert f"95 % interval: {100 * accuracy.low:.1f} % to {100 * accuracy.high:.1f} %" in words
    assert "Selected by log loss on val (120 images), test opened once." in words


def test_everything_a_reader_needs_is_there():
    made = report(
        findings=(
            {"kind": "x", "severity": "note", "files": ["n.png"], "message": "A note.", "hint": ""},
            {"kind": "x", "severity": "error", "files": [], "message": "An error.", "hint": "Fix."},
        ),
        failed=({"name": "bad.png", "reason": "cut off"},),
    )
    words = Page(render_html(made, [mistake()])).words
    for expected in (
        *("Balanced accuracy", "Macro F1", "Log loss", "Calibration error"),
        *("defective", "functional", "a/1.jpg", "90.0 %"),
        *("A note.", "n.png", "An error.", "Fix.", "bad.png", "cut off", "1 image left out"),
        *("bundled:tiny", "Apache-2.0", "b2b2b2b2b2b2…", "computed natively here", "bf16"),
        *("penalties 30000, 0.1", "penalty 0.1", "fitted on 2120", "single-label"),
        *("Time: 2 min 10 s", "80.0 s", "0.050 s", "everything else 43.0 s", "2.15.0"),
        "headstart fit cells/ --seed 0",
        "2026-05-04 12:31:07 UTC",
    ):
        assert expected in words, expected
    assert words.index("An error.") < words.index("A note.")


def test_the_page_asks_for_nothing_from_outside():
    page = Page(render_html(report(), [mistake()]))
    assert page.requests == []
    assert set(page.tags) <= TAGS
    css = Path(headstart.page.__file__).parent.joinpath("templates/report.css").read_text()
    assert "url(" not in css
    assert "@import" not in css
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_name_is_shown_and_never_interpreted(hostile, tmp_path):
    made = report(
        (hostile, "ok"),
        run=hostile,
        command=hostile,
        findings=(
            {
                "kind": hostile,
                "severity": "warning",
                "files": [hostile],
                "message": hostile,
                "hint": hostile,
            },
        ),
        failed=({"name": hostile, "reason": hostile},),
        versions={hostile: hostile},
        engine={hostile: [hostile, {hostile: hostile}]},
    )
    html = render_html(made, [mistake(hostile, hostile, hostile)])
    page = Page(html)
    assert set(page.tags) <= TAGS
    assert page.handlers == []
    assert "1337" not in page.text
    shown = hostile.replace("\udcff\ud800", "\\xff\ufffd")
    assert page.text.count(shown) > 10
    write_text(tmp_path / "report.html", html)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html


@given(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True), st.text())
@settings(max_examples=30, deadline=None)
def test_any_names_give_a_page_that_can_be_written(classes, name):
    made = replace(report(("a", "b", "c", "d")[: len(classes)]), classes=tuple(classes))
    html = render_html(made, [mistake(name, classes[0], classes[1])])
    assert html.encode()
    assert set(Page(html).tags) <= TAGS


@pytest.mark.parametrize("n", [2, 6, 25, 26, 120])
def test_every_class_is_in_the_table_once(n):
    classes = [f"sort-{c:03d}." for c in range(n)]
    page = render_html(report(classes, n=300), [])
    rows = re.findall(r'<th scope="row"><bdi>(sort-\d+\.)</bdi>', page)
    assert sorted(rows) == classes


def test_the_worst_class_comes_first():
    made = report([f"c{i}" for i in range(5)])
    rows = re.findall(r'<th scope="row"><bdi>(c\d)</bdi>', render_html(made, []))
    f1 = {score.name: score.f1 for score in made.per_class}
    assert [f1[name] for name in rows] == sorted(f1.values())


def test_counts_are_written_where_they_can_be_read():
    assert 'class="count' in render_html(report(), [])
    many = render_html(report([f"c{i}" for i in range(40)], n=400), [])
    assert 'class="count' not in many
    assert "Most often confused" in many


def test_without_mistakes_it_says_so():
    words = Page(render_html(report(skill=50), [])).words
    assert "None: all 120 images of test are right." in words
    assert "No class was taken for another." in words


def test_without_test_images_it_falls_back_to_val_and_says_so():
    nothing = evaluate(np.empty((0, 2)), [], ("a", "b"))
    made = report(test=nothing.metrics, confusion=nothing.confusion, per_class=nothing.per_class)
    words = Page(render_html(made, [])).words
    assert "Validation accuracy" in words
    assert "There are no test images" in words
    assert "test opened once" not in words
    both = Page(render_html(replace(made, val=nothing.metrics), [])).words
    assert "Nothing was measured" in both


def test_a_class_without_test_images_has_dashes():
    made = report(("a", "b", "c"))
    absent = replace(made.per_class[2], recall=None, f1=None, precision=None, support=0)
    made = replace(
        made,
        per_class=(*made.per_class[:2], absent),
        confusion=((9, 1, 0), (1, 9, 0), (0, 0, 0)),
    )
    row = render_html(made, []).split("<bdi>c</bdi></th>")[1].split("</tr>")[0]
    assert row.count("–") == 3


def test_a_mistake_whose_file_is_gone_has_no_picture():
    html = render_html(report(), [replace(mistake(), thumbnail=None)])
    assert "no picture" in html
    assert "data:image/jpeg" not in html


def test_pictures_have_words():
    page = Page(render_html(report(), [mistake()]))
    assert page.values("alt") == [
        "a/1.jpg: defective taken for functional, 90.0\N{NO-BREAK SPACE}%"
    ]
    assert "Confusion matrix of 2 classes on 120 images" in page.words
    assert all(value in ("col", "row") for value in page.values("scope"))


def test_ids_are_unique_and_every_reference_has_its_target():
    page = Page(render_html(report(), [mistake()]))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(page.values("aria-labelledby")) <= set(ids)


def drawn(page: Page, kind: str) -> int:
    return sum(kind in (value or "").split() for value in page.values("class"))


def test_a_run_that_only_solves_a_head_has_no_section_of_training():
    page = Page(render_html(report(), []))
    assert "training" not in page.values("id")
    assert not drawn(page, "curves")


def test_training_is_drawn_for_wide_and_narrow_pages_with_words_for_every_epoch():
    page = Page(render_html(training(solved(), trained(2, 3)), []))
    assert [drawn(page, kind) for kind in ("wide", "narrow")] == [1, 1]
    assert drawn(page, "column") == 2 * 5  # the solved head, the start, three epochs
    assert "phase 1: the head solved val accuracy 90.0 %" in page.words
    assert "phase 2, before its first step" in page.words
    assert "phase 2, epoch 3 (kept) train loss 0.48" in page.words
    assert set(page.tags) <= TAGS


def test_the_table_of_phases_says_what_learnt_for_how_long_and_what_was_kept():
    made = training(solved(), trained(2, 8, best=5, trainable=1_020_162))
    words = Page(render_html(made, [])).words
    for expected in (
        "2 phases, each from the weights that the one before kept",
        "at most 1,020,162 of 3,373,570 parameters learn at once",
        "1 head solved penalty 0.1, chosen by log loss on val (120 images) 90.0 % – –",
        "2 head, stage:-1 1,020,162 of 3,373,570 8 of 20 epoch 5, best log loss on val 90.5 % "
        "2 min 0 s fp32, 8 views, 12 blocks remembered",
        "Kept: epoch 5, best log loss on val, test opened once.",
    ):
        assert expected in words.replace("\N{NO-BREAK SPACE}", " "), expected


def test_a_phase_that_stopped_says_why():
    patience = {"why": "patience", "epoch": 8}
    broken = {"why": "not-finite", "what": "loss", "epoch": 1, "step": 4, "files": ["a.png"]}
    made = training(trained(1, 8, stopped=patience), trained(2, 1, best=0, stopped=broken))
    words = Page(render_html(made, [])).words
    assert "Phase 1 stopped early, after epoch 8 of 20" in words
    assert "Phase 2 broke off in epoch 1, step 4: the loss was not finite." in words


def test_a_phase_that_broke_off_before_its_first_epoch_has_a_row_and_no_curve():
    broken = {"why": "not-finite", "what": "loss", "epoch": 1, "step": 1, "files": ["a.png"]}
    made = training(trained(1, 1, epochs=[], best_epoch=None, stopped=broken))
    page = Page(render_html(made, []))
    assert not drawn(page, "curves")
    assert "0 of 20 the weights before the epoch that broke off" in page.words


def test_phases_that_were_tried_cut_and_left_out_are_told():
    page = Page(render_html(ladder(), []))
    assert "Kept: epoch 6, best log loss on val" in page.words
    for words in (
        "Phase 2 was shortened from 20 to 6 epochs to end in time",
        "Phase 3 was tried and not kept: of 120 val images it put 4 right and spoilt 3",
        "Phase 4 was left out: no time for an epoch of it",
        "stays only where val improves by more than its noise",
        "phase 3: not kept",
    ):
        assert words in page.words
    assert "stays only where" not in Page(render_html(training(trained(1, 3)), [])).words


def test_every_phase_says_what_it_was_told_once():
    made = training(solved(), trained(2, 3), trained(3, 3))
    made.strategy["phases"][2] = made.strategy["phases"][2] | {"rates": [["head", 1e-5]]}
    words = Page(render_html(made, [])).words
    assert "Phase 2: trained rates head 0.0003; stage:-1 0.0003; stage:0..-1 frozen" in words
    assert words.count("AdamW, weight decay 0.01; gradients clipped at norm 1") == 1
    assert "Phase 3: trained rates head 1e-05 otherwise as phase 2" in words


def test_many_groups_of_rates_are_all_drawn_and_some_named():
    many = tuple(f"layer.{number}" for number in range(17))
    page = Page(render_html(training(trained(1, 3, groups=many)), []))
    assert "17 groups, some named" in page.words
    assert "layer.0 layer.2 layer.5" in page.words
    for number in range(TONES):
        assert drawn(page, f"rate{number}") >= 2 * 2  # wide and narrow, of 17 groups two or more


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_in_training_are_shown_and_never_interpreted(hostile):
    made = training(trained(1, 2, groups=(hostile,), chosen_by=hostile))
    made.strategy["phases"][0] = made.strategy["phases"][0] | {"rates": [[hostile, 1e-3]]}
    page = Page(render_html(made, []))
    assert set(page.tags) <= TAGS
    assert page.handlers == []
    assert page.text.count(hostile.replace("\udcff\ud800", "\\xff\ufffd")) == 3


def test_the_figures_and_the_page_have_the_same_colours():
    (_, light), _ = schemes()
    for number, colour in enumerate(RATE_COLOURS):
        assert light[f"rate{number}"] == [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


def test_lines_stand_out_from_their_ground_in_both_schemes():
    for _, colours in schemes():
        for number in range(TONES):
            assert contrast(colours[f"rate{number}"], colours["card"]) >= 3


def test_text_stands_out_from_its_ground_in_both_schemes():
    for light, colours in schemes():
        for text, ground in itertools.product(
            ("text", "muted", "right", "wrong"), ("page", "card")
        ):
            assert contrast(colours[text], colours[ground]) >= 4.5
        assert contrast(colours["text"], colours["well"]) >= 4.5
        assert contrast(colours["muted"], colours["well"]) >= 4.5
        for column, step in itertools.product((0, 1), range(101)):
            cell = Cell(0, column, 1, 1.0, step / 100)
            fill = colours["right" if cell.kind == "right" else "error"]
            ground = [a + (b - a) * cell.depth for a, b in zip(colours["card"], fill, strict=True)]
            strong = cell.ink == "deep" or (cell.ink == "mid" and not light)
            ink = colours["strong" if strong else "ink"]
            assert contrast(ink, ground) >= 4.5, (light, cell)


def schemes():
    css = Path(headstart.page.__file__).parent.joinpath("templates/report.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    for is_light, block in ((True, light), (False, dark)):
        found = re.findall(r"--(\w+): #(\w{2})(\w{2})(\w{2});", block)
        yield is_light, {name: [int(part, 16) for part in parts] for name, *parts in found}


def contrast(one, other):
    """Compute WCAG 2's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
