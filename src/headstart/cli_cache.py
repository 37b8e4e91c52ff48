"""The commands ``cache list`` and ``cache clear``."""

from __future__ import annotations

import typer

from headstart import console
from headstart.cli_options import (
    Debug,
    Json,
)

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module, a group of their own, to the command line."""
    group = typer.Typer(no_args_is_help=True, help="What is remembered between runs, and where.")
    group.command("list")(cache_list)
    group.command("clear")(cache_clear)
    app.add_typer(group, name="cache")


def cache_list(as_json: Json = False, debug: Debug = False) -> None:
    """Show what is remembered, and where."""
    from headstart.cache import Cache, size_limit

    cache = Cache()
    stores = cache.stores()
    if as_json:
        console.put_json(
            {
                "folder": str(cache.folder),
                "limit": size_limit(cache.folder),
                "stores": [store.to_dict() for store in stores],
            }
        )
        return
    console.put(*console.cache_table(cache.folder, size_limit(cache.folder), stores))


def cache_clear(as_json: Json = False, debug: Debug = False) -> None:
    """Forget everything that is remembered; it can all be computed again."""
    from headstart.cache import Cache

    cache = Cache()
    freed = cache.clear()
    if as_json:
        console.put_json({"folder": str(cache.folder), "freed": freed})
    else:
        console.put(f"freed {freed / 1e6:.1f} MB in {cache.folder}")
