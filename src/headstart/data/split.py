"""Three disjoint sets of images, train, val and test, with a digest that names them everywhere.

No random numbers: images stand in the order of a hash of (seed, image digest). So a split does
not depend on file names or on the order of a listing, copies of one image and images of one group
stay on one side, and an added image moves few others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headstart.data.check import Finding
from headstart.data.given import checked_shares, complete
from headstart.data.items import Item
from headstart.data.leaks import (
    PARTS,
    check_classes,
    copies_out,
    left_out_finding,
    same_files,
    straddling,
)
from headstart.data.sharing import Shares, share_out
from headstart.data.units import Pairs, Unit, rank, units_of
from headstart.errors import DataError, UsageError
from headstart.files import digest

__all__ = [
    "FRACTIONS",
    "Fractions",
    "Split",
    "few_units",
    "given_split",
    "grouped",
    "limit",
    "make_split",
    "split_of",
    "without_copies",
]

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
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    digest: str
    origin: str
    notes: tuple[str, ...] = ()
    removed: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()

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
    filled by the rule of :mod:`headstart.data.given`; what it says is not changed, but exact
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
    everything = range(len(items))
    said = {item.split for item in items}
    if said - {None, "train"}:
        return _own(items, digests, fractions, seed, together)
    if said == {None, "train"}:
        pass
    ...
