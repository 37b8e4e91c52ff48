"""Phases for tests, and the plan and the images of a run of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from headstart.cache import Cache
from headstart.decided import Decided
from headstart.images import Images
from headstart.options import Options
from headstart.plan import Plan
from headstart.planning import make_plan
from headstart.strategy.decision import Decision
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.pixels import decode_all

HEAD = Phase((Rate("head", 1e-3), Rate("stage:0..-1", None)), Solve((100.0, 1.0)))
LAST = Phase(
    (Rate("head", 1e-3), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None)),
    Train(epochs=1, batch_size=8),
    "light",
)
LAST_TWO = replace(
    LAST, rates=(Rate("head", 1e-3), Rate("stage:-2..-1", 1e-3), Rate("stage:0..-1", None))
)
HEAD_ONLY = replace(LAST, rates=HEAD.rates)


def plan_and_images(
    data: Path, cache: Cache, *phases: Phase, **options: Any
) -> tuple[Plan, Images]:
    """Plan a run of these phases, and decode its images."""
    plan = make_plan(data, Options(**options | {"strategy": Strategy("mine", phases)}), cache=cache)
    items = plan.checked.items
    paths = [item.path for item in items]
    pixels = decode_all(plan.backbone.input_spec, paths, plan.checked.digests, cache).rows
    return plan, Images.of(plan, plan.split, np.arange(len(items)), pixels)


def decided_for(plan: Plan, *phases: Phase, budget_s: float = 600.0, **options: Any) -> Decided:
    """Make what ``auto`` may decide for a plan: to solve the head, and then these phases."""
    strategy = Strategy("auto", (HEAD, *phases))
    return Decided(
        options=replace(plan.options, strategy=strategy, **options),
        decisions=(Decision("resize", "crop", "It is the network's own.", "Another.", {"n": 9}),),
        seconds=(1.0,) * (1 + len(phases)),
        rest_s=2.0,
        took_s=0.5,
        budget_s=budget_s,
        published=(("bit", "everything"),),
    )
