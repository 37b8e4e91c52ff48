"""What a plan will take, as far as it is arithmetic; the trial itself is another module's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from headstart import forecast
from headstart.costs import Costs, PhaseCosts
from headstart.forecast import measure, seconds_after, seconds_before, seconds_by_epochs

COSTS = Costs(
    decode=0.01,
    forward=0.02,
    phases=(PhaseCosts(solve=1e-6), PhaseCosts(prefix=0.01, step=0.03, judge=0.01, save=0.1)),
)


@pytest.fixture
def trained(plan, photos):
    return plan(photos, strategy="last-blocks:1", epochs=5)


def test_features_that_are_remembered_cost_nothing(trained):
    n = len(trained.checked.items)
    without, all_known = (seconds_before(COSTS, trained, known=known) for known in (0, n))
    assert without - all_known == pytest.approx(n * 0.03)
    assert seconds_before(COSTS, trained, known=10 * n) == all_known > 0


def test_more_epochs_take_longer(trained):
    seconds = seconds_by_epochs(COSTS, trained, 1)
    assert len(seconds) == 5
    assert all(a < b for a, b in pairwise(seconds))
    step = len(trained.split.train) * 0.03
    assert seconds[1] - seconds[0] >= step


def test_what_follows_has_the_mirror_images_and_the_audit(trained):
    plain = seconds_after(COSTS, trained)
    averaged = replace(trained, options=replace(trained.options, average="flip"))
    assert seconds_after(COSTS, averaged) > plain > 0
    silent = replace(trained, options=replace(trained.options, audit=False))
    assert seconds_after(COSTS, silent) < plain


def test_a_plan_is_timed_as_a_whole(trained, monkeypatch):
    short = partial(forecast.measure_costs, seconds=0.05)
    monkeypatch.setattr(forecast, "measure_costs", short)
    digest = trained.backbone.digest()
    costs = measure(trained)
    assert len(costs.phases) == len(trained.strategy.phases)
    assert min(costs.decode, costs.forward, costs.phases[1].step, costs.phases[0].solve) > 0
    assert trained.backbone.digest() == digest
