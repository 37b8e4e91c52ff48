"""The choice of ``auto`` in a run: made once, kept in plan.json, taken up where the run goes on."""

from __future__ import annotations

import time
from pathlib import Path

from headstart.auto import decide
from headstart.cache import Cache
from headstart.clock import Clock
from headstart.decided import Decided
from headstart.decided_text import decided_lines
from headstart.files import read_json, write_json
from headstart.forecast import measure, seconds_after
from headstart.log import Log
from headstart.plan import Plan
from headstart.planning import with_choices
from headstart.training.deadline import Deadline

__all__ = ["FILE", "choose", "deadline"]

FILE = "plan.json"


def choose(plan: Plan, folder: Path, *, cache: Cache, log: Log, clock: Clock) -> Plan:
    """Have ``auto`` choose, or take up what it has chosen when the run was begun.

    Args:
        plan: Of a run that ``auto`` chooses for.
        folder: The run's.
        cache: Where features are remembered.
        log: Told of each decision, and of the plan that they make.
        clock: Of the run.

    Raises:
        ModelError: plan.json can't be read.
        HeadstartError: The network can't be loaded, or the images can't be read.
    """
    assert plan.given is not None
    if (folder / FILE).is_file():
        decided = Decided.from_dict(read_json(folder / FILE), plan.given)
    else:
        clock.begin("choose")
        log.emit("stage", stage="choose")
        decided = decide(plan, cache=cache, log=log, spent=lambda: clock.seconds)
        write_json(folder / FILE, decided.to_dict())
    chosen = with_choices(plan, decided, cache=cache)
    log.emit("plan", lines=[*decided_lines(chosen), *chosen.lines()])
    return chosen


def deadline(plan: Plan, clock: Clock) -> Deadline | None:
    """Return when training has to be over, so that what follows it is within the budget.

    Args:
        plan: With its choices made; where nothing was to choose, what follows is timed now. A
            head that is solved can't be cut short, so that there is no deadline for it alone.
        clock: Of the run.
    """
    if plan.decided is not None:
        budget, after = plan.decided.budget_s, plan.decided.rest_s
    elif plan.options.budget is not None and plan.trains:
        budget, after = plan.options.budget, seconds_after(measure(plan), plan)
    else:
        return None
    return Deadline(time.monotonic() + budget - after - clock.seconds)
