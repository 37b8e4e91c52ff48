"""Images that can't be decoded, remembered by their digests so that nobody tries them again.

A header may be right where the pixels are not: such an image passes the quick check and fails
where it is decoded. What fails for the sake of its bytes always will, with the same Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

import PIL

from headstart.cache import Cache
from headstart.data.read import Failure
from headstart.errors import ModelError
from headstart.files import read_json, write_json
from headstart.inputspec import InputSpec

__all__ = ["Undecodable"]


class Undecodable:
    """What is known of images that can't be decoded as an input spec says.

    Args:
        cache: Where it is remembered.
        spec: Its decode rule counts.
    """

    def __init__(self, cache: Cache, spec: InputSpec) -> None:
        self._file = cache.undecodable
        self._decoder = f"pillow {PIL.__version__}, {spec.decode}"
        self._known = self._read().get(self._decoder, {})
        self._new: dict[str, str] = {}

    def among(self, digests: Iterable[str]) -> dict[str, str]:
        """Return the reasons by digest of those images that are known to fail."""
        return {image: self._known[image] for image in digests if image in self._known}

    def add(self, image: str, failure: Failure) -> None:
        """Take in how an image failed, if it is to last."""
        if failure.lasting:
            self._new[image] = failure.reason

    def save(self) -> None:
        """Remember what was added; what other processes added meanwhile is kept."""
        if self._new:
            known = self._read()
            known[self._decoder] = known.get(self._decoder, {}) | self._new
            write_json(self._file, known)

    def _read(self) -> dict[str, dict[str, str]]:
        if not self._file.exists():
            return {}
        try:
            found = read_json(self._file)
        except ModelError:  # damaged: all of it can be learnt again
            return {}
        return found if _is_memory(found) else {}


def _is_memory(found: Any) -> TypeGuard[dict[str, dict[str, str]]]:
    """Tell whether JSON that was read is what is written: reasons by digest, by decoder."""
    return isinstance(found, dict) and all(isinstance(known, dict) for known in found.values())
