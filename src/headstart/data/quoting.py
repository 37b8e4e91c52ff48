"""How messages quote what users named: short, and on one line whatever it holds."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed", "quoted"]

_LONGEST = 80  # characters of a text
_MOST = 20  # names of a list


def quoted(text: str) -> str:
    """Return a text in quotes, cut where it is long; what can't be printed is escaped."""
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def listed(names: Sequence[str]) -> str:
    """Return names one after the other, or the first twenty and how many there are."""
    more = f", … ({len(names)} in all)" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
