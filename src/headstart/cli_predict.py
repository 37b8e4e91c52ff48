"""The commands that use a network as it is: ``predict``, ``evaluate`` and ``embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart import console
from headstart.cli_options import (
    Backbone,
    BatchSize,
    Classes,
    Column,
    Data,
    Debug,
    Device,
    GroupBy,
    Json,
    MaxBad,
    Nested,
    Noncommercial,
    Partial,
    Precision,
    Resize,
    Root,
    RunFolder,
    Size,
    Test,
    Triple,
    Weights,
)
from headstart.cli_values import parse_channels, parse_reading, parse_share
from headstart.errors import DataError
from headstart.files import write_text
from headstart.options import Options

__all__ = ["add_commands"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (predict, evaluate, embed):
        app.command()(command)


def predict(
    run: RunFolder,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, and folders of them.")
    ],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the predictions to this file too.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Classify images; folders are searched recursively. Exit 3 if none could be read."""
    from headstart.classifier import load
    from headstart.data.sources import list_images

    paths = list_images(images)
    classifier = load(run, device=device, precision=precision)
    console.talk(*(f"note: {note}" for note in classifier.notes))
    with console.Progress() as progress:
        found = classifier.predict(paths, errors="skip", progress=progress.bar("predict"))
    failed = [{"path": failure.name, "reason": failure.reason} for failure in found.failed]
    if not found:
        raise _nothing_read(images, failed)
    rows = [prediction.to_dict() for prediction in found]
    if csv_file is not None:
        write_text(csv_file, console.predictions_csv(classifier.classes, rows))
    if as_json:
        console.put_json({"predictions": rows, "failed": failed})
        return
    console.put(*(f"{row['path']}\t{row['label']}\t{row['probability']:.4f}" for row in rows))
    console.talk(*(f"failed: {item['path']}: {item['reason']}" for item in failed))


def _nothing_read(given: list[Path], failed: list[dict[str, str]]) -> DataError:
    what = f"There is no image in {', '.join(map(str, given[:3]))}."
    if failed:
        first = f"{failed[0]['path']}: {failed[0]['reason']}"
        what = f"None of {len(failed)} images could be read; the first, {first}."
    return DataError(
        what, field="image", hint="Give image files, or folders with images in or below them."
    )


def evaluate(
    run: RunFolder,
    data: Data,
    device: Device = "auto",
    precision: Precision = "auto",
    max_bad: MaxBad = "1%",
    column: Column = None,
    root: Root = None,
    nested: Nested = False,
    classes: Classes = None,
    group_by: GroupBy = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a finished run on other labelled images; classes are matched by name."""
    share = parse_share("max-bad", max_bad)
    reading = Options(**parse_reading(column, root, nested, classes, group_by)).reading
    from headstart.classifier import load

    classifier = load(run, device=device, precision=precision)
    console.talk(*(f"note: {note}" for note in classifier.notes))
    with console.Progress() as progress:
        bar = progress.bar("features")
        scores = classifier.evaluate(data, reading=reading, max_bad=share, progress=bar)
    console.talk(*(f"note: {note}" for note in scores.notes))
    if as_json:
        console.put_json(scores.to_dict())
        return
    console.put(*console.scores_table(scores.split, scores.evaluation.metrics))
    console.talk(*(f"failed: {failure.name}: {failure.reason}" for failure in scores.failed))


def embed(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    backbone: Backbone = "",
    weights: Weights = None,
    allow_partial: Partial = False,
    mean: Triple = None,
    std: Triple = None,
    size: Size = None,
    resize: Resize = None,
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
    """Write the features of images as a .npz file: features, paths, labels."""
    options = Options(
        backbone=backbone,
        weights=weights,
        allow_partial=allow_partial,
        mean=parse_channels("mean", mean),
        std=parse_channels("std", std),
        size=size,
        resize=resize,
        device=device,
        precision=precision,
        batch_size=batch_size,
        max_bad=parse_share("max-bad", max_bad),
        **parse_reading(column, root, nested, classes, group_by, test),
        allow_noncommercial=allow_noncommercial,
    )
    from headstart.embedding import embed as embed_images

    with console.Progress() as progress:
        embedding = embed_images(data, options, progress=progress.bar("features"))
    embedding.write(out)
    console.talk(*(f"note: {note}" for note in embedding.notes))
    if as_json:
        console.put_json({"out": str(out), **embedding.to_dict()})
    else:
        console.put(str(out))
    console.talk(*(f"failed: {failure.name}: {failure.reason}" for failure in embedding.failed))
