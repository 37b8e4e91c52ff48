"""Licences of weights: which forbid commercial use, and what a file of weights says of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headstart.errors import ModelError, UsageError
from headstart.files import read_json

__all__ = ["check_licence", "licence_beside"]

# Licences that are for research or otherwise not for commercial use, as timm's configs name them.
_NONCOMMERCIAL = ("cc-by-nc", "noncommercial", "non-commercial", "apple-amlr", "seer-license")


def check_licence(
    weights_of: str, licence: str | None, *, allow_noncommercial: bool, field: str = "backbone"
) -> None:
    """Refuse weights whose licence forbids commercial use, unless that is allowed.

    Args:
        weights_of: What the weights are of, or where they lie, for the message.
        licence: Their licence, where it is known.
        allow_noncommercial: Whether it is allowed.
        field: The option that asked for them.

    Raises:
        UsageError: It does.
    """
    forbids = any(word in (licence or "").lower() for word in _NONCOMMERCIAL)
    if forbids and not allow_noncommercial:
        raise UsageError(
            f"The weights of {weights_of} are under {licence}, which forbids commercial use.",
            field=field,
            hint="If your use is not commercial, add --allow-noncommercial; else choose other "
            "weights.",
        )


def licence_beside(weights: Path) -> str | None:
    """Read the licence that the files beside a file of weights name; None where they don't.

    What was trained further is still under the licence of what it was trained from: an earlier
    run's headstart.json keeps that, and timm's config.json its own. It counts for whatever network
    the weights are loaded into.

    Raises:
        ModelError: One names something that is no licence.
    """
    for name, find in (("headstart.json", _of_headstart), ("config.json", _of_timm)):
        path = weights.with_name(name)
        licence = find(_read(path))
        if licence is not None and not isinstance(licence, str):
            raise ModelError(
                f"{path}, beside the weights, must name their licence in words, not {licence!r}.",
                field=str(path),
                hint="Repair it, or copy the folder again from where it was made.",
            )
        if licence is not None:
            return licence
    return None


def _of_headstart(document: dict[str, Any]) -> Any:
    return _inner(document, "origin").get("licence")


def _of_timm(document: dict[str, Any]) -> Any:
    return _inner(document, "pretrained_cfg").get("license", document.get("license"))


def _inner(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; one that can't be read says nothing, and fails as preprocessing does."""
    try:
        document = read_json(path) if path.is_file() else {}
    except ModelError:
        return {}
    return document if isinstance(document, dict) else {}
