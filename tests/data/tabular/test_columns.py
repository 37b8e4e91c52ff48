from __future__ import annotations

from pathlib import Path

import pytest

from headstart.data.tabular.columns import SYNONYMS, choose_columns, known_names, written_names
from headstart.errors import DataError, UnknownName

BOTH = ("path", "label")


def choose(*names: str, needed=BOTH, **given: str):
    return choose_columns(Path("table.csv"), names, given, needed=needed)


def refused(*names: str, needed=BOTH, **given: str) -> str:
    with pytest.raises(DataError) as caught:
        choose(*names, needed=needed, **given)
    assert caught.value.field == "column"
    return str(caught.value)


def test_columns_are_found_by_their_names() -> None:
    positions, notes = choose("weight", "label", "x", "path", "group", "split")
    assert positions == {"path": 3, "label": 1, "split": 5, "group": 4, "weight": 0}
    assert notes == []


def test_case_and_spaces_do_not_matter_but_the_exact_name_goes_first() -> None:
    assert choose(" Path", "LABEL")[0] == {"path": 0, "label": 1}
    assert choose("Path", "path", "label")[0] == {"path": 1, "label": 2}


@pytest.mark.parametrize(("role", "name"), [(r, n) for r, names in SYNONYMS.items() for n in names])
def test_a_synonym_is_taken_and_told(role, name) -> None:
    (other,) = set(BOTH) - {role}
    positions, notes = choose(name.title(), other)
    assert positions == {role: 0, other: 1}
    assert notes == [f"The column {name.title()!r} is taken as the {role}."]


def test_a_columns_own_name_goes_before_synonyms() -> None:
    assert choose("file_name", "path", "class", "label") == ({"path": 1, "label": 3}, [])


def test_two_synonyms_are_not_chosen_between() -> None:
    message = refused("image", "path", "class", "category")
    assert "no column label, and several that could be it: 'class', 'category'" in message
    assert "--column label=class" in message


def test_names_that_are_said_are_taken() -> None:
    positions, notes = choose("image", "breed", "label", "day", label="breed", group="day")
    assert positions == {"path": 0, "label": 1, "group": 3}
    assert notes == ["The column 'image' is taken as the path."]


def test_a_column_that_is_said_is_nothing_else() -> None:
    assert choose("path", "group", label="group")[0] == {"path": 0, "label": 1}
    found = choose("path", "image", "label", label="path", group="label")
    assert found[0] == {"label": 0, "group": 2, "path": 1}
    message = refused("path", "label", group="label")
    assert "has no column label" in message
    assert "--column label=NAME" in message
    assert choose("image", "file", "label", group="file")[0] == {"path": 0, "label": 2, "group": 1}


def test_a_table_that_is_no_file_is_asked_about_as_python_has_it() -> None:
    with pytest.raises(DataError, match=r"^The frame has no column label") as caught:
        choose_columns("the frame", ("path", "labels"), {}, needed=BOTH)
    assert caught.value.hint == "Say what they are called: columns={'label': 'labels'}"


def test_only_the_roles_that_are_wanted_are_looked_for() -> None:
    found = choose_columns(
        Path("t.csv"), ("image", "file", "group"), {}, needed=(), roles=("group",)
    )
    assert found == ({"group": 2}, [])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, {"path": "path", "label": "label", "group": "group"}),
        ({"label": "Group"}, {"path": "path", "label": "Group"}),
        ({"group": "path", "weight": "label"}, {"path": "file_name", "label": "class"}),
        ({"path": "class", "group": "LABEL"}, {"path": "class", "label": "class_name"}),
    ],
)
def test_a_written_table_is_found_again_by_what_was_given(given, names) -> None:
    written = written_names(given)
    assert {role: written.get(role) for role in names} == names
    assert ("group" in written) == ("Group" not in given.values())
    positions, _ = choose_columns(Path("t.csv"), tuple(written.values()), given, needed=BOTH)
    assert positions == {role: position for position, role in enumerate(written)}


def test_a_name_that_is_said_and_not_there_is_unknown() -> None:
    with pytest.raises(UnknownName, match="Did you mean breed") as caught:
        choose("path", "breed", label="bread")
    assert caught.value.field == "column"


def test_what_is_needed_and_missing_is_told_at_once() -> None:
    message = refused("img", "labels", "x\ny")
    assert "no column path and no column label. Its columns: 'img', 'labels', 'x\\ny'." in message
    assert "--column path=img --column label=labels" in message


def test_nothing_is_guessed_where_no_name_is_near() -> None:
    assert "--column label=NAME" in refused("path", "breed", "trimap")


def test_what_is_not_needed_may_be_missing() -> None:
    assert choose("path", needed=["path"]) == ({"path": 0}, [])


def test_a_header_that_is_a_row_is_recognised() -> None:
    message = refused("cats/1.jpg", "cat")
    assert message.endswith("The first row must hold the names of the columns, such as path,label.")


def test_a_name_must_be_that_of_one_column() -> None:
    assert "has 2 columns named 'label'" in refused("path", "label", "label")
    assert "has 2 columns named 'path'" in refused("Path", "PATH", "label")
    assert choose("path", "label", "x", "x")[0] == {"path": 0, "label": 1}


def test_many_columns_are_cut_short() -> None:
    message = refused(*(f"c{number}" for number in range(30)))
    assert "'c19', …." in message


def test_only_what_a_table_has_can_be_named() -> None:
    assert {"species", "path", "file_name", "target"} <= set(known_names({"label": "species"}))
    with pytest.raises(UnknownName, match="Did you mean label") as caught:
        known_names({"labels": "x"})
    assert caught.value.field == "column"
    with pytest.raises(UnknownName, match="Did you mean label"):
        choose("path", "x", labels="x")
