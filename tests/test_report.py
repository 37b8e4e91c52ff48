from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.errors import ModelError
from headstart.files import read_json, write_json
from headstart.metrics import ClassScore, Metric
from headstart.report import Report, printable, shortened, text_width, thumbnail
from reports import report

names = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)
plain = st.recursive(
    st.none() | st.booleans() | counts | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(names, plain, max_size=3)
maybe = st.none() | numbers
metric_tables = st.dictionaries(names, st.builds(Metric, maybe, maybe, maybe, counts), max_size=3)
reports = st.builds(
    Report,
    run=names,
    task=names,
    backbone=documents,
    strategy=documents,
    training=st.lists(documents, max_size=2).map(tuple),
    parameters=st.dictionaries(names, counts, max_size=2),
    split=documents,
    classes=st.lists(names, max_size=3).map(tuple),
    val=metric_tables,
    test=metric_tables,
    confusion=st.lists(st.lists(counts, max_size=3).map(tuple), max_size=3).map(tuple),
    per_class=st.lists(st.builds(ClassScore, names, maybe, maybe, maybe, counts), max_size=3).map(
        tuple
    ),
    timings=st.dictionaries(names, numbers, max_size=3),
    engine=documents,
    findings=st.lists(documents, max_size=2).map(tuple),
    failed=st.lists(st.dictionaries(names, names, max_size=2), max_size=2).map(tuple),
    versions=st.dictionaries(names, names, max_size=2),
    command=names,
    created=names,
)


@given(reports)
@settings(max_examples=50, deadline=None)
def test_a_report_goes_through_json_unchanged(made):
    document = made.to_dict()
    through = json.loads(json.dumps(document, allow_nan=False))
    assert through == document
    assert Report.from_dict(through) == made


def test_the_document_has_a_key_for_every_attribute_and_its_format():
    document = report().to_dict()
    assert set(document) == {"format"} | {field.name for field in fields(Report)}
    assert document["format"] == 1
    assert set(document["test"]["accuracy"]) == {"value", "low", "high", "n"}


def test_file_names_that_are_not_utf8_survive_the_file(tmp_path):
    made = report(failed=({"name": "a/\udcff\udc80.jpg", "reason": "cut off"},))
    write_json(tmp_path / "report.json", made.to_dict())
    assert Report.from_dict(read_json(tmp_path / "report.json")) == made


def test_another_format_is_refused():
    with pytest.raises(ModelError, match="format 1, this one is of format 2"):
        Report.from_dict(report().to_dict() | {"format": 2})


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("classes"),
        lambda document: document.pop("format"),
        lambda document: document.update(surprise=1),
        lambda document: document.update(test=[1]),
        lambda document: document.update(per_class=[{"name": "a"}]),
        lambda document: document.update(confusion=None),
    ],
)
def test_what_is_no_report_is_refused(change):
    document = report().to_dict()
    change(document)
    with pytest.raises(ModelError, match="Not the report of a run"):
        Report.from_dict(document)


def test_a_list_is_no_report():
    with pytest.raises(ModelError):
        Report.from_dict([])


@pytest.mark.parametrize(
    ("size", "mode", "expected"),
    [
        ((400, 300), "RGB", (192, 144)),
        ((300, 600), "L", (96, 192)),
        ((1, 2000), "RGB", (1, 192)),
        ((32, 20), "L", (32, 20)),
        ((250, 250), "RGBA", (192, 192)),
    ],
)
def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(size, mode, expected):
    image = Image.new(mode, size)
    with Image.open(io.BytesIO(thumbnail(image))) as small:
        assert small.format == "JPEG"
        assert small.size == expected
        assert small.mode == ("L" if mode == "L" else "RGB")
    assert image.size == size


@given(st.text())
def test_printable_text_can_be_written(text):
    assert printable(text).encode().decode() == printable(text)


def test_printable_shows_the_bytes_of_a_file_name():
    assert printable("a\udcff.jpg") == "a\\xff.jpg"
    assert printable("\ud800") == "\ufffd"
    assert printable("naïve 名前") == "naïve 名前"


@given(st.text(max_size=40), st.integers(2, 20))
def test_shortened_text_fits(text, width):
    short = shortened(text, width)
    assert text_width(short) <= width
    assert short == text or short.endswith("…")


def test_a_chinese_character_takes_two_columns():
    assert text_width("ab") == 2
    assert text_width("裂纹") == 4
    assert shortened("裂纹裂纹", 6) == "裂纹…"


def test_importing_what_shows_a_run_loads_no_torch():
    code = (
        "import sys, headstart.report, headstart.page, headstart.figures;"
        "print({'torch', 'matplotlib', 'sklearn', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
