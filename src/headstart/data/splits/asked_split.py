"""The split that was asked for: by shares, by a table, by a fold, or the data's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.data.items import Item
from headstart.data.splits.fold import Fold
from headstart.data.splits.folds import fold_split
from headstart.data.splits.split import Fractions, Split, make_split
from headstart.data.splits.split_file import read_split
from headstart.data.splits.units import Pairs
from headstart.errors import UsageError

__all__ = ["asked_split"]


def asked_split(
    items: Sequence[Item],
    digests: Sequence[str],
    *,
    split: Fractions | str | Path | None = None,
    fold: str | None = None,
    seed: int = 0,
    together: Pairs = (),
) -> Split:
    """Split a data set as the options of the same names say.

    Args:
        items: All usable images.
        digests: Their image digests, in the same order.
        split: Shares of train, val and test, or a table that names each image's part.
        fold: Which fold is test, as ``2/5``.
        seed: Decides what is shared out.
        together: Pairs of positions that stay on one side, beside copies and groups.

    Raises:
        UsageError: Both a split and a fold, or one that is impossible.
        DataError: The table does not fit the images, or there is nothing to train on.
    """
    if fold is not None:
        if split is not None:
            raise UsageError(
                "A fold and a split can't both be asked for.",
                field="fold",
                hint="Leave out --fold or --split.",
            )
        return fold_split(items, digests, Fold.parse(fold), seed=seed, together=together)
    if isinstance(split, str | Path):
        return read_split(split, items, digests, together=together)
    return make_split(items, digests, fractions=split, seed=seed, together=together)
