"""How two documents differ: a line a value, short enough to read."""

from __future__ import annotations

import pytest

from headstart.difference import differences


@pytest.mark.parametrize(
    ("there", "here", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: was 1, is now 2"]),
        ({"a": {"b": None}}, {"a": {"b": "x"}}, ["a.b: was null, is now x"]),
        ({"a": 1}, {}, ["a: was 1, is now absent"]),
        ({}, {"a": [1]}, ["a: was absent, is now [1]"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1: was 2, is now 3"]),
        ({"a": [1]}, {"a": [1, 3]}, ["a: was [1], is now [1, 3]"]),
        (
            {"b": 1, "a": 1},
            {"a": 2, "c": 3},
            [
                "b: was 1, is now absent",
                "a: was 1, is now 2",
                "c: was absent, is now 3",
            ],
        ),
    ],
)
def test_each_leaf_that_differs_has_a_line(there, here, lines):
    assert list(differences(there, here)) == lines


def test_digests_and_long_texts_are_shortened_where_that_tells_them_apart():
    one, other = "0" * 64, "f" * 64
    assert list(differences({"d": one}, {"d": other})) == [
        f"d: was {one[:12]}…, is now {'f' * 12}…"
    ]
    (line,) = differences({"t": "s" * 99}, {"t": "t" * 99})
    assert line == f"t: was {'s' * 60}…, is now {'t' * 60}…"
    one, other = "a" * 99 + "x", "a" * 99 + "y"
    assert list(differences({"t": one}, {"t": other})) == [f"t: was {one}, is now {other}"]
