from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.splits.fold import Fold
from headstart.errors import UsageError


@given(st.integers(2, 999_999).flatmap(lambda k: st.tuples(st.integers(1, k), st.just(k))))
def test_a_fold_is_read_as_it_is_shown(fold) -> None:
    assert Fold.parse(str(Fold(*fold))) == Fold(*fold)
    assert Fold.fits(f"{fold[0]}/{fold[1]}")


@pytest.mark.parametrize(
    "text", ["", "2", "0/5", "6/5", "1/1", "-1/5", "1/5/5", "1.0/5", "a/b", " 1/5", "1/5000000"]
)
def test_what_is_no_fold_is_refused(text) -> None:
    assert not Fold.fits(text)
    with pytest.raises(UsageError, match="must be one of 2 or more, as 2/5") as raised:
        Fold.parse(text)
    assert repr(text) in raised.value.message
    assert raised.value.field == "fold"
    assert "--fold 1/5" in raised.value.hint
