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
    best = put_back(saved, *parts(other))
    assert equal(best, engine.best)
    assert equal(weights(model), weights(engine.model))
    assert equal(collect(*parts(other), best), saved)


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
