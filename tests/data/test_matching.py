"""Classes of the parts are matched by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.matching import require_learnt
from headstart.errors import DataError

SETS = st.sets(st.sampled_from(["a", "A", "b", "straße", "STRASSE", "c"]))


def refusal(learnt, **held) -> DataError:
    with pytest.raises(DataError) as raised:
        require_learnt(learnt, held, where="photos", field="data")
    return raised.value


def test_a_class_that_train_lacks_is_named_with_the_classes_of_both_parts() -> None:
    error = refusal({"dog", "cat"}, val={"cat"}, test={"owl", "cat", "bee"})
    assert error.message == (
        "photos: test has classes that train lacks: bee, owl.\ntrain: cat, dog\ntest: bee, cat, owl"
    )
    assert error.hint.startswith("Every class of test must be one that train has a readable image")
    assert error.field == "data"


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("straße", "STRASSE")])
def test_names_that_differ_in_case_alone_are_the_likely_cause(one, other) -> None:
    hint = f"{other} and {one} differ only in case: rename one."
    assert refusal({one, "dog"}, val={other, "dog"}).hint == hint
    assert refusal({one, "dog"}, val={"aaa", other}).hint == hint  # though another comes first


def test_long_lists_are_cut() -> None:
    message = refusal(["00"], test=[f"{n:02}" for n in range(30)]).message
    assert "… (29 in all)." in message
    assert message.endswith("… (30 in all)")


@given(SETS, SETS, SETS)
def test_parts_pass_where_train_has_all_their_classes_and_only_there(learnt, val, test) -> None:
    held = {"val": val, "test": test}
    if val <= learnt and test <= learnt:
        require_learnt(learnt, held, where="photos", field="data")
        return
    error = refusal(learnt, **held)
    part = "test" if val <= learnt else "val"  # the first that fails is told
    extra = ", ".join(sorted(held[part] - learnt))
    assert f"photos: {part} has classes that train lacks: {extra}.\n" in error.message
