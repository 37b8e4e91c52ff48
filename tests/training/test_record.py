"""What the report keeps of a phase that did not change the network."""

from __future__ import annotations

import json

from headstart.strategy.phase import Phase, Rate, Train
from headstart.training.record import gone_back, skipped

PHASE = Phase((Rate("head", 1e-3),), Train(epochs=5, monitor="log_loss"))


def test_a_phase_that_was_left_out_has_a_record_that_says_why():
    record = skipped(3, PHASE, "the time is over")
    assert json.loads(json.dumps(record)) == record
    assert (record["phase"], record["kind"], record["monitor"]) == (3, "train", "log_loss")
    assert (record["skipped"], record["kept"]) == ("the time is over", "the weights before it")
    assert (record["epochs"], record["best_epoch"], record["stopped"]) == ([], None, None)


def test_it_tells_whether_the_weights_are_those_before_the_phase():
    assert gone_back(skipped(3, PHASE, "the time is over"))
    assert gone_back({"keep": {"kept": False}})
    assert not gone_back({"keep": {"kept": True}})
    assert not gone_back({"kind": "train", "best_epoch": 0})
    assert not gone_back({"kind": "solve"})
