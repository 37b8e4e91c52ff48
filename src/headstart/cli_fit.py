"""The commands that make a run: ``fit``, and ``resume`` where one stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart import console
from headstart.cli_options import (
    Augment,
    Backbone,
    BatchSize,
    Classes,
    ClassWeights,
    Column,
    Data,
    Debug,
    Device,
    GroupBy,
    Json,
    Limit,
    LimitPerClass,
    MaxBad,
    Nested,
    Noncommercial,
    Partial,
    Precision,
    Resize,
    Root,
    Size,
    Test,
    Triple,
    Weights,
)
from headstart.cli_values import (
    parse_channels,
    parse_duration,
    parse_gates,
    parse_reading,
    parse_settings,
    parse_share,
    parse_split,
)
from headstart.options import Options

if TYPE_CHECKING:
    from headstart.fitting import Fitted

__all__ = ["add_commands", "fit", "options_of"]


Budget = Annotated[
    str | None,
    typer.Option(
        help="How long it may take, as 90s, 10m or 1h30m. Default: 10m for the strategy auto."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (fit, resume):
        app.command()(command)


def fit(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/DATA-STRATEGY-SEED")
    ] = None,
    backbone: Backbone = "",
    weights: Weights = None,
    allow_partial: Partial = False,
    mean: Triple = None,
    std: Triple = None,
    strategy: Annotated[
        str, typer.Option(help="What is trained, and how: a name (docs/strategy.md) or a .toml.")
    ] = "auto",
    budget: Budget = None,
    head: Annotated[
        str, typer.Option(help="linear, linear,dropout=0.2, mlp:256,dropout=0.5/0.3")
    ] = "linear",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every phase that trains, or of the head.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    augment: Augment = None,
    symmetry: Annotated[
        str | None, typer.Option(help="Mirror images that mean the same: none, flip or square.")
    ] = None,
    average: Annotated[
        str,
        typer.Option(
            help="Average predictions over mirror images: none, flip or square. Default: none; "
            "auto chooses.",
            show_default=False,
        ),
    ] = "",
    views: Annotated[
        int | None, typer.Option(help="Augmented views of each image, beside the plain one.")
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(help="More of training, as optimizer=sgd,mixup=0.2 (docs/strategy.md)."),
    ] = None,
    size: Size = None,
    resize: Resize = None,
    split: Annotated[
        str | None,
        typer.Option(help="Shares of train, val, test, or a split.csv. Default: 0.7,0.15,0.15"),
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="Test on one fold, as 2/5: the second of five.")
    ] = None,
    limit: Limit = None,
    limit_per_class: LimitPerClass = None,
    class_weights: ClassWeights = "none",
    seed: Annotated[int, typer.Option(help="Decides the split and all that is drawn.")] = 0,
    split_seed: Annotated[
        int | None, typer.Option(help="Decides the split. Default: the seed.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    no_refit: Annotated[
        bool, typer.Option("--no-refit", help="Keep the solved head that has not seen val.")
    ] = False,
    no_audit: Annotated[
        bool, typer.Option("--no-audit", help="Skip the check of labels and copies by features.")
    ] = False,
    save_minutes: Annotated[
        float, typer.Option(help="Save a run that trains at least this often.")
    ] = 5.0,
    max_bad: MaxBad = "1%",
    column: Column = None,
    root: Root = None,
    nested: Nested = False,
    classes: Classes = None,
    group_by: GroupBy = None,
    test: Test = None,
    minimum: Annotated[
        list[str] | None,
        typer.Option("--min", help="Test metric to reach, as accuracy=0.9; else exit 7."),
    ] = None,
    allow_noncommercial: Noncommercial = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and compute nothing.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a classifier on labelled images and judge it on images it never saw."""
    options = options_of(locals())
    if dry_run:
        _dry_run(data, options, as_json)
        return
    from headstart.fitting import fit as fit_images

    command = shlex.join(["headstart", *sys.argv[1:]])
    with console.Progress() as progress:
        fitted = fit_images(data, out, listener=progress, command=command, **vars(options))
    _show(fitted, as_json)


_AS_WRITTEN = (
    *("backbone", "weights", "allow_partial", "strategy", "head", "epochs", "lr", "augment"),
    *("symmetry", "average", "views", "size", "resize", "fold", "limit", "limit_per_class"),
    *("class_weights", "seed", "split_seed", "device", "precision", "batch_size"),
    "allow_noncommercial",
)
_READING = ("column", "root", "nested", "classes", "group_by", "test")


def options_of(given: Mapping[str, Any]) -> Options:
    """Turn what was written on the command line into options.

    Args:
        given: The arguments of ``fit`` by name; what only a fit asks for may be missing.

    Raises:
        UsageError: Something can't be read or used.
    """
    return Options(
        **{name: given[name] for name in _AS_WRITTEN},
        **parse_reading(*(given[name] for name in _READING)),
        mean=parse_channels("mean", given["mean"]),
        std=parse_channels("std", given["std"]),
        budget=parse_duration("budget", given["budget"]),
        train=parse_settings(given["train"] or []),
        split=parse_split(given["split"]),
        max_bad=parse_share("max-bad", given["max_bad"]),
        refit=not given.get("no_refit"),
        audit=not given.get("no_audit"),
        save_minutes=given.get("save_minutes", 5.0),
        minimum=parse_gates(given.get("minimum") or []),
    )


def _show(fitted: Fitted, as_json: bool) -> None:
    if as_json:
        console.put_json(fitted.report.to_dict())
        return
    console.put(*console.summary(fitted.report), "", str(fitted.folder / "report.html"))


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that stopped.")],
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the images have changed.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a run where it stopped; on a CPU bit by bit as if it had not."""
    from headstart.resuming import resume as go_on

    with console.Progress() as progress:
        fitted = go_on(run, listener=progress, force=force)
    _show(fitted, as_json)


def _dry_run(data: str, options: Options, as_json: bool) -> None:
    from headstart.cache import Cache
    from headstart.planning import make_plan

    with console.Progress() as progress:
        plan = make_plan(data, options, cache=Cache(), progress=progress.bar("read"))
    if as_json:
        console.put_json(plan.to_dict())
    elif plan.given is not None:  # what is chosen is only known once it is measured
        command = f"headstart plan {shlex.quote(data)}"
        console.put(*plan.lines(), "", f"What it would choose, and why: {command}")
    else:
        console.put(*plan.lines(), "", plan.asked.to_toml().rstrip())
