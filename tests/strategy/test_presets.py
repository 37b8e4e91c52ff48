from __future__ import annotations

import pytest

from headstart.errors import UnknownName
from headstart.strategy import presets
from headstart.strategy.phase import HEAD, Parameter, Strategy

NETWORK = [
    Parameter("conv1.weight", "stem", "conv1", "weight", 10),
    Parameter("bn1.weight", "stem", "conv1", "norm", 10),
    Parameter("fc.bias", "pool", "fc", "bias", 10),
    Parameter("head.weight", HEAD, HEAD, "weight", 10),
    Parameter("head.bias", HEAD, HEAD, "bias", 10),
]


@pytest.mark.parametrize("network", [NETWORK, NETWORK[:1] + NETWORK[3:], NETWORK[2:]])
def test_feature_extraction_trains_the_head_and_nothing_else(network) -> None:
    (phase,) = presets.feature_extraction().phases
    resolved = phase.resolve(network)
    awake = [name for name, rate in resolved.items() if rate is not None]
    assert awake == ["head.weight", "head.bias"]
    assert set(resolved) == {parameter.name for parameter in network}


def test_the_penalties_are_tried_from_the_strongest_to_the_weakest() -> None:
    assert list(presets.PENALTIES) == sorted(set(presets.PENALTIES), reverse=True)
    (phase,) = presets.feature_extraction().phases
    assert phase.fit.penalties == presets.PENALTIES
    (phase,) = presets.feature_extraction((5.0, 2.0)).phases
    assert phase.fit.penalties == (5.0, 2.0)


def test_each_strategy_is_called_what_it_is_created_by() -> None:
    for name in presets._PRESETS:
        strategy = presets.create(name)
        assert strategy.name == name
        assert Strategy.from_dict(strategy.to_dict()) == strategy
    assert presets.create(presets.DEFAULT) == presets.feature_extraction()


def test_an_unknown_strategy_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean feature-extraction") as raised:
        presets.create("feature_extraction")
    assert raised.value.field == "strategy"
