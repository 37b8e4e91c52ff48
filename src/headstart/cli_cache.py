"""The commands ``cache list`` and ``cache clear``."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headstart import console
from headstart.cli_options import Debug, Json

if TYPE_CHECKING:
    from headstart.cache import StoreInfo
    from headstart.data.unpacked import Unpacked

__all__ = ["add_commands", "cache_table"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module, a group of their own, to the command line."""
    group = typer.Typer(no_args_is_help=True, help="What is remembered between runs, and where.")
    group.command("list")(cache_list)
    group.command("clear")(cache_clear)
    app.add_typer(group, name="cache")


def cache_list(as_json: Json = False, debug: Debug = False) -> None:
    """Show what is remembered, and where."""
    from headstart.cache import Cache, size_limit
    from headstart.data.objects.kept import list_kept
    from headstart.data.unpacked import unpacked

    cache = Cache()
    stores, archives = cache.stores(), unpacked(cache.archives)
    given, downloads = list_kept(cache.given), _downloads(cache.folder / "torchvision")
    if as_json:
        console.put_json(
            {
                "folder": str(cache.folder),
                "limit": size_limit(cache.folder),
                "stores": [store.to_dict() for store in stores],
                "archives": [archive.to_dict() for archive in archives],
                "given": [images.to_dict() for images in given],
                "downloads": [files.to_dict() for files in downloads],
            }
        )
        return
    console.put(*cache_table(cache.folder, size_limit(cache.folder), stores))
    for folder, what, kept in (
        (cache.archives, "unpacked from zip files", archives),
        (cache.given, "given as Python objects", given),
        (cache.folder / "torchvision", "downloaded; cache clear leaves it", downloads),
    ):
        if kept:
            total = sum(it.bytes for it in kept)
            console.put(f"{folder}: {total / 1e6:.1f} MB {what}", *map(_line, reversed(kept)))


def cache_clear(as_json: Json = False, debug: Debug = False) -> None:
    """Forget what was computed, unpacked, or given from Python; downloads stay.

    It is all computed and unpacked again when it is needed. A run on data given from Python goes on
    once the same call is made with the same data again.
    """
    from headstart.cache import Cache
    from headstart.data.objects.kept import forget_kept
    from headstart.data.unpacked import forget

    cache = Cache()
    freed = cache.clear() + forget(cache.archives) + forget_kept(cache.given)
    if as_json:
        console.put_json({"folder": str(cache.folder), "freed": freed})
    else:
        console.put(f"freed {freed / 1e6:.1f} MB in {cache.folder}")


def cache_table(folder: Path, limit: int, stores: Sequence[StoreInfo]) -> list[str]:
    """Return the cache's stores as lines, the most recently used first."""
    used = sum(store.bytes for store in stores)
    lines = [f"{folder}: {used / 1e6:.1f} MB of at most {limit / 1e9:.1f} GB"]
    for store in reversed(stores):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(store.last_used))
        lines.append(
            f"  {store.rows:>9,} rows {store.bytes / 1e6:>9.1f} MB  {day}  {_content(store.key)}"
        )
    return lines


def _content(key: Mapping[str, Any]) -> str:
    """Say in words what a store holds."""
    spec = key["input"]
    size = f"{spec['height']} x {spec['width']} {spec['resize']}"
    if key["what"] == "pixels":
        return f"pixels {size}"
    if key["what"] == "boundary":
        view = key["view"] if isinstance(key["view"], str) else f"view {key['view']['view']}"
        behind = f" behind {key['cut']} blocks, {view}"
    else:
        behind = "" if key["view"] == "plain" else f" {key['view']}"
    return f"{key['backbone']} {size} {key['path']['precision']}{behind}"


def _downloads(folder: Path) -> list[Unpacked]:
    """List the folders and files below torchvision's, the least recently changed first."""
    from headstart.data.unpacked import Unpacked

    found = []
    for entry in folder.glob("*"):
        below = [Path(at) / name for at, _, names in os.walk(entry) for name in names]
        with suppress(OSError):  # another process is downloading
            sizes = [file.lstat().st_size for file in (below if entry.is_dir() else [entry])]
            found.append(Unpacked(entry, len(sizes), sum(sizes), entry.lstat().st_mtime))
    return sorted(found, key=lambda item: item.last_used)


def _line(kept: Unpacked) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.last_used))
    size = f"{kept.files:>9,} files {kept.bytes / 1e6:>8.1f} MB"
    return f"  {size}  {day}  {kept.folder.name}"
