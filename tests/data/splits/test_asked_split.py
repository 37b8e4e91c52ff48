from __future__ import annotations

import pytest
from split_tables import items_of, table

from headstart.data.splits.asked_split import asked_split
from headstart.data.splits.fold import Fold
from headstart.data.splits.folds import fold_split
from headstart.data.splits.split import make_split
from headstart.data.splits.split_file import write_split
from headstart.errors import UsageError


def test_each_way_to_ask_for_a_split_gives_that_split(tmp_path) -> None:
    items, digests = table({"a": 20, "b": 20})
    assert asked_split(items, digests, seed=3) == make_split(items, digests, seed=3)
    shares = (0.5, 0.25, 0.25)
    halves = make_split(items, digests, fractions=shares)
    assert asked_split(items, digests, split=shares) == halves
    fold = asked_split(items, digests, fold="2/4", seed=1)
    assert fold == fold_split(items, digests, Fold(2, 4), seed=1)
    write_split(halves, items, digests, tmp_path / "split.csv")
    for path in (tmp_path / "split.csv", str(tmp_path / "split.csv")):
        assert asked_split(items, digests, split=path).digest == halves.digest


def test_pairs_reach_every_kind_of_split(tmp_path) -> None:
    items, digests = items_of([("ab"[n % 2], None, None) for n in range(40)])
    pairs = [(0, 1), (2, 3), (1, 2)]
    for options in ({}, {"fold": "1/2"}):
        split = asked_split(items, digests, together=pairs, **options)
        assert any(set(range(4)) <= set(part) for part in (split.train, split.val, split.test))
    plain = make_split(items, digests)
    write_split(plain, items, digests, tmp_path / "split.csv")
    parted = [(plain.train[0], plain.test[0])]
    split = asked_split(items, digests, split=tmp_path / "split.csv", together=parted)
    assert [finding.kind for finding in split.findings] == ["split-leak"]


@pytest.mark.parametrize("split", [(0.7, 0.15, 0.15), "split.csv"])
def test_a_fold_and_a_split_exclude_each_other(split) -> None:
    items, digests = table({"a": 20, "b": 20})
    with pytest.raises(UsageError, match="can't both be asked for") as raised:
        asked_split(items, digests, split=split, fold="1/5")
    assert raised.value.field == "fold"
