"""How two documents differ, in lines for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["differences"]

_SHOWN = 60  # characters of a value
_ABSENT = object()


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yield a line for each leaf of two JSON documents that differs.

    ``"data.digest: was 1f0c…, is now 77ab…"``. Lists of the same length are gone into.

    Args:
        there: The document as it was.
        here: The document as it is.
        name: What they are the value of, as ``data.digest``.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            place = f"{name}.{key}" if name else str(key)
            yield from differences(there.get(key, _ABSENT), here.get(key, _ABSENT), place)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, values in enumerate(zip(there, here, strict=True)):
            yield from differences(*values, f"{name}.{index}")
    elif there != here:
        was, now = _shown(there), _shown(here)
        if _short(was) != _short(now):
            was, now = _short(was), _short(now)
        yield f"{name}: was {was}, is now {now}"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    return value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{32,}", text):  # a digest
        return f"{text[:12]}…"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
