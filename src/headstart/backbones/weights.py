"""Weights matched with a network's tensors by name and shape, and loaded into it.

::

    tensors = read_weights(path)                          # what the file has
    found = match(network.state_dict(), tensors, heads, source=str(path))
    network.load_state_dict(found.values, strict=False)
    print(found.summary)                                  # 9 of 9 tensors matched

Files name a network's tensors as it does, or with something before each name (``backbone.``,
``model.encoder.``): the prefix under which most of the network's names are found is taken off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from headstart.backbones.weights_file import read_candidates
from headstart.errors import ModelError

__all__ = ["Convert", "Match", "compare", "load_weights", "match"]

Tensors = Mapping[str, torch.Tensor]
Convert = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]

_ENOUGH = 0.9  # of the network's tensors; with fewer, part of it would be random
# Fewer bits stand for numbers only with a scale beside them, which no two formats write alike.
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_COUNTER = "num_batches_tracked"  # files from before 2017 have none, and nothing reads them
_OUR_HEAD = "headstart_head"  # as a classifier's folder calls a head that is not one linear layer
# Of two copies of a network under two prefixes, the one that was averaged over the steps.
_AVERAGES = ("ema", "teacher", "target")


@dataclass(frozen=True, slots=True)
class Match:
    """What of a network a set of tensors holds; classifier layers don't count on either side.

    Attributes:
        source: Where the tensors came from, in words.
        total: How many tensors the network has.
        matched: Names of those that are there, in the network's shape.
        missing: Names of those that are not there; step counters, which nothing reads, left out.
        unexpected: Names of tensors that the network has no place for.
        misshaped: Names of those that are there and don't fit, with the reason in words.
        prefix: What the tensors had before every name of the network, such as ``backbone.``.
        values: The matched tensors under the network's names.
    """

    source: str
    total: int
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: Mapping[str, str]
    prefix: str
    values: Tensors = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.summary

    @property
    def random(self) -> tuple[str, ...]:
        """Names of the network's tensors that keep the random numbers they were made with."""
        return self.missing + tuple(self.misshaped)

    @property
    def summary(self) -> str:
        """Counts and a few names of everything that is not as it should be, in one sentence."""
        parts = [f"{len(self.matched)} of {self.total} tensors matched"]
        if self.prefix:
            parts.append(f"under {self.prefix}")
        for names, what in (
            (self.missing, "missing, left random"),
            (self.misshaped, "of another shape, left random"),
            (self.unexpected, "not used"),
        ):
            parts += [f"{len(names)} {what} ({_some(names)})"] * bool(names)
        return "; ".join(parts)

    @property
    def told(self) -> str:
        """The source and what of it matched, as ``Backbone.weights`` says it."""
        return f"{self.source} ({self.summary})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know beside the summary: that part of the network is random."""
        if not self.random:
            return ()
        return (
            f"Only a part of the network is pre-trained: {self.source} gives {len(self.matched)} "
            f"of its {self.total} tensors; {len(self.random)} start from random numbers "
            f"({_some(self.random)}).",
        )


def load_weights(
    network: nn.Module,
    path: Path,
    heads: Sequence[str] = (),
    *,
    allow_partial: bool = False,
    convert: Convert | None = None,
) -> Match:
    """Load a file of weights into ``network``, matched by name and shape.

    Where the file holds several state dicts, that of which most matches is taken, an average of
    steps before the last step's where both match alike; the result names it.

    Args:
        network: Takes the weights, in place.
        path: The file.
        heads: Dotted names of classifier layers: they may miss, or be of another shape.
        allow_partial: Take what fits, however little, and leave the rest random.
        convert: Turns tensors of other names or sizes into the network's, or gives None; used
            where more of them match afterwards.

    Returns:
        What matched; as a string, its summary.

    Raises:
        UnsafeFile: The file could run code when read.
        ModelError: It can't be read, or does not fit the network.
    """
    own, label = network.state_dict(), _label(path)
    matches = []
    for key, tensors in read_candidates(path).items():
        source = f"{key} in {label}" if key else label
        matches.append(_with_conversion(own, tensors, heads, source, convert))
    found = max(matches, key=lambda it: len(it.matched))
    _judge(found, str(path), own, allow_partial=allow_partial)
    network.load_state_dict(dict(found.values), strict=False)
    return found


def _with_conversion(
    own: Tensors, tensors: Tensors, heads: Sequence[str], source: str, convert: Convert | None
) -> Match:
    """Match tensors as they are, and as ``convert`` makes them; return the better match."""
    found = compare(own, tensors, heads, source=source)
    if convert is None or not found.random:
        return found
    converted = convert(_under(found.prefix, tensors))
    if converted is None:
        return found
    other = compare(own, converted, heads, source=source)
    return max(found, other, key=lambda it: len(it.matched))


def match(
    own: Tensors,
    tensors: Tensors,
    heads: Sequence[str] = (),
    *,
    source: str,
    allow_partial: bool = False,
) -> Match:
    """Match tensors with a network's own, and refuse what does not fit.

    Args:
        own: The network's tensors by name.
        tensors: What there is to load.
        heads: Dotted names of classifier layers, left out on both sides.
        source: Where ``tensors`` came from, for messages.
        allow_partial: Accept any match but none at all; tensors of another shape count as missing.

    Raises:
        ModelError: Less than nine tenths of the network's tensors are there, one has another shape,
            or one holds a number that is not finite.
    """
    found = compare(own, tensors, heads, source=source)
    _judge(found, source, own, allow_partial=allow_partial)
    return found


def compare(own: Tensors, tensors: Tensors, heads: Sequence[str] = (), *, source: str) -> Match:
    """Match tensors with a network's own by name and shape, without judging the result."""
    wanted = _without(own, heads)
    prefix = _prefix(wanted, tensors)
    given = _without(_under(prefix, tensors), heads)
    misshaped = {
        name: problem
        for name, tensor in wanted.items()
        if name in given and (problem := _difference(given[name], tensor))
    }
    matched = tuple(name for name in wanted if name in given and name not in misshaped)
    rest = tuple(name for name in tensors if not name.startswith(prefix))
    return Match(
        source=source,
        total=len(wanted),
        matched=matched,
        missing=tuple(n for n in wanted if n not in given and not n.endswith(_COUNTER)),
        unexpected=tuple(name for name in given if name not in wanted) + rest,
        misshaped=misshaped,
        prefix=prefix,
        values={name: given[name] for name in matched},
    )


def _difference(given: torch.Tensor, own: torch.Tensor) -> str:
    """Say why a tensor can't take the place of the network's; "" where it can."""
    if given.shape != own.shape:
        return f"has the shape {tuple(given.shape)} and should have {tuple(own.shape)}"
    if given.dtype not in (_FLOATS if own.is_floating_point() else _FLOATS + _WHOLE):
        return f"holds {_type(given)} and should hold {_type(own)}"
    return ""


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _prefix(own: Tensors, tensors: Tensors) -> str:
    """Find what stands before most of the network's names; "" where fewer than half are there."""
    deepest = max((name.count(".") + 1 for name in own), default=0)
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.rsplit(".", deepest)
        for start in range(len(parts)):
            end = ".".join(parts[start:])
            if end in own:
                counts[name.removesuffix(end)] += 1
    most = max(counts.values(), default=0)
    if 2 * most < len(own) or counts[""] == most:
        return ""
    best = [prefix for prefix, count in counts.items() if count == most]
    averages = [prefix for prefix in best if any(word in prefix for word in _AVERAGES)]
    return (averages or best)[0]


def _under(prefix: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _without(tensors: Tensors, heads: Sequence[str]) -> dict[str, torch.Tensor]:
    beginnings = tuple(f"{head}." for head in (*heads, _OUR_HEAD))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(beginnings)}


def _judge(found: Match, source: str, own: Tensors, *, allow_partial: bool) -> None:
    """Refuse what does not fit the network, or holds numbers that can't be used."""
    unfit = f"{source} does not fit this network: "
    if found.misshaped and not allow_partial:
        name, problem = next(iter(found.misshaped.items()))
        unfit += f"{name} {problem} ({len(found.misshaped)} of {found.total} tensors don't fit)."
        raise _unfit(unfit, found)
    too_few = len(found.random) > (1 - _ENOUGH) * found.total
    if (too_few and not allow_partial) or not found.matched:
        unfit += f"{len(found.matched)} of its {found.total} tensors are there; "
        unfit += f"missing are {_some(found.random)}; what it has instead is "
        raise _unfit(f"{unfit}{_some(found.unexpected)}.", found)
    for name, tensor in found.values.items():
        if not _finite(tensor, own[name]):
            raise ModelError(
                f"{source}: {name} holds numbers that are not finite.",
                field="weights",
                hint="Training broke off there; use a file that was saved before.",
            )


def _unfit(message: str, found: Match) -> ModelError:
    hint = "Name the network that the file was made for with --backbone, "
    hint += "and its --size" if found.misshaped else "in the zoo it came from"
    if found.matched:
        hint += "; or load what fits, and leave the rest random, with --allow-partial"
    return ModelError(message, field="weights", hint=f"{hint}.")


def _finite(tensor: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether all numbers are finite, in the type they are loaded as."""
    return bool(torch.isfinite(tensor.to(own.dtype)).all())


def _label(path: Path) -> str:
    """Name a file; one that is called as in every classifier's folder, with its folders."""
    if path.name != "model.safetensors":
        return path.name
    return "/".join(path.absolute().parts[-3:])


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:3]) or "nothing"
    return f"{shown}, …" if len(names) > 3 else shown
