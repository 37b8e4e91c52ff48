"""Names of strategies: what each says, and what is no name."""

from __future__ import annotations

import pytest

from headstart.errors import UnknownName, UsageError
from headstart.strategy import names, presets
from headstart.strategy.patterns import HEAD, Parameter
from strategies import NAMES

PLAIN = (
    Parameter("conv1.weight", "stem", "conv1", "weight", 10),
    Parameter("head.weight", HEAD, HEAD, "weight", 10),
)


@pytest.mark.parametrize("name", NAMES)
def test_each_strategy_is_called_what_it_is_created_by(name) -> None:
    called = "last-blocks:2" if name == "last-blocks" else name
    assert names.create(name, stages=5).name == called
    assert names.create(called, stages=5) == names.create(name, stages=5)


def test_the_names_told_are_the_names_there_are() -> None:
    for name in names.NAMES:
        filled = name.replace("N", "2").replace("LOW-HIGH", "500-2000")
        assert names.create(filled).name == filled
    told = {name.partition(":")[0] for name in names.NAMES}
    assert told == {name.partition(":")[0] for name in NAMES}
    assert names.create("feature-extraction") == presets.feature_extraction()


# Names and arguments that are none


def test_a_list_of_rates_is_read_before_the_network_is_known() -> None:
    strategy = names.create("discriminative:1e-5/1e-4/1e-3", stages=2)
    assert strategy == presets.discriminative(2, rates=(1e-5, 1e-4, 1e-3))
    # Where the network is not known yet, there are as many stages as rates for them.
    assert names.create("discriminative:1e-5/1e-4/1e-3") == strategy
    with pytest.raises(UsageError, match="network's 5 stages and one for the head, not 3 rates"):
        names.create("discriminative:1e-5/1e-4/1e-3", stages=5)


def test_an_unknown_strategy_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownName) as raised:
        names.create("magic")
    assert raised.value.field == "strategy"
    assert "last-blocks:N" in raised.value.hint
    assert ".toml" in raised.value.hint


@pytest.mark.parametrize(
    "name",
    [
        *("feature_extraction", "Fine-tune", "fine-tune:3", "scratch:large-cnn", "norm-only:1"),
        *("bit:500", "tables:500-2000"),
        *("last-blocks:", "last-blocks:0", "last-blocks:-1", "last-blocks:two", "last-blocks:2x"),
        *("freeze-first", "freeze-first:0", "freeze-first:layers", "freeze-first:2 layers", ""),
    ],
)
def test_a_name_that_is_almost_one_is_unknown(name) -> None:
    with pytest.raises(UnknownName):
        names.create(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("gradual:epochs=3/3", "needs three whole numbers of epochs"),
        ("gradual:epochs=1/2/2.5", "needs three whole numbers of epochs"),
        ("gradual:epochs=1/2/inf", "needs three whole numbers of epochs"),
        ("gradual:epochs=1/2/nan", "needs three whole numbers of epochs"),
        ("gradual:rates=1e-3", "needs three whole numbers of epochs and three rates"),
        ("gradual:rates=a/b/c", "needs numbers with slashes between"),
        ("gradual:epochs", "needs numbers with slashes between"),
        ("gradual:blocks=3", "takes epochs, rates, not 'blocks'"),
        ("table", "needs two whole numbers of images with a dash between, as table:500-2000"),
        ("table:500", "needs two whole numbers of images with a dash"),
        ("table:-500-2000", "needs two whole numbers of images with a dash"),
        ("table:500-2e3", "needs two whole numbers of images with a dash"),
        ("table:500-2000-9000", "needs two whole numbers of images with a dash"),
        ("table:2000-500", "needs two whole numbers of images, the smaller one first"),
        ("table:500-500", "needs two whole numbers of images, the smaller one first"),
        ("discriminative:fast", "needs numbers with slashes between"),
        ("discriminative:rate=1", "takes decay, high, low, not 'rate'"),
        ("discriminative:low=", "needs numbers with slashes between"),
        ("discriminative:low=1e-5/1e-4", "needs one number each"),
        ("discriminative:low=1e-5,decay=0.5", "needs one number each for high and either low or"),
        ("discriminative:low=-1e-5", "rates and a factor above 0, not low=-1e-05, high=0.001"),
        ("discriminative:high=0", "rates and a factor above 0"),
        ("discriminative:high=inf", "rates and a factor above 0"),
        ("discriminative:low=nan", "rates and a factor above 0"),
        ("discriminative:decay=-0.5", r"rates and a factor above 0.*decay=-0\.5"),
        ("discriminative:decay=0", r"rates and a factor above 0.*decay=0"),
    ],
)
def test_arguments_that_cannot_be_read_are_told_with_their_strategy(name, problem) -> None:
    with pytest.raises(UsageError, match=problem) as raised:
        names.create(name, stages=4)
    assert name.partition(":")[0] in raised.value.message
    assert raised.value.field == "strategy"
    # The message shows what to write, or the hint does.
    assert ", as " in raised.value.message or raised.value.hint


def test_wrong_epochs_and_rates_are_told_when_the_strategy_is_to_run() -> None:
    with pytest.raises(UsageError, match=r"phase 1: the rate of 'head'.*phase 3: epochs must be"):
        names.create("gradual:epochs=1/1/0,rates=-1/1/1").resolve(PLAIN)


def test_a_file_is_a_strategy(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(names.create("gradual").to_toml(), encoding="utf-8")
    assert names.create(str(path)) == names.create("gradual")
    with pytest.raises(UsageError, match="can't be read"):
        names.create(str(tmp_path / "other.toml"))
