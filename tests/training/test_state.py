"""The tensors of a phase: collected by kind and name, and put back."""

from __future__ import annotations

import pytest
import torch
from streams import equal, make_engine, weights
from tiny import make_model

from headstart.training.state import collect, put_back


def parts(engine):
    return engine.tail, engine.optimizer, engine.average


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_what_was_collected_is_put_back_to_the_bit(optimizer):
    engine = make_engine(ema=0.9, optimizer=optimizer)
    engine.run()
    saved = {n: v.clone() for n, v in collect(*parts(engine), engine.best).items()}
    assert {name.partition(".")[0] for name in saved} == {"model", "optimizer", "average", "best"}
    model = make_model()
    other = make_engine(model, ema=0.9, optimizer=optimizer)
    best, first = put_back(saved, *parts(other))
    assert first == {}
    assert equal(best, engine.best)
    assert equal(weights(model), weights(engine.model))
    assert equal(collect(*parts(other), best), saved)


def test_the_weights_of_the_start_are_put_back_where_they_were_collected():
    engine = make_engine()
    first = weights_of(engine.tail)
    engine.run()
    saved = collect(*parts(engine), engine.best, first)
    assert {name for name in saved if name.startswith("first.")} == {f"first.{n}" for n in first}
    best, start = put_back(saved, *parts(make_engine()))
    assert equal(start, first)
    assert equal(best, engine.best)
    name = next(name for name in saved if name.startswith("first."))
    for wrong in (torch.zeros(7, 7, 7), None):
        changed = saved | {name: wrong} if wrong is not None else dict(saved)
        if wrong is None:
            del changed[name]
        with pytest.raises(KeyError, match="the start's weights are not those of this network"):
            put_back(changed, *parts(make_engine()))


def weights_of(module) -> dict:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_without_an_average_and_a_step_there_are_only_weights():
    engine = make_engine()
    assert {name.partition(".")[0] for name in collect(*parts(engine), {})} == {"model"}


def kinds(saved) -> dict[str, str]:
    """Return one name of each kind of tensor that there is."""
    found = {name.partition(".")[0]: name for name in saved}
    return found | {"moment": next(name for name in saved if name.endswith("exp_avg"))}


@pytest.mark.parametrize("kind", ["model", "optimizer", "moment", "average", "best"])
@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_what_does_not_fit_is_an_error(kind, change):
    engine = make_engine(ema=0.9)
    engine.run()
    saved = collect(*parts(engine), engine.best)
    name = kinds(saved)[kind]
    if change == "missing":
        del saved[name]
    elif change == "unknown":
        saved[f"{name.partition('.')[0]}.no.such.layer.exp_avg"] = torch.zeros(1)
    else:
        saved[name] = torch.zeros(7, 7, 7)
    with pytest.raises((KeyError, RuntimeError)):
        put_back(saved, *parts(make_engine(ema=0.9)))
