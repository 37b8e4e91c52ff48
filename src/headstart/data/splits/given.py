"""The data's own split: taken as it is, and completed where it says nothing.

One rule: an image with a split keeps it; images without one fill the parts that no image was
given. They are shared by these parts' shares of 85/15 (train and val, or train and test) or 50/50
(val and test), or by ``--split``. Where all three are given, they are learnt from. What is tied to
an image of a given train (a copy, one of its group, a confirmed pair) joins it. Where the data
gives train and one held-out part only, that one is test, and val is 15 % of train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.data.items import Item
from headstart.data.splits.leaks import PARTS
from headstart.data.splits.sharing import Shares, share_out
from headstart.data.splits.units import Pairs, units_of
from headstart.errors import UsageError

__all__ = ["Completed", "Positions", "checked_shares", "complete"]

Positions = dict[str, list[int]]

_CARVED: Shares = (0.85, 0.15, 0.0)
_DEFAULT = {
    ("train", "val"): _CARVED,
    ("train", "test"): (0.85, 0.0, 0.15),
    ("val", "test"): (0.0, 0.5, 0.5),
}


@dataclass(frozen=True, slots=True)
class Completed:
    """A split in which every part was given or filled.

    Attributes:
        parts: The positions in each part.
        origin: Where it comes from, in a few words.
        notes: What was done, one sentence each.
    """

    parts: Positions
    origin: str
    notes: tuple[str, ...]


def complete(
    given: Positions,
    rest: Sequence[int],
    items: Sequence[Item],
    digests: Sequence[str],
    *,
    fractions: Sequence[float] | None,
    seed: int,
    together: Pairs,
) -> Completed:
    """Fill the parts that the data does not give.

    Args:
        given: Positions of the images with a split, an entry for each part.
        rest: Positions of the images without one.
        items: All images.
        digests: Their image digests.
        fractions: Shares asked for; those of given parts are passed over.
        seed: Decides what is shared out.
        together: Pairs of positions that must not be parted.

    Raises:
        UsageError: Shares where there is nothing to share out, or impossible ones.
    """
    parts = {part: list(given[part]) for part in PARTS}
    notes = []
    if not rest and parts["train"] and parts["val"] and not parts["test"]:
        parts["test"], parts["val"] = parts["val"], []
        notes.append("What the data calls val is test: it has no other part to be tested on.")
    open_parts = tuple(part for part in PARTS if not parts[part])
    if fractions is not None and not (rest and len(open_parts) > 1):
        raise UsageError(
            "The data has its own split, so no other split can be asked for.",
            field="split",
            hint="Leave --split out, or give a folder of class folders.",
        )
    shares = _shares(open_parts, fractions) if rest and len(open_parts) > 1 else None
    total = len(rest)
    rest = _join_train(parts, rest, items, digests, together)
    if len(rest) < total:
        notes.append(
            f"{total - len(rest)} images without a split are tied to train's, and joined it."
        )
    origin = "the data's own"
    if shares is not None:
        said = "/".join(f"{100 * share:.4g}" for share in shares if share)
        names = " and ".join(part for part in open_parts if shares[PARTS.index(part)])
        kept = " and ".join(part for part in PARTS if part not in open_parts)
        origin = f"{kept} as given, the rest {said} to {names}, stratified, seed {seed}"
        for part, indices in _shared(rest, items, digests, shares, seed, together).items():
            parts[part] += indices
    elif total:
        target = open_parts[0] if open_parts else "train"
        parts[target] += rest
        notes.append(f"{len(rest)} images without a split went to {target}.")
    if parts["train"] and not parts["val"] and shares is None:
        parts |= _carved(parts["train"], items, digests, seed, together)
        notes.append(f"val is 15 % of train, stratified, seed {seed}: the data has none.")
    return Completed(parts, origin, tuple(notes))


def checked_shares(fractions: Sequence[float], open_parts: Sequence[str] = PARTS) -> Shares:
    """Return three shares that can be used, scaled so that those of ``open_parts`` sum to 1.

    Raises:
        UsageError: They are not three shares that sum to 1, or leave nothing to train or test.
    """
    needed = [share for part, share in zip(PARTS, fractions, strict=False) if part in open_parts]
    lacking = [
        part
        for part, share in zip(PARTS, fractions, strict=False)
        if part in open_parts and part != "val" and not share > 0
    ]
    if (
        len(fractions) != 3
        or not all(share >= 0 for share in fractions)
        or abs(sum(fractions) - 1) > 1e-6
        or lacking
    ):
        given = ",".join(f"{share:g}" for share in fractions)
        raise UsageError(
            f"The split must be three shares of at least 0 that sum to 1, not {given}.",
            field="split",
            hint="train and test need a share of their own: 0.7,0.15,0.15 is usual.",
        )
    train, val, test = fractions
    if len(open_parts) == len(PARTS):
        return train, val, test
    scaled = [
        share / sum(needed) if part in open_parts else 0.0
        for part, share in zip(PARTS, fractions, strict=True)
    ]
    return scaled[0], scaled[1], scaled[2]


def _shares(open_parts: Sequence[str], fractions: Sequence[float] | None) -> Shares:
    if fractions is None:
        first, second = open_parts
        return _DEFAULT[first, second]
    return checked_shares(fractions, open_parts)


def _join_train(
    parts: Positions,
    rest: Sequence[int],
    items: Sequence[Item],
    digests: Sequence[str],
    together: Pairs,
) -> list[int]:
    """Put what is tied to an image of the given train there; return what is left."""
    train = set(parts["train"])
    tied: set[int] = set()
    for unit in units_of([*parts["train"], *rest], items, digests, together):
        if not train.isdisjoint(unit):
            tied |= {index for index in unit if index not in train}
    parts["train"] += sorted(tied)
    return [index for index in rest if index not in tied]


def _shared(
    rest: Sequence[int],
    items: Sequence[Item],
    digests: Sequence[str],
    shares: Shares,
    seed: int,
    together: Pairs,
) -> Positions:
    labels = [item.label for item in items]
    units = units_of(rest, items, digests, together)
    train, val, test = shares
    if train:
        return dict(zip(PARTS, share_out(units, labels, digests, shares, seed), strict=True))
    # Where train is given, test comes first: a class with a single image here is tested.
    tested, _, chosen_on = share_out(units, labels, digests, (test, 0.0, val), seed)
    return {"train": [], "val": chosen_on, "test": tested}


def _carved(
    train: Sequence[int], items: Sequence[Item], digests: Sequence[str], seed: int, together: Pairs
) -> Positions:
    parts = _shared(train, items, digests, _CARVED, seed, together)
    return {"train": parts["train"], "val": parts["val"]}
