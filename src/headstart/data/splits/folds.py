"""Cross-validation: every image is tested on once, by a network that never saw it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from headstart.data.checks.check import Finding
from headstart.data.items import Item
from headstart.data.splits.balance import Balance
from headstart.data.splits.fold import Fold
from headstart.data.splits.sharing import Shares, share_out
from headstart.data.splits.split import Split, split_of
from headstart.data.splits.units import Pairs, Unit, groups_among, rank, unit_rank, units_of
from headstart.errors import UsageError

__all__ = ["fold_split", "k_folds"]

_CARVED: Shares = (0.85, 0.15, 0.0)  # train and val, of what is not tested on
_MOST_NAMED = 10


def k_folds(
    items: Sequence[Item],
    digests: Sequence[str],
    k: int,
    *,
    seed: int = 0,
    repeats: int = 1,
    together: Pairs = (),
) -> tuple[Split, ...]:
    """Deal a data set into ``k`` folds, and return the split in which each is test.

    Every image is in test in exactly one split of each repeat, but for classes that consist of a
    single image or group: these are in train always. Val is 15 % of what is not in test. Classes
    are dealt evenly, and copies, groups and pairs stay whole, in test and in val.

    Args:
        items: All usable images, without a split of their own.
        digests: Their image digests, in the same order.
        k: How many folds; 2 or more.
        seed: Decides the folds of the first repeat; the next has those of the next seed.
        repeats: How often to deal.
        together: Pairs of positions that stay on one side, beside copies and groups.

    Returns:
        ``k`` splits for each repeat.

    Raises:
        UsageError: Fewer than two folds, or more than there is to fill them with; no repeats; or
            the data has a split of its own.
    """
    if k < 2 or repeats < 1:
        raise UsageError(
            f"There must be 2 folds or more, dealt once or more; got {k} and {repeats}.",
            field="fold",
            hint="Five folds, dealt once, are usual.",
        )
    together = tuple(together)
    return tuple(
        split
        for repeat in range(repeats)
        for split in _Dealt(items, digests, k, seed + repeat, together).splits()
    )


def fold_split(
    items: Sequence[Item],
    digests: Sequence[str],
    fold: Fold,
    *,
    seed: int = 0,
    together: Pairs = (),
) -> Split:
    """Return one of the splits of ``k_folds``.

    Raises:
        UsageError: As ``k_folds``.
    """
    return _Dealt(items, digests, fold.k, seed, tuple(together)).split(fold)


class _Dealt:
    """Units, and the fold of each: None for what is never tested."""

    def __init__(
        self, items: Sequence[Item], digests: Sequence[str], k: int, seed: int, together: Pairs
    ) -> None:
        if any(item.split is not None for item in items):
            raise UsageError(
                "The data has its own split, so it can't be dealt into folds.",
                field="fold",
                hint="Leave --fold out, or give a folder of class folders.",
            )
        self.items, self.digests, self.k, self.seed = items, digests, k, seed
        self.labels = [item.label for item in items]
        self.units = units_of(range(len(items)), items, digests, together)
        self.n_groups = len(groups_among(self.units, digests))
        mixed = any(len({self.labels[index] for index in unit}) > 1 for unit in self.units)
        if self.n_groups or mixed:
            self.folds = _by_unit(self.units, self.labels, digests, k, seed)
        else:
            self.folds = _by_class(self.units, self.labels, digests, k, seed)
        if len(set(self.folds) - {None}) < k:
            raise UsageError(
                f"{k} folds need as many images or groups that can be left out of train; there "
                f"are {sum(fold is not None for fold in self.folds)}.",
                field="fold",
                hint="Ask for fewer folds, or add images.",
            )

    def splits(self) -> Iterator[Split]:
        for number in range(1, self.k + 1):
            yield self.split(Fold(number, self.k))

    def split(self, fold: Fold) -> Split:
        tested = [unit for unit, at in self._dealt() if at == fold.number - 1]
        others = [unit for unit, at in self._dealt() if at != fold.number - 1]
        train, val, _ = share_out(others, self.labels, self.digests, _CARVED, self.seed)
        notes, grouped = [], ""
        if self.n_groups:
            notes.append(f"{self.n_groups} groups stay on one side each, in every fold.")
            grouped = ", grouped"
        return split_of(
            (train, val, [index for unit in tested for index in unit]),
            self.items,
            self.digests,
            origin=f"fold {fold}, stratified{grouped}, seed {self.seed}",
            notes=notes,
            findings=self._findings(),
        )

    def _dealt(self) -> Iterator[tuple[Unit, int | None]]:
        return zip(self.units, self.folds, strict=True)

    def _findings(self) -> Iterator[Finding]:
        """Yield what can't be measured, or not in every fold."""
        tested: dict[str, set[int]] = {label: set() for label in self.labels}
        for unit, fold in self._dealt():
            for index in unit:
                if fold is not None:
                    tested[self.labels[index]].add(fold)
        few = {label: len(folds) for label, folds in sorted(tested.items()) if len(folds) < self.k}
        if few:
            named = [f"{label} ({n})" for label, n in few.items()]
            listed = ", ".join(named[:_MOST_NAMED]) + (", …" if len(few) > _MOST_NAMED else "")
            yield Finding(
                "few-images",
                "warning",
                (),
                f"Classes that are not in the test part of each of the {self.k} folds: {listed}.",
                "Those of 0 are only learnt, and can't be measured; fewer folds help the others.",
            )
        never = [index for unit, fold in self._dealt() if fold is None for index in unit]
        known = [index for index in never if tested[self.labels[index]]]
        if known:
            yield Finding(
                "few-groups",
                "warning",
                tuple(self.items[index].name for index in known[:100]),
                f"{len(known)} images are in no test part: they share a group with the only images "
                "of a class.",
                "Add images of that class from other groups.",
            )


def _by_class(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str], k: int, seed: int
) -> list[int | None]:
    """Deal images, with nothing but their copies in a unit: of each class as many to each fold.

    The images of a class stand in the order of a hash, and a fold takes a stretch of them. The
    folds that have the fewest images yet take one more, where the class does not divide.
    """
    classes = defaultdict(list)
    for number, unit in enumerate(units):
        classes[labels[unit[0]]].append(number)
    folds: list[int | None] = [None] * len(units)
    filled = [0] * k
    for _, members in sorted(classes.items()):
        if len(members) == 1:
            continue
        members.sort(key=lambda number: rank(seed, digests[units[number][0]]))
        base, extra = divmod(len(members), k)
        larger = set(sorted(range(k), key=lambda fold: (filled[fold], fold))[:extra])
        stretches = (fold for fold in range(k) for _ in range(base + (fold in larger)))
        for number, fold in zip(members, stretches, strict=True):
            folds[number] = fold
            filled[fold] += len(units[number])
    return folds


def _by_unit(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str], k: int, seed: int
) -> list[int | None]:
    """Deal whole groups, the largest first, each to the fold it brings nearest to its shares."""
    balance = Balance(units, labels, [1 / k] * k)
    ranks = [unit_rank(seed, unit, digests) for unit in units]
    order = sorted(range(len(units)), key=lambda number: (-len(units[number]), ranks[number]))
    kept = {
        number
        for number, count in enumerate(balance.counts)
        if any(balance.units_with[label] == 1 for label in count)
    }
    for number in order:
        if number not in kept:
            best = min(range(k), key=lambda fold: balance.cost(fold, number))
            balance.put(best, number)
    kept |= set(_only_here(balance, order, kept))
    return [None if number in kept else balance.place[number] for number in range(len(units))]


def _only_here(balance: Balance, order: Sequence[int], kept: Collection[int]) -> Iterator[int]:
    """Yield a group of each class that is tested in one fold only, where train would lack it."""
    safe = {label for number in kept for label in balance.counts[number]}
    holding = defaultdict(list)
    for number in order:
        for label in balance.counts[number]:
            holding[label].append(number)
    for label, members in sorted(holding.items()):
        if label not in safe and len({balance.place[number] for number in members}) == 1:
            smallest = members[-1]  # of the largest first
            safe |= set(balance.counts[smallest])
            yield smallest
