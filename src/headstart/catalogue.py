"""Every network that there is by name: to search, to look into, to fetch."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headstart.errors import UnknownName, UsageError
from headstart.measuring import BATCH

if TYPE_CHECKING:
    from headstart.backbones.base import Backbone, Listing
    from headstart.measuring import Measured

__all__ = [
    "MOST_MEASURED",
    "blocks",
    "blocks_table",
    "chosen",
    "measured_table",
    "models",
    "models_table",
]

MOST_MEASURED = 20
"""As many networks are measured at once; each takes seconds, and a large one a minute."""

_HERE = {True: "yes", False: "-"}


def models(pattern: str | None = None) -> list[Listing]:
    """List the networks of all zoos, without a network connection.

    Args:
        pattern: A glob such as ``*efficientnet*``, or part of a name; case does not matter. With a
            colon it is about the whole name, ``timm:resnet*``, else about the part behind it.

    Raises:
        UnknownName: Nothing is called so.
    """
    from headstart.backbones import zoo

    known = zoo.listings()
    found = known if pattern is None else [each for each in known if _fits(each.name, pattern)]
    if not found:
        assert pattern is not None
        raise UnknownName("network", pattern, [each.name for each in known], field="pattern")
    return found


def _fits(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    inner = name if ":" in pattern else name.partition(":")[2]
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(inner, pattern)
    return pattern in inner


def chosen(patterns: Sequence[str]) -> list[str]:
    """Return the names of the networks that are to be measured, each once.

    Args:
        patterns: Names, as ``zoo.create`` takes them, or what ``models`` searches by.

    Raises:
        UnknownName: Nothing is called so.
        UsageError: There is no pattern, or more than ``MOST_MEASURED`` networks are meant.
    """
    from headstart.backbones import zoo

    if not patterns:
        raise UsageError(
            "--measure runs each network, and must know which.",
            field="measure",
            hint="Write: headstart models 'bundled:*' --measure",
        )
    exact = {*zoo.names(), *(each.name for each in zoo.listings())}
    found = dict.fromkeys(
        name
        for pattern in patterns
        for name in ([pattern] if pattern in exact else [each.name for each in models(pattern)])
    )
    if len(found) > MOST_MEASURED:
        shown = ", ".join(list(found)[:3])
        raise UsageError(
            f"--measure runs each network, at most {MOST_MEASURED} of them, and {len(found):,} are "
            f"called so: {shown}, ….",
            field="measure",
            hint=f"Name those that are meant: headstart models {next(iter(found))} --measure",
        )
    return list(found)


def blocks(backbone: Backbone) -> dict[str, Any]:
    """Describe how a network is cut, as plain JSON.

    Returns:
        ``name``, ``zoo``, ``input`` (height and width in pixels), ``feature_dim``, ``classifier``
        (the layer that was taken off, or None), ``layers`` (as ``freeze-first:Nlayers`` counts
        them: activations and pooling too), ``stages``, ``notes``, and ``blocks``: ``name``,
        ``stage``, ``stride`` in pixels, ``layers`` and ``parameters`` of each.
    """
    from headstart.backbones.base import layers as layers_of

    counted = [sum(1 for _ in layers_of(block.module)) for block in backbone.blocks]
    return {
        "name": backbone.full_name,
        "zoo": backbone.zoo,
        "input": [backbone.input_spec.height, backbone.input_spec.width],
        "feature_dim": backbone.feature_dim,
        "classifier": backbone.classifier,
        "layers": sum(counted),
        "stages": list(backbone.stages),
        "notes": list(backbone.notes),
        "blocks": [
            {
                "name": block.name,
                "stage": block.stage,
                "stride": block.stride,
                "layers": layers,
                "parameters": sum(p.numel() for p in block.module.parameters()),
            }
            for block, layers in zip(backbone.blocks, counted, strict=True)
        ],
    }


def models_table(found: Sequence[Listing]) -> list[str]:
    """Return the lines of ``headstart models``, a heading first."""
    rows = [("name", "parameters", "input", "top-1", "licence of the weights", "here")]
    for each in found:
        rows.append(
            (
                each.name,
                "-" if each.parameters is None else f"{each.parameters / 1e6:.1f} M",
                "-" if each.input is None else str(each.input),
                "-" if each.top1 is None else f"{each.top1:.3f}",
                each.licence or "-",
                _HERE[each.cached],
            )
        )
    return _aligned(rows, right=(1, 2, 3))


def blocks_table(found: dict[str, Any]) -> list[str]:
    """Return the lines of ``headstart models --blocks``."""
    rows = [("block", "name", "stage", "stride", "layers", "parameters")]
    for number, block in enumerate(found["blocks"]):
        stride = str(block["stride"] or "-")
        counts = (f"{block['layers']}", f"{block['parameters']:,}")
        rows.append((str(number), block["name"], block["stage"], stride, *counts))
    off = found["classifier"]
    height, width = found["input"]
    return [
        f"{found['name']}: {height} x {width} pixels -> {found['feature_dim']} features",
        *_aligned(rows, right=(0, 3, 4, 5)),
        f"last layer: {off}, taken off" if off else "last layer: none was taken off",
        *(f"note: {note}" for note in found["notes"]),
    ]


def measured_table(found: Sequence[Measured]) -> list[str]:
    """Return the lines of ``headstart models NAMES --measure``, a heading first."""
    head = ("name", "weights", "parameters", "input", "top-1", "bf16 ms", "fp32 ms")
    rows = [(*head, "peak memory", "on disk")]
    for each in found:
        rows.append(
            (
                each.name,
                each.weights,
                f"{each.parameters / 1e6:.1f} M",
                " x ".join(str(side) for side in dict.fromkeys(each.input)),
                "-" if each.top1 is None else f"{each.top1:.3f}",
                "-" if each.bf16_ms is None else f"{each.bf16_ms:.2f}",
                f"{each.fp32_ms:.2f}",
                _megabytes(each.peak_bytes),
                _megabytes(each.disk_bytes),
            )
        )
    first = found[0]
    threads = f", {first.threads} threads" if first.device == "cpu" else ""
    return [
        *_aligned(rows, right=(2, 3, 4, 5, 6, 7, 8)),
        f"ms: an image's forward pass in a batch of {BATCH} on {first.device}{threads}; fit tries "
        f"{first.precision} first.",
        *_on_gpu(found),
        "peak memory: of the whole process, Python and PyTorch included. on disk: as a run keeps "
        "the weights, without the classifier.",
    ]


def _on_gpu(found: Sequence[Measured]) -> list[str]:
    taken = [each.gpu_bytes for each in found if each.gpu_bytes is not None]
    return [f"memory of the GPU: at most {_megabytes(max(taken))}."] if taken else []


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.0f} MB"


def _aligned(rows: Sequence[tuple[str, ...]], right: Sequence[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
