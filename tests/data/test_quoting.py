"""What users named, as messages quote it: short, on one line, and told from what is beside it."""

from __future__ import annotations

from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.quoting import listed, quoted

NAMES = st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "'cat'"),
        ("", "''"),
        ("a\n\x1b[31m\udcff", r"'a\n\x1b[31m\udcff'"),
        ("x" * 80, repr("x" * 80)),
        ("x" * 81, repr("x" * 79 + "…")),
    ],
)
def test_texts_are_quoted_on_one_line_and_cut_where_they_are_long(text, shown) -> None:
    assert quoted(text) == shown


@given(st.text(st.characters(), max_size=100))
def test_whatever_the_text_it_can_be_printed_and_read_back_as_far_as_it_goes(text) -> None:
    shown = quoted(text)
    assert shown.isprintable()
    assert shown.encode()
    read = literal_eval(shown)
    assert read == text if len(text) <= 80 else text.startswith(read.removesuffix("…"))
    assert len(read) == min(len(text), 80)


def test_a_list_has_twenty_names_and_the_number_of_all() -> None:
    names = [f"{n:02}" for n in range(30)]
    assert listed(names[:20]) == ", ".join(names[:20])
    assert listed(names) == f"{', '.join(names[:20])}, … (30 in all)"


@given(NAMES)
def test_as_many_names_as_there_are_or_twenty_and_how_many(names) -> None:
    shown, cut, rest = listed(names).partition(", … ")
    assert [name for name in shown.split(", ") if name] == names[:20]
    assert (cut, rest) == ((", … ", f"({len(names)} in all)") if len(names) > 20 else ("", ""))
