"""Files that are no longer the ones that were checked, as far as a run can tell at its end.

A run decodes each image once and goes on from its pixels or features, so a file that changes or
goes while it trains changes nothing in it. Its user should know all the same: who fits again on
the files as they are now fits on other images.
"""

from __future__ import annotations

from pathlib import Path

from headstart.cache import Cache
from headstart.data.checks.check import Checked, Finding
from headstart.data.loader import in_threads
from headstart.data.read import source_digest
from headstart.errors import BadImage
from headstart.memory import FileMemory

__all__ = ["find_replaced"]

_MOST_FILES = 100  # that the finding lists
_MOST_NAMES = 10  # that its message lists


def find_replaced(checked: Checked, cache: Cache) -> tuple[Finding, ...]:
    """Return the finding about files that changed or went after the check; empty where none did.

    Files whose size and time are the remembered ones are not opened.

    Args:
        checked: What the check learnt.
        cache: Where what was learnt of files is remembered.
    """
    known = FileMemory(cache.files).recall([item.path for item in checked.items])

    def became(index: int) -> str | None:
        path, digest = checked.items[index].path, checked.digests[index]
        if known.get(path, {}).get("digest") == digest:
            return None
        return _became(path, digest)

    found = enumerate(in_threads(became, range(len(checked.items))))
    told = {checked.items[index].name: what for index, what in found if what is not None}
    if not told:
        return ()
    listed = [f"{name} ({what})" for name, what in list(told.items())[:_MOST_NAMES]]
    listed += ["…"] if len(told) > _MOST_NAMES else []
    message = (
        f"{len(told)} of {len(checked.items)} files are no longer the ones that were checked, and "
        f"the run went on with what it had read: {', '.join(listed)}."
    )
    hint = "Fit again if the new files are meant."
    return (Finding("replaced", "warning", tuple(told)[:_MOST_FILES], message, hint),)


def _became(path: Path, digest: str) -> str | None:
    """Say what a file has become; None where its bytes are the same."""
    try:
        return None if source_digest(path) == digest else "another file"
    except BadImage as error:
        return error.reason
