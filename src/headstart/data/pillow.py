"""Pillow, made to speak in one voice about files that are no good.

Whatever a damaged file makes it raise becomes :class:`~headstart.errors.BadImage` with a reason
for people, and its warnings, its log and the lines that libtiff writes to stderr are kept back:
they would stand among a command's own, without the name of the file they are about.
"""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock
from typing import Any, cast

from PIL import Image, _imaging

from headstart.errors import BadImage

__all__ = ["MAX_PIXELS", "reading"]

MAX_PIXELS = 89_478_485  # as Pillow's own bound: a quarter of a gigabyte in RGB

_NO_MEMORY = re.compile("out of memory|decoder error -9")  # as Pillow's decoders say it
_LONGEST = 80  # characters of a reason
_IGNORE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

# Where nobody listens to a logger, Python writes its warnings to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn all that Pillow raises about an image into BadImage, and keep the rest to ourselves.

    ``warnings.catch_warnings`` would swap the process's filters, which two threads can do in an
    order that leaves the wrong ones; adding one entry and taking it out again can't.

    Args:
        name: Of the image, for the error.

    Raises:
        BadImage: The block raised an exception.
    """
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _IGNORE)
    try:
        with _silent_libtiff:
            yield
    except BadImage as error:
        if error.source == name:
            raise
        # By who has the pixels, not the name.
        raise BadImage(name, error.reason, lasting=error.lasting) from error
    # Plugins raise whatever a damaged file leads them into: struct.error, IndexError, TypeError …
    except Exception as error:
        raise BadImage(name, _reason(error), lasting=not _is_of_the_machine(error)) from error
    finally:
        with suppress(ValueError):
            filters.remove(_IGNORE)


def _is_of_the_machine(error: Exception) -> bool:
    """Tell whether the image's bytes are not at fault: no memory, no right, a bad disk."""
    if isinstance(error, OSError):
        return bool(error.strerror) or bool(_NO_MEMORY.search(str(error)))
    return isinstance(error, MemoryError)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return "needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(_words(error).split())
    if "truncated" in text.lower():
        return "cut short"
    return f"damaged: {text or type(error).__name__}"[:_LONGEST]


def _words(error: Exception) -> str:
    """Return an exception's message, with nothing of the file in it that a terminal would obey."""
    message = error.args[0] if error.args else ""
    text = message.decode("latin-1") if isinstance(message, bytes) else str(error)
    return "".join(letter if letter.isprintable() else " " for letter in text)


class _SilentLibtiff:
    """While any thread is inside, libtiff does not write its errors to stderr.

    It hands them to a function of the process, which Pillow leaves as it is: one that prints. What
    was wrong with the file Pillow raises besides.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = _set_error_handler(None)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _set_error_handler(self._before)


_silent_libtiff = _SilentLibtiff()


def _set_error_handler(handler: int | None) -> int | None:
    function = _libtiff()
    return None if function is None else function(handler)


@cache
def _libtiff() -> Any:
    """Return ``TIFFSetErrorHandler`` of the libtiff that Pillow uses.

    None where Pillow has none, or has it linked in so that it can't be reached.
    """
    with suppress(OSError, AttributeError):
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
        return function
    return None
