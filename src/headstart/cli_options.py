"""Options and arguments that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.options import DEFAULT_BACKBONE

__all__ = [
    "Augment",
    "Backbone",
    "BatchSize",
    "ClassWeights",
    "Classes",
    "Column",
    "Data",
    "Debug",
    "Device",
    "GroupBy",
    "Json",
    "Limit",
    "LimitPerClass",
    "MaxBad",
    "Nested",
    "Noncommercial",
    "Partial",
    "Precision",
    "Resize",
    "Root",
    "RunFolder",
    "Size",
    "Test",
    "Triple",
    "Weights",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
MaxBad = Annotated[
    str, typer.Option(help="Share of unreadable images above which the data is refused.")
]
BatchSize = Annotated[int | None, typer.Option(help="Images a step and a forward pass.")]
Backbone = Annotated[
    str,
    typer.Option(
        help="The pre-trained network, as zoo:name. Default: that of the run in --weights; else "
        f"the best at hand where the strategy is auto, and {DEFAULT_BACKBONE} where not.",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A file of weights to load into it, or the folder of an earlier run."),
]
Partial = Annotated[
    bool, typer.Option("--allow-partial", help="Take what of --weights fits; the rest is random.")
]
Resize = Annotated[str | None, typer.Option(help="crop, squash or pad; default: the network's.")]
Size = Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")]
Triple = Annotated[
    str | None, typer.Option(help="Of --weights: one number, or three for red, green, blue.")
]
Noncommercial = Annotated[
    bool, typer.Option("--allow-noncommercial", help="Take weights of a non-commercial licence.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders, a table, a zip file, or a name such as elpv.",
    ),
]
Augment = Annotated[str | None, typer.Option(help="none, light, standard, strong or shear-zoom.")]
Limit = Annotated[int | None, typer.Option(help="Train on N images at most.")]
LimitPerClass = Annotated[int | None, typer.Option(help="Train on N images a class at most.")]
ClassWeights = Annotated[str, typer.Option(help="none; balanced gives rare classes more weight.")]
Column = Annotated[
    list[str] | None,
    typer.Option(help="A table's own name for a column, as label=species; may be repeated."),
]
Root = Annotated[
    Path | None,
    typer.Option(help="The folder of a table's paths, or where a named data set is kept."),
]
Nested = Annotated[
    bool, typer.Option("--nested", help="Every folder that holds images is a class: birds/owls.")
]
Classes = Annotated[
    str | None, typer.Option(help="Use these classes only, as cats,dogs; in this order.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help=r"A regular expression on names, as part(\d+): what matches stays together.",
        metavar="REGEX",
    ),
]
Test = Annotated[
    str | None, typer.Option(help="Other images, in any form that DATA may have, to test on.")
]
