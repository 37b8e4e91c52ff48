from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.errors import UsageError
from headstart.training.heads import HeadSpec, last_linear


def layers(head: nn.Module) -> list[tuple]:
    """Describe each layer by its kind and numbers."""
    found: list[tuple] = []
    for layer in [head] if isinstance(head, nn.Linear) else head.children():
        if isinstance(layer, nn.Linear):
            found.append(("linear", layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Dropout):
            found.append(("dropout", layer.p))
        else:
            found.append((type(layer).__name__.lower(),))
    return found


FORMS = {
    "linear": (HeadSpec(), [("linear", 20, 3)]),
    "linear,dropout=0.2": (HeadSpec((), (0.2,)), [("dropout", 0.2), ("linear", 20, 3)]),
    "mlp:256": (
        HeadSpec((256,), (0.0, 0.0)),
        [("linear", 20, 256), ("relu",), ("linear", 256, 3)],
    ),
    "mlp:1024": (
        HeadSpec((1024,), (0.0, 0.0)),
        [("linear", 20, 1024), ("relu",), ("linear", 1024, 3)],
    ),
    "mlp:256,dropout=0.5/0.3": (
        HeadSpec((256,), (0.5, 0.3)),
        [("dropout", 0.5), ("linear", 20, 256), ("relu",), ("dropout", 0.3), ("linear", 256, 3)],
    ),
    "mlp:256,dropout=0/0.5": (
        HeadSpec((256,), (0.0, 0.5)),
        [("linear", 20, 256), ("relu",), ("dropout", 0.5), ("linear", 256, 3)],
    ),
    "mlp:64/32,dropout=0.1/0/0.3": (
        HeadSpec((64, 32), (0.1, 0.0, 0.3)),
        [
            *(("dropout", 0.1), ("linear", 20, 64), ("relu",), ("linear", 64, 32), ("relu",)),
            *(("dropout", 0.3), ("linear", 32, 3)),
        ],
    ),
}


@pytest.mark.parametrize("text", FORMS)
def test_each_common_form_is_read_and_built(text) -> None:
    spec, expected = FORMS[text]
    assert HeadSpec.parse(text) == spec
    assert spec.text == text
    head = spec.build(20, 3)
    assert layers(head) == expected
    assert head(torch.zeros(4, 20)).shape == (4, 3)
    assert HeadSpec.of(head) == spec
    assert last_linear(head).out_features == 3


def test_one_rate_of_dropout_holds_for_every_layer() -> None:
    assert HeadSpec.parse("mlp:8/4,dropout=0.5") == HeadSpec((8, 4), (0.5, 0.5, 0.5))


rates = st.floats(0, 1, exclude_max=True)
specs = st.lists(st.integers(1, 40), max_size=3).flatmap(
    lambda hidden: st.builds(
        HeadSpec,
        st.just(tuple(hidden)),
        st.lists(rates, min_size=len(hidden) + 1, max_size=len(hidden) + 1).map(tuple),
    )
)


@settings(deadline=None, max_examples=50)
@given(spec=specs)
def test_a_form_comes_back_from_its_text_and_from_its_layers(spec) -> None:
    assert HeadSpec.parse(spec.text) == spec
    assert HeadSpec.of(spec.build(5, 2)) == spec


@pytest.mark.parametrize(
    ("text", "linear", "solvable"),
    [
        ("linear", True, True),
        ("linear,dropout=0", True, True),
        ("linear,dropout=0.2", True, False),
        ("mlp:8", False, False),
    ],
)
def test_a_solver_gives_a_linear_head_without_dropout(text, linear, solvable) -> None:
    spec = HeadSpec.parse(text)
    assert (spec.is_linear, spec.solvable) == (linear, solvable)


@pytest.mark.parametrize("text", FORMS)
def test_the_seed_and_nothing_else_decides_the_weights(text) -> None:
    spec = FORMS[text][0]
    before = torch.get_rng_state()
    first = spec.build(20, 3, seed=1).state_dict()
    torch.rand(7)  # wherever the global generator stands
    again, other = spec.build(20, 3, seed=1).state_dict(), spec.build(20, 3, seed=2).state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not any(torch.equal(other[name], value) for name, value in first.items())
    torch.set_rng_state(before)
    spec.build(20, 3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_off_at_prediction() -> None:
    head = HeadSpec.parse("mlp:8,dropout=0.5").build(20, 3)
    features = torch.ones(2, 20)
    assert not torch.equal(head.train()(features), head(features))
    assert torch.equal(head.eval()(features), head(features))


@pytest.mark.parametrize(
    "text",
    [
        *("", "Linear", "linear ", "linear:3", "linear,dropout", "linear,dropout=", "dropout=0.2"),
        *("mlp", "mlp:", "mlp:a", "mlp:-8", "mlp:8.5", "mlp:8/", "mlp:8,dropout=0.1,dropout=0.2"),
        *("linear,dropout=.", "linear,dropout=0.1.2", "linear,dropout=-0.1", "linear,dropout=nan"),
        "mlp:" + "9" * 5000,
    ],
)
def test_another_form_is_told_the_known_ones(text) -> None:
    with pytest.raises(UsageError, match="linear or mlp:WIDTH") as raised:
        HeadSpec.parse(text)
    assert raised.value.field == "head"
    assert "mlp:256,dropout=0.5/0.3" in raised.value.hint


@pytest.mark.parametrize(
    "text",
    [
        *("mlp:0", "mlp:8/0", "linear,dropout=1", "linear,dropout=1.5", "linear,dropout=0.1/0.2"),
        *("mlp:8,dropout=0.1/0.2/0.3", "mlp:8/8/8,dropout=0.1/0.2"),
    ],
)
def test_a_number_out_of_range_is_told_with_the_form(text) -> None:
    with pytest.raises(UsageError, match="needs widths of at least 1 and one rate") as raised:
        HeadSpec.parse(text)
    assert repr(text) in raised.value.message
    assert raised.value.field == "head"
    assert "mlp:256" in str(raised.value.hint)
