"""What ``auto`` decided, as the run's plan.json has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.decided import FORMAT, Decided
from headstart.errors import ModelError
from headstart.options import Options
from headstart.strategy import names
from headstart.strategy.decision import Decision

AUTO = names.create("auto", 4)
RESIZE = Decision("resize", "squash", "It is better.", "Noise.", {"crop": {"accuracy": 0.5}})
LAST = Decision("last 2 of 4 stages", "10 epochs", "They fit.", "Another --budget.")


def options(**others: Any) -> Options:
    chosen = {"backbone": "timm:test_resnet", "average": "flip", "resize": "squash"}
    return Options(**chosen | {"strategy": AUTO} | others)


def decided(**others: Any) -> Decided:
    given = {
        "options": options(),
        "decisions": (RESIZE, LAST),
        "seconds": (3.5, None, 40.0),
        "rest_s": 6.0,
        "took_s": 12.5,
        "budget_s": 600.0,
        "published": (("bit", "fine-tune everything"), ("table:500-2000", "the head alone")),
    }
    return Decided(**given | others)


def through_json(one: Decided) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    return document


tenths = st.integers(0, 100_000).map(lambda number: number / 10)


@settings(deadline=None)
@given(
    st.tuples(*[st.none() | tenths] * 3),
    tenths,
    tenths,
    tenths.filter(bool),
    st.lists(st.sampled_from([RESIZE, LAST]), max_size=3).map(tuple),
    st.lists(st.tuples(st.text(), st.text()), max_size=2).map(tuple),
)
def test_it_goes_through_json(seconds, rest, took, budget, decisions, published) -> None:
    one = decided(
        seconds=seconds,
        rest_s=rest,
        took_s=took,
        budget_s=budget,
        decisions=decisions,
        published=published,
    )
    document = through_json(one)
    again = Decided.from_dict(document, Options())
    assert again == one
    assert through_json(again) == document


def test_the_total_is_all_that_is_predicted_and_what_deciding_took() -> None:
    assert decided().total_s == 62.0
    assert decided().explained()["total_s"] == 62.0
    assert decided(seconds=(None, None, None)).total_s == 18.5


def test_why_is_told_without_the_options() -> None:
    one = decided()
    assert set(one.to_dict()) - set(one.explained()) == {"format", "options"}
    assert one.explained()["decisions"] == [RESIZE.to_dict(), LAST.to_dict()]


def test_what_it_was_asked_for_does_not_change_what_was_decided() -> None:
    other = Options(backbone="bundled:small_cnn", epochs=3, augment="strong")
    assert Decided.from_dict(through_json(decided()), other) == decided()


def test_a_transform_from_python_is_the_one_that_is_given_again() -> None:
    one = decided(options=options(augment=abs))
    again = Decided.from_dict(through_json(one), Options(augment=abs))
    assert again.options.augment is abs
    assert again == one
    with pytest.raises(ModelError, match="a transform given from Python"):
        Decided.from_dict(through_json(one), Options())


def test_a_transform_that_was_not_taken_is_not_taken_again() -> None:
    # Where nothing trains there is nothing to augment.
    again = Decided.from_dict(through_json(decided()), Options(augment=abs))
    assert again.options.augment is None


# Files that say something else


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {key: value for key, value in document.items() if key != name}


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document | changes


def _option(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document | {"options": document["options"] | changes}


@pytest.mark.parametrize(
    "damage",
    [
        *map(_without, through_json(decided()).keys() - {"total_s"}),
        _with(format=FORMAT + 1),
        _with(options=5),
        _with(decisions=[5]),
        _with(decisions=[{"question": "resize"}]),
        _with(decisions=5),
        _with(seconds=[1.0]),
        _with(seconds=[1.0, "soon", 2.0]),
        _with(seconds=5),
        _with(rest_s="long"),
        _with(took_s=None),
        _with(budget_s=[600]),
        _with(published=["b"]),
        _with(published=5),
        _option(resize="stretch"),
        _option(lr="high"),
        _option(minimum=["accuracy"]),
        _option(unheard_of=1),
        _option(strategy="auto"),
        _option(strategy="fine-tune"),
        _option(strategy={"name": "mine"}),
        _option(strategy={"name": "mine", "phases": [5]}),
        lambda _: [],
        lambda _: None,
        lambda _: "auto",
    ],
)
def test_what_is_not_a_decision_is_refused_with_a_way_out(damage) -> None:
    document = damage(through_json(decided()))
    with pytest.raises(ModelError, match="What was decided for the run can't be read") as raised:
        Decided.from_dict(document, Options())
    assert raised.value.field == "plan.json"
    assert "--out" in raised.value.hint


def test_the_version_is_named_where_it_is_another() -> None:
    with pytest.raises(ModelError, match="of format 2"):
        Decided.from_dict(through_json(decided()) | {"format": 2}, Options())
