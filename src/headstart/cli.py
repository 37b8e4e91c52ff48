"""The command line: each command parses, calls and prints.

stdout is data, stderr is talk. With ``--json`` stdout holds one JSON document, also on an error.
Exit codes are those of ``headstart.errors``; 1 is a bug of ours, 130 and 143 are signals. Nothing
heavy is imported before a command needs it.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from headstart import __version__, cli_compare, console
from headstart.errors import DataError, HeadstartError, ResourceError, UsageError
from headstart.files import write_text
from headstart.options import (
    DEFAULT_BACKBONE,
    Options,
    parse_gates,
    parse_numbers,
    parse_settings,
    parse_share,
)

if TYPE_CHECKING:
    from headstart.fitting import Fitted

__all__ = ["app", "main"]

# typer once used the package click and now carries it inside; either way its errors have this base.
_CommandLineError: type[Any] = typer.BadParameter.__mro__[2]
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled images and a pre-trained network to a classifier you can trust.",
)
cache_app = typer.Typer(no_args_is_help=True, help="What is remembered between runs, and where.")
app.add_typer(cache_app, name="cache")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
MaxBad = Annotated[
    str, typer.Option(help="Share of unreadable images above which the data is refused.")
]
BatchSize = Annotated[int | None, typer.Option(help="Images a step and a forward pass.")]
Backbone = Annotated[str, typer.Option(help="The pre-trained network, as zoo:name.")]
Weights = Annotated[Path | None, typer.Option(help="A file of weights to load into it.")]
Resize = Annotated[str | None, typer.Option(help="crop, squash or pad; default: the network's.")]
Size = Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")]
Triple = Annotated[str | None, typer.Option(help="Of --weights: three numbers, as 0.5,0.5,0.5.")]
Noncommercial = Annotated[
    bool, typer.Option("--allow-noncommercial", help="Take weights of a non-commercial licence.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder of class folders, or a name such as elpv.")
]


@app.command()
def fit(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="The run folder. Default: runs/DATA-STRATEGY-SEED")
    ] = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    weights: Weights = None,
    mean: Triple = None,
    std: Triple = None,
    strategy: Annotated[
        str, typer.Option(help="What is trained, and how: a name (docs/strategy.md) or a .toml.")
    ] = "feature-extraction",
    head: Annotated[
        str, typer.Option(help="linear, linear,dropout=0.2, mlp:256,dropout=0.5/0.3")
    ] = "linear",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every phase that trains, or of the head.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="none, light, standard, strong or shear-zoom.")
    ] = None,
    symmetry: Annotated[
        str | None, typer.Option(help="Mirror images that mean the same: none, flip or square.")
    ] = None,
    average: Annotated[
        str, typer.Option(help="Average predictions over mirror images: none, flip or square.")
    ] = "none",
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
        str | None, typer.Option(help="Shares of train, val, test. Default: 0.7,0.15,0.15")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Train on N images at most.")] = None,
    limit_per_class: Annotated[
        int | None, typer.Option(help="Train on N images a class at most.")
    ] = None,
    class_weights: Annotated[
        str, typer.Option(help="none; balanced gives rare classes more weight.")
    ] = "none",
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
    save_minutes: Annotated[
        float, typer.Option(help="Save a run that trains at least this often.")
    ] = 5.0,
    max_bad: MaxBad = "1%",
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
    options = Options(
        backbone=backbone,
        weights=weights,
        mean=parse_numbers("mean", mean),
        std=parse_numbers("std", std),
        strategy=strategy,
        head=head,
        epochs=epochs,
        lr=lr,
        augment=augment,
        symmetry=symmetry,
        average=average,
        views=views,
        train=parse_settings(train or []),
        size=size,
        resize=resize,
        split=parse_numbers("split", split),
        limit=limit,
        limit_per_class=limit_per_class,
        class_weights=class_weights,
        seed=seed,
        split_seed=split_seed,
        device=device,
        precision=precision,
        batch_size=batch_size,
        refit=not no_refit,
        save_minutes=save_minutes,
        max_bad=parse_share("max-bad", max_bad),
        minimum=parse_gates(minimum or []),
        allow_noncommercial=allow_noncommercial,
    )
    if dry_run:
        _dry_run(data, options, as_json)
        return
    from headstart.fitting import fit as fit_images

    command = shlex.join(["headstart", *sys.argv[1:]])
    with console.Progress() as progress:
        fitted = fit_images(data, out, listener=progress, command=command, **vars(options))
    _show(fitted, as_json)


def _show(fitted: Fitted, as_json: bool) -> None:
    if as_json:
        console.put_json(fitted.report.to_dict())
        return
    console.put(*console.summary(fitted.report), "", str(fitted.folder / "report.html"))


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that stopped.")],
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the images have changed.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a run where it stopped; on a CPU bit by bit as if it had not."""
    from headstart.fitting import resume as go_on

    with console.Progress() as progress:
        fitted = go_on(run, listener=progress, force=force)
    _show(fitted, as_json)


def _dry_run(data: str, options: Options, as_json: bool) -> None:
    from headstart.cache import Cache
    from headstart.plan import make_plan

    with console.Progress() as progress:
        plan = make_plan(data, options, cache=Cache(), progress=progress.bar("read"))
    if as_json:
        console.put_json(plan.to_dict())
    else:
        console.put(*plan.lines(), "", plan.asked.to_toml().rstrip())


@app.command()
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


@app.command()
def evaluate(
    run: RunFolder,
    data: Data,
    device: Device = "auto",
    precision: Precision = "auto",
    max_bad: MaxBad = "1%",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a finished run on other labelled images; classes are matched by name."""
    share = parse_share("max-bad", max_bad)
    from headstart.classifier import load

    classifier = load(run, device=device, precision=precision)
    console.talk(*(f"note: {note}" for note in classifier.notes))
    with console.Progress() as progress:
        scores = classifier.evaluate(data, max_bad=share, progress=progress.bar("features"))
    if as_json:
        console.put_json(scores.to_dict())
        return
    console.put(*console.scores_table(scores.split, scores.evaluation.metrics))
    console.talk(*(f"failed: {failure.name}: {failure.reason}" for failure in scores.failed))


@app.command()
def embed(
    data: Data,
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    backbone: Backbone = DEFAULT_BACKBONE,
    weights: Weights = None,
    mean: Triple = None,
    std: Triple = None,
    size: Size = None,
    resize: Resize = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    max_bad: MaxBad = "1%",
    allow_noncommercial: Noncommercial = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the features of images as a .npz file: features, paths, labels."""
    options = Options(
        backbone=backbone,
        weights=weights,
        mean=parse_numbers("mean", mean),
        std=parse_numbers("std", std),
        size=size,
        resize=resize,
        device=device,
        precision=precision,
        batch_size=batch_size,
        max_bad=parse_share("max-bad", max_bad),
        allow_noncommercial=allow_noncommercial,
    )
    from headstart.embedding import embed as embed_images

    with console.Progress() as progress:
        embedding = embed_images(data, options, progress=progress.bar("features"))
    embedding.write(out)
    if as_json:
        console.put_json({"out": str(out), **embedding.to_dict()})
    else:
        console.put(str(out))
    console.talk(*(f"failed: {failure.name}: {failure.reason}" for failure in embedding.failed))


cli_compare.add_commands(app)


@cache_app.command("list")
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


@cache_app.command("clear")
def cache_clear(as_json: Json = False, debug: Debug = False) -> None:
    """Forget everything that is remembered; it can all be computed again."""
    from headstart.cache import Cache

    cache = Cache()
    freed = cache.clear()
    if as_json:
        console.put_json({"folder": str(cache.folder), "freed": freed})
    else:
        console.put(f"freed {freed / 1e6:.1f} MB in {cache.folder}")


def _version(value: bool) -> None:
    if value:
        console.put(f"headstart {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names may hold any bytes
    sys.exit(_run())


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by way of every ``finally``, so that what was computed is kept."""
    sys.exit(_TERMINATED)


def _run() -> int:
    try:
        result = app(standalone_mode=False)
    except HeadstartError as error:
        return _fail(error, error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail(_Interrupted(), _INTERRUPTED)
    except SystemExit as error:
        if error.code == _TERMINATED:
            return _fail(_Interrupted(), _TERMINATED)
        return 0  # typer's answer to a reader that left: nobody is there to be told
    except _CommandLineError as error:
        if len(sys.argv) < 3 and "help" in type(error).__name__.lower():  # nothing was asked for
            console.talk(error.format_message())
            return 2
        command = error.ctx.command_path if error.ctx is not None else "headstart"
        return _fail(UsageError(error.format_message(), hint=f"See: {command} --help"), 2)
    except OSError as error:  # a file or device of this machine, not a bug of ours
        return _fail(_from_system(error), ResourceError.exit_code)
    except Exception as error:  # whatever is not in our tree is a bug of ours
        return _fail(_Bug(error), 1)
    return _fail(_Interrupted(), result) if result == _INTERRUPTED else 0  # typer tells it so


def _from_system(error: OSError) -> ResourceError:
    name = None if error.filename is None else os.fsdecode(error.filename)
    reason = error.strerror or str(error)
    message = f"{reason}." if name is None else f"{name}: {reason}."
    return ResourceError(
        message, field=name, hint="Make it readable and writable, or name another; see --debug."
    )


class _Interrupted(HeadstartError):
    """The user, or the system, sent a signal to stop."""

    id = "interrupted"

    def __init__(self) -> None:
        super().__init__(
            "Stopped by a signal.",
            hint="What was computed is kept: the same command, or headstart resume RUN, goes on.",
        )


class _Bug(HeadstartError):
    """An exception nobody meant to raise."""

    id = "bug"

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"This is a bug in headstart: {type(error).__name__}: {error}",
            hint="Run it again with --debug and report what it prints.",
        )


def _fail(error: HeadstartError, code: int) -> int:
    """Print an error as the command line promises, and return its exit code."""
    if "--json" in sys.argv:
        console.put_json({"error": error.to_dict()})
    console.talk(f"{error.id}: {error}")
    if "--debug" in sys.argv:
        traceback.print_exc()
    return code
