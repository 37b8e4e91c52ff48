from __future__ import annotations

import re

import pytest

from headstart import errors
from headstart.errors import (
    BadImage,
    HeadstartError,
    MissingExtra,
    ResourceError,
    UnknownName,
    UsageError,
)

DRAWN = re.compile(r"^(?P<branch>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<code>\d) +(?P<id>[a-z-]+)", re.M)


def family(error: type[HeadstartError]) -> list[type[HeadstartError]]:
    return [error, *(heir for child in error.__subclasses__() for heir in family(child))]


def ours() -> dict[str, type[HeadstartError]]:
    """Return the tree's classes by name; other modules may have private ones of their own."""
    return {c.__name__: c for c in family(HeadstartError) if c.__module__ == errors.__name__}


def test_the_drawn_tree_is_the_tree() -> None:
    drawn, parents = {}, {}
    path: list[str] = []
    for line in DRAWN.finditer(errors.__doc__ or ""):
        depth = len(line["branch"]) // 4 - 2  # below the drawing's own indent and HeadstartError
        path = [*path[:depth], line["name"]]
        parents[line["name"]] = path[-2] if depth else "HeadstartError"
        drawn[line["name"]] = (int(line["code"]), line["id"])
    real = {name: error for name, error in ours().items() if error is not HeadstartError}
    assert drawn == {name: (error.exit_code, error.id) for name, error in real.items()}
    assert parents == {name: error.__base__.__name__ for name, error in real.items()}


def test_all_names_the_whole_tree() -> None:
    assert set(errors.__all__) == set(ours())


def test_every_error_has_its_own_id_and_no_error_of_ours_exits_as_a_bug() -> None:
    ids = [error.id for error in ours().values()]
    assert len(set(ids)) == len(ids)
    assert HeadstartError.exit_code == 1
    assert all(e.exit_code != 1 for e in ours().values() if e is not HeadstartError)


def test_an_error_shows_its_message_and_then_the_next_step() -> None:
    assert str(ResourceError("The disk is full.", hint="Free some space.")) == (
        "The disk is full.\nFree some space."
    )
    assert str(ResourceError("The disk is full.")) == "The disk is full."


def test_the_json_of_an_error_has_all_of_it() -> None:
    error = UsageError("No.", field="size", hint="Yes.")
    assert error.to_dict() == {"id": "usage", "message": "No.", "field": "size", "hint": "Yes."}
    assert UsageError("No.").to_dict() == {
        "id": "usage",
        "message": "No.",
        "field": None,
        "hint": None,
    }


def test_an_unknown_name_is_met_with_the_nearest_ones() -> None:
    error = UnknownName("strategy", "feature-extracton", ["scratch", "feature-extraction"])
    assert error.hint == "Did you mean feature-extraction?"
    assert "'feature-extracton'" in error.message
    assert "strategy" in error.message


@pytest.mark.parametrize("known", [["b", "a"], {"a": 1, "b": 2}, iter(["b", "a"])])
def test_where_none_is_near_a_short_list_is_shown_sorted(known) -> None:
    assert UnknownName("rule", "zzzz", known).hint == "Known: a, b."


def test_a_long_list_is_not_shown() -> None:
    assert UnknownName("model", "zzzz", [f"network{i}" for i in range(13)]).hint is None
    assert "network9" in str(UnknownName("model", "zzzz", [f"network{i}" for i in range(12)]).hint)


def test_a_given_hint_is_kept() -> None:
    error = UnknownName("rule", "pat", ["pad"], field="resize", hint="Ask the zoo.")
    assert (error.hint, error.field) == ("Ask the zoo.", "resize")


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("The data set elpv", "samples", field="data")
    assert error.message.startswith("The data set elpv")
    assert 'pip install "headstart[samples]"' in str(error)
    assert error.exit_code == 2


def test_a_bad_image_keeps_its_reason_apart() -> None:
    error = BadImage("photos/1.jpg", "cut short")
    assert (error.source, error.reason, error.field) == (
        "photos/1.jpg",
        "cut short",
        "photos/1.jpg",
    )
    assert str(error) == "photos/1.jpg: cut short"
