"""What is written on the command line, as the values of ``Options``."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from headstart.errors import UsageError

__all__ = [
    "parse_channels",
    "parse_duration",
    "parse_gates",
    "parse_numbers",
    "parse_reading",
    "parse_settings",
    "parse_share",
    "parse_split",
]


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_numbers(name: str, text: str | None) -> tuple[float, float, float] | None:
    """Turn ``0.7,0.15,0.15`` into three numbers; None stays None.

    Raises:
        UsageError: It is not three numbers.
    """
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--{name} must be three numbers with commas between, not {text!r}.",
            field=name,
            hint=f"Write them as --{name} 0.7,0.15,0.15",
        ) from error
    return first, second, third


def parse_split(text: str | None) -> tuple[float, float, float] | Path | None:
    """Turn ``0.7,0.15,0.15`` into three numbers, and the name of a table into its path.

    Raises:
        UsageError: It is neither.
    """
    if text is not None and text.lower().endswith((".csv", ".tsv")):
        return Path(text)
    return parse_numbers("split", text)


def parse_duration(name: str, text: str | None) -> float | None:
    """Turn ``90s``, ``10m``, ``1h30m`` or ``1.5h`` into seconds; None stays None.

    Raises:
        UsageError: It is no duration.
    """
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    rest = re.sub(r"\d+(?:\.\d+)?\s*[smh]|\s", "", text.strip().lower())
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if rest or not seconds > 0:
        raise UsageError(
            f"--{name} must be a time above 0 with its unit, not {text!r}.",
            field=name,
            hint=f"Write it as --{name} 10m, or 90s, or 1h30m.",
        )
    return seconds


def parse_channels(name: str, text: str | None) -> tuple[float, ...] | None:
    """Turn ``0.5``, or ``0.485,0.456,0.406`` for red, green and blue, into numbers.

    Raises:
        UsageError: It is neither one number nor three.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise UsageError(
            f"--{name} must be one number, or three with commas between, not {text!r}.",
            field=name,
            hint=f"Write --{name} 0.5, or --{name} 0.5,0.5,0.5 for red, green and blue.",
        )
    return values


def parse_share(name: str, text: str) -> float:
    """Turn ``1%`` or ``0.01`` into 0.01.

    Raises:
        UsageError: It is neither.
    """
    number = text.strip()
    try:
        if number.endswith("%"):
            return float(number[:-1]) / 100
        return float(number)
    except ValueError as error:
        raise UsageError(
            f"--{name} must be a share such as 1% or 0.01, not {text!r}.", field=name
        ) from error


def parse_gates(texts: list[str]) -> dict[str, float]:
    """Turn ``accuracy=0.9`` or ``accuracy=90%`` into a metric and its minimum.

    Raises:
        UsageError: It is not of that form.
    """
    gates = {}
    for text in texts:
        metric, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"--min must be metric=value, as accuracy=0.9, not {text!r}.", field="min"
            )
        gates[metric.strip()] = parse_share("min", value)
    return gates


def parse_reading(
    column: list[str] | None,
    root: Path | None,
    nested: bool,
    classes: str | None,
    group_by: str | None,
    test: str | None = None,
) -> dict[str, Any]:
    """Turn how DATA is to be read into fields of ``Options`` and of ``Reading``.

    A class's name that holds a comma or a line break stands in double quotes:
    ``'"cats, small",dogs'``.

    Raises:
        UsageError: A column is not of the form ``label=species``, or the classes can't be told.
    """
    columns = {}
    for text in column or []:
        name, equals, own = text.partition("=")
        if not equals:
            raise UsageError(
                f"--column must be name=column, as label=species, not {text!r}.", field="column"
            )
        columns[name.strip()] = own.strip()
    return {
        "columns": columns,
        "root": root,
        "nested": nested,
        "classes": None if classes is None else _names(classes),
        "group_by": group_by,
        "test": test,
    }


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Turn ``optimizer=sgd`` and ``mixup=0.2,clip=none`` into fields of ``Train``.

    Numbers become numbers; ``none`` stays a word, which means what the field says.

    Raises:
        UsageError: It is not of that form.
    """
    settings: dict[str, Any] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(
                f"--train must be name=value, as optimizer=sgd, not {part!r}.", field="train"
            )
        settings[name.strip().replace("-", "_")] = _value(value.strip())
    return settings


def _names(text: str) -> tuple[str, ...]:
    try:
        names = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise UsageError(
            f"--classes must be names with commas between; these can't be told: {text[:100]!r}.",
            field="classes",
            hint="A name that holds a comma or a line break stands in double quotes.",
        ) from error
    return tuple(name.strip() for name in names)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
