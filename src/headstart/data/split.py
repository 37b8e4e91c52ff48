"""Three disjoint sets of images, train, val and test, with a digest that names them everywhere.

No random numbers: images stand in the order of a hash of (seed, image digest). So a split does
not depend on file names or on the order of a listing, copies of one image stay on one side, and an
added image moves few others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.data.items import Item
from headstart.errors import DataError, UsageError
from headstart.files import digest

__all__ = ["FRACTIONS", "Fractions", "Split", "limit", "make_split"]

Fractions = tuple[float, float, float]
FRACTIONS: Fractions = (0.7, 0.15, 0.15)

_PARTS = ("train", "val", "test")
_CARVED: Fractions = (0.85, 0.15, 0.0)  # train and val, where test is given


@dataclass(frozen=True, slots=True)
class Split:
    """Positions in the list of items; disjoint, each ascending.

    Attributes:
        train: To learn from.
        val: To choose on.
        test: To report on, opened once.
        digest: SHA-256 over who is where: part, item name, image digest and label of each item.
        origin: Where the split comes from, in a few words.
        notes: What was done to the data's own split, one sentence each.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    digest: str
    origin: str
    notes: tuple[str, ...] = ()

    def without(self, positions: Collection[int]) -> Split:
        """Leave out images that turned out to be unreadable.

        The digest stays: it names the split as it was planned.
        """

        def kept(part: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(index for index in part if index not in positions)

        return replace(self, train=kept(self.train), val=kept(self.val), test=kept(self.test))


def make_split(
    items: Sequence[Item],
    digests: Sequence[str],
    *,
    fractions: Fractions | None = None,
    seed: int = 0,
) -> Split:
    """Split a data set: as its own split folders say, else stratified by class.

    Without split folders each class is shared out by ``fractions``, 70/15/15 by default, so that
    the whole comes as near to them as it can. A class of three or more different images has at
    least one in every part, a class of two in train and test, a single one goes to train. With
    split folders but no val, val is 15 % of train, carved in the same way.

    Args:
        items: All usable images.
        digests: Their image digests, in the same order.
        fractions: Shares of train, val and test.
        seed: Another seed, another split.

    Raises:
        UsageError: Impossible fractions, or fractions for data that has its own split folders.
        DataError: The data's own split has no train.
    """
    given = [item.split for item in items]
    everything = range(len(items))
    notes: tuple[str, ...] = ()
    if not any(given):
        shares = _checked(FRACTIONS if fractions is None else fractions)
        parts = _shared_out(items, digests, everything, shares, seed)
        origin = f"{'/'.join(f'{100 * share:g}' for share in shares)}, stratified, seed {seed}"
    elif fractions is not None:
        raise UsageError(
            "The data has its own split folders, so no other split can be asked for.",
            field="split",
            hint="Leave --split out, or give a folder of class folders.",
        )
    else:
        parts = {part: [i for i in everything if given[i] == part] for part in _PARTS}
        origin = "the data's own"
        if parts["train"] and not parts["val"]:
            parts |= _carved(items, digests, parts["train"], seed)
            notes = (f"val is 15 % of train, stratified, seed {seed}: the data has none.",)
    if not parts["train"]:
        raise DataError(
            f"None of the {len(items)} images is in train.",
            field="data",
            hint="Give a folder that holds train/ and test/, or one of class folders.",
        )
    train, val, test = (tuple(sorted(parts[part])) for part in _PARTS)
    return Split(train, val, test, _digest((train, val, test), items, digests), origin, notes)


def limit(
    split: Split,
    labels: Sequence[str],
    digests: Sequence[str],
    *,
    n: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Split:
    """Thin the training set, stratified; val and test stay as they are.

    The images are taken in the split's own order, so that a smaller limit's are among a larger
    one's, and every class keeps at least one.

    Args:
        split: The split to thin.
        labels: The label of every item the split was made of.
        digests: Their image digests.
        n: Training images in all.
        per_class: Training images a class.
        seed: The split's seed.

    Raises:
        UsageError: ``per_class`` below 1, or ``n`` below the number of classes.
    """
    ranked: dict[str, list[int]] = defaultdict(list)
    for index in sorted(split.train, key=lambda index: _rank(seed, digests[index])):
        ranked[labels[index]].append(index)
    if per_class is not None:
        _at_least(1, per_class, "limit-per-class")
        ranked = {label: members[:per_class] for label, members in ranked.items()}
    train = _interleaved(ranked)
    if n is not None:
        _at_least(len(ranked), n, "limit")
        train = train[:n]
    if len(train) == len(split.train):
        return split
    kept = sorted(digest(labels[index], digests[index]) for index in train)
    return replace(
        split,
        train=tuple(sorted(train)),
        digest=digest(split.digest, *kept),
        origin=f"{split.origin}; train thinned to {len(train)}",
    )


def _checked(fractions: Sequence[float]) -> Fractions:
    if (
        len(fractions) != 3
        or not all(share >= 0 for share in fractions)
        or abs(sum(fractions) - 1) > 1e-6
        or not (fractions[0] > 0 and fractions[2] > 0)
    ):
        given = ",".join(f"{share:g}" for share in fractions)
        raise UsageError(
            f"The split must be three shares of at least 0 that sum to 1, not {given}.",
            field="split",
            hint="train and test need a share of their own: 0.7,0.15,0.15 is usual.",
        )
    train, val, test = fractions
    return train, val, test


def _at_least(least: int, value: int, option: str) -> None:
    if value < least:
        raise UsageError(
            f"--{option} must be at least {least}, so that each class keeps an image; got {value}.",
            field=option,
            hint=f"Leave --{option} out to train on all of them.",
        )


def _digest(parts: Sequence[Sequence[int]], items: Sequence[Item], digests: Sequence[str]) -> str:
    lines = [
        digest(part, items[index].name, digests[index], items[index].label)
        for part, indices in zip(_PARTS, parts, strict=True)
        for index in indices
    ]
    return digest(*sorted(lines))


def _rank(seed: int, image_digest: str) -> str:
    return digest(str(seed), image_digest)


def _interleaved(ranked: Mapping[str, Sequence[int]]) -> list[int]:
    """Order all members so that any beginning of the list is stratified.

    The first of every class comes first; then each stands where its share of its class puts it.
    """
    keyed = [
        (position > 0, (position + 0.5) / len(members), label, index)
        for label, members in ranked.items()
        for position, index in enumerate(members)
    ]
    return [index for *_, index in sorted(keyed)]


def _carved(
    items: Sequence[Item], digests: Sequence[str], train: Sequence[int], seed: int
) -> dict[str, list[int]]:
    parts = _shared_out(items, digests, train, _CARVED, seed)
    return {"train": parts["train"], "val": parts["val"]}


def _shared_out(
    items: Sequence[Item],
    digests: Sequence[str],
    indices: Iterable[int],
    shares: Fractions,
    seed: int,
) -> dict[str, list[int]]:
    """Share out the images class by class.

    What rounding owes a part, the next class pays, so that the sizes of the parts add up. That
    is one image at most: where small classes force a part to grow, the others keep their shares.
    """
    copies = defaultdict(list)  # images that are the same to the byte go together
    for index in indices:
        copies[digests[index]].append(index)
    classes = defaultdict(list)
    for image, members in copies.items():
        classes[min(items[index].label for index in members)].append(image)

    parts: dict[str, list[int]] = {part: [] for part in _PARTS}
    owed = [0.0, 0.0, 0.0]
    for _, images in sorted(classes.items()):
        images.sort(key=lambda image: _rank(seed, image))
        sizes = [len(copies[image]) for image in images]
        ideal = [share * sum(sizes) + debt for share, debt in zip(shares, owed, strict=True)]
        placed = [0, 0, 0]
        for image, place in zip(images, _places(sizes, ideal, shares), strict=True):
            parts[_PARTS[place]] += copies[image]
            placed[place] += len(copies[image])
        owed = [max(-1.0, min(1.0, due - got)) for due, got in zip(ideal, placed, strict=True)]
    return parts


def _places(sizes: Sequence[int], ideal: Sequence[float], shares: Fractions) -> Iterator[int]:
    """Yield the part (0, 1, 2 for train, val, test) of each of a class's images, in order.

    Args:
        sizes: How many copies each image has.
        ideal: How many files each part should get.
        shares: The fractions; a part without a share gets nothing.
    """
    different = len(sizes)
    lacking = {0}
    if different >= 2 and shares[2]:
        lacking.add(2)
    if different >= 3 and shares[1]:
        lacking.add(1)
    sharing = [part for part in (2, 1, 0) if shares[part]]
    room = [sum(sizes), 0, 0]
    if different >= 3:
        room = _rounded(ideal, sum(sizes), lacking, sharing)
    for position, size in enumerate(sizes):
        if lacking and len(lacking) >= different - position:
            place = max(lacking)
        else:
            fitting = [part for part in (2, 1) if room[part] >= size]
            place = fitting[0] if fitting else 0
        lacking.discard(place)
        room[place] -= size
        yield place


def _rounded(
    ideal: Sequence[float], total: int, lacking: Collection[int], sharing: Sequence[int]
) -> list[int]:
    """Round to whole numbers that sum to ``total``, at least 1 where a part is lacking."""
    least = [int(part in lacking) for part in range(3)]
    counts = [max(low, math.floor(value)) for low, value in zip(least, ideal, strict=True)]
    while sum(counts) < total:
        counts[max(sharing, key=lambda part: ideal[part] - counts[part])] += 1
    while sum(counts) > total:
        spare = [part for part in sharing if counts[part] > least[part]]
        counts[max(spare, key=lambda part: counts[part] - ideal[part])] -= 1
    return counts
