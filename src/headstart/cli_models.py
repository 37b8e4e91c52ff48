"""The command ``models``: search the zoos, look into a network, fetch its weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from headstart import console
from headstart.cli_options import Debug, Json, Noncommercial
from headstart.errors import UsageError

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("models")(models)


def models(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN... | fetch NAME...]",
            help="A glob or part of a name; all networks by default. Or: fetch these weights.",
        ),
    ] = None,
    blocks: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show the blocks of this network.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Run these networks: time, memory and disk they take here."),
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="With --blocks, --measure or fetch: input side in pixels.")
    ] = None,
    allow_noncommercial: Noncommercial = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the networks of all zoos, the blocks of one, measure some, or fetch weights."""
    words = words or []
    if measure:
        _refuse_beside_measure(blocks, words)
        _measure(words, size, allow_noncommercial, as_json)
        return
    if blocks is not None:
        if words:
            raise UsageError(
                "--blocks looks into one network and searches for none.",
                field="blocks",
                hint=f"Write: headstart models --blocks {blocks}",
            )
        _refuse_noncommercial("--blocks loads no weights", allow_noncommercial)
        _show_blocks(blocks, size, as_json)
    elif words[:1] == ["fetch"]:
        _fetch(words[1:], size, allow_noncommercial, as_json)
    else:
        _refuse_noncommercial("a search loads no weights", allow_noncommercial)
        if size is not None:
            raise UsageError(
                "--size is about --blocks, --measure and fetch, not about a search.",
                field="size",
                hint="Leave it away; the table shows the size each network takes.",
            )
        _search(words, as_json)


def _refuse_noncommercial(why: str, given: bool) -> None:
    if given:
        raise UsageError(
            f"--allow-noncommercial is about fetch and --measure: {why}.",
            field="allow-noncommercial",
            hint="Leave it away.",
        )


def _refuse_beside_measure(blocks: str | None, words: list[str]) -> None:
    other = "--blocks" if blocks is not None else "fetch" if words[:1] == ["fetch"] else None
    if other is not None:
        raise UsageError(
            f"--measure runs networks; with {other} it is two things at once.",
            field="measure",
            hint="Give two commands.",
        )


def _measure(words: list[str], size: int | None, allow_noncommercial: bool, as_json: bool) -> None:
    from headstart import measuring
    from headstart.catalogue import chosen, measured_table

    def tell(number: int, n: int, name: str) -> None:
        if not as_json:
            console.talk(f"measuring {name} ({number + 1} of {n})")

    found = measuring.measure(
        chosen(words), size=size, allow_noncommercial=allow_noncommercial, progress=tell
    )
    if as_json:
        console.put_json({"measured": [each.to_dict() for each in found]})
    else:
        console.put(*measured_table(found))


def _search(words: list[str], as_json: bool) -> None:
    from headstart.catalogue import models as search
    from headstart.catalogue import models_table

    if len(words) > 1:
        raise UsageError(
            f"One pattern at a time, not {len(words)}.",
            field="pattern",
            hint="In quotes, so that the shell does not turn it into file names: "
            f"headstart models '{words[0]}'",
        )
    found = search(*words)
    if as_json:
        console.put_json({"models": [asdict(each) for each in found]})
    else:
        console.put(*models_table(found))


def _show_blocks(name: str, size: int | None, as_json: bool) -> None:
    from headstart import catalogue
    from headstart.backbones import zoo

    found = catalogue.blocks(zoo.outline(name, size=size))
    if as_json:
        console.put_json(found)
    else:
        console.put(*catalogue.blocks_table(found))


def _fetch(names: list[str], size: int | None, allow_noncommercial: bool, as_json: bool) -> None:
    from headstart.backbones import zoo

    if not names:
        raise UsageError(
            "Which weights are to be fetched?",
            field="name",
            hint="Write: headstart models fetch timm:resnet50.a1_in1k",
        )
    fetched = []
    for name in names:
        backbone = zoo.create(name, size=size, allow_noncommercial=allow_noncommercial)
        fetched.append({"name": backbone.full_name, "weights": backbone.weights})
        if not as_json:
            console.put(f"{backbone.full_name}: {backbone.weights}")
    if as_json:
        console.put_json({"fetched": fetched})
