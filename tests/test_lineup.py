"""Who takes part: everything is combined, and everything wrong is found before anything runs."""

from __future__ import annotations

import json
import re

import pytest

from headstart import lineup
from headstart.errors import MissingWeights, UnknownName, UsageError
from headstart.lineup import make_lineup, safe_name
from headstart.strategy import presets
from headstart.strategy.phase import HEAD, Phase, Rate, Solve
from headstart.strategy.strategy import Strategy

BACKBONE = "bundled:efficientnet_lite0"
OWN = Strategy("mine", (Phase((Rate(HEAD, 1e-3), Rate("stage:0..-1", None)), Solve((1.0,))),))


@pytest.fixture(autouse=True)
def five_stages(monkeypatch):
    """No network is loaded; what looking at its name finds is left as it is."""
    create = lineup.create_backbone

    class Network:
        stages = tuple("abcde")

    def known(options):
        return Network() if options.backbone.startswith("known:") else create(options)

    monkeypatch.setattr(lineup, "create_backbone", known)


def test_every_combination_is_there_once_in_order():
    made = make_lineup(["feature-extraction", "fine-tune"], ["known:a", "known:b"], 2, {})
    assert [(e.strategy.name, e.options.backbone, e.options.seed) for e in made.entries] == [
        (strategy, backbone, seed)
        for strategy in ("feature-extraction", "fine-tune")
        for backbone in ("known:a", "known:b")
        for seed in (0, 1)
    ]
    assert len({entry.name for entry in made.entries}) == 8
    assert {entry.options.split_seed for entry in made.entries} == {0}


def test_what_is_named_twice_runs_once():
    made = make_lineup(["fine-tune", "fine-tune"], ["known:a", "known:a"], 1, {})
    assert len(made.entries) == 1


def test_options_go_to_every_entry_and_the_split_seed_stays():
    made = make_lineup(["fine-tune"], ["known:a"], 2, {"size": 96, "split_seed": 4, "epochs": 3})
    for entry in made.entries:
        assert entry.given | {"seed": 0} == {
            "strategy": "fine-tune",
            "backbone": "known:a",
            "seed": 0,
            "size": 96,
            "split_seed": 4,
            "epochs": 3,
        }
    assert made.asked == {"size": 96, "split_seed": 4, "epochs": 3}


def test_options_of_training_go_to_strategies_that_train():
    options = {"augment": "strong", "lr": 1e-4}
    solved, tuned = make_lineup(
        ["feature-extraction", "fine-tune"], ["known:a"], 1, options
    ).entries
    assert (solved.options.augment, solved.options.lr) == (None, None)
    assert (tuned.options.augment, tuned.options.lr) == ("strong", 1e-4)
    trained, _ = make_lineup(
        ["feature-extraction", "fine-tune"], ["known:a"], 1, {**options, "epochs": 2}
    ).entries
    assert trained.options.augment == "strong"


def test_a_strategy_with_a_network_of_its_own_runs_on_that_alone():
    made = make_lineup(["scratch:small-cnn"], ["known:a", "known:b"], 2, {})
    assert [entry.options.backbone for entry in made.entries] == [presets.SMALL_CNN] * 2


def test_a_strategy_may_be_an_object_or_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text(OWN.to_toml())
    for given in (OWN, str(tmp_path / "mine.toml")):
        (entry,) = make_lineup([given], ["known:a"], 1, {}).entries
        assert entry.strategy == OWN
        assert entry.options.strategy == given


def test_the_document_tells_lineups_apart_and_is_plain_json():
    def document(strategies=("fine-tune",), backbones=("known:a",), seeds=1, **options):
        made = make_lineup(strategies, backbones, seeds, options).to_dict()
        return json.dumps(made)

    others = [
        document(seeds=2),
        document(strategies=["feature-extraction"]),
        document(strategies=[OWN]),
        document(backbones=["known:b"]),
        document(size=64),
        document(split=(0.5, 0.25, 0.25)),
        document(split_seed=1),
        document(augment="none"),
        document(),
    ]
    assert len(set(others)) == len(others)
    assert document(split_seed=0, size=None) == document()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((["fine-tun"], ["known:a"], 1, {}), "no strategy named 'fine-tun'"),
        ((["fine-tune"], ["bundled:nope"], 1, {}), "no bundled network named 'nope'"),
        ((["fine-tune"], ["known:a", "zoo:a"], 1, {}), "no zoo named 'zoo'"),
        (([], ["known:a"], 1, {}), "there is none"),
        (([OWN, Strategy("mine", OWN.phases * 2)], ["known:a"], 1, {}), "two are called mine"),
        ((["fine-tune"], [], 1, {}), r"backbones must name at least 1.*\n.*zoo:name"),
        ((["fine-tune"], ["known:a"], 0, {}), r"seeds must be at least 1, not 0.\n3 are usual"),
        ((["fine-tune"], ["known:a"], 1, {"size": 0}), "--size must be at least 1"),
        ((["fine-tune"], ["known:a"], 1, {"train": {"epoch": 3}}), "setting of training"),
        ((["fine-tune"], ["known:a"], 1, {"seed": 3}), "can't be given seed"),
        ((["fine-tune"], ["known:a"], 1, {"minimum": {"accuracy": 1.0}}), "given minimum"),
        ((["discriminative:1e-5/1e-3"], ["known:a"], 1, {}), "5 stages"),
    ],
)
def test_all_that_is_wrong_is_found_before_anything_runs(arguments, reason):
    with pytest.raises(UsageError, match=reason):
        make_lineup(*arguments)


def test_a_rate_for_each_stage_is_held_against_the_network():
    rates = "discriminative:1e-6/1e-5/1e-5/1e-4/1e-4/1e-3"
    assert len(make_lineup([rates], ["known:a"], 1, {}).entries) == 1


def test_weights_that_are_missing_are_left_to_the_run(monkeypatch):
    def missing(options):
        raise MissingWeights("not here")

    monkeypatch.setattr(lineup, "create_backbone", missing)
    assert len(make_lineup(["fine-tune"], ["known:a"], 2, {}).entries) == 2


def test_an_unknown_name_is_told_with_those_that_are_known():
    with pytest.raises(UnknownName) as caught:
        make_lineup(["nothing"], [BACKBONE], 1, {})
    assert "fine-tune" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["fine-tune", "last-blocks:2", "a/b:c", "gradual:epochs=2/3/4", "猫", "..", "x" * 300]
)
def test_safe_names_are_safe_everywhere(name):
    assert re.fullmatch(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,119}", safe_name(name))


def test_safe_names_keep_plain_ones_and_tell_all_apart():
    assert safe_name("last-blocks:2-bundled:lite0-0") == "last-blocks-2-bundled-lite0-0"
    names = ["a/b", "a:b", "a b", "猫", "犬", "x" * 300, "x" * 301]
    assert len({safe_name(name) for name in names}) == len(names)


def test_no_solved_head_sees_val_which_those_that_train_can_not():
    names = ["feature-extraction", "last-blocks:1"]
    assert [e.options.refit for e in make_lineup(names, ["known:a"], 1, {}).entries] == [
        False,
        True,
    ]
    assert all(e.options.refit for e in make_lineup(names, ["known:a"], 1, {"refit": True}).entries)
