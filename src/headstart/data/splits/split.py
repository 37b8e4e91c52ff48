"""Three disjoint sets of images, train, val and test, with a digest that names them everywhere.

No random numbers: images stand in the order of a hash of (seed, image digest). So a split does
not depend on file names or on the order of a listing, copies of one image and images of one group
stay on one side, and an added image moves few others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from headstart.data.checks.check import Finding
from headstart.data.items import Item
from headstart.data.splits.given import checked_shares, complete
from headstart.data.splits.leaks import PARTS, check_classes, same_files, straddling, without_copies
from headstart.data.splits.sharing import Shares, share_out
from headstart.data.splits.units import Pairs, Unit, groups_among, units_of
from headstart.errors import DataError
from headstart.files import digest

__all__ = ["FRACTIONS", "Fractions", "Split", "make_split", "split_of"]

Fractions = Shares
FRACTIONS: Fractions = (0.7, 0.15, 0.15)

_MEASURABLE = 3  # units that a class needs to be in every part


@dataclass(frozen=True, slots=True)
class Split:
    """Positions in the list of items; disjoint, each ascending.

    Attributes:
        train: To learn from.
        val: To choose on.
        test: To report on, opened once.
        digest: SHA-256 over who is where: part, item name, image digest and label of each item.
        origin: Where the split comes from, in a few words.
        notes: What was done on the way, one sentence each.
        removed: Copies of images in a more held-out part, that are in no part themselves.
        findings: What is wrong with the split, or can't be measured on it.
        limited: Whether images that could be trained on are left out on purpose.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    digest: str
    origin: str
    notes: tuple[str, ...] = ()
    removed: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    limited: bool = False

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
    together: Pairs = (),
) -> Split:
    """Split a data set: as it says itself, else stratified by class.

    Where no item has a split, each class is shared out by ``fractions``, 70/15/15 by default, so
    that the whole comes as near to them as it can. A class of three or more different images has
    at least one in every part, a class of two in train and test, a single one goes to train.
    Groups stay whole, and the same then holds of groups. What the data's own split leaves open is
    filled by the rule of :mod:`headstart.data.splits.given`; what it says is not changed, but exact
    copies of images in a more held-out part are left out.

    Args:
        items: All usable images.
        digests: Their image digests, in the same order.
        fractions: Shares of train, val and test.
        seed: Another seed, another split.
        together: Pairs of positions that stay on one side, beside copies and groups.

    Raises:
        UsageError: Impossible fractions, or fractions for data that has a split of its own.
        DataError: The data's own split has no train, or train lacks classes of the others.
    """
    together = tuple(together)
    said = {item.split for item in items}
    if said - {None, "train"} or len(said) > 1:
        return _own_split(items, digests, fractions, seed, together)
    shares = checked_shares(FRACTIONS if fractions is None else fractions)
    labels = [item.label for item in items]
    units = units_of(range(len(items)), items, digests, together)
    parts = share_out(units, labels, digests, shares, seed)
    groups = groups_among(units, digests)
    origin = "/".join(f"{100 * share:g}" for share in shares)
    notes = (
        ["All images are said to be in train, so they are shared out."] if "train" in said else []
    )
    if groups:
        notes.append(_kept_whole(groups, parts, origin))
    return split_of(
        parts,
        items,
        digests,
        origin=f"{origin}, stratified{', grouped' if groups else ''}, seed {seed}",
        notes=notes,
        findings=_few_groups(units, labels, digests) if groups else (),
    )


def split_of(
    parts: Iterable[Iterable[int]],
    items: Sequence[Item],
    digests: Sequence[str],
    *,
    origin: str,
    notes: Iterable[str] = (),
    removed: Iterable[int] = (),
    findings: Iterable[Finding] = (),
) -> Split:
    """Name three parts by their digest.

    Raises:
        DataError: There is no image in train.
    """
    train, val, test = (tuple(sorted(part)) for part in parts)
    if not train:
        raise DataError(
            f"None of the {len(items)} images is in train.",
            field="data",
            hint="Give a folder that holds train/ and test/, or one of class folders.",
        )
    lines = [
        digest(part, items[index].name, digests[index], items[index].label)
        for part, indices in zip(PARTS, (train, val, test), strict=True)
        for index in indices
    ]
    named = digest(*sorted(lines))
    out = tuple(sorted(removed))
    return Split(train, val, test, named, origin, tuple(notes), out, tuple(findings))


def _own_split(
    items: Sequence[Item],
    digests: Sequence[str],
    fractions: Fractions | None,
    seed: int,
    together: Pairs,
) -> Split:
    """Complete the data's own split, once copies across it are left out."""
    given = {part: [i for i, item in enumerate(items) if item.split == part] for part in PARTS}
    rest = [i for i, item in enumerate(items) if item.split is None]
    learnt = [*given["train"], *rest]
    said = split_of((learnt, given["val"], given["test"]), items, digests, origin="as given")
    clean = without_copies(said, same_files(digests), items)
    removed = set(clean.removed)
    done = complete(
        {part: [i for i in given[part] if i not in removed] for part in PARTS},
        [i for i in rest if i not in removed],
        items,
        digests,
        fractions=fractions,
        seed=seed,
        together=together,
    )
    parts = tuple(done.parts[part] for part in PARTS)
    leaks = straddling(parts, items, together)
    split = split_of(
        parts,
        items,
        digests,
        origin=done.origin,
        notes=(*clean.notes, *done.notes),
        removed=removed,
        findings=(*clean.findings, *leaks),
    )
    check_classes(parts, items)
    return split


def _kept_whole(groups: Sequence[Unit], parts: Sequence[Sequence[int]], asked: str) -> str:
    """Say that groups were kept on one side, and what that did to the shares."""
    images, total = sum(map(len, groups)), sum(map(len, parts))
    shares = "/".join(f"{100 * len(part) / total:.1f}" for part in parts)
    return (
        f"{len(groups)} groups of {images} images stay on one side each; train, val and test have "
        f"{shares} % of the images, where {asked} was asked for."
    )


def _few_groups(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str]
) -> tuple[Finding, ...]:
    """Return the finding about classes whose images, though enough, lie in too few groups."""
    n_units = Counter(label for unit in units for label in {labels[index] for index in unit})
    images = {(labels[index], digests[index]) for unit in units for index in unit}
    n_images = Counter(label for label, _ in images)
    few = [
        f"{label} ({n})"
        for label, n in sorted(n_units.items())
        if n < _MEASURABLE <= n_images[label]
    ]
    if not few:
        return ()
    message = f"Classes that lie in fewer than {_MEASURABLE} groups: {', '.join(few)}."
    hint = "What lies in one group only is learnt, and can't be measured: add images of others."
    return (Finding("few-groups", "warning", (), message, hint),)
