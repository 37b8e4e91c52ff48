"""Which column of a table is which: by name, by what the user said, or by a well-known synonym."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart.data.quoting import quoted
from headstart.data.read import SUFFIXES
from headstart.data.reading import COLUMNS
from headstart.errors import DataError, UnknownName

__all__ = ["SYNONYMS", "choose_columns", "known_names", "written_names"]

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("file_name", "filename", "file", "file_path", "filepath"),
        *("image", "image_path", "image_file", "image_name"),
    ),
    "label": ("class", "class_name", "category", "target"),
}
_LISTED = 20


def known_names(given: Mapping[str, str]) -> list[str]:
    """Return all names by which a column may be recognised.

    Raises:
        UnknownName: ``given`` says what something is called that is not among
            :data:`~headstart.data.reading.COLUMNS`.
    """
    _require_roles(given)
    synonyms = (name for names in SYNONYMS.values() for name in names)
    return [*given.values(), *COLUMNS, *synonyms]


def written_names(given: Mapping[str, str]) -> dict[str, str]:
    """Return what to call the columns of a new table that will be read with ``given``.

    A role has its own name, unless ``given`` has another for it. Where ``given`` has that name for
    another role, it is called by a synonym; a role without one can't be written then.
    """
    taken = set(map(_folded, given.values()))
    names = dict(given)
    for role in COLUMNS:
        free = [name for name in (role, *SYNONYMS.get(role, ())) if name not in taken]
        names |= {role: free[0]} if free and role not in given else {}
    return names


def choose_columns(
    table: Path | str,
    names: Sequence[str],
    given: Mapping[str, str],
    *,
    needed: Sequence[str],
    roles: Sequence[str] = COLUMNS,
) -> tuple[dict[str, int], list[str]]:
    """Find the columns of a table.

    A name is matched exactly, else without regard to case. Synonyms are taken for path and label
    only, where just one of them is there. A column that ``given`` names is nothing else.

    Args:
        table: The table's file, for messages; a text such as ``the DataFrame`` where there is none.
        names: The names of its columns.
        given: The table's own names for some of them, as ``{"label": "species"}``.
        needed: Those that can't be done without.
        roles: Which columns to look for beside those that are given.

    Returns:
        The position of each column that is there, and what was understood, one sentence each.

    Raises:
        UnknownName: The table lacks a column that ``given`` names, or has no such role.
        DataError: A needed column is missing, or several columns have its name.
    """
    _require_roles(given)
    chosen: dict[str, int] = {}
    for role, wanted in given.items():
        if (position := _position(table, names, wanted)) is None:
            raise UnknownName(f"column in {table}", wanted, set(names), field="column")
        chosen[role] = position
    taken = set(chosen.values())
    free = ["" if position in taken else name for position, name in enumerate(names)]
    notes, missing = [], []
    for role in (role for role in roles if role not in given):
        position = _position(table, free, role)
        if position is None and (position := _synonym(table, free, role)) is not None:
            notes.append(f"The column {quoted(names[position])} is taken as the {role}.")
        if position is not None:
            chosen[role] = position
        elif role in needed:
            missing.append(role)
    if missing:
        raise _missing(table, names, free, missing)
    return chosen, notes


def _require_roles(given: Mapping[str, str]) -> None:
    for role in given:
        if role not in COLUMNS:
            raise UnknownName("column of a table", role, COLUMNS, field="column")


def _position(table: Path | str, names: Sequence[str], wanted: str) -> int | None:
    for key in (str, _folded):
        found = [position for position, name in enumerate(names) if key(name) == key(wanted)]
        if len(found) > 1:
            raise DataError(
                f"{_subject(table)} has {len(found)} columns named {quoted(wanted)}.",
                field="column",
                hint="Rename all but one.",
            )
        if found:
            return found[0]
    return None


def _folded(name: str) -> str:
    return name.strip().casefold()


def _synonym(table: Path | str, names: Sequence[str], role: str) -> int | None:
    folded = {_folded(name): name for name in names}
    found = [folded[synonym] for synonym in SYNONYMS.get(role, ()) if synonym in folded]
    if len(found) > 1:
        raise DataError(
            f"{_subject(table)} has no column {role}, and several that could be it: "
            f"{', '.join(map(quoted, found))}.",
            field="column",
            hint=f"Say which it is: {_asked(table, {role: found[0]})}",
        )
    return _position(table, names, found[0]) if found else None


def _missing(
    table: Path | str, names: Sequence[str], free: Sequence[str], roles: Sequence[str]
) -> DataError:
    there = ", ".join(map(quoted, names[:_LISTED])) + (", …" if len(names) > _LISTED else "")
    lacking = " and no column ".join(roles)
    guesses = {role: _guess(free, role) for role in roles}
    hint = f"Say what they are called: {_asked(table, guesses)}"
    if any(Path(name).suffix.lower() in SUFFIXES for name in names):
        hint = f"The first row must hold the names of the columns, such as {','.join(COLUMNS[:2])}."
    return DataError(
        f"{_subject(table)} has no column {lacking}. Its columns: {there or 'none'}.",
        field="column",
        hint=hint,
    )


def _subject(table: Path | str) -> str:
    return table[0].upper() + table[1:] if isinstance(table, str) else str(table)


def _asked(table: Path | str, columns: dict[str, str]) -> str:
    """Return how to name columns: by options for a file, in Python for what is there only."""
    if isinstance(table, str):
        return f"columns={columns}"
    return " ".join(f"--column {role}={name}" for role, name in columns.items())


def _guess(names: Sequence[str], role: str) -> str:
    """Return the name that is most like those that would have been taken."""
    for known in (role, *SYNONYMS.get(role, ())):
        inside = [name for name in names if known in _folded(name)]
        if close := inside or difflib.get_close_matches(known, names, n=1, cutoff=0.7):
            return close[0]
    return "NAME"
