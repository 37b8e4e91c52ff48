"""Fewer training images: stratified, so many in all, or so many shots of each class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.data.splits.units import rank
from headstart.errors import UsageError
from headstart.files import digest

if TYPE_CHECKING:
    from headstart.data.splits.split import Split

__all__ = ["limit", "thinned"]


def limit(
    split: Split,
    labels: Sequence[str],
    digests: Sequence[str],
    *,
    n: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    groups: Sequence[str | None] | None = None,
) -> Split:
    """Thin the training set, stratified; val and test stay as they are.

    The images are taken in the split's own order, so that a smaller limit's are among a larger
    one's, and every class keeps at least one. A second image of a group comes after the first of
    every group, and a copy after all different images, so that few shots are as different as they
    can be.

    Args:
        split: The split to thin.
        labels: The label of every item the split was made of.
        digests: Their image digests.
        n: Training images in all.
        per_class: Training images a class.
        seed: The split's seed.
        groups: The group of every item, None where it has none.

    Raises:
        UsageError: ``per_class`` below 1, or ``n`` below the number of classes.
    """
    ranked = _by_difference(split.train, labels, digests, seed, groups)
    if per_class is not None:
        _at_least(1, per_class, "limit-per-class")
        ranked = {label: members[:per_class] for label, members in ranked.items()}
    train = _interleaved(ranked)
    if n is not None:
        _at_least(len(ranked), n, "limit")
        train = train[:n]
    if len(train) == len(split.train):
        return split
    return thinned(split, train, labels, digests)


def thinned(
    split: Split, train: Collection[int], labels: Sequence[str], digests: Sequence[str]
) -> Split:
    """Keep only some of the training images, under a digest of their own."""
    kept = sorted(digest(labels[index], digests[index]) for index in train)
    return replace(
        split,
        train=tuple(sorted(train)),
        digest=digest(split.digest, *kept),
        origin=f"{split.origin}; train thinned to {len(train)}",
        limited=True,
    )


def _by_difference(
    train: Sequence[int],
    labels: Sequence[str],
    digests: Sequence[str],
    seed: int,
    groups: Sequence[str | None] | None,
) -> dict[str, list[int]]:
    """Return each class's images in the split's order, what adds least to the others last."""
    copies: Counter[tuple[str, str]] = Counter()
    siblings: Counter[tuple[str, str]] = Counter()
    ranked: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for index in sorted(train, key=lambda index: rank(seed, digests[index])):
        label, group = labels[index], None if groups is None else groups[index]
        nth_copy, nth_sibling = copies[label, digests[index]], 0
        copies[label, digests[index]] += 1
        if group is not None and not nth_copy:
            nth_sibling = siblings[label, group]
            siblings[label, group] += 1
        ranked[label].append((nth_copy, nth_sibling, index))
    # Sorting is stable, and so keeps the order of ranks; the index decides nothing.
    return {
        label: [index for *_, index in sorted(members, key=lambda member: member[:2])]
        for label, members in ranked.items()
    }


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


def _at_least(least: int, value: int, option: str) -> None:
    if value < least:
        raise UsageError(
            f"--{option} must be at least {least}, so that each class keeps an image; got {value}.",
            field=option,
            hint=f"Leave --{option} out to train on all of them.",
        )
