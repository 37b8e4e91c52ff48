"""HTML from a template, and how values are told in it: what every page of ours shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from headstart.report import printable

__all__ = ["facts", "percent", "render", "spoken_seconds"]


def render(
    template: str, document: str, filters: Mapping[str, Callable[..., str]], /, **shown: Any
) -> str:
    """Return a page as HTML that can be encoded as UTF-8; what is shown is never interpreted.

    Args:
        template: File name of the template.
        document: Name of the JSON file beside the page, which has what the page cuts short.
        filters: The template's own, beside ``facts``, ``number``, ``percent`` and ``seconds``.
        shown: What the template speaks of, by name. A name it lacks is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("headstart"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "facts": partial(facts, document=document),
        "number": _number,
        "percent": percent,
        "seconds": spoken_seconds,
        **filters,
    }
    return printable(environment.get_template(template).render(**shown))


def percent(value: float | None) -> str:
    """Return a share in percent, with one digit behind the point."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def spoken_seconds(value: float) -> str:
    """Return a duration as people say it: ``0.012 s``, ``3.4 s``, ``2 min 5 s``, ``1 h 20 min``."""
    if value < 99.95:
        return f"{value:.{1 if value >= 0.1 else 3}f}\N{NO-BREAK SPACE}s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def facts(value: Any, document: str) -> str:
    """Return a JSON value in words for a table of facts.

    Args:
        value: The value.
        document: Name of the JSON file that has what is too long to be told.
    """
    told = partial(facts, document=document)
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {told(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        if any(isinstance(part, list | tuple) for part in value) and len(value) > 3:
            return f"{len(value)} rows, in {document}"
        mark = "; " if any(isinstance(part, Mapping) for part in value) else ", "
        return mark.join(map(told, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40,}", value):
        return f"{value[:12]}…"  # a digest; the whole of it is in the document
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value)


def _number(value: int) -> str:
    return f"{value:,}"
