"""The commands that fit many times: ``compare`` and ``study``."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart import console
from headstart.cli_options import (
    Augment,
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
    Precision,
    Resize,
    Root,
    Size,
    Test,
)
from headstart.cli_values import parse_reading, parse_share, parse_split
from headstart.options import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from headstart.comparison import Comparison

__all__ = ["add_commands", "parse_list"]

STRATEGIES = "feature-extraction,probe-then-fine-tune,last-blocks:2"  # as in comparing

Backbones = Annotated[str, typer.Option(help="Networks as zoo:name, with commas between.")]
Seeds = Annotated[int, typer.Option(help="Run everything with so many seeds, from 0 on.")]
Out = Annotated[Path | None, typer.Option(help="The folder for runs, table, figure and page.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of every phase that trains.")]
Rate = Annotated[float | None, typer.Option(help="The highest learning rate of every strategy.")]
Head = Annotated[str, typer.Option(help="linear, linear,dropout=0.2 or mlp:256,dropout=0.5/0.3.")]
Split = Annotated[str | None, typer.Option(help="Shares of train, val, test, or a split.csv.")]
SplitSeed = Annotated[int, typer.Option(help="Decides the split, which all runs share.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("compare")(compare)
    app.command("study")(study)


def compare(
    data: Data,
    strategies: Annotated[
        str, typer.Option(help="Names, or TOML files, with commas between.")
    ] = STRATEGIES,
    backbones: Backbones = DEFAULT_BACKBONE,
    seeds: Seeds = 3,
    out: Out = None,
    epochs: Epochs = None,
    lr: Rate = None,
    head: Head = "linear",
    augment: Augment = None,
    size: Size = None,
    resize: Resize = None,
    split: Split = None,
    split_seed: SplitSeed = 0,
    limit: Limit = None,
    limit_per_class: LimitPerClass = None,
    class_weights: ClassWeights = "none",
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    max_bad: MaxBad = "1%",
    column: Column = None,
    root: Root = None,
    nested: Nested = False,
    classes: Classes = None,
    group_by: GroupBy = None,
    test: Test = None,
    allow_noncommercial: Noncommercial = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit every strategy on every backbone with every seed, on one split, and compare them."""
    options: dict[str, Any] = {
        "epochs": epochs,
        "lr": lr,
        "head": head,
        "augment": augment,
        "size": size,
        "resize": resize,
        "split": parse_split(split),
        "split_seed": split_seed,
        "limit": limit,
        "limit_per_class": limit_per_class,
        "class_weights": class_weights,
        "device": device,
        "precision": precision,
        "batch_size": batch_size,
        "max_bad": parse_share("max-bad", max_bad),
        "allow_noncommercial": allow_noncommercial,
        **parse_reading(column, root, nested, classes, group_by, test),
    }
    from headstart.comparing import compare as compare_fits

    with console.Progress() as progress:
        comparison = compare_fits(
            data,
            strategies=parse_list(strategies),
            backbones=parse_list(backbones),
            seeds=seeds,
            out=out,
            listener=_Talk(progress),
            command=_command(),
            **options,
        )
    if as_json:
        console.put_json(comparison.to_dict())
        return
    console.put(*_table(comparison), "", *_verdicts(comparison), "", _page(comparison))


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which study; or list.")],
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A folder of class folders, or a name.")
    ] = None,
    backbones: Backbones = DEFAULT_BACKBONE,
    seeds: Seeds = 3,
    out: Out = None,
    epochs: Epochs = None,
    size: Size = None,
    limit: Limit = None,
    limit_per_class: LimitPerClass = None,
    device: Device = "auto",
    precision: Precision = "auto",
    max_bad: MaxBad = "1%",
    column: Column = None,
    root: Root = None,
    nested: Nested = False,
    classes: Classes = None,
    group_by: GroupBy = None,
    test: Test = None,
    allow_noncommercial: Noncommercial = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a prepared comparison, with its question and answer; list shows them all."""
    from headstart.errors import UsageError
    from headstart.study import run_study, studies

    if name == "list":
        if as_json:
            listed = [{"name": it.name, "question": it.question} for it in studies()]
            console.put_json({"studies": listed})
            return
        console.put(*(f"{it.name:<22}{it.question}" for it in studies()))
        return
    if data is None:
        raise UsageError(
            f"The study {name} needs images.",
            field="data",
            hint=f"Name a folder of class folders: headstart study {name} photos",
        )
    given: dict[str, Any] = {
        "epochs": epochs,
        "limit": limit,
    }  # a study has its own, unless these are given
    with console.Progress() as progress:
        result = run_study(
            name,
            data,
            out=out,
            seeds=seeds,
            listener=_Talk(progress),
            command=_command(),
            backbones=parse_list(backbones),
            size=size,
            limit_per_class=limit_per_class,
            device=device,
            precision=precision,
            max_bad=parse_share("max-bad", max_bad),
            allow_noncommercial=allow_noncommercial,
            **parse_reading(column, root, nested, classes, group_by, test),
            **{name: value for name, value in given.items() if value is not None},
        )
    if as_json:
        console.put_json(result.to_dict())
        return
    comparison = result.comparison
    console.put(result.study.question, "", *_table(comparison), "", *_verdicts(comparison), "")
    console.put(result.answer, "", str(comparison.folder and comparison.folder / "README.md"))


def parse_list(text: str) -> list[str]:
    """Split ``a,b`` at its commas, but not inside arguments as in ``gradual:epochs=2/3/5,rates=…``.

    A part that is ``name=value`` belongs to the one before it.
    """
    parts: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if parts and ":" in parts[-1] and re.match(r"\w+=", part):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _command() -> str:
    return shlex.join(["headstart", *sys.argv[1:]])


class _Talk:
    """Tells of many fits: a line when each begins and one when it ends, bars between."""

    def __init__(self, progress: console.Progress) -> None:
        self._progress = progress

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of a fit or of the comparison."""
        if event["event"] == "run":
            what = f"{event['strategy']} on {event['backbone']}, seed {event['seed']}"
            console.talk(f"run {event['number']} of {event['of']}: {what}")
        elif event["event"] == "ran" and event["failed"] is not None:
            console.talk(f"  failed: {event['failed']}")
        elif event["event"] == "ran":
            console.talk(f"  accuracy {event['accuracy']:.3f} after {event['took']:.1f} s")
        elif event["event"] == "progress":
            self._progress(event)


def _table(comparison: Comparison) -> list[str]:
    """Return the groups as lines, the best on val first."""
    width = max(len(group.label) for group in comparison.summary)
    lines = [f"{'':<{width}}  test accuracy (95 % interval)     val      time       trained"]
    for group in comparison.by_val:
        test = group.accuracy
        interval = f"{test.value:.3f} ({test.low:.3f} to {test.high:.3f})"
        val = "–" if group.val_accuracy is None else f"{group.val_accuracy:.3f}"
        trained = "–" if group.trainable is None else f"{group.trainable:,}"
        line = f"{group.label:<{width}}  {interval:<31}{val:>6}{group.seconds:>8.1f} s{trained:>14}"
        lines.append(line)
    failed = [row for row in comparison.rows if row.failed is not None]
    lines += [f"failed: {row.run}: {row.failed}" for row in failed]
    return lines


def _verdicts(comparison: Comparison) -> list[str]:
    lines = [pair.verdict for pair in comparison.pairs]
    if comparison.best_on_val is not None:
        chosen = comparison.best_on_val
        lines.append(f"val chooses {chosen.label}: test accuracy {chosen.accuracy.value:.3f}")
    return lines


def _page(comparison: Comparison) -> str:
    return str(comparison.folder and comparison.folder / "comparison.html")
