"""Values as a page tells them, and the page's own rules."""

from __future__ import annotations

import jinja2
import pytest

from headstart.markup import facts, percent, render, spoken_seconds

GAP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, f"0.012{GAP}s"),
        (3.44, f"3.4{GAP}s"),
        (99.94, f"99.9{GAP}s"),
        (99.96, "1 min 40 s"),
        (125, "2 min 5 s"),
        (4810, "1 h 20 min"),
    ],
)
def test_durations_are_told_as_people_do(value, text):
    assert spoken_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.8234, f"82.3{GAP}%"), (0.0, f"0.0{GAP}%"), (None, "–")]
)
def test_shares_are_told_in_percent(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (3, "3"),
        (3.0, "3"),
        (0.00012345, "0.0001234"),
        ("plain", "plain"),
        ("a1" * 32, "a1a1a1a1a1a1…"),
        ("face", "face"),  # too short for a digest
        ([], "none"),
        ((0.7, 0.15), "0.7, 0.15"),
        ({"split_seed": 0, "size": None}, "split seed 0, size –"),
        ([{"a": 1}, {"b": [2, 3]}], "a 1; b 2, 3"),
        ([[1, 2], [3]], "1, 2, 3"),
        ([[1, 2]] * 4, "4 rows, in report.json"),
    ],
)
def test_json_is_told_in_words(value, text):
    assert facts(value, "report.json") == text


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Render a template that is given as a text."""

    def render_text(text, shown, filters=None):
        loader = jinja2.DictLoader({"page.j2": text})
        monkeypatch.setattr("jinja2.PackageLoader", lambda package: loader)
        return render("page.j2", "own.json", filters or {}, **shown)

    return render_text


def test_a_page_tells_values_with_its_filters_and_names_its_own_document(page):
    text = "{{ a | percent }} {{ b | seconds }} {{ c | number }} {{ d | facts }} {{ c | twice }}"
    shown = {"a": 0.5, "b": 125, "c": 1234, "d": [[1]] * 4}
    told = page(text, shown, {"twice": lambda value: f"{2 * value}"})
    assert told == f"50.0{GAP}% 2 min 5 s 1,234 4 rows, in own.json 2468"


def test_what_is_shown_is_never_interpreted_and_can_be_encoded(page):
    told = page("{{ name }}", {"name": "<b>&\udcff"})
    assert told == r"&lt;b&gt;&amp;\xff"
    assert told.encode()


def test_a_name_the_template_lacks_is_an_error(page):
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        page("{{ missing }}", {})
